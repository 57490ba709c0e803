package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
)

func (w *world) idleTimeout(ws WorkspaceKey, d time.Duration) {
	w.t.Helper()
	_, err := w.UpdateWorkspace(context.Background(), ws, WorkspaceChange{RunIdleTimeout: &d})
	w.must(err)
}

// detail reads a run with its steps.
func (w *world) detail(ws WorkspaceKey, run uuid.UUID) RunDetail {
	w.t.Helper()
	d, err := w.Run(context.Background(), ws, run, "")
	w.must(err)
	return d
}

func (w *world) sweep(want int) {
	w.t.Helper()
	if n, err := w.EndIdleRuns(context.Background()); n != want || err != nil {
		w.t.Errorf("%d idle runs ended, %v; want %d", n, err, want)
	}
}

const slots = `SELECT running_runs FROM workspaces WHERE id = $1`

func TestIdleSweepEndsExactlyTheIdleRuns(t *testing.T) {
	w := newWorld(t)
	short, long := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	w.idleTimeout(short, time.Minute)
	silent, ofLong, ended := w.start(short, "u"), w.start(long, "u"), w.start(short, "u")
	done := w.step(short, silent.ID)
	w.patch(short, silent.ID, done.ID, 1, 1)
	w.end(short, ended.ID, RunCompleted)
	beaten, stepped, patched := w.start(short, "u"), w.start(short, "u"), w.start(short, "u")
	step := w.step(short, patched.ID)
	w.Advance(time.Second)
	_, err := w.Heartbeat(t.Context(), Caller{Workspace: short}, beaten.ID, guard.Decide)
	w.must(err)
	w.patch(short, stepped.ID, w.step(short, stepped.ID).ID, 1, 1)
	w.patch(short, patched.ID, step.ID, 1, 1)

	w.Set(noon().Add(time.Minute))
	w.sweep(0) // not a moment longer than the timeout
	w.Advance(time.Millisecond)
	w.sweep(1)
	w.sweep(0)

	d := w.detail(short, silent.ID)
	if d.Status != RunFailed || d.EndedBy != EndedByIdle || !d.EndedAt.Equal(w.Now()) {
		t.Errorf("idle run: %+v", d.Run)
	}
	for name, r := range map[string]struct {
		ws  WorkspaceKey
		run Answer
	}{
		"heartbeat": {short, beaten}, "step": {short, stepped}, "patch": {short, patched},
		"the other workspace's timeout": {long, ofLong},
	} {
		if d := w.detail(r.ws, r.run.ID); d.Status != RunRunning {
			t.Errorf("run kept alive by %s: %v", name, d.Status)
		}
	}
	if s := w.detail(short, ended.ID); s.Status != RunCompleted || s.EndedBy != EndedByClient {
		t.Errorf("ended run: %+v", s.Run)
	}
	if n := w.number(slots, short); n != 3 {
		t.Errorf("%d slots are taken, want 3", n)
	}

	w.Advance(time.Second)
	w.sweep(3)
	w.Set(noon().Add(DefaultRunIdleTimeout + time.Millisecond))
	w.sweep(1)
	if a, b := w.number(slots, short), w.number(slots, long); a != 0 || b != 0 {
		t.Errorf("%d and %d slots are still taken", a, b)
	}
}

func TestIdleSweepSparesARunThatCallsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ws := w.unlimitedWorkspace()
		run := w.start(ws, "u")
		w.Advance(DefaultRunIdleTimeout + time.Second)
		release, both := w.hold(), make(chan error, 2)
		go func() {
			_, err := w.Heartbeat(t.Context(), Caller{Workspace: ws}, run.ID, func(r guard.Request, s guard.State) guard.Decision {
				w.Advance(DefaultRunIdleTimeout) // just not too long, once the sweep has its turn
				return guard.Decide(r, s)
			})
			both <- err
		}()
		synctest.Wait() // the heartbeat is queued
		go func() {
			n, err := w.EndIdleRuns(t.Context())
			both <- errors.Join(err, fewerThan(1, n))
		}()
		synctest.Wait() // the sweep has found the run, and is queued behind it
		release()
		w.must(errors.Join(<-both, <-both))
		if d := w.detail(ws, run.ID); d.Status != RunRunning {
			t.Errorf("the run is %v", d.Status)
		}
	})
}

func fewerThan(limit, n int) error {
	if n >= limit {
		return fmt.Errorf("%d, want fewer than %d", n, limit)
	}
	return nil
}

