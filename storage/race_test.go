package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// together runs fn n times at once, released by one gate, and waits for all.
func together(n int, fn func(i int)) {
	var group sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-gate
			fn(i)
		})
	}
	close(gate)
	group.Wait()
}

// startTogether asks for n runs at once, of a few users, and counts the answers by reason.
func (w *world) startTogether(ws WorkspaceKey, n int) map[guard.Reason]int {
	w.t.Helper()
	answers := make([]Answer, n)
	together(n, func(i int) {
		var err error
		in := NewRun{UserID: fmt.Sprintf("user %d", i%7)}
		if answers[i], err = w.StartRun(context.Background(), Caller{Workspace: ws}, in, guard.Decide); err != nil {
			w.t.Error(err)
		}
	})
	counts := map[guard.Reason]int{}
	for _, a := range answers {
		counts[a.Decision.Reason]++
	}
	return counts
}

func (w *world) running(ws WorkspaceKey) int64 {
	w.t.Helper()
	return w.number(`SELECT running_runs FROM workspaces WHERE id = $1`, ws)
}

func TestOneSlotLeftIsGivenToExactlyOneOf200(t *testing.T) {
	w := newVerifiedWorld(t)
	ws, limit := w.workspace(plans.Pro), int64(5)
	_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{MaxConcurrentRuns: &limit})
	w.must(err)
	w.start(ws, "u")
	w.start(ws, "u")
	for _, run := range []Answer{w.start(ws, "u"), w.start(ws, "u")} { // the second time for the slot that the first gave back
		counts := w.startTogether(ws, 200)
		if counts[guard.None] != 1 || counts[guard.MaxConcurrentRunsExceeded] != 199 {
			t.Errorf("answers by reason: %v, want 1 ALLOW and 199 of MAX_CONCURRENT_RUNS_EXCEEDED", counts)
		}
		if n := w.running(ws); n != limit {
			t.Errorf("%d runs are running, want %d", n, limit)
		}
		w.end(ws, run.ID, RunCompleted)
		if n := w.running(ws); n != limit-1 {
			t.Errorf("%d runs are running after an end, want %d", n, limit-1)
		}
	}
	if n := w.number(`SELECT count(*) FROM denials WHERE reason = 7 AND limit_value = $1 AND used_value = $1`, limit); n != 398 {
		t.Errorf("%d denials say limit %d, used %d; want 398", n, limit, limit)
	}
}

func TestOneRunLeftOfTheMonthIsGivenToExactlyOneOf200(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	basic, err := plans.ByID(plans.Basic)
	w.must(err)
	together(int(basic.MonthlyRuns)-1, func(i int) {
		a, err := w.StartRun(context.Background(), Caller{Workspace: ws}, NewRun{UserID: fmt.Sprintf("user %d", i%7)}, guard.Decide)
		if err == nil {
			_, err = w.EndRun(context.Background(), Caller{Workspace: ws}, a.ID, RunCompleted, EndedByClient)
		}
		if err != nil {
			t.Error(err)
		}
	})
	_, err = w.SetPlan(t.Context(), ws, basic)
	w.must(err)

	counts := w.startTogether(ws, 200)
	if counts[guard.None] != 1 || counts[guard.MonthlyRunLimitExceeded] != 199 {
		t.Errorf("answers by reason: %v, want 1 ALLOW and 199 of MONTHLY_RUN_LIMIT_EXCEEDED", counts)
	}
	usage, err := w.Usage(t.Context(), ws)
	w.must(err)
	if usage.MonthlyRuns != basic.MonthlyRuns || usage.MonthlyRunLimit != basic.MonthlyRuns || w.running(ws) != 1 {
		t.Errorf("%d runs of %d this month, %d running", usage.MonthlyRuns, usage.MonthlyRunLimit, w.running(ws))
	}
}

// budgetRace is a workspace with a budget of 60 steps, 100 steps that wait for
// their usage, and what is known from outside of the money reported.
type budgetRace struct {
	*world
	ws    WorkspaceKey
	runs  []uuid.UUID
	steps []uuid.UUID
	spent atomic.Int64 // acknowledged, in nano-USD
}

const (
	raceCost   = 3_000_000 // of one step, in nano-USD
	raceBudget = 60 * raceCost
)

