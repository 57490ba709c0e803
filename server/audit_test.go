package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

// trail is a call and the entry that it must leave. Empty want: none, and why
// says the reason.
type trail struct {
	path, body string
	want       string // of the entry, without id, time and address
	why        string
}

// trails has one for every route that could change the configuration. A new
// route without one fails the test below.
func trails() map[string]trail {
	const by = `"actor":{"kind":"account","name":"{email}"}`
	return map[string]trail{
		"POST /v1/auth/register": {
			"/v1/auth/register", `{"email":"new@example.com","password":"12345678","workspace_name":"Mine"}`,
			`"actor":{"kind":"anonymous","name":null},"action":"account.register","target":"new@example.com","before":null,` +
				`"after":{"api_key_prefix":"<prefix>","email":"new@example.com","plan":"basic","workspace_name":"Mine"}`, "",
		},
		"POST /v1/auth/login": {
			"/v1/auth/login", `{"email":"{email}","password":"` + password + `"}`,
			by + `,"action":"account.sign_in","target":"{email}","before":null,"after":null`, "",
		},
		"POST /v1/auth/change-password": {
			"/v1/auth/change-password", `{"current_password":"` + password + `","new_password":"another battery"}`,
			by + `,"action":"account.change_password","target":"{email}","before":null,"after":null`, "",
		},
		"POST /v1/auth/logout": {
			"/v1/auth/logout", "", by + `,"action":"account.sign_out","target":"{email}","before":null,"after":null`, "",
		},
		"POST /v1/auth/logout-everywhere": {
			"/v1/auth/logout-everywhere", "", by + `,"action":"account.sign_out_everywhere","target":"{email}","before":null,"after":null`, "",
		},
		"POST /v1/auth/logout-others": {
			"/v1/auth/logout-others", "", by + `,"action":"account.end_other_sessions","target":"{email}","before":null,"after":null`, "",
		},
		"DELETE /v1/auth/sessions/:session_id": {
			"/v1/auth/sessions/{session}", "",
			by + `,"action":"account.end_session","target":"{email}","before":{"agent":"a browser"},"after":null`, "",
		},
		"PATCH /v1/workspace/": {
			"/v1/workspace", `{"name":"Ours","daily_budget_usd":2.50,"max_concurrent_runs":3,"run_idle_timeout_seconds":60}`,
			by + `,"action":"workspace.update","target":null,"before":{"daily_budget_usd":null,"name":"My workspace","run_idle_timeout_seconds":3600},` +
				`"after":{"daily_budget_usd":2.5,"name":"Ours","run_idle_timeout_seconds":60}`, "",
		},
		"POST /v1/workspace/kill-switch": {
			"/v1/workspace/kill-switch", `{"active":true}`,
			by + `,"action":"workspace.kill_switch","target":null,"before":{"kill_switch":false},"after":{"kill_switch":true}`, "",
		},
		"PUT /v1/blocked-users/*user_id": {
			"/v1/blocked-users/new/user", `{"reason":"loops"}`,
			by + `,"action":"user.block","target":"new/user","before":{"blocked":false,"reason":null},"after":{"blocked":true,"reason":"loops"}`, "",
		},
		"DELETE /v1/blocked-users/*user_id": {
			"/v1/blocked-users/zoe", "",
			by + `,"action":"user.unblock","target":"zoe","before":{"blocked":true},"after":{"blocked":false}`, "",
		},
		"DELETE /v1/users/*user_id": {
			"/v1/users/zoe", "", by + `,"action":"user.erase","target":"erased-<random>","before":null,"after":null`, "",
		},
		"POST /v1/users/erase": {
			"/v1/users/erase", `{"user_id":"zoe"}`, by + `,"action":"user.erase","target":"erased-<random>","before":null,"after":null`, "",
		},
		"POST /v1/blocked-users": {
			"/v1/blocked-users", `{"user_id":"new/../user","reason":"loops"}`,
			by + `,"action":"user.block","target":"new/../user","before":{"blocked":false,"reason":null},"after":{"blocked":true,"reason":"loops"}`, "",
		},
		"POST /v1/blocked-users/unblock": {
			"/v1/blocked-users/unblock", `{"user_id":"zoe"}`,
			by + `,"action":"user.unblock","target":"zoe","before":{"blocked":true},"after":{"blocked":false}`, "",
		},
		"POST /v1/saved-views/":           {"/v1/saved-views", `{"name":"n","query":""}`, "", "a name for a filter changes no decision"},
		"DELETE /v1/saved-views/:view_id": {"/v1/saved-views/{view}", "", "", "a name for a filter changes no decision"},
		"POST /v1/end-runs": {
			"/v1/end-runs", `{"silent_for_seconds":0,"status":"BLOCKED"}`,
			by + `,"action":"run.end_many","target":null,"before":null,"after":{"runs":1,"status":"BLOCKED"}`, "",
		},
		"POST /v1/api-keys/regenerate": {
			"/v1/api-keys/regenerate", `{"label":"new"}`,
			by + `,"action":"api_key.regenerate","target":null,"before":{"label":"default","prefix":"<prefix>"},"after":{"label":"new","prefix":"<prefix>"}`, "",
		},
		"POST /v1/api-keys/": {
			"/v1/api-keys", `{"label":"new","scope":"admin","expires_at":"2027-01-01T00:00:00Z"}`,
			by + `,"action":"api_key.create","target":"<prefix>","before":null,` +
				`"after":{"expires_at":"2027-01-01T00:00:00.000Z","label":"new","prefix":"<prefix>","scope":"admin"}`, "",
		},
		"PATCH /v1/api-keys/:key_id": {
			"/v1/api-keys/{key}", `{"label":"new"}`,
			by + `,"action":"api_key.update","target":"<prefix>","before":{"label":"spare"},"after":{"label":"new"}`, "",
		},
		"DELETE /v1/api-keys/:key_id": {
			"/v1/api-keys/{key}", ``,
			by + `,"action":"api_key.revoke","target":"<prefix>",` +
				`"before":{"expires_at":"2026-11-23T08:08:29.123Z","label":"spare","prefix":"<prefix>","scope":"agent"},"after":null`, "",
		},
		"POST /v1/endpoints/": {
			"/v1/endpoints", `{"kind":"ntfy","url":"https://ntfy.sh/secret-topic","events":["*"]}`,
			by + `,"action":"endpoint.create","target":"<id>","before":null,` +
				`"after":{"enabled":true,"events":["*"],"kind":"ntfy","label":"ntfy"}`, "",
		},
		"PATCH /v1/endpoints/:endpoint_id": {
			"/v1/endpoints/{endpoint}", `{"url":"https://example.com/secret","events":["disk.low"]}`,
			by + `,"action":"endpoint.update","target":"{endpoint}","before":{"events":["review.requested"]},` +
				`"after":{"events":["disk.low"],"url":"changed"}`, "",
		},
		"DELETE /v1/endpoints/:endpoint_id": {
			"/v1/endpoints/{endpoint}", ``,
			by + `,"action":"endpoint.delete","target":"{endpoint}",` +
				`"before":{"enabled":true,"events":["review.requested"],"kind":"webhook","label":"on call"},"after":null`, "",
		},
		"POST /v1/endpoints/:endpoint_id/roll-secret": {
			"/v1/endpoints/{endpoint}/roll-secret", ``,
			by + `,"action":"endpoint.roll_secret","target":"{endpoint}","before":null,"after":{"overlap_seconds":86400}`, "",
		},
		"POST /v1/endpoints/:endpoint_id/test":                           {"/v1/endpoints/{endpoint}/test", "", "", "it changes no configuration"},
		"POST /v1/endpoints/:endpoint_id/deliveries/:delivery_id/resend": {"/v1/endpoints/{endpoint}/deliveries/{delivery}/resend", "", "", "it changes no configuration"},
		"PUT /v1/model-pricing/*model": {
			"/v1/model-pricing/gpt-4o", `{"input_cost_per_token":0.0000025,"output_cost_per_token":1,"is_active":true}`,
			by + `,"action":"model_price.set","target":"gpt-4o","before":{"output_cost_per_token":0.00001},"after":{"output_cost_per_token":1}`, "",
		},
		"POST /v1/model-pricing/reprice": {"/v1/model-pricing/reprice", `{"dry_run":false}`, "", "nothing is without a price; see TestStepsArePricedAnew"},
		"POST /v1/reviews/decide": {
			"/v1/reviews/decide", `{"ids":["{review}"],"verdict":"approve"}`, "", "a second verdict changes nothing; see TestReviewsAreInTheAuditLog",
		},
		"POST /v1/reviews/:review_id/approve": {"/v1/reviews/{review}/approve", "", "", "as above"},
		"POST /v1/reviews/:review_id/deny":    {"/v1/reviews/{review}/deny", `{"note":"no"}`, "", "as above"},
		"POST /decide/:link":                  {"/decide/forged", "", "", "it is no link; see TestALinkAsksAgainAndDecidesOnce"},
		"DELETE /v1/grants/:grant_id": {
			"/v1/grants/{grant}", "",
			by + `,"action":"grant.revoke","target":"{grant}","before":{"revoked":false},"after":{"revoked":true}`, "",
		},
		"PUT /v1/policies/:name": {
			"/v1/policies/deploys", `{"effect":"deny"}`,
			by + `,"action":"policy.set","target":"deploys","before":null,"after":{"description":"","effect":"deny","enabled":true,"match":{},"message":"","name":"deploys","priority":100}`, "",
		},
		"DELETE /v1/policies/:name":  {"/v1/policies/deploys", "", "", "there is none; see TestReviewsAreInTheAuditLog"},
		"POST /v1/policies/backtest": {"/v1/policies/backtest", `{"policies":[]}`, "", "it saves nothing"},
		"POST /v1/billing/checkout":  {"/v1/billing/checkout", `{"plan":"pro"}`, "", "it only makes a page; the payment changes the plan"},
		"POST /v1/billing/portal":    {"/v1/billing/portal", "", "", "it only makes a page"},
		"POST /v1/billing/webhook":   {"/v1/billing/webhook", `{}`, "", "nobody has signed it; what Stripe's events leave is tested below"},
	}
}

