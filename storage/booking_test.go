package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// contents are all rows of all tables as texts, without the runs' idle clock.
func (w *world) contents() (all []string) {
	w.t.Helper()
	ctx, conn := context.Background(), w.conn()
	var tables []string
	rows, err := conn.QueryContext(ctx, w.tables())
	w.must(err)
	for rows.Next() {
		var name string
		w.must(rows.Scan(&name))
		tables = append(tables, name)
	}
	w.must(errors.Join(rows.Err(), rows.Close()))
	for _, table := range tables {
		rows, err := conn.QueryContext(ctx, `SELECT * FROM `+table)
		w.must(err)
		columns, err := rows.Columns()
		w.must(err)
		for rows.Next() {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(any)
			}
			w.must(rows.Scan(values...))
			line := table
			for i, column := range columns {
				if column != "last_call_at" && (table != "workspaces" || column != "version") {
					line += fmt.Sprintf(" %s=%v", column, *values[i].(*any))
				}
			}
			all = append(all, line)
		}
		w.must(errors.Join(rows.Err(), rows.Close()))
	}
	slices.Sort(all)
	return all
}

// mustNotChange wants do to leave every row as it is, but for the idle clock.
func (w *world) mustNotChange(what string, do func()) {
	w.t.Helper()
	before := w.contents()
	do()
	if diff := gocmp.Diff(before, w.contents()); diff != "" {
		w.t.Errorf("%s changed:\n%s", what, diff)
	}
}

// day reads what is booked on a date.
func (w *world) day(ws WorkspaceKey, date time.Time) DayUsage {
	w.t.Helper()
	days, err := w.DailyUsage(context.Background(), ws, 365, false)
	w.must(err)
	for _, d := range days {
		if d.Date.Equal(date.Truncate(24 * time.Hour)) {
			return d
		}
	}
	return DayUsage{}
}

// mustHaveBooked wants so much booked on a date, leaving runs out.
func (w *world) mustHaveBooked(ws WorkspaceKey, date time.Time, spend plans.Money, prompt, completion int64) {
	w.t.Helper()
	got := w.day(ws, date)
	if got.Spend != spend || got.PromptTokens != prompt || got.CompletionTokens != completion {
		w.t.Errorf("%s has %+v; want spend %v, %d and %d tokens", date.Format(time.DateOnly), got, spend, prompt, completion)
	}
}

func (w *world) update(ws WorkspaceKey, run, step uuid.UUID, in StepUpdate) Step {
	w.t.Helper()
	s, err := w.UpdateStep(context.Background(), Caller{Workspace: ws}, run, step, in)
	w.must(err)
	return s.Step
}

// priced is an audited world with a workspace that pays a micro-dollar a
// prompt token of gpt-4o and two a completion token, and a run with an open step.
func priced(t *testing.T) (w *world, ws WorkspaceKey, run, step uuid.UUID) {
	t.Helper()
	w = newVerifiedWorld(t)
	ws = w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 1_000_000, 2_000_000)
	run = w.start(ws, "u").ID
	return w, ws, run, w.step(ws, run).ID
}

const microUSD = plans.USD / 1_000_000

func mustCost(t *testing.T, s Step, want plans.Money) {
	t.Helper()
	if s.Cost == nil || *s.Cost != want || s.InputPrice == nil || s.OutputPrice == nil {
		t.Errorf("step costs %v at %v and %v, want %v", s.Cost, s.InputPrice, s.OutputPrice, want)
	}
}

func mustCostNothingKnown(t *testing.T, s Step) {
	t.Helper()
	if s.Cost != nil || s.InputPrice != nil || s.OutputPrice != nil {
		t.Errorf("step costs %v at %v and %v, want null", s.Cost, s.InputPrice, s.OutputPrice)
	}
}

