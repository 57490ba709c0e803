package storage

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// createModelCall creates a model call; an empty name means no model.
func (w *world) createModelCall(ws WorkspaceKey, run uuid.UUID, model string) uuid.UUID {
	w.t.Helper()
	in := NewStep{Type: ModelCall, Sequence: 1}
	if model != "" {
		in.Model = &model
	}
	a, err := w.CreateStep(context.Background(), Caller{Workspace: ws}, run, in, guard.Decide)
	w.must(err)
	return a.ID
}

// report calls UpdateStep, and returns its whole result.
func (w *world) report(ws WorkspaceKey, run, step uuid.UUID, in StepUpdate) StepUpdated {
	w.t.Helper()
	s, err := w.UpdateStep(context.Background(), Caller{Workspace: ws}, run, step, in)
	w.must(err)
	return s
}

func (u StepUpdated) modelIgnored() bool { return u.Repaired&RepairOf("model") != 0 }

// mustHaveUnpriced checks how much usage has no known cost today, in the run and for the model. An empty
// name stands for no model.
func (w *world) mustHaveUnpriced(ws WorkspaceKey, run uuid.UUID, model string, want UnpricedUsage) {
	w.t.Helper()
	u, err := w.Usage(context.Background(), ws)
	w.must(err)
	d, err := w.Run(context.Background(), ws, run, "")
	w.must(err)
	got := map[string]UnpricedUsage{"today": u.Today.UnpricedUsage, "daily": w.day(ws, w.Now()).UnpricedUsage}
	all := map[string]UnpricedUsage{"today": want, "daily": want}
	for _, m := range u.ByModel {
		if m.Model == model {
			got["model"], all["model"] = m.UnpricedUsage, want
		}
	}
	if diff := gocmp.Diff(all, got); diff != "" {
		w.t.Errorf("gaps, wanted (-) and read (+):\n%s", diff)
	}
	if d.UnpricedTokens != want.UnpricedTokens || d.CallsWithoutUsage != want.CallsWithoutUsage {
		w.t.Errorf("the run has %d unpriced tokens and %d calls without usage, want %+v", d.UnpricedTokens, d.CallsWithoutUsage, want)
	}
}

func TestUnpricedStepIsPricedByTheNextReportAfterThePriceIsKnown(t *testing.T) {
	for name, again := range map[string]StepUpdate{
		"the same tokens":  {Status: StepCompleted, PromptTokens: new(int64(1_000_000)), CompletionTokens: new(int64(0))},
		"corrected tokens": {PromptTokens: new(int64(2_000_000))},
		"no tokens":        {DurationMillis: new(int64(7))},
	} {
		t.Run(name, func(t *testing.T) {
			w := newVerifiedWorld(t)
			ws := w.unlimitedWorkspace()
			run := w.start(ws, "u").ID
			step := w.createModelCall(ws, run, "new-model")
			first := w.report(ws, run, step, StepUpdate{Status: StepCompleted, PromptTokens: new(int64(1_000_000))})
			mustCostNothingKnown(t, first.Step)
			if !first.NewlyUnpriced || first.UnpricedTokens != 1_000_000 || !first.Booked {
				t.Errorf("the first report: %+v", first)
			}
			w.mustHaveUnpriced(ws, run, "new-model", UnpricedUsage{UnpricedTokens: 1_000_000, UnpricedSteps: 1})
			users, _, err := w.Users(t.Context(), ws, UserFilter{Limit: 1})
			w.must(err)
			if want := (UserSpend{UnpricedTokens: 1_000_000}); users[0].Today != want || users[0].Last30Days != want {
				t.Errorf("the user: %+v", users[0])
			}
			if repeated := w.report(ws, run, step, again); repeated.NewlyUnpriced {
				t.Errorf("reported as new twice: %+v", repeated)
			}

			w.price(ws, "new-model", 1_000_000, 2_000_000)
			w.end(ws, run, RunCompleted)
			w.Advance(24 * time.Hour)
			priced := w.report(ws, run, step, again)
			mustCost(t, priced.Step, plans.Money(priced.PromptTokens)*microUSD)
			w.mustHaveBooked(ws, noon(), plans.Money(priced.PromptTokens)*microUSD, priced.PromptTokens, 0)
			w.mustHaveBooked(ws, w.Now(), 0, 0, 0)
			w.Set(noon())
			w.mustHaveUnpriced(ws, run, "new-model", UnpricedUsage{})
			if priced.NewlyUnpriced || priced.UnpricedTokens != 0 {
				t.Errorf("after the price: %+v", priced)
			}
			w.price(ws, "new-model", 9_000_000, 9_000_000) // a cost that is booked stays
			mustCost(t, w.report(ws, run, step, again).Step, plans.Money(priced.PromptTokens)*microUSD)
		})
	}
}