// auditLog lists a tenant's entries, newest first, without what is random in them.
func (w *world) auditLog(a account, query string) (entries []string) {
	w.t.Helper()
	now, err := w.store.Account(w.t.Context(), a.id) // whose sessions may have been ended
	w.must(err)
	r := w.call("GET", "/v1/audit?"+query, w.token(now, auth.NewSessionID()), nil).want(http.StatusOK)
	for i := range r.get("items").([]any) {
		entries = append(entries, r.text(fmt.Sprintf("items.%d", i)))
	}
	return entries
}

func maskEntry(f fixture, r *response) string {
	text := regexp.MustCompile(`"target":"[0-9a-f]{8}"`).ReplaceAllString(f.mask(r.body), `"target":"<prefix>"`)
	text, found := strings.CutPrefix(text, `{"items":[{"id":"<id>","at":"2026-11-23T07:08:32.123Z",`)
	if !found {
		return text
	}
	text, _ = strings.CutSuffix(text, `,"address":"127.0.0.1"}],"next_cursor":null}`)
	return text
}

func TestEachConfigurationRouteLeavesOneTrueEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	recipes := trails()
	for _, rt := range w.routes {
		name := rt.Method + " " + rt.Path
		recipe, known := recipes[name]
		delete(recipes, name)
		if !rt.Audit {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if !known {
				t.Fatal("a route that may change the configuration needs an entry in trails()")
			}
			leavesOne(w.in(t), rt, recipe)
		})
	}
	for name := range recipes {
		t.Errorf("%s is no route that changes anything", name)
	}
}

