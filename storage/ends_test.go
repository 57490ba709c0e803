package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
)

// A model or a tool that works for hours is no crashed agent.
func TestRunWithAnOpenStepIsNotIdleUntilALongerTime(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.OpenStepTimeout = time.Hour })
	ws := w.unlimitedWorkspace()
	w.idleTimeout(ws, time.Minute)
	working, waiting := w.start(ws, "u"), w.start(ws, "u")
	early := w.step(ws, working.ID)
	for range 3 * segmentSteps { // the open step is in the oldest of several segments
		w.patch(ws, working.ID, w.step(ws, working.ID).ID, 1, 1)
	}
	w.patch(ws, waiting.ID, w.step(ws, waiting.ID).ID, 1, 1)
	w.Advance(2 * time.Minute)
	w.sweep(1)
	if d := w.detail(ws, working.ID); d.Status != RunRunning {
		t.Errorf("a run whose model works is %v", d.Status)
	}
	w.Set(noon().Add(time.Hour))
	w.sweep(0)
	w.Advance(time.Millisecond)
	w.sweep(1)
	if d := w.detail(ws, working.ID); d.Status != RunFailed || d.EndedBy != EndedByIdle {
		t.Errorf("an hour of silence: %+v", d.Run)
	}
	steps, _, err := readAllSteps(w, ws, working.ID)
	w.must(err)
	if i := slices.IndexFunc(steps, func(s Step) bool { return s.ID == early.ID }); i < 0 || steps[i].Status != StepAbandoned {
		t.Errorf("its open step, at %d of %d", i, len(steps))
	}

	w.idleTimeout(ws, 3*time.Hour) // the longer one holds, whichever it is
	patient := w.start(ws, "u")
	w.step(ws, patient.ID)
	w.Advance(2 * time.Hour)
	w.sweep(0)
	w.patch(ws, patient.ID, w.detail(ws, patient.ID).Steps[0].ID, 1, 1) // and the last step that closes ends its effect
	w.Advance(3*time.Hour + time.Millisecond)
	w.sweep(1)
	w.mustVerify()
}

func readAllSteps(w *world, ws WorkspaceKey, run uuid.UUID) (steps []Step, next string, err error) {
	for {
		d, err := w.Run(context.Background(), ws, run, next)
		if err != nil {
			return nil, "", err
		}
		if steps, next = append(steps, d.Steps...), d.NextSteps; next == "" {
			return steps, "", nil
		}
	}
}

func TestHoldersAreListedByTheirLastCall(t *testing.T) {
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	w.start(other, "u")
	var want []uuid.UUID
	for i := range 25 {
		run := w.start(ws, fmt.Sprint(i))
		want = append(want, run.ID)
		w.end(ws, w.start(ws, "ended").ID, RunCompleted)
		if i%5 != 0 { // some call at the same moment
			w.Advance(time.Second)
		}
	}
	w.Advance(time.Second)
	_, err := w.Heartbeat(t.Context(), Caller{Workspace: ws}, want[0], guard.Decide)
	w.must(err)
	want = append(want[1:], want[0])
	called := map[uuid.UUID]time.Time{}
	for _, id := range want {
		called[id] = w.detail(ws, id).LastCallAt
	}
	slices.SortFunc(want, func(a, b uuid.UUID) int { return cmp.Or(called[a].Compare(called[b]), slices.Compare(a[:], b[:])) })
	var got []uuid.UUID
	f := RunFilter{ByLastCall: true, Limit: 4}
	for more := true; more; more = f.Cursor != "" {
		runs, next, err := w.Runs(t.Context(), ws, f)
		w.must(err)
		for _, r := range runs {
			got = append(got, r.ID)
			if d := w.detail(ws, r.ID); !d.LastCallAt.Equal(r.LastCallAt) || r.Status != RunRunning {
				t.Errorf("listed as %+v", r)
			}
		}
		f.Cursor = next
	}
	if !slices.Equal(want, got) {
		t.Errorf("listed\n%v, want\n%v", got, want)
	}
	for name, cursor := range map[string]string{"another workspace's": cursor(listRunsByCall, int64(other), make([]byte, 24)), "of another list": cursor(listRuns, int64(ws), make([]byte, 16))} {
		if _, _, err := w.Runs(t.Context(), ws, RunFilter{ByLastCall: true, Limit: 1, Cursor: cursor}); !errors.Is(err, ErrBadCursor) {
			t.Errorf("a cursor that is %s: %v", name, err)
		}
	}
}

