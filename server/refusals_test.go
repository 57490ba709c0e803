package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pikarc/server/plans"
)

const (
	runMissing  = `{"detail":"Run not found"}`
	stepMissing = `{"detail":"Step not found"}`
	notRunning  = `{"detail":"Run has already ended as COMPLETED"}`
	reasonWords = "'RUN_ALREADY_ENDED', 'KILL_SWITCH_ACTIVE', 'USER_BLOCKED', 'WORKSPACE_DAILY_BUDGET_EXCEEDED', " +
		"'USER_DAILY_BUDGET_EXCEEDED', 'MONTHLY_RUN_LIMIT_EXCEEDED', 'MAX_CONCURRENT_RUNS_EXCEEDED', 'MODEL_NOT_PRICED', " +
		"'POLICY_DENIED', 'POLICY_LIMIT_EXCEEDED', 'REVIEW_NOT_SUPPORTED', 'REVIEW_DENIED', 'REVIEW_EXPIRED' or 'REVIEW_CANCELLED'"
	noBilling = `{"detail":"Billing is not configured on this server"}`
)

func missing(field, input string) string {
	return problem("missing", `["body","`+field+`"]`, "Field required", input, "")
}

func badUUID(name string) string { return notUUIDAt(`["path","` + name + `"]`) }

func notUUIDAt(loc string) string {
	const words = "expected 32 hexadecimal digits in groups of 8-4-4-4-12"
	return problem("uuid_parsing", loc, "Input should be a valid UUID, "+words, `"7"`, `{"error":"`+words+`"}`)
}

func badCursor(name string) string {
	return problem("value_error", `["query","`+name+`"]`, "Value error, not a cursor of this list", `"AAAA"`, "")
}

func tooLong(loc, input, limit string) string {
	return problem("string_too_long", loc, "String should have at most "+limit+" characters", input, `{"max_length":`+limit+`}`)
}

func tooSmall(loc, input string) string {
	return problem("greater_than_equal", loc, "Input should be greater than or equal to 1", input, `{"ge":1}`)
}

// refusals has each call's own errors. Those that every call has are in routes_test.go.
func refusals() []apiCase {
	all := append(runRefusals(), configurationRefusals()...)
	all = slices.Concat(all, keyRefusals(), endpointRefusals(), timelineRefusals())
	return append(all, accountRefusals()...)
}

const badGrant = `{"scope":"all","seconds":0,"uses":1,"more":1}`

const reviewMissing = `{"detail":"Review not found"}`

