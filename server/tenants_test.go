package server_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

// canary marks every text that a tenant under watch has made up, and canarySpend is what it has spent.
const (
	canary      = "canary"
	canarySpend = "7654.321"
)

// watched is a tenant of whom others may learn nothing.
type watched struct {
	fixture
	cursors []string // one of each list it has
	private []string // what no answer to others may hold
}

// makeWatched fills every corner of a workspace through the API.
func (w *world) makeWatched() watched {
	w.t.Helper()
	v := watched{fixture: w.makeFixture(plans.Scale)}
	a := &v.account
	a.key = w.call("POST", "/v1/api-keys/regenerate", a.token, `{"label":"canary label"}`).want(http.StatusOK).text("key")
	w.call("PATCH", "/v1/workspace", a.token, `{"name":"canary workspace","daily_budget_usd":10000,"max_concurrent_runs":9}`).want(http.StatusOK)
	w.call("PUT", "/v1/model-pricing/canary/model", a.token, `{"input_cost_per_token":7.654321,"output_cost_per_token":0}`).want(http.StatusOK)
	run := w.call("POST", "/v1/runs", a.key, `{"user_id":"canary/user","metadata":{"note":"canary note","tags":{"team":"canary"}}}`, "Idempotency-Key", canary).want(http.StatusCreated).text("id")
	v.names["{view}"] = w.call("POST", "/v1/saved-views", a.token, `{"name":"canary view","query":"q=canary"}`).want(http.StatusCreated).text("id")
	_, err := w.store.IndexRuns(w.t.Context())
	w.must(err)
	body := `{"type":"MODEL_CALL","sequence":1,"model":"canary/model","tool_name":"canary tool","input_data":{"a":"canary input"}}`
	step := w.call("POST", "/v1/runs/"+run+"/steps", a.key, body, "Idempotency-Key", canary).want(http.StatusCreated).text("id")
	w.call("PATCH", "/v1/runs/"+run+"/steps/"+step, a.key, `{"prompt_tokens":1000,"output_data":"canary output","error":"canary error","duration_ms":0.5}`).want(http.StatusOK)
	w.call("PUT", "/v1/blocked-users/canary/user", a.token, `{"reason":"canary reason"}`).want(http.StatusOK)
	w.must(w.store.SetCustomer(w.t.Context(), a.workspace, "", "cus_canary"))
	w.call("POST", "/v1/auth/logout", login(w, a.email, password).want(http.StatusOK).text("access_token"), nil).want(http.StatusOK)
	// Enough further steps for a second page; one statement is quicker than 500 calls.
	w.exec(`INSERT INTO steps (segment, run_id, uuid, sequence, type, status, created_at)
		WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 502)
		SELECT (SELECT max(segment) FROM run_segments WHERE run_id = r.id), r.id, unhex(printf('01a00000000070008000%012x', i)), i, 3, 2, r.started_at FROM n, runs r WHERE r.uuid = x'` + strings.ReplaceAll(run, "-", "") + `'`)
	v.names["{run}"], v.names["{step}"] = run, step
	w.call("POST", v.fill("/v1/endpoints/{endpoint}/test"), a.admin, nil).want(http.StatusAccepted)
	for _, list := range [][2]string{
		{"/v1/runs?limit=1", "next_cursor"}, {"/v1/users?limit=1", "next_cursor"}, {"/v1/audit?limit=1", "next_cursor"}, {"/v1/runs/" + run, "next_steps_cursor"},
		{"/v1/api-keys/all?limit=1", "next_cursor"},
		{v.fill("/v1/endpoints/{endpoint}/deliveries?limit=1"), "next_cursor"},
	} {
		v.cursors = append(v.cursors, w.call("GET", list[0], a.admin, nil).want(http.StatusOK).get(list[1]).(string))
	}
	v.private = append([]string{canary, canarySpend, a.key, a.key[3:11], a.admin, v.names["{key}"], v.names["{endpoint}"], v.names["{delivery}"], a.token, a.session, a.email, a.id.String(), a.workspaceID.String(), run, step}, v.cursors...)
	return v
}

