package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	standin "github.com/pikarc/server/testdata/stripe"
)

// sellerSettings make a server sell plans with a stand-in for Stripe.
func sellerSettings(s *standin.Stripe) []string {
	return []string{
		"PIKARC_STRIPE_API_URL=" + s.URL, "PIKARC_STRIPE_SECRET_KEY=" + standin.SecretKey,
		"PIKARC_STRIPE_WEBHOOK_SECRET=" + standin.WebhookSecret, "PIKARC_STRIPE_PRICE_PRO=price_pro",
		"PIKARC_STRIPE_PRICE_SCALE=price_scale", "PIKARC_PUBLIC_URL=https://agents.example.com/",
	}
}

// seller is a server that sells plans, one customer, and how both began.
type seller struct {
	*process
	dir    string
	stripe *standin.Stripe
	token  string
}

func newSeller(t *testing.T) *seller {
	t.Helper()
	s := &seller{dir: t.TempDir(), stripe: standin.New(time.Now)}
	t.Cleanup(s.stripe.Close)
	createUser(t, s.dir, "ann@example.com", "basic")
	s.start(t)
	s.token = s.signIn(t, "ann@example.com")
	return s
}

func (s *seller) start(t *testing.T) {
	t.Helper()
	s.process = serveWith(t, sellerSettings(s.stripe), "--addr", "127.0.0.1:0", "--data-dir", s.dir)
}

func (s *seller) webhook() string { return s.url + "/v1/billing/webhook" }

// send delivers events until each is taken.
func (s *seller) send(t *testing.T, events ...standin.Event) {
	t.Helper()
	for _, e := range events {
		if status, err := e.Send(http.DefaultClient, s.webhook(), standin.WebhookSecret); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d, %v\n%s", e.Type, status, err, &s.stderr)
		}
	}
}

// billing is what the call of that name answers, as far as these tests look.
type billing struct {
	Plan, Status string
	Changes      []struct{ From, To, By string }
}

func (s *seller) billing(t *testing.T) (b billing) {
	t.Helper()
	s.call(t, "GET", "/v1/billing/", s.token, nil).want(t, http.StatusOK).into(t, &b)
	return b
}

// buy buys a plan at Stripe; none of its events has arrived yet.
func (s *seller) buy(t *testing.T, plan string) (subscription string, events []standin.Event) {
	t.Helper()
	var page struct{ URL string }
	s.call(t, "POST", "/v1/billing/checkout", s.token, map[string]string{"plan": plan}).want(t, http.StatusOK).into(t, &page)
	subscription, events, err := s.stripe.Pay(page.URL)
	if err != nil {
		t.Fatal(err)
	}
	return subscription, events
}

// startAlone starts the server while Stripe does not answer, and waits until it
// has given up on learning by itself: it tries twice.
func (s *seller) startAlone(t *testing.T) {
	t.Helper()
	s.stripe.Intercept(away)
	s.start(t)
	s.await(t, "gives up on Stripe", func() bool {
		return strings.Contains(s.stderr.String(), `msg="repair customers"`)
	})
}

// away lets Stripe refuse to answer.
func away(w http.ResponseWriter, _ *http.Request) bool {
	w.WriteHeader(http.StatusServiceUnavailable)
	return true
}

func TestCrashBetweenEventAndEffectIsMendedByRedelivery(t *testing.T) {
	t.Parallel()
	s := newSeller(t)
	_, events := s.buy(t, "pro")
	reached := make(chan struct{})
	var once sync.Once
	s.stripe.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		once.Do(func() { close(reached) })
		<-r.Context().Done() // until the server is no more
		return true
	})
	sent := make(chan error, 1)
	go func() {
		_, err := events[0].Send(http.DefaultClient, s.webhook(), standin.WebhookSecret)
		sent <- err
	}()
	<-reached
	s.kill()
	if err := <-sent; err == nil {
		t.Error("the event was answered by a server that was killed before its effect")
	}
	s.startAlone(t)
	if b := s.billing(t); b.Plan != "basic" || len(b.Changes) != 1 {
		t.Errorf("before the event comes again: %+v", b)
	}
	s.stripe.Intercept(nil)
	for range 3 {
		s.send(t, events...)
	}
	if b := s.billing(t); b.Plan != "pro" || b.Status != "active" || len(b.Changes) != 2 || b.Changes[0].By != "stripe_event" {
		t.Errorf("after it: %+v", b)
	}
	s.stop(t)
	balanced(t, s.dir)
}

// A kill at any moment around the commit: the event takes effect exactly once.
func TestEventTakesEffectOnceWheneverTheServerIsKilled(t *testing.T) {
	t.Parallel()
	const rounds = 6
	s, random := newSeller(t), seededRandom(t)
	sub, events := s.buy(t, "pro")
	s.send(t, events...)
	for round := range rounds {
		plan := []string{"scale", "pro"}[round%2]
		e := s.stripe.SwitchPrice(sub, "price_"+plan)[0]
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = e.Send(http.DefaultClient, s.webhook(), standin.WebhookSecret) // it may be answered or not
		}()
		s.killSoon(random, 6*time.Millisecond)
		<-sent
		s.stripe.Intercept(away)
		s.start(t)
		s.stripe.Intercept(nil)
		s.send(t, e, e)
		if b := s.billing(t); b.Plan != plan || len(b.Changes) != 3+round {
			t.Fatalf("round %d, to %s: %+v", round, plan, b)
		}
	}
	s.stop(t)
	balanced(t, s.dir)
}

