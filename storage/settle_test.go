package storage

import (
	"errors"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage/dbfile"
)

// paying is what Stripe says of a customer who pays for a plan.
func paying(plan plans.ID) SubscriptionState {
	return SubscriptionState{ID: "sub_1", Status: SubscriptionActive, Plan: plan, PeriodEnd: noon().AddDate(0, 1, 0)}
}

func (w *world) plan(id plans.ID) plans.Plan {
	w.t.Helper()
	p, err := plans.ByID(id)
	w.must(err)
	return p
}

// customer makes a workspace on the basic plan that is a customer of Stripe.
func (w *world) customer() WorkspaceKey {
	w.t.Helper()
	ws := w.workspace(plans.Basic)
	w.must(w.SetCustomer(w.t.Context(), ws, "", "cus_1"))
	return ws
}

// told settles what Stripe says now.
func (w *world) told(st SubscriptionState, event string) Settled {
	w.t.Helper()
	read, err := w.CustomerSubscription(w.t.Context(), "cus_1")
	w.must(err)
	out, err := w.Settle(w.t.Context(), Settlement{Read: read, Now: st, Event: event, Unpaid: w.plan(plans.Basic)})
	w.must(err)
	return out
}

func TestSettlementRecordsStateEventAndPlanTogether(t *testing.T) {
	w := newWorld(t)
	ws := w.customer()
	if out := w.told(paying(plans.Scale), "evt_1"); out != (Settled{Changed: true, From: plans.Basic, To: plans.Scale}) {
		t.Errorf("%+v", out)
	}
	_, err := w.SetKillSwitch(t.Context(), ws, true, "")
	w.must(err)
	w.Advance(time.Hour)
	if out := w.told(paying(plans.Pro), "evt_2"); out.To != plans.Pro {
		t.Errorf("%+v", out)
	}
	b, err := w.Billing(t.Context(), ws)
	w.must(err)
	want := []PlanChange{
		{At: noon().Add(time.Hour), From: plans.Scale, To: plans.Pro, By: ByStripeEvent, Event: "evt_2", Reset: PlanReset{KillSwitch: true}},
		{At: noon(), From: plans.Basic, To: plans.Scale, By: ByStripeEvent, Event: "evt_1"},
		{At: noon(), To: plans.Basic, By: BySignUp},
	}
	if diff := cmp.Diff(want, b.Changes); diff != "" {
		t.Error(diff)
	}
	if b.Subscription.SubscriptionState != paying(plans.Pro) || b.Workspace.KillSwitch {
		t.Errorf("%+v", b)
	}
}

func TestARepeatedEventDoesNothing(t *testing.T) {
	w := newWorld(t)
	ws := w.customer()
	w.told(paying(plans.Pro), "evt_1")
	if out := w.told(paying(plans.Scale), "evt_1"); !out.Repeated || out.Changed {
		t.Errorf("%+v", out)
	}
	if got, err := w.Workspace(t.Context(), ws); err != nil || got.Plan.ID != plans.Pro {
		t.Errorf("%+v, %v", got, err)
	}
	for event, want := range map[string]bool{"evt_1": true, "evt_2": false} {
		if got, err := w.StripeEventHandled(t.Context(), event); err != nil || got != want {
			t.Errorf("%s handled: %v, %v", event, got, err)
		}
	}
}