func newBudgetRace(t *testing.T, change WorkspaceChange) *budgetRace {
	t.Helper()
	r := &budgetRace{world: newVerifiedWorld(t)}
	r.ws = r.unlimitedWorkspace()
	_, err := r.UpdateWorkspace(t.Context(), r.ws, change)
	r.must(err)
	r.price(r.ws, "gpt-4o", raceCost*1_000, 0)
	for range 5 {
		run := r.start(r.ws, "spender").ID
		for range 20 {
			r.runs, r.steps = append(r.runs, run), append(r.steps, r.step(r.ws, run).ID)
		}
	}
	return r
}

// report books one token of step i.
func (r *budgetRace) report(i int) {
	one := int64(1)
	in := StepUpdate{Status: StepCompleted, PromptTokens: &one}
	if _, err := r.UpdateStep(context.Background(), Caller{Workspace: r.ws}, r.runs[i], r.steps[i], in); err != nil {
		r.t.Error(err)
		return
	}
	r.spent.Add(raceCost)
}

// ask wants DENY when the budget was known to be reached before the question,
// and ALLOW when it cannot have been at its answer.
func (r *budgetRace) ask(i int, reason guard.Reason) {
	var a Answer
	var err error
	before := r.spent.Load()
	switch i % 3 {
	case 0:
		a, err = r.StartRun(context.Background(), Caller{Workspace: r.ws}, NewRun{UserID: "spender"}, guard.Decide)
	case 1:
		a, err = r.CreateStep(context.Background(), Caller{Workspace: r.ws}, r.runs[i%len(r.runs)], NewStep{Type: 2, Sequence: 1}, guard.Decide)
	default:
		a, err = r.Heartbeat(context.Background(), Caller{Workspace: r.ws}, r.runs[i%len(r.runs)], guard.Decide)
	}
	if err != nil {
		r.t.Error(err)
		return
	}
	d := a.Decision
	switch {
	case d.Allowed() && before >= raceBudget:
		r.t.Errorf("allowed, when %d of %d had been reported", before, raceBudget)
	case !d.Allowed() && (d.Reason != reason || d.Limit != raceBudget || d.Used < raceBudget || d.Used < before || d.Used%raceCost != 0):
		r.t.Errorf("denied with %+v, when %d had been reported before", d, before)
	}
}

func TestFirstDecisionAfterTheBooksReachABudgetIsADenial(t *testing.T) {
	budget := &plans.Budget{Limit: raceBudget, Set: true}
	for reason, change := range map[guard.Reason]WorkspaceChange{
		guard.WorkspaceDailyBudgetExceeded: {DailyBudget: budget},
		guard.UserDailyBudgetExceeded:      {UserDailyBudget: budget},
	} {
		t.Run(reason.String(), func(t *testing.T) {
			r := newBudgetRace(t, change)
			together(59, r.report) // one step below the budget
			for i := range 3 {
				r.ask(i, guard.None) // a denial has a reason, and so fails
			}
			together(2, func(i int) { // the step that reaches it, beside a question
				if i == 0 {
					r.report(59)
				} else {
					r.ask(0, reason)
				}
			})
			for i := range 3 {
				r.ask(i, reason)
			}
			together(200, func(i int) {
				if i%5 == 0 {
					r.report(60 + i/5)
				} else {
					r.ask(i, reason)
				}
			})
			if other := r.start(r.ws, "another"); other.Decision.Allowed() != (reason == guard.UserDailyBudgetExceeded) {
				t.Errorf("another user: %+v", other.Decision)
			}
		})
	}
}

// While many report and many ask, each answer fits what was known around it.
func TestDecisionsAmidReportsAreTrueWhenGiven(t *testing.T) {
	r := newBudgetRace(t, WorkspaceChange{DailyBudget: &plans.Budget{Limit: raceBudget, Set: true}})
	together(300, func(i int) {
		if i%3 == 0 {
			r.report(i / 3)
		} else {
			r.ask(i, guard.WorkspaceDailyBudgetExceeded)
		}
	})
	r.ask(0, guard.WorkspaceDailyBudgetExceeded)
	if spent := r.number(`SELECT spend_nanos FROM workspace_days WHERE workspace_id = $1`, r.ws); spent != 100*raceCost {
		t.Errorf("%d spent, want %d", spent, 100*raceCost)
	}
}

