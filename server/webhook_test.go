package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	standin "github.com/pikarc/server/testdata/stripe"
)

// firstFive buys a plan and goes through what most subscriptions go through
// first; none of its five events has arrived yet.
func (s shop) firstFive(a account) []standin.Event {
	s.t.Helper()
	sub, events, err := s.stripe.Pay(s.checkout(a, plans.Pro))
	s.must(err)
	events = append(events, s.stripe.SwitchPrice(sub, priceScale)...)
	events = append(events, s.stripe.Renew(sub, false)[0])
	if len(events) != 5 {
		s.t.Fatalf("%d events", len(events))
	}
	return events
}

func TestEventsInAnyOrderAndThriceEndTheSame(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	orders := permutations([]int{0, 1, 2, 3, 4})
	if len(orders) != 120 {
		t.Fatalf("%d orders", len(orders))
	}
	grace := at(s.second().Add(7 * day))
	for _, order := range orders {
		a := s.account(plans.Basic)
		events := s.firstFive(a)
		for _, i := range order {
			s.send(events[i], events[i], events[i])
		}
		s.stands(a, "plan", "scale", "status", "past_due", "grace_ends_at", grace, "subscription_plan", "scale")
		s.wantMoves(a, ">basic by sign_up", "basic>scale by stripe_event") // one effect, not fifteen
		if t.Failed() {
			t.Fatalf("in the order %v", order)
		}
	}
}

func permutations(of []int) (all [][]int) {
	if len(of) == 0 {
		return [][]int{nil}
	}
	for i, first := range of {
		rest := append(append([]int{}, of[:i]...), of[i+1:]...)
		for _, p := range permutations(rest) {
			all = append(all, append([]int{first}, p...))
		}
	}
	return all
}

// Whatever happens at Stripe, and whichever of its events arrive when and how
// often: once each has arrived, we stand where Stripe stands.
func TestAnyLifeSettlesOnStripesNewestState(t *testing.T) {
	t.Parallel()
	const lives = 40 // each reconciliation looks at all customers so far
	s, lived, failed := newShop(t), 0, false
	rapid.Check(t, func(rt *rapid.T) {
		if lived++; lived > lives && !failed { // a failure is looked for again, and made small
			return
		}
		a := s.account(plans.Basic)
		sub, pending, err := s.stripe.Pay(s.checkout(a, plans.Pro))
		s.must(err)
		price, status := pricePro, "active"
		for range rapid.IntRange(2, 7).Draw(rt, "length") {
			switch rapid.IntRange(0, 6).Draw(rt, "what") {
			case 0, 1, 2:
				i := rapid.IntRange(0, len(pending)-1).Draw(rt, "event")
				s.send(pending[i])
			case 3:
				price = rapid.SampledFrom([]string{pricePro, priceOldPro, priceScale}).Draw(rt, "price")
				pending = append(pending, s.stripe.SwitchPrice(sub, price)...)
			case 4:
				pending, status = append(pending, s.stripe.Renew(sub, false)...), "past_due"
			case 5:
				pending, status = append(pending, s.stripe.Mend(sub)...), "active"
			case 6:
				s.reconcile()
			}
		}
		for _, i := range rapid.Permutation(indexes(pending)).Draw(rt, "order") {
			s.send(pending[i])
		}
		want := map[string]string{pricePro: "pro", priceOldPro: "pro", priceScale: "scale"}[price] + " " + status
		if b := s.billing(a); b.text("plan")+" "+b.text("status") != want {
			failed = true
			rt.Fatalf("want %s, have %s", want, b.body)
		}
	})
}

func indexes(events []standin.Event) (all []int) {
	for i := range events {
		all = append(all, i)
	}
	return all
}