func TestExampleOfTheContractIsBookedEverywhere(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	input, err := plans.ParsePrice("0.0000025")
	w.must(err)
	output, err := plans.ParsePrice("0.00001")
	w.must(err)
	w.price(ws, "gpt-4o", input, output)
	run := w.start(ws, "u").ID
	s := w.patch(ws, run, w.step(ws, run).ID, 500, 100)

	const want = plans.Money(2_250_000)
	if want.String() != "0.00225" {
		t.Fatalf("the contract's cost is written %s", want)
	}
	mustCost(t, s, want)
	if s.PromptTokens != 500 || s.CompletionTokens != 100 || *s.InputPrice != input || *s.OutputPrice != output {
		t.Errorf("step %+v", s)
	}
	d, err := w.Run(t.Context(), ws, run, "")
	w.must(err)
	if d.Spend != want || d.PromptTokens != 500 || d.CompletionTokens != 100 {
		t.Errorf("run %+v", d.Run)
	}
	if diff := gocmp.Diff([]Step{s}, d.Steps); diff != "" {
		t.Errorf("step as answered (-) and as read (+):\n%s", diff)
	}
	got, err := w.Usage(t.Context(), ws)
	w.must(err)
	totals := Totals{Spend: want, Tokens: 600, Runs: 1}
	if diff := gocmp.Diff(Usage{
		Today: totals, Last7Days: totals, Last30Days: totals, RunningRuns: 1, MonthlyRuns: 1,
		ByModel: []ModelUsage{{"gpt-4o", want, 500, 100, UnpricedUsage{}}}, ByUser: []UserUsage{{"u", want, 1, 0}},
	}, got); diff != "" {
		t.Errorf("usage, wanted (-) and read (+):\n%s", diff)
	}
	users, _, err := w.Users(t.Context(), ws, UserFilter{Limit: 1})
	w.must(err)
	if u := users[0]; u.Today != (UserSpend{Spend: want}) || u.Last30Days != u.Today || u.RunCount != 1 {
		t.Errorf("user %+v", u)
	}
	w.mustHaveBooked(ws, noon(), want, 500, 100)
}

func TestRepeatedReportChangesNothing(t *testing.T) {
	text, long := "it broke", int64(1234)
	for name, report := range map[string]StepUpdate{
		"completed":    {Status: StepCompleted, DurationMillis: &long, PromptTokens: &long, CompletionTokens: new(int64(7)), OutputData: []byte(`{"a":1}`)},
		"failed":       {Status: StepFailed, DurationMillis: &long, Error: &text},
		"usage alone":  {PromptTokens: &long},
		"no tokens":    {PromptTokens: new(int64), CompletionTokens: new(int64)},
		"output alone": {OutputData: []byte(`null`)},
		"nothing":      {},
	} {
		t.Run(name, func(t *testing.T) {
			w, ws, run, step := priced(t)
			first := w.update(ws, run, step, report)
			w.price(ws, "gpt-4o", 9_000_000, 9_000_000)
			for range 2 {
				w.Advance(40 * time.Minute)
				w.mustNotChange("the repeated report of a running run", func() {
					if diff := gocmp.Diff(first, w.update(ws, run, step, report)); diff != "" {
						t.Errorf("first answer (-), later (+):\n%s", diff)
					}
				})
				if idle := w.number(`SELECT last_call_at FROM runs`); idle != w.Now().UnixMilli() {
					t.Errorf("the idle clock is at %d, want %d", idle, w.Now().UnixMilli())
				}
			}
			w.end(ws, run, RunCompleted)
			w.Advance(36 * time.Hour) // another day, on which nothing may be booked
			w.mustNotChange("the repeated report of an ended run", func() { w.update(ws, run, step, report) })
		})
	}
}

func TestCorrectionBooksTheDifferenceOnTheDayFirstBooked(t *testing.T) {
	w, ws, run, step := priced(t)
	lastMoment := noon().Add(12*time.Hour - time.Millisecond)
	w.Set(lastMoment)
	w.patch(ws, run, step, 500, 100)
	w.Advance(time.Millisecond) // midnight
	for _, c := range []struct{ prompt, completion int64 }{{700, 300}, {10, 0}, {0, 0}, {0, 4}, {500, 100}} {
		cost := plans.Money(c.prompt+2*c.completion) * microUSD
		mustCost(t, w.patch(ws, run, step, c.prompt, c.completion), cost)
		w.mustHaveBooked(ws, lastMoment, cost, c.prompt, c.completion)
		w.mustHaveBooked(ws, w.Now(), 0, 0, 0)
		w.mustVerify()
	}
	if n := w.number(`SELECT booked_day FROM steps`); n != noon().Unix()/86_400 {
		t.Errorf("the step is booked on day %d", n)
	}
}

