package storage

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// objection is a reason to deny: how to raise it, and how to lift it.
type objection struct {
	reason guard.Reason
	start  *guard.Decision // the answer to a start, without Evaluated; nil if it is not denied
	step   *guard.Decision
	raise  func(w *world, ws WorkspaceKey, run uuid.UUID)
	lift   func(w *world, ws WorkspaceKey)
}

// objections are the rules up to MaxConcurrentRunsExceeded, in the contract's order. ModelNotPriced
// is not among them: it needs a model. Together they need a run of user "u" that has spent 100
// micro-dollars and is the second run of the month.
func objections() []objection {
	midnight := date(2026, 11, 16)
	change := func(c WorkspaceChange) func(*world, WorkspaceKey) {
		return func(w *world, ws WorkspaceKey) {
			_, err := w.UpdateWorkspace(context.Background(), ws, c)
			w.must(err)
		}
	}
	raise := func(fn func(*world, WorkspaceKey)) func(*world, WorkspaceKey, uuid.UUID) {
		return func(w *world, ws WorkspaceKey, _ uuid.UUID) { fn(w, ws) }
	}
	killSwitch := func(on bool) func(*world, WorkspaceKey) {
		return func(w *world, ws WorkspaceKey) {
			_, err := w.SetKillSwitch(context.Background(), ws, on, "")
			w.must(err)
		}
	}
	both := func(d guard.Decision) (start, step *guard.Decision) { return &d, &d }
	all := []objection{
		{reason: guard.RunAlreadyEnded, raise: func(w *world, ws WorkspaceKey, run uuid.UUID) { w.end(ws, run, RunCompleted) }},
		{reason: guard.KillSwitchActive, raise: raise(killSwitch(true)), lift: killSwitch(false)},
		{
			reason: guard.UserBlocked,
			raise: raise(func(w *world, ws WorkspaceKey) {
				_, err := w.BlockUser(context.Background(), ws, "u", new("too many questions"))
				w.must(err)
			}),
			lift: func(w *world, ws WorkspaceKey) {
				_, err := w.UnblockUser(context.Background(), ws, "u")
				w.must(err)
			},
		},
		{
			reason: guard.WorkspaceDailyBudgetExceeded,
			raise:  raise(change(WorkspaceChange{DailyBudget: &plans.Budget{Limit: 100 * microUSD, Set: true}})),
			lift:   change(WorkspaceChange{DailyBudget: &plans.Budget{Limit: 100*microUSD + 1, Set: true}}),
		},
		{
			reason: guard.UserDailyBudgetExceeded,
			raise:  raise(change(WorkspaceChange{UserDailyBudget: &plans.Budget{Limit: 40 * microUSD, Set: true}})),
			lift:   change(WorkspaceChange{UserDailyBudget: &plans.Budget{}}),
		},
		{
			reason: guard.MonthlyRunLimitExceeded, // see deciderFor: plans have large limits
			raise:  raise(func(*world, WorkspaceKey) {}),
			lift:   func(*world, WorkspaceKey) {},
		},
		{
			reason: guard.MaxConcurrentRunsExceeded,
			raise:  raise(change(WorkspaceChange{MaxConcurrentRuns: new(int64(1))})),
			lift:   change(WorkspaceChange{MaxConcurrentRuns: new(int64(100))}),
		},
	}
	all[0].step = &guard.Decision{}
	all[1].start, all[1].step = both(guard.Decision{})
	all[2].start, all[2].step = both(guard.Decision{})
	all[3].start, all[3].step = both(guard.Decision{Limit: int64(100 * microUSD), Used: int64(100 * microUSD), ResetsAt: midnight})
	all[4].start, all[4].step = both(guard.Decision{Limit: int64(40 * microUSD), Used: int64(100 * microUSD), ResetsAt: midnight})
	all[5].start = &guard.Decision{Limit: 2, Used: 2, ResetsAt: date(2026, 12, 1)}
	all[6].start = &guard.Decision{Limit: 1, Used: 2}
	for _, o := range all {
		for _, d := range []*guard.Decision{o.start, o.step} {
			if d != nil {
				d.Reason = o.reason
			}
		}
	}
	return all
}

