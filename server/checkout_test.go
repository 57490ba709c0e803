package server_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

func TestCheckoutLeadsToStripesPageAndBack(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	var form map[string][]string
	s.stripe.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method+r.URL.Path == "POST/v1/checkout/sessions" {
			form = r.Form
		}
		return false
	})
	page := s.checkout(a, plans.Scale)
	for name, want := range map[string]string{
		"mode": "subscription", "customer": s.customer(a), "client_reference_id": a.workspaceID.String(),
		"line_items[0][price]": priceScale, "line_items[0][quantity]": "1",
		"success_url": publicURL + "/plan?checkout=done", "cancel_url": publicURL + "/plan?checkout=canceled",
		"subscription_data[metadata][pikarc_workspace]": a.workspaceID.String(),
	} {
		if got := form[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	answer, err := http.Get(page)
	s.must(err)
	s.must(answer.Body.Close())
	if answer.StatusCode != http.StatusOK {
		t.Errorf("the page answers %d", answer.StatusCode)
	}
	s.stands(a, "plan", "basic", "status", "none", "portal_enabled", "true") // nothing is paid yet
}

func TestSecondClickFindsTheSamePageAndAnotherPlanClosesIt(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	pro := s.checkout(a, plans.Pro)
	if again := s.checkout(a, plans.Pro); again != pro {
		t.Errorf("a second click leads to another page: %s, %s", pro, again)
	}
	scale := s.checkout(a, plans.Scale)
	if _, _, err := s.stripe.Pay(pro); err == nil {
		t.Error("the page of the plan that was given up can still be paid")
	}
	if again := s.checkout(a, plans.Pro); again == pro || again == scale {
		t.Errorf("the third choice leads to a page of before: %s", again)
	}
	if n := s.stripe.Open(); n != 1 {
		t.Errorf("%d pages are open", n)
	}
}

// Many clicks at once, for either plan: one customer, and one page at most on
// which something can be bought.
func TestRacingCheckoutsBuyNothingTwice(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for range 5 {
		a, before := s.account(plans.Basic), s.stripe.Customers()
		s.raceToCheckout(a, 12)
		if n := s.stripe.Customers() - before; n != 1 {
			t.Errorf("one workspace is %d customers", n)
		}
		if n := s.stripe.Open(); n != 1 {
			t.Fatalf("%d pages are open", n)
		}
		s.buy(a, plans.Pro)
		s.raceToCheckout(a, 4)
		if n := s.stripe.Open(); n != 0 {
			t.Fatalf("%d pages are open beside a subscription", n)
		}
	}
}

func (s shop) raceToCheckout(a account, clicks int) {
	s.t.Helper()
	var group sync.WaitGroup
	for i := range clicks {
		group.Go(func() {
			plan := []string{`{"plan":"pro"}`, `{"plan":"scale"}`}[i%2]
			r, err := s.try("POST", "/v1/billing/checkout", a.token, plan)
			if err != nil || r.status != http.StatusOK && r.status != http.StatusServiceUnavailable {
				s.t.Errorf("%v %+v", err, r)
			}
		})
	}
	group.Wait()
}

// The page is paid in another tab between our looks at it.
func TestPaidInTheMeantimeLeadsToThePortal(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"GET /v1/subscriptions", "POST /expire"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			a := s.account(plans.Basic)
			page := s.checkout(a, plans.Pro)
			var once sync.Once
			s.stripe.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				method, path, _ := strings.Cut(when, " ")
				if r.Method == method && strings.HasSuffix(r.URL.Path, path) {
					once.Do(func() {
						if _, _, err := s.stripe.Pay(page); err != nil {
							t.Error(err)
						}
					})
				}
				return false
			})
			if got := s.checkout(a, plans.Scale); !isPortal(t, got) {
				t.Errorf("a plan can be bought again at %s", got)
			}
		})
	}
}

func TestEveryLivingSubscriptionIsManagedNotBought(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, status := range []string{"active", "trialing", "past_due", "unpaid", "paused", "incomplete"} {
		a := s.account(plans.Basic)
		sub := s.buy(a, plans.Pro)
		s.stripe.SetStatus(sub, status) // no event of this has arrived
		for _, plan := range []plans.ID{plans.Pro, plans.Scale} {
			if page := s.checkout(a, plan); !isPortal(t, page) {
				t.Errorf("beside a subscription that is %s, %s is bought at %s", status, plan, page)
			}
		}
	}
}

func TestDeletedCustomerBecomesANewOne(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	s.buy(a, plans.Pro)
	before := s.customer(a)
	s.send(s.stripe.DeleteCustomer(before)...)
	s.stands(a, "plan", "basic", "status", "none")
	s.buy(a, plans.Scale)
	if got := s.customer(a); got == before {
		t.Errorf("the customer is still %s", got)
	}
}

// A refusal is a mistake in the settings or in this server: logged in full, shown to nobody.
func TestRefusalOfStripesIsLoggedNotShown(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.expectBugs = true
	a := s.account(plans.Basic)
	s.stripe.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method+r.URL.Path != "POST/v1/checkout/sessions" {
			return false
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":{"type":"invalid_request_error","code":"resource_missing","message":"No such price: 'price_scale'"}}`))
		return true
	})
	s.call("POST", "/v1/billing/checkout", a.token, `{"plan":"scale"}`).wantDetail(http.StatusInternalServerError, "Internal Server Error")
	s.logged("level=ERROR", "No such price: 'price_scale'")
}

func TestOnlyPlansWithAPriceAreSold(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *server.Config) { c.Stripe.Prices = map[plans.ID][]string{plans.Scale: {priceScale}} })
	a := s.account(plans.Basic)
	s.stands(a, "plans.1.can_buy", "false", "plans.2.can_buy", "true")
	s.call("POST", "/v1/billing/checkout", a.token, `{"plan":"pro"}`).
		wantDetail(http.StatusBadRequest, "The pro plan is not sold on this server")
}