func TestClientsWordReplacesThatOfTheIdleSweep(t *testing.T) {
	ends := []RunStatus{RunCompleted, RunFailed, RunBlocked}
	for _, status := range ends {
		w := newWorld(t)
		ws := w.unlimitedWorkspace()
		w.start(ws, "keeps a slot")
		w.Advance(time.Minute)
		run := w.start(ws, "u")
		w.Advance(DefaultRunIdleTimeout)
		w.sweep(1)
		w.Advance(time.Millisecond)
		w.sweep(1)
		other := w.start(ws, "u") // in the slot that became free
		w.Advance(time.Minute)
		at := w.Now()
		if e := w.end(ws, run.ID, status); e.Status != status || !e.EndedAt.Equal(at) {
			t.Errorf("end: %+v", e)
		}
		d := w.detail(ws, run.ID)
		if d.Status != status || d.EndedBy != EndedByClient || !d.EndedAt.Equal(at) {
			t.Errorf("run: %+v", d.Run)
		}
		if n := w.number(slots, ws); n != 1 || w.detail(ws, other.ID).Status != RunRunning {
			t.Errorf("%d slots are taken, want 1", n)
		}
		w.Advance(time.Minute)
		if e := w.end(ws, run.ID, status); !e.EndedAt.Equal(at) {
			t.Errorf("ended again: %+v", e)
		}
		for _, other := range ends {
			var ended *EndedError
			_, err := w.EndRun(t.Context(), Caller{Workspace: ws}, run.ID, other, EndedByClient)
			if other != status && (!errors.As(err, &ended) || ended.Status != status) {
				t.Errorf("%v, then ended as %v: %v", status, other, err)
			}
		}
	}
}

// history makes a run that started at an instant and has a row of every kind.
func (w *world) history(ws WorkspaceKey, at time.Time, ended bool) (id uuid.UUID) {
	w.t.Helper()
	w.must(w.write(context.Background(), modeBulkSQL, func(tx *Tx) error {
		tx.now = at
		a, err := startRun(tx, Caller{Workspace: ws}, NewRun{UserID: "u", Metadata: []byte(`{}`), Idempotency: once(at.String(), "")}, allow, nil)
		if err != nil {
			return err
		}
		id = a.ID
		model, tokens := "gpt-4o", int64(500)
		step, err := createStep(tx, Caller{Workspace: ws}, id, NewStep{Type: 1, Model: &model, InputData: []byte(`{}`)}, allow, nil)
		if err != nil {
			return err
		}
		in := StepUpdate{PromptTokens: &tokens, OutputData: []byte(`1`)}
		if _, err := updateStep(tx, Caller{Workspace: ws}, id, step.ID, findInNewestSegments, in); err != nil {
			return err
		}
		tx.now = w.Now() // its key is young, whatever the age of the run
		_, err = createStep(tx, Caller{Workspace: ws}, id, NewStep{Type: 2, Idempotency: once("k", "")}, deny, nil)
		if err != nil || !ended {
			return err
		}
		_, err = endRun(tx, Caller{Workspace: ws}, id, RunCompleted, EndedByClient)
		return err
	}))
	return id
}

// rowsOf counts a run's rows by table; the run itself comes first.
func (w *world) rowsOf(runID int64) (counts []int64) {
	w.t.Helper()
	for _, table := range []string{
		"runs", "steps", "run_steps WHERE input_payload IS NOT NULL AND", "denials", "run_metadata", "idempotency_keys",
	} {
		key := "run_id"
		if table == "runs" {
			key = "id"
		}
		if !strings.HasSuffix(table, "AND") {
			table += " WHERE"
		}
		counts = append(counts, w.number(fmt.Sprintf(`SELECT count(*) FROM %s %s = $1`, table, key), runID))
	}
	return counts
}

func (w *world) internal(run uuid.UUID) int64 {
	w.t.Helper()
	return w.number(`SELECT id FROM runs WHERE uuid = $1`, run[:])
}

// figures are all that the usage pages show.
func (w *world) figures(ws WorkspaceKey) string {
	w.t.Helper()
	u, err := w.Usage(context.Background(), ws)
	w.must(err)
	days, err := w.DailyUsage(context.Background(), ws, 365, false)
	w.must(err)
	users, _, err := w.Users(context.Background(), ws, UserFilter{Limit: 10})
	w.must(err)
	return fmt.Sprintf("%+v\n%+v\n%+v", u, days, users)
}

