package storage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

const moment = time.Millisecond // the finest that is stored

// spend starts a run and books so many micro-dollars in it.
func (w *world) spend(ws WorkspaceKey, user string, amount int64) (run uuid.UUID) {
	w.t.Helper()
	run = w.start(ws, user).ID
	w.patch(ws, run, w.step(ws, run).ID, amount, 0)
	return run
}

// heartbeatDecision asks as a heartbeat does: it records no step.
func (w *world) heartbeatDecision(ws WorkspaceKey, run uuid.UUID) guard.Decision {
	w.t.Helper()
	a, err := w.Heartbeat(context.Background(), Caller{Workspace: ws}, run, guard.Decide)
	w.must(err)
	return a.Decision
}

// limitedTo is guard.Decide under a plan of so many runs a month.
func limitedTo(runs int64) Decider {
	return func(req guard.Request, state guard.State) guard.Decision {
		state.Plan.MonthlyRuns = runs
		return guard.Decide(req, state)
	}
}

func TestBudgetsResetAtMidnightUTC(t *testing.T) {
	for name, change := range map[string]WorkspaceChange{
		"workspace": {DailyBudget: &plans.Budget{Limit: 100 * microUSD, Set: true}},
		"user":      {UserDailyBudget: &plans.Budget{Limit: 100 * microUSD, Set: true}},
	} {
		t.Run(name, func(t *testing.T) {
			w, ws, _, _ := priced(t)
			_, err := w.UpdateWorkspace(t.Context(), ws, change)
			w.must(err)
			midnight := date(2026, 11, 16)
			w.Set(midnight.Add(-moment))
			run := w.spend(ws, "u", 100)
			for _, d := range []guard.Decision{w.heartbeatDecision(ws, run), w.start(ws, "u").Decision, w.step(ws, run).Decision} {
				if d.Allowed() || d.Used != int64(100*microUSD) || !d.ResetsAt.Equal(midnight) {
					t.Errorf("a moment before midnight: %+v", d)
				}
			}
			w.mustReadTheLedger()

			w.Set(midnight)
			for _, d := range []guard.Decision{w.heartbeatDecision(ws, run), w.start(ws, "u").Decision, w.step(ws, run).Decision} {
				if !d.Allowed() {
					t.Errorf("at midnight: %+v", d)
				}
			}
			u, err := w.Usage(t.Context(), ws)
			w.must(err)
			if u.Today != (Totals{Runs: 1}) || u.Last7Days.Spend != 100*microUSD || u.Last30Days != u.Last7Days {
				t.Errorf("usage at midnight: %+v", u)
			}
			w.spend(ws, "u", 99)
			w.Set(midnight.Add(24*time.Hour - moment))
			if d := w.heartbeatDecision(ws, run); !d.Allowed() {
				t.Errorf("below the budget of the next day: %+v", d)
			}
		})
	}
}

func TestWindowsOfUsageCountWholeDaysWithToday(t *testing.T) {
	w, ws, _, _ := priced(t)
	w.spend(ws, "u", 100)
	for _, c := range []struct {
		days                 int
		today, week, monthly plans.Money
	}{
		{0, 100, 100, 100}, {1, 0, 100, 100}, {6, 0, 100, 100}, {7, 0, 0, 100}, {29, 0, 0, 100}, {30, 0, 0, 0}, {-1, 0, 0, 0},
	} {
		w.Set(date(2026, 11, 15+c.days))
		u, err := w.Usage(t.Context(), ws)
		w.must(err)
		users, _, err := w.Users(t.Context(), ws, UserFilter{Limit: 1})
		w.must(err)
		got := []plans.Money{u.Today.Spend, u.Last7Days.Spend, u.Last30Days.Spend, users[0].Today.Spend, users[0].Last30Days.Spend}
		want := []plans.Money{c.today, c.week, c.monthly, c.today, c.monthly}
		for i := range want {
			want[i] *= microUSD
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%d days later, want (-), read (+):\n%s", c.days, diff)
		}
		w.mustReadTheLedger()
	}
}