// deciderFor returns a decider with a monthly limit of two runs if reason is that limit.
func deciderFor(reason guard.Reason) Decider {
	if reason == guard.MonthlyRunLimitExceeded {
		return limitedTo(2)
	}
	return guard.Decide
}

// evaluatedRules returns the rules that a decision evaluates, in the contract's order, up to the one that
// objects.
func evaluatedRules(start bool, reason guard.Reason) (rules []guard.Reason) {
	order := []guard.Reason{1, 2, 3, 4, 5, 8}
	if start {
		order = []guard.Reason{2, 3, 4, 5, 6, 7}
	}
	if i := slices.Index(order, reason); i >= 0 {
		return order[:i+1]
	}
	return order
}

// newSpendingWorld returns a world whose model has a price, in which every objection can be raised.
func newSpendingWorld(t *testing.T) (w *world, ws WorkspaceKey, run uuid.UUID) {
	w, ws, run, step := priced(t)
	w.start(ws, "another")
	w.patch(ws, run, step, 100, 0)
	return w, ws, run
}

func TestEachDenialIsReadBackAsItWasAnswered(t *testing.T) {
	for _, o := range objections() {
		t.Run(o.reason.String(), func(t *testing.T) {
			w, ws, run := newSpendingWorld(t)
			o.raise(w, ws, run)
			started, err := w.StartRun(t.Context(), Caller{Workspace: ws}, NewRun{UserID: "u"}, deciderFor(o.reason))
			w.must(err)
			stepped := w.step(ws, run)
			want := func(d *guard.Decision, start bool) (full guard.Decision) {
				if d != nil {
					full = *d
				}
				full.Evaluated = evaluatedRules(start, full.Reason)
				return full
			}
			if diff := gocmp.Diff(want(o.start, true), started.Decision); diff != "" {
				t.Errorf("start, want (-), answered (+):\n%s", diff)
			}
			if diff := gocmp.Diff(want(o.step, false), stepped.Decision); diff != "" {
				t.Errorf("step, want (-), answered (+):\n%s", diff)
			}

			// The recorded decision stays as it was when its reason is lifted.
			if o.lift != nil {
				o.lift(w, ws)
			}
			w.Advance(50 * time.Hour)
			d, err := w.Run(t.Context(), ws, started.ID, "")
			w.must(err)
			if diff := gocmp.Diff(started.Decision, d.Decision); diff != "" {
				t.Errorf("start as answered (-) and read (+):\n%s", diff)
			}
			if d.DenyReason != started.Decision.Reason || d.Status.String() != started.Status || (d.Status == RunBlocked) != (o.start != nil) {
				t.Errorf("run %+v", d.Run)
			}
			d, err = w.Run(t.Context(), ws, run, "")
			w.must(err)
			i := slices.IndexFunc(d.Steps, func(s Step) bool { return s.ID == stepped.ID })
			if diff := gocmp.Diff(stepped.Decision, d.Steps[i].Decision); diff != "" {
				t.Errorf("step as answered (-) and read (+):\n%s", diff)
			}
			if s := d.Steps[i]; s.Status.String() != stepped.Status || (s.Status == StepBlocked) != (o.step != nil) {
				t.Errorf("step %+v", s)
			}
			if d.DenyReason != stepped.Decision.Reason || !d.Decision.Allowed() {
				t.Errorf("run of the step: %+v, %+v", d.Run, d.Decision)
			}
			latest := &DeniedStep{ID: stepped.ID, Sequence: d.Steps[i].Sequence, Decision: stepped.Decision}
			if stepped.Decision.Allowed() {
				latest = nil
			}
			if diff := gocmp.Diff(latest, d.Denied); diff != "" {
				t.Errorf("latest denial as answered (-) and read (+):\n%s", diff)
			}
		})
	}
}