// intrusion is what another tenant sends on a route, and what that answers.
// Path parameters and queries are filled in by foreignPaths and foreignQueries.
type intrusion struct {
	body   string
	status int
}

// intrusions has a recipe for every route; ids of others make a 404 of any status here.
func intrusions() map[string]intrusion {
	return map[string]intrusion{
		"POST /v1/auth/register":                {`{"email":"{email}","password":"12345678"}`, http.StatusBadRequest},
		"POST /v1/auth/login":                   {`{"email":"{email}","password":"not the right one"}`, http.StatusUnauthorized},
		"GET /v1/auth/me":                       {"", http.StatusOK},
		"POST /v1/auth/change-password":         {`{"current_password":"` + password + `","new_password":"another battery"}`, http.StatusOK},
		"POST /v1/auth/logout":                  {"", http.StatusOK},
		"POST /v1/auth/logout-everywhere":       {"", http.StatusOK},
		"POST /v1/auth/logout-others":           {"", http.StatusOK},
		"GET /v1/auth/sessions":                 {"", http.StatusOK},
		"DELETE /v1/auth/sessions/:session_id":  {"", http.StatusOK},
		"POST /v1/runs/":                        {`{"user_id":"canary/user","metadata":{"note":"canary note"}}`, http.StatusCreated},
		"GET /v1/runs/":                         {"", http.StatusOK},
		"GET /v1/runs/:run_id":                  {"", http.StatusOK},
		"GET /v1/runs/:run_id/outline":          {"", http.StatusOK},
		"GET /v1/runs/:run_id/lines":            {"", http.StatusOK},
		"GET /v1/runs/:run_id/breakdown":        {"", http.StatusOK},
		"GET /v1/runs/:run_id/neighbours":       {"", http.StatusOK},
		"GET /v1/runs/:run_id/steps/:step_id":   {"", http.StatusOK},
		"POST /v1/runs/:run_id/end":             {`{"status":"FAILED"}`, http.StatusOK},
		"POST /v1/runs/:run_id/heartbeat":       {"", http.StatusOK},
		"POST /v1/runs/:run_id/steps":           {`{"type":"MODEL_CALL","sequence":1,"model":"canary/model"}`, http.StatusCreated},
		"PATCH /v1/runs/:run_id/steps/:step_id": {`{"status":"FAILED","prompt_tokens":9,"output_data":1}`, http.StatusOK},
		"GET /v1/workspace/":                    {"", http.StatusOK},
		"PATCH /v1/workspace/":                  {`{"name":"mine","daily_budget_usd":1,"max_concurrent_runs":2}`, http.StatusOK},
		"POST /v1/workspace/kill-switch":        {`{"active":true}`, http.StatusOK},
		"GET /v1/run-totals":                    {"", http.StatusOK},
		"GET /v1/run-filters":                   {"", http.StatusOK},
		"GET /v1/export-runs":                   {"", http.StatusOK},
		"GET /v1/saved-views/":                  {"", http.StatusOK},
		"POST /v1/saved-views/":                 {`{"name":"mine","query":""}`, http.StatusCreated},
		"DELETE /v1/saved-views/:view_id":       {"", http.StatusOK},
		"GET /v1/reviews/":                      {"", http.StatusOK},
		"GET /v1/reviews/:review_id":            {"", http.StatusOK},
		"POST /v1/reviews/decide":               {`{"ids":["` + unknownID + `"],"verdict":"approve"}`, http.StatusNotFound},
		"POST /v1/reviews/:review_id/approve":   {"", http.StatusOK},
		"POST /v1/reviews/:review_id/deny":      {`{"note":"mine"}`, http.StatusOK},
		"GET /v1/grants/":                       {"", http.StatusOK},
		"GET /v1/grants/:grant_id/steps":        {"", http.StatusOK},
		"DELETE /v1/grants/:grant_id":           {"", http.StatusOK},
		"GET /v1/policies/":                     {"", http.StatusOK},
		"POST /v1/policies/backtest":            {`{"policies":[]}`, http.StatusOK},
		"PUT /v1/policies/:name":                {`{"effect":"no such"}`, http.StatusUnprocessableEntity},
		"DELETE /v1/policies/:name":             {"", http.StatusNotFound},
		"GET /v1/policies/:name/versions":       {"", http.StatusNotFound},
		"POST /v1/end-runs":                     {`{"silent_for_seconds":0}`, http.StatusOK},
		"GET /v1/users/":                        {"", http.StatusOK},
		"DELETE /v1/users/*user_id":             {"", http.StatusNotFound},
		"POST /v1/users/erase":                  {`{"user_id":"canary/user"}`, http.StatusNotFound},
		"GET /v1/storage":                       {"", http.StatusOK},
		"PUT /v1/blocked-users/*user_id":        {`{"reason":"mine"}`, http.StatusOK},
		"DELETE /v1/blocked-users/*user_id":     {"", http.StatusNotFound},
		"POST /v1/blocked-users":                {`{"user_id":"the caller's","reason":"mine"}`, http.StatusOK},
		"POST /v1/blocked-users/unblock":        {`{"user_id":"canary/user"}`, http.StatusNotFound},
		"GET /v1/usage/":                        {"", http.StatusOK},
		"GET /v1/usage/now":                     {"", http.StatusOK},
		"GET /v1/usage/daily":                   {"", http.StatusOK},
		"GET /v1/events":                        {"", http.StatusOK},
		"GET /v1/usage/by":                      {"", http.StatusOK},
		"GET /v1/usage/of-user":                 {"", http.StatusNotFound},
		"GET /v1/api-keys/":                     {"", http.StatusOK},
		"GET /v1/api-keys/all":                  {"", http.StatusOK},
		"POST /v1/api-keys/":                    {`{"label":"mine"}`, http.StatusCreated},
		"PATCH /v1/api-keys/:key_id":            {`{"label":"mine"}`, http.StatusOK},
		"DELETE /v1/api-keys/:key_id":           {"", http.StatusOK},
		"POST /v1/api-keys/regenerate":          {`{"label":"mine"}`, http.StatusOK},
		"GET /v1/model-pricing/":                {"", http.StatusOK},
		"GET /v1/model-pricing/catalogue":       {"", http.StatusOK},
		"GET /v1/model-pricing/resolve":         {"", http.StatusOK},
		"POST /v1/model-pricing/reprice":        {`{"dry_run":false,"only_unpriced":false}`, http.StatusOK},
		"PUT /v1/model-pricing/*model":          {`{"input_cost_per_token":1,"output_cost_per_token":1,"is_active":false}`, http.StatusOK},
		"GET /v1/audit/":                        {"", http.StatusOK},
		"GET /v1/billing/":                      {"", http.StatusOK},
		"POST /v1/billing/checkout":             {`{"plan":"pro"}`, http.StatusBadRequest},
		"POST /v1/billing/portal":               {"", http.StatusBadRequest},
		"GET /v1/server":                        {"", http.StatusOK},
		"POST /v1/billing/webhook":              {`{"id":"evt_1","type":"invoice.paid"}`, http.StatusBadRequest},
		"GET /health":                           {"", http.StatusOK},
		"GET /health/ready":                     {"", http.StatusOK},
		"GET /openapi.json":                     {"", http.StatusOK},
		"GET /clients/":                         {"", http.StatusOK},
		"GET /clients/:file":                    {"", http.StatusOK},

		"GET /decide/:link":  {"", http.StatusNotFound},
		"POST /decide/:link": {"", http.StatusNotFound},

		"GET /v1/endpoints/":                                             {"", http.StatusOK},
		"POST /v1/endpoints/":                                            {`{"kind":"webhook","url":"https://example.com","events":["*"]}`, http.StatusCreated},
		"GET /v1/endpoints/:endpoint_id":                                 {"", http.StatusOK},
		"PATCH /v1/endpoints/:endpoint_id":                               {`{"label":"mine"}`, http.StatusOK},
		"DELETE /v1/endpoints/:endpoint_id":                              {"", http.StatusOK},
		"POST /v1/endpoints/:endpoint_id/roll-secret":                    {"", http.StatusOK},
		"POST /v1/endpoints/:endpoint_id/test":                           {"", http.StatusAccepted},
		"GET /v1/endpoints/:endpoint_id/deliveries":                      {"", http.StatusOK},
		"POST /v1/endpoints/:endpoint_id/deliveries/:delivery_id/resend": {"", http.StatusAccepted},
	}
}

