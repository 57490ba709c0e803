package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pikarc/server/plans"
)

const (
	allowed = `"decision":{"outcome":"ALLOW","reason":null}`

	startRules = `["KILL_SWITCH_ACTIVE","USER_BLOCKED","WORKSPACE_DAILY_BUDGET_EXCEEDED","USER_DAILY_BUDGET_EXCEEDED",` +
		`"MONTHLY_RUN_LIMIT_EXCEEDED","MAX_CONCURRENT_RUNS_EXCEEDED"]`
	stepRules = `["RUN_ALREADY_ENDED","KILL_SWITCH_ACTIVE","USER_BLOCKED","WORKSPACE_DAILY_BUDGET_EXCEEDED","USER_DAILY_BUDGET_EXCEEDED","MODEL_NOT_PRICED"]`

	adasRun = `"id":"{run}","user_id":"ada","title":null,"agent":null,"status":"RUNNING","deny_reason":"USER_BLOCKED","started_at":"2026-11-23T07:08:30.123Z",` +
		`"ended_at":null,"ended_reason":null,"duration_ms":null,"step_count":2,"blocked_step_count":1,"prompt_tokens":0,"completion_tokens":0,"total_usd":0,` +
		`"unpriced_tokens":0,"calls_without_usage":0,"last_call_at":"2026-11-23T07:08:30.123Z"`
	bobsRun = `"id":"{ended}","user_id":"bob","title":null,"agent":null,"status":"COMPLETED","deny_reason":null,"started_at":"2026-11-23T07:08:29.123Z",` +
		`"ended_at":"2026-11-23T07:08:29.123Z","ended_reason":"CLIENT","duration_ms":0,"step_count":0,"blocked_step_count":0,` +
		`"prompt_tokens":0,"completion_tokens":0,"total_usd":0,"unpriced_tokens":0,"calls_without_usage":0,"last_call_at":"2026-11-23T07:08:29.123Z"`
	openStep = `{"id":"{step}","sequence":1,"type":"MODEL_CALL","status":"RUNNING","model":"gpt-4o","tool_name":null,"input_data":{"prompt":"hi"},` +
		`"output_data":null,"error":null,"decision":{"outcome":"ALLOW","reason":null,"evaluated":` + stepRules + `},` +
		`"prompt_tokens":0,"completion_tokens":0,"cost_usd":null,"input_cost_per_token":null,"output_cost_per_token":null,"priced":null,"price_source":null,"price_name":null,"price_version":null,` +
		`"created_at":"2026-11-23T07:08:30.123Z","completed_at":null,"duration_ms":null}`
	deniedDecision = `{"outcome":"DENY","reason":"USER_BLOCKED","limit":null,"used":null,"resets_at":null,` +
		`"evaluated":["RUN_ALREADY_ENDED","KILL_SWITCH_ACTIVE","USER_BLOCKED"]}`
	deniedStep = `{"id":"{denied}","sequence":2,"type":"TOOL_CALL","status":"BLOCKED","model":null,"tool_name":"search","input_data":null,` +
		`"output_data":null,"error":null,"decision":` + deniedDecision + `,` +
		`"prompt_tokens":0,"completion_tokens":0,"cost_usd":null,"input_cost_per_token":null,"output_cost_per_token":null,"priced":null,"price_source":null,"price_name":null,"price_version":null,` +
		`"created_at":"2026-11-23T07:08:30.123Z","completed_at":null,"duration_ms":null}`
	reportedStep = `{"id":"{step}","sequence":1,"type":"MODEL_CALL","status":"COMPLETED","model":"gpt-4o","tool_name":null,"input_data":{"prompt":"hi"},` +
		`"output_data":["x",1.50],"error":"slow","decision":{"outcome":"ALLOW","reason":null,"evaluated":` + stepRules + `},` +
		`"prompt_tokens":500,"completion_tokens":100,"cost_usd":0.00225,"input_cost_per_token":0.0000025,"output_cost_per_token":0.00001,"priced":true,"price_source":"own","price_name":"gpt-4o","price_version":null,` +
		`"created_at":"2026-11-23T07:08:30.123Z","completed_at":"2026-11-23T07:08:31.123Z","duration_ms":1234}`

	onCall = `"id":"{endpoint}","kind":"webhook","label":"on call","url":"https://hooks.example.com/pikarc","events":["review.requested"],` +
		`"enabled":true,"disabled_reason":null,"disabled_at":null,"old_secret_until":null,"created_at":` + atRun
	tested = `"event":"test","status":"pending","created_at":` + atRun + `,"attempts":0,"next_attempt_at":` + atRun +
		`,"attempted_at":null,"duration_ms":null,"sent":null,"response_status":null,"response_body":null,"error":null}`
	spareKey = `"id":"{key}","prefix":"<prefix>","label":"spare","scope":"agent","is_active":true,"created_at":"2026-11-23T07:08:29.123Z",` +
		`"expires_at":"2026-11-23T08:08:29.123Z","last_used_at":<used>`
	quietUsage = `{"total_usd":0,"total_tokens":0,"run_count":2,"denial_count":1,` +
		`"unpriced_tokens":0,"unpriced_step_count":0,"calls_without_usage":0,"capped":false}`
	twoRuns       = `{"total_usd":0,"prompt_tokens":0,"completion_tokens":0,"run_count":2,"blocked_run_count":0}`
	twoRunsOfADay = `{"total_usd":0,"prompt_tokens":0,"completion_tokens":0,"run_count":2,"blocked_run_count":0,` +
		`"before":{"total_usd":0,"prompt_tokens":0,"completion_tokens":0,"run_count":0,"blocked_run_count":0},` +
		`"by_day":{"total_usd":[0],"prompt_tokens":[0],"completion_tokens":[0],"run_count":[2],"blocked_run_count":[0]}}`
	inUTC      = `"timezone":"UTC","timezone_since":null`
	gpt4oPrice = `{"id":"<id>","model":"gpt-4o","input_cost_per_token":0.0000025,"output_cost_per_token":0.00001,"is_active":true}`
	newToken   = `{"access_token":"<token>","token_type":"bearer","expires_in":86400}`

	basicPlan = `{"id":"basic","name":"Basic","price_usd":0,"monthly_run_limit":1000,"max_concurrent_runs":3,"retention_days":1,` +
		`"features":{"kill_switch":false,"user_daily_budget":false,"configurable_concurrency":false},"can_buy":false}`
	proPlan = `{"id":"pro","name":"Pro","price_usd":25,"monthly_run_limit":50000,"max_concurrent_runs":null,"retention_days":14,` +
		`"features":{"kill_switch":false,"user_daily_budget":true,"configurable_concurrency":true},"can_buy":false}`
	scalePlan = `{"id":"scale","name":"Scale","price_usd":79,"monthly_run_limit":null,"max_concurrent_runs":null,"retention_days":90,` +
		`"features":{"kill_switch":true,"user_daily_budget":true,"configurable_concurrency":true},"can_buy":false}`
	enterprisePlan = `{"id":"enterprise","name":"Enterprise","price_usd":null,"monthly_run_limit":null,"max_concurrent_runs":null,"retention_days":365,` +
		`"features":{"kill_switch":true,"user_daily_budget":true,"configurable_concurrency":true},"can_buy":false}`
)