// If all rules object at once, the first one answers; when that is lifted, the next.
func TestFirstObjectionAnswersAndTheStateIsReadForEach(t *testing.T) {
	w, ws, run := newSpendingWorld(t)
	all := objections()[1:] // an ended run cannot be undone
	for _, o := range all {
		o.raise(w, ws, run)
	}
	month := deciderFor(guard.MonthlyRunLimitExceeded)
	for _, o := range all {
		a, err := w.StartRun(t.Context(), Caller{Workspace: ws}, NewRun{UserID: "u"}, month)
		w.must(err)
		if a.Decision.Reason != o.reason || a.Decision.Limit != o.start.Limit || a.Decision.Used != o.start.Used {
			t.Errorf("start: %+v, want %+v", a.Decision, o.start)
		}
		want := guard.None
		if o.step != nil {
			want = o.reason
		}
		if s := w.step(ws, run).Decision; s.Reason != want {
			t.Errorf("step: %+v, want %s", s, want)
		}
		if h := w.heartbeatDecision(ws, run); h.Reason != want {
			t.Errorf("heartbeat: %+v, want %s", h, want)
		}
		o.lift(w, ws)
		if o.reason == guard.MonthlyRunLimitExceeded {
			month = guard.Decide
		}
	}
	if a := w.start(ws, "u"); !a.Decision.Allowed() {
		t.Errorf("with all lifted: %+v", a.Decision)
	}
	w.end(ws, run, RunCompleted)
	for _, o := range all {
		o.raise(w, ws, run)
	}
	if s := w.step(ws, run).Decision; s.Reason != guard.RunAlreadyEnded {
		t.Errorf("an ended run: %+v", s)
	}
}

// The latest denial before its end says why a run was stopped; denials after its end do not.
func TestRunShowsItsLatestDenial(t *testing.T) {
	w, ws, run := newSpendingWorld(t)
	all := objections()
	for i, deny := range []guard.Reason{guard.WorkspaceDailyBudgetExceeded, guard.KillSwitchActive, guard.UserBlocked} {
		w.Advance(moment)
		o := all[deny-1]
		o.raise(w, ws, run)
		w.step(ws, run)
		o.lift(w, ws)
		w.step(ws, run) // allowed: says nothing
		d, err := w.Run(t.Context(), ws, run, "")
		w.must(err)
		if d.DenyReason != deny || d.Status != RunRunning || d.BlockedStepCount != int64(i+1) {
			t.Errorf("after %s: %+v", deny, d.Run)
		}
	}
	w.end(ws, run, RunBlocked)
	w.step(ws, run)
	d, err := w.Run(t.Context(), ws, run, "")
	w.must(err)
	if d.DenyReason != guard.UserBlocked || d.BlockedStepCount != 4 || d.Status != RunBlocked || d.EndedBy != EndedByClient {
		t.Errorf("after the end: %+v", d.Run)
	}
}

