package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// notices lists what a workspace's endpoints are told, in the form "event status key=value …".
func (w *world) notices(ws WorkspaceKey, keys ...string) (all []string) {
	w.t.Helper()
	w.must(w.read(w.t.Context(), func(tx *Tx) error {
		return tx.each(`SELECT event, data FROM deliveries WHERE workspace_id = $1 ORDER BY id`, []any{ws}, func(rows scanner) error {
			var kind EventKind
			var text string
			if err := rows.Scan(&kind, &text); err != nil {
				return err
			}
			var data map[string]any
			err := json.Unmarshal([]byte(text), &data)
			line := kind.String()
			for _, key := range keys {
				if v, has := data[key]; has {
					line += fmt.Sprintf(" %v", v)
				}
			}
			all = append(all, line)
			return err
		})
	}))
	return all
}

func wantTold(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("told\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// spender makes a workspace in which a token of the model "cent" costs a cent.
func (w *world) spender(daily, user int64, events Events) (ws WorkspaceKey, spend func(user string, cents int64)) {
	w.t.Helper()
	ws = w.unlimitedWorkspace()
	w.price(ws, "cent", plans.Price(plans.USD)*10, 0)
	w.budgets(ws, daily, user)
	w.wants(ws, events)
	runs := map[string]uuid.UUID{}
	return ws, func(user string, cents int64) {
		w.t.Helper()
		if runs[user] == uuid.Nil {
			runs[user] = w.start(ws, user).ID
		}
		a, err := w.CreateStep(w.t.Context(), Caller{Workspace: ws}, runs[user], NewStep{Type: 1, Model: new("cent")}, allow)
		w.must(err)
		w.patch(ws, runs[user], a.ID, cents, 0)
	}
}

// budgets sets both daily budgets, in cents; 0 for none.
func (w *world) budgets(ws WorkspaceKey, daily, user int64) {
	w.t.Helper()
	cents := func(n int64) *plans.Budget { return &plans.Budget{Limit: plans.USD / 100 * plans.Money(n), Set: n > 0} }
	_, err := w.UpdateWorkspace(w.t.Context(), ws, WorkspaceChange{DailyBudget: cents(daily), UserDailyBudget: cents(user)})
	w.must(err)
}

func TestABudgetIsToldOnceAtHalfMostAndAll(t *testing.T) {
	w := newWorld(t)
	ws, spend := w.spender(1000, 400, EventsOf(BudgetThreshold))
	for range 10 {
		spend("ada", 20)
		spend("bob", 80)
	}
	told := w.notices(ws, "user_id", "percent", "status")
	wantTold(t, told,
		"budget.threshold bob 50 firing", "budget.threshold bob 80 firing", "budget.threshold 50 firing",
		"budget.threshold bob 100 firing", "budget.threshold 80 firing",
		"budget.threshold ada 50 firing", "budget.threshold 100 firing")
	spend("bob", 500) // far beyond
	wantTold(t, w.notices(ws, "user_id", "percent", "status"), told...)
}

func TestOnlyTheHighestPercentageOfOneBookingIsTold(t *testing.T) {
	w := newWorld(t)
	ws, spend := w.spender(100, 0, AllEvents)
	spend("ada", 85)
	spend("ada", 1)
	wantTold(t, w.notices(ws, "percent", "limit_usd", "spent_usd", "resets_at"), "budget.threshold 80 1 0.85 2026-11-16T00:00:00.000Z")
}

func TestTenThousandCrossingsAtOnceAreToldOnce(t *testing.T) {
	w := newWorld(t)
	ws, spend := w.spender(10_000, 0, EventsOf(BudgetThreshold))
	spend("ada", 7_900)
	const crossings, askers = 10_000, 50
	run := w.start(ws, "ada").ID
	steps := make([]uuid.UUID, crossings)
	together(askers, func(i int) {
		for j := i; j < crossings; j += askers {
			a, err := w.CreateStep(context.Background(), Caller{Workspace: ws}, run, NewStep{Type: 1, Model: new("cent")}, allow)
			if err != nil {
				t.Error(err)
			}
			steps[j] = a.ID
		}
	})
	// Each of them alone crosses 80 %, and with those before it 100 % as well: half of them are corrected at once.
	together(askers, func(i int) {
		for j := i; j < crossings; j += askers {
			for _, cents := range []int64{101, 0} {
				in := StepUpdate{Status: StepCompleted, PromptTokens: &cents}
				if _, err := w.UpdateStep(context.Background(), Caller{Workspace: ws}, run, steps[j], in); err != nil {
					t.Error(err)
				}
			}
		}
	})
	told := w.notices(ws, "percent")
	for i, line := range told {
		if slices.Contains(told[:i], line) {
			t.Fatalf("%s is told again: %q", line, told)
		}
	}
	if !slices.Contains(told, "budget.threshold 80") && !slices.Contains(told, "budget.threshold 100") {
		t.Errorf("told %q", told)
	}
}

func TestAReachedBudgetIsResolvedOnce(t *testing.T) {
	w := newWorld(t)
	ws, spend := w.spender(100, 50, EventsOf(BudgetThreshold))
	check := func() { t.Helper(); w.must(w.CheckAlerts(t.Context())) }
	spend("ada", 100)
	check()
	w.budgets(ws, 200, 50) // half of it is left
	check()
	w.budgets(ws, 110, 50)
	check()
	want := []string{
		"budget.threshold 100 firing", "budget.threshold ada 100 firing", "budget.threshold 100 resolved limit_changed",
		"budget.threshold 80 firing",
	}
	told := func() []string { t.Helper(); return w.notices(ws, "user_id", "percent", "status", "reason") }
	wantTold(t, told(), want...)
	w.Advance(24 * time.Hour)
	check()
	check()
	want = append(want, "budget.threshold 80 resolved window_over", "budget.threshold ada 100 resolved window_over")
	wantTold(t, told(), want...)
	spend("ada", 60) // another day
	wantTold(t, told(), append(want, "budget.threshold 50 firing", "budget.threshold ada 100 firing")...)
}

func TestAModelWithoutAPriceIsToldOnceADayAndMadeUpOnesAreBounded(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.wants(ws, EventsOf(UnpricedModelUsed))
	run := w.start(ws, "ada").ID
	use := func(model string) { w.patch(ws, run, w.createModelCall(ws, run, model), 5, 6) }
	use("new")
	use("new")
	wantTold(t, w.notices(ws, "model", "tokens"), "model.unpriced new 11")
	w.Advance(24 * time.Hour)
	use("new")
	if n := len(w.notices(ws)); n != 2 {
		t.Errorf("%d are told on the second day, want 2", n)
	}
	for i := range 3 * maxUnpricedNotices {
		use(fmt.Sprint("made up ", i))
	}
	if n := len(w.notices(ws)); n != 1+maxUnpricedNotices {
		t.Errorf("%d are told of made-up names", n)
	}
}

func TestARefusedSignInIsToldOnceAnHour(t *testing.T) {
	w := newWorld(t)
	a, ws, _, err := w.CreateAccount(t.Context(), NewAccount{Email: "ana@example.com", Plan: plans.Scale})
	w.must(err)
	w.wants(ws.Key(), EventsOf(SignInRefused))
	from := WithActor(t.Context(), Actor{Kind: ActorNobody, Address: "203.0.113.5"})
	refuse := func() { w.must(w.SignedIn(from, a, "", nil)) }
	refuse()
	w.Advance(30 * time.Minute)
	refuse()
	wantTold(t, w.notices(ws.Key(), "email", "address"), "sign_in.refused ana@example.com 203.0.113.5")
	w.Advance(31 * time.Minute)
	refuse()
	if n := len(w.notices(ws.Key())); n != 2 {
		t.Errorf("%d are told in two hours, want 2", n)
	}
}

func TestAForecastIsToldOnceADay(t *testing.T) {
	w := newWorld(t)
	ws, spend := w.spender(1000, 0, EventsOf(BudgetForecast))
	minutes := func(n int, cents int64) {
		for range n {
			if cents > 0 {
				spend("ada", cents)
			}
			w.Advance(time.Minute)
			w.must(w.CheckAlerts(t.Context()))
		}
	}
	minutes(30, 2)
	wantTold(t, w.notices(ws))
	minutes(30, 2)
	// $0.84 of $10.00 in 42 minutes make $0.84 an hour: the rest is gone in less than 11 hours.
	wantTold(t, w.notices(ws, "status", "reached_at"), "budget.forecast firing 2026-11-15T23:52:00.000Z")
	minutes(60, 0)
	minutes(60, 9)
	wantTold(t, w.notices(ws, "status"), "budget.forecast firing", "budget.forecast resolved")
	w.Advance(24 * time.Hour)
	minutes(60, 2)
	if got := w.notices(ws, "status"); len(got) != 3 || got[2] != "budget.forecast firing" {
		t.Errorf("on the next day: %q", got)
	}
}

func TestASpikeIsFiveTimesTheUsual(t *testing.T) {
	w := newWorld(t)
	ws, spend := w.spender(0, 0, EventsOf(SpendSpike))
	for range 4 { // usually $1.20 an hour, from noon on
		for range 12 {
			spend("ada", 120)
			w.Advance(time.Hour)
		}
		w.Advance(12 * time.Hour)
	}
	minutes := func(n int, cents int64) {
		for range n {
			spend("ada", cents)
			w.Advance(time.Minute)
			w.must(w.CheckAlerts(t.Context()))
		}
	}
	minutes(120, 9) // $5.40 an hour
	wantTold(t, w.notices(ws))
	minutes(120, 11)
	wantTold(t, w.notices(ws, "status", "usual_usd_per_hour", "factor"), "spend.spike firing 1.2 5")
	minutes(60, 6)
	wantTold(t, w.notices(ws, "status"), "spend.spike firing")
	minutes(60, 1)
	wantTold(t, w.notices(ws, "status"), "spend.spike firing", "spend.spike resolved")
}

func TestTheOperatorIsToldOfTheServerOnceAndOfItsEndOnce(t *testing.T) {
	w := newWorld(t)
	alert := func(firing bool) {
		w.must(w.Alert(t.Context(), ServerAlert{Kind: DiskLow, Firing: firing, Data: map[string]any{"free_bytes": 5}}))
	}
	alert(true) // there is nobody yet
	operator, tenant := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	w.wants(tenant, AllEvents)
	alert(true)
	w.wants(operator, EventsOf(DiskLow))
	alert(false)
	for range 2 {
		alert(true)
		alert(true)
		alert(false)
		alert(false)
	}
	wantTold(t, w.notices(operator, "status", "free_bytes"),
		"disk.low firing 5", "disk.low resolved 5", "disk.low firing 5", "disk.low resolved 5")
	wantTold(t, w.notices(tenant))
}

func TestAnErasedUserIsInNoOutbox(t *testing.T) {
	w := newWorld(t)
	ws, spend := w.spender(0, 100, AllEvents)
	spend("maria", 60)
	spend("bob", 60)
	w.erase(ws, "maria")
	wantTold(t, w.notices(ws, "user_id"), "budget.threshold bob")
}

func TestWhatIsSentIsRecorded(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	e := w.wants(ws, AllEvents)
	d, err := w.TestEndpoint(t.Context(), ws, e.ID)
	w.must(err)
	attempt := func(a Attempt, want DeliveryState) {
		t.Helper()
		a.At = w.Now()
		w.must(w.RecordAttempt(t.Context(), e, d.ID, a))
		all, _, err := w.Deliveries(t.Context(), ws, e.ID, DeliveryFilter{Limit: 5})
		w.must(err)
		if len(all) != 1 || all[0].ID != d.ID || all[0].State != want {
			t.Errorf("after %+v: %+v, want %s", a, all, want)
		}
	}
	attempt(Attempt{Problem: "answered 500", Status: 500, Next: w.Now().Add(time.Minute)}, DeliveryPending)
	if due, oldest, err := w.DueEndpoints(t.Context()); err != nil || len(due) != 1 || !due[0].At.Equal(w.Now().Add(time.Minute)) || !oldest.Equal(w.Now()) {
		t.Errorf("due %+v, oldest %s, %v", due, oldest, err)
	}
	attempt(Attempt{Problem: "answered 500", Status: 500}, DeliveryFailed)
	_, err = w.Resend(t.Context(), ws, e.ID, d.ID)
	w.must(err)
	attempt(Attempt{Status: 204}, DeliveryDelivered)
	if due, _, err := w.DueEndpoints(t.Context()); err != nil || len(due) != 0 {
		t.Errorf("due %+v, %v", due, err)
	}
	w.must(w.SwitchOff(t.Context(), e, OffGone))
	if _, err := w.Outgoing(t.Context(), e.key, 1); !errors.Is(err, ErrEndpointOff) {
		t.Errorf("what is sent to an endpoint that is off: %v", err)
	}
	if _, err := w.Resend(t.Context(), ws, e.ID, d.ID); !errors.Is(err, ErrEndpointOff) {
		t.Errorf("sent again to one that is off: %v", err)
	}
	if e, err = w.Endpoint(t.Context(), ws, e.ID); err != nil || e.OffReason != OffGone {
		t.Errorf("%+v, %v", e, err)
	}
}

// alertCalls spends so that everything is told that can be.
func alertCalls(w *world, ws WorkspaceKey) error {
	ctx, one := w.t.Context(), plans.Budget{Limit: plans.USD, Set: true}
	run := w.start(ws, "alerted").ID
	spend := func(cents int64) {
		w.patch(ws, run, w.createModelCall(ws, run, "cents"), cents, 0)
	}
	w.price(ws, "cents", plans.Price(plans.USD)*10, 0)
	spend(1)
	w.patch(ws, run, w.createModelCall(ws, run, "nobody's"), 1, 0)
	_, err := w.UpdateWorkspace(ctx, ws, WorkspaceChange{UserDailyBudget: &one, DailyBudget: &one})
	w.policy(ws, "a-limit", `{"limit":{"measure":"calls","per":"user","window":"hour","amount":2},"effect":"log"}`)
	spend(79)
	err = errors.Join(err, w.CheckAlerts(ctx))
	w.must(w.DeletePolicy(ctx, ws, "a-limit"))
	w.Advance(24 * time.Hour)
	for range 16 {
		spend(6)
		w.Advance(time.Minute)
		err = errors.Join(err, w.CheckAlerts(ctx))
	}
	_, err2 := w.UpdateWorkspace(ctx, ws, WorkspaceChange{UserDailyBudget: &plans.Budget{}, DailyBudget: &plans.Budget{}})
	return errors.Join(err, err2)
}