// The month's count and its reset, over every kind of month's end.
func TestMonthlyLimitResetsWithTheUTCMonth(t *testing.T) {
	for _, c := range []struct{ last, next time.Time }{
		{date(2026, 1, 31), date(2026, 2, 1)},
		{date(2026, 2, 28), date(2026, 3, 1)},
		{date(2028, 2, 29), date(2028, 3, 1)},
		{date(2026, 4, 30), date(2026, 5, 1)},
		{date(2026, 12, 31), date(2027, 1, 1)},
		{date(2100, 2, 28), date(2100, 3, 1)},
	} {
		t.Run(c.last.Format(time.DateOnly), func(t *testing.T) {
			w := newVerifiedWorld(t)
			ws := w.unlimitedWorkspace()
			ask := func(at time.Time, used int64) {
				t.Helper()
				w.Set(at)
				a, err := w.StartRun(t.Context(), Caller{Workspace: ws}, NewRun{UserID: "u"}, limitedTo(3))
				w.must(err)
				want := guard.Decision{Evaluated: a.Decision.Evaluated}
				if used == 3 {
					want = guard.Decision{
						Reason: guard.MonthlyRunLimitExceeded, Limit: 3, Used: 3, Evaluated: a.Decision.Evaluated,
						ResetsAt: date(at.Year(), at.Month()+1, 1),
					}
				}
				if diff := gocmp.Diff(want, a.Decision); diff != "" {
					t.Errorf("at %s, want (-), answered (+):\n%s", at, diff)
				}
				u, err := w.Usage(t.Context(), ws)
				w.must(err)
				if runs := min(3, used+1); u.MonthlyRuns != runs {
					t.Errorf("%d runs this month at %s, want %d", u.MonthlyRuns, at, runs)
				}
			}
			first := date(c.last.Year(), c.last.Month(), 1)
			ask(first.Add(-moment), 0) // of the month before
			ask(first, 0)
			ask(c.last.AddDate(0, 0, -1), 1)
			ask(c.last, 2)
			ask(c.last.Add(24*time.Hour-moment), 3)
			ask(c.next, 0)
			ask(c.next.Add(moment), 1)
		})
	}
}

func TestTheLastDayOfFebruaryIsInItsMonth(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.Set(date(2028, 2, 28).Add(24*time.Hour - moment))
	for range 2 {
		if _, err := w.StartRun(t.Context(), Caller{Workspace: ws}, NewRun{UserID: "u"}, limitedTo(1)); err != nil {
			t.Fatal(err)
		}
		w.Set(date(2028, 2, 29)) // no reset
	}
	if n := w.number(`SELECT sum(run_count) * 10 + sum(blocked_run_count) FROM workspace_days`); n != 11 {
		t.Errorf("allowed and denied: %d, want one each", n)
	}
}

// A clock set back decides by the day that it shows, and books there; nothing
// becomes negative, and what was booked on the later days is there again when
// they come.
func TestClockSetBackDecidesAndBooksOnItsOwnDay(t *testing.T) {
	for name, back := range map[string]time.Time{
		"a day": noon().AddDate(0, 0, -1), "a month": noon().AddDate(0, -1, 0), "over the year's start": date(2025, 12, 31),
	} {
		t.Run(name, func(t *testing.T) {
			w, ws, _, _ := priced(t)
			budget := plans.Budget{Limit: 100 * microUSD, Set: true}
			_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{DailyBudget: &budget})
			w.must(err)
			run := w.spend(ws, "u", 60)
			corrected := w.step(ws, run).ID
			w.patch(ws, run, corrected, 50, 0)
			open := w.number(`SELECT count(*) FROM steps WHERE status = 1`)
			if d := w.heartbeatDecision(ws, run); d.Used != int64(110*microUSD) {
				t.Fatalf("before: %+v", d)
			}

			w.Set(back)
			if d := w.heartbeatDecision(ws, run); !d.Allowed() {
				t.Errorf("on a day of no spending: %+v", d)
			}
			w.spend(ws, "u", 70)
			w.patch(ws, run, corrected, 45, 0) // where it was first booked
			w.mustHaveBooked(ws, back, 70*microUSD, 70, 0)
			if d := w.heartbeatDecision(ws, w.spend(ws, "u", 30)); d.Used != int64(100*microUSD) || !d.ResetsAt.Equal(back.Truncate(24*time.Hour).AddDate(0, 0, 1)) {
				t.Errorf("at the budget of the earlier day: %+v", d)
			}
			w.mustVerify()
			w.mustReadTheLedger()

			w.Set(noon().Add(time.Hour))
			if d := w.heartbeatDecision(ws, run); d.Used != int64(105*microUSD) {
				t.Errorf("back on the later day: %+v", d)
			}
			w.mustHaveBooked(ws, noon(), 105*microUSD, 105, 0)
			if n := w.number(`SELECT count(*) FROM steps WHERE status = 1`); n != open {
				t.Errorf("%d open steps, want %d", n, open)
			}
		})
	}
}

// An id begins with the clock's time, so runs of a clock set back sort among
// the older ones; a reader that pages meanwhile meets each run once.
func TestRunsOfAClockSetBackPageWithoutRepeatOrGap(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	var before []uuid.UUID
	for _, at := range []time.Time{noon(), noon().AddDate(0, 0, -1), noon().AddDate(0, -1, 0), noon().AddDate(0, 0, 40), noon()} {
		w.Set(at)
		for range 5 {
			w.Advance(moment)
			before = append(before, w.start(ws, "u").ID)
		}
	}
	seen, cursor, pages := map[uuid.UUID]int{}, "", 0
	for more := true; more; more = cursor != "" {
		runs, next, err := w.Runs(t.Context(), ws, RunFilter{Limit: 4, Cursor: cursor})
		w.must(err)
		for _, r := range runs {
			seen[r.ID]++
		}
		cursor, pages = next, pages+1
		w.Set(noon().AddDate(0, 0, 20-15*pages)) // new runs, ahead of the reader and behind it
		w.start(ws, "u")
	}
	for _, id := range before {
		if seen[id] != 1 {
			t.Errorf("run %s is seen %d times", id, seen[id])
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("run %s is seen %d times", id, n)
		}
	}
}

