package storage

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// outlined reads a whole outline, in pages of so many steps.
func (w *world) outlined(ws WorkspaceKey, run uuid.UUID, limit int) (steps []StepOutline) {
	w.t.Helper()
	for next := ""; ; {
		page, after, err := w.Outline(w.t.Context(), ws, run, next, limit)
		w.must(err)
		steps = append(steps, page...)
		if after == "" {
			return steps
		}
		if len(page) == 0 || len(page) > limit {
			w.t.Fatalf("a page of %d steps, want 1 to %d", len(page), limit)
		}
		next = after
	}
}

// The outline has the steps of the detail, each once and in the same order,
// whatever the size of its pages; equal inputs are told from others.
func TestAnOutlineIsTheStepsWithoutTheirPayloads(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	w.price(ws, "dear", 3, 5)
	tool := "search"
	for n := range 23 {
		in := NewStep{Type: ToolCall, Sequence: int64(1 + n%7), ToolName: &tool, InputData: fmt.Appendf(nil, `{"n":%d}`, n%3)}
		if n%5 == 0 {
			in.InputData = nil
		}
		_, err := w.CreateStep(t.Context(), Caller{Workspace: ws}, run, in, allow)
		w.must(err)
	}
	w.patch(ws, run, w.createModelCall(ws, run, "dear"), 10, 20)
	d, err := w.Run(t.Context(), ws, run, "")
	w.must(err)
	for _, limit := range []int{1, 7, MaxOutline} {
		steps := w.outlined(ws, run, limit)
		if len(steps) != len(d.Steps) {
			t.Fatalf("%d steps in pages of %d, want %d", len(steps), limit, len(d.Steps))
		}
		byInput := map[string]string{}
		for i, o := range steps {
			s := d.Steps[i]
			if o.ID != s.ID || o.Sequence != s.Sequence || o.Type != s.Type || o.Status != s.Status || o.PromptTokens != s.PromptTokens || !o.CreatedAt.Equal(s.CreatedAt) {
				t.Errorf("step %d is %+v, want %+v", i, o, s)
			}
			if (s.Cost == nil) != (o.Cost == nil) || s.Cost != nil && *s.Cost != *o.Cost {
				t.Errorf("step %d costs %v, want %v", i, o.Cost, s.Cost)
			}
			if (s.InputData == nil) != (o.Input == "") {
				t.Errorf("step %d with the input %s has %q", i, s.InputData, o.Input)
			}
			if before, known := byInput[o.Input]; known && before != string(s.InputData) {
				t.Errorf("the inputs %s and %s are told to be the same", before, s.InputData)
			}
			byInput[o.Input] = string(s.InputData)
		}
		if len(byInput) != 4 { // three inputs, and none
			t.Errorf("%d inputs are told apart, want 4", len(byInput))
		}
	}
}

// Whatever a run calls, at whatever price, the parts add up to what the run itself has booked.
func TestABreakdownAddsUpToTheRun(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w, r := newVerifiedWorld(t), rand.New(rand.NewPCG(seed, 1))
			ws := w.unlimitedWorkspace()
			run := w.start(ws, "u").ID
			for n := range 60 {
				model := fmt.Sprintf("model-%d", r.IntN(6))
				if n%20 == 10 { // a price appears, or changes
					w.price(ws, model, plans.Price(r.IntN(1_000_000)), plans.Price(r.IntN(1_000_000)))
				}
				in := NewStep{Type: ModelCall, Sequence: int64(n), Model: &model}
				if r.IntN(3) == 0 {
					tool := fmt.Sprintf("tool-%d", r.IntN(130)) // more than a breakdown tells apart
					in = NewStep{Type: ToolCall, Sequence: int64(n), ToolName: &tool}
				}
				decide := allow
				if r.IntN(10) == 0 {
					decide = deny
				}
				a, err := w.CreateStep(t.Context(), Caller{Workspace: ws}, run, in, decide)
				w.must(err)
				if a.Decision.Allowed() && r.IntN(5) > 0 {
					w.patch(ws, run, a.ID, r.Int64N(100_000), r.Int64N(100_000))
				}
			}
			b, err := w.Breakdown(t.Context(), ws, run)
			w.must(err)
			d, err := w.Run(t.Context(), ws, run, "")
			w.must(err)
			all := b.Other
			for _, p := range b.Parts {
				all.add(p)
			}
			got := [...]int64{int64(all.Cost), all.Steps, all.Denied, all.PromptTokens, all.CompletionTokens, all.UnpricedTokens}
			want := [...]int64{int64(d.Spend), d.StepCount, d.BlockedStepCount, d.PromptTokens, d.CompletionTokens, d.UnpricedTokens}
			if got != want {
				t.Errorf("the parts add up to %v, the run has %v", got, want)
			}
			var dearest Step
			for _, s := range d.Steps {
				if s.Cost != nil && (dearest.Cost == nil || *s.Cost > *dearest.Cost) {
					dearest = s
				}
			}
			if dearest.Cost != nil && *dearest.Cost > 0 && (b.Dearest == nil || *b.Dearest != dearest.ID) {
				t.Errorf("the most expensive step is %v, want %s", b.Dearest, dearest.ID)
			}
		})
	}
}

func TestNeighboursAreTheRunsBeforeAndAfter(t *testing.T) {
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	var ids []uuid.UUID
	for range 3 {
		ids = append(ids, w.start(ws, "u").ID)
		w.start(other, "u")
		w.Advance(time.Millisecond)
	}
	for i, id := range ids {
		n, err := w.Neighbours(t.Context(), ws, id)
		w.must(err)
		if (n.Newer == nil) != (i == 2) || n.Newer != nil && *n.Newer != ids[i+1] {
			t.Errorf("newer than run %d is %v", i, n.Newer)
		}
		if (n.Older == nil) != (i == 0) || n.Older != nil && *n.Older != ids[i-1] {
			t.Errorf("older than run %d is %v", i, n.Older)
		}
	}
}
