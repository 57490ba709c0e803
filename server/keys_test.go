package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

// holder is a kind of credential, and what each route says to it: "" is taken.
type holder struct {
	name   string
	secret string
	says   func(server.TestRoute) string
}

const (
	needsAccount = "This call needs a signed-in account, not an API key"
	needsKey     = "This call needs an API key"
)

// needsAdmin is what a key of another scope is told.
func needsAdmin(rt server.TestRoute, scope storage.Scope) string {
	what := "changes the configuration"
	if group(rt) == "inspect" {
		what = "shows what agents may not see"
	}
	return "This call " + what + ": it needs a signed-in account or an API key of scope admin. " +
		"The scope of this key is " + string(scope) + "."
}

// group is what the contract says of a route, in its own words and not the server's.
func group(rt server.TestRoute) string {
	switch {
	case strings.HasPrefix(rt.Path, "/v1/auth/"), strings.HasPrefix(rt.Path, "/v1/billing/"), rt.Path == "/v1/model-pricing/reprice",
		strings.HasPrefix(rt.Path, "/v1/reviews/") && rt.Method == "POST":
		return "account"
	case rt.Method == "GET" && strings.HasPrefix(rt.Path, "/v1/endpoints"):
		return "inspect"
	case rt.Method == "GET", rt.Path == "/v1/policies/backtest":
		return "read"
	case strings.HasSuffix(rt.Path, "/end"):
		return "end"
	case strings.HasPrefix(rt.Path, "/v1/runs/"):
		return "agent"
	default:
		return "configure"
	}
}

// holders are all kinds of credentials that a workspace's calls may be made with.
func (w *world) holders(f fixture, other account) []holder {
	w.t.Helper()
	ofKey := func(takes string, refusal func(server.TestRoute) string) func(server.TestRoute) string {
		return func(rt server.TestRoute) string {
			switch g := group(rt); {
			case g == "account":
				return needsAccount
			case strings.Contains(takes, g):
				return ""
			default:
				return refusal(rt)
			}
		}
	}
	always := func(text string) func(server.TestRoute) string { return func(server.TestRoute) string { return text } }
	expired, err := w.store.CreateKey(w.t.Context(), f.workspace, storage.NewKey{Label: "x", ExpiresAt: w.clock.now().Add(time.Millisecond)})
	w.must(err)
	revoked, err := w.store.CreateKey(w.t.Context(), f.workspace, storage.NewKey{Label: "x", Scope: storage.ScopeAdmin})
	w.must(err)
	_, err = w.store.RevokeKey(w.t.Context(), f.workspace, revoked.ID)
	w.must(err)
	w.clock.advance(time.Millisecond)
	return []holder{
		{"nobody", "", always("Not authenticated")},
		{"an agent", f.key, ofKey("agent read end",
			func(rt server.TestRoute) string { return needsAdmin(rt, storage.ScopeAgent) })},
		{"a reader", w.keyOf(f.account, storage.ScopeRead), ofKey("read",
			func(rt server.TestRoute) string {
				if g := group(rt); g == "configure" || g == "inspect" {
					return needsAdmin(rt, storage.ScopeRead)
				}
				return "This call needs an API key of scope agent or admin. The scope of this key is read."
			})},
		{"an administrator", f.admin, ofKey("agent read end configure inspect", nil)},
		{"an expired key", expired.Full, ofKey("", always("API key has expired"))},
		{"a revoked key", revoked.Full, ofKey("", always("API key has been revoked"))},
		{"a person", f.token, func(rt server.TestRoute) string {
			if group(rt) == "agent" {
				return needsKey
			}
			return ""
		}},
		{"another tenant's key", other.admin, ofKey("agent read end configure inspect", nil)},
	}
}