func TestRunMayEndBeforeItsStart(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.workspace(plans.Basic)
	run := w.start(ws, "u").ID
	step := w.step(ws, run).ID
	w.Set(noon().AddDate(0, -1, 0))
	if n, err := w.EndIdleRuns(t.Context()); n != 0 || err != nil {
		t.Errorf("%d runs are idle before they started, %v", n, err)
	}
	end := w.end(ws, run, RunCompleted)
	w.patch(ws, run, step, 1, 1)
	w.Set(noon())
	again := w.end(ws, run, RunCompleted)
	if !end.EndedAt.Equal(noon().AddDate(0, -1, 0)) || end != again {
		t.Errorf("ended as %+v, then as %+v", end, again)
	}
	for _, f := range []RunFilter{{Limit: 1}, {Limit: 1, Status: RunCompleted}, {Limit: 1, Since: noon(), Until: noon().Add(moment)}} {
		runs, _, err := w.Runs(t.Context(), ws, f)
		if err != nil || len(runs) != 1 || !runs[0].StartedAt.Equal(noon()) || !runs[0].EndedAt.Equal(end.EndedAt) {
			t.Errorf("runs of %+v: %+v, %v", f, runs, err)
		}
	}
	if n := w.running(ws); n != 0 {
		t.Errorf("%d runs are running", n)
	}
}

// Forty days ahead, every limit has reset and every open run is idle; when the
// clock is right again, so are the figures.
func TestClockFortyDaysAheadAndBack(t *testing.T) {
	w, ws, _, _ := priced(t)
	budget := plans.Budget{Limit: 100 * microUSD, Set: true}
	_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{DailyBudget: &budget, UserDailyBudget: &budget})
	w.must(err)
	run := w.spend(ws, "u", 100)
	before, err := w.Usage(t.Context(), ws)
	w.must(err)

	w.Set(noon().AddDate(0, 0, 40))
	if d := w.heartbeatDecision(ws, run); !d.Allowed() { // and so this run is not idle
		t.Errorf("forty days ahead: %+v", d)
	}
	if n, err := w.EndIdleRuns(t.Context()); n != 1 || err != nil {
		t.Errorf("%d idle runs ended, %v; want the one that did not call", n, err)
	}
	u, err := w.Usage(t.Context(), ws)
	w.must(err)
	if diff := gocmp.Diff(Usage{RunningRuns: 1}, u); diff != "" {
		t.Errorf("usage forty days ahead:\n%s", diff)
	}
	w.spend(ws, "u", 10)
	w.mustReadTheLedger()

	w.Set(noon())
	after, err := w.Usage(t.Context(), ws)
	w.must(err)
	if diff := gocmp.Diff(before, after); diff != "" {
		t.Errorf("usage before (-) and after (+):\n%s", diff)
	}
	if d := w.heartbeatDecision(ws, run); d.Reason != guard.WorkspaceDailyBudgetExceeded {
		t.Errorf("back again: %+v", d)
	}
	if n, err := w.EndIdleRuns(t.Context()); n != 0 || err != nil {
		t.Errorf("%d runs are idle though they called in the future, %v", n, err)
	}
}

// Whatever the clock does, the books balance.
func TestBooksBalanceUnderAWildClock(t *testing.T) {
	w, ws, run, step := priced(t)
	runs, steps := []uuid.UUID{run}, []uuid.UUID{step}
	for i, jump := range []time.Duration{
		12 * time.Hour, -moment, moment, -24 * time.Hour, 40 * 24 * time.Hour, -31 * 24 * time.Hour, 28 * 24 * time.Hour,
		-400 * 24 * time.Hour, 366 * 24 * time.Hour, -time.Nanosecond, time.Hour + time.Second, -time.Hour,
	} {
		w.Advance(jump)
		run := w.start(ws, fmt.Sprint("user ", i%3)).ID
		runs, steps = append(runs, run), append(steps, w.step(ws, run).ID)
		for back := range min(4, len(runs)) { // the newest and some older, at once or for another time
			n := len(runs) - 1 - back
			w.patch(ws, runs[n], steps[n], int64(100+7*i-11*back), int64(i*back))
		}
		if i%2 == 0 {
			w.end(ws, runs[i], RunCompleted)
		}
		_, err := w.EndIdleRuns(t.Context())
		w.must(err)
		if i%4 == 3 {
			w.mustVerify()
		}
	}
}
