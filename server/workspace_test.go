package server_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// exec changes the database behind the server's back, as another process can.
func (w *world) exec(query string) {
	w.t.Helper()
	db, err := sql.Open("sqlite", w.path)
	w.must(err)
	defer db.Close()
	_, err = db.ExecContext(w.t.Context(), query)
	w.must(err)
}

func TestTheOldKeyEndsWithTheVeryNextRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	run := w.start(a, "ada")
	r := w.call("POST", "/v1/api-keys/regenerate", a.token, nil).want(http.StatusOK)
	for _, call := range [][2]string{{"GET", "/v1/workspace"}, {"POST", "/v1/runs"}, {"POST", "/v1/runs/" + run + "/heartbeat"}} {
		w.call(call[0], call[1], a.key, `{"user_id":"ada"}`).wantDetail(http.StatusUnauthorized, "API key has been revoked")
	}
	a.key = r.text("key")
	w.call("POST", "/v1/runs/"+run+"/heartbeat", a.key, nil).want(http.StatusOK)
	w.call("GET", "/v1/workspace", a.token, nil).want(http.StatusOK)

	// The same when another process rotates it.
	k, err := w.another(testSecret).store.RotateKey(t.Context(), a.workspace, storage.Rotation{Label: "elsewhere"})
	w.must(err)
	w.call("GET", "/v1/workspace", a.key, nil).wantDetail(http.StatusUnauthorized, "API key has been revoked")
	w.call("GET", "/v1/workspace", k.Full, nil).want(http.StatusOK)
}

func TestAKeyIsShownToItsOwnerOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	w.call("POST", "/v1/api-keys/regenerate", a.token, `{"label":"Ünï"}`).want(http.StatusOK)
	shown := w.call("GET", "/v1/api-keys", a.token, nil).want(http.StatusOK)
	key := shown.text("key")
	if !strings.HasPrefix(key, "lg_"+shown.text("prefix")+"_") || shown.text("label") != "Ünï" {
		t.Errorf("the key is shown as %s", mask(string(shown.body)))
	}
	hidden := w.call("GET", "/v1/api-keys", key, nil).want(http.StatusOK)
	if got, want := string(hidden.body), strings.Replace(string(shown.body), `"`+key+`"`, "null", 1); got != want {
		t.Errorf("with a key as credential\n got %s\nwant %s", mask(got), mask(want))
	}
	// Under another server secret it still works, but cannot be shown, and no old token works.
	other := w.another("another secret, also long enough to be taken")
	other.call("GET", "/v1/workspace", key, nil).want(http.StatusOK)
	other.call("GET", "/v1/api-keys", a.token, nil).wantDetail(http.StatusUnauthorized, "Invalid token")
	token := login(other, a.email, password).want(http.StatusOK).text("access_token")
	if r := other.call("GET", "/v1/api-keys", token, nil).want(http.StatusOK); r.get("key") != nil || r.text("prefix") != shown.text("prefix") {
		t.Errorf("after the secret changed, the key is shown as %s", mask(string(r.body)))
	}
}

func TestNoActiveKeyIsANotFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	w.exec(`UPDATE api_keys SET revoked_at = 1`)
	w.call("GET", "/v1/api-keys/", a.token, nil).wantDetail(http.StatusNotFound, "No active API key")
	w.call("POST", "/v1/api-keys/regenerate", a.token, nil).want(http.StatusOK)
	w.call("GET", "/v1/api-keys/", a.token, nil).want(http.StatusOK)
}

func TestADowngradeHoldsForTheVeryNextRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.call("PATCH", "/v1/workspace", a.token, `{"daily_budget_usd":5,"user_daily_budget_usd":0,"max_concurrent_runs":7}`).want(http.StatusOK)
	w.call("POST", "/v1/workspace/kill-switch", a.token, `{"active":true}`).want(http.StatusOK)
	basic, err := plans.ByID(plans.Basic)
	w.must(err)
	_, err = w.another(testSecret).store.SetPlan(t.Context(), a.workspace, basic)
	w.must(err)
	w.start(a, "ada")
	r := w.call("GET", "/v1/workspace", a.key, nil).want(http.StatusOK)
	for field, want := range map[string]string{
		"plan": "basic", "kill_switch": "false", "daily_budget_usd": "5", "user_daily_budget_usd": "null", "max_concurrent_runs": "3",
		"monthly_run_limit": "1000", "retention_days": "1", "features": `{"configurable_concurrency":false,"kill_switch":false,"user_daily_budget":false}`,
	} {
		if got := r.text(field); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
}