// The daily comparison also runs at the start, for what came while no server was there.
func TestServerCatchesUpWithStripeAtItsStart(t *testing.T) {
	t.Parallel()
	s := newSeller(t)
	s.buy(t, "scale")
	s.stop(t)
	s.start(t)
	err := eventually(func() bool { return s.billing(t).Plan == "scale" })
	if b := s.billing(t); err != nil || b.Changes[0].By != "stripe_check" {
		t.Errorf("%v, %+v\n%s", err, b, &s.stderr)
	}
	s.await(t, "logs the repair", func() bool { return strings.Contains(s.stderr.String(), "repaired=1") })
	out := run(t, "set-plan", "--data-dir", s.dir, "--email", "ann@example.com", "enterprise").ok(t)
	if !strings.Contains(out.stdout, "scale -> enterprise") || s.billing(t).Changes[0].By != "command" {
		t.Errorf("%q, %+v", out.stdout, s.billing(t))
	}
	keepsQuiet(t, s.stderr.String(), standin.SecretKey, standin.WebhookSecret)
}

func TestHalfASetOfStripesSettingsIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const key, hook, pro, scale, public = "PIKARC_STRIPE_SECRET_KEY=sk_test_hush", "PIKARC_STRIPE_WEBHOOK_SECRET=whsec_hush",
		"PIKARC_STRIPE_PRICE_PRO=price_1", "PIKARC_STRIPE_PRICE_SCALE=price_2,price_3", "PIKARC_PUBLIC_URL=https://agents.example.com"
	for name, c := range map[string]struct {
		settings []string
		says     []string
	}{
		"one":              {[]string{key, public}, []string{"PIKARC_STRIPE_WEBHOOK_SECRET, PIKARC_STRIPE_PRICE_PRO, PIKARC_STRIPE_PRICE_SCALE"}},
		"all but the URL":  {[]string{key, hook, pro, scale}, []string{"also set PIKARC_PUBLIC_URL"}},
		"all but a price":  {[]string{key, hook, pro, public}, []string{"also set PIKARC_STRIPE_PRICE_SCALE"}},
		"an empty one":     {[]string{key, hook, pro, public, "PIKARC_STRIPE_PRICE_SCALE= "}, []string{"also set PIKARC_STRIPE_PRICE_SCALE"}},
		"public key":       {[]string{"PIKARC_STRIPE_SECRET_KEY=pk_test_1", hook, pro, scale, public}, []string{"PIKARC_STRIPE_SECRET_KEY", "sk_"}},
		"swapped secrets":  {[]string{key, "PIKARC_STRIPE_WEBHOOK_SECRET=sk_test_hush", pro, scale, public}, []string{"PIKARC_STRIPE_WEBHOOK_SECRET", "whsec_"}},
		"second of them":   {[]string{key, "PIKARC_STRIPE_WEBHOOK_SECRET=whsec_hush,sk_test_hush", pro, scale, public}, []string{"PIKARC_STRIPE_WEBHOOK_SECRET", "whsec_"}},
		"a product":        {[]string{key, hook, "PIKARC_STRIPE_PRICE_PRO=prod_1", scale, public}, []string{"PIKARC_STRIPE_PRICE_PRO", "prod_1", "price_"}},
		"one price twice":  {[]string{key, hook, pro, "PIKARC_STRIPE_PRICE_SCALE=price_2,price_1", public}, []string{"price_1 is named twice"}},
		"only commas":      {[]string{key, hook, pro, "PIKARC_STRIPE_PRICE_SCALE=,", public}, []string{"PIKARC_STRIPE_PRICE_SCALE names no price"}},
		"no address":       {[]string{key, hook, pro, scale, "PIKARC_PUBLIC_URL=agents.example.com"}, []string{"--public-url", "PIKARC_PUBLIC_URL"}},
		"key in the clear": {[]string{key, hook, pro, scale, public, "PIKARC_STRIPE_API_URL=http://stripe.example.com"}, []string{"PIKARC_STRIPE_API_URL", "https"}},
		"short grace":      {[]string{"PIKARC_PAYMENT_GRACE=1m"}, []string{"PIKARC_PAYMENT_GRACE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := invocation{args: []string{"serve", "--addr", "127.0.0.1:0", "--data-dir", dir}, settings: c.settings}.run(t)
			keepsQuiet(t, out.fails(t, 2, c.says...).stderr, "hush")
		})
	}
}

func TestStripesSettingsMayComeFromFiles(t *testing.T) {
	t.Parallel()
	stripe := standin.New(time.Now)
	t.Cleanup(stripe.Close)
	files, settings := t.TempDir(), []string{"PIKARC_STRIPE_API_URL=" + stripe.URL, "PIKARC_PUBLIC_URL=https://agents.example.com"}
	for name, value := range map[string]string{
		"SECRET_KEY": standin.SecretKey, "WEBHOOK_SECRET": "whsec_of_yesterday, " + standin.WebhookSecret, "PRICE_PRO": "price_1", "PRICE_SCALE": "price_2, price_3",
	} {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		settings = append(settings, "PIKARC_STRIPE_"+name+"_FILE="+path)
	}
	dir := t.TempDir()
	createUser(t, dir, "ann@example.com", "basic")
	s := &seller{dir: dir, stripe: stripe, process: serveWith(t, settings, "--addr", "127.0.0.1:0", "--data-dir", dir)}
	s.token = s.signIn(t, "ann@example.com")
	_, events := s.buy(t, "scale")
	s.send(t, events...)
	if b := s.billing(t); b.Plan != "scale" {
		t.Errorf("%+v", b)
	}
	missing := append(settings[:len(settings):len(settings)], "PIKARC_STRIPE_PRICE_PRO_FILE="+filepath.Join(files, "none"))
	invocation{args: []string{"serve", "--data-dir", dir}, settings: missing}.run(t).fails(t, 1, "PIKARC_STRIPE_PRICE_PRO_FILE")
}
