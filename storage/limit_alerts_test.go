package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// limitedSpender is spender for a workspace with one policy, "ten".
func (w *world) limitedSpender(policy string) (ws WorkspaceKey, spend func(user string, cents int64)) {
	w.t.Helper()
	ws, spend = w.spender(0, 0, EventsOf(BudgetThreshold))
	w.policy(ws, "ten", policy)
	return ws, spend
}

func (w *world) checkTwice() {
	w.t.Helper()
	w.must(w.CheckAlerts(w.t.Context()))
	w.must(w.CheckAlerts(w.t.Context()))
}

// A limit is told of by the decision that crosses a percentage of it, and its end by the minute's job.
func TestALimitIsToldOnceAtHalfMostAndAllAndItsEndOnce(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.wants(ws, EventsOf(BudgetThreshold))
	w.policy(ws, "ten", `{"match":{"tools":["t"]},"limit":{"measure":"calls","per":"user","window":"hour","amount":10},"effect":"deny"}`)
	w.policy(ws, "off", `{"enabled":false,"limit":{"measure":"calls","per":"workspace","window":"hour","amount":1},"effect":"deny"}`)
	run := w.start(ws, "ada").ID
	told := func() []string { return w.notices(ws, "status", "percent", "policy_name", "scope", "used") }
	want := []string{}
	for used := 1; used <= 15; used++ { // five of them are refused
		w.ask(ws, run, "t", `{}`)
		if percent := map[int]int{5: 50, 8: 80, 10: 100}[used]; percent > 0 {
			want = append(want, fmt.Sprintf("budget.threshold firing %d ten ada %d", percent, used))
		}
		wantTold(t, told(), want...) // before any job has run
	}
	w.checkTwice()
	wantTold(t, told(), want...)
	w.Advance(time.Hour)
	w.checkTwice()
	wantTold(t, told(), append(want, "budget.threshold resolved 100 ten ada 0")...)
	for range 5 { // told anew in the new window
		w.ask(ws, run, "t", `{}`)
	}
	w.must(w.DeletePolicy(t.Context(), ws, "ten"))
	w.checkTwice()
	if got := w.notices(ws, "status", "percent"); len(got) != 6 || got[4] != "budget.threshold firing 50" || got[5] != "budget.threshold resolved 50" {
		t.Errorf("told %v", got)
	}
}