func TestReportOfAPartKeepsTheRest(t *testing.T) {
	w, ws, run, step := priced(t)
	s := w.update(ws, run, step, StepUpdate{PromptTokens: new(int64(10))})
	mustCost(t, s, 10*microUSD)
	if s.Status != StepRunning || !s.CompletedAt.IsZero() || s.CompletionTokens != 0 {
		t.Errorf("after prompt tokens alone: %+v", s)
	}
	mustCost(t, w.update(ws, run, step, StepUpdate{CompletionTokens: new(int64(5))}), 20*microUSD)
	w.update(ws, run, step, StepUpdate{DurationMillis: new(int64(3)), OutputData: []byte(`[1]`)})
	w.update(ws, run, step, StepUpdate{Error: new("late")})
	s = w.update(ws, run, step, StepUpdate{Status: StepFailed})
	completed := w.Now()
	w.Advance(time.Second)
	again := w.update(ws, run, step, StepUpdate{Status: StepCompleted})
	mustCost(t, again, 20*microUSD)
	if s.Status != StepFailed || again.Status != StepCompleted || !again.CompletedAt.Equal(completed) ||
		again.PromptTokens != 10 || again.CompletionTokens != 5 || *again.DurationMillis != 3 ||
		string(again.OutputData) != `[1]` || *again.Error != "late" {
		t.Errorf("in the end: %+v", again)
	}
	w.mustHaveBooked(ws, noon(), 20*microUSD, 10, 5)
}

func TestUsageAfterTheEndCountsAndStopsTheNextStart(t *testing.T) {
	w, ws, run, step := priced(t)
	budget := plans.Budget{Limit: 500 * microUSD, Set: true}
	_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{DailyBudget: &budget})
	w.must(err)
	end := w.end(ws, run, RunCompleted)
	w.Advance(time.Minute)
	s := w.patch(ws, run, step, 500, 0)
	if s.Status != StepCompleted || !s.CompletedAt.Equal(w.Now()) {
		t.Errorf("late step %+v", s)
	}
	mustCost(t, s, 500*microUSD)
	d, err := w.Run(t.Context(), ws, run, "")
	w.must(err)
	if d.Status != RunCompleted || !d.EndedAt.Equal(end.EndedAt) || d.Spend != 500*microUSD || d.PromptTokens != 500 {
		t.Errorf("run %+v", d.Run)
	}
	if a := w.start(ws, "u"); a.Decision.Reason != guard.WorkspaceDailyBudgetExceeded || a.Decision.Used != int64(500*microUSD) {
		t.Errorf("the next start: %+v", a.Decision)
	}
}

func TestAbandonedStepBecomesWhatIsReported(t *testing.T) {
	for _, status := range []StepStatus{StepCompleted, StepFailed} {
		t.Run(status.String(), func(t *testing.T) {
			w, ws, run, step := priced(t)
			w.Advance(DefaultOpenStepTimeout + time.Second)
			if n, err := w.EndIdleRuns(t.Context()); n != 1 || err != nil {
				t.Fatalf("%d idle runs ended, %v", n, err)
			}
			if status == StepFailed { // as an older version left it
				w.elsewhere(`UPDATE steps SET status = $1`, int64(StepAbandoned))
				w.mustVerify()
			}
			// Usage alone does not say how the step ended.
			if s := w.update(ws, run, step, StepUpdate{PromptTokens: new(int64(1))}); s.Status != StepAbandoned || !s.CompletedAt.IsZero() {
				t.Errorf("after usage alone: %+v", s)
			}
			s := w.update(ws, run, step, StepUpdate{Status: status, PromptTokens: new(int64(2))})
			if s.Status != status || !s.CompletedAt.Equal(w.Now()) {
				t.Errorf("after the report: %+v", s)
			}
			w.end(ws, run, RunCompleted) // the caller's word replaces the server's, not the step's
			d, err := w.Run(t.Context(), ws, run, "")
			w.must(err)
			if d.Status != RunCompleted || d.Steps[0].Status != status || d.PromptTokens != 2 {
				t.Errorf("run %+v", d)
			}
		})
	}
}

func TestBlockedStepTakesNoReport(t *testing.T) {
	w, ws, run, step := priced(t)
	_, err := w.BlockUser(t.Context(), ws, "u", nil)
	w.must(err)
	inTime := w.step(ws, run).ID
	w.end(ws, run, RunBlocked)
	for _, denied := range []uuid.UUID{inTime, w.step(ws, run).ID} {
		w.mustNotChange("a report of a blocked step", func() {
			in := StepUpdate{Status: StepCompleted, PromptTokens: new(int64(1)), OutputData: []byte(`1`), Error: new("e")}
			if _, err := w.UpdateStep(t.Context(), Caller{Workspace: ws}, run, denied, in); !errors.Is(err, ErrStepBlocked) {
				t.Errorf("report of a blocked step: %v", err)
			}
		})
	}
	w.patch(ws, run, step, 1, 1) // allowed before, so it counts
}

