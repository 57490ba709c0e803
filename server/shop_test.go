package server_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	standin "github.com/pikarc/server/testdata/stripe"
)

const (
	pricePro    = "price_pro"
	priceScale  = "price_scale"
	priceOldPro = "price_pro_of_last_year"
	publicURL   = "https://agents.example.com"
	day         = 24 * time.Hour
)

// shop is a server that sells plans, and the stand-in for Stripe that it sells them with.
type shop struct {
	*world
	stripe *standin.Stripe
}

func newShop(t *testing.T, changes ...func(*server.Config)) shop {
	t.Helper()
	var now atomic.Pointer[clock]
	stripe := standin.New(func() time.Time { return now.Load().now() })
	t.Cleanup(stripe.Close)
	cfg := &server.StripeConfig{
		SecretKey: standin.SecretKey, WebhookSecrets: []server.Hidden{standin.WebhookSecret}, PublicURL: publicURL, APIURL: stripe.URL,
		Prices: map[plans.ID][]string{plans.Pro: {pricePro, priceOldPro}, plans.Scale: {priceScale}},
	}
	w := newWorld(t, append([]func(*server.Config){func(c *server.Config) { c.Stripe = cfg }}, changes...)...)
	now.Store(w.clock)
	return shop{w, stripe}
}

// account makes a tenant who stays signed in through years of billing.
func (s shop) account(plan plans.ID) account {
	s.t.Helper()
	a := s.world.account(plan)
	var err error
	a.token, err = auth.NewTokens(s.secret, 3650*day, s.clock.now).Issue(auth.NewSessionID(), a.id.String(), a.workspaceID.String(), 1)
	s.must(err)
	return a
}

// send delivers events, each of which must be taken.
func (s shop) send(events ...standin.Event) {
	s.t.Helper()
	for _, e := range events {
		s.post(e).want(http.StatusOK)
	}
}

func (s shop) post(e standin.Event) *response {
	s.t.Helper()
	return s.call("POST", "/v1/billing/webhook", "", e.Body, "Stripe-Signature", standin.Sign(e.Body, standin.WebhookSecret, time.Now()))
}

func (s shop) billing(a account) *response {
	s.t.Helper()
	return s.call("GET", "/v1/billing/", a.token, nil).want(http.StatusOK)
}

// checkout asks for a plan and returns the page.
func (s shop) checkout(a account, plan plans.ID) string {
	s.t.Helper()
	return s.call("POST", "/v1/billing/checkout", a.token, map[string]any{"plan": plan}).want(http.StatusOK).text("url")
}

// buy buys a plan, from the click to the last event, and returns the subscription.
func (s shop) buy(a account, plan plans.ID) string {
	s.t.Helper()
	subscription, events, err := s.stripe.Pay(s.checkout(a, plan))
	s.must(err)
	s.send(events...)
	s.stands(a, "plan", string(plan), "status", "active")
	return subscription
}

// stands fails unless the billing shows these values of these fields.
func (s shop) stands(a account, fieldsAndValues ...string) {
	s.t.Helper()
	b := s.billing(a)
	for pair := range slices.Chunk(fieldsAndValues, 2) {
		if got := b.text(pair[0]); got != pair[1] {
			s.t.Errorf("%s is %s, want %s, in %s", pair[0], got, pair[1], b.body)
		}
	}
}

// customer is the workspace's in Stripe.
func (s shop) customer(a account) string {
	s.t.Helper()
	b, err := s.store.Billing(s.t.Context(), a.workspace)
	s.must(err)
	return b.Subscription.Customer
}

// endPlans and reconcile run the jobs, once.
func (s shop) endPlans() int {
	s.t.Helper()
	n, err := s.server.EndPlans(s.t.Context())
	s.must(err)
	return n
}

func (s shop) reconcile() int {
	s.t.Helper()
	n, err := s.server.Reconcile(s.t.Context())
	s.must(err)
	return n
}

// moves are the plan changes of a workspace, oldest first: "basic>pro by stripe_event".
func (s shop) moves(a account) (all []string) {
	s.t.Helper()
	b, err := s.store.Billing(s.t.Context(), a.workspace)
	s.must(err)
	for _, c := range slices.Backward(b.Changes) {
		all = append(all, string(c.From)+">"+string(c.To)+" by "+c.By.String())
	}
	return all
}

func (s shop) wantMoves(a account, want ...string) {
	s.t.Helper()
	if got := s.moves(a); !slices.Equal(got, want) {
		s.t.Errorf("the plan moved %q, want %q", got, want)
	}
}

// logged fails unless the server has logged a line with all of these words.
func (s shop) logged(words ...string) {
	s.t.Helper()
	for line := range strings.Lines(s.logs.String()) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			return
		}
	}
	s.t.Errorf("no line of the log has %q:\n%s", words, s.logs)
}

func at(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// second is the clock as Stripe sees it: in whole seconds.
func (s shop) second() time.Time { return s.clock.now().Truncate(time.Second) }

func isPortal(t *testing.T, page string) bool {
	t.Helper()
	u, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(u.Path, "/pages/portal/")
}
