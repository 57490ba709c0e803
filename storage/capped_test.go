package storage

import (
	"testing"
	"time"

	"github.com/pikarc/server/plans"
)

// mustCap wants a step of which only a part could be booked.
func mustCap(t *testing.T, s StepUpdated, cost plans.Money, prompt, completion int64) {
	t.Helper()
	mustCost(t, s.Step, cost)
	if !s.Capped || s.PromptTokens != prompt || s.CompletionTokens != completion {
		t.Errorf("want %v for %d and %d tokens, capped: %+v", cost, prompt, completion, s)
	}
}

func used(prompt, completion int64) StepUpdate {
	return StepUpdate{Status: StepCompleted, PromptTokens: &prompt, CompletionTokens: &completion}
}

// A price typed per million instead of per token fills a day, and nobody's
// reports are refused for it.
func TestCostBeyondTheLedgerIsBookedUpToTheBound(t *testing.T) {
	w, ws, run, step := priced(t)
	w.price(ws, "gpt-4o", plans.MaxPrice, 0)
	over := w.report(ws, run, step, used(plans.MaxTokens, 0))
	mustCap(t, over, plans.MaxDay, plans.MaxTokens, 0)
	if !over.NewlyCapped || w.report(ws, run, step, used(plans.MaxTokens, 0)).NewlyCapped {
		t.Errorf("not told once: %+v", over)
	}
	u, err := w.Usage(t.Context(), ws)
	w.must(err)
	if !u.Today.Capped || !u.Last7Days.Capped || !u.Last30Days.Capped || !w.day(ws, noon()).Capped {
		t.Errorf("the day is not marked: %+v", u)
	}
	mustCap(t, w.report(ws, run, step, used(101, 0)), plans.MaxDay, 101, 0)
	exact := w.report(ws, run, step, used(100, 0))
	mustCost(t, exact.Step, plans.MaxDay)
	if exact.Capped {
		t.Errorf("what fits is marked: %+v", exact)
	}
	mustCost(t, w.patch(ws, run, step, 3, 0), 3_000_000*plans.USD)
	if u, err = w.Usage(t.Context(), ws); err != nil || u.Last30Days.Capped || w.number(`SELECT count(*) FROM capped_steps`) != 0 {
		t.Errorf("still marked: %+v, %v", u, err)
	}
}

// fullDay is a report that fills a day, at a price in pico-USD a prompt token.
type fullDay struct{ price, prompt, completion int64 }

func fullDays() map[string]fullDay {
	return map[string]fullDay{
		"spend":             {plans.MaxDay / plans.MaxTokens * 1_000, plans.MaxTokens, 0},
		"prompt tokens":     {0, plans.MaxDay, 0},
		"completion tokens": {0, 0, plans.MaxDay},
	}
}

func TestDayTakesItsBoundAndNotMore(t *testing.T) {
	for name, c := range fullDays() {
		t.Run(name, func(t *testing.T) {
			w, ws, run, step := priced(t)
			w.price(ws, "gpt-4o", plans.Price(c.price), 0)
			one, two := used(min(c.prompt, 1), min(c.completion, 1)), used(2*min(c.prompt, 1), 2*min(c.completion, 1))
			first := w.step(ws, run).ID
			w.patch(ws, run, first, c.prompt, c.completion)
			other := w.start(ws, "another").ID // the bound is the day's, not the run's
			late := w.step(ws, other).ID
			mustFull := func(step StepUpdated) {
				t.Helper()
				if d := w.day(ws, noon()); !step.Capped || !d.Capped || max(int64(d.Spend), d.PromptTokens, d.CompletionTokens) != plans.MaxDay {
					t.Errorf("%+v on a day of %+v", step, d)
				}
				w.mustVerify()
			}
			mustFull(w.report(ws, other, late, one))
			mustFull(w.report(ws, run, step, one))
			w.patch(ws, run, first, max(0, c.prompt-1), max(0, c.completion-1)) // room for one
			if s := w.report(ws, other, late, one); s.Capped || s.PromptTokens != *one.PromptTokens {
				t.Errorf("not booked although there was room: %+v", s)
			}
			mustFull(w.report(ws, other, late, two))

			w.Advance(24 * time.Hour)
			w.patch(ws, other, w.step(ws, other).ID, *one.PromptTokens, *one.CompletionTokens) // another day has room
			mustFull(w.report(ws, other, late, two))
			// What was reported is kept, so that a part of it can be corrected.
			if s := w.report(ws, other, late, StepUpdate{CompletionTokens: one.CompletionTokens}); s.Capped != (c.prompt > 0) {
				t.Errorf("after a correction of one class: %+v", s)
			}
			alone := w.unlimitedWorkspace()
			its := w.start(alone, "u").ID
			w.patch(alone, its, w.step(alone, its).ID, 1, 1) // and so has another workspace
		})
	}
}

func TestRunTakesTheDaysBoundOverItsWholeLife(t *testing.T) {
	for name, c := range fullDays() {
		t.Run(name, func(t *testing.T) {
			w, ws, run, step := priced(t)
			w.price(ws, "gpt-4o", plans.Price(c.price), 0)
			one := used(min(c.prompt, 1), min(c.completion, 1))
			first := w.step(ws, run).ID
			w.patch(ws, run, first, c.prompt, c.completion)
			w.Advance(24 * time.Hour)
			if s := w.report(ws, run, step, one); !s.Capped {
				t.Errorf("beyond the run: %+v", s)
			}
			if d := w.day(ws, w.Now()); d.Spend != 0 || d.Capped {
				t.Errorf("the day has %+v", d)
			}
			other := w.start(ws, "u").ID
			w.patch(ws, other, w.step(ws, other).ID, *one.PromptTokens, *one.CompletionTokens)
			w.patch(ws, run, first, max(0, c.prompt-1), max(0, c.completion-1)) // room for one
			if s := w.report(ws, run, step, one); s.Capped {
				t.Errorf("not booked although there was room: %+v", s)
			}
		})
	}
}

// A step without a price can fill the tokens of a day, and is then priced.
func TestCappedStepsAreProvedAndExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	step := w.step(ws, run).ID
	if s := w.report(ws, run, step, used(plans.MaxDay+5, 1)); !s.Capped || s.PromptTokens != plans.MaxDay || s.Cost != nil {
		t.Errorf("beyond the tokens: %+v", s)
	}
	w.mustVerify()
	w.price(ws, "gpt-4o", 1_000_000, 0)
	mustCap(t, w.report(ws, run, step, StepUpdate{DurationMillis: new(int64(1))}), plans.MaxDay, plans.MaxDay, 1)
	w.mustVerify()
	w.elsewhere(`UPDATE capped_steps SET prompt_tokens = 7`)
	if found, err := w.verified(); err != nil || len(found) == 0 || found[0].Check != "capped_steps" {
		t.Errorf("a capped step of fewer tokens than are booked: %+v, %v", found, err)
	}
	w.end(ws, run, RunCompleted)
	w.Advance(100 * 24 * time.Hour)
	n, err := w.Expire(t.Context())
	if left := w.number(`SELECT count(*) FROM capped_steps`); n != 1 || err != nil || left != 0 {
		t.Errorf("%d runs expired, %v, %d capped steps are left", n, err, left)
	}
}
