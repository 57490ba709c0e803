package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

const (
	noLimit = `"limit":null,"used":null,"resets_at":null`
	// tomorrow and nextMonth are when budgets and the monthly limit reset, as seen by newWorld's clock.
	tomorrow  = `"2026-11-24T00:00:00.000Z"`
	nextMonth = `"2026-12-01T00:00:00.000Z"`
)

// spend books dollars on ada, in a run that it ends.
func (w *world) spend(a account, tokens string) {
	w.t.Helper()
	w.call("PUT", "/v1/model-pricing/dollar", a.token, `{"input_cost_per_token":1,"output_cost_per_token":"0.01"}`).want(http.StatusOK)
	run := w.start(a, "ada")
	w.call("PATCH", w.step(a, run, "dollar"), a.key, tokens).want(http.StatusOK)
	w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"COMPLETED"}`).want(http.StatusOK)
}

type reasonCase struct {
	reason    string
	plan      plans.ID
	arrange   func(w *world, a account, run string)
	compared  string // limit, used and resets_at of the DENY
	start     bool   // denied
	step      bool   // denied, and so is the heartbeat
	status    string // of the run afterwards, as the heartbeat sees it
	evaluated string // at a start
	atStep    string // evaluated at a step
}

func reasonCases() []reasonCase {
	set := func(method, path, body string) func(*world, account, string) {
		return func(w *world, a account, _ string) {
			w.t.Helper()
			w.call(method, path, a.token, body).want(http.StatusOK)
		}
	}
	return []reasonCase{
		{
			reason: "KILL_SWITCH_ACTIVE", plan: plans.Scale, start: true, step: true, compared: noLimit,
			arrange:   set("POST", "/v1/workspace/kill-switch", `{"active":true}`),
			evaluated: `["KILL_SWITCH_ACTIVE"]`, atStep: `["RUN_ALREADY_ENDED","KILL_SWITCH_ACTIVE"]`,
		},
		{
			reason: "USER_BLOCKED", plan: plans.Basic, start: true, step: true, compared: noLimit,
			arrange:   set("PUT", "/v1/blocked-users/ada", `{"reason":"loops"}`),
			evaluated: `["KILL_SWITCH_ACTIVE","USER_BLOCKED"]`, atStep: `["RUN_ALREADY_ENDED","KILL_SWITCH_ACTIVE","USER_BLOCKED"]`,
		},
		{
			reason: "WORKSPACE_DAILY_BUDGET_EXCEEDED", plan: plans.Basic, start: true, step: true,
			compared:  `"limit":2.25,"used":2.25,"resets_at":` + tomorrow,
			arrange:   set("PATCH", "/v1/workspace/", `{"daily_budget_usd":2.25}`),
			evaluated: `["KILL_SWITCH_ACTIVE","USER_BLOCKED","WORKSPACE_DAILY_BUDGET_EXCEEDED"]`,
			atStep:    `["RUN_ALREADY_ENDED","KILL_SWITCH_ACTIVE","USER_BLOCKED","WORKSPACE_DAILY_BUDGET_EXCEEDED"]`,
		},
		{
			reason: "USER_DAILY_BUDGET_EXCEEDED", plan: plans.Pro, start: true, step: true,
			compared:  `"limit":0.000000001,"used":2.25,"resets_at":` + tomorrow,
			arrange:   set("PATCH", "/v1/workspace/", `{"user_daily_budget_usd":"0.000000001","daily_budget_usd":2.250000001}`),
			evaluated: `["KILL_SWITCH_ACTIVE","USER_BLOCKED","WORKSPACE_DAILY_BUDGET_EXCEEDED","USER_DAILY_BUDGET_EXCEEDED"]`,
			atStep: `["RUN_ALREADY_ENDED","KILL_SWITCH_ACTIVE","USER_BLOCKED",` +
				`"WORKSPACE_DAILY_BUDGET_EXCEEDED","USER_DAILY_BUDGET_EXCEEDED"]`,
		},
		{
			reason: "MONTHLY_RUN_LIMIT_EXCEEDED", plan: plans.Basic, start: true,
			compared: `"limit":1000,"used":1000,"resets_at":` + nextMonth,
			arrange: func(w *world, a account, _ string) {
				w.exec(fmt.Sprintf(`UPDATE workspace_days SET run_count = 1000 WHERE workspace_id = %d`, a.workspace))
			},
			evaluated: `["KILL_SWITCH_ACTIVE","USER_BLOCKED","WORKSPACE_DAILY_BUDGET_EXCEEDED","USER_DAILY_BUDGET_EXCEEDED","MONTHLY_RUN_LIMIT_EXCEEDED"]`,
		},
		{
			reason: "MAX_CONCURRENT_RUNS_EXCEEDED", plan: plans.Basic, start: true,
			compared: `"limit":3,"used":3,"resets_at":null`,
			arrange: func(w *world, a account, _ string) {
				w.start(a, "ada")
				w.start(a, "bob")
			},
			evaluated: startRules,
		},
		{
			reason: "RUN_ALREADY_ENDED", plan: plans.Basic, step: true, compared: noLimit,
			arrange: func(w *world, a account, run string) {
				w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"FAILED"}`).want(http.StatusOK)
			},
			status: "FAILED", atStep: `["RUN_ALREADY_ENDED"]`,
		},
	}
}

