package server_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

func TestTheLifeOfASubscription(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	s.stands(a, "plan", "basic", "status", "none", "billing_enabled", "true", "portal_enabled", "false", "plans.0.can_buy", "false",
		"plans.1.can_buy", "true", "plans.2.can_buy", "true", "plans.3.can_buy", "false", "subscription_plan", "null")

	sub := s.buy(a, plans.Pro)
	began := s.second()
	s.stands(a, "portal_enabled", "true", "subscription_plan", "pro", "current_period_end", at(began.AddDate(0, 1, 0)),
		"cancel_at_period_end", "false", "plan_ends_at", "null", "next_plan", "null", "grace_ends_at", "null")
	s.call("PATCH", "/v1/workspace/", a.token, `{"user_daily_budget_usd":5,"max_concurrent_runs":40}`).want(http.StatusOK)
	s.call("POST", "/v1/workspace/kill-switch", a.token, `{"active":true}`).
		wantDetail(http.StatusForbidden, "Kill switch is not available on the pro plan. Upgrade to Scale or Enterprise.")

	// An upgrade, in the portal: nothing is bought twice.
	if page := s.checkout(a, plans.Scale); !isPortal(t, page) {
		t.Errorf("a second plan can be bought at %s", page)
	}
	s.send(s.stripe.SwitchPrice(sub, priceScale)...)
	s.stands(a, "plan", "scale", "subscription_plan", "scale", "status", "active")
	s.call("POST", "/v1/workspace/kill-switch", a.token, `{"active":true}`).want(http.StatusOK)

	// A payment fails and is mended within the grace.
	s.clock.set(began.AddDate(0, 1, 0))
	s.send(s.stripe.Renew(sub, false)...)
	grace := at(s.second().Add(7 * day))
	s.stands(a, "plan", "scale", "status", "past_due", "grace_ends_at", grace, "plan_ends_at", grace, "next_plan", "basic")
	s.clock.advance(6 * day)
	s.endPlans()
	s.stands(a, "plan", "scale", "status", "past_due", "grace_ends_at", grace)
	s.send(s.stripe.Mend(sub)...)
	s.stands(a, "plan", "scale", "status", "active", "grace_ends_at", "null", "plan_ends_at", "null")

	// A downgrade resets what the smaller plan lacks, and says so.
	s.send(s.stripe.SwitchPrice(sub, pricePro)...)
	s.stands(a, "plan", "pro", "changes.0.from", "scale", "changes.0.to", "pro", "changes.0.by", "stripe_event",
		"changes.0.reset", `{"kill_switch":true,"max_concurrent_runs":null,"user_daily_budget_usd":null}`)
	if got := s.call("GET", "/v1/workspace/", a.token, nil); got.text("kill_switch") != "false" || got.text("max_concurrent_runs") != "40" {
		t.Errorf("after the downgrade: %s", got.body)
	}

	// Canceled, undone, canceled again, and over.
	s.send(s.stripe.CancelAtPeriodEnd(sub, true)...)
	end := began.AddDate(0, 2, 0)
	s.stands(a, "plan", "pro", "status", "active", "cancel_at_period_end", "true", "plan_ends_at", at(end), "next_plan", "basic", "grace_ends_at", "null")
	s.send(s.stripe.CancelAtPeriodEnd(sub, false)...)
	s.stands(a, "cancel_at_period_end", "false", "plan_ends_at", "null", "next_plan", "null")
	s.send(s.stripe.CancelAtPeriodEnd(sub, true)...)
	s.clock.set(end.Add(-time.Second))
	s.endPlans()
	s.stands(a, "plan", "pro")
	s.clock.set(end)
	if n := s.endPlans(); n != 1 {
		t.Errorf("%d plans ended", n)
	}
	s.stands(a, "plan", "basic", "plan_ends_at", "null", "next_plan", "null",
		"changes.0.reset", `{"kill_switch":false,"max_concurrent_runs":40,"user_daily_budget_usd":5}`)
	s.send(s.stripe.End(sub)...)
	s.stands(a, "plan", "basic", "status", "canceled", "subscription_plan", "pro")

	// Back again: the same customer.
	s.buy(a, plans.Scale)
	if n := s.stripe.Customers(); n != 1 {
		t.Errorf("one workspace is %d customers", n)
	}
	s.wantMoves(a, ">basic by sign_up", "basic>pro by stripe_event", "pro>scale by stripe_event", "scale>pro by stripe_event",
		"pro>basic by stripe_check", "basic>scale by stripe_event")
	s.logged("a workspace's plan has changed", "from=basic", "to=pro", "event=evt_")
}