// foreignPath is a route's path in which some of the ids are another's.
type foreignPath struct {
	path    string
	unknown string   // the same with ids that nothing has in their place
	names   []string // the parameters that hold another's ids
}

// foreignPaths puts the watched tenant's names and ids into a route, in each
// mixture with the caller's own ids that holds one of theirs at least.
func foreignPaths(t *testing.T, rt server.TestRoute, own fixture, v watched) []foreignPath {
	t.Helper()
	placeholders := map[string]string{
		"view_id": "{view}", "session_id": "{session}", "run_id": "{run}", "step_id": "{step}", "key_id": "{key}",
		"endpoint_id": "{endpoint}", "delivery_id": "{delivery}", "review_id": "{review}", "grant_id": "{grant}",
	}
	rests := map[string]string{"user_id": "canary/user", "model": "canary/model"}
	paths := []foreignPath{{}}
	for segment := range strings.SplitSeq(strings.TrimPrefix(rt.Path, "/"), "/") {
		extended := make([]foreignPath, 0, 2*len(paths))
		for _, p := range paths {
			with := func(segment, unknown string, names ...string) {
				extended = append(extended, foreignPath{p.path + "/" + segment, p.unknown + "/" + unknown, append(names, p.names...)})
			}
			switch name := strings.TrimLeft(segment, ":*"); {
			case segment == name:
				with(name, name)
			case segment == ":name": // of a policy that the caller has not
				with("deploys-2", "deploys-2")
			case segment == ":link": // whoever has one may use it; see links_test.go
				with("forged", "forged")
			case segment == ":file": // nobody's in particular
				with("pikarc.tgz", "pikarc.tgz")
			case segment[0] == ':' && placeholders[name] != "":
				with(v.names[placeholders[name]], unknownID, name)
				with(own.names[placeholders[name]], own.names[placeholders[name]])
			case segment[0] == '*' && rests[name] != "":
				with(url.PathEscape(rests[name]), rests[name])
			default:
				t.Fatalf("%s %s: no recipe for %s", rt.Method, rt.Path, segment)
			}
		}
		paths = extended
	}
	if strings.Contains(rt.Path, "_id") && strings.Contains(rt.Path, ":") { // the last one is the caller's own from end to end
		return paths[:len(paths)-1]
	}
	return paths
}

