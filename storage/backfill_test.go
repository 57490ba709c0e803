package storage

import (
	"errors"
	"testing"
	"time"

	"github.com/pikarc/server/guard"
)

func TestThePastIsBookedOnItsOwnDays(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 1_000_000, 1_000_000)
	in := w.watch()
	then := noon().AddDate(0, 0, -3)
	model, tokens, reason := "gpt-4o", int64(10), "loops"
	var run Answer
	w.must(w.WriteBackfill(t.Context(), func(p Backfill) (err error) {
		if run, err = p.StartRun(then, ws, NewRun{UserID: "u", Metadata: []byte(`{"task":"of then"}`)}, guard.Decide); err != nil {
			return err
		}
		step, err := p.CreateStep(then.Add(time.Second), ws, run.ID, NewStep{Type: 1, Sequence: 1, Model: &model}, guard.Decide)
		if err != nil {
			return err
		}
		if err := p.UpdateStep(then.Add(2*time.Second), ws, run.ID, step.ID, StepUpdate{Status: StepCompleted, PromptTokens: &tokens}); err != nil {
			return err
		}
		if err := p.EndRun(then.Add(3*time.Second), ws, run.ID, RunCompleted, EndedByClient); err != nil {
			return err
		}
		if err := p.BlockUser(then.Add(4*time.Second), ws, "u", &reason); err != nil {
			return err
		}
		denied, err := p.StartRun(then.AddDate(0, 0, 1), ws, NewRun{UserID: "u"}, guard.Decide)
		if denied.Decision.Reason != guard.UserBlocked {
			t.Errorf("after the block: %+v", denied)
		}
		return err
	}))
	d, err := w.Run(t.Context(), ws, run.ID, "")
	w.must(err)
	if !d.StartedAt.Equal(then) || !d.EndedAt.Equal(then.Add(3*time.Second)) || !d.Steps[0].CompletedAt.Equal(then.Add(2*time.Second)) || d.Title != "of then" {
		t.Errorf("run %+v", d)
	}
	w.mustHaveBooked(ws, then, 10*microUSD, 10, 0)
	if next := w.day(ws, then.AddDate(0, 0, 1)); next.Denials != 1 || next.BlockedRuns != 1 {
		t.Errorf("the day after: %+v", next)
	}
	if got := in.all(w); len(got) != 0 {
		t.Errorf("the past is told as news: %+v", got)
	}
}

func TestAPastThatFailsLeavesNothing(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	broken := errors.New("broken")
	err := w.WriteBackfill(t.Context(), func(p Backfill) error {
		_, err := p.StartRun(noon().AddDate(0, 0, -1), ws, NewRun{UserID: "u"}, guard.Decide)
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) || w.number(`SELECT count(*) FROM runs`) != 0 {
		t.Errorf("%v, and runs are left", err)
	}
}
