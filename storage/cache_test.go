package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// mustRememberTheTruth compares every row that the writer would believe with
// what the database says of it.
func (w *world) mustRememberTheTruth() {
	w.t.Helper()
	var wrong []string
	believed := 0
	ctx := context.Background()
	var all []WorkspaceKey
	w.must(w.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT id FROM workspaces`, nil, func(rows scanner) error {
			var ws WorkspaceKey
			err := rows.Scan(&ws)
			all = append(all, ws)
			return err
		})
	}))
	// Locked one by one, so that what their versions say of them is believed.
	err := w.Store.submit(&job{ctx: ctx, scope: noWorkspace, locks: all, mode: modeSQL, done: make(chan error, 1), fn: func(tx *Tx) error {
		m := tx.cache
		return errors.Join(
			compare(tx, m.workspaces, &wrong, &believed), compare(tx, m.users, &wrong, &believed),
			compare(tx, m.userIDs, &wrong, &believed), compare(tx, m.models, &wrong, &believed),
			compare(tx, m.modelIDs, &wrong, &believed), compare(tx, m.runs, &wrong, &believed),
			compare(tx, m.days, &wrong, &believed), compare(tx, m.userDays, &wrong, &believed),
			compare(tx, m.modelDays, &wrong, &believed), compare(tx, m.tagDays, &wrong, &believed),
			compare(tx, m.points, &wrong, &believed), compare(tx, m.keys, &wrong, &believed), compare(tx, m.keyDays, &wrong, &believed))
	}})
	if err != nil || len(wrong) > 0 {
		w.t.Errorf("of %d rows in the cache %d are wrong: %.2000v, %v", believed, len(wrong), wrong[:min(2, len(wrong))], err)
	}
}

func compare[K rowKey, R cacheRow](tx *Tx, t *table[K, R], wrong *[]string, believed *int) error {
	for _, key := range t.rows.Keys() {
		c, _ := t.rows.Peek(key)
		if !tx.cache.valid(c.entry(), key.workspace()) {
			continue
		}
		if model, ok := any(c).(*cachedModel); ok && !model.holds(tx.now) {
			continue
		}
		*believed++
		tx.scope = key.workspace()
		stored, err := t.load(tx, key)
		if err != nil {
			return fmt.Errorf("%T %v: %w", c, key, err)
		}
		*stored.entry() = *c.entry()
		if run, ok := any(c).(*cachedRun); ok {
			if err := compareSteps(tx, key.workspace(), run, wrong); err != nil {
				return err
			}
			stored := any(stored).(*cachedRun)
			stored.openSteps, stored.segment, stored.answered = run.openSteps, run.segment, run.answered
		}
		if ws, ok := any(c).(*cachedWorkspace); ok { // which need not know that the last blocks are deleted
			stored := any(stored).(*cachedWorkspace)
			stored.lastBlock = max(stored.lastBlock, ws.lastBlock)
		}
		if day, ok := any(c).(*cachedTagDay); ok {
			any(stored).(*cachedTagDay).values = day.values
		}
		if h, s := fmt.Sprintf("%+v", c), fmt.Sprintf("%+v", stored); h != s {
			*wrong = append(*wrong, fmt.Sprintf("%T %v is %s, stored %s", c, key, h, s))
		}
	}
	return nil
}

// compareSteps compares the steps that a run holds, and whether it is listed where it thinks so.
func compareSteps(tx *Tx, ws WorkspaceKey, run *cachedRun, wrong *[]string) error {
	var listed int64
	err := tx.get(`SELECT count(*) FROM run_segments WHERE run_id = $1 AND segment = $2`, []any{run.id, run.segment}, &listed)
	if err != nil {
		return err
	}
	if listed == 0 && run.segment != 0 {
		*wrong = append(*wrong, fmt.Sprintf("run %d is not listed in segment %d", run.id, run.segment))
	}
	for _, c := range run.openSteps {
		if c.InputData == nil { // it is read when it is needed
			if err := c.payloads.read(tx, ws, &c.Step); err != nil {
				return err
			}
		}
		stored, err := readStepTexts(tx, ws, c.segment, run.id, c.ID)
		if err != nil {
			return fmt.Errorf("step %v: %w", c.ID, err)
		}
		diff := cmp.Diff(stored.shown(run.status), c.shown(run.status), cmpopts.EquateEmpty())
		if diff != "" || c.stepProgress != stored.stepProgress || c.model != stored.model {
			*wrong = append(*wrong, fmt.Sprintf("step %v: %s", c.ID, diff))
		}
	}
	return nil
}

// A commit by another process, of whatever it likes, holds for the very next decision.
func TestAnotherProcessIsBelievedAtOnce(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	run := w.start(ws, "u").ID
	elsewhere := w.elsewhere
	for i := range 50 {
		w.step(ws, run)
		elsewhere(`UPDATE workspaces SET kill_switch = 1 WHERE id = $1`, ws)
		if d := w.step(ws, run).Decision; d.Reason != guard.KillSwitchActive {
			t.Fatalf("round %d, kill switch: %+v", i, d)
		}
		elsewhere(`UPDATE workspaces SET kill_switch = 0 WHERE id = $1`, ws)
		elsewhere(`UPDATE users SET blocked_at = 1 WHERE workspace_id = $1`, ws)
		if d := w.step(ws, run).Decision; d.Reason != guard.UserBlocked {
			t.Fatalf("round %d, block: %+v", i, d)
		}
		elsewhere(`UPDATE users SET blocked_at = NULL WHERE workspace_id = $1`, ws)
		elsewhere(`UPDATE models SET input_picos = $2 WHERE workspace_id = $1`, ws, i*1000)
		if s := w.patch(ws, run, w.step(ws, run).ID, 1, 0); *s.Cost != plans.Money(i) {
			t.Fatalf("round %d, price: %+v", i, *s.Cost)
		}
		elsewhere(`UPDATE runs SET step_count = step_count + 1000 WHERE workspace_id = $1`, ws) // as verify --repair might
		before := w.number(`SELECT step_count FROM runs`)
		w.step(ws, run)
		if n := w.number(`SELECT step_count FROM runs`); n != before+1 {
			t.Fatalf("round %d, counter: %d after %d", i, n, before)
		}
	}
	w.mustRememberTheTruth()
}

// What one tenant does to its configuration, refused or not, costs no other a
// read: a decision asks for nothing more than before.
func TestConfigurationWriteLeavesOthersInCache(t *testing.T) {
	w := newWorld(t)
	quiet, busy, basic := w.unlimitedWorkspace(), w.unlimitedWorkspace(), w.workspace(plans.Basic)
	run, idle := w.start(quiet, "u").ID, w.start(busy, "idle").ID
	w.start(basic, "u") // so that the version of each is known
	var queries []string
	w.hooks().onQuery = func(query string, _ int) error { queries = append(queries, query); return nil }
	decide := func() []string {
		queries = nil
		w.start(quiet, "u")
		w.patch(quiet, run, w.step(quiet, run).ID, 1, 1)
		return queries
	}
	decide()
	warm := decide()
	account, err := w.AccountByEmail(t.Context(), "a2@example.com")
	w.must(err)
	for name, change := range map[string]func() error{
		"limits": func() error {
			_, err := w.UpdateWorkspace(t.Context(), busy, WorkspaceChange{Name: new("n")})
			return err
		},
		"switch":    func() error { _, err := w.SetKillSwitch(t.Context(), busy, false, ""); return err },
		"refused":   func() error { _, err := w.SetKillSwitch(t.Context(), basic, true, ""); return err },
		"block":     func() error { _, err := w.BlockUser(t.Context(), busy, "u", nil); return err },
		"unblock":   func() error { _, err := w.UnblockUser(t.Context(), busy, "u"); return err },
		"unknown":   func() error { _, err := w.UnblockUser(t.Context(), busy, "nobody"); return err },
		"price":     func() error { w.price(busy, "gpt-4o", 1, 1); return nil },
		"key":       func() error { _, err := w.RotateKey(t.Context(), busy, Rotation{Label: "new"}); return err },
		"plan":      func() error { _, err := w.SetPlan(t.Context(), basic, plans.Plan{ID: plans.Pro}); return err },
		"same plan": func() error { _, err := w.SetPlan(t.Context(), basic, plans.Plan{ID: plans.Pro}); return err },
		"password":  func() error { _, err := w.ChangePassword(t.Context(), account.ID, "x", "y", NewSession{}); return err },
		"wrong password": func() error {
			_, err := w.ChangePassword(t.Context(), account.ID, "no", "y", NewSession{})
			return err
		},
		"sign-up":  func() error { w.workspace(plans.Basic); return nil },
		"customer": func() error { return w.SetCustomer(t.Context(), busy, "", "cus_1") },
		"idle": func() error {
			w.elsewhere(`UPDATE runs SET last_call_at = 0 WHERE uuid = $1`, idle[:])
			decide() // reads all again, as another process has committed
			decide()
			n, err := w.EndIdleRuns(t.Context())
			if n != 1 {
				t.Errorf("%d idle runs ended", n)
			}
			return err
		},
	} {
		var missing *plans.FeatureError
		err := change()
		if err != nil && !errors.As(err, &missing) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrBadPassword) {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(warm, decide()); diff != "" {
			t.Errorf("%s: the decisions of another workspace read more (+):\n%s", name, diff)
		}
	}
	w.mustRememberTheTruth()
}

// A job that has counted in the cache and then fails leaves none of it, in any way of writing.
func TestFailedJobThatCountedInCacheIsPurged(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.start(ws, "u")
	broken := errors.New("broken")
	for _, way := range []txMode{modeBulkSQL, modeSQL} {
		err := w.write(t.Context(), way, func(tx *Tx) error {
			if _, err := startRun(tx, Caller{Workspace: ws}, NewRun{UserID: "u"}, guard.Decide, nil); err != nil {
				return err
			}
			return broken
		})
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
		w.start(ws, "u")
	}
	w.mustRememberTheTruth()
	w.mustVerify()
}

// A job that fails leaves nothing in the cache of what it read, made or counted.
func TestRolledBackJobLeavesNoTraceInCache(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	broken := errors.New("broken")
	for range 3 {
		err := w.write(t.Context(), modeCached, func(tx *Tx) error {
			if _, err := insertUser(tx, ws, "ghost"); err != nil {
				return err
			}
			if _, err := internModel(tx, ws, new("ghost")); err != nil {
				return err
			}
			return broken
		})
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
	}
	run := w.start(ws, "ghost").ID
	a, err := w.CreateStep(t.Context(), Caller{Workspace: ws}, run, NewStep{Type: 1, Sequence: 1, Model: new("ghost")}, guard.Decide)
	w.must(err)
	w.patch(ws, run, a.ID, 3, 4)
	w.mustRememberTheTruth()
	w.mustVerify()
}

// The cache is bounded, and what was evicted is read again as it was.
func TestCacheIsBoundedAndEvictionLosesNothing(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.CacheSize = 1 }) // as small as it gets
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	var mu sync.Mutex
	var all []uuid.UUID
	together(32, func(int) {
		for range 60 {
			a, err := w.StartRun(context.Background(), Caller{Workspace: ws}, NewRun{UserID: uuid.NewString()}, guard.Decide)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			all = append(all, a.ID)
			mu.Unlock()
		}
	})
	together(32, func(i int) {
		for n := i; n < len(all); n += 32 {
			if _, err := w.CreateStep(context.Background(), Caller{Workspace: ws}, all[n], NewStep{Type: 1, Sequence: 1}, guard.Decide); err != nil {
				t.Error(err)
			}
		}
	})
	m := w.cache
	for what, n := range map[string]int{"runs": m.runs.rows.Len(), "users": m.users.rows.Len(), "user days": m.userDays.rows.Len()} {
		if n != MinCacheSize {
			t.Errorf("%s in the cache: %d, want %d", what, n, MinCacheSize)
		}
	}
	w.mustRememberTheTruth()
	w.mustVerify()
}

// The runs of a month are right when the clock goes back over midnight, adds to
// a day before, and comes forward again, within one batch and between batches.
func TestClockGoingBackOverMidnightIsCountedInTheMonth(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	month := func() (n int64) {
		_, err := w.StartRun(t.Context(), Caller{Workspace: ws}, NewRun{UserID: "u"}, func(_ guard.Request, s guard.State) guard.Decision {
			n = s.RunsThisMonth
			return guard.Decision{}
		})
		w.must(err)
		return n
	}
	today := w.Now()
	for i := range int64(5) {
		for at, d := range []time.Duration{0, -24 * time.Hour} {
			w.Set(today.Add(d))
			want := 2*i + int64(at)
			if d < 0 {
				want = i // the runs of the day ahead do not count
			}
			if n := month(); n != want {
				t.Errorf("round %d, %v: %d runs this month, want %d", i, d, n, want)
			}
		}
	}
}

// What a job counted in the cache is seen by the next one of its batch, even when
// the first also worked by SQL, after which nothing read before is believed.
func TestNextJobOfTheBatchSeesWhatWasCounted(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.start(ws, "u")
	release := w.hold()
	start := func(decide Decider) func(*Tx) error {
		return func(tx *Tx) error {
			_, err := startRun(tx, Caller{Workspace: ws}, NewRun{UserID: "u"}, decide, nil)
			return err
		}
	}
	var seen guard.State
	first := w.submit(t.Context(), start(allow))
	look := func(_ guard.Request, s guard.State) guard.Decision { seen = s; return guard.Decision{} }
	second := w.submitAs(t.Context(), modeCached, start(look))
	release()
	w.must(errors.Join(<-first.done, <-second.done))
	if seen.RunningRuns != 2 || seen.RunsThisMonth != 2 {
		t.Errorf("the second of the batch sees %+v", seen)
	}
	w.mustRememberTheTruth()
}

// A run that retention has deleted is gone, however recently it was used.
func TestExpiredRunIsPurged(t *testing.T) {
	w := newWorld(t)
	ws := w.workspace(plans.Basic)
	run := w.start(ws, "u").ID
	w.end(ws, run, RunCompleted)
	w.Advance(48 * time.Hour)
	if n, err := w.Expire(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d runs are expired, %v", n, err)
	}
	c := Caller{Workspace: ws}
	_, stepping := w.CreateStep(t.Context(), c, run, NewStep{Type: 1, Sequence: 1}, guard.Decide)
	_, beating := w.Heartbeat(t.Context(), c, run, guard.Decide)
	_, ending := w.EndRun(t.Context(), c, run, RunCompleted, EndedByClient)
	for _, err := range []error{stepping, beating, ending} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("a call of an expired run: %v", err)
		}
	}
}

// A step that the end of its run has abandoned stays so when only its usage is reported late.
func TestLateUsageOfAnAbandonedStepIsBookedOnWhatIsStored(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	step := w.step(ws, run).ID
	w.end(ws, run, RunCompleted)
	s := w.update(ws, run, step, StepUpdate{PromptTokens: new(int64(5))})
	if stored := w.detail(ws, run).Steps[0]; s.Status != StepAbandoned || stored.Status != StepAbandoned || stored.PromptTokens != 5 {
		t.Errorf("answered %v, stored %+v", s.Status, stored)
	}
}

func TestMidnightInsideABatchLosesNoRunOfTheMonth(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.clock.Set(time.Date(2026, 11, 15, 23, 59, 59, 0, time.UTC))
	w.start(ws, "u")
	var seen []int64
	start := func(tx *Tx) error {
		_, err := startRun(tx, Caller{Workspace: ws}, NewRun{UserID: "u"}, func(r guard.Request, s guard.State) guard.Decision {
			seen = append(seen, s.RunsThisMonth)
			return guard.Decide(r, s)
		}, nil)
		return err
	}
	release := w.hold()
	var queued []*job
	for _, fn := range []func(*Tx) error{start, func(*Tx) error { w.clock.Advance(2 * time.Second); return nil }, start, start} {
		queued = append(queued, w.submitAs(t.Context(), modeCached, fn))
	}
	release()
	for _, j := range queued {
		w.must(<-j.done)
	}
	if !slices.Equal(seen, []int64{1, 2, 3}) {
		t.Errorf("three starts around midnight saw %d runs in the month, want 1, 2 and 3", seen)
	}
}

// What a write has not named it has not locked, and nobody has asked whether
// another has changed it.
func TestAWriteReadsNoRowsOutsideItsScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	read := func(scope, of WorkspaceKey) error {
		return w.writeIn(t.Context(), scope, modeCached, func(tx *Tx) error {
			_, err := tx.cache.workspaces.get(tx, of)
			return err
		})
	}
	w.must(read(ws, ws))
	w.must(read(wholeDatabase, other))
	for _, scope := range []WorkspaceKey{ws, noWorkspace} {
		if err := read(scope, other); err == nil {
			t.Errorf("a write in scope %d has read workspace %d", scope, other)
		}
	}
}