// A tenant that is at all of its limits leaves another one unaffected, even if their users, models
// and keys have the same names, and cannot reach the other's data.
func TestTenantsNeverAffectEachOthersDecisions(t *testing.T) {
	w, ws, run := newSpendingWorld(t)
	other := w.unlimitedWorkspace()
	_, err := w.UpdateWorkspace(t.Context(), other, WorkspaceChange{
		DailyBudget: &plans.Budget{Limit: 100 * microUSD, Set: true}, UserDailyBudget: &plans.Budget{Limit: 40 * microUSD, Set: true},
		MaxConcurrentRuns: new(int64(2)),
	})
	w.must(err)
	w.price(other, "gpt-4o", 1_000_000, 0)
	for _, o := range objections()[1:] {
		o.raise(w, ws, run)
	}
	_, err = w.StartRun(t.Context(), Caller{Workspace: ws}, NewRun{UserID: "u", Idempotency: once("k", "body")}, guard.Decide)
	w.must(err)

	first, err := w.StartRun(t.Context(), Caller{Workspace: other}, NewRun{UserID: "u", Idempotency: once("k", "another body")}, limitedTo(2))
	w.must(err)
	second, err := w.StartRun(t.Context(), Caller{Workspace: other}, NewRun{UserID: "another"}, limitedTo(2))
	w.must(err)
	step := w.step(other, first.ID)
	mustCost(t, w.patch(other, first.ID, step.ID, 39, 100), 39*microUSD) // at its own price
	for _, a := range []Answer{first, second, step, w.step(other, second.ID)} {
		if !a.Decision.Allowed() || a.Replay != nil {
			t.Errorf("the other tenant: %+v", a)
		}
	}

	w.mustNotChange("a stranger", func() {
		for what, try := range map[string]func() error{
			"step": func() error { _, err := w.tryStep(ws, first.ID, Idempotency{}); return err },
			"report": func() error {
				_, err := w.UpdateStep(t.Context(), Caller{Workspace: ws}, first.ID, step.ID, StepUpdate{Status: StepFailed})
				return err
			},
			"own run": func() error {
				_, err := w.UpdateStep(t.Context(), Caller{Workspace: ws}, run, step.ID, StepUpdate{Status: StepFailed})
				return err
			},
			"end": func() error {
				_, err := w.EndRun(t.Context(), Caller{Workspace: ws}, first.ID, RunFailed, EndedByClient)
				return err
			},
			"heartbeat": func() error {
				_, err := w.Heartbeat(t.Context(), Caller{Workspace: ws}, first.ID, guard.Decide)
				return err
			},
			"read": func() error { _, err := w.Run(t.Context(), ws, first.ID, ""); return err },
		} {
			if err := try(); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s of another tenant's: %v", what, err)
			}
		}
	})
	if n := w.running(other); n != 2 {
		t.Errorf("%d of the other tenant's runs are running, want 2", n)
	}
}

// A run that is denied a step after its end keeps the reason for which it was stopped, and is found
// by either reason.
func TestADenialAfterTheEndDoesNotHideWhyARunWasStopped(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	ctx := t.Context()
	stopped, late := w.start(ws, "u"), w.start(ws, "u")
	ask := func(run uuid.UUID, reason guard.Reason) Answer {
		a, err := w.CreateStep(ctx, Caller{Workspace: ws}, run, NewStep{Type: 1, Sequence: 7}, denyFor(reason))
		w.must(err)
		return a
	}
	why := ask(stopped.ID, guard.UserBlocked)
	for _, run := range []uuid.UUID{stopped.ID, late.ID} {
		_, err := w.EndRun(ctx, Caller{Workspace: ws}, run, RunCompleted, EndedByClient)
		w.must(err)
		ask(run, guard.RunAlreadyEnded)
	}
	for run, want := range map[uuid.UUID]guard.Reason{stopped.ID: guard.UserBlocked, late.ID: guard.RunAlreadyEnded} {
		d, err := w.Run(ctx, ws, run, "")
		w.must(err)
		if d.DenyReason != want || d.Denied.Decision.Reason != want || d.Denied.Sequence != 7 {
			t.Errorf("want %v, got %v and %+v", want, d.DenyReason, d.Denied)
		}
		if run == stopped.ID && d.Denied.ID != why.ID {
			t.Errorf("the latest denial is %v, want %v", d.Denied.ID, why.ID)
		}
	}
	for reason, want := range map[guard.Reason]int{guard.UserBlocked: 1, guard.RunAlreadyEnded: 2, guard.KillSwitchActive: 0} {
		ids, err := listRunIDs(w.Store, ws, RunFilter{Reason: reason, Limit: 1}, func() {})
		w.must(err)
		if len(ids) != want {
			t.Errorf("%v: %d runs, want %d", reason, len(ids), want)
		}
	}
	// Older versions stored no reason if all denials came after the end.
	_, err := w.conn().ExecContext(ctx, `UPDATE runs SET deny_reason = NULL WHERE deny_reason = 1`)
	w.must(err)
	w.mustVerify()
}
