package storage

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// changeRecorder collects what a watcher is changeRecorder, and whether it was committed by then.
type changeRecorder struct {
	sync.Mutex
	batches [][]Change
	early   bool // a run was told that nobody else could read yet
}

// watch watches the store of a world.
func (w *world) watch() *changeRecorder {
	w.t.Helper()
	in := &changeRecorder{}
	w.must(w.Watch(context.Background(), in.listen(w)))
	return in
}

func (in *changeRecorder) listen(w *world) func([]Change) {
	return func(list []Change) {
		in.Lock()
		defer in.Unlock()
		for _, c := range list {
			if c.Run != 0 && w.number(`SELECT count(*) FROM runs WHERE id = $1`, c.Run) == 0 {
				in.early = true
			}
		}
		in.batches = append(in.batches, list)
	}
}

// all are the changes told, once the writer has told what was committed before.
func (in *changeRecorder) all(w *world) (list []Change) {
	w.t.Helper()
	w.must(w.write(context.Background(), modeBulkSQL, func(*Tx) error { return nil })) // after which the batch before is told
	in.Lock()
	defer in.Unlock()
	for _, batch := range in.batches {
		list = append(list, batch...)
	}
	return list
}

func TestEveryChangeIsToldInItsOrder(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	in := w.watch()
	run := w.start(ws, "u")
	step := w.step(ws, run.ID)
	w.patch(ws, run.ID, step.ID, 5, 5)
	w.patch(ws, run.ID, step.ID, 5, 5) // repeats, and changes nothing
	tool := w.step(ws, run.ID)
	w.patch(ws, run.ID, tool.ID, 0, 0) // ends without a token
	_, err := w.SetKillSwitch(t.Context(), ws, true, "")
	w.must(err)
	denied := w.step(ws, run.ID)
	w.start(ws, "v")
	w.end(ws, run.ID, RunFailed)
	w.end(ws, run.ID, RunFailed) // has ended already
	_, err = w.BlockUser(t.Context(), ws, "u", nil)
	w.must(err)
	w.price(ws, "m", 1, 1)
	enterprise, err := plans.ByID(plans.Enterprise)
	w.must(err)
	_, err = w.SetPlan(t.Context(), ws, enterprise)
	w.must(err)
	_, err = w.RotateKey(t.Context(), ws, Rotation{Label: "k"})
	w.must(err)
	_, err = w.ChangePassword(t.Context(), w.owner(ws), "x", "y", NewSession{})
	w.must(err)

	config := func(part ConfigPart) Change { return Change{Workspace: ws, Kind: ConfigChanged, Part: part} }
	want := []Change{
		{Workspace: ws, Kind: RunStarted, Run: 1},
		{Workspace: ws, Kind: RunProgressed, Run: 1}, {Workspace: ws, Kind: RunProgressed, Run: 1},
		{Workspace: ws, Kind: ModelUnpriced, Run: 1, Step: step.ID, Model: "gpt-4o"},
		{Workspace: ws, Kind: RunProgressed, Run: 1}, {Workspace: ws, Kind: RunProgressed, Run: 1},
		config(PartWorkspace),
		{Workspace: ws, Kind: StepDenied, Run: 1, Denial: &Denial{denied.ID, denied.Decision}},
		{Workspace: ws, Kind: RunDenied, Run: 2},
		{Workspace: ws, Kind: RunEnded, Run: 1},
		config(PartUsers), config(PartPrices), config(PartPlan), config(PartAPIKey),
		{Workspace: ws, Kind: CredentialsChanged}, {Workspace: ws, Kind: CredentialsChanged},
	}
	if diff := gocmp.Diff(want, in.all(w)); diff != "" || in.early {
		t.Errorf("told before the commit: %v; changes (-want +got):\n%s", in.early, diff)
	}
}

// owner is the account of a workspace.
func (w *world) owner(ws WorkspaceKey) (id [16]byte) {
	w.t.Helper()
	var raw []byte
	w.must(w.otherProcess.QueryRowContext(context.Background(), `SELECT a.uuid FROM accounts a JOIN workspaces w
		ON w.account_id = a.id WHERE w.id = $1`, ws).Scan(&raw))
	copy(id[:], raw)
	return id
}