func runRefusals() []apiCase {
	return []apiCase{
		{
			method: "POST", path: "/v1/runs/", as: "key", body: `{"metadata":[]}`, status: http.StatusUnprocessableEntity,
			want: problems(missing("user_id", `{"metadata":[]}`)),
		},
		{method: "GET", path: "/v1/reviews/?cursor=AAAA", as: "key", status: http.StatusUnprocessableEntity, want: problems(badCursor("cursor"))},
		{method: "GET", path: "/v1/reviews/" + unknownID, as: "key", status: http.StatusNotFound, want: reviewMissing},
		{method: "GET", path: "/v1/reviews/7", as: "key", status: http.StatusUnprocessableEntity, want: problems(badUUID("review_id"))},
		{name: "too long", method: "GET", path: "/v1/reviews/{review}?wait=26", as: "key", status: http.StatusUnprocessableEntity},
		{
			method: "POST", path: "/v1/reviews/decide", as: "token", status: http.StatusNotFound, want: reviewMissing,
			body: `{"ids":["{review}","` + unknownID + `"],"verdict":"approve"}`,
		},
		{
			name: "none", method: "POST", path: "/v1/reviews/decide", as: "token", body: `{"ids":[],"verdict":"deny"}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("value_error", `["body","ids"]`, "Value error, must name at least one review", "[]", ""), missing("note", `{"ids":[],"verdict":"deny"}`)),
		},
		{method: "POST", path: "/v1/reviews/" + unknownID + "/approve", as: "token", status: http.StatusNotFound, want: reviewMissing},
		{
			method: "POST", path: "/v1/reviews/{review}/approve", as: "token", status: http.StatusUnprocessableEntity,
			body: `{"grant":` + badGrant + `}`,
			want: problems(problem("literal_error", `["body","grant","scope"]`, "Input should be 'run', 'same_action' or 'tool'", badGrant, `{"expected":"'run', 'same_action' or 'tool'"}`),
				tooSmall(`["body","grant","seconds"]`, badGrant), problem("extra_forbidden", `["body","grant","more"]`, "Extra inputs are not permitted", badGrant, "")),
		},
		{method: "POST", path: "/v1/reviews/" + unknownID + "/deny", as: "token", body: `{"note":"no"}`, status: http.StatusNotFound, want: reviewMissing},
		{method: "POST", path: "/v1/reviews/{review}/deny", as: "token", body: `{}`, status: http.StatusUnprocessableEntity, want: problems(missing("note", `{}`))},
		{method: "GET", path: "/decide/forged", status: http.StatusNotFound},
		{method: "POST", path: "/decide/forged", status: http.StatusNotFound},
		{method: "GET", path: "/v1/grants/" + unknownID + "/steps", as: "key", status: http.StatusNotFound, want: `{"detail":"Grant not found"}`},
		{
			method: "GET", path: "/v1/grants/{grant}/steps?cursor=AAAA", as: "key", status: http.StatusUnprocessableEntity,
			want: problems(badCursor("cursor")),
		},
		{method: "DELETE", path: "/v1/grants/" + unknownID, as: "token", status: http.StatusNotFound, want: `{"detail":"Grant not found"}`},
		{method: "DELETE", path: "/v1/grants/7", as: "token", status: http.StatusUnprocessableEntity, want: problems(badUUID("grant_id"))},
		{name: "nothing", method: "PUT", path: "/v1/policies/deploys", as: "token", body: `{}`, status: http.StatusUnprocessableEntity},
		{name: "nothing", method: "POST", path: "/v1/policies/backtest", as: "token", body: `{}`, status: http.StatusUnprocessableEntity},
		{method: "DELETE", path: "/v1/policies/deploys", as: "token", status: http.StatusNotFound, want: `{"detail":"Policy not found"}`},
		{method: "DELETE", path: "/v1/policies/" + strings.Repeat("x", 65), as: "token", status: http.StatusUnprocessableEntity},
		{method: "GET", path: "/v1/policies/other/versions", as: "token", status: http.StatusNotFound, want: `{"detail":"Policy not found"}`},
		{method: "GET", path: "/v1/policies/" + strings.Repeat("x", 65) + "/versions", as: "token", status: http.StatusUnprocessableEntity},
		{
			method: "POST", path: "/v1/end-runs", as: "admin", body: `{"run_ids":["7"],"silent":1}`, status: http.StatusUnprocessableEntity,
			want: problems(notUUIDAt(`["body","run_ids",0]`), problem("extra_forbidden", `["body","silent"]`, "Extra inputs are not permitted", "1", "")),
		},
		{
			name: "no list", method: "POST", path: "/v1/end-runs", as: "token", body: `{"run_ids":"7","status":"RUNNING"}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("list_type", `["body","run_ids"]`, "Input should be a valid list", `"7"`, ""),
				problem("literal_error", `["body","status"]`, "Input should be 'COMPLETED', 'FAILED' or 'BLOCKED'", `"RUNNING"`, `{"expected":"'COMPLETED', 'FAILED' or 'BLOCKED'"}`)),
		},
		{
			name: "a number", method: "POST", path: "/v1/end-runs", as: "token", body: `{"run_ids":[7]}`, status: http.StatusUnprocessableEntity,
			want: problems(strings.Replace(notUUIDAt(`["body","run_ids",0]`), `"7"`, `7`, 1)),
		},
		{method: "GET", path: "/v1/run-totals?bucket_minutes=5", as: "token", status: http.StatusUnprocessableEntity},
		{
			name: "both", method: "GET", path: "/v1/run-totals?bucket_minutes=5&buckets=5&since=2026-11-23T00:00:00Z", as: "token",
			status: http.StatusUnprocessableEntity,
		},
		{method: "GET", path: "/v1/export-runs?format=xls&tag=agent", as: "key", status: http.StatusUnprocessableEntity},
		{method: "POST", path: "/v1/saved-views/", as: "admin", body: `{"name":""}`, status: http.StatusUnprocessableEntity},
		{method: "DELETE", path: "/v1/saved-views/" + unknownID, as: "admin", status: http.StatusNotFound, want: detail("View not found")},
		{method: "DELETE", path: "/v1/saved-views/7", as: "admin", status: http.StatusUnprocessableEntity, want: problems(badUUID("view_id"))},
		{
			name: "neither", method: "POST", path: "/v1/end-runs", as: "token", body: `{}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("value_error", `["body"]`, "Value error, send run_ids or silent_for_seconds, and not both", "{}", "")),
		},
		{
			name: "by last call of all", method: "GET", path: "/v1/runs/?sort=last_call", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(problem("value_error", `["query","sort"]`, "Value error, last_call needs status=RUNNING, and no other filter", `"last_call"`, "")),
		},
		{
			name: "by last call of a user", method: "GET", path: "/v1/runs/?sort=last_call&status=RUNNING&user_id=a", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(problem("value_error", `["query","sort"]`, "Value error, last_call needs status=RUNNING, and no other filter", `"last_call"`, "")),
		},
		{
			name: "no body", method: "POST", path: "/v1/runs/", as: "key", status: http.StatusUnprocessableEntity,
			want: problems(problem("missing", `["body"]`, "Field required", "null", "")),
		},
		{
			method: "GET", path: "/v1/runs/?limit=0&status=OPEN", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(problem("literal_error", `["query","status"]`, "Input should be 'RUNNING', 'COMPLETED', 'FAILED' or 'BLOCKED'", `"OPEN"`,
				`{"expected":"'RUNNING', 'COMPLETED', 'FAILED' or 'BLOCKED'"}`), tooSmall(`["query","limit"]`, `"0"`)),
		},
		{
			name: "reason", method: "GET", path: "/v1/runs/?reason=", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(problem("literal_error", `["query","reason"]`, "Input should be "+reasonWords, `""`, `{"expected":"`+reasonWords+`"}`)),
		},
		{name: "cursor", method: "GET", path: "/v1/runs/?cursor=AAAA", as: "token", status: http.StatusUnprocessableEntity, want: problems(badCursor("cursor"))},
		{method: "GET", path: "/v1/runs/" + unknownID, as: "token", status: http.StatusNotFound, want: runMissing},
		{method: "GET", path: "/v1/runs/7", as: "key", status: http.StatusUnprocessableEntity, want: problems(badUUID("run_id"))},
		{
			method: "GET", path: "/v1/runs/{run}?steps_cursor=AAAA", as: "key", status: http.StatusUnprocessableEntity,
			want: problems(badCursor("steps_cursor")),
		},
		{
			name: "unknown", method: "POST", path: "/v1/runs/" + unknownID + "/steps", as: "key", body: `{"type":"INPUT","sequence":1}`,
			status: http.StatusNotFound, want: runMissing,
		},
		{
			name: "all at once", method: "POST", path: "/v1/runs/7/steps", as: "key", body: `{"sequence":0}`, status: http.StatusUnprocessableEntity,
			want: problems(badUUID("run_id"), missing("type", `{"sequence":0}`), tooSmall(`["body","sequence"]`, "0")),
		},
		{
			name: "denied", method: "PATCH", path: "/v1/runs/{run}/steps/{denied}", as: "key", body: `{"prompt_tokens":5}`,
			status: http.StatusBadRequest, want: `{"detail":"A blocked step cannot be updated"}`,
		},
		{
			name: "unknown", method: "PATCH", path: "/v1/runs/{run}/steps/" + unknownID, as: "key", body: `{"prompt_tokens":5}`,
			status: http.StatusNotFound, want: stepMissing,
		},
		{
			name: "in another run", method: "PATCH", path: "/v1/runs/{ended}/steps/{step}", as: "key", body: `{"prompt_tokens":5}`,
			status: http.StatusNotFound, want: stepMissing,
		},
		{
			name: "both ids", method: "PATCH", path: "/v1/runs/7/steps/7", as: "key", body: `{}`, status: http.StatusUnprocessableEntity,
			want: problems(badUUID("run_id"), badUUID("step_id")),
		},
		{
			method: "POST", path: "/v1/runs/{ended}/end", as: "token", body: `{"status":"FAILED"}`, status: http.StatusBadRequest, want: notRunning,
		},
		{method: "POST", path: "/v1/runs/" + unknownID + "/end", as: "key", body: `{"status":"FAILED"}`, status: http.StatusNotFound, want: runMissing},
		{
			method: "POST", path: "/v1/runs/{run}/end", as: "key", body: `{"status":"RUNNING"}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("literal_error", `["body","status"]`, "Input should be 'COMPLETED', 'FAILED' or 'BLOCKED'", `"RUNNING"`,
				`{"expected":"'COMPLETED', 'FAILED' or 'BLOCKED'"}`)),
		},
		{method: "POST", path: "/v1/runs/" + unknownID + "/heartbeat", as: "key", status: http.StatusNotFound, want: runMissing},
		{method: "POST", path: "/v1/runs/7/heartbeat", as: "key", status: http.StatusUnprocessableEntity, want: problems(badUUID("run_id"))},
	}
}

