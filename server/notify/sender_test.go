package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/server/notify"
	"github.com/pikarc/server/storage"
	"github.com/pikarc/server/storage/dbfile"
)

// world is a store with a sender at work.
type world struct {
	*storage.Store
	t  *testing.T
	ws storage.WorkspaceKey
}

func newWorld(t *testing.T, change ...func(*notify.Config)) *world {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "pikarc.db")
	_, err := dbfile.Migrate(t.Context(), path, embed.Migrations())
	must(err)
	secret, err := auth.LoadSecret(filepath.Dir(path), "a secret of the tests, long enough to be taken")
	must(err)
	store, err := storage.Open(t.Context(), path, storage.Options{Migrations: embed.Migrations(), Secret: secret})
	must(err)
	plan, err := plans.ByID(plans.Scale)
	must(err)
	_, space, _, err := store.CreateAccount(t.Context(), storage.NewAccount{Email: "ana@example.com", Plan: plan.ID})
	must(err)
	cfg := notify.Config{
		PublicURL: "https://agents.example.com", Private: true, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Attempted: func(storage.EndpointKind, string) {}, Waiting: func(time.Time) {},
	}
	for _, c := range change {
		c(&cfg)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); notify.New(store, cfg).Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-done
		must(store.Close())
	})
	return &world{Store: store, t: t, ws: space.Key()}
}

func (w *world) endpoint(kind storage.EndpointKind, url string) storage.Endpoint {
	w.t.Helper()
	e, _, err := w.CreateEndpoint(w.t.Context(), w.ws, storage.NewEndpoint{Kind: kind, Label: "x", Address: url, Events: storage.AllEvents})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// sent is a request that a receiver got.
type sent struct {
	path   string
	header http.Header
	body   string
}

// receiver hands over what it is sent, and answers as it is told.
func receiver(t *testing.T, answer http.HandlerFunc) (url string, got chan sent) {
	t.Helper()
	got = make(chan sent, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- sent{r.URL.Path, r.Header, string(body)}
		answer(w, r)
	}))
	t.Cleanup(s.CloseClientConnections)
	return s.URL, got
}

func status(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) }
}

func (w *world) stop(active bool) {
	w.t.Helper()
	if _, err := w.SetKillSwitch(w.t.Context(), w.ws, active, ""); err != nil {
		w.t.Fatal(err)
	}
}

// delivery waits for the latest delivery of an endpoint to be as wanted.
func (w *world) delivery(e storage.Endpoint, want func(storage.Delivery) bool) storage.Delivery {
	w.t.Helper()
	for {
		all, _, err := w.Deliveries(w.t.Context(), w.ws, e.ID, storage.DeliveryFilter{Limit: 1})
		if err != nil {
			w.t.Fatal(err) // as at the test's deadline
		}
		if len(all) > 0 && want(all[0]) {
			return all[0]
		}
	}
}

func attempted(d storage.Delivery) bool { return d.Attempts > 0 }