func TestMoneyIsWrittenExactly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Pro)
	for sent, want := range map[string]string{
		`0`: "0", `0.1`: "0.1", `"0.30"`: "0.3", `1e3`: "1000", `2.5E-7`: "0.00000025", `"1000000000.000000000"`: "1000000000",
		`999999999.999999999`: "999999999.999999999", `null`: "null",
	} {
		got := w.call("PATCH", "/v1/workspace", a.token, `{"daily_budget_usd":`+sent+`}`).want(http.StatusOK)
		if got.text("daily_budget_usd") != want || w.call("GET", "/v1/workspace", a.key, nil).text("daily_budget_usd") != want {
			t.Errorf("%s became %s, want %s", sent, got.text("daily_budget_usd"), want)
		}
	}
}

func TestUserIDsMayHoldAnything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, user := range []string{
		"a/b", "/", "//", "/a", "a/", "a//b", "../x", ".", "..", "a?b=c", "a#b", "100%", "%2F", "a+b c", " ", "&=;:@$,", `"quoted"\`, "<b>", "\t\n",
		"🦀", "日本語/ユーザー", "e\u0301", "é", "ﷺ", "user@example.com", strings.Repeat("x", 255), strings.Repeat("🦀", 255),
	} {
		t.Run(user, func(t *testing.T) {
			w := w.in(t)
			a := w.account(plans.Basic)
			path := "/v1/blocked-users/" + url.PathEscape(user)
			if got := w.call("PUT", path, a.token, nil).want(http.StatusOK).text("user_id"); got != user {
				t.Fatalf("blocked %q", got)
			}
			r := w.call("POST", "/v1/runs/", a.key, map[string]string{"user_id": user}).want(http.StatusCreated)
			if r.text("decision.reason") != "USER_BLOCKED" {
				t.Errorf("the start of a blocked user: %s", r.body)
			}
			if got := w.call("DELETE", path, a.token, nil).want(http.StatusOK).text("blocked"); got != "false" {
				t.Errorf("blocked is %s after unblocking", got)
			}
			named := map[string]string{"user_id": user}
			if got := w.call("POST", "/v1/blocked-users", a.token, named).want(http.StatusOK).text("user_id"); got != user {
				t.Errorf("blocked %q by its body", got)
			}
			if got := w.call("POST", "/v1/blocked-users/unblock", a.token, named).want(http.StatusOK).text("blocked"); got != "false" {
				t.Errorf("blocked is %s after unblocking by a body", got)
			}
			w.start(a, user)
			runs := w.call("GET", "/v1/runs?limit=2&user_id="+url.QueryEscape(user), a.key, nil).want(http.StatusOK)
			if runs.text("items.0.user_id") != user || runs.text("items.1.user_id") != user {
				t.Errorf("the user's runs are %s", runs.body)
			}
			found := w.call("GET", "/v1/users?q="+url.QueryEscape(user), a.key, nil).want(http.StatusOK)
			if found.text("items.0.user_id") != user || found.text("items.0.run_count") != "1" {
				t.Errorf("searching finds %s", found.body)
			}
		})
	}
}

func TestTheRestOfAPathIsReadInAnyOfItsForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	for path, user := range map[string]string{
		"/v1/blocked-users/acme/ada":      "acme/ada",
		"/v1/blocked-users/acme%2Fbob/":   "acme/bob",
		"/v1/blocked-users/cleo%2F":       "cleo/",
		"/v1/blocked-users/%64ora":        "dora",
		"/v1/blocked%2Dusers/eve":         "eve",
		"/v1/blocked%2Dusers/acme/fay%2F": "acme/fay", // where the slash cannot be told from a plain one
		"/v1/blocked-users/g+h":           "g+h",
	} {
		if got := w.call("PUT", path, a.token, nil).want(http.StatusOK).text("user_id"); got != user {
			t.Errorf("PUT %s blocked %q, want %q", path, got, user)
		}
	}
	for _, path := range []string{"/v1/blocked-users", "/v1/blocked-users/", "/v1/blocked-users//"} {
		r := w.call("PUT", path, a.token, nil).want(http.StatusUnprocessableEntity)
		wantBody(t, r, problems(problem("string_too_short", `["path","user_id"]`, "String should have at least 1 character", `""`, `{"min_length":1}`)))
	}
	r := w.call("PUT", "/v1/model-pricing", a.token, `{"input_cost_per_token":1,"output_cost_per_token":1}`).want(http.StatusUnprocessableEntity)
	wantBody(t, r, problems(problem("string_too_short", `["path","model"]`, "String should have at least 1 character", `""`, `{"min_length":1}`)))
	if got := w.call("GET", "/v1/users", a.key, nil).get("items").([]any); len(got) != 7 {
		t.Errorf("%d users are known", len(got))
	}
}

func TestBlockingAgainKeepsTheTimeAndReplacesTheReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	const path = "/v1/blocked-users/ada"
	wantBody(t, w.call("PUT", path, a.token, `{"reason":""}`), userJSON("ada", atStart, `""`, "0", "null"))
	w.clock.advance(time.Minute)
	wantBody(t, w.call("PUT", path, a.token, `{"reason":"loops"}`), userJSON("ada", atStart, `"loops"`, "0", "null"))
	wantBody(t, w.call("PUT", path, a.token, `null`), userJSON("ada", atStart, "null", "0", "null"))
	wantBody(t, w.call("DELETE", path, a.token, nil), userJSON("ada", "null", "null", "0", "null"))
	wantBody(t, w.call("DELETE", path, a.token, nil), userJSON("ada", "null", "null", "0", "null"))
}

func TestUsersAreFoundByPartAndByBlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	for _, user := range []string{"acme/Ada", "acme/bob", "100%", "a_b", "axb", `c:\d`} {
		w.call("POST", "/v1/runs", a.key, map[string]string{"user_id": user}).want(http.StatusCreated)
	}
	w.call("PUT", "/v1/blocked-users/acme/bob", a.token, nil).want(http.StatusOK)
	w.call("PUT", "/v1/blocked-users/zoe", a.token, nil).want(http.StatusOK)
	for query, want := range map[string]string{
		"":                       `zoe|c:\d|axb|a_b|100%|acme/bob|acme/Ada`,
		"?q=ACME":                "acme/bob|acme/Ada",
		"?q=acme&blocked=true":   "acme/bob",
		"?blocked=1":             "zoe|acme/bob",
		"?blocked=false":         `c:\d|axb|a_b|100%|acme/Ada`,
		"?q=%25":                 "100%",
		"?q=a_b":                 "a_b",
		"?q=%5C":                 `c:\d`,
		"?q=nobody":              "",
		"?q=":                    `zoe|c:\d|axb|a_b|100%|acme/bob|acme/Ada`,
		"?q=a&limit=2":           "axb|a_b",
		"?unknown=1&q=b&limit=1": "axb",
	} {
		r := w.call("GET", "/v1/users"+query, a.token, nil).want(http.StatusOK)
		if got := names(r, "user_id"); got != want {
			t.Errorf("GET /v1/users%s lists %s, want %s", query, got, want)
		}
	}
}

// names joins one field of all items of a list.
func names(r *response, field string) string {
	r.t.Helper()
	list, isList := r.get("items").([]any)
	if !isList {
		r.t.Fatalf("%s answered %s", r.what, r.body)
	}
	all := make([]string, len(list))
	for i, item := range list {
		all[i], _ = item.(map[string]any)[field].(string)
	}
	return strings.Join(all, "|")
}

func TestPagesCoverAListOnceWhileItGrows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.call("PATCH", "/v1/workspace", a.token, `{"max_concurrent_runs":100}`).want(http.StatusOK)
	for _, user := range []string{"a", "b", "c", "d", "e"} {
		w.start(a, user)
		w.clock.advance(time.Millisecond)
	}
	for _, list := range []string{"/v1/runs", "/v1/users/"} {
		var seen []string
		cursor := ""
		for {
			r := w.call("GET", list+"?limit=2&cursor="+cursor, a.token, nil).want(http.StatusOK)
			seen = append(seen, names(r, "user_id"))
			w.start(a, "late-"+list)
			if r.get("next_cursor") == nil {
				break
			}
			cursor = url.QueryEscape(r.text("next_cursor"))
		}
		if got := strings.Join(seen, ","); !strings.HasSuffix(got, "e|d,c|b,a") && !strings.HasSuffix(got, "|e,d|c,b|a") {
			t.Errorf("the pages of %s are %s", list, got)
		}
	}
	// A cursor of one list is none of another, nor of another workspace.
	cursor := w.call("GET", "/v1/runs?limit=1", a.token, nil).text("next_cursor")
	w.call("GET", "/v1/users?cursor="+cursor, a.token, nil).want(http.StatusUnprocessableEntity)
	w.call("GET", "/v1/runs?cursor="+cursor, w.account(plans.Basic).token, nil).want(http.StatusUnprocessableEntity)
}

func TestARunShowsItsStepsFiveHundredAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	run := w.start(a, "ada")
	w.exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1001)
		INSERT INTO steps (segment, run_id, uuid, sequence, type, status, created_at)
		SELECT 1, r.id, unhex(printf('01a00000000070008000%012x', i)), (i + 1) / 2, 3, 1, r.started_at FROM n, runs r`)
	w.exec(`INSERT INTO run_segments SELECT id, 1 FROM runs`)
	seen, cursor := 0, ""
	for _, want := range []int{500, 500, 1} {
		r := w.call("GET", "/v1/runs/"+run+"?steps_cursor="+cursor, a.token, nil).want(http.StatusOK)
		steps, _ := r.get("steps").([]any)
		if len(steps) != want {
			t.Fatalf("a page of %d steps after %d, want %d", len(steps), seen, want)
		}
		for _, step := range steps {
			seen++
			if got, want := step.(map[string]any)["id"], fmt.Sprintf("01a00000-0000-7000-8000-%012x", seen); got != want {
				t.Fatalf("step %d is %s, want %s", seen, got, want)
			}
		}
		cursor, _ = r.get("next_steps_cursor").(string)
		if (cursor == "") != (want == 1) {
			t.Fatalf("after %d steps the cursor is %q", seen, cursor)
		}
	}
}