// foreignQueries are the query strings with which a route could be asked for another's things.
func foreignQueries(t *testing.T, rt server.TestRoute, v watched) []string {
	t.Helper()
	sorts := []string{"spend"}
	if rt.Path == "/v1/runs/" {
		sorts = []string{"newest"} // the other order needs a status
	}
	values := map[string][]string{
		"user_id": {"canary/user"}, "model": {"canary/model"}, "q": {canary}, "cursor": v.cursors, "steps_cursor": v.cursors, "days": {"365"}, "limit": {"200"},
		"status": {map[bool]string{true: "RUNNING", false: "pending"}[!strings.Contains(rt.Path, "endpoint")]}, "blocked": {"true"}, "denied": {"true"}, "since": {"2026-01-01T00:00:00Z"}, "until": {"9999-12-31T23:59:59Z"}, "include_inactive": {"true"},
		"reason": {"USER_BLOCKED"}, "sort": sorts, "by": {"model"}, "action": {"user.block"},
		"key": {v.names["{key}"]}, "active": {"true"}, "policy": {"deploys"}, "wait": {"0"}, "run_id": {v.names["{run}"]}, "group": {"key", "tag:team", "tool", "prefix"}, "by_day": {"true"}, "by_hour": {"false"}, "user_prefix": {"canary/"}, "prefix": {"canary/"}, "provider": {canary},
		"tool": {"canary tool"}, "tag": {"team:canary"}, "min_cost_usd": {"0.01"}, "min_duration_ms": {"1"}, "bucket_minutes": {"60"}, "buckets": {"60"}, "format": {"csv", "jsonl"},
		"steps": {v.names["{step}"]}, "steps_limit": {"0"},
	}
	if rt.Path == "/v1/reviews/" {
		values["status"] = []string{"denied"}
	}
	queries, always := []string{""}, "?"
	if rt.Path == "/v1/runs/" && rt.Method == http.MethodGet {
		queries = append(queries, "?status=RUNNING&sort=last_call")
	}
	if rt.Path == "/v1/usage/by" || rt.Path == "/v1/usage/of-user" { // the two go together
		always += "before_since=2026-01-01T00:00:00Z&before_until=2026-02-01T00:00:00Z&"
	}
	if rt.Path == "/v1/run-totals" { // pieces of time need it
		always += "since=2026-11-01T00:00:00Z&"
	}
	for _, p := range operation(readDocument(t), rt.Method, rt.Path).Parameters {
		if p.Value.In != "query" || strings.HasPrefix(p.Value.Name, "before_") {
			continue
		}
		if len(values[p.Value.Name]) == 0 {
			t.Fatalf("%s %s: no recipe for ?%s=", rt.Method, rt.Path, p.Value.Name)
		}
		if p.Value.Required { // it comes first
			always += p.Value.Name + "=" + values[p.Value.Name][0] + "&"
			queries[0] = always
		}
		for _, value := range values[p.Value.Name] {
			queries = append(queries, always+p.Value.Name+"="+url.QueryEscape(value))
		}
	}
	return queries
}

