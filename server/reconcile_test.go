package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	standin "github.com/pikarc/server/testdata/stripe"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

// failFor has Stripe fail for one customer only.
func failFor(customer string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("customer") != customer {
			return false
		}
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
}

func TestOneFailingCustomerHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	failing, missed, ending := s.account(plans.Basic), s.account(plans.Basic), s.account(plans.Basic)
	s.buy(failing, plans.Pro) // the first of the round, and the first whose plan has ended
	_, _, err := s.stripe.Pay(s.checkout(missed, plans.Scale))
	s.must(err)
	sub := s.buy(ending, plans.Pro)
	s.stripe.Intercept(failFor(s.customer(failing)))
	if n, err := s.server.Reconcile(t.Context()); n != 1 || err == nil || !strings.Contains(err.Error(), "1 of 3 customers") ||
		!strings.Contains(err.Error(), s.customer(failing)) {
		t.Errorf("repaired %d, %v", n, err)
	}
	s.stands(missed, "plan", "scale")

	s.stripe.Intercept(nil)
	for _, one := range []account{failing, ending} {
		s.exec(`UPDATE subscriptions SET plan_ends_at = 1 WHERE customer = '` + s.customer(one) + `'`)
	}
	s.stripe.End(sub)
	s.clock.advance(32 * day)
	s.stripe.Intercept(failFor(s.customer(failing)))
	if n, err := s.server.EndPlans(t.Context()); n != 1 || err == nil {
		t.Errorf("ended %d, %v", n, err)
	}
	s.stands(ending, "plan", "basic")
	s.stands(failing, "plan", "pro")
}

func TestTwoWebhookSecretsAreTakenDuringARoll(t *testing.T) {
	t.Parallel()
	const fresh = "whsec_of_tomorrow"
	s := newShop(t, func(c *server.Config) { c.Stripe.WebhookSecrets = []server.Hidden{fresh, standin.WebhookSecret} })
	a := s.account(plans.Basic)
	_, events, err := s.stripe.Pay(s.checkout(a, plans.Pro))
	s.must(err)
	for i, secret := range []string{fresh, standin.WebhookSecret} {
		s.call("POST", "/v1/billing/webhook", "", events[i].Body, "Stripe-Signature", standin.Sign(events[i].Body, secret, time.Now())).want(http.StatusOK)
		stale := standin.Sign(events[i].Body, secret, time.Now().Add(-6*time.Minute))
		s.call("POST", "/v1/billing/webhook", "", events[i].Body, "Stripe-Signature", stale).wantDetail(http.StatusBadRequest, "The signature is too old")
	}
	other := standin.Sign(events[0].Body, "whsec_of_yesterday", time.Now())
	s.call("POST", "/v1/billing/webhook", "", events[0].Body, "Stripe-Signature", other).
		wantDetail(http.StatusBadRequest, "The signature is not that of this server's webhook secret")
	s.stands(a, "plan", "pro")
}

func TestAnEndThatIsSecondsOffThePeriodsIsThePeriodsEnd(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for off, atPeriodEnd := range map[time.Duration]string{
		-time.Second: "true", time.Second: "true", time.Minute: "true", time.Hour: "false", -day: "true",
	} {
		a := s.account(plans.Basic)
		end := s.second().AddDate(0, 1, 0)
		sub := s.buy(a, plans.Pro)
		s.send(s.stripe.CancelAt(sub, end.Add(off))...)
		t.Log(off)
		s.stands(a, "plan", "pro", "cancel_at_period_end", atPeriodEnd, "plan_ends_at", at(end.Add(off)))
	}
}

func TestACustomerIsMadeAfterItsNameHasChanged(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	// The customer is made, but the answer is lost.
	s.exec(`CREATE TRIGGER trouble BEFORE INSERT ON subscriptions BEGIN SELECT RAISE(ABORT, 'trouble'); END`)
	s.expectBugs = true
	s.call("POST", "/v1/billing/checkout", a.token, `{"plan":"pro"}`).want(http.StatusInternalServerError)
	s.exec(`DROP TRIGGER trouble`)
	s.call("PATCH", "/v1/workspace", a.token, `{"name":"Renamed"}`).want(http.StatusOK)
	s.checkout(a, plans.Pro)
	if n := s.stripe.Customers(); n != 2 {
		t.Errorf("%d customers, want the one that was lost and the new one", n)
	}
	s.checkout(a, plans.Pro)
	if n := s.stripe.Customers(); n != 2 {
		t.Errorf("a second click made another: %d", n)
	}
}
