package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// once is an idempotency key used with a body, whose answer is kept as a text
// that no other answer has.
func once(key, body string) Idempotency {
	return Idempotency{
		Key: key, Fingerprint: sha256.Sum256([]byte(body)),
		Encode: func(a Answer) []byte { return fmt.Appendf(nil, "%s %s %s\x00\xff", a.ID, a.Status, a.Decision.Reason) },
	}
}

func (w *world) tryStart(ws WorkspaceKey, in Idempotency) (Answer, error) {
	return w.StartRun(context.Background(), Caller{Workspace: ws}, NewRun{UserID: "u", Idempotency: in}, guard.Decide)
}

func (w *world) tryStep(ws WorkspaceKey, run uuid.UUID, in Idempotency) (Answer, error) {
	step := NewStep{Type: 1, Sequence: 1, Idempotency: in}
	return w.CreateStep(context.Background(), Caller{Workspace: ws}, run, step, guard.Decide)
}

// mustReplay wants the first answer's body, and nothing else.
func (w *world) mustReplay(first Answer, a Answer, err error) {
	w.t.Helper()
	want := string(once("", "").Encode(first))
	if err != nil || string(a.Replay) != want || a.ID != uuid.Nil || a.Status != "" {
		w.t.Errorf("answer %+v, %v; want the replay of %q alone", a, err, want)
	}
}

// mustBeNew wants an answer of its own.
func (w *world) mustBeNew(a Answer, err error) {
	w.t.Helper()
	if err != nil || a.Replay != nil || a.ID == uuid.Nil {
		w.t.Errorf("answer %+v, %v; want a new one", a, err)
	}
}

// ledger counts whatever a start or a step could have changed.
func (w *world) ledger() string {
	w.t.Helper()
	return fmt.Sprint(
		w.number(`SELECT count(*) FROM runs`), w.number(`SELECT count(*) FROM steps`), w.number(`SELECT count(*) FROM denials`),
		w.number(`SELECT sum(running_runs) FROM workspaces`), w.number(`SELECT coalesce(sum(step_count), 0) FROM runs`),
		w.number(`SELECT coalesce(sum(run_count + blocked_run_count), 0) FROM workspace_days`),
		w.number(`SELECT coalesce(sum(run_count), 0) FROM users`), w.number(`SELECT count(*) FROM idempotency_keys`),
		w.number(`SELECT coalesce(max(last_call_at), 0) FROM runs`))
}

func TestRepeatedKeyReplaysTheFirstAnswerAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run, err := w.tryStart(ws, once("k", "body"))
	w.mustBeNew(run, err)
	step, err := w.tryStep(ws, run.ID, once("k", "body")) // the same key of a run is another one
	w.mustBeNew(step, err)

	before := w.ledger()
	w.Advance(time.Hour)
	again, err := w.tryStart(ws, once("k", "body"))
	w.mustReplay(run, again, err)
	again, err = w.tryStep(ws, run.ID, once("k", "body"))
	w.mustReplay(step, again, err)
	if after := w.ledger(); after != before {
		t.Errorf("ledger was %s, is %s", before, after)
	}
}

func TestRepeatedKeyReplaysWhateverHasHappenedSince(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run, err := w.tryStart(ws, once("k", "body"))
	w.must(err)
	step, err := w.tryStep(ws, run.ID, once("k", "body"))
	w.must(err)
	w.end(ws, run.ID, RunCompleted)
	_, err = w.SetKillSwitch(t.Context(), ws, true, "")
	w.must(err)
	again, err := w.tryStart(ws, once("k", "body"))
	w.mustReplay(run, again, err)
	again, err = w.tryStep(ws, run.ID, once("k", "body"))
	w.mustReplay(step, again, err)
}

func TestRepeatedKeyReplaysADenialToo(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u")
	_, err := w.SetKillSwitch(t.Context(), ws, true, "")
	w.must(err)
	deniedRun, err := w.tryStart(ws, once("k", "body"))
	w.must(err)
	deniedStep, err := w.tryStep(ws, run.ID, once("k", "body"))
	w.must(err)
	if deniedRun.Decision.Allowed() || deniedStep.Decision.Allowed() {
		t.Fatalf("not denied: %+v, %+v", deniedRun, deniedStep)
	}
	_, err = w.SetKillSwitch(t.Context(), ws, false, "")
	w.must(err)
	again, err := w.tryStart(ws, once("k", "body"))
	w.mustReplay(deniedRun, again, err)
	again, err = w.tryStep(ws, run.ID, once("k", "body"))
	w.mustReplay(deniedStep, again, err)
}