func TestPortalIsOnlyForCustomers(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	s.call("POST", "/v1/billing/portal", a.token, nil).
		wantDetail(http.StatusBadRequest, "This workspace has never had a subscription, so there is none to manage")
	s.buy(a, plans.Pro)
	if page := s.call("POST", "/v1/billing/portal", a.token, nil).want(http.StatusOK).text("url"); !isPortal(t, page) {
		t.Errorf("the portal is at %s", page)
	}
}

func TestAPlanThatTheOperatorArrangedIsNeitherSoldNorTaken(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	sub := s.buy(a, plans.Pro)
	s.setPlan(a, plans.Enterprise)
	s.stands(a, "plan", "enterprise", "subscription_plan", "pro", "plans.1.can_buy", "false", "plan_ends_at", "null")
	s.call("POST", "/v1/billing/checkout", a.token, `{"plan":"scale"}`).
		wantDetail(http.StatusBadRequest, "The enterprise plan is arranged with the operator of this server. Ask there to change it.")
	s.send(s.stripe.Renew(sub, true)...)
	s.send(s.stripe.SwitchPrice(sub, priceScale)...)
	s.send(s.stripe.End(sub)...)
	s.clock.advance(60 * day)
	s.endPlans()
	s.reconcile()
	s.stands(a, "plan", "enterprise", "status", "canceled")
}

func (s shop) setPlan(a account, id plans.ID) {
	s.t.Helper()
	_, err := s.store.SetPlan(s.t.Context(), a.workspace, planByID(s.t, id))
	s.must(err)
}

func planByID(t *testing.T, id plans.ID) plans.Plan {
	t.Helper()
	plan, err := plans.ByID(id)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// The operator's word stands until the customer decides anew.
func TestSetPlanStandsUntilTheSubscriptionChanges(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	sub := s.buy(a, plans.Pro)
	s.setPlan(a, plans.Scale)
	s.send(s.stripe.Renew(sub, true)...)
	s.reconcile()
	s.stands(a, "plan", "scale", "subscription_plan", "pro")
	s.setPlan(a, plans.Basic)
	s.send(s.stripe.SwitchPrice(sub, priceScale)...)
	s.stands(a, "plan", "scale")
	// The end of a subscription takes only what it gave.
	s.setPlan(a, plans.Pro)
	s.send(s.stripe.End(sub)...)
	s.clock.advance(60 * day)
	s.endPlans()
	s.stands(a, "plan", "pro", "status", "canceled")
}

func TestWhoPaysForNothingHasTheDefaultPlan(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *server.Config) { c.DefaultPlan = planByID(t, plans.Pro) })
	a := s.account(plans.Pro)
	sub := s.buy(a, plans.Scale)
	s.send(s.stripe.CancelAtPeriodEnd(sub, true)...)
	s.stands(a, "next_plan", "pro")
	s.clock.advance(40 * day)
	s.endPlans()
	s.stands(a, "plan", "pro")
}

// Each status that Stripe has, and what it is worth.
func TestWhatEachStatusOfStripesGives(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for status, want := range map[string][2]string{
		"trialing": {"active", "pro"}, "active": {"active", "pro"}, "past_due": {"past_due", "pro"}, "unpaid": {"past_due", "pro"},
		"paused": {"paused", "basic"}, "incomplete": {"incomplete", "basic"}, "incomplete_expired": {"none", "basic"},
		"something new": {"none", "basic"},
	} {
		a := s.account(plans.Basic)
		sub := s.buy(a, plans.Pro)
		s.send(s.stripe.SetStatus(sub, status)...)
		t.Log(status)
		s.stands(a, "status", want[0], "plan", want[1])
	}
}