func TestALimitOfMoneyIsToldByTheReportThatCrossesIt(t *testing.T) {
	for name, policy := range map[string]string{
		"calendar": `{"limit":{"measure":"usd","per":"user","window":"day","amount":10},"effect":"deny"}`,
		"rolling":  `{"limit":{"measure":"usd","per":"user","window":"hour","rolling":true,"amount":10},"effect":"deny"}`,
		"tokens":   `{"limit":{"measure":"tokens","per":"user","window":"total","amount":1000},"effect":"deny"}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ws, spend := w.limitedSpender(policy)
			run := w.start(ws, "ada").ID
			for _, cents := range []int64{400, 110, 280, 20} { // 4, 5.10, 7.90, 8.10
				step, err := w.CreateStep(t.Context(), Caller{Workspace: ws}, run, NewStep{Type: 1, Model: new("cent")}, allow)
				w.must(err)
				w.must(w.write(t.Context(), modeBulkSQL, func(*Tx) error { return nil })) // empties the cache
				w.policySets.Purge()                                                      // as after a restart, when reports come before decisions
				w.patch(ws, run, step.ID, cents, 0)
				w.Advance(2 * time.Minute) // to another part of a rolling window
			}
			spend("bob", 1)
			want := []string{"budget.threshold firing 50 ada", "budget.threshold firing 80 ada"}
			wantTold(t, w.notices(ws, "status", "percent", "scope"), want...)
			spend("ada", 500)
			want = append(want, "budget.threshold firing 100 ada")
			wantTold(t, w.notices(ws, "status", "percent", "scope"), want...)
			w.checkTwice()
			wantTold(t, w.notices(ws, "status", "percent", "scope"), want...)
		})
	}
}

// What is used of a window that is over crosses nothing of the one that is now.
func TestAReportAfterItsWindowTellsNothing(t *testing.T) {
	w := newWorld(t)
	ws, _ := w.limitedSpender(`{"limit":{"measure":"usd","per":"workspace","window":"day","amount":1},"effect":"deny"}`)
	run := w.start(ws, "ada").ID
	step, err := w.CreateStep(t.Context(), Caller{Workspace: ws}, run, NewStep{Type: 1, Model: new("cent")}, allow)
	w.must(err)
	w.Advance(24 * time.Hour)
	w.patch(ws, run, step.ID, 500, 0)
	w.checkTwice()
	wantTold(t, w.notices(ws, "percent"))
}

// Each run is a window of its own: only that it has used all is worth telling.
func TestALimitOfARunIsToldWhenItIsReachedAndOverWithTheRun(t *testing.T) {
	w := newWorld(t)
	ws, spend := w.limitedSpender(`{"limit":{"measure":"usd","per":"run","window":"run","amount":2},"effect":"deny"}`)
	spend("ada", 190)
	wantTold(t, w.notices(ws, "percent"))
	spend("ada", 20)
	w.checkTwice()
	wantTold(t, w.notices(ws, "status", "percent", "spent_usd"), "budget.threshold firing 100 2.1")
	list, _, err := w.Runs(t.Context(), ws, RunFilter{Limit: 1})
	w.must(err)
	w.end(ws, list[0].ID, RunCompleted)
	w.checkTwice()
	wantTold(t, w.notices(ws, "status", "percent"), "budget.threshold firing 100", "budget.threshold resolved 100")
}

// The job tells of what no decision crosses: an amount that was lowered, and of what an endpoint is new to.
func TestALoweredLimitIsTold(t *testing.T) {
	w := newWorld(t)
	ws, spend := w.limitedSpender(`{"limit":{"measure":"usd","per":"user","window":"day","amount":100},"effect":"deny"}`)
	spend("ada", 900)
	w.checkTwice()
	wantTold(t, w.notices(ws, "percent"))
	w.policy(ws, "ten", `{"limit":{"measure":"usd","per":"user","window":"day","amount":10},"effect":"deny"}`)
	w.checkTwice()
	wantTold(t, w.notices(ws, "status", "percent", "scope"), "budget.threshold firing 80 ada")
	w.policy(ws, "ten", `{"enabled":false,"limit":{"measure":"usd","per":"user","window":"day","amount":10},"effect":"deny"}`)
	w.checkTwice()
	wantTold(t, w.notices(ws, "status", "percent"), "budget.threshold firing 80", "budget.threshold resolved 80")
}

// However many cross at once, each percentage is told once, and by then.
func TestTenThousandCrossingsOfALimitAtOnceAreToldOnce(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.wants(ws, EventsOf(BudgetThreshold))
	const calls, askers = 10_000, 50
	w.policy(ws, "ten", fmt.Sprintf(`{"limit":{"measure":"calls","per":"workspace","window":"day","amount":%d},"effect":"deny"}`, calls))
	run := w.start(ws, "ada").ID
	together(askers, func(int) {
		for range calls / askers {
			if _, err := w.CreateStep(context.Background(), Caller{Workspace: ws}, run, NewStep{Type: ToolCall}, allow); err != nil {
				t.Error(err)
			}
		}
	})
	wantTold(t, w.notices(ws, "percent", "used"),
		"budget.threshold 50 5000", "budget.threshold 80 8000", "budget.threshold 100 10000")
}

// A correction up and down tells nothing again.
func TestCorrectionsTellNothingAgain(t *testing.T) {
	w := newWorld(t)
	ws, _ := w.limitedSpender(`{"limit":{"measure":"usd","per":"workspace","window":"day","amount":1},"effect":"log"}`)
	run := w.start(ws, "ada").ID
	const steps = 50
	together(steps, func(int) {
		a, err := w.CreateStep(context.Background(), Caller{Workspace: ws}, run, NewStep{Type: 1, Model: new("cent")}, allow)
		for _, cents := range []int64{90, 0, 90, 0} {
			if err == nil {
				_, err = w.UpdateStep(context.Background(), Caller{Workspace: ws}, run, a.ID, StepUpdate{PromptTokens: &cents})
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
	told := w.notices(ws, "percent")
	slices.Sort(told)
	if unique := slices.Compact(slices.Clone(told)); len(unique) != len(told) || len(told) == 0 || !strings.Contains(told[0], "threshold") {
		t.Errorf("told %q", told)
	}
}