// Deliveries that race: each lists the subscriptions, and whoever listed them
// before another's news must list again.
func TestRacingEventsEndTheSame(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	events := s.firstFive(a)
	var group sync.WaitGroup
	for i := range 4 * len(events) {
		group.Go(func() {
			e := events[i%len(events)]
			sign := standin.Sign(e.Body, standin.WebhookSecret, time.Now())
			r, err := s.try("POST", "/v1/billing/webhook", "", e.Body, "Stripe-Signature", sign)
			if err != nil || r.status != http.StatusOK {
				t.Errorf("%s: %v %+v", e.Type, err, r)
			}
		})
	}
	group.Wait()
	s.stands(a, "plan", "scale", "status", "past_due")
	s.wantMoves(a, ">basic by sign_up", "basic>scale by stripe_event")
}

// What was listed before the news of another must not overwrite it.
func TestOlderNewsNeverOverwritesNewer(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	sub := s.buy(a, plans.Pro)
	older := s.stripe.Renew(sub, true)[0]
	listed, overtaken := make(chan struct{}), make(chan struct{})
	var first sync.Once
	s.stripe.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		held := false
		if r.URL.Path == "/v1/subscriptions" {
			first.Do(func() { held = true })
		}
		if !held {
			return false
		}
		// The answer of this moment, which arrives late.
		fmt.Fprintf(w, `{"object":"list","has_more":false,"data":[{"id":%q,"object":"subscription","status":"active","created":%d,
			"items":{"object":"list","data":[{"price":{"id":%q},"current_period_start":1,"current_period_end":4000000000}]}}]}`, sub, s.second().Unix(), pricePro)
		close(listed)
		<-overtaken
		return true
	})
	done := make(chan *response)
	go func() {
		r, err := s.try("POST", "/v1/billing/webhook", "", older.Body, "Stripe-Signature", standin.Sign(older.Body, standin.WebhookSecret, time.Now()))
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	<-listed
	s.send(s.stripe.SwitchPrice(sub, priceScale)...)
	close(overtaken)
	(<-done).want(http.StatusOK)
	s.stands(a, "plan", "scale")
}

func TestForgedStaleAndUnsignedEventsAreRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	_, events, err := s.stripe.Pay(s.checkout(a, plans.Pro))
	s.must(err)
	body := events[1].Body
	const notOurs, tooOld, missing = "The signature is not that of this server's webhook secret", "The signature is too old", "The Stripe-Signature header is missing"
	now := time.Now()
	good := standin.Sign(body, standin.WebhookSecret, now)
	asked := len(s.stripe.Calls())
	for name, c := range map[string]struct {
		body      []byte
		signature string
		want      string
	}{
		"unsigned":               {body, "", missing},
		"another secret":         {body, standin.Sign(body, "whsec_of_somebody_else", now), notOurs},
		"another body":           {append([]byte(" "), body...), good, notOurs},
		"no signature in it":     {body, "t=1", notOurs},
		"not a signature":        {body, "hello", notOurs},
		"another scheme":         {body, strings.Replace(good, "v1=", "v0=", 1), notOurs},
		"stale":                  {body, standin.Sign(body, standin.WebhookSecret, now.Add(-6*time.Minute)), tooOld},
		"stale time made recent": {body, strings.Replace(standin.Sign(body, standin.WebhookSecret, now.Add(-time.Hour)), fmt.Sprint(now.Add(-time.Hour).Unix()), fmt.Sprint(now.Unix()), 1), notOurs},
		"bytes that say nothing": {[]byte("{}"), standin.Sign([]byte("{}"), standin.WebhookSecret, now), "The body is not an event of Stripe's"},
		"no JSON":                {[]byte("x"), standin.Sign([]byte("x"), standin.WebhookSecret, now), "The body is not an event of Stripe's"},
	} {
		headers := []string{"Stripe-Signature", c.signature}
		if c.signature == "" {
			headers = nil
		}
		t.Log(name)
		s.call("POST", "/v1/billing/webhook", "", c.body, headers...).wantDetail(http.StatusBadRequest, c.want)
	}
	s.call("POST", "/v1/billing/webhook", a.token, body).wantDetail(http.StatusBadRequest, missing) // no bearer stands for a signature
	if got := s.stripe.Calls(); len(got) != asked {
		t.Errorf("events without a valid signature made the server ask Stripe: %v", got[asked:])
	}
	s.stands(a, "plan", "basic", "status", "none")
	s.logged("without a valid signature")
	s.send(events...)
	s.stands(a, "plan", "pro")
}

