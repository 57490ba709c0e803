package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
)

// runIs checks how a run stands, as its detail shows it.
func (w *world) runIs(a account, run, status, endedReason, endedAt string) {
	w.t.Helper()
	r := w.call("GET", "/v1/runs/"+run, a.key, nil).want(http.StatusOK)
	if r.text("status") != status || r.text("ended_reason") != endedReason || r.text("ended_at") != endedAt {
		w.t.Errorf("the run is %s, ended by %s at %s; want %s, %s, %s",
			r.text("status"), r.text("ended_reason"), r.text("ended_at"), status, endedReason, endedAt)
	}
}

func TestTheFirstEndOfARunStands(t *testing.T) {
	t.Parallel()
	const firstEnd = "2026-11-23T07:09:29.123Z"
	statuses := []string{"COMPLETED", "FAILED", "BLOCKED"}
	world := newWorld(t)
	start := world.clock.now()
	for _, first := range statuses {
		t.Run(first, func(t *testing.T) {
			w := world.in(t)
			w.clock.set(start)
			a := w.account(plans.Basic)
			run := w.start(a, "ada")
			end := func(credential, status string) *response {
				return w.call("POST", "/v1/runs/"+run+"/end", credential, `{"status":"`+status+`"}`)
			}
			w.clock.advance(time.Minute)
			wantBody(t, end(a.key, first).want(http.StatusOK), `{"id":"<id>","status":"`+first+`","ended_at":"`+firstEnd+`"}`)
			w.clock.advance(time.Minute)
			before := w.look(a)
			for _, again := range statuses {
				if again == first {
					wantBody(t, end(a.token, again).want(http.StatusOK), `{"id":"<id>","status":"`+first+`","ended_at":"`+firstEnd+`"}`)
				} else {
					end(a.token, again).wantDetail(http.StatusBadRequest, "Run has already ended as "+first)
				}
			}
			if got := changes(before, w.look(a)); got != "" {
				t.Errorf("ending a run again changed %s", got)
			}
			w.runIs(a, run, first, "CLIENT", firstEnd)
			if got := w.call("GET", "/v1/runs/"+run, a.key, nil).text("duration_ms"); got != "60000" {
				t.Errorf("duration_ms is %s", got)
			}
		})
	}
}

func TestARunBornBlockedHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	w.call("PUT", "/v1/blocked-users/ada", a.token, nil).want(http.StatusOK)
	run := w.call("POST", "/v1/runs/", a.key, `{"user_id":"ada"}`).want(http.StatusCreated).text("id")
	w.clock.advance(time.Minute)
	const born = "2026-11-23T07:08:29.123Z"
	// What the client sends on its way out, if it goes on after the denial.
	wantBody(t, w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"BLOCKED"}`).want(http.StatusOK), `{"id":"<id>","status":"BLOCKED","ended_at":"`+born+`"}`)
	w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"COMPLETED"}`).wantDetail(http.StatusBadRequest, "Run has already ended as BLOCKED")
	w.runIs(a, run, "BLOCKED", "null", born)
}

func TestARunEndedWithATokenWasEndedInTheDashboard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	run := w.start(a, "ada")
	w.call("POST", "/v1/runs/"+run+"/end", a.token, `{"status":"FAILED"}`).want(http.StatusOK)
	w.runIs(a, run, "FAILED", "DASHBOARD", "2026-11-23T07:08:29.123Z")
}