// endpointRefusals are those of endpoints.
func endpointRefusals() []apiCase {
	const kinds, missingEndpoint = "'webhook', 'slack', 'discord', 'teams', 'ntfy' or 'email'", `{"detail":"Endpoint not found"}`
	badURL := func(url, why string) string {
		return problems(problem("value_error", `["body","url"]`, "Value error, "+why, `"`+url+`"`, ""))
	}
	cases := []apiCase{
		{
			method: "POST", path: "/v1/endpoints/", as: "admin", status: http.StatusUnprocessableEntity, body: `{"kind":"pager","events":[]}`,
			want: problems(problem("literal_error", `["body","kind"]`, "Input should be "+kinds, `"pager"`, `{"expected":"`+kinds+`"}`),
				missing("url", `{"kind":"pager","events":[]}`),
				problem("too_short", `["body","events"]`, "List should have at least 1 item after validation, not 0", `[]`,
					`{"actual_length":0,"field_type":"List","min_length":1}`)),
		},
		{
			name: "no email here", method: "POST", path: "/v1/endpoints/", as: "token", status: http.StatusBadRequest,
			body: `{"kind":"email","url":"a@example.com","events":["*"]}`,
			want: `{"detail":"This server sends no email: its operator has set no SMTP server"}`,
		},
		{
			name: "no address", method: "PATCH", path: "/v1/endpoints/{endpoint}", as: "admin", status: http.StatusUnprocessableEntity,
			body: `{"url":"ftp://example.com"}`, want: badURL("ftp://example.com", "should be an absolute https URL, such as https://example.com/hook"),
		},
		{name: "cursor", method: "GET", path: "/v1/endpoints/{endpoint}/deliveries?cursor=AAAA", as: "admin", status: http.StatusUnprocessableEntity, want: problems(badCursor("cursor"))},
		{
			name: "overlap", method: "POST", path: "/v1/endpoints/{endpoint}/roll-secret", as: "token", body: `{"overlap_seconds":604801}`,
			status: http.StatusUnprocessableEntity,
			want:   problems(problem("less_than_equal", `["body","overlap_seconds"]`, "Input should be less than or equal to 604800", "604801", `{"le":604800}`)),
		},
		{
			method: "POST", path: "/v1/endpoints/{endpoint}/deliveries/" + unknownID + "/resend", as: "token",
			status: http.StatusNotFound, want: `{"detail":"Delivery not found"}`,
		},
	}
	for _, c := range []apiCase{
		{method: "GET"}, {method: "PATCH", body: `{}`}, {method: "DELETE"}, {method: "POST", path: "/test"},
		{method: "POST", path: "/roll-secret"}, {method: "GET", path: "/deliveries"},
	} {
		c.path, c.as, c.status, c.want = "/v1/endpoints/"+unknownID+c.path, "admin", http.StatusNotFound, missingEndpoint
		cases = append(cases, c)
	}
	for _, c := range []apiCase{
		{method: "GET"}, {method: "DELETE"}, {method: "POST", path: "/test"},
		{method: "POST", path: "/deliveries/" + unknownID + "/resend"},
	} {
		c.path, c.as, c.status = "/v1/endpoints/7"+c.path, "token", http.StatusUnprocessableEntity
		c.want = problems(badUUID("endpoint_id"))
		cases = append(cases, c)
	}
	for url, why := range map[string]string{
		"http://example.com":               "should be an https URL: this server sends over plain http only with --webhook-private",
		"https://ana:secret@example.com/x": "should have no user name or password", "example.com": "should be an absolute https URL, such as https://example.com/hook",
	} {
		cases = append(cases, apiCase{
			name: url, method: "POST", path: "/v1/endpoints/", as: "admin", status: http.StatusUnprocessableEntity,
			body: `{"kind":"discord","url":"` + url + `","events":["*"]}`, want: badURL(url, why),
		})
	}
	return cases
}