// intruder walks the routes with its own credentials, and is replaced by
// another one after every call that may have changed it.
type intruder struct {
	w       *world
	watched watched
	own     *fixture
}

func (in *intruder) tenant() fixture {
	in.w.t.Helper()
	if in.own == nil {
		own := in.w.makeFixture(plans.Scale)
		in.own = &own
	}
	return *in.own
}

func (in *intruder) call(rt server.TestRoute, path string, token bool) *response {
	in.w.t.Helper()
	credential := in.tenant().key
	switch {
	case token:
		credential = in.tenant().token
	case !rt.Key:
		credential = in.tenant().admin
	}
	if !rt.Admin && !rt.Token {
		credential = ""
	}
	var body any
	if text := intrusions()[rt.Method+" "+rt.Path].body; text != "" {
		body = in.watched.fill(text)
	}
	r := in.w.call(rt.Method, path, credential, body, "Idempotency-Key", canary)
	if rt.Method != http.MethodGet && r.status != http.StatusNotFound {
		in.own = nil
	}
	return r
}

// wantNothingOf fails when an answer holds what is another's alone, beyond what the call itself said.
func wantNothingOf(v watched, r *response) {
	r.t.Helper()
	sent, err := url.PathUnescape(r.what)
	if err != nil {
		r.t.Fatal(err)
	}
	body := string(r.body)
	for _, echoed := range append([]string{"canary/user", "canary/model"}, v.cursors...) {
		if strings.Contains(sent, echoed) {
			body = strings.ReplaceAll(body, echoed, "")
		}
	}
	for _, secret := range v.private {
		if strings.Contains(body, secret) {
			r.t.Errorf("%s shows another tenant's %s: %s", r.what, secret, shortBody(r.body))
		}
	}
	if r.header.Get("Idempotent-Replay") != "" {
		r.t.Errorf("%s replays another tenant's answer", r.what)
	}
}

// walk makes every call that a route allows with one kind of credential.
func (in *intruder) walk(t *testing.T, rt server.TestRoute, token bool) {
	in.w = in.w.in(t)
	recipe, known := intrusions()[rt.Method+" "+rt.Path]
	if !known {
		t.Fatalf("no recipe for %s %s", rt.Method, rt.Path)
	}
	for _, p := range foreignPaths(t, rt, in.tenant(), in.watched) {
		for _, query := range foreignQueries(t, rt, in.watched) {
			r := in.call(rt, p.path+query, token)
			switch {
			case len(p.names) > 0: // another's id looks the same as none
				none := in.call(rt, p.unknown+query, token).want(http.StatusNotFound)
				wantBody(t, r.want(http.StatusNotFound), string(none.body))
			case strings.Contains(query, "cursor="):
				r.want(http.StatusUnprocessableEntity)
			default:
				r.want(recipe.status)
			}
			wantNothingOf(in.watched, r)
		}
	}
	if strings.Contains(rt.Path, ":run_id") && rt.Method == http.MethodGet {
		for _, cursor := range in.watched.cursors { // in a run of the caller's own
			wantNothingOf(in.watched, in.call(rt, in.tenant().fill("/v1/runs/{run}?steps_cursor=")+cursor, token).want(http.StatusUnprocessableEntity))
		}
	}
}

func TestNoCallReachesAnotherTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := &intruder{w: w, watched: w.makeWatched()}
	w.exec(`INSERT INTO expired_history SELECT id, 1, 1 FROM workspaces`)                    // as retention would
	w.exec(`INSERT INTO erasures SELECT id, workspace_id, external_id, 1, x'00' FROM users`) // as if it could not go on
	w.exec(`INSERT INTO spend_quarter_hours SELECT id, 0, 0 FROM workspaces`)                // as quarters that were folded
	w.exec(`INSERT INTO capped_steps SELECT run_id, uuid, 1000, 1 FROM steps WHERE prompt_tokens = 1000`)
	w.exec(`INSERT INTO step_usage SELECT segment, run_id, uuid, 7, 0, 0, 0, 0, NULL, 0, 0, 0, 0 FROM steps WHERE prompt_tokens = 1000`)
	w.exec(`INSERT INTO price_points SELECT NULL, id, 2, 'canary/model', '', 'in=1 out=1', 0 FROM workspaces`)
	w.exec(`INSERT INTO alerts SELECT id, 1, '', 1, 50, 1 FROM workspaces`)
	w.exec(`INSERT INTO step_payloads (run_id, step_uuid, input_data) SELECT run_id, uuid, '{}' FROM steps`) // as an older version has
	w.exec(`INSERT INTO dropped_payloads (workspace_id, place) SELECT id, 1 FROM workspaces`)                // as if their blocks waited for a pass
	looks, rows := w.look(in.watched.account), w.rowsOf(in.watched.workspace)
	for _, rt := range w.routes {
		for _, token := range []bool{false, true} {
			if public := !rt.Admin && !rt.Token; token && !rt.Token || !token && !rt.Admin && !public {
				continue
			}
			t.Run(fmt.Sprintf("%s %s token=%v", rt.Method, rt.Path, token), func(t *testing.T) {
				in.walk(t, rt, token)
				now := w.in(t).rowsOf(in.watched.workspace)
				if rt.Path == "/v1/auth/login" { // who fails to sign in leaves a trace with whose email it was
					rows["audit_entries"] = now["audit_entries"]
				}
				if got := changes(rows, now); got != "" {
					t.Fatalf("another tenant's rows changed in %s", got)
				}
			})
		}
	}
	if got := changes(looks, w.look(in.watched.account)); got != "" {
		t.Errorf("another tenant's %s changed", got)
	}
}

// What one workspace sets holds for equal names in no other.
func TestEqualNamesInTwoWorkspacesAreTwoThings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, a := w.makeWatched(), w.account(plans.Scale)
	w.call("POST", "/v1/workspace/kill-switch", v.token, `{"active":true}`).want(http.StatusOK)
	run := w.start(a, "canary/user") // blocked there
	w.clock.advance(time.Second)
	w.call("POST", "/v1/workspace/kill-switch", v.token, `{"active":false}`).want(http.StatusOK)
	w.start(v.account, "ada") // newer than what the other looks for
	for _, filter := range []string{"user_id=canary/user", "status=RUNNING", "status=RUNNING&user_id=canary/user"} {
		if got := w.call("GET", "/v1/runs?limit=1&"+filter, a.key, nil).want(http.StatusOK); got.text("items.0.id") != run || got.get("next_cursor") != nil {
			t.Errorf("with %s, the only run is listed as %s", filter, got.body)
		}
	}
	path := w.step(a, run, "canary/model")
	if got := w.call("PATCH", path, a.key, `{"prompt_tokens":10}`).want(http.StatusOK).get("cost_usd"); got != nil {
		t.Errorf("a model that only another tenant has priced costs %v", got)
	}
	w.call("PUT", "/v1/model-pricing/canary/model", a.token, `{"input_cost_per_token":1,"output_cost_per_token":0}`).want(http.StatusOK)
	w.call("PUT", "/v1/blocked-users/canary/user", a.token, nil).want(http.StatusOK)
	w.call("DELETE", "/v1/blocked-users/canary/user", a.token, nil).want(http.StatusOK)
	denied := w.call("POST", "/v1/runs", v.key, `{"user_id":"canary/user"}`).want(http.StatusCreated)
	if denied.text("decision.reason") != "USER_BLOCKED" {
		t.Errorf("after another tenant unblocked its user of that name: %s", denied.body)
	}
	w.call("PATCH", v.fill("/v1/runs/{run}/steps/{step}"), v.key, `{"prompt_tokens":1001}`).want(http.StatusOK)
	if got := w.call("GET", "/v1/usage", v.key, nil).text("today.total_usd"); got != "7661.975321" {
		t.Errorf("one token more at the own price makes %s", got)
	}
	if got := w.call("GET", "/v1/usage", a.key, nil).text("last_30_days.total_tokens"); got != "10" {
		t.Errorf("the other workspace counts %s tokens", got)
	}
}