// scaleWorkspace is a fixture's workspace, with some of its fields put otherwise.
func scaleWorkspace(changes ...string) string {
	return strings.NewReplacer(changes...).Replace(`{"id":"<id>","name":"My workspace","slug":"my-workspace","plan":"scale","kill_switch":false,` +
		`"daily_budget_usd":null,"user_daily_budget_usd":null,"max_concurrent_runs":3,"price_catalogue":true,"unpriced_models":"allow","trust_reported_cost":false,"monthly_run_limit":null,"retention_days":90,` +
		`"run_idle_timeout_seconds":3600,"timezone":"UTC","week_start":"monday","reviews":"known_clients","pending_reviews":0,"features":{"kill_switch":true,"user_daily_budget":true,"configurable_concurrency":true},` +
		`"created_at":"2026-11-23T07:08:29.123Z"}`)
}

func userJSON(user, blockedAt, reason, runs, seen string) string {
	blocked := "false"
	if blockedAt != "null" {
		blocked = "true"
	}
	return `{"user_id":"` + user + `","blocked":` + blocked + `,"blocked_at":` + blockedAt + `,"blocked_reason":` + reason +
		`,"today_usd":0,"last_30_days_usd":0,"today_unpriced_tokens":0,"last_30_days_unpriced_tokens":0,"run_count":` + runs + `,"last_seen_at":` + seen + `,"erased_at":null}`
}

const (
	atStart = `"2026-11-23T07:08:29.123Z"`
	atRun   = `"2026-11-23T07:08:30.123Z"`
	atCall  = `"2026-11-23T07:08:31.123Z"`
)

// successes has each call of the contract's section 4 as it should go.
// cancelledReview is the fixture's.
const cancelledReview = `{"id":"{review}","run_id":"{ended}","step_id":"{reviewed}","user_id":"bob","policy_name":"deploys","policy_version":1,` +
	`"status":"denied","resolution":"cancelled","reason":null,"action":{"type":"TOOL_CALL","tool_name":"deploy","model":null,"input_data":null},` +
	`"action_hash":"0000000000000000000000000000000000000000000000000000000000000000","requested_at":<requested>,` +
	`"expires_at":"1970-01-01T00:04:50.000Z","seconds_left":0,"decided_at":"1970-01-01T00:00:01.000Z","decided_by":null,"note":null,` +
	`"waiter":{"last_poll_at":null,"alive":false},"grant_id":null,` +
	`"run":{"title":null,"started_at":"2026-11-23T07:08:29.123Z","steps":0,"spent_usd":0}}`

func successes() []apiCase {
	return slices.Concat(configurationCalls(), endpointCalls(), runCalls(), timelineCalls())
}