func TestTheClientsWordReplacesAnIdleEnd(t *testing.T) {
	t.Parallel()
	world := newWorld(t)
	start := world.clock.now()
	for _, status := range []string{"COMPLETED", "FAILED", "BLOCKED"} {
		t.Run(status, func(t *testing.T) {
			w := world.in(t)
			w.clock.set(start)
			a := w.account(plans.Basic)
			run := w.start(a, "ada")
			step := w.step(a, run, "gpt-4o")
			w.clock.advance(6 * time.Hour)
			w.endIdle(0) // six hours are not more than six hours, of a run with an open step
			w.clock.advance(time.Millisecond)
			w.endIdle(1)
			w.runIs(a, run, "FAILED", "IDLE_TIMEOUT", "2026-11-23T13:08:29.124Z")
			if got := w.call("GET", "/v1/runs/"+run, a.key, nil).text("steps.0.status"); got != "ABANDONED" {
				t.Errorf("the open step of an ended run is %s", got)
			}
			w.clock.advance(time.Minute)
			w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"`+status+`"}`).want(http.StatusOK)
			w.runIs(a, run, status, "CLIENT", "2026-11-23T13:09:29.124Z")
			other := "FAILED"
			if status == other {
				other = "COMPLETED"
			}
			w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"`+other+`"}`).want(http.StatusBadRequest)
			// Late usage counts; the slot came back once, not twice.
			w.call("PATCH", step, a.key, `{"status":"COMPLETED","prompt_tokens":5}`).want(http.StatusOK)
			for range 3 {
				w.start(a, "bob")
			}
			r := w.call("POST", "/v1/runs/", a.key, `{"user_id":"bob"}`).want(http.StatusCreated)
			if r.text("decision.reason") != "MAX_CONCURRENT_RUNS_EXCEEDED" || r.text("decision.used") != "3" {
				t.Errorf("a fourth run: %s", r.body)
			}
		})
	}
}

func (w *world) endIdle(want int) {
	w.t.Helper()
	got, err := w.store.EndIdleRuns(w.t.Context())
	w.must(err)
	if got != want {
		w.t.Fatalf("%d idle runs were ended, want %d", got, want)
	}
}

func TestEachCallKeepsARunAlive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	run := w.start(a, "ada")
	var step string
	for _, call := range []func(){
		func() { w.call("POST", "/v1/runs/"+run+"/heartbeat", a.key, nil).want(http.StatusOK) },
		func() { step = w.step(a, run, "gpt-4o") },
		func() { w.call("PATCH", step, a.key, `{"status":"FAILED"}`).want(http.StatusOK) },
	} {
		w.clock.advance(50 * time.Minute)
		call()
		w.clock.advance(50 * time.Minute)
		w.endIdle(0)
	}
	w.call("PATCH", "/v1/workspace", a.token, `{"run_idle_timeout_seconds":60}`).want(http.StatusOK)
	w.endIdle(1)
}

func TestLateUsageStillCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.makeFixture(plans.Basic)
	path := f.fill("/v1/runs/{run}/steps/{step}")
	w.call("POST", f.fill("/v1/runs/{run}/end"), f.key, `{"status":"COMPLETED"}`).want(http.StatusOK)
	r := w.call("PATCH", path, f.key, `{"status":"COMPLETED","duration_ms":1234,"prompt_tokens":500,"completion_tokens":100,"output_data":["x",1.50],"error":"slow"}`)
	if got := f.mask(r.want(http.StatusOK).body); got != reportedStep {
		t.Errorf("the late report answered\n got %s\nwant %s", got, reportedStep)
	}
	if got := w.call("GET", "/v1/usage/", f.key, nil).text("today.total_usd"); got != "0.00225" {
		t.Errorf("today's spend is %s", got)
	}
	w.runIs(f.account, f.names["{run}"], "COMPLETED", "CLIENT", "2026-11-23T07:08:31.123Z")
}