// tables are those of the tenants, with their columns: all but goose's own, the
// readiness probe's and the ids of Stripe's events.
func tables(ctx context.Context, c *sql.Conn) (map[string][]string, error) {
	found, err := c.QueryContext(ctx, `SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p WHERE m.type = 'table'
		AND m.name NOT IN ('goose_db_version', 'sqlite_sequence', 'sqlite_stat1', 'probes', 'stripe_events')`)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	all := make(map[string][]string)
	for found.Next() {
		var table, column string
		if err := found.Scan(&table, &column); err != nil {
			return nil, err
		}
		all[table] = append(all[table], column)
	}
	return all, found.Err()
}

// rows is a query's answer as text, in an order of its own.
func rows(ctx context.Context, c *sql.Conn, query string, args ...any) (string, error) {
	found, err := c.QueryContext(ctx, query, args...)
	if err != nil {
		return "", err
	}
	defer found.Close()
	columns, err := found.Columns()
	if err != nil {
		return "", err
	}
	values, dest := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		dest[i] = &values[i]
	}
	var lines []string
	for found.Next() {
		if err := found.Scan(dest...); err != nil {
			return "", err
		}
		lines = append(lines, fmt.Sprintf("%#v", values))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), found.Err()
}

// conn is a connection of the test's own to the database.
func (w *world) conn() *sql.Conn {
	w.t.Helper()
	db, err := sql.Open("sqlite", w.path)
	w.must(err)
	c, err := db.Conn(w.t.Context())
	w.must(err)
	w.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			w.t.Error(err)
		}
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return c
}

// rowsOf is all that the database holds of one tenant, by table. A table of
// which it does not know whose its rows are ends the test.
func (w *world) rowsOf(ws storage.WorkspaceKey) map[string]string {
	w.t.Helper()
	ctx, c := w.t.Context(), w.conn()
	all, err := tables(ctx, c)
	w.must(err)
	parts := make(map[string]string)
	for table, columns := range all {
		where := ""
		switch {
		case table == "accounts":
			where = "id = (SELECT account_id FROM workspaces WHERE id = $1)"
		case table == "workspaces":
			where = "id = $1"
		case slices.Contains(columns, "workspace_id"):
			where = "workspace_id = $1"
		case slices.Contains(columns, "account_id"):
			where = "account_id = (SELECT account_id FROM workspaces WHERE id = $1)"
		case slices.Contains(columns, "run_id"):
			where = "run_id IN (SELECT id FROM runs WHERE workspace_id = $1)"
		case slices.Contains(columns, "policy_id"):
			where = "policy_id IN (SELECT id FROM policies WHERE workspace_id = $1)"
		default:
			w.t.Fatalf("whose are the rows of %s?", table)
		}
		parts[table], err = rows(ctx, c, "SELECT * FROM "+table+" WHERE "+where, int64(ws))
		w.must(err)
		if parts[table] == "" {
			w.t.Fatalf("the tenant has nothing in %s, so nobody can spoil it there", table)
		}
	}
	return parts
}