func endpointCalls() []apiCase {
	const one = "/v1/endpoints/{endpoint}"
	return []apiCase{
		{method: "GET", path: "/v1/endpoints/", as: "admin", status: http.StatusOK, want: `{"items":[{` + onCall + `}],"next_cursor":null}`},
		{
			method: "POST", path: "/v1/endpoints/", as: "token", status: http.StatusCreated, changes: "endpoints",
			body: `{"kind":"slack","url":"https://hooks.slack.com/services/T0/B0/secret1234","events":["*"]}`,
			want: `{"id":"<id>","kind":"slack","label":"slack","url":"https://hooks.slack.com/…1234","events":["*"],` +
				`"enabled":true,"disabled_reason":null,"disabled_at":null,"old_secret_until":null,"created_at":` + atCall + `,"secret":null}`,
		},
		{
			name: "webhook", method: "POST", path: "/v1/endpoints/", as: "admin", status: http.StatusCreated, changes: "endpoints",
			body: `{"kind":"webhook","url":"https://example.com/hook?a=b","events":["disk.low","budget.threshold"],"label":"Ünï"}`,
			want: `{"id":"<id>","kind":"webhook","label":"Ünï","url":"https://example.com/hook?a=b","events":["budget.threshold","disk.low"],` +
				`"enabled":true,"disabled_reason":null,"disabled_at":null,"old_secret_until":null,"created_at":` + atCall + `,"secret":"<secret>"}`,
		},
		{method: "GET", path: one, as: "token", status: http.StatusOK, want: `{` + onCall + `}`},
		{
			method: "PATCH", path: one, as: "admin", status: http.StatusOK, changes: "endpoints", body: `{"enabled":false,"label":"off"}`,
			want: `{` + strings.NewReplacer("on call", "off", `"enabled":true,"disabled_reason":null,"disabled_at":null`,
				`"enabled":false,"disabled_reason":"PAUSED","disabled_at":`+atCall).Replace(onCall) + `}`,
		},
		{method: "DELETE", path: one, as: "token", status: http.StatusOK, changes: "endpoints", want: `{` + onCall + `}`},
		{
			method: "POST", path: one + "/roll-secret", as: "admin", status: http.StatusOK, changes: "endpoints", body: `{"overlap_seconds":60}`,
			want: `{` + strings.Replace(onCall, `"old_secret_until":null`, `"old_secret_until":"2026-11-23T07:09:31.123Z"`, 1) + `,"secret":"<secret>"}`,
		},
		{
			method: "POST", path: one + "/test", as: "token", status: http.StatusAccepted, changes: "endpoints",
			want: `{"id":"<id>",` + strings.ReplaceAll(tested, atRun, atCall),
		},
		{
			method: "GET", path: one + "/deliveries", as: "token", status: http.StatusOK,
			want: `{"items":[{"id":"{delivery}",` + tested + `],"next_cursor":null}`,
		},
		{
			name: "filtered", method: "GET", path: one + "/deliveries?status=failed&limit=1", as: "admin", status: http.StatusOK,
			want: `{"items":[],"next_cursor":null}`,
		},
		{
			method: "POST", path: one + "/deliveries/{delivery}/resend", as: "admin", status: http.StatusAccepted, changes: "endpoints",
			want: `{"id":"{delivery}",` + strings.Replace(tested, `"next_attempt_at":`+atRun, `"next_attempt_at":`+atCall, 1),
		},
	}
}