func TestARepeatedReportChangesNothingAndACorrectionBooksTheDifference(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.makeFixture(plans.Basic)
	path := f.fill("/v1/runs/{run}/steps/{step}")
	const report = `{"status":"COMPLETED","prompt_tokens":500,"completion_tokens":100,"duration_ms":7}`
	first := w.call("PATCH", path, f.key, report).want(http.StatusOK)
	w.call("PUT", "/v1/model-pricing/gpt-4o", f.token, `{"input_cost_per_token":9,"output_cost_per_token":9}`).want(http.StatusOK)
	w.clock.set(time.Date(2026, 11, 24, 0, 30, 0, 0, time.UTC)) // the next day: the usage stays on its own
	before := w.look(f.account)
	for _, same := range []string{report, `{}`, `{"status":null,"error":null,"prompt_tokens":null,"output_data":null}`, `{"completion_tokens":100}`} {
		again := w.call("PATCH", path, f.key, same).want(http.StatusOK)
		if string(again.body) != string(first.body) {
			t.Errorf("%s answered\n got %s\nwant %s", same, again.body, first.body)
		}
	}
	if got := changes(before, w.look(f.account)); got != "" {
		t.Errorf("repeating a report changed %s", got)
	}
	w.call("PATCH", path, f.key, `{"completion_tokens":50,"status":"FAILED"}`).want(http.StatusOK)
	daily := w.call("GET", "/v1/usage/daily?days=2", f.key, nil).want(http.StatusOK)
	wantBody(t, daily, `{"items":[{"date":"2026-11-23","total_usd":0.00175,"prompt_tokens":500,"completion_tokens":50,"run_count":2,"blocked_run_count":0,"denial_count":1,"unpriced_tokens":0,"unpriced_step_count":0,"calls_without_usage":0,"capped":false},`+
		`{"date":"2026-11-24","total_usd":0,"prompt_tokens":0,"completion_tokens":0,"run_count":0,"blocked_run_count":0,"denial_count":0,"unpriced_tokens":0,"unpriced_step_count":0,"calls_without_usage":0,"capped":false}]}`)
	run := w.call("GET", f.fill("/v1/runs/{run}"), f.key, nil)
	if run.text("total_usd") != "0.00175" || run.text("completion_tokens") != "50" || run.text("steps.0.completed_at") != "2026-11-23T07:08:31.123Z" {
		t.Errorf("after the correction the run is %s", run.body)
	}
}

// A price typed for a million tokens fills a day at once; no agent may die of it.
func TestUsageBeyondTheLedgerIsBookedUpToTheBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	w.call("PUT", "/v1/model-pricing/gold", a.token, `{"input_cost_per_token":1000000,"output_cost_per_token":0}`).want(http.StatusOK)
	in := w.stream(a.token)
	run := w.start(a, "ada")
	path := w.step(a, run, "gold")
	r := w.call("PATCH", path, a.key, `{"status":"COMPLETED","prompt_tokens":1000000000000}`).want(http.StatusOK)
	if r.text("cost_usd") != "100000000" || r.text("capped") != "true" {
		t.Errorf("the report answered %s", r.body)
	}
	in.until("spend.capped", func(r *response) bool { return r.text("run.id") == run && strings.HasSuffix(path, r.text("step_id")) })
	second := w.call("PATCH", w.step(a, w.start(a, "ada"), "gold"), a.key, `{"prompt_tokens":1}`).want(http.StatusOK) // the day is full
	if second.text("cost_usd") != "0" || second.text("capped") != "true" {
		t.Errorf("a report on a full day answered %s", second.body)
	}
	usage := w.call("GET", "/v1/usage", a.key, nil)
	if usage.text("today.total_usd") != "100000000" || usage.text("last_30_days.capped") != "true" {
		t.Errorf("usage is %s", usage.body)
	}
	exact := w.call("PATCH", path, a.key, `{"prompt_tokens":99}`).want(http.StatusOK)
	if exact.text("cost_usd") != "99000000" || strings.Contains(string(exact.body), "capped") {
		t.Errorf("a correction answered %s", exact.body)
	}
	if got := w.metric("pikarc_capped_steps_total"); got != 2 {
		t.Errorf("%v capped steps are counted", got)
	}
}

func TestAModelWithoutAPriceCostsNothingKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	run := w.start(a, "ada")
	r := w.call("PATCH", w.step(a, run, "own/model"), a.key, `{"prompt_tokens":10,"completion_tokens":5}`).want(http.StatusOK)
	for field, want := range map[string]string{"cost_usd": "null", "input_cost_per_token": "null", "output_cost_per_token": "null", "prompt_tokens": "10"} {
		if got := r.text(field); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
	w.call("PUT", "/v1/model-pricing/tiny", a.token, `{"input_cost_per_token":"0.000000000001","output_cost_per_token":0}`).want(http.StatusOK)
	r = w.call("PATCH", w.step(a, run, "tiny"), a.key, `{"prompt_tokens":1}`).want(http.StatusOK)
	if got := r.text("cost_usd"); got != "0.000000001" {
		t.Errorf("a millionth of a nano-dollar costs %s, want it rounded up", got)
	}
	usage := w.call("GET", "/v1/usage", a.key, nil).want(http.StatusOK)
	if usage.text("today.total_usd") != "0.000000001" || usage.text("today.total_tokens") != "16" {
		t.Errorf("usage is %s", usage.body)
	}
}