// What agents are guarded by, they may not change: each route is held against
// each kind of credential, by the table here and not by the server's own.
func TestEachRouteTakesItsCredentialsAndNoOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, other := w.makeFixture(plans.Scale), w.makeFixture(plans.Scale)
	state := w.watch()
	for _, h := range w.holders(f, other.account) {
		for i, c := range samples(t, w.routes) {
			rt := w.routes[i]
			if !rt.Admin && !rt.Token {
				continue
			}
			// A write is asked for without its body: what is taken stops at a 422 and changes nothing.
			path, body := f.fill(c.path), any(nil)
			if rt.Method != "GET" {
				path, body = strings.ReplaceAll(path, f.names["{run}"], unknownID), "[]"
				path = strings.NewReplacer(f.names["{key}"], unknownID, f.names["{session}"], unknownID, f.names["{endpoint}"], unknownID).Replace(path)
			}
			if h.secret == other.admin && !strings.Contains(path, unknownID) && rt.Method != "GET" && bodyless(rt) {
				continue // its own workspace's
			}
			state.begin()
			r := w.call(c.method, path, h.secret, body)
			want := h.says(rt)
			switch {
			case want != "" && (r.status != http.StatusUnauthorized || string(r.body) != detail(want)):
				t.Errorf("%s, by %s: %d %s, want %s", r.what, h.name, r.status, shortBody(r.body), detail(want))
			case want == "" && r.status == http.StatusUnauthorized:
				t.Errorf("%s, by %s: %s", r.what, h.name, r.body)
			case h.secret == other.admin && strings.Contains(string(r.body), f.names["{run}"]):
				t.Errorf("%s shows another tenant's run: %s", r.what, shortBody(r.body))
			}
			if want != "" {
				if got := state.changed(); got != "" {
					t.Errorf("%s, by %s: refused, but changed %s", r.what, h.name, got)
				}
			}
			state.end()
		}
	}
}

// bodyless reports whether a write needs no body, and so is not stopped by a wrong one.
func bodyless(rt server.TestRoute) bool {
	return rt.Method == "DELETE" || strings.HasSuffix(rt.Path, "/heartbeat") || strings.HasPrefix(rt.Path, "/v1/billing/")
}

// The table of the contract, in its own words: what must never be given to an agent.
func TestNoConfigurationIsWrittenWithAnAgentsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.makeFixture(plans.Scale)
	read := w.keyOf(f.account, storage.ScopeRead)
	before := w.look(f.account)
	for _, c := range append(configurationCalls(), keyRefusals()...) {
		if c.method == "GET" || c.as == "" || strings.HasPrefix(c.path, "/v1/auth/") || c.path == "/v1/model-pricing/reprice" {
			continue
		}
		for scope, key := range map[storage.Scope]string{storage.ScopeAgent: f.key, storage.ScopeRead: read} {
			w.call(c.method, f.fill(c.path), key, f.fill(c.body)).wantDetail(http.StatusUnauthorized, needsAdmin(server.TestRoute{}, scope))
		}
	}
	if got := changes(before, w.look(f.account)); got != "" {
		t.Errorf("refused calls changed %s", got)
	}
}