// What was asked before the news of another is refused, with its event, which may then be tried again.
func TestOutdatedNewsIsRefusedAsAWhole(t *testing.T) {
	w := newWorld(t)
	ws := w.customer()
	read, err := w.CustomerSubscription(t.Context(), "cus_1")
	w.must(err)
	w.told(paying(plans.Scale), "evt_2")
	stale := Settlement{Read: read, Now: paying(plans.Pro), Event: "evt_1", Unpaid: w.plan(plans.Basic)}
	if _, err := w.Settle(t.Context(), stale); !errors.Is(err, ErrOutdated) {
		t.Errorf("outdated news: %v", err)
	}
	if handled, err := w.StripeEventHandled(t.Context(), "evt_1"); handled || err != nil {
		t.Errorf("the refused event is recorded: %v, %v", handled, err)
	}
	// Also when the customer has been replaced, or the later news was the same.
	read, err = w.CustomerSubscription(t.Context(), "cus_1")
	w.must(err)
	w.told(paying(plans.Scale), "evt_3")
	stale.Read = read
	if _, err := w.Settle(t.Context(), stale); !errors.Is(err, ErrOutdated) {
		t.Errorf("after the same news: %v", err)
	}
	if got, err := w.Workspace(t.Context(), ws); err != nil || got.Plan.ID != plans.Scale {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestACustomerIsReplacedOnlyByWhoSawIt(t *testing.T) {
	w := newWorld(t)
	ctx, ws := t.Context(), w.customer()
	w.must(w.SetCustomer(ctx, ws, "", "cus_1")) // the same, by a racing request
	if err := w.SetCustomer(ctx, ws, "", "cus_2"); !errors.Is(err, ErrOutdated) {
		t.Errorf("replaced unseen: %v", err)
	}
	w.must(w.SetCustomer(ctx, ws, "cus_1", "cus_2"))
	if _, err := w.CustomerSubscription(ctx, "cus_1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the former customer: %v", err)
	}
	if sub, err := w.CustomerSubscription(ctx, "cus_2"); err != nil || sub.Workspace != ws {
		t.Errorf("%+v, %v", sub, err)
	}
}

func TestWhichPlanFollowsWhatStripeSays(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ now, had, gets, want plans.ID }{
		{plans.Basic, "", plans.Pro, plans.Pro},
		{plans.Pro, plans.Pro, plans.Scale, plans.Scale},
		{plans.Pro, plans.Pro, "", plans.Basic},
		{plans.Pro, plans.Pro, plans.Pro, plans.Pro},
		{plans.Basic, "", "", plans.Basic},
		{plans.Scale, plans.Pro, plans.Pro, plans.Scale},             // by set-plan, and nothing was decided since
		{plans.Basic, plans.Pro, plans.Pro, plans.Basic},             // the same, downwards
		{plans.Basic, plans.Pro, plans.Scale, plans.Scale},           // the customer decided anew
		{plans.Scale, plans.Pro, "", plans.Scale},                    // the end takes only what it gave
		{plans.Enterprise, "", plans.Pro, plans.Enterprise},          // arranged with the operator
		{plans.Enterprise, plans.Pro, "", plans.Enterprise},          // the same
		{plans.Enterprise, plans.Scale, plans.Pro, plans.Enterprise}, // the same
	} {
		got, err := planAfter(w.plan(c.now), c.had, c.gets, w.plan(plans.Basic))
		if err != nil || got.ID != c.want {
			t.Errorf("on %s, had %q, gets %q: %s, %v, want %s", c.now, c.had, c.gets, got.ID, err, c.want)
		}
	}
}

func TestPlansThatHaveEndedAreFoundUntilTheyAreSettled(t *testing.T) {
	w := newWorld(t)
	ws := w.customer()
	ending := paying(plans.Pro)
	ending.PlanEndsAt = noon().Add(time.Hour)
	w.told(ending, "evt_1")
	ended := func() (customers []string) {
		all, err := w.EndedPlans(t.Context())
		w.must(err)
		for _, sub := range all {
			customers = append(customers, sub.Customer)
		}
		return customers
	}
	w.Advance(time.Hour - time.Millisecond)
	if got := ended(); len(got) != 0 {
		t.Errorf("before the end: %v", got)
	}
	w.Advance(time.Millisecond)
	if got := ended(); !slices.Equal(got, []string{"cus_1"}) {
		t.Errorf("at the end: %v", got)
	}
	if out := w.told(ending, ""); out.To != plans.Basic || !out.Changed {
		t.Errorf("%+v", out)
	}
	if got := ended(); len(got) != 0 {
		t.Errorf("after it: %v", got)
	}
	b, err := w.Billing(t.Context(), ws)
	w.must(err)
	if c := b.Changes[0]; c.By != ByStripeCheck || c.Event != "" {
		t.Errorf("%+v", c)
	}
}

func TestPlanSetAnewWritesNoHistory(t *testing.T) {
	w := newWorld(t)
	ws := w.workspace(plans.Pro)
	for _, plan := range []plans.ID{plans.Pro, plans.Scale, plans.Scale} {
		_, err := w.SetPlan(t.Context(), ws, w.plan(plan))
		w.must(err)
	}
	b, err := w.Billing(t.Context(), ws)
	w.must(err)
	if len(b.Changes) != 2 || b.Changes[0].By != ByCommand {
		t.Errorf("%+v", b.Changes)
	}
}