func leavesOne(w *world, rt server.TestRoute, recipe trail) {
	w.t.Helper()
	f := w.makeFixture(plans.Scale)
	_, err := w.store.BlockUser(w.t.Context(), f.workspace, "zoe", nil)
	w.must(err)
	w.clock.set(time.Date(2026, 11, 23, 7, 8, 32, 123e6, time.UTC))
	credential := ""
	if rt.Token {
		credential = f.token
	}
	var body any
	if recipe.body != "" {
		body = f.fill(recipe.body)
	}
	told := func() {}
	if _, action, found := strings.Cut(recipe.want, `"action":"`); found {
		told = w.isTold(f, action[:strings.Index(action, ".")])
	}
	r := w.call(rt.Method, f.fill(recipe.path), credential, body)
	told()
	now, err := w.store.Account(w.t.Context(), f.id) // whose session the call may have ended
	w.must(err)
	reader := w.token(now, auth.NewSessionID())
	if strings.Contains(string(r.body), "access_token") { // of a new account, or of a new password
		reader = r.text("access_token")
	}
	// Only what the call itself has left is so young.
	left := w.call("GET", "/v1/audit?since=2026-11-23T07:08:32Z", reader, nil).want(http.StatusOK)
	got := maskEntry(f, left)
	if recipe.want == "" {
		recipe.want = `{"items":[],"next_cursor":null}`
	}
	got = strings.ReplaceAll(got, f.key[3:11], "<prefix>")
	for _, name := range []string{"key", "api_key.key"} {
		if key, made := keyIn(r, name); made {
			got = strings.ReplaceAll(got, key[3:11], "<prefix>")
		}
	}
	if got != recipe.want {
		w.t.Errorf("left\n     %s\nwant %s", got, recipe.want)
	}
}