func TestIdleRunsAreToldAsEnded(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.start(ws, "u")
	in := w.watch()
	w.Advance(2 * DefaultRunIdleTimeout)
	if n, err := w.EndIdleRuns(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d runs ended, %v", n, err)
	}
	if diff := gocmp.Diff([]Change{{Workspace: ws, Kind: RunEnded, Run: 1}}, in.all(w)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestWhatIsRolledBackIsNeverTold(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	in := w.watch()
	note := func(run int64, err error) func(*Tx) error {
		return func(tx *Tx) error {
			tx.recordChange(Change{Workspace: ws, Kind: RunStarted})
			tx.recordChange(Change{Workspace: WorkspaceKey(run), Kind: RunEnded})
			return err
		}
	}
	release := w.hold()
	broken := errors.New("broken")
	var jobs []*job
	for i, err := range []error{nil, broken, nil, broken} {
		jobs = append(jobs, w.submit(t.Context(), note(int64(i), err)))
	}
	jobs = append(jobs, w.submit(t.Context(), func(tx *Tx) error { panic(note(4, nil)(tx)) }))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	jobs = append(jobs, w.submit(gone, note(5, nil)))
	release()
	for _, j := range jobs {
		<-j.done
	}
	kept := func(run WorkspaceKey) []Change {
		return []Change{{Workspace: ws, Kind: RunStarted}, {Workspace: run, Kind: RunEnded}}
	}
	if diff := gocmp.Diff(append(kept(0), kept(2)...), in.all(w)); diff != "" {
		t.Errorf("changes of a batch in which some writes failed (-want +got):\n%s", diff)
	}

	w.onCommit(func() bool { return false })
	if _, err := w.StartRun(t.Context(), Caller{Workspace: ws}, NewRun{UserID: "u"}, guard.Decide); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("the commit did not fail: %v", err)
	}
	w.onCommit(nil)
	if got := in.all(w); len(got) != 4 {
		t.Errorf("a batch whose commit failed was told: %+v", got[4:])
	}
}

func TestNobodyWatchingCollectsNothing(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	in := w.watch()
	w.Unwatch()
	w.start(ws, "u")
	if got := in.all(w); len(got) != 0 || len(w.publisher.pending) != 0 || cap(w.publisher.pending) != 0 {
		t.Errorf("after Unwatch %d changes are told, %d kept", len(got), cap(w.publisher.pending))
	}
}

// A batch that began before Watch was called has committed when it returns, or is told.
func TestNothingIsLostBetweenWatchAndRead(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	release := w.hold() // a batch has begun, and nobody watches
	start := make(chan error)
	go func() {
		_, err := w.StartRun(context.Background(), Caller{Workspace: ws}, NewRun{UserID: "u"}, guard.Decide)
		start <- err
	}()
	in, watching := &changeRecorder{}, make(chan error)
	go func() { watching <- w.Watch(context.Background(), in.listen(w)) }()
	release()
	w.must(<-watching)
	read := w.number(`SELECT count(*) FROM runs`)
	w.must(<-start)
	if told := len(in.all(w)); int(read)+told < 1 {
		t.Errorf("a run is neither read nor told")
	}
}

func TestOnlyAnotherProcessHasChangedItElsewhere(t *testing.T) {
	w := newWorld(t)
	ws, quiet, quietToo := w.unlimitedWorkspace(), w.unlimitedWorkspace(), false
	other := w.second()
	elsewhere := func(want bool) {
		t.Helper()
		got, err := w.ChangedElsewhere(t.Context(), []WorkspaceKey{ws, quiet})
		if slices.Contains(got, ws) != want || err != nil {
			t.Errorf("changed elsewhere: %v, %v, want %v", got, err, want)
		}
		quietToo = slices.Contains(got, quiet)
	}
	w.must(w.FollowElsewhere(t.Context(), ws)) // from here on
	w.must(w.FollowElsewhere(t.Context(), quiet))
	_, err := w.ChangedElsewhere(t.Context(), []WorkspaceKey{ws, quiet})
	w.must(err)
	w.start(ws, "u")
	elsewhere(false)
	w.must(w.write(t.Context(), modeBulkSQL, writeProbe)) // of no workspace alone
	elsewhere(false)
	before, err := w.Config(t.Context(), ws)
	w.must(err)
	pro, err := plans.ByID(plans.Pro)
	w.must(err)
	_, err = other.SetPlan(t.Context(), ws, pro)
	w.must(err)
	elsewhere(true)
	elsewhere(false)
	_, err = other.StartRun(t.Context(), Caller{Workspace: ws}, NewRun{UserID: "there"}, guard.Decide)
	w.must(err)
	w.start(ws, "here") // by which the writer has seen the other's
	elsewhere(true)
	if onPostgres != nil && quietToo {
		t.Errorf("%d is told of, which nobody has changed", quiet)
	}
	elsewhere(false)
	after, err := w.Config(t.Context(), ws)
	w.must(err)
	if before == after || after.Workspace.Plan != pro || before.Keys != after.Keys {
		t.Errorf("configuration before %+v and after %+v", before, after)
	}
}

func TestAMomentIsOfItsWorkspaceAlone(t *testing.T) {
	w := newVerifiedWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 1_000_000, 1_000_000)
	run := w.start(ws, "u")
	w.patch(ws, run.ID, w.step(ws, run.ID).ID, 3, 4)
	w.start(other, "u")
	m, err := w.Snapshot(t.Context(), ws, []int64{1, 1, 2, 404})
	w.must(err)
	if len(m.Runs) != 1 || m.Runs[1].ID != run.ID || m.RunningRuns != 1 || m.Today.Tokens != 7 || m.Today.Spend != 7*microUSD {
		t.Errorf("moment %+v", m)
	}
}