func TestEventsThatAreNotOursAreTakenAndChangeNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	_, foreign := s.stripe.Subscribe("cus_of_another_product", pricePro)
	s.send(foreign...)
	s.logged("customer that is no workspace's", "cus_of_another_product", foreign[0].ID)
	for _, body := range []string{
		`{"id":"evt_x1","type":"charge.succeeded","data":{"object":{"customer":"cus_of_another_product"}}}`,
		`{"id":"evt_x2","type":"invoice.paid","data":{"object":{"customer":null}}}`,
		`{"id":"evt_x3","type":"invoice.paid"}`,
		`{"id":"evt_x4","type":"checkout.session.completed","data":{"object":{"customer":{"id":"cus_of_another_product"}}}}`,
	} {
		s.send(standin.Event{Body: []byte(body)})
	}
	s.stands(a, "plan", "basic", "status", "none")
	if got := s.stripe.Calls(); len(got) != 0 {
		t.Errorf("events of others made the server ask Stripe: %v", got)
	}
}

// A price that the operator forgot to name takes nobody's plan.
func TestUnknownPriceIsLoggedAndChangesNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a, b := s.account(plans.Basic), s.account(plans.Basic)
	sub := s.buy(a, plans.Pro)
	s.send(s.stripe.SwitchPrice(sub, "price_nobody_knows")...)
	s.stands(a, "plan", "pro", "status", "active")
	s.logged("a subscription has a price that no plan has", "price_nobody_knows")
	s.reconcile()
	s.stands(a, "plan", "pro", "status", "active")
	s.send(s.stripe.SwitchPrice(sub, priceOldPro)...) // named, though no longer sold
	s.stands(a, "plan", "pro", "subscription_plan", "pro")

	s.checkout(b, plans.Pro)
	sub, events := s.stripe.Subscribe(s.customer(b), "price_nobody_knows")
	s.send(events...)
	s.stands(b, "plan", "basic", "status", "none")
	s.send(s.stripe.End(sub)...)
	s.stands(b, "plan", "basic", "status", "none")
}

// stripeTrouble are the ways in which Stripe fails, as seen on the socket.
func stripeTrouble() map[string]func(http.ResponseWriter, *http.Request) bool {
	answer := func(status int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
			return true
		}
	}
	return map[string]func(http.ResponseWriter, *http.Request) bool{
		"busy":    answer(http.StatusTooManyRequests, `{"error":{"type":"invalid_request_error","code":"rate_limit","message":"Too many requests"}}`),
		"failing": answer(http.StatusInternalServerError, `{"error":{"type":"api_error","message":"Something went wrong"}}`),
		"garbled": answer(http.StatusBadGateway, `<html>bad gateway</html>`),
		"our key": answer(http.StatusUnauthorized, `{"error":{"type":"invalid_request_error","message":"Invalid API Key provided"}}`),
		"slow": func(_ http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done() // until the server gives up
			return true
		},
		"cut off": func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
	}
}

func TestTroubleOfStripesIsA503AndTheEventWorksWhenItComesAgain(t *testing.T) {
	t.Parallel()
	for name, trouble := range stripeTrouble() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, func(c *server.Config) { c.Stripe.Timeout = 2 * time.Second })
			a := s.account(plans.Basic)
			_, events, err := s.stripe.Pay(s.checkout(a, plans.Pro))
			s.must(err)
			const away = "Stripe does not answer now. Nothing was changed; try again in a minute."
			s.stripe.Intercept(trouble)
			s.post(events[0]).wantDetail(http.StatusServiceUnavailable, away)
			if name != "slow" { // each further call would wait as long
				s.call("POST", "/v1/billing/portal", a.token, nil).wantDetail(http.StatusServiceUnavailable, away)
				s.call("POST", "/v1/billing/checkout", a.token, `{"plan":"pro"}`).wantDetail(http.StatusServiceUnavailable, away)
				if n, err := s.server.Reconcile(t.Context()); err == nil || n != 0 {
					t.Errorf("reconciled %d, %v", n, err)
				}
			}
			s.stands(a, "plan", "basic", "status", "none")
			s.stripe.Intercept(nil)
			s.send(events[0])
			s.stands(a, "plan", "pro")
			s.wantMoves(a, ">basic by sign_up", "basic>pro by stripe_event")
		})
	}
}