// Case 22 of the issue: fifty runs are open when the key is replaced.
func TestWhatARetiredKeyHasBegunIsBookedAndEnded(t *testing.T) {
	t.Parallel()
	for _, overlap := range []int{0, 60} {
		t.Run(fmt.Sprint(overlap), func(t *testing.T) {
			w := newWorld(t)
			a := w.account(plans.Scale)
			w.call("PATCH", "/v1/workspace", a.token, `{"max_concurrent_runs":50}`).want(http.StatusOK)
			w.call("PUT", "/v1/model-pricing/gpt-4o", a.token, `{"input_cost_per_token":"0.0000025","output_cost_per_token":"0.00001"}`).want(http.StatusOK)
			var runs, steps []string
			for range 50 {
				run := w.start(a, "ada")
				runs, steps = append(runs, run), append(steps, w.step(a, run, "gpt-4o"))
			}
			renewed := a
			renewed.key = w.call("POST", "/v1/api-keys/regenerate", a.token, map[string]any{"overlap_seconds": overlap}).want(http.StatusOK).text("key")
			if got := w.call("GET", "/v1/api-keys/all?active=false", a.token, nil).want(http.StatusOK); overlap == 0 && got.text("items.0.running_runs") != "50" {
				t.Errorf("the old key is listed as %s", got.body)
			}
			refused := "API key has been revoked"
			if overlap > 0 {
				w.call("POST", "/v1/runs/"+runs[0]+"/heartbeat", a.key, nil).want(http.StatusOK)
				w.clock.advance(time.Duration(overlap) * time.Second)
				refused = "API key has expired"
			}
			for i, run := range runs {
				w.call("POST", "/v1/runs/"+run+"/steps", a.key, `{"type":"INPUT","sequence":2}`).wantDetail(http.StatusUnauthorized, refused)
				w.call("GET", "/v1/runs/"+run, a.key, nil).wantDetail(http.StatusUnauthorized, refused)
				w.call("PATCH", steps[i], a.key, `{"status":"COMPLETED","prompt_tokens":500,"completion_tokens":100}`).want(http.StatusOK)
				w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"FAILED"}`).want(http.StatusOK)
			}
			usage := w.call("GET", "/v1/usage", a.token, nil).want(http.StatusOK)
			if usage.text("running_runs") != "0" || usage.text("today.total_usd") != "0.1125" {
				t.Errorf("%s", usage.body)
			}
			own := w.start(renewed, "ada")
			w.call("POST", "/v1/runs/"+own+"/end", a.key, `{"status":"FAILED"}`).wantDetail(http.StatusUnauthorized, refused)
			w.call("POST", "/v1/runs/"+own+"/end", a.key, `{no JSON`).wantDetail(http.StatusUnauthorized, refused)
			w.clock.advance(storage.KeyGrace)
			w.call("PATCH", steps[0], a.key, `{"prompt_tokens":1}`).wantDetail(http.StatusUnauthorized, refused)
		})
	}
}

func TestAKeyEndsWhenItExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	end := w.clock.now().Add(time.Minute)
	made := w.call("POST", "/v1/api-keys", a.token, map[string]any{"label": "short", "expires_at": end}).want(http.StatusCreated)
	a.key = made.text("key")
	run := w.start(a, "ada")
	other := w.another(testSecret)
	for _, server := range []*world{w, other} { // both remember the key
		server.call("POST", "/v1/runs/"+run+"/heartbeat", a.key, nil).want(http.StatusOK)
	}
	w.clock.set(end.Add(-time.Millisecond))
	w.call("POST", "/v1/runs/"+run+"/heartbeat", a.key, nil).want(http.StatusOK)
	w.clock.set(end)
	for _, server := range []*world{w, other} {
		server.call("POST", "/v1/runs/"+run+"/heartbeat", a.key, nil).wantDetail(http.StatusUnauthorized, "API key has expired")
		server.call("GET", "/v1/runs/"+run, a.key, nil).wantDetail(http.StatusUnauthorized, "API key has expired")
	}
}

func TestOneKeyTooManyIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	for range storage.MaxKeys - 1 {
		w.keyOf(a, storage.ScopeRead)
	}
	before := w.look(a)
	const tooMany = "A workspace has at most 100 active API keys. Revoke one that is no longer used."
	w.call("POST", "/v1/api-keys", a.token, `{"label":"one more"}`).wantDetail(http.StatusBadRequest, tooMany)
	w.call("POST", "/v1/api-keys/regenerate", a.token, `{"overlap_seconds":1}`).wantDetail(http.StatusBadRequest, tooMany)
	if got := changes(before, w.look(a)); got != "" {
		t.Errorf("refused, but changed %s", got)
	}
	w.call("POST", "/v1/api-keys/regenerate", a.token, nil).want(http.StatusOK)
}

// The list knows of a key's use at once, whichever call it was.
func TestTheUseOfAKeyIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	used := func(place int) string {
		return w.call("GET", "/v1/api-keys/all", a.token, nil).want(http.StatusOK).text(fmt.Sprintf("items.%d.last_used_at", place))
	}
	a.admin = w.keyOf(a, storage.ScopeAdmin)
	if got := used(0) + used(1); got != "nullnull" {
		t.Errorf("never used: %s", got)
	}
	run := w.start(a, "ada")
	w.call("GET", "/v1/workspace", a.admin, nil).want(http.StatusOK)
	w.clock.advance(time.Minute)
	w.call("POST", "/v1/runs/"+run+"/heartbeat", a.key, nil).want(http.StatusOK)
	if admin, agent := used(0), used(1); admin != "2026-11-23T07:08:00.000Z" || agent != "2026-11-23T07:09:00.000Z" {
		t.Errorf("used at %s and %s", admin, agent)
	}
	// A key that has been revoked, as the cache does not know yet, was not used by what is refused.
	_, err := w.another(testSecret).store.RotateKey(t.Context(), a.workspace, storage.Rotation{Label: "new"})
	w.must(err)
	w.clock.advance(time.Minute)
	w.call("POST", "/v1/runs/"+run+"/heartbeat", a.key, nil).want(http.StatusUnauthorized)
	if got := used(2); got != "2026-11-23T07:09:00.000Z" {
		t.Errorf("used at %s", got)
	}
}