// Runs over the new concurrency finish, new ones wait, and history beyond the
// new retention goes at the next clean-up, not before.
func TestADowngradeLeavesWhatRunsAndWhatIsRememberedForNow(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	old := w.start(ws, "u")
	w.end(ws, old.ID, RunCompleted)
	w.Advance(2 * 24 * time.Hour)
	var open []Answer
	for range 5 {
		open = append(open, w.start(ws, "u"))
	}
	_, err := w.SetPlan(t.Context(), ws, w.plan(plans.Basic))
	w.must(err)
	if a := w.start(ws, "u"); a.Decision.Reason != guard.MaxConcurrentRunsExceeded || a.Decision.Limit != plans.DefaultConcurrency || a.Decision.Used != 5 {
		t.Errorf("the very next start: %+v", a.Decision)
	}
	for i, run := range open {
		if a := w.step(ws, run.ID); !a.Decision.Allowed() {
			t.Errorf("a run that was allowed cannot go on: %+v", a.Decision)
		}
		w.end(ws, run.ID, RunCompleted)
		if a := w.start(ws, "u"); a.Decision.Allowed() != (i >= 2) {
			t.Errorf("with %d of 5 open: %+v", 4-i, a.Decision)
		} else if i >= 2 {
			w.end(ws, a.ID, RunCompleted)
		}
	}
	_, err = w.Run(t.Context(), ws, old.ID, "")
	w.must(err)
	_, err = w.Expire(t.Context())
	w.must(err)
	if _, err := w.Run(t.Context(), ws, old.ID, ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("after the clean-up: %v", err)
	}
}

// storeFromBeforeTheHistory has a workspace that a release without plan_changes has made, in a file;
// PostgreSQL has such ones where they were copied to it.
func storeFromBeforeTheHistory(t *testing.T) *Store {
	t.Helper()
	const account = `INSERT INTO accounts (id, uuid, email, email_key, password_hash, token_version, created_at)
		VALUES (7, x'01', 'a@example.com', 'a@example.com', 'x', 1, 0)`
	const columns = `INSERT INTO workspaces (id, uuid, account_id, name, slug, plan, kill_switch, max_concurrent_runs, run_idle_timeout_seconds,
			running_runs, created_at`
	const values = ` VALUES (7, x'00112233445566778899aabbccddeeff', 7, 'old', 'old', 'scale', 1, 9, 3600, 0, 0`
	if onPostgres != nil {
		w := newWorld(t)
		w.elsewhere(w.bytesIn(account))
		w.elsewhere(w.bytesIn(columns + `)` + values + `)`))
		return w.Store
	}
	first, err := fs.ReadFile(embed.Migrations(), "00001_guard.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := migrated(t, fstest.MapFS{"00001_guard.sql": {Data: first}})
	queryStrings(t, path, account)
	queryStrings(t, path, columns+`)`+values+`)`)
	if _, err := dbfile.Migrate(t.Context(), path, embed.Migrations()); err != nil {
		t.Fatal(err)
	}
	return openStore(t, path, noon)
}

// A workspace that is older than the history of plans has none, until its plan changes.
func TestWorkspacesFromBeforeTheHistoryWork(t *testing.T) {
	s := storeFromBeforeTheHistory(t)
	b, err := s.Billing(t.Context(), 7)
	if err != nil || len(b.Changes) != 0 || b.Subscription.Status != NoSubscription || b.Workspace.Plan.ID != plans.Scale {
		t.Fatalf("%+v, %v", b, err)
	}
	basic, err := plans.ByID(plans.Basic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetPlan(t.Context(), 7, basic); err != nil {
		t.Fatal(err)
	}
	b, err = s.Billing(t.Context(), 7)
	want := []PlanChange{{At: noon(), From: plans.Scale, To: plans.Basic, By: ByCommand, Reset: PlanReset{KillSwitch: true, MaxConcurrentRuns: 9}}}
	if diff := cmp.Diff(want, b.Changes); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}