// What was paid for is kept to its end; what was not, is not.
func TestASubscriptionCanceledAtOnceKeepsWhatWasPaid(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	paid, unpaid, unseen := s.account(plans.Basic), s.account(plans.Basic), s.account(plans.Basic)
	began := s.second()
	sub := s.buy(paid, plans.Pro)
	s.clock.advance(3 * day)
	s.send(s.stripe.End(sub)...)
	s.stands(paid, "plan", "pro", "status", "canceled", "plan_ends_at", at(began.AddDate(0, 1, 0)), "cancel_at_period_end", "false")
	// It may be bought again meanwhile.
	if page := s.checkout(paid, plans.Pro); isPortal(t, page) {
		t.Errorf("what has ended is managed at %s", page)
	}

	began = s.second()
	sub, late := s.buy(unpaid, plans.Pro), s.buy(unseen, plans.Pro)
	s.clock.set(began.AddDate(0, 1, 0))
	s.send(s.stripe.Renew(sub, false)...)
	s.stripe.Renew(late, false) // no event of this arrives
	s.clock.advance(2 * day)
	s.send(s.stripe.End(sub)...)
	s.send(s.stripe.End(late)...)
	for _, a := range []account{unpaid, unseen} {
		s.stands(a, "plan", "pro", "status", "canceled", "plan_ends_at", at(began.AddDate(0, 1, 7)))
	}
	s.clock.advance(5 * day)
	s.endPlans()
	s.stands(unpaid, "plan", "basic")
	s.stands(unseen, "plan", "basic")
}

// A second invoice that fails does not begin the grace anew, nor does a job undo its end.
func TestGraceEndsOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *server.Config) { c.Stripe.Grace = 40 * day })
	a := s.account(plans.Basic)
	began := s.second()
	sub := s.buy(a, plans.Pro)
	s.clock.set(began.AddDate(0, 1, 0))
	s.send(s.stripe.Renew(sub, false)...)
	grace := began.AddDate(0, 1, 40)
	s.stands(a, "grace_ends_at", at(grace))
	s.clock.set(began.AddDate(0, 2, 0))
	s.send(s.stripe.Renew(sub, false)...)
	s.stands(a, "grace_ends_at", at(grace), "plan", "pro")
	s.clock.set(grace)
	s.endPlans()
	s.endPlans()
	s.reconcile()
	s.stands(a, "plan", "basic", "status", "past_due", "grace_ends_at", "null")
	s.wantMoves(a, ">basic by sign_up", "basic>pro by stripe_event", "pro>basic by stripe_check")
	// Paid after all.
	s.send(s.stripe.Mend(sub)...)
	s.stands(a, "plan", "pro", "status", "active")
}

// The end that the customer chose comes first, when it is earlier than the grace's.
func TestGraceDoesNotOutliveACancellation(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *server.Config) { c.Stripe.Grace = 40 * day })
	a := s.account(plans.Basic)
	sub := s.buy(a, plans.Pro)
	began := s.second()
	s.send(s.stripe.CancelAtPeriodEnd(sub, true)...)
	s.send(s.stripe.SetStatus(sub, "past_due")...)
	end := at(began.AddDate(0, 1, 0))
	s.stands(a, "plan", "pro", "status", "past_due", "plan_ends_at", end, "grace_ends_at", end, "cancel_at_period_end", "true")
}

func TestTheLargestOfSeveralSubscriptionsCounts(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	small := s.buy(a, plans.Pro)
	large, events := s.stripe.Subscribe(s.customer(a), priceScale) // by the operator, in Stripe's dashboard
	s.send(events...)
	s.stands(a, "plan", "scale")
	s.send(s.stripe.Renew(small, false)...)
	s.stands(a, "plan", "scale", "status", "active")
	s.send(s.stripe.Mend(small)...)
	s.send(s.stripe.End(large)...)
	s.stands(a, "plan", "scale", "status", "canceled")
	s.clock.advance(32 * day)
	s.endPlans()
	s.stands(a, "plan", "pro", "status", "active")
}

func TestNeitherLogsNorFormsShowStripesSecrets(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *server.Config) { c.Stripe.SecretKey = "sk_test_that_stripe_does_not_take" })
	a := s.account(plans.Basic)
	s.call("POST", "/v1/billing/checkout", a.token, `{"plan":"pro"}`).want(http.StatusServiceUnavailable)
	key := server.Hidden("sk_live_secret")
	asJSON, err := json.Marshal(map[string]any{"key": key})
	s.must(err)
	var line strings.Builder
	slog.New(slog.NewTextHandler(&line, nil)).Info("x", "key", key, "config", server.StripeConfig{SecretKey: key})
	for _, text := range []string{
		s.logs.String(), string(asJSON), line.String(), fmt.Sprint(key), fmt.Sprintf("%#v %+v %q %x", key, server.StripeConfig{SecretKey: key}, key, key),
	} {
		if strings.Contains(text, "sk_") || strings.Contains(text, "whsec_") || strings.Contains(text, fmt.Sprintf("%x", "sk_live")) {
			t.Errorf("a secret shows in %s", text)
		}
	}
}