// The moment that a switch is answered, it holds for every later question.
func TestKillSwitchAndBlockHoldForTheNextQuestion(t *testing.T) {
	for reason, throw := range map[guard.Reason]func(*world, WorkspaceKey) error{
		guard.KillSwitchActive: func(w *world, ws WorkspaceKey) error {
			_, err := w.SetKillSwitch(context.Background(), ws, true, "")
			return err
		},
		guard.UserBlocked: func(w *world, ws WorkspaceKey) error {
			_, err := w.BlockUser(context.Background(), ws, "u", nil)
			return err
		},
	} {
		t.Run(reason.String(), func(t *testing.T) {
			w := newVerifiedWorld(t)
			ws := w.unlimitedWorkspace()
			run := w.start(ws, "u").ID
			var thrown atomic.Bool
			together(100, func(i int) {
				if i == 50 {
					if err := throw(w, ws); err != nil {
						t.Error(err)
					}
					thrown.Store(true)
					return
				}
				before := thrown.Load()
				a, err := w.CreateStep(context.Background(), Caller{Workspace: ws}, run, NewStep{Type: 2, Sequence: 1}, guard.Decide)
				if err != nil || before && a.Decision.Allowed() || !a.Decision.Allowed() && a.Decision.Reason != reason {
					t.Errorf("%+v, %v; %s before: %t", a.Decision, err, reason, before)
				}
			})
			if a := w.step(ws, run); a.Decision.Reason != reason {
				t.Errorf("%+v, want %s", a.Decision, reason)
			}
		})
	}
}

// A slot is given back once, however many end the run at once, and the first
// to end it has said how.
func TestRunEndedByManyAtOnceGivesItsSlotBackOnce(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.workspace(plans.Basic)
	w.start(ws, "u")
	run := w.start(ws, "u").ID
	w.step(ws, run)
	w.Advance(DefaultRunIdleTimeout + time.Second)
	_, err := w.Heartbeat(t.Context(), Caller{Workspace: ws}, run, guard.Decide)
	w.must(err)
	w.Advance(DefaultRunIdleTimeout) // run is not idle yet, the other run is
	var ends sync.Map
	together(60, func(i int) {
		if i%10 == 9 {
			if _, err := w.EndIdleRuns(context.Background()); err != nil {
				t.Error(err)
			}
			return
		}
		status := RunStatus(2 + i%3)
		end, err := w.EndRun(context.Background(), Caller{Workspace: ws}, run, status, EndedByClient)
		var ended *EndedError
		switch {
		case err == nil:
			ends.Store(end, true)
		case !errors.As(err, &ended) || ended.Status == status:
			t.Errorf("end as %s: %v", status, err)
		}
	})
	var said []RunEnd
	for end := range ends.Range {
		said = append(said, end.(RunEnd))
	}
	d, err := w.Run(t.Context(), ws, run, "")
	w.must(err)
	if len(said) != 1 || d.Status != said[0].Status || d.EndedBy != EndedByClient || d.Steps[0].Status != StepAbandoned {
		t.Errorf("ends answered: %+v; the run: %+v", said, d)
	}
	if n := w.running(ws); n != 0 {
		t.Errorf("%d runs are running, want none", n)
	}
}

// Reports of one step at once are booked one after the other: the books hold
// the last of them, not their sum.
func TestReportsOfOneStepAtOnceAreBookedOnce(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 1_000, 1_000)
	run := w.start(ws, "u").ID
	step := w.step(ws, run).ID
	together(100, func(i int) {
		tokens := int64(i % 10)
		in := StepUpdate{Status: StepCompleted, PromptTokens: &tokens, CompletionTokens: &tokens}
		s, err := w.UpdateStep(context.Background(), Caller{Workspace: ws}, run, step, in)
		if err != nil || s.PromptTokens != tokens || *s.Cost != plans.Money(2*tokens) {
			t.Errorf("%+v, %v", s, err)
		}
	})
	w.patch(ws, run, step, 7, 8)
	usage, err := w.Usage(t.Context(), ws)
	w.must(err)
	if usage.Today.Tokens != 15 || usage.Today.Spend != 15 {
		t.Errorf("booked %+v, want 15 tokens at 1 nano-dollar", usage.Today)
	}
}