func TestKeyWithAnotherBodyIsRefused(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run, err := w.tryStart(ws, once("k", "body"))
	w.must(err)
	_, err = w.tryStep(ws, run.ID, once("k", "body"))
	w.must(err)
	before := w.ledger()
	if _, err := w.tryStart(ws, once("k", "other")); !errors.Is(err, ErrKeyReused) {
		t.Errorf("start: %v", err)
	}
	if _, err := w.tryStep(ws, run.ID, once("k", "other")); !errors.Is(err, ErrKeyReused) {
		t.Errorf("step: %v", err)
	}
	if after := w.ledger(); after != before {
		t.Errorf("ledger was %s, is %s", before, after)
	}
}

func TestKeysOfOtherRunsAndWorkspacesAreOthers(t *testing.T) {
	w := newWorld(t)
	for _, ws := range []WorkspaceKey{w.unlimitedWorkspace(), w.unlimitedWorkspace()} {
		run, err := w.tryStart(ws, once("k", "body"))
		w.mustBeNew(run, err)
		for _, id := range []uuid.UUID{run.ID, w.start(ws, "u").ID} {
			step, err := w.tryStep(ws, id, once("k", "body"))
			w.mustBeNew(step, err)
			step, err = w.tryStep(ws, id, once("K", "body"))
			w.mustBeNew(step, err)
		}
	}
}

func TestCallsWithoutAKeyAreNeverReplayed(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	for range 2 {
		run, err := w.tryStart(ws, Idempotency{})
		w.mustBeNew(run, err)
		for range 2 {
			step, err := w.tryStep(ws, run.ID, Idempotency{})
			w.mustBeNew(step, err)
		}
	}
}

func TestKeyExpiresAfterADay(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	first, err := w.tryStart(ws, once("k", "body"))
	w.must(err)
	w.Advance(24*time.Hour - time.Millisecond)
	again, err := w.tryStart(ws, once("k", "body"))
	w.mustReplay(first, again, err)
	w.Advance(time.Millisecond)
	second, err := w.tryStart(ws, once("k", "another body")) // it is free, so any body will do
	w.mustBeNew(second, err)
	w.Advance(24*time.Hour - time.Millisecond) // and now kept for a day again
	again, err = w.tryStart(ws, once("k", "another body"))
	w.mustReplay(second, again, err)
}

func TestKeyUsedByManyAtOnceStartsOneRun(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u")
	const callers = 50
	starts, steps := make(chan Answer, callers), make(chan Answer, callers)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			a, err := w.tryStart(ws, once("k", "body"))
			b, err2 := w.tryStep(ws, run.ID, once("k", "body"))
			if err := errors.Join(err, err2); err != nil {
				t.Error(err)
			}
			starts <- a
			steps <- b
		})
	}
	wg.Wait()
	for name, answers := range map[string]chan Answer{"starts": starts, "steps": steps} {
		bodies := map[string]int{}
		firsts := 0
		for range callers {
			a := <-answers
			if a.Replay == nil {
				firsts++
				a.Replay = once("", "").Encode(a)
			}
			bodies[string(a.Replay)]++
		}
		if firsts != 1 || len(bodies) != 1 {
			t.Errorf("%s: %d first answers, bodies %v", name, firsts, bodies)
		}
	}
	if runs, steps := w.number(`SELECT count(*) FROM runs`), w.number(`SELECT count(*) FROM steps`); runs != 2 || steps != 1 {
		t.Errorf("%d runs and %d steps", runs, steps)
	}
}

func TestCallThatWasRolledBackKeepsNoKey(t *testing.T) {
	w := newWorld(t)
	ws := w.workspace(plans.Basic)
	run := w.start(ws, "u")
	before := w.ledger()

	w.onCommit(func() bool { return false }) // all of it is done, and then lost
	if _, err := w.tryStart(ws, once("k", "body")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("start: %v", err)
	}
	if _, err := w.tryStep(ws, run.ID, once("k", "body")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("step: %v", err)
	}
	w.onCommit(nil)
	broken := once("k", "body")
	broken.Encode = func(Answer) []byte { panic("broken") }
	if _, err := w.tryStart(ws, broken); !errors.Is(err, errJobPanicked) {
		t.Errorf("start: %v", err)
	}
	if _, err := w.tryStep(ws, uuid.New(), once("k", "body")); !errors.Is(err, ErrNotFound) {
		t.Errorf("step of no run: %v", err)
	}
	if after := w.ledger(); after != before {
		t.Errorf("ledger was %s, is %s", before, after)
	}

	again, err := w.tryStart(ws, once("k", "body"))
	w.mustBeNew(again, err)
	again, err = w.tryStep(ws, run.ID, once("k", "body"))
	w.mustBeNew(again, err)
}