func TestABadReceiverDelaysNoOther(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	hung, _ := receiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	failing, _ := receiver(t, status(http.StatusInternalServerError))
	elsewhere, followed := receiver(t, status(http.StatusOK))
	moved, _ := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere, http.StatusMovedPermanently)
	})
	gone, _ := receiver(t, status(http.StatusGone))
	large, _ := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		part := bytes.Repeat([]byte("x"), 1<<20)
		for range 50 {
			if _, err := w.Write(part); err != nil {
				return // nobody reads it
			}
		}
	})
	good, got := receiver(t, status(http.StatusNoContent))
	endpoints := map[string]storage.Endpoint{}
	for name, url := range map[string]string{"hung": hung, "failing": failing, "moved": moved, "gone": gone, "large": large, "good": good} {
		endpoints[name] = w.endpoint(storage.Webhook, url)
	}
	w.stop(true)
	<-got
	w.stop(false) // by now the bad ones have been tried
	<-got
	for name, want := range map[string]string{"failing": "answered 500: it has a fault of its own",
		"moved": "answered 301: redirects are not followed, give the address they lead to"} {
		if d := w.delivery(endpoints[name], attempted); d.Problem != want || d.State != storage.DeliveryPending || d.DueAt.IsZero() {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if d := w.delivery(endpoints["large"], attempted); d.State != storage.DeliveryDelivered || len(d.Answer) != 2<<10 {
		t.Errorf("large: %d bytes of the answer are kept, %s", len(d.Answer), d.Problem)
	}
	if len(followed) != 0 {
		t.Error("the redirect was followed")
	}
	for {
		e, err := w.Endpoint(t.Context(), w.ws, endpoints["gone"].ID)
		if err != nil {
			t.Fatal(err)
		}
		if e.OffReason == storage.OffGone {
			break
		}
	}
}

func TestAMessageIsSentAgainWithTheSameID(t *testing.T) {
	w := newWorld(t)
	n := 0
	url, got := receiver(t, func(rw http.ResponseWriter, _ *http.Request) {
		if n++; n == 1 {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	e := w.endpoint(storage.Webhook, url)
	w.stop(true)
	first := <-got
	d := w.delivery(e, attempted)
	if until := time.Until(d.DueAt); until < 3*time.Second || until > 6*time.Second {
		t.Errorf("the next attempt is in %s", until)
	}
	if _, err := w.Resend(t.Context(), w.ws, e.ID, d.ID); err != nil {
		t.Fatal(err)
	}
	second := <-got
	if id := first.header.Get("Webhook-Id"); id != second.header.Get("Webhook-Id") || id != d.ID.String() || first.body != second.body {
		t.Errorf("sent %+v, then %+v, for %s", first, second, d.ID)
	}
}

// hostile is a text that would do harm in each of the formats.
const hostile = "<!channel> @everyone [x](https://evil.example) *b* <script> \u202e\r\nBcc: a@evil.example"

func TestEachFormatTakesAHostileTextAsText(t *testing.T) {
	actions := &notify.Actions{Approve: "https://agents.example.com/r/approve-token", Deny: "https://agents.example.com/r/deny-token"}
	w := newWorld(t, func(c *notify.Config) {
		c.Actions = func(context.Context, storage.Endpoint, storage.Delivery) (*notify.Actions, error) {
			return actions, nil
		}
	})
	url, got := receiver(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, actions.Approve) })
	for _, kind := range []storage.EndpointKind{storage.Slack, storage.Discord, storage.Teams, storage.Ntfy, storage.Webhook} {
		e := w.endpoint(kind, url+"/base/topic")
		w.useModel(hostile + uuid.NewString())
		s := <-got
		text := s.body
		if !json.Valid([]byte(text)) || strings.ContainsAny(text, "\u202e\r\n") && kind != storage.Webhook {
			t.Errorf("%s is sent %q", kind, text)
		}
		if !strings.Contains(text, "approve-token") {
			t.Errorf("%s is sent no way to decide: %s", kind, text)
		}
		d := w.delivery(e, attempted)
		if strings.Contains(d.Sent+d.Answer, "-token") {
			t.Errorf("the record of %s shows how to decide: %+v", kind, d)
		}
		forbidden := map[storage.EndpointKind][]string{
			storage.Slack: {"<!channel>", `"type":"mrkdwn"`}, storage.Discord: {"[x](", " @everyone", "://evil"},
			storage.Teams: {`"TextBlock"`, "://evil"}, storage.Ntfy: {`"markdown":true`, "://evil"},
		}[kind]
		for _, f := range forbidden {
			if strings.Contains(text, f) {
				t.Errorf("%s is sent %s in %s", kind, f, text)
			}
		}
		if kind == storage.Ntfy && (s.path != "/base" || !strings.Contains(text, `"topic":"topic"`)) {
			t.Errorf("ntfy is sent to %s: %s", s.path, text)
		}
		if _, err := w.DeleteEndpoint(t.Context(), w.ws, e.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// useModel has an agent use a model without a price.
func (w *world) useModel(model string) {
	w.t.Helper()
	who := storage.Caller{Workspace: w.ws}
	run, err := w.StartRun(w.t.Context(), who, storage.NewRun{UserID: "u"}, allow)
	if err != nil {
		w.t.Fatal(err)
	}
	step, err := w.CreateStep(w.t.Context(), who, run.ID, storage.NewStep{Type: storage.ModelCall, Model: &model}, allow)
	if err == nil {
		_, err = w.UpdateStep(w.t.Context(), who, run.ID, step.ID, storage.StepUpdate{PromptTokens: new(int64(5))})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func allow(guard.Request, guard.State) guard.Decision { return guard.Decision{} }

func TestAMessageWithoutLinksSaysWhatTheServerNeeds(t *testing.T) {
	w := newWorld(t)
	url, got := receiver(t, status(http.StatusOK))
	w.endpoint(storage.Ntfy, url+"/topic")
	p, err := policies.Parse("all", []byte(`{"effect":"review"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.SavePolicy(t.Context(), w.ws, p); err != nil {
		t.Fatal(err)
	}
	who := storage.Caller{Workspace: w.ws}
	run, err := w.StartRun(t.Context(), who, storage.NewRun{UserID: "u"}, allow)
	if err == nil {
		_, err = w.CreateStep(t.Context(), who, run.ID, storage.NewStep{Type: storage.ToolCall, Waits: true}, allow)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s := <-got; !strings.Contains(s.body, "--public-url") || strings.Contains(s.body, `"actions"`) {
		t.Errorf("sent %s", s.body)
	}
}