func runCalls() []apiCase {
	return []apiCase{
		{
			method: "POST", path: "/v1/runs/", as: "key", body: `{"user_id":"cleo","metadata":{"a":[1,2.50,null]}}`, status: http.StatusCreated,
			want:    `{"id":"<id>","status":"RUNNING",` + allowed + `}`,
			changes: "runs usage users",
		},
		{
			method: "GET", path: "/v1/runs/", as: "key", status: http.StatusOK,
			want: `{"items":[{` + adasRun + `},{` + bobsRun + `}],"next_cursor":null}`,
		},
		{
			name: "filtered", method: "GET", path: "/v1/runs/?status=COMPLETED&user_id=bob&since=2026-11-23T07:08:29.123Z&until=2026-11-23T08:08:29.124%2B01:00&limit=1",
			as: "token", status: http.StatusOK,
			want: `{"items":[{` + bobsRun + `}],"next_cursor":null}`,
		},
		{
			name: "denied", method: "GET", path: "/v1/runs/?denied=true", as: "key", status: http.StatusOK,
			want: `{"items":[{` + adasRun + `}],"next_cursor":null}`,
		},
		{
			name: "by reason", method: "GET", path: "/v1/runs/?reason=USER_BLOCKED", as: "key", status: http.StatusOK,
			want: `{"items":[{` + adasRun + `}],"next_cursor":null}`,
		},
		{
			method: "GET", path: "/v1/runs/{run}", as: "token", status: http.StatusOK,
			want: `{` + adasRun + `,"api_key":null,"metadata":{"ticket":7},"decision":{"outcome":"ALLOW","reason":null,"evaluated":` + startRules + `},` +
				`"latest_denial":{"step_id":"{denied}","sequence":2,"decision":` + deniedDecision + `},` +
				`"steps":[` + openStep + `,` + deniedStep + `],"next_steps_cursor":null}`,
		},
		{
			method: "POST", path: "/v1/runs/{run}/end", as: "key", body: `{"status":"BLOCKED"}`, status: http.StatusOK,
			want:    `{"id":"{run}","status":"BLOCKED","ended_at":` + atCall + `}`,
			changes: "runs usage users",
		},
		{
			name: "by last call", method: "GET", path: "/v1/runs/?status=RUNNING&sort=last_call", as: "key", status: http.StatusOK,
			want: `{"items":[{` + adasRun + `}],"next_cursor":null}`,
		},
		{method: "GET", path: "/v1/reviews/", as: "key", status: http.StatusOK, want: `{"items":[` + cancelledReview + `],"next_cursor":null}`},
		{method: "GET", path: "/v1/reviews/{review}?wait=25", as: "key", status: http.StatusOK, want: cancelledReview},
		{method: "POST", path: "/v1/reviews/decide", as: "token", body: `{"ids":["{review}"],"verdict":"approve"}`, status: http.StatusOK, want: `{"items":[` + cancelledReview + `]}`},
		{method: "POST", path: "/v1/reviews/{review}/approve", as: "token", status: http.StatusOK, want: cancelledReview},
		{method: "POST", path: "/v1/reviews/{review}/deny", as: "token", body: `{"note":"no"}`, status: http.StatusOK, want: cancelledReview},
		{
			method: "GET", path: "/v1/grants/", as: "key", status: http.StatusOK,
			want: `{"items":[{"id":"{grant}","policy_name":"deploys","scope":"tool","run_id":null,"tool_name":"deploy","uses":1,"used":0,"granted_by":null,"expires_at":"2255-03-14T16:00:00.000Z"}]}`,
		},
		{method: "GET", path: "/v1/grants/{grant}/steps", as: "key", status: http.StatusOK, want: `{"items":[],"next_cursor":null}`},
		{method: "DELETE", path: "/v1/grants/{grant}", as: "admin", status: http.StatusOK, want: `{"id":"{grant}","status":"revoked"}`},
		{method: "GET", path: "/v1/policies/", as: "key", status: http.StatusOK, want: `{"items":[]}`},
		{
			method: "PUT", path: "/v1/policies/deploys", as: "admin", status: http.StatusOK,
			body: `{"match":{"tools":["deploy"]},"limit":{"measure":"usd","per":"workspace","window":"day","amount":1.50},"effect":"deny"}`,
		},
		{method: "DELETE", path: "/v1/policies/deploys", as: "admin", status: http.StatusOK, want: `{"name":"deploys","status":"deleted"}`},
		{
			method: "GET", path: "/v1/policies/deploys/versions", as: "key", status: http.StatusOK,
		},
		{
			method: "POST", path: "/v1/policies/backtest", as: "key", status: http.StatusOK,
			body: `{"policies":[{"name":"x","effect":"deny"}],"since":"2026-11-01T00:00:00Z","until":"2026-11-01T00:00:00Z"}`,
			want: `{"since":"2026-11-01T00:00:00.000Z","until":"2026-11-01T00:00:00.000Z","runs":0,"steps":0,"denied_runs":0,"denied":0,` +
				`"reviewed":0,"logged":0,"not_spent_usd":0,"by_policy":[{"policy_name":"x","denied_runs":0,"denied":0,"reviewed":0,` +
				`"logged":0,"failed":0}],"by_day":[],"examples":[]}`,
		},
		{
			method: "POST", path: "/v1/end-runs", as: "token", body: `{"silent_for_seconds":0}`, status: http.StatusOK,
			want: `{"ended_run_ids":["{run}"],"more":false}`, changes: "runs usage",
		},
		{
			name: "named", method: "POST", path: "/v1/end-runs", as: "admin", status: http.StatusOK,
			body: `{"run_ids":["{ended}","` + unknownID + `"],"status":"BLOCKED"}`, want: `{"ended_run_ids":[],"more":false}`,
		},
		{
			method: "GET", path: "/v1/run-totals?status=RUNNING", as: "key", status: http.StatusOK,
			want: `{"run_count":1,"denied_run_count":1,"denial_count":1,"total_usd":0,"unpriced_tokens":0,"running_count":1,"completed_count":0,` +
				`"failed_count":0,"blocked_count":0,"at_least":false,"indexing":true,"bucket_minutes":null,"since":null,"until":null,"by_time":[]}`,
		},
		{method: "GET", path: "/v1/run-filters", as: "key", status: http.StatusOK, want: `{"tag_keys":[],"tools":[]}`},
		{
			name: "searched", method: "GET", path: "/v1/runs/?min_duration_ms=1&sort=steps", as: "key", status: http.StatusOK,
			want: `{"items":[{` + adasRun + `}],"next_cursor":null}`,
		},
		{method: "GET", path: "/v1/export-runs?format=jsonl&status=RUNNING", as: "key", status: http.StatusOK, want: `{` + adasRun + "}\n"},
		{
			method: "GET", path: "/v1/saved-views/", as: "key", status: http.StatusOK,
			want: `{"items":[{"id":"{view}","name":"Billing","query":"tag=agent%3Abilling","created_at":"2026-11-23T07:08:31.123Z"}]}`,
		},
		{
			method: "POST", path: "/v1/saved-views/", as: "admin", status: http.StatusCreated, body: `{"name":"Slow","query":"min_duration_ms=60000"}`,
			want: `{"id":"<id>","name":"Slow","query":"min_duration_ms=60000","created_at":` + atCall + `}`,
		},
		{method: "DELETE", path: "/v1/saved-views/{view}", as: "token", status: http.StatusOK, want: `{"id":"{view}","deleted":true}`},
		{
			method: "POST", path: "/v1/runs/{run}/heartbeat", as: "key", status: http.StatusOK,
			want: `{"id":"{run}","status":"RUNNING",` + allowed + `}`,
		},
		{
			method: "POST", path: "/v1/runs/{run}/steps", as: "key", status: http.StatusCreated,
			body:    `{"type":"MODEL_CALL","sequence":1,"model":"gpt-4o","tool_name":null,"input_data":null}`,
			want:    `{"id":"<id>","status":"RUNNING",` + allowed + `,"review_id":null}`,
			changes: "runs",
		},
		{
			method: "PATCH", path: "/v1/runs/{run}/steps/{step}", as: "key", status: http.StatusOK,
			body: `{"status":"COMPLETED","duration_ms":1234,"prompt_tokens":500,"completion_tokens":100,"output_data":["x",1.50],"error":"slow"}`,
			want: reportedStep, changes: "runs usage users",
		},
		{
			name: "trillions", method: "PATCH", path: "/v1/runs/{run}/steps/{step}", as: "key", body: `{"prompt_tokens":1000000000000,"completion_tokens":1000000000000}`, status: http.StatusOK,
			changes: "runs usage users",
			want: strings.NewReplacer(`"cost_usd":null,"input_cost_per_token":null,"output_cost_per_token":null,"priced":null,"price_source":null,"price_name":null,"price_version":null`,
				`"cost_usd":12500000,"input_cost_per_token":0.0000025,"output_cost_per_token":0.00001,"priced":true,"price_source":"own","price_name":"gpt-4o","price_version":null`,
				`_tokens":0`, `_tokens":1000000000000`).Replace(openStep),
		},
	}
}