// expirePiece deletes one piece of what is older than 90 days.
func (w *world) expirePiece(ws WorkspaceKey) (more bool) {
	w.t.Helper()
	w.must(w.write(context.Background(), modeSQL, func(tx *Tx) (err error) {
		_, more, err = expireChunk(tx, retention{ws, 90})
		return err
	}))
	return more
}

func TestRetentionDeletesWholeRunsByThePlanAndNoFigure(t *testing.T) {
	w := newWorld(t)
	type life struct {
		name string
		id   int64
		rows []int64
	}
	whole, none := []int64{1, 2, 1, 1, 1, 1}, make([]int64, 6)
	var lives []life
	var spaces []WorkspaceKey
	running := map[WorkspaceKey]uuid.UUID{}
	for _, plan := range plans.All() {
		ws := w.workspace(plan.ID)
		w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
		spaces = append(spaces, ws)
		edge := noon().AddDate(0, 0, -int(plan.RetentionDays))
		running[ws] = w.history(ws, edge.Add(-time.Hour), false)
		for _, l := range []struct {
			name string
			run  uuid.UUID
			rows []int64
		}{
			{"one millisecond too old", w.history(ws, edge.Add(-time.Millisecond), true), none},
			{"long too old", w.history(ws, edge.AddDate(-1, 0, 0), true), none},
			{"just not too old", w.history(ws, edge, true), whole},
			{"of today", w.history(ws, noon().Add(-time.Minute), true), whole},
			{"RUNNING", running[ws], whole},
		} {
			lives = append(lives, life{string(plan.ID) + ": " + l.name, w.internal(l.run), l.rows})
		}
	}
	var before []string
	for _, ws := range spaces {
		before = append(before, w.figures(ws))
	}

	if n, err := w.Expire(t.Context()); n != 2*len(spaces) || err != nil {
		t.Errorf("%d runs expired, %v", n, err)
	}
	for _, l := range lives {
		if got := w.rowsOf(l.id); !slices.Equal(got, l.rows) {
			t.Errorf("%s: rows %v, want %v", l.name, got, l.rows)
		}
	}
	for i, ws := range spaces {
		if diff := cmp.Diff(before[i], w.figures(ws)); diff != "" {
			t.Errorf("figures (-before +after):\n%s", diff)
		}
		w.end(ws, running[ws], RunCompleted)
	}
	if n, err := w.Expire(t.Context()); n != len(spaces) || err != nil {
		t.Errorf("%d runs expired once they had ended, %v", n, err)
	}
}

func TestExpireDeletesKeysOfMoreThanADay(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	const old = 501 // several pieces
	w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
		for i := range old {
			if err := saveAnswer(tx, ws, 0, once(fmt.Sprint("old", i), ""), Answer{}); err != nil {
				return err
			}
		}
		tx.now = tx.now.Add(time.Millisecond)
		return saveAnswer(tx, ws, 0, once("young", ""), Answer{})
	}))
	w.Advance(idempotencyTTL - time.Millisecond)
	_, err := w.Expire(t.Context())
	w.must(err)
	if n := w.number(countRows); n != old+1 {
		t.Errorf("%d keys of at most a day are left", n)
	}
	w.Advance(time.Millisecond)
	_, err = w.Expire(t.Context())
	w.must(err)
	if n := w.number(countRows); n != 1 || w.rows("young") != 1 {
		t.Errorf("%d keys are left, want the young one", n)
	}
}

// slowDeletions makes each deletion of a step take its time, in the time of
// the test's bubble.
func (w *world) slowDeletions(each time.Duration) {
	w.hooks().onQuery = func(query string, deleted int) error {
		if strings.HasPrefix(query, "DELETE FROM steps ") {
			time.Sleep(time.Duration(deleted) * each)
		}
		return nil
	}
}

