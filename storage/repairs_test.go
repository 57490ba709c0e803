package storage

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/guard"
)

func TestEachRepairedFieldHasItsName(t *testing.T) {
	for _, fields := range [][]string{nil, {"metadata"}, {"error", "prompt_tokens"}, {"completion_tokens", "other"}, AllRepairs.Fields()} {
		if diff := cmp.Diff(fields, RepairsOf(fields).Fields()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", fields, diff)
		}
	}
	if got := RepairsOf([]string{"a", "b"}); got != RepairedOther {
		t.Errorf("unknown fields are %b, want %b", got, RepairedOther)
	}
}

func TestRepairsAddUpAndExpireWithTheirRun(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	c := Caller{Workspace: ws}
	run, err := w.StartRun(t.Context(), c, NewRun{UserID: "ada", Repairs: RepairsOf([]string{"metadata"})}, guard.Decide)
	w.must(err)
	step, err := w.CreateStep(t.Context(), c, run.ID, NewStep{Type: 1, Sequence: 1, Repairs: RepairsOf([]string{"model"})}, guard.Decide)
	w.must(err)
	_, err = w.UpdateStep(t.Context(), c, run.ID, step.ID, StepUpdate{Repairs: RepairsOf([]string{"error", "x"})})
	w.must(err)
	w.must(w.RepairRun(t.Context(), c, run.ID, RepairedOther))
	d, err := w.Run(t.Context(), ws, run.ID, "")
	w.must(err)
	if diff := cmp.Diff([]string{"metadata", "other"}, d.Repairs.Fields()); diff != "" {
		t.Errorf("the run (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"error", "model", "other"}, d.Steps[0].Repairs.Fields()); diff != "" {
		t.Errorf("the step (-want +got):\n%s", diff)
	}
	w.end(ws, run.ID, RunCompleted)
	w.clock.Advance(400 * 24 * time.Hour)
	_, err = w.Expire(t.Context())
	w.must(err)
	if n := w.number(`SELECT count(*) FROM repairs`); n != 0 {
		t.Errorf("%d repairs outlive their run", n)
	}
}