func TestEachReasonDeniesWhereItShould(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range reasonCases() {
		t.Run(c.reason, func(t *testing.T) {
			w := w.in(t)
			a := w.account(c.plan)
			w.spend(a, `{"prompt_tokens":2,"completion_tokens":25}`)
			run := w.start(a, "ada")
			c.arrange(w, a, run)
			before := w.look(a)
			deny := `"decision":{"outcome":"DENY","reason":"` + c.reason + `",` + c.compared
			checkStart(w, a, c, deny, before)
			checkStep(w, a, run, c, deny)
		})
	}
}

func wantBody(t *testing.T, r *response, want string) {
	t.Helper()
	if got := mask(string(r.body)); got != want {
		t.Errorf("%s answered\n got %s\nwant %s", r.what, got, want)
	}
}

func checkStart(w *world, a account, c reasonCase, deny string, before map[string]string) {
	w.t.Helper()
	month := w.call("GET", "/v1/usage", a.key, nil).text("monthly_run_count")
	r := w.call("POST", "/v1/runs", a.key, `{"user_id":"ada"}`).want(http.StatusCreated)
	if !c.start {
		wantBody(w.t, r, `{"id":"<id>","status":"RUNNING",`+allowed+`}`)
		return
	}
	wantBody(w.t, r, `{"id":"<id>","status":"BLOCKED",`+deny+`}}`)
	recorded := w.call("GET", "/v1/runs/"+r.text("id"), a.token, nil).want(http.StatusOK)
	wantBody(w.t, recorded, `{"id":"<id>","user_id":"ada","title":null,"agent":null,"status":"BLOCKED","deny_reason":"`+c.reason+`","started_at":`+atStart+`,"ended_at":`+atStart+
		`,"ended_reason":null,"duration_ms":0,"step_count":0,"blocked_step_count":0,"prompt_tokens":0,"completion_tokens":0,"total_usd":0,"unpriced_tokens":0,"calls_without_usage":0,"last_call_at":`+atStart+`,"api_key":{"id":"<id>","prefix":"<prefix>","label":"default"},"metadata":null,`+
		deny+`,"evaluated":`+c.evaluated+`},"latest_denial":null,"steps":[],"next_steps_cursor":null}`)
	// It counts as blocked, neither for the month nor as concurrent.
	if got := w.call("GET", "/v1/usage", a.key, nil).text("monthly_run_count"); got != month {
		w.t.Errorf("a denied run counts for the month: %s after %s", got, month)
	}
	if got := w.call("GET", "/v1/usage/daily?days=1", a.key, nil).text("items.0.blocked_run_count"); got != "1" {
		w.t.Errorf("blocked_run_count is %s", got)
	}
	if got := changes(before, w.look(a)); got != "runs usage" {
		w.t.Errorf("a denied run changed %q", got)
	}
}

func checkStep(w *world, a account, run string, c reasonCase, deny string) {
	w.t.Helper()
	r := w.call("POST", "/v1/runs/"+run+"/steps", a.key, `{"type":"TOOL_CALL","sequence":7,"tool_name":"rm"}`).want(http.StatusCreated)
	beat := w.call("POST", "/v1/runs/"+run+"/heartbeat", a.key, nil).want(http.StatusOK)
	recorded := w.call("GET", "/v1/runs/"+run, a.key, nil).want(http.StatusOK)
	if !c.step {
		wantBody(w.t, r, `{"id":"<id>","status":"RUNNING",`+allowed+`,"review_id":null}`)
		wantBody(w.t, beat, `{"id":"<id>","status":"RUNNING",`+allowed+`}`)
		return
	}
	status := c.status
	if status == "" {
		status = "RUNNING"
	}
	wantBody(w.t, r, `{"id":"<id>","status":"BLOCKED",`+deny+`},"review_id":null}`)
	wantBody(w.t, beat, `{"id":"<id>","status":"`+status+`",`+deny+`}}`)
	if want := deny + `,"evaluated":` + c.atStep + `}`; !strings.Contains(string(recorded.body), want) {
		w.t.Errorf("the step was recorded as\n got %s\nwant %s", recorded.body, want)
	}
	if recorded.text("steps.0.status") != "BLOCKED" || recorded.text("blocked_step_count") != "1" || recorded.text("step_count") != "1" {
		w.t.Errorf("the denied step was recorded as %s", recorded.body)
	}
	if got := recorded.text("deny_reason"); got != c.reason {
		w.t.Errorf("the run's deny_reason is %s, want %s", got, c.reason)
	}
}

func TestTheFirstRuleThatObjectsAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.spend(a, `{"prompt_tokens":3}`)
	run := w.start(a, "ada")
	for _, change := range []string{`{"daily_budget_usd":3}`, `{"user_daily_budget_usd":3,"max_concurrent_runs":1}`} {
		w.call("PATCH", "/v1/workspace", a.token, change).want(http.StatusOK)
	}
	w.call("PUT", "/v1/blocked-users/ada", a.token, nil).want(http.StatusOK)
	w.call("POST", "/v1/workspace/kill-switch", a.token, `{"active":true}`).want(http.StatusOK)
	for _, next := range []struct{ reason, method, path, body string }{
		{"KILL_SWITCH_ACTIVE", "POST", "/v1/workspace/kill-switch", `{"active":false}`},
		{"USER_BLOCKED", "DELETE", "/v1/blocked-users/ada", ""},
		{"WORKSPACE_DAILY_BUDGET_EXCEEDED", "PATCH", "/v1/workspace", `{"daily_budget_usd":null}`},
		{"USER_DAILY_BUDGET_EXCEEDED", "PATCH", "/v1/workspace", `{"user_daily_budget_usd":null}`},
		{"MAX_CONCURRENT_RUNS_EXCEEDED", "POST", "/v1/runs/" + run + "/end", `{"status":"COMPLETED"}`},
	} {
		if got := w.call("POST", "/v1/runs/", a.key, `{"user_id":"ada"}`).want(http.StatusCreated).text("decision.reason"); got != next.reason {
			t.Errorf("a start was denied for %s, want %s", got, next.reason)
		}
		want := next.reason
		if want == "MAX_CONCURRENT_RUNS_EXCEEDED" {
			want = "null"
		}
		if got := w.call("POST", "/v1/runs/"+run+"/heartbeat", a.key, nil).want(http.StatusOK).text("decision.reason"); got != want {
			t.Errorf("a heartbeat was denied for %s, want %s", got, want)
		}
		w.call(next.method, next.path, a.token, next.body).want(http.StatusOK)
	}
	w.start(a, "ada")
}

func TestAUserBudgetDeniesOnlyThatUserAndOnlyToday(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Pro)
	w.spend(a, `{"prompt_tokens":1}`)
	w.call("PATCH", "/v1/workspace/", a.token, `{"user_daily_budget_usd":1}`).want(http.StatusOK)
	w.start(a, "bob")
	denied := func() string {
		return w.call("POST", "/v1/runs/", a.key, `{"user_id":"ada"}`).want(http.StatusCreated).text("decision.reason")
	}
	w.clock.set(time.Date(2026, 11, 23, 23, 59, 59, 999e6, time.UTC))
	if got := denied(); got != "USER_DAILY_BUDGET_EXCEEDED" {
		t.Errorf("just before midnight the reason is %s", got)
	}
	w.clock.advance(time.Millisecond)
	w.start(a, "ada")
}

func TestAnInfrastructureFailureIsNoDecision(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expectBugs = true
	a := w.account(plans.Pro)
	run := w.start(a, "ada")
	before := w.look(a)
	broken := w.another(testSecret)
	broken.expectBugs = true
	broken.server.SetDecider(func(guard.Request, guard.State) guard.Decision { panic("the engine broke") })
	for _, path := range []string{"/v1/runs/", "/v1/runs/" + run + "/steps", "/v1/runs/" + run + "/heartbeat"} {
		broken.call("POST", path, a.key, `{"user_id":"ada","type":"INPUT","sequence":1}`).
			wantDetail(http.StatusInternalServerError, "Internal Server Error")
	}
	if got := changes(before, w.look(a)); got != "" {
		t.Errorf("decisions that broke changed %s", got)
	}
	broken.call("GET", "/v1/runs/"+run, a.key, nil).want(http.StatusOK)
	w.step(a, run, "gpt-4o")
}