func TestManyRunsAreEndedAtOnce(t *testing.T) {
	w := newVerifiedWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	var silent []uuid.UUID
	for i := range 2*endsAtOnce + 7 {
		silent = append(silent, w.start(ws, fmt.Sprint(i)).ID)
	}
	theirs := w.start(other, "u")
	w.Advance(time.Hour)
	alive, named := w.start(ws, "alive"), w.start(ws, "named")
	w.step(ws, silent[3]) // as is this one
	ctx := WithActor(t.Context(), Actor{Kind: ActorCommand, Name: "test"})
	end := func(in EndsOfRuns) []uuid.UUID {
		t.Helper()
		in.Status, in.By = RunFailed, EndedByDashboard
		ended, more, err := w.EndRuns(ctx, ws, in)
		if err != nil || more {
			t.Errorf("%d ended, more %v, %v", len(ended), more, err)
		}
		return ended
	}
	want := append(append([]uuid.UUID{}, silent[:3]...), silent[4:]...)
	slices.SortFunc(want, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	if ended := end(EndsOfRuns{SilentSince: w.Now().Add(-time.Minute)}); !slices.Equal(ended, want) {
		t.Errorf("ended %v, want %v", ended, want)
	}
	if d := w.detail(ws, silent[0]); d.Status != RunFailed || d.EndedBy != EndedByDashboard || !d.EndedAt.Equal(w.Now()) {
		t.Errorf("a run that was ended: %+v", d.Run)
	}
	ids := []uuid.UUID{named.ID, named.ID, silent[0], theirs.ID, uuid.New()}
	if ended := end(EndsOfRuns{IDs: ids}); !slices.Equal(ended, ids[:1]) {
		t.Errorf("ended %v of %v", ended, ids)
	}
	if ended := end(EndsOfRuns{IDs: []uuid.UUID{}}); len(ended) != 0 {
		t.Errorf("ended %v of none", ended)
	}
	for id, status := range map[uuid.UUID]RunStatus{alive.ID: RunRunning, silent[3]: RunRunning, named.ID: RunFailed} {
		if d := w.detail(ws, id); d.Status != status {
			t.Errorf("%v is %v, want %v", id, d.Status, status)
		}
	}
	if n, theirs := w.number(slots, ws), w.number(slots, other); n != 2 || theirs != 1 {
		t.Errorf("%d and %d slots are taken, want 2 and 1", n, theirs)
	}
	entries, _, err := w.Audit(t.Context(), ws, AuditFilter{Action: ActionEndRuns, Limit: 10})
	w.must(err)
	var told []string
	for _, e := range entries {
		told = append(told, e.Actor.Name+" "+string(e.After))
	}
	slices.Sort(told)
	if want := []string{
		`test {"runs":1,"status":"FAILED"}`, `test {"runs":50,"status":"FAILED"}`,
		`test {"runs":50,"status":"FAILED"}`, `test {"runs":6,"status":"FAILED"}`,
	}; !slices.Equal(told, want) {
		t.Errorf("audit log: %q", told)
	}
}

// A run that calls after it was found is alive.
func TestEndingSilentRunsSparesOneThatCallsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ws := w.unlimitedWorkspace()
		run := w.start(ws, "u")
		w.Advance(time.Hour)
		release, both := w.hold(), make(chan error, 2)
		go func() {
			_, err := w.Heartbeat(t.Context(), Caller{Workspace: ws}, run.ID, guard.Decide)
			both <- err
		}()
		synctest.Wait()
		go func() {
			_, _, err := w.EndRuns(t.Context(), ws, EndsOfRuns{SilentSince: w.Now(), Status: RunFailed, By: EndedByDashboard})
			both <- err
		}()
		synctest.Wait()
		release()
		w.must(<-both)
		w.must(<-both)
		if d := w.detail(ws, run.ID); d.Status != RunRunning {
			t.Errorf("the run is %v", d.Status)
		}
	})
}