func configurationCalls() []apiCase {
	return append(accountCalls(), []apiCase{
		{method: "GET", path: "/v1/workspace/", as: "key", status: http.StatusOK, want: scaleWorkspace()},
		{
			method: "PATCH", path: "/v1/workspace/", as: "token", status: http.StatusOK, changes: "workspace",
			body: `{"name":"Engines & <co>","daily_budget_usd":0.000000001,"user_daily_budget_usd":"1000000000","max_concurrent_runs":100000,"run_idle_timeout_seconds":60}`,
			want: scaleWorkspace("My workspace", "Engines & <co>", `"daily_budget_usd":null,"user_daily_budget_usd":null,"max_concurrent_runs":3`,
				`"daily_budget_usd":0.000000001,"user_daily_budget_usd":1000000000,"max_concurrent_runs":100000`, "3600", "60"),
		},
		{name: "nothing", method: "PATCH", path: "/v1/workspace/", as: "admin", body: `{}`, status: http.StatusOK, want: scaleWorkspace()},
		{
			method: "POST", path: "/v1/workspace/kill-switch", as: "token", body: `{"active":true}`, status: http.StatusOK,
			want: scaleWorkspace(`"kill_switch":false,"d`, `"kill_switch":true,"d`), changes: "workspace",
		},
		{
			method: "GET", path: "/v1/users/", as: "token", status: http.StatusOK,
			want: `{"items":[` + userJSON("ada", "null", "null", "1", atRun) + `,` + userJSON("bob", "null", "null", "1", atStart) + `],"next_cursor":null}`,
		},
		{
			name: "by spend", method: "GET", path: "/v1/users/?sort=spend&limit=2", as: "key", status: http.StatusOK,
			want: `{"items":[` + userJSON("ada", "null", "null", "1", atRun) + `,` + userJSON("bob", "null", "null", "1", atStart) + `],"next_cursor":null}`,
		},
		{
			method: "PUT", path: "/v1/blocked-users/acme/cleo", as: "admin", body: `{"reason":"loops"}`, status: http.StatusOK,
			want: userJSON("acme/cleo", atCall, `"loops"`, "0", "null"), changes: "users",
		},
		{
			name: "no body", method: "PUT", path: "/v1/blocked-users/ada", as: "token", status: http.StatusOK,
			want: userJSON("ada", atCall, "null", "1", atRun), changes: "users",
		},
		{
			method: "DELETE", path: "/v1/blocked-users/ada", as: "admin", status: http.StatusOK,
			want: userJSON("ada", "null", "null", "1", atRun),
		},
		{
			method: "DELETE", path: "/v1/users/bob", as: "token", status: http.StatusOK,
			want: `{"user_id":"erased-<random>","status":"erased"}`, changes: "runs usage users",
		},
		{
			method: "POST", path: "/v1/users/erase", as: "token", body: `{"user_id":"bob"}`, status: http.StatusOK,
			want: `{"user_id":"erased-<random>","status":"erased"}`, changes: "runs usage users",
		},
		{
			method: "GET", path: "/v1/storage", as: "key", status: http.StatusOK,
			want: `{"file":{"bytes":<bytes>,"free_bytes":<bytes>,"log_bytes":<bytes>,"can_shrink":true},"expiring":{"within_hours":24,"runs":0,"bytes":0}}`,
		},
		{
			method: "POST", path: "/v1/blocked-users", as: "admin", body: `{"user_id":"acme/../cleo//","reason":"loops"}`, status: http.StatusOK,
			want: userJSON("acme/../cleo//", atCall, `"loops"`, "0", "null"), changes: "users",
		},
		{
			method: "POST", path: "/v1/blocked-users/unblock", as: "token", body: `{"user_id":"ada"}`, status: http.StatusOK,
			want: userJSON("ada", "null", "null", "1", atRun),
		},
		{
			method: "GET", path: "/v1/usage/", as: "key", status: http.StatusOK,
			want: `{"today":` + quietUsage + `,"last_7_days":` + quietUsage + `,"last_30_days":` + quietUsage + `,"running_runs":1,` +
				`"by_reason":[{"reason":"USER_BLOCKED","today":1,"last_7_days":1,"last_30_days":1}],"by_model":[],` +
				`"by_user":[{"user_id":"bob","total_usd":0,"run_count":1,"unpriced_tokens":0},{"user_id":"ada","total_usd":0,"run_count":1,"unpriced_tokens":0}],` +
				`"monthly_run_count":2,"monthly_run_limit":null}`,
		},
		{
			method: "GET", path: "/v1/usage/daily?days=2", as: "token", status: http.StatusOK,
			want: `{"items":[{"date":"2026-11-22","total_usd":0,"prompt_tokens":0,"completion_tokens":0,"run_count":0,"blocked_run_count":0,"denial_count":0,"unpriced_tokens":0,"unpriced_step_count":0,"calls_without_usage":0,"capped":false},` +
				`{"date":"2026-11-23","total_usd":0,"prompt_tokens":0,"completion_tokens":0,"run_count":2,"blocked_run_count":0,"denial_count":1,"unpriced_tokens":0,"unpriced_step_count":0,"calls_without_usage":0,"capped":false}]}`,
		},
		{
			name: "by model", method: "GET", path: "/v1/usage/daily?days=1&by=model", as: "key", status: http.StatusOK,
			want: `{"items":[{"date":"2026-11-23","total_usd":0,"prompt_tokens":0,"completion_tokens":0,"run_count":2,"blocked_run_count":0,` +
				`"denial_count":1,"unpriced_tokens":0,"unpriced_step_count":0,"calls_without_usage":0,"capped":false,"by_model":[]}]}`,
		},
		{
			method: "GET", path: "/v1/events", as: "key", status: http.StatusOK, // of a stream, its first event
			want: "event: hello\ndata: {\"at\":" + atCall + ",\"quiet_ms\":0}\n\n",
		},
		{
			method: "GET", path: "/v1/api-keys/", as: "token", status: http.StatusOK,
			want: `{"id":"<id>","prefix":"<prefix>","key":"<key>","label":"default","is_active":true,"created_at":` + atStart + `}`,
		},
		{
			method: "POST", path: "/v1/api-keys/regenerate", as: "admin", body: `{"label":"production"}`, status: http.StatusOK,
			want: `{"id":"<id>","prefix":"<prefix>","label":"production","key":"<key>","created_at":` + atCall + `}`, changes: "key keys",
		},
		{
			name: "no body", method: "POST", path: "/v1/api-keys/regenerate", as: "token", status: http.StatusOK,
			want: `{"id":"<id>","prefix":"<prefix>","label":"default","key":"<key>","created_at":` + atCall + `}`, changes: "key keys",
		},
		{
			method: "GET", path: "/v1/api-keys/all", as: "key", status: http.StatusOK,
			want: `{"items":[{` + spareKey + `,"running_runs":0},` +
				`{"id":"<id>","prefix":"<prefix>","label":"admin","scope":"admin","is_active":true,"created_at":` + atStart +
				`,"expires_at":null,"last_used_at":<used>,"running_runs":0},` +
				`{"id":"<id>","prefix":"<prefix>","label":"default","scope":"agent","is_active":true,"created_at":` + atStart +
				`,"expires_at":null,"last_used_at":<used>,"running_runs":0}],"next_cursor":null}`,
		},
		{
			name: "ended", method: "GET", path: "/v1/api-keys/all?active=false", as: "token", status: http.StatusOK,
			want: `{"items":[],"next_cursor":null}`,
		},
		{
			method: "POST", path: "/v1/api-keys/", as: "token", status: http.StatusCreated, changes: "keys",
			body: `{"label":"Ünï","scope":"read","expires_at":"2026-11-23T09:08:31.1239+01:00"}`,
			want: `{"id":"<id>","prefix":"<prefix>","label":"Ünï","scope":"read","key":"<key>","created_at":` + atCall +
				`,"expires_at":"2026-11-23T08:08:31.123Z"}`,
		},
		{
			name: "of an agent, for ever", method: "POST", path: "/v1/api-keys/", as: "admin", status: http.StatusCreated, changes: "keys",
			body: `{"label":"x","scope":null,"expires_at":null}`,
			want: `{"id":"<id>","prefix":"<prefix>","label":"x","scope":"agent","key":"<key>","created_at":` + atCall + `,"expires_at":null}`,
		},
		{
			method: "PATCH", path: "/v1/api-keys/{key}", as: "admin", body: `{"label":"renamed"}`, status: http.StatusOK, changes: "keys",
			want: `{` + strings.Replace(spareKey, "spare", "renamed", 1) + `}`,
		},
		{
			method: "DELETE", path: "/v1/api-keys/{key}", as: "admin", status: http.StatusOK, changes: "keys",
			want: `{` + strings.Replace(spareKey, `"is_active":true`, `"is_active":false`, 1) + `}`,
		},
		{
			method: "GET", path: "/v1/usage/now", as: "token", status: http.StatusOK, // TestUsageNowNamesWhoBurns
		},
		{
			method: "GET", path: "/v1/usage/by?group=key", as: "token", status: http.StatusOK,
			want: `{"items":[],"other":` + twoRuns + `,"total":` + twoRuns + `,` +
				`"since":"2026-10-25T00:00:00.000Z","until":"2026-11-24T00:00:00.000Z",` + inUTC + `}`,
		},
		{
			name: "by user", method: "GET", path: "/v1/usage/by?group=user&since=2026-11-22T23:00:00Z&until=2026-11-23T00:00:00.001Z&limit=1",
			as: "key", status: http.StatusOK,
			want: `{"items":[{"value":"bob","total_usd":0,"prompt_tokens":null,"completion_tokens":null,"run_count":1,"blocked_run_count":null}],` +
				`"other":{"total_usd":0,"prompt_tokens":null,"completion_tokens":null,"run_count":1,"blocked_run_count":null},` +
				`"total":{"total_usd":0,"prompt_tokens":null,"completion_tokens":null,"run_count":2,"blocked_run_count":null},` +
				`"since":"2026-11-22T00:00:00.000Z","until":"2026-11-24T00:00:00.000Z",` + inUTC + `}`,
		},
		{
			name: "beside a day before", method: "GET", as: "key", status: http.StatusOK,
			path: "/v1/usage/by?group=key&since=2026-11-23T00:00:00Z&by_day=true&before_since=2026-11-22T00:00:00Z&before_until=2026-11-23T00:00:00Z",
			want: `{"items":[],"other":` + twoRunsOfADay + `,"total":` + twoRunsOfADay + `,` +
				`"since":"2026-11-23T00:00:00.000Z","until":"2026-11-24T00:00:00.000Z",` +
				`"before_since":"2026-11-22T00:00:00.000Z","before_until":"2026-11-23T00:00:00.000Z",` +
				`"days":["2026-11-23T00:00:00.000Z"],` + inUTC + `}`,
		},
		{
			name: "by the hour", method: "GET", path: "/v1/usage/by?group=model&since=2026-11-23&by_hour=true", as: "key",
			status: http.StatusOK, // TestUsageIsOfTheWorkspacesDays
		},
		{
			name: "as CSV", method: "GET", path: "/v1/usage/by?group=user&format=csv&limit=1", as: "token", status: http.StatusOK, // TestUsageFilesSayWhatIsShown
		},
		{
			name: "as lines", method: "GET", path: "/v1/usage/by?group=user&format=jsonl&limit=1", as: "key", status: http.StatusOK,
		},
		{
			method: "GET", path: "/v1/usage/of-user?user_id=bob", as: "key", status: http.StatusOK, // TestAUserIsReportedWhole
		},
		{method: "GET", path: "/v1/model-pricing/", as: "token", status: http.StatusOK, want: `[` + gpt4oPrice + `]`},
		{method: "GET", path: "/v1/model-pricing/catalogue", as: "key", status: http.StatusOK, want: `{"items":[],"version":null,"next_cursor":null}`},
		{
			method: "GET", path: "/v1/model-pricing/resolve?model=unknown", as: "key", status: http.StatusOK,
			want: `{"price_source":null,"price_name":null,"price_version":null,"names":["unknown"],"reason":"no_entry",` +
				`"input_cost_per_token":null,"output_cost_per_token":null,"published":null}`,
		},
		{
			method: "POST", path: "/v1/model-pricing/reprice", as: "token", status: http.StatusOK,
			want: `{"steps":0,"before_usd":0,"after_usd":0,"difference_usd":0,"days":[],"dry_run":true,"next_cursor":null}`,
		},
		{
			method: "PUT", path: "/v1/model-pricing/openai/gpt-4o%20mini", as: "admin", status: http.StatusOK, changes: "prices",
			body: `{"input_cost_per_token":"0.000000000001","output_cost_per_token":1000000,"is_active":false}`,
			want: `{"id":"<id>","model":"openai/gpt-4o mini","input_cost_per_token":0.000000000001,"output_cost_per_token":1000000,"is_active":false,` +
				`"warning":"This is a price for one token: at $1000000 each, a million tokens cost $1000000000000. ` +
				`Prices are often given for a million tokens; divide those by 1,000,000."}`,
		},
		{
			method: "GET", path: "/v1/audit/?action=model_price.set&since=2026-11-23T07:08:30Z&limit=1", as: "token", status: http.StatusOK,
			want: `{"items":[{"id":"<id>","at":` + atRun + `,"actor":{"kind":"system","name":null},"action":"model_price.set","target":"gpt-4o",` +
				`"before":null,"after":{"input_cost_per_token":0.0000025,"is_active":true,"output_cost_per_token":0.00001},"address":null}],"next_cursor":null}`,
		},
		{
			method: "GET", path: "/v1/billing/", as: "token", status: http.StatusOK, plan: plans.Pro,
			want: `{"plan":"pro","status":"none","billing_enabled":false,"portal_enabled":false,"subscription_plan":null,"current_period_end":null,` +
				`"cancel_at_period_end":false,"grace_ends_at":null,"plan_ends_at":null,"next_plan":null,` +
				`"plans":[` + basicPlan + `,` + proPlan + `,` + scalePlan + `,` + enterprisePlan + `],` +
				`"changes":[{"at":` + atStart + `,"from":null,"to":"pro","by":"sign_up",` +
				`"reset":{"kill_switch":false,"user_daily_budget_usd":null,"max_concurrent_runs":null}}]}`,
		},
		{method: "GET", path: "/v1/server", status: http.StatusOK, want: `{"version":"1.2.3-test","registration":"open","has_accounts":true,"billing_enabled":false}`},
		{method: "GET", path: "/health", status: http.StatusOK, want: `{"status":"ok","version":"1.2.3-test"}`},
		{method: "GET", path: "/health/ready", status: http.StatusOK, want: `{"status":"ready"}`},
		{method: "GET", path: "/openapi.json", status: http.StatusOK},
		{method: "GET", path: "/clients/", status: http.StatusOK},
		{method: "GET", path: "/clients/pikarc.tgz", status: http.StatusOK},
		{method: "GET", path: "/clients/pikarc-9.whl", status: http.StatusNotFound},
	}...)
}

