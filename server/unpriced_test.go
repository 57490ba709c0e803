package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// wantFields compares places of an answer with their texts.
func wantFields(t *testing.T, r *response, want map[string]string) {
	t.Helper()
	for place, text := range want {
		if got := r.text(place); got != text {
			t.Errorf("%s: %s is %s, want %s", r.what, place, got, text)
		}
	}
}

// An unpriced model is told wherever its cost would be, at once, and priced
// when the step is reported again.
func TestAModelWithoutAPriceIsToldEverywhereUntilItHasOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	in := w.stream(a.token)
	run := w.start(a, "ada")
	in.next("run.started")
	step, later := w.step(a, run, "own/model"), w.step(a, run, "own/model")
	const report = `{"status":"COMPLETED","prompt_tokens":1000000,"completion_tokens":0}`
	wantFields(t, w.call("PATCH", later, a.key, `{"duration_ms":1}`).want(http.StatusOK), map[string]string{"priced": "null", "cost_usd": "null"})
	wantFields(t, w.call("PATCH", step, a.key, report).want(http.StatusOK), map[string]string{"priced": "false", "cost_usd": "null"})

	told := in.next("model.unpriced")
	wantFields(t, told, map[string]string{"model": "own/model", "run.id": run, "run.unpriced_tokens": "1000000"})
	if !strings.HasSuffix(step, told.text("step_id")) {
		t.Errorf("model.unpriced says %s of %s", told.body, step)
	}
	in.until("spend.changed", func(r *response) bool { return r.text("today.unpriced_tokens") == "1000000" })
	w.call("PATCH", later, a.key, `{"prompt_tokens":5}`).want(http.StatusOK)
	in.until("spend.changed", func(r *response) bool { return r.text("today.unpriced_tokens") == "1000005" }) // and no second model.unpriced

	gaps := func(unpriced, steps string) {
		t.Helper()
		wantFields(t, w.call("GET", "/v1/usage", a.key, nil), map[string]string{
			"today.unpriced_tokens": unpriced, "today.unpriced_step_count": steps, "last_30_days.unpriced_tokens": unpriced,
			"by_model.0.unpriced_tokens": unpriced, "by_model.0.unpriced_step_count": steps, "by_user.0.unpriced_tokens": unpriced,
		})
		wantFields(t, w.call("GET", "/v1/usage/daily?days=1", a.key, nil), map[string]string{"items.0.unpriced_tokens": unpriced, "items.0.unpriced_step_count": steps})
		wantFields(t, w.call("GET", "/v1/users", a.key, nil), map[string]string{"items.0.today_unpriced_tokens": unpriced, "items.0.last_30_days_unpriced_tokens": unpriced})
		wantFields(t, w.call("GET", "/v1/runs", a.key, nil), map[string]string{"items.0.unpriced_tokens": unpriced})
		wantFields(t, w.call("GET", "/v1/runs/"+run, a.key, nil), map[string]string{"unpriced_tokens": unpriced})
	}
	gaps("1000005", "2")
	w.call("PUT", "/v1/model-pricing/own/model", a.token, `{"input_cost_per_token":0.000001,"output_cost_per_token":0}`).want(http.StatusOK)
	wantFields(t, w.call("PATCH", step, a.key, report).want(http.StatusOK), map[string]string{"priced": "true", "cost_usd": "1"})
	gaps("5", "1")
	wantFields(t, w.call("GET", "/v1/runs/"+run, a.key, nil), map[string]string{"total_usd": "1", "unpriced_tokens": "5"})
	for series, want := range map[string]float64{"pikarc_unpriced_steps_total": 2, "pikarc_unpriced_tokens_total": 1_000_005} {
		if got := w.metric(series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
}

func TestTheModelOfAReportIsTakenWhileNothingIsBooked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	w.call("PUT", "/v1/model-pricing/gpt-4o", a.token, `{"input_cost_per_token":1,"output_cost_per_token":0}`).want(http.StatusOK)
	step := w.step(a, w.start(a, "ada"), "auto")
	r := w.call("PATCH", step, a.key, `{"status":"COMPLETED","model":"gpt-4o","prompt_tokens":2}`).want(http.StatusOK)
	wantFields(t, r, map[string]string{"model": "gpt-4o", "cost_usd": "2", "priced": "true"})
	if strings.Contains(string(r.body), "repaired") {
		t.Errorf("nothing was left out: %s", r.body)
	}
	r = w.call("PATCH", step, a.key, `{"model":"another","prompt_tokens":3}`).want(http.StatusOK)
	wantFields(t, r, map[string]string{"model": "gpt-4o", "cost_usd": "3", "repaired": `["model"]`})
	wantFields(t, w.call("GET", "/v1/usage", a.key, nil), map[string]string{"by_model.0.model": "gpt-4o", "by_model.0.total_usd": "3"})
}

func TestCallsWithoutUsageAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	run := w.start(a, "ada")
	step := w.step(a, run, "gpt-4o")
	for _, body := range []string{`{"status":"COMPLETED","duration_ms":5}`, `{"status":"COMPLETED","prompt_tokens":0,"completion_tokens":0}`} {
		w.call("PATCH", step, a.key, body).want(http.StatusOK)
		wantFields(t, w.call("GET", "/v1/usage", a.key, nil), map[string]string{
			"today.calls_without_usage": "1", "last_7_days.calls_without_usage": "1", "by_model.0.calls_without_usage": "1", "today.unpriced_step_count": "0",
		})
		wantFields(t, w.call("GET", "/v1/usage/daily", a.key, nil), map[string]string{"items.29.calls_without_usage": "1"})
		wantFields(t, w.call("GET", "/v1/runs/"+run, a.key, nil), map[string]string{"calls_without_usage": "1"})
	}
	w.call("PATCH", step, a.key, `{"prompt_tokens":3}`).want(http.StatusOK)
	wantFields(t, w.call("GET", "/v1/usage", a.key, nil), map[string]string{"last_30_days.calls_without_usage": "0", "by_model.0.calls_without_usage": "0"})
	if got := w.metric("pikarc_calls_without_usage_total"); got != 1 {
		t.Errorf("%v calls are counted", got)
	}
}

func TestPricesAndBudgetsTypedAsFloatsAreTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	for _, c := range []struct{ sent, want, warning string }{
		{"2.1899999999999997e-06", "0.00000219", ""}, // 2.19/1e6
		{"2.8000000000000003e-07", "0.00000028", ""}, // 0.28/1e6
		{`"0.30000000000000004"`, "0.3", "a million tokens cost $300000."},
		{"0.01", "0.01", ""},
		{"0.010000000001", "0.010000000001", "a million tokens cost $10000.000001."},
	} {
		r := w.call("PUT", "/v1/model-pricing/m", a.token, fmt.Sprintf(`{"input_cost_per_token":0,"output_cost_per_token":%s}`, c.sent)).want(http.StatusOK)
		wantFields(t, r, map[string]string{"output_cost_per_token": c.want})
		if got := strings.Contains(string(r.body), `"warning"`); got != (c.warning != "") || !strings.Contains(string(r.body), c.warning) {
			t.Errorf("%s answered %s", c.sent, r.body)
		}
	}
	r := w.call("PATCH", "/v1/workspace", a.token, `{"daily_budget_usd":0.30000000000000004,"user_daily_budget_usd":"0.1999999999999999999"}`).want(http.StatusOK)
	wantFields(t, r, map[string]string{"daily_budget_usd": "0.3", "user_daily_budget_usd": "0.2"})
	refused := w.call("PUT", "/v1/model-pricing/m", a.token, `{"input_cost_per_token":3.3333333333333335e-07,"output_cost_per_token":0}`).want(http.StatusUnprocessableEntity)
	wantFields(t, refused, map[string]string{"detail.0.msg": "Decimal input should have no more than 12 decimal places; send 0.000000333333"})
}

// What a denied start is to be solved with: who holds the slots, and an end to them.
func TestHoldersOfSlotsAreFoundAndEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic) // three slots
	var runs []string
	for _, user := range []string{"ada", "bob", "cleo"} {
		runs = append(runs, w.start(a, user))
		w.clock.advance(time.Minute)
	}
	denied := w.call("POST", "/v1/runs", a.key, `{"user_id":"dora"}`).want(http.StatusCreated)
	wantFields(t, denied, map[string]string{"decision.reason": "MAX_CONCURRENT_RUNS_EXCEEDED", "decision.limit": "3", "decision.used": "3"})
	w.call("POST", "/v1/runs/"+runs[0]+"/heartbeat", a.key, nil).want(http.StatusOK)
	holders := w.call("GET", "/v1/runs?status=RUNNING&sort=last_call&limit=2", a.token, nil).want(http.StatusOK)
	wantFields(t, holders, map[string]string{
		"items.0.id": runs[1], "items.0.last_call_at": "2026-11-23T07:09:29.123Z", "items.1.id": runs[2],
	})
	next := w.call("GET", "/v1/runs?status=RUNNING&sort=last_call&limit=2&cursor="+holders.text("next_cursor"), a.token, nil).want(http.StatusOK)
	wantFields(t, next, map[string]string{"items.0.id": runs[0], "next_cursor": "null"})
	ended := w.call("POST", "/v1/end-runs", a.token, `{"silent_for_seconds":60}`).want(http.StatusOK)
	wantBody(t, ended, `{"ended_run_ids":["<id>"],"more":false}`)
	w.runIs(a, runs[1], "FAILED", "DASHBOARD", "2026-11-23T07:11:29.123Z")
	w.start(a, "dora")
	w.call("POST", "/v1/end-runs", w.keyOf(a, storage.ScopeAdmin), `{"run_ids":["`+strings.ToUpper(runs[0])+`"],"status":"COMPLETED"}`).want(http.StatusOK)
	w.runIs(a, runs[0], "COMPLETED", "CLIENT", "2026-11-23T07:11:29.123Z")
}