func TestAChangeElsewhereOutlivesACommitThatFails(t *testing.T) {
	w := newWorld(t)
	_, err := w.externalCommits(t.Context())
	w.must(err)
	_, err = w.otherProcess.ExecContext(t.Context(), `INSERT INTO probes (id, checked_at) VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET checked_at = probes.checked_at + 1`)
	w.must(err)
	w.onCommit(func() bool { return false })
	if _, err := w.ChangedElsewhere(t.Context(), []WorkspaceKey{1}); err == nil {
		t.Fatal("the commit did not fail")
	}
	w.onCommit(nil)
	changed, err := w.ChangedElsewhere(t.Context(), []WorkspaceKey{1})
	if err != nil || len(changed) == 0 {
		t.Errorf("after a failed commit: changed %v, %v", changed, err)
	}
}

// A page reads before its stream is open: how long nothing has changed tells whether it lacks anything.
func TestItIsQuietSinceTheLastChangeWhoeverMadeIt(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	quiet := func(want time.Duration) {
		t.Helper()
		if onPostgres != nil {
			want = 0 // where others decide too it is not known
		}
		got, err := w.Quiet(t.Context())
		if got != want || err != nil {
			t.Errorf("quiet for %v, %v, want %v", got, err, want)
		}
	}
	w.Advance(time.Hour)
	w.start(ws, "u")
	quiet(0)
	w.Advance(3 * time.Second)
	quiet(3 * time.Second)
	quiet(3 * time.Second) // asking changes nothing
	_, err := w.Usage(t.Context(), ws)
	w.must(err)
	w.must(w.writeAside(t.Context(), nil, func(tx *Tx) error { return writeProbe(tx) }))
	w.Advance(time.Second)
	quiet(4 * time.Second) // what no page shows
	_, err = w.second().StartRun(t.Context(), Caller{Workspace: ws}, NewRun{UserID: "there"}, guard.Decide)
	w.must(err)
	w.Advance(time.Second)
	quiet(0) // of another process it is seen just now
	w.Advance(time.Second)
	quiet(time.Second)
	if err := w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
		return errors.Join(writeProbe(tx), context.Canceled)
	}); err == nil {
		t.Error("the write did not fail")
	}
	quiet(time.Second) // nothing came of it
}