func TestPricesAreFoundByTheirExactName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	put := func(model, body string) *response {
		return w.call("PUT", "/v1/model-pricing/"+model, a.token, body).want(http.StatusOK)
	}
	const price = `{"input_cost_per_token":0.0000025,"output_cost_per_token":"0.00001"}`
	for _, model := range []string{"gpt-4o", "GPT-4o", "openai/gpt-4o", "my%20model", "a%3Fb%23c", "%F0%9F%A6%80"} {
		put(model, price)
	}
	put("gpt-4o", `{"input_cost_per_token":0,"output_cost_per_token":0,"is_active":false}`)
	w.call("POST", "/v1/runs/"+w.start(a, "ada")+"/steps", a.key, `{"type":"MODEL_CALL","sequence":1,"model":"never priced"}`).want(http.StatusCreated)
	list := func(query string) string {
		var all []string
		for _, item := range w.call("GET", "/v1/model-pricing"+query, a.token, nil).want(http.StatusOK).items() {
			all = append(all, item["model"].(string))
		}
		return strings.Join(all, "|")
	}
	if got, want := list(""), "GPT-4o|a?b#c|my model|openai/gpt-4o|🦀"; got != want {
		t.Errorf("active prices are %s, want %s", got, want)
	}
	if got, want := list("?include_inactive=true"), "GPT-4o|a?b#c|gpt-4o|my model|openai/gpt-4o|🦀"; got != want {
		t.Errorf("all prices are %s, want %s", got, want)
	}
	first, second := put("gpt-4o", price), put("gpt-4o", price)
	if string(first.body) != string(second.body) || first.text("is_active") != "true" {
		t.Errorf("putting a price twice answered %s, then %s", first.body, second.body)
	}
}

// items are those of an answer that is a bare list.
func (r *response) items() []map[string]any {
	r.t.Helper()
	v, err := decodeJSON(r.body)
	list, isList := v.([]any)
	if err != nil || !isList {
		r.t.Fatalf("%s answered %s", r.what, r.body)
	}
	items := make([]map[string]any, len(list))
	for i := range list {
		items[i], _ = list[i].(map[string]any)
	}
	return items
}