func TestReportedModelReplacesRequestedUntilUsageIsBooked(t *testing.T) {
	w, ws, run, _ := priced(t)
	usage := func(model string, prompt int64) StepUpdate {
		return StepUpdate{Status: StepCompleted, Model: &model, PromptTokens: &prompt}
	}
	for _, asked := range []string{"auto", ""} {
		step := w.createModelCall(ws, run, asked)
		early := w.report(ws, run, step, StepUpdate{Model: new("router/gpt")}) // this books nothing
		if early.modelIgnored() || *early.Model != "router/gpt" || early.Booked {
			t.Errorf("a model alone: %+v", early)
		}
		s := w.report(ws, run, step, usage("gpt-4o", 10))
		mustCost(t, s.Step, 10*microUSD)
		if s.modelIgnored() || *s.Model != "gpt-4o" {
			t.Errorf("the model that answered: %+v", s)
		}
		if s = w.report(ws, run, step, usage("gpt-4o", 20)); s.modelIgnored() {
			t.Errorf("the same model is ignored: %+v", s)
		}
		s = w.report(ws, run, step, usage("other", 30))
		mustCost(t, s.Step, 30*microUSD)
		if !s.modelIgnored() || *s.Model != "gpt-4o" {
			t.Errorf("another model after usage was booked: %+v", s)
		}
		d, err := w.Run(t.Context(), ws, run, "")
		w.must(err)
		if last := d.Steps[len(d.Steps)-1]; last.Model == nil || *last.Model != "gpt-4o" {
			t.Errorf("as read: %+v", last)
		}
	}
	// Unpriced tokens count as booked usage; zero tokens do not.
	step := w.createModelCall(ws, run, "auto")
	w.report(ws, run, step, usage("auto", 0))
	mustCost(t, w.report(ws, run, step, usage("gpt-4o", 0)).Step, 0)
	mustCostNothingKnown(t, w.report(ws, run, step, usage("auto", 5)).Step)
	if s := w.report(ws, run, step, usage("gpt-4o", 6)); !s.modelIgnored() || s.Cost != nil {
		t.Errorf("another model after unpriced usage: %+v", s)
	}
}

func TestCompletedModelCallWithoutUsageIsCounted(t *testing.T) {
	completed := StepUpdate{Status: StepCompleted}
	zero := StepUpdate{Status: StepCompleted, PromptTokens: new(int64), CompletionTokens: new(int64)}
	for name, report := range map[string]StepUpdate{"absent": completed, "zero": zero} {
		t.Run(name, func(t *testing.T) {
			w, ws, run, _ := priced(t)
			w.Set(noon().Add(11 * time.Hour))
			step, other := w.createModelCall(ws, run, "gpt-4o"), w.createModelCall(ws, run, "")
			w.report(ws, run, step, StepUpdate{Status: StepFailed}) // a failed call needs no tokens
			w.mustHaveUnpriced(ws, run, "gpt-4o", UnpricedUsage{})
			w.Advance(2 * time.Hour) // over midnight
			s := w.report(ws, run, step, report)
			if !s.WithoutUsage || w.report(ws, run, step, report).WithoutUsage {
				t.Errorf("not reported exactly once: %+v", s)
			}
			w.Set(noon())
			w.mustHaveUnpriced(ws, run, "gpt-4o", UnpricedUsage{CallsWithoutUsage: 1}) // on the day it first ended
			w.report(ws, run, step, StepUpdate{Model: new("gpt-4o-mini")})
			w.mustHaveUnpriced(ws, run, "gpt-4o-mini", UnpricedUsage{CallsWithoutUsage: 1})
			w.report(ws, run, other, report)
			w.mustVerify()
			w.Advance(48 * time.Hour)
			w.report(ws, run, step, StepUpdate{PromptTokens: new(int64(4))}) // late usage
			w.report(ws, run, other, StepUpdate{Status: StepFailed})
			w.Set(noon())
			w.mustVerify()
			d, err := w.Run(t.Context(), ws, run, "")
			w.must(err)
			if d.CallsWithoutUsage != 0 {
				t.Errorf("still counted: %+v", d.Run)
			}
			tool, err := w.CreateStep(t.Context(), Caller{Workspace: ws}, run, NewStep{Type: 2, Sequence: 2}, guard.Decide)
			w.must(err)
			if s := w.report(ws, run, tool.ID, report); s.WithoutUsage {
				t.Errorf("a tool call: %+v", s)
			}
		})
	}
}

// Only usage without a known price is reported as unpriced. No usage, a price of zero and an
// unpriced call of no tokens are not.
func TestOnlyUsageIsReportedAsUnpriced(t *testing.T) {
	w, ws, run, step := priced(t)
	w.price(ws, "free", 0, 0)
	for name, s := range map[string]StepUpdated{
		"no usage":         w.report(ws, run, step, StepUpdate{Status: StepFailed}),
		"a price of zero":  w.report(ws, run, w.createModelCall(ws, run, "free"), StepUpdate{PromptTokens: new(int64(5))}),
		"unpriced nothing": w.report(ws, run, w.createModelCall(ws, run, "new"), StepUpdate{PromptTokens: new(int64)}),
	} {
		if s.NewlyUnpriced || s.UnpricedTokens != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	w.mustHaveUnpriced(ws, run, "", UnpricedUsage{})
}