func accountCalls() []apiCase {
	return []apiCase{
		{
			method: "POST", path: "/v1/auth/register", status: http.StatusCreated,
			body: `{"email":"New-{email}","password":"12345678","workspace_name":"Über Engines 2"}`,
			want: `{` + strings.Trim(newToken, "{}") + `,"account":{"id":"<id>","email":"New-{email}","created_at":` + atCall + `},` +
				`"workspace":{"id":"<id>","name":"Über Engines 2","slug":"ber-engines-2","plan":"basic","kill_switch":false,` +
				`"daily_budget_usd":null,"user_daily_budget_usd":null,"max_concurrent_runs":3,"price_catalogue":true,"unpriced_models":"allow","trust_reported_cost":false,"monthly_run_limit":1000,"retention_days":1,` +
				`"run_idle_timeout_seconds":3600,"timezone":"UTC","week_start":"monday","reviews":"known_clients","pending_reviews":0,"features":{"kill_switch":false,"user_daily_budget":false,"configurable_concurrency":false},` +
				`"created_at":` + atCall + `},"api_key":{"id":"<id>","prefix":"<prefix>","key":"<key>","label":"default","is_active":true,"created_at":` + atCall + `}}`,
		},
		{
			method: "POST", path: "/v1/auth/login", status: http.StatusOK, want: newToken,
			body: `{"email":"{email}","password":"` + password + `"}`,
		},
		{
			method: "GET", path: "/v1/auth/me", as: "token", status: http.StatusOK,
			want: `{"id":"<id>","email":"{email}","created_at":` + atStart + `,"workspace":{"id":"<id>","name":"My workspace","slug":"my-workspace","plan":"scale"}}`,
		},
		{
			method: "POST", path: "/v1/auth/change-password", as: "token", status: http.StatusOK, want: newToken, changes: "account",
			body: `{"current_password":"` + password + `","new_password":"another battery"}`,
		},
		{method: "POST", path: "/v1/auth/logout", as: "token", status: http.StatusOK, want: `{"status":"signed_out"}`, body: `{}`, changes: "account"},
		{method: "POST", path: "/v1/auth/logout-everywhere", as: "token", status: http.StatusOK, want: `{"status":"signed_out"}`, changes: "account"},
		{
			method: "POST", path: "/v1/auth/logout-others", as: "token", status: http.StatusOK, changes: "account",
			want: strings.Replace(newToken, "86400", "86398", 1), // it prolongs nothing
		},
		{
			method: "GET", path: "/v1/auth/sessions", as: "token", status: http.StatusOK,
			want: `{"items":[{"id":"{session}","agent":"a browser","created_at":` + atStart + `,"last_used_at":<used>,` +
				`"expires_at":"2026-11-24T07:08:29.000Z","current":true}],"total":1}`,
		},
		{
			method: "DELETE", path: "/v1/auth/sessions/{session}", as: "token", status: http.StatusOK, want: `{"status":"signed_out"}`,
			changes: "account",
		},
	}
}

func TestEachCallAnswersAsTheContractSays(t *testing.T) {
	t.Parallel()
	runCases(t, newWorld(t), successes())
}

func TestTheOtherFormOfAPathReachesTheSameCall(t *testing.T) {
	t.Parallel()
	cases := successes()
	for i := range cases {
		cases[i].path = otherForm(cases[i].path)
	}
	runCases(t, newWorld(t), cases)
}

func TestUnknownFieldsAreIgnoredOnRunsAndRefusedElsewhere(t *testing.T) {
	t.Parallel()
	var cases []apiCase
	for _, c := range successes() {
		if c.body == "" {
			continue
		}
		c.body = strings.Replace(c.body, "{", `{"surprise":{"n":1},`, 1)
		c.body = strings.Replace(c.body, ",}", "}", 1)
		if !isAgentCall(c.path) {
			input := `{"n":1}`
			if strings.Contains(c.body, "password") {
				input = `"***"` // it may be a misspelt one
			}
			c.status, c.changes = http.StatusUnprocessableEntity, ""
			c.want = problems(problem("extra_forbidden", `["body","surprise"]`, "Extra inputs are not permitted", input, ""))
		}
		cases = append(cases, c)
	}
	runCases(t, newWorld(t), cases)
}