func TestNobodyLosesAPlanWhileStripeIsAway(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	sub := s.buy(a, plans.Pro)
	s.send(s.stripe.Renew(sub, false)...)
	s.clock.advance(8 * day)
	s.stripe.Intercept(stripeTrouble()["busy"])
	if _, err := s.server.EndPlans(t.Context()); err == nil {
		t.Error("the job did not say that Stripe is away")
	}
	s.stands(a, "plan", "pro")
	s.stripe.Intercept(nil)
	s.stripe.Mend(sub) // no event of this arrives
	s.endPlans()
	s.stands(a, "plan", "pro", "status", "active")
}

// Our own failure makes Stripe send the event again: the event is not recorded without its effect.
func TestOurOwnFailureIsA5xx(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	_, events, err := s.stripe.Pay(s.checkout(a, plans.Pro))
	s.must(err)
	s.exec(`CREATE TRIGGER trouble BEFORE INSERT ON plan_changes BEGIN SELECT RAISE(ABORT, 'trouble'); END`)
	s.expectBugs = true
	s.post(events[0]).wantDetail(http.StatusInternalServerError, "Internal Server Error")
	s.stands(a, "plan", "basic", "status", "none")
	s.exec(`DROP TRIGGER trouble`)
	s.send(events[0])
	s.stands(a, "plan", "pro")
}

func TestReconciliationRepairsWhatWebhooksMissed(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	missed, right, gone := s.account(plans.Basic), s.account(plans.Basic), s.account(plans.Basic)
	_, _, err := s.stripe.Pay(s.checkout(missed, plans.Scale))
	s.must(err)
	s.buy(right, plans.Pro)
	s.buy(gone, plans.Pro)
	if n := s.reconcile(); n != 1 {
		t.Errorf("%d repaired", n)
	}
	s.stands(missed, "plan", "scale", "status", "active", "changes.0.by", "stripe_check")
	s.logged("repaired", "to=scale", s.customer(missed))
	s.logged("compared all customers with Stripe", "customers=3", "repaired=1")
	s.stripe.DeleteCustomer(s.customer(gone))
	if n := s.reconcile(); n != 1 {
		t.Errorf("%d repaired", n)
	}
	s.stands(gone, "plan", "basic", "status", "none")
	s.stands(right, "plan", "pro")
	if n := s.reconcile(); n != 0 {
		t.Errorf("%d repaired, of none that is wrong", n)
	}
}

// The key of another account, or of the test mode, makes all customers unknown.
func TestWrongStripeAccountTakesNobodysPlan(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	sub := s.buy(a, plans.Pro)
	before := s.customer(a)
	late := s.stripe.CancelAtPeriodEnd(sub, true)
	s.stripe.ForgetCustomers()
	if n := s.reconcile(); n != 0 {
		t.Errorf("%d repaired", n)
	}
	s.send(late...)
	s.stands(a, "plan", "pro", "status", "active")
	s.logged("level=ERROR", "cannot be compared with Stripe", before)
	s.logged("level=ERROR", "is about a customer that it then denied", before)
	// Who wants to buy becomes a customer there.
	s.checkout(a, plans.Scale)
	if got := s.customer(a); got == before || got == "" {
		t.Errorf("the customer is %q, was %q", got, before)
	}
}

func TestJobsStopWithTheServer(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.buy(s.account(plans.Basic), plans.Pro)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.server.Reconcile(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a reconciliation that is to stop says %v", err)
	}
}