// isTold opens a stream of the tenant's, and returns a function that waits until it tells of a
// change of what is configured so. What is an account's own is of no concern to others.
func (w *world) isTold(f fixture, configured string) func() {
	part := map[string]string{
		"api_key": "api_key", "endpoint": "endpoints", "grant": "policies", "model_price": "prices",
		"policy": "policies", "user": "users", "workspace": "workspace",
	}[configured]
	if part == "" {
		return func() {}
	}
	in := w.stream(f.token)
	return func() {
		in.until("config.changed", func(r *response) bool { return r.text("what") == part })
	}
}

// keyIn is an API key that an answer shows.
func keyIn(r *response, path string) (string, bool) {
	v, err := decodeJSON(r.body)
	for name := range strings.SplitSeq(path, ".") {
		var ok bool
		if v, ok = step(v, name); !ok {
			return "", false
		}
	}
	key, ok := v.(string)
	return key, ok && err == nil
}

func TestFailedSignInsAreRecordedWithoutWhatWasTyped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	w.clock.advance(time.Second)
	before := w.count(`SELECT count(*) FROM audit_entries`)
	login(w, strings.ToUpper(a.email), "wrong password").want(http.StatusUnauthorized)
	login(w, "nobody@example.com", "wrong password").want(http.StatusUnauthorized)
	if got := w.count(`SELECT count(*) FROM audit_entries`); got != before+1 {
		t.Errorf("two failures, one of nobody's, left %d entries", got-before)
	}
	r := w.call("GET", "/v1/audit?limit=1", a.token, nil).want(http.StatusOK)
	want := `{"action":"account.sign_in_failed","actor":{"kind":"anonymous","name":null},"address":"127.0.0.1","after":null,"at":"2026-11-23T07:08:30.123Z","before":null,"id":"` +
		r.text("items.0.id") + `","target":"` + a.email + `"}`
	if got := r.text("items.0"); got != want {
		t.Errorf("left %s\nwant %s", got, want)
	}
}

func TestOnlyWhatChangedSomethingIsRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	w.call("PATCH", "/v1/workspace", a.token, `{"daily_budget_usd":2}`).want(http.StatusOK)
	before := w.count(`SELECT count(*) FROM audit_entries`)
	w.call("PATCH", "/v1/workspace", a.token, `{"daily_budget_usd":2.00}`).want(http.StatusOK) // as it is
	w.call("PATCH", "/v1/workspace", a.token, `{"daily_budget_usd":3,"user_daily_budget_usd":1}`).want(http.StatusForbidden)
	w.call("POST", "/v1/workspace/kill-switch", a.token, `{"active":true}`).want(http.StatusForbidden)
	w.call("DELETE", "/v1/blocked-users/nobody", a.token, nil).want(http.StatusNotFound)
	run := w.start(a, "ada")
	w.call("POST", "/v1/runs/"+run+"/end", a.token, `{"status":"FAILED"}`).want(http.StatusOK)
	if got := w.count(`SELECT count(*) FROM audit_entries`); got != before {
		t.Errorf("%d entries of calls that changed nothing", got-before)
	}
}