// keyRefusals are those of API keys, and of what is asked by them.
func keyRefusals() []apiCase {
	const scopes, groups = "'agent', 'read' or 'admin'", "'key', 'model', 'prefix', 'tool', 'user' or 'tag:KEY'"
	const keyMissing = `{"detail":"API key not found"}`
	soon := problem("value_error", `["body","expires_at"]`, "Value error, must be in the future, and before the year 10000", `"2026-11-23T07:08:31.123Z"`, "")
	return []apiCase{
		{
			method: "POST", path: "/v1/api-keys/", as: "admin", status: http.StatusUnprocessableEntity,
			body: `{"scope":"owner","expires_at":"2026-11-23T07:08:31.123Z"}`,
			want: problems(missing("label", `{"scope":"owner","expires_at":"2026-11-23T07:08:31.123Z"}`), problem("literal_error", `["body","scope"]`,
				"Input should be "+scopes, `"owner"`, `{"expected":"`+scopes+`"}`), soon),
		},
		{
			name: "no time", method: "POST", path: "/v1/api-keys/", as: "token", status: http.StatusUnprocessableEntity,
			body: `{"label":"x","expires_at":"tomorrow"}`,
			want: problems(problem("datetime_parsing", `["body","expires_at"]`, "Input should be a valid datetime, write it as RFC 3339, for example 2026-11-23T07:08:29.123Z",
				`"tomorrow"`, `{"error":"write it as RFC 3339, for example 2026-11-23T07:08:29.123Z"}`)),
		},
		{
			name: "overlap", method: "POST", path: "/v1/api-keys/regenerate", as: "token", body: `{"overlap_seconds":604801}`,
			status: http.StatusUnprocessableEntity,
			want:   problems(problem("less_than_equal", `["body","overlap_seconds"]`, "Input should be less than or equal to 604800", "604801", `{"le":604800}`)),
		},
		{method: "PATCH", path: "/v1/api-keys/" + unknownID, as: "admin", body: `{"label":"x"}`, status: http.StatusNotFound, want: keyMissing},
		{
			name: "scope", method: "PATCH", path: "/v1/api-keys/{key}", as: "token", body: `{"scope":"admin"}`, status: http.StatusUnprocessableEntity,
			want: problems(missing("label", `{"scope":"admin"}`), problem("extra_forbidden", `["body","scope"]`, "Extra inputs are not permitted", `"admin"`, "")),
		},
		{method: "DELETE", path: "/v1/api-keys/" + unknownID, as: "token", status: http.StatusNotFound, want: keyMissing},
		{method: "DELETE", path: "/v1/api-keys/7", as: "token", status: http.StatusUnprocessableEntity, want: strings.Replace(problems(badUUID("key_id")), `"input":"7"`, `"input":"***"`, 1)},
		{
			method: "GET", path: "/v1/api-keys/all?active=perhaps&cursor=AAAA", as: "key", status: http.StatusUnprocessableEntity,
			want: problems(problem("bool_parsing", `["query","active"]`, "Input should be a valid boolean, unable to interpret input", `"perhaps"`, "")),
		},
		{
			method: "POST", path: "/v1/model-pricing/reprice", as: "token", body: `{"cursor":"AAAA"}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("value_error", `["body","cursor"]`, "Value error, not a cursor of this call", `"AAAA"`, "")),
		},
		{
			method: "GET", path: "/v1/model-pricing/resolve", as: "key", status: http.StatusUnprocessableEntity,
			want: problems(problem("missing", `["query","model"]`, "Field required", "null", "")),
		},
		{
			name: "empty", method: "GET", path: "/v1/model-pricing/resolve?model=", as: "key", status: http.StatusUnprocessableEntity,
			want: problems(problem("string_too_short", `["query","model"]`, "String should have at least 1 character", `""`, `{"min_length":1}`)),
		},
		{name: "cursor", method: "GET", path: "/v1/model-pricing/catalogue?cursor=AAAA", as: "key", status: http.StatusUnprocessableEntity, want: problems(badCursor("cursor"))},
		{name: "cursor", method: "GET", path: "/v1/api-keys/all?cursor=AAAA", as: "key", status: http.StatusUnprocessableEntity, want: problems(badCursor("cursor"))},
		{
			name: "key", method: "GET", path: "/v1/runs/?key=7", as: "key", status: http.StatusUnprocessableEntity,
			want: strings.NewReplacer(`"path"`, `"query"`, `"input":"7"`, `"input":"***"`).Replace(problems(badUUID("key"))),
		},
		{
			method: "GET", path: "/v1/usage/by", as: "key", status: http.StatusUnprocessableEntity,
			want: problems(problem("missing", `["query","group"]`, "Field required", "null", "")),
		},
		{
			method: "GET", path: "/v1/usage/of-user", as: "key", status: http.StatusUnprocessableEntity,
			want: problems(problem("missing", `["query","user_id"]`, "Field required", "null", "")),
		},
		{method: "GET", path: "/v1/usage/of-user?user_id=nobody", as: "key", status: http.StatusNotFound, want: `{"detail":"User not found"}`},
		{
			name: "half a period", method: "GET", path: "/v1/usage/by?group=key&before_since=2026-11-01T00:00:00Z", as: "key", status: http.StatusUnprocessableEntity,
			want: problems(problem("value_error", `["query","before_since"]`, "Value error, goes with before_until", `"2026-11-01T00:00:00Z"`, "")),
		},
		{
			name: "what is not kept", method: "GET", path: "/v1/usage/by?group=tags", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(problem("literal_error", `["query","group"]`, "Input should be "+groups, `"tags"`, `{"expected":"`+groups+`"}`)),
		},
		{
			name: "a window", method: "GET", path: "/v1/usage/by?group=key&since=2026-11-24T00:00:00Z", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(problem("value_error", `["query","since"]`, "Value error, must be before until, and at most 365 days", `"2026-11-24T00:00:00Z"`, "")),
		},
	}
}

func configurationRefusals() []apiCase {
	limit257 := `"` + strings.Repeat("x", 256) + `"`
	return []apiCase{
		{
			name: "sort", method: "GET", path: "/v1/users/?sort=dearest", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(problem("literal_error", `["query","sort"]`, "Input should be 'newest' or 'spend'", `"dearest"`, `{"expected":"'newest' or 'spend'"}`)),
		},
		{
			name: "by", method: "GET", path: "/v1/usage/daily?by=user", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(problem("literal_error", `["query","by"]`, "Input should be 'model'", `"user"`, `{"expected":"'model'"}`)),
		},
		{
			name: "basic", plan: plans.Basic, method: "PATCH", path: "/v1/workspace/", as: "token", body: `{"name":"New","user_daily_budget_usd":1}`,
			status: http.StatusForbidden, want: detail("User daily budget is not available on the basic plan. Upgrade to Pro, Scale or Enterprise."),
		},
		{
			name: "basic", plan: plans.Basic, method: "PATCH", path: "/v1/workspace/", as: "admin", body: `{"daily_budget_usd":1,"max_concurrent_runs":4}`,
			status: http.StatusForbidden, want: detail("Configurable concurrency is not available on the basic plan. Upgrade to Pro, Scale or Enterprise."),
		},
		{
			name: "basic may remove what it cannot set", plan: plans.Basic, method: "PATCH", path: "/v1/workspace/", as: "admin",
			body: `{"user_daily_budget_usd":null,"daily_budget_usd":"2.50"}`, status: http.StatusOK, changes: "workspace",
		},
		{
			name: "all or nothing", method: "PATCH", path: "/v1/workspace/", as: "admin", status: http.StatusUnprocessableEntity,
			body: `{"daily_budget_usd":1,"name":null,"max_concurrent_runs":0}`,
			want: problems(problem("string_type", `["body","name"]`, "Input should be a valid string", "null", ""), tooSmall(`["body","max_concurrent_runs"]`, "0")),
		},
		{
			name: "basic", plan: plans.Basic, method: "POST", path: "/v1/workspace/kill-switch", as: "token", body: `{"active":true}`,
			status: http.StatusForbidden, want: detail("Kill switch is not available on the basic plan. Upgrade to Scale or Enterprise."),
		},
		{
			name: "pro", plan: plans.Pro, method: "POST", path: "/v1/workspace/kill-switch", as: "token", body: `{"active":true}`,
			status: http.StatusForbidden, want: detail("Kill switch is not available on the pro plan. Upgrade to Scale or Enterprise."),
		},
		{name: "off is never gated", plan: plans.Basic, method: "POST", path: "/v1/workspace/kill-switch", as: "admin", body: `{"active":false}`, status: http.StatusOK},
		{
			method: "POST", path: "/v1/workspace/kill-switch", as: "token", body: `{"active":1}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("bool_type", `["body","active"]`, "Input should be a valid boolean", "1", "")),
		},
		{
			method: "GET", path: "/v1/users/?blocked=maybe&limit=many&q=" + strings.Repeat("x", 256), as: "token", status: http.StatusUnprocessableEntity,
			want: problems(tooLong(`["query","q"]`, limit257, "255"),
				problem("bool_parsing", `["query","blocked"]`, "Input should be a valid boolean, unable to interpret input", `"maybe"`, ""),
				problem("int_parsing", `["query","limit"]`, "Input should be a valid integer, unable to parse string as an integer", `"many"`, "")),
		},
		{
			name: "audit", method: "GET", path: "/v1/audit/?cursor=AAAA&limit=0", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(tooSmall(`["query","limit"]`, `"0"`)),
		},
		{name: "audit cursor", method: "GET", path: "/v1/audit/?cursor=AAAA", as: "token", status: http.StatusUnprocessableEntity, want: problems(badCursor("cursor"))},
		{name: "cursor", method: "GET", path: "/v1/users/?cursor=AAAA", as: "token", status: http.StatusUnprocessableEntity, want: problems(badCursor("cursor"))},
		{
			method: "PUT", path: "/v1/blocked-users/" + strings.Repeat("x", 256), as: "admin", body: `{"reason":5,"why":1}`, status: http.StatusUnprocessableEntity,
			want: problems(tooLong(`["path","user_id"]`, limit257, "255"), problem("string_type", `["body","reason"]`, "Input should be a valid string", "5", ""),
				problem("extra_forbidden", `["body","why"]`, "Extra inputs are not permitted", "1", "")),
		},
		{method: "DELETE", path: "/v1/blocked-users/nobody", as: "admin", status: http.StatusNotFound, want: `{"detail":"User not found"}`},
		{
			method: "DELETE", path: "/v1/blocked-users/" + strings.Repeat("x", 256), as: "admin", status: http.StatusUnprocessableEntity,
			want: problems(tooLong(`["path","user_id"]`, limit257, "255")),
		},
		{
			method: "POST", path: "/v1/blocked-users", as: "admin", body: `{"reason":5,"why":1}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("missing", `["body","user_id"]`, "Field required", `{"reason":5,"why":1}`, ""),
				problem("string_type", `["body","reason"]`, "Input should be a valid string", "5", ""),
				problem("extra_forbidden", `["body","why"]`, "Extra inputs are not permitted", "1", "")),
		},
		{
			method: "POST", path: "/v1/blocked-users/unblock", as: "admin", body: `{"user_id":"","reason":"x"}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("string_too_short", `["body","user_id"]`, "String should have at least 1 character", `""`, `{"min_length":1}`),
				problem("extra_forbidden", `["body","reason"]`, "Extra inputs are not permitted", `"x"`, "")),
		},
		{
			method: "POST", path: "/v1/blocked-users/unblock", as: "admin", body: `{"user_id":"nobody"}`, status: http.StatusNotFound,
			want: `{"detail":"User not found"}`,
		},
		{method: "DELETE", path: "/v1/users/nobody", as: "token", status: http.StatusNotFound, want: `{"detail":"User not found"}`},
		{
			method: "DELETE", path: "/v1/users/", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(problem("string_too_short", `["path","user_id"]`, "String should have at least 1 character", `""`, `{"min_length":1}`)),
		},
		{
			method: "POST", path: "/v1/users/erase", as: "token", body: `{"user":"x"}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("missing", `["body","user_id"]`, "Field required", `{"user":"x"}`, ""),
				problem("extra_forbidden", `["body","user"]`, "Extra inputs are not permitted", `"x"`, "")),
		},
		{
			method: "POST", path: "/v1/users/erase", as: "token", body: `{"user_id":"nobody"}`, status: http.StatusNotFound,
			want: `{"detail":"User not found"}`,
		},
		{
			method: "GET", path: "/v1/usage/daily?days=366", as: "key", status: http.StatusUnprocessableEntity,
			want: problems(problem("less_than_equal", `["query","days"]`, "Input should be less than or equal to 365", `"366"`, `{"le":365}`)),
		},
		{
			method: "POST", path: "/v1/api-keys/regenerate", as: "token", body: `{"label":""}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("string_too_short", `["body","label"]`, "String should have at least 1 character", `""`, `{"min_length":1}`)),
		},
		{
			method: "GET", path: "/v1/model-pricing/?include_inactive=yes", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(problem("bool_parsing", `["query","include_inactive"]`, "Input should be a valid boolean, unable to interpret input", `"yes"`, "")),
		},
		{
			method: "PUT", path: "/v1/model-pricing/gpt-4o", as: "token", body: `{"input_cost_per_token":0.0000000000001}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("decimal_max_places", `["body","input_cost_per_token"]`, "Decimal input should have no more than 12 decimal places; send 0.000000000001",
				"0.0000000000001", `{"decimal_places":12}`), missing("output_cost_per_token", `{"input_cost_per_token":0.0000000000001}`)),
		},
		{method: "POST", path: "/v1/billing/checkout", as: "token", body: `{"plan":"pro"}`, status: http.StatusBadRequest, want: noBilling},
		{
			method: "POST", path: "/v1/billing/checkout", as: "token", body: `{"plan":"basic"}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("literal_error", `["body","plan"]`, "Input should be 'pro' or 'scale'", `"basic"`, `{"expected":"'pro' or 'scale'"}`)),
		},
		{method: "POST", path: "/v1/billing/portal", as: "token", status: http.StatusBadRequest, want: noBilling},
		{method: "POST", path: "/v1/billing/webhook", body: `{"id":"evt_1"}`, status: http.StatusBadRequest, want: noBilling},
	}
}