func TestPriceIsSettledAtTheFirstReport(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	unpriced, openBefore := w.step(ws, run).ID, w.step(ws, run).ID
	mustCostNothingKnown(t, w.patch(ws, run, unpriced, 500, 100))
	mustCostNothingKnown(t, w.patch(ws, run, unpriced, 700, 100))
	w.price(ws, "gpt-4o", 1_000_000, 2_000_000)
	mustCost(t, w.patch(ws, run, openBefore, 10, 0), 10*microUSD)
	w.mustHaveBooked(ws, noon(), 10*microUSD, 710, 100)

	w.price(ws, "gpt-4o", 50_000_000, 50_000_000)
	s := w.patch(ws, run, openBefore, 20, 1)
	mustCost(t, s, 22*microUSD)
	if *s.InputPrice != 1_000_000 || *s.OutputPrice != 2_000_000 {
		t.Errorf("corrected at %v and %v", s.InputPrice, s.OutputPrice)
	}
	mustCost(t, w.patch(ws, run, w.step(ws, run).ID, 1, 1), 100*microUSD)

	_, err := w.SetPrice(t.Context(), ws, ModelPrice{Model: "gpt-4o", Input: 50_000_000, Output: 50_000_000})
	w.must(err)
	mustCostNothingKnown(t, w.patch(ws, run, w.step(ws, run).ID, 1, 1)) // no longer active
	mustCost(t, w.patch(ws, run, openBefore, 30, 1), 32*microUSD)
}

// A price of nothing is a price, and no tokens cost nothing: neither is unknown.
func TestZeroIsACost(t *testing.T) {
	w, ws, run, step := priced(t)
	w.price(ws, "free", 0, 0)
	mustCost(t, w.patch(ws, run, step, 0, 0), 0)
	a, err := w.CreateStep(t.Context(), Caller{Workspace: ws}, run, NewStep{Type: 1, Sequence: 2, Model: new("free")}, guard.Decide)
	w.must(err)
	mustCost(t, w.patch(ws, run, a.ID, 1_000, 1_000), 0)
	if n := w.number(`SELECT sum(unpriced_tokens) FROM model_days`); n != 0 {
		t.Errorf("%d unpriced tokens", n)
	}
	s := w.update(ws, run, w.step(ws, run).ID, StepUpdate{Status: StepFailed})
	mustCostNothingKnown(t, s) // nothing was reported
}

func TestUsageWithoutAModelCountsForNoModel(t *testing.T) {
	w, ws, run, _ := priced(t)
	a, err := w.CreateStep(t.Context(), Caller{Workspace: ws}, run, NewStep{Type: 2, Sequence: 2, ToolName: new("search")}, guard.Decide)
	w.must(err)
	mustCostNothingKnown(t, w.patch(ws, run, a.ID, 5, 6))
	w.mustHaveBooked(ws, noon(), 0, 5, 6)
	if n := w.number(`SELECT count(*) FROM model_days`); n != 0 {
		t.Errorf("%d models were booked", n)
	}
}

// Nothing of a report may be seen before all of it is: a reader in between
// finds the run and its step agreeing.
func TestReportIsSeenWholeOrNotAtAll(t *testing.T) {
	w, ws, run, step := priced(t)
	together(8, func(i int) {
		for n := range 25 {
			if i < 2 {
				in := StepUpdate{PromptTokens: new(int64(n + i)), CompletionTokens: new(int64(n * i))}
				if _, err := w.UpdateStep(context.Background(), Caller{Workspace: ws}, run, step, in); err != nil {
					t.Error(err)
				}
				continue
			}
			d, err := w.Run(context.Background(), ws, run, "")
			if err != nil || d.fault() != "" {
				t.Errorf("run %s: %+v, %v", d.fault(), d, err)
			}
			u, err := w.Usage(context.Background(), ws)
			if err != nil || len(u.ByUser) != 1 || u.ByUser[0].Spend != u.Today.Spend || len(u.ByModel) > 0 && u.ByModel[0].Spend != u.Today.Spend {
				t.Errorf("usage %+v, %v", u, err)
			}
		}
	})
}

// What a step has never said stays null in the ledger.
func TestStepWithoutUsageIsNotBooked(t *testing.T) {
	w, ws, run, step := priced(t)
	w.update(ws, run, step, StepUpdate{Status: StepFailed, DurationMillis: new(int64(1))})
	var day, prompt, completion, cost sql.NullInt64
	w.must(w.conn().QueryRowContext(t.Context(), `SELECT booked_day, prompt_tokens, completion_tokens, cost_nanos FROM steps`).
		Scan(&day, &prompt, &completion, &cost))
	if day.Valid || prompt.Valid || completion.Valid || cost.Valid {
		t.Errorf("booked on %v: %v, %v, cost %v", day, prompt, completion, cost)
	}
}