func TestTheActorIsTheOneWhoseCredentialItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.clock.advance(time.Second)
	a.admin = w.keyOf(a, storage.ScopeAdmin)
	w.clock.advance(time.Second)
	w.call("PUT", "/v1/blocked-users/ada", a.admin, nil).want(http.StatusOK)
	w.clock.advance(time.Second)
	w.call("PUT", "/v1/blocked-users/bob", a.token, nil).want(http.StatusOK)
	w.clock.advance(time.Second)
	ctx := storage.WithActor(t.Context(), storage.Actor{Kind: storage.ActorStripe, Name: "evt_1"})
	basic, err := plans.ByID(plans.Basic)
	w.must(err)
	_, err = w.store.SetPlan(ctx, a.workspace, basic)
	w.must(err)
	r := w.call("GET", "/v1/audit", a.token, nil).want(http.StatusOK)
	for i, want := range []string{
		`{"kind":"stripe","name":"evt_1"}`, `{"kind":"account","name":"` + a.email + `"}`, `{"kind":"api_key","name":"` + a.admin[3:11] + `"}`, `{"kind":"system","name":null}`,
	} {
		if got := r.text(fmt.Sprintf("items.%d.actor", i)); got != want {
			t.Errorf("entry %d is by %s, want %s", i, got, want)
		}
	}
	if got := r.get("items.0.address"); got != nil {
		t.Errorf("a change over no network comes from %v", got)
	}
}

func TestPlansThatStripeChangesAreInTheAuditLog(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	a := s.account(plans.Basic)
	s.clock.advance(time.Second)
	sub, events, err := s.stripe.Pay(s.checkout(a, plans.Scale))
	s.must(err)
	s.send(events...)
	s.send(events...) // a repeated event changes nothing again
	s.clock.advance(time.Second)
	s.call("POST", "/v1/workspace/kill-switch", a.token, `{"active":true}`).want(http.StatusOK)
	s.clock.advance(time.Second)
	s.stripe.SwitchPrice(sub, pricePro) // the event gets lost, and the daily comparison finds it
	if n := s.reconcile(); n != 1 {
		t.Fatalf("%d customers were repaired", n)
	}
	r := s.call("GET", "/v1/audit?action=workspace.plan", a.token, nil).want(http.StatusOK)
	for i, want := range []map[string]string{
		{
			"actor": `{"kind":"system","name":"stripe_check"}`, "address": "null",
			"before": `{"kill_switch":true,"plan":"scale"}`, "after": `{"kill_switch":false,"plan":"pro"}`,
		},
		{
			"actor": `{"kind":"stripe","name":"` + events[0].ID + `"}`, "address": "127.0.0.1",
			"before": `{"plan":"basic"}`, "after": `{"plan":"scale"}`,
		},
	} {
		for field, want := range want {
			if got := r.text(fmt.Sprintf("items.%d.%s", i, field)); got != want {
				t.Errorf("entry %d has %s %s, want %s", i, field, got, want)
			}
		}
	}
	if n := len(r.get("items").([]any)); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
}

func TestTheAuditLogIsPagedAndFiltered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	for i := range 5 {
		w.clock.advance(time.Second)
		w.call("PUT", fmt.Sprintf("/v1/blocked-users/u%d", i), a.token, nil).want(http.StatusOK)
		w.call("PATCH", "/v1/workspace", a.token, fmt.Sprintf(`{"daily_budget_usd":%d}`, i)).want(http.StatusOK)
	}
	var targets []string
	for cursor := ""; ; {
		r := w.call("GET", "/v1/audit?action=user.block&limit=2&cursor="+cursor, a.token, nil).want(http.StatusOK)
		for i := range r.get("items").([]any) {
			targets = append(targets, r.text(fmt.Sprintf("items.%d.target", i)))
		}
		if r.get("next_cursor") == nil {
			break
		}
		cursor = r.text("next_cursor")
	}
	if got := strings.Join(targets, " "); got != "u4 u3 u2 u1 u0" {
		t.Errorf("the pages hold %s", got)
	}
	// The account is of second 29, the changes are of seconds 30 to 34, two each.
	for query, want := range map[string]int{
		"since=2026-11-23T07:08:33.123Z": 4, "since=2026-11-23T07:08:33.124Z": 2, "until=2026-11-23T07:08:31.123Z": 3,
		"since=2026-11-23T07:08:31Z&until=2026-11-23T07:08:32Z": 2, "action=api_key.regenerate": 0, "action=account.register": 1,
		"since=" + url.QueryEscape("2026-11-23T08:08:34+01:00"): 2,
	} {
		if got := len(w.auditLog(a, query)); got != want {
			t.Errorf("with %s there are %d entries, want %d", query, got, want)
		}
	}
	w.call("GET", "/v1/audit?action=user", a.token, nil).want(http.StatusUnprocessableEntity)
}

// count runs a query of one number.
func (w *world) count(query string) (n int) {
	w.t.Helper()
	w.must(w.conn().QueryRowContext(w.t.Context(), query).Scan(&n))
	return n
}