func accountRefusals() []apiCase {
	return []apiCase{
		{
			name: "taken, in other letters", method: "POST", path: "/v1/auth/register", body: `{"email":"SOMEONE-1@example.com","password":"12345678"}`,
			status: http.StatusBadRequest, want: detail("Email already registered"),
		},
		{
			method: "POST", path: "/v1/auth/register", body: `{"email":"no address","password":"1234567","workspace_name":""}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("value_error", `["body","email"]`, "Value error, not a valid email address", `"no address"`, ""),
				problem("string_too_short", `["body","password"]`, "String should have at least 8 characters", `"***"`, `{"min_length":8}`),
				problem("string_too_short", `["body","workspace_name"]`, "String should have at least 1 character", `""`, `{"min_length":1}`)),
		},
		{
			name: "wrong password", method: "POST", path: "/v1/auth/login", body: `{"email":"{email}","password":"wrong"}`,
			status: http.StatusUnauthorized, want: detail("Incorrect email or password"),
		},
		{
			name: "unknown email", method: "POST", path: "/v1/auth/login", body: `{"email":"nobody@example.com","password":"wrong"}`,
			status: http.StatusUnauthorized, want: detail("Incorrect email or password"),
		},
		{
			method: "POST", path: "/v1/auth/login", body: `{"email":"{email}","password":7}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("string_type", `["body","password"]`, "Input should be a valid string", `"***"`, "")),
		},
		{
			name: "wrong password", method: "POST", path: "/v1/auth/change-password", as: "token", body: `{"current_password":"wrong","new_password":"12345678"}`,
			status: http.StatusBadRequest, want: detail("Current password is incorrect"),
		},
		{
			method: "POST", path: "/v1/auth/change-password", as: "token", body: `{"current_password":"x","new_password":"1234567"}`,
			status: http.StatusUnprocessableEntity,
			want:   problems(problem("string_too_short", `["body","new_password"]`, "String should have at least 8 characters", `"***"`, `{"min_length":8}`)),
		},
		{
			method: "POST", path: "/v1/auth/logout", as: "token", body: `{"everywhere":true}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("extra_forbidden", `["body","everywhere"]`, "Extra inputs are not permitted", `true`, "")),
		},
		{
			method: "POST", path: "/v1/auth/logout-others", as: "token", body: `{"all":true}`, status: http.StatusUnprocessableEntity,
			want: problems(problem("extra_forbidden", `["body","all"]`, "Extra inputs are not permitted", `true`, "")),
		},
		{
			method: "DELETE", path: "/v1/auth/sessions/" + unknownID, as: "token", status: http.StatusNotFound, want: detail("Session not found"),
		},
		{
			method: "DELETE", path: "/v1/auth/sessions/7", as: "token", status: http.StatusUnprocessableEntity,
			want: problems(badUUID("session_id")),
		},
		{
			method: "POST", path: "/v1/auth/logout-everywhere", as: "token", body: `[]`, status: http.StatusUnprocessableEntity,
			want: problems(problem("model_attributes_type", `["body"]`, "Input should be a valid dictionary or object to extract fields from", `[]`, "")),
		},
	}
}

func TestEachCallRefusesWithoutChangingAnything(t *testing.T) {
	t.Parallel()
	runCases(t, newWorld(t), refusals())
}