func TestOtherWritesGetInBetweenTheDeletionOfALargeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ws := w.unlimitedWorkspace()
		run := w.start(ws, "u")
		const steps = 2_000
		seedSteps(t, w, ws, run.ID, steps)
		w.end(ws, run.ID, RunCompleted)
		w.Advance(91 * 24 * time.Hour)

		const perRow = 50 * time.Microsecond // a slice is over after one piece
		// A write waits for the slice that runs, and for one that shares its commit.
		const atMost = 2 * upkeepChunk
		w.slowDeletions(perRow)
		expired := make(chan error, 1)
		go func() {
			_, err := w.Expire(t.Context())
			expired <- err
		}()
		writes := 0
		for left := int64(steps); left > 0; {
			var now int64
			asked := time.Now()
			w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error { return tx.get(`SELECT count(*) FROM steps`, nil, &now) }))
			if waited := time.Since(asked); left-now > atMost || waited > atMost*perRow {
				t.Fatalf("a write waited %v, while %d steps were deleted", waited, left-now)
			}
			if now < left {
				writes++
			} else {
				time.Sleep(perRow) // lets the bubble's time, and so the rest between slices, go by
			}
			left = now
		}
		w.must(<-expired)
		if writes < steps/atMost {
			t.Errorf("only %d writes got in between", writes)
		}
		if n := w.number(`SELECT count(*) FROM runs`); n != 0 {
			t.Errorf("%d runs are left", n)
		}
	})
}

func TestUpkeepWaitsForAPlaceInAFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.QueueSize = 1 })
		ws := w.unlimitedWorkspace()
		w.start(ws, "u")
		w.Advance(DefaultRunIdleTimeout + time.Second)
		release := w.hold()
		queued := w.submit(t.Context(), add("row"))

		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 1)
		sweep := func(ctx context.Context) {
			_, err := w.EndIdleRuns(ctx)
			results <- err
		}
		go sweep(ctx)
		synctest.Wait()
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("upkeep that is told to stop: %v", err)
		}
		go sweep(t.Context())
		synctest.Wait()
		release()
		w.must(<-queued.done)
		w.must(<-results)
		if n := w.number(slots, ws); n != 0 {
			t.Errorf("%d slots are taken", n)
		}
	})
}

func TestASweepThatFailsEndsNoRunByHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where both runs are one slice's, however slow the machine
		w := newWorld(t)
		ws := w.unlimitedWorkspace()
		for range 2 {
			w.start(ws, "u")
		}
		w.clock.Advance(48 * time.Hour)
		w.cache.invalidateAll() // so that each run is read
		read := 0
		w.hooks().onQuery = func(query string, _ int) error {
			if strings.Contains(query, "FROM runs r WHERE") {
				if read++; read == 2 {
					return errors.New("a disk error")
				}
			}
			return nil
		}
		if n, err := w.EndIdleRuns(t.Context()); err == nil {
			t.Fatalf("ended %d runs though the disk failed", n)
		}
		runs := w.number(`SELECT count(*) FROM runs WHERE status = $1`, int64(RunRunning))
		running := w.number(`SELECT running_runs FROM workspaces WHERE id = $1`, int64(ws))
		if runs != 2 || running != 2 {
			t.Errorf("after the failure %d runs are RUNNING, %d counted; want 2 of each", runs, running)
		}
	})
}

// Where nothing has expired, no writer is asked for a workspace or for a policy: most passes are so.
func TestAPassWithNothingToExpireWritesForNoWorkspace(t *testing.T) {
	w := newWorld(t)
	var steps []uuid.UUID
	for i := range 5 {
		ws := w.unlimitedWorkspace()
		run := w.start(ws, "u").ID
		var step uuid.UUID
		w.must(w.taking(ws, run, []byte(`{"a":"text"}`), &step)())
		steps = append(steps, step)
		w.end(ws, run, RunCompleted)
		p, err := policies.Parse(fmt.Sprint("p", i), []byte(`{"limit":{"measure":"calls","per":"user","window":"hour","amount":9},"effect":"deny"}`))
		w.must(err)
		_, err = w.SavePolicy(t.Context(), ws, p)
		w.must(err)
	}
	written := func() (batches uint64) {
		before := w.Stats().Batches.Counts
		_, err := w.Expire(t.Context())
		w.must(err)
		for i, n := range w.Stats().Batches.Counts {
			batches += n - before[i]
		}
		return batches
	}
	const forAll = 2 // keys and sessions of any workspace
	if n := written(); n != forAll {
		t.Errorf("a pass with nothing to do has %d writes, want %d", n, forAll)
	}
	if n := w.number(blocks); n != int64(len(steps)) {
		t.Errorf("%d blocks are left", n)
	}
	w.Advance(10 * 365 * 24 * time.Hour)
	if n := written(); n <= forAll {
		t.Errorf("a pass over expired runs has %d writes", n)
	}
	if n := w.number(blocks); n != 0 {
		t.Errorf("%d blocks are left of runs that have expired", n)
	}
	if n := written(); n != forAll {
		t.Errorf("the pass after it has %d writes, want %d", n, forAll)
	}
}
