package storage

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/storage/verify"
)

const (
	segmentsOfRun = `SELECT count(*) FROM run_segments WHERE run_id = $1`
	fullest       = `SELECT max(n) FROM (SELECT count(*) AS n FROM steps GROUP BY segment) s`
)

// interleaved makes some runs that ask for a step in turn.
func (w *world) interleaved(ws WorkspaceKey, runs, steps int) (ids []uuid.UUID, all map[uuid.UUID][]uuid.UUID) {
	w.t.Helper()
	all = make(map[uuid.UUID][]uuid.UUID)
	for range runs {
		ids = append(ids, w.start(ws, "u").ID)
	}
	for i := range steps {
		for _, run := range ids {
			in := NewStep{Type: 1, Sequence: int64(i)}
			a, err := w.CreateStep(context.Background(), Caller{Workspace: ws}, run, in, guard.Decide)
			w.must(err)
			all[run] = append(all[run], a.ID)
		}
	}
	return ids, all
}

func TestStepsOfManySegmentsAreOneRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	runs, steps := w.interleaved(ws, 3, 450) // 1350 steps are three segments
	if n, most := w.number(`SELECT count(DISTINCT segment) FROM steps`), w.number(fullest); n != 3 || most != segmentSteps {
		t.Errorf("%d segments of at most %d steps", n, most)
	}
	for _, run := range runs {
		if n := w.number(segmentsOfRun, w.internal(run)); n != 3 {
			t.Errorf("a run is listed in %d segments", n)
		}
		reported := []int{0, 200, 449} // in each of the three
		for _, i := range reported {
			if s := w.patch(ws, run, steps[run][i], 1, 1); s.Status != StepCompleted {
				t.Errorf("step %d: %+v", i, s)
			}
		}
		w.end(ws, run, RunCompleted)
		for i, s := range w.detail(ws, run).Steps {
			if s.ID != steps[run][i] || s.Sequence != int64(i) {
				t.Fatalf("step %d is %v, sequence %d", i, s.ID, s.Sequence)
			}
			if want := map[bool]StepStatus{true: StepCompleted, false: StepAbandoned}[slices.Contains(reported, i)]; s.Status != want {
				t.Fatalf("step %d is %v, want %v", i, s.Status, want)
			}
		}
	}
	w.mustVerify()
	w.mustRememberTheTruth()

	w.Advance(91 * 24 * time.Hour)
	n, err := w.Expire(t.Context())
	if left := w.number(`SELECT (SELECT count(*) FROM steps) + (SELECT count(*) FROM run_segments)`); n != 3 || left != 0 || err != nil {
		t.Errorf("%d runs expired, %d rows are left, %v", n, left, err)
	}
}

// Which of them a step is in, the writer looks up only in the newest.
func TestAStepOfLongAgoIsUpdated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	first := w.step(ws, run)
	for range 2 * searchedSegments {
		w.must(w.write(t.Context(), modeCached, func(tx *Tx) error { tx.cache.segment++; return nil }))
		w.step(ws, run)
	}
	if s := w.patch(ws, run, first.ID, 7, 7); s.ID != first.ID || s.PromptTokens != 7 {
		t.Errorf("%+v", s)
	}
	_, err := w.UpdateStep(t.Context(), Caller{Workspace: ws}, run, uuid.New(), StepUpdate{Status: StepFailed})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("a step that is none: %v", err)
	}
	w.mustVerify()
}

// A store that opens goes on in a segment of its own: it does not know how full the last one is.
func TestSegmentsGoOnWhereTheyEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	for i := range 3 {
		w.step(ws, run)
		w.reopen()
		if n := w.number(`SELECT max(segment) FROM steps`); n != int64(i+1) {
			t.Errorf("segment %d after %d starts", n, i+1)
		}
	}
	if n := len(w.detail(ws, run).Steps); n != 3 {
		t.Errorf("the run has %d steps", n)
	}
	w.mustVerify()
}

// What a failed job listed is not listed, and the run must not believe it is.
func TestAStepThatFailsListsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	broken := errors.New("broken")
	err := w.write(t.Context(), modeCached, func(tx *Tx) error {
		r, err := tx.cache.runs.get(tx, runKey{ws, run})
		if err == nil {
			_, err = insertStep(tx, &cachedWorkspace{key: ws}, r, NewStep{Type: 1}, guard.Decision{}, "")
		}
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) || w.number(segmentsOfRun, w.internal(run)) != 0 {
		t.Fatalf("%v", err)
	}
	w.step(ws, run)
	w.mustVerify()
	w.mustRememberTheTruth()
}

// Retention deletes a run in pieces, and an agent may ask for a step of it in between.
func TestAStepBetweenThePiecesOfItsRunsDeletionIsListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	// So many keys keep the run for another piece when its steps are gone.
	_, err := w.otherProcess.ExecContext(t.Context(), `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
		INSERT INTO idempotency_keys SELECT $2, $3, i, $4, $4, 0 FROM n`, upkeepChunk+1, ws, w.internal(run), []byte{})
	w.must(err)
	w.step(ws, run)
	w.end(ws, run, RunCompleted)
	w.Advance(91 * 24 * time.Hour)
	if more, left := w.expirePiece(ws), w.number(`SELECT count(*) FROM steps`); !more || left != 0 {
		t.Fatalf("%d steps are left, more to delete: %v", left, more)
	}
	w.step(ws, run) // denied: the run has ended
	w.mustVerify()
	w.mustRememberTheTruth()
	for w.expirePiece(ws) {
	}
	if left := w.number(`SELECT (SELECT count(*) FROM steps) + (SELECT count(*) FROM run_segments) + (SELECT count(*) FROM denials)`); left != 0 {
		t.Errorf("%d rows are left", left)
	}
}

// A damaged row must not keep all others from expiring.
func TestADenialOfNoStepExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	for range 2 {
		w.end(ws, w.start(ws, "u").ID, RunCompleted)
	}
	_, err := w.otherProcess.ExecContext(t.Context(), `INSERT INTO denials VALUES (1, $1, 2, 0, 0, NULL, NULL, NULL)`, []byte{1, 2})
	w.must(err)
	w.Advance(91 * 24 * time.Hour)
	if n, err := w.Expire(t.Context()); n != 2 || err != nil {
		t.Errorf("%d runs expired, %v", n, err)
	}
}

func TestRepairListsStepsUnderTheirRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	runs, _ := w.interleaved(ws, 2, 300)
	w.elsewhere(`DELETE FROM run_segments WHERE run_id = $1`, w.internal(runs[0]))
	w.elsewhere(`INSERT INTO run_segments VALUES ($1, 77), (99, 1)`, w.internal(runs[0]))
	if n := len(w.detail(ws, runs[0]).Steps); n != 0 {
		t.Fatalf("%d steps are listed", n)
	}
	report := w.verify(verify.Options{Repair: true})
	if report.Found != 4 || !report.Clean() || report.Differences[0].Check != "run_segments" {
		t.Errorf("%+v", report)
	}
	if n := len(w.detail(ws, runs[0]).Steps); n != 300 {
		t.Errorf("%d steps are listed after the repair", n)
	}
	w.mustVerify()
}
