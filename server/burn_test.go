package server_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
)

// spends lets a run make one call that costs so many dollars.
func (w *world) spends(a account, run string, usd int) {
	w.t.Helper()
	w.call("PATCH", w.step(a, run, "dollar"), a.key,
		fmt.Sprintf(`{"status":"COMPLETED","prompt_tokens":%d,"completion_tokens":0}`, usd)).want(http.StatusOK)
}

func TestUsageNowNamesWhoBurns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.call("PUT", "/v1/model-pricing/dollar", a.token, `{"input_cost_per_token":1,"output_cost_per_token":0}`).want(http.StatusOK)
	w.call("PATCH", "/v1/workspace/", a.token, `{"daily_budget_usd":100,"user_daily_budget_usd":30,"max_concurrent_runs":100}`).want(http.StatusOK)
	now := func() *response { return w.call("GET", "/v1/usage/now", a.token, nil).want(http.StatusOK) }
	is := func(when string, facts map[string]string) {
		t.Helper()
		got := now()
		for place, want := range facts {
			if text := got.text(place); text != want {
				t.Errorf("%s: %s is %s, want %s", when, place, text, want)
			}
		}
	}
	is("at first", map[string]string{"burning": "false", "usd_per_minute": "0", "most_expensive": "null", "usual_usd_per_minute": "null", "budget_gone_at": "null", "stopped": "null", "minutes.59.total_usd": "0"})
	quiet := w.start(a, "quiet")
	w.spends(a, quiet, 1)
	// Nothing is known of what is usual, and $99 would last for 99 minutes.
	is("a dollar a minute", map[string]string{"burning": "false", "usd_per_minute": "1", "most_expensive.run_id": quiet, "minutes.59.top_run_id": quiet})
	hot := w.call("POST", "/v1/runs", a.key, `{"user_id":"cust-9999","metadata":{"task":"Nightly batch"}}`).want(http.StatusCreated).text("id")
	w.spends(a, hot, 19)
	is("twenty", map[string]string{
		"burning": "true", "usd_per_minute": "20", "most_expensive.run_id": hot, "most_expensive.title": "Nightly batch",
		"most_expensive.user_id": "cust-9999", "most_expensive.usd_per_minute": "19", "runs.0.run.id": hot, "runs.1.run.id": quiet,
		"runs.0.latest_step.model": "dollar", "nearest_user.user_id": "cust-9999", "users_at_budget": "0", "today_usd": "20",
		// $80 are left, at 20 a minute.
		"budget_gone_at": w.clock.now().Add(4 * time.Minute).UTC().Format("2006-01-02T15:04:05.000Z"),
	})
	// Several runs of one user, none of which spends half.
	w.clock.set(w.clock.now().Add(3 * time.Minute))
	for range 3 {
		w.spends(a, w.start(a, "many"), 4)
	}
	is("three runs of one user", map[string]string{"burning": "true", "most_expensive.run_id": "null", "most_expensive.user_id": "many", "most_expensive.run_count": "3"})

	w.call("POST", "/v1/workspace/kill-switch", a.token, `{"active":true,"reason":"loop in batch"}`).want(http.StatusOK)
	is("stopped", map[string]string{"stopped.reason": "loop in batch", "stopped.by": a.email})
	w.call("POST", "/v1/workspace/kill-switch", a.token, `{"active":false,"reason":null}`).want(http.StatusOK)
	is("again", map[string]string{"stopped": "null"})
	w.call("POST", "/v1/workspace/kill-switch", a.token, fmt.Sprintf(`{"active":true,"reason":%q}`, make([]byte, 501))).want(http.StatusUnprocessableEntity)
}

func TestBurningIsTenTimesTheUsual(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.call("PUT", "/v1/model-pricing/dollar", a.token, `{"input_cost_per_token":1,"output_cost_per_token":0}`).want(http.StatusOK)
	w.call("PATCH", "/v1/workspace/", a.token, `{"daily_budget_usd":null}`).want(http.StatusOK)
	for range 3 {
		run := w.start(a, "nightly")
		w.spends(a, run, 60) // a dollar a minute
		w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"COMPLETED"}`).want(http.StatusOK)
		w.clock.set(w.clock.now().Add(24 * time.Hour))
	}
	run := w.start(a, "u")
	for _, step := range []struct {
		usd     int
		burning string
	}{{9, "false"}, {1, "true"}} {
		w.spends(a, run, step.usd)
		got := w.call("GET", "/v1/usage/now", a.key, nil) // the session has ended.want(http.StatusOK)
		if got.text("burning") != step.burning || got.text("usual_usd_per_minute") != "1" || got.text("yesterday_usd") == "null" {
			t.Errorf("after $%d more: %s", step.usd, got.body)
		}
	}
}

func TestUsageNowCountsTheStepsThatWaitForAPerson(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, other := w.account(plans.Scale), w.account(plans.Scale)
	w.call("PATCH", "/v1/workspace/", a.token, `{"reviews":"all_clients"}`).want(http.StatusOK)
	w.call("PUT", "/v1/policies/refunds", a.token, `{"effect":"review","match":{"tools":["refund"]}}`).want(http.StatusOK)
	waiting := func(who account, want string) {
		t.Helper()
		got := w.call("GET", "/v1/usage/now", who.token, nil).want(http.StatusOK).text("reviews_waiting")
		if got != want {
			t.Errorf("%s steps wait for a person, want %s", got, want)
		}
	}
	waiting(a, "0")
	run, ids := w.start(a, "bob"), []string{}
	for i := range 2 {
		asked := w.call("POST", "/v1/runs/"+run+"/steps", a.key,
			fmt.Sprintf(`{"type":"TOOL_CALL","tool_name":"refund","sequence":%d}`, i+1)).want(http.StatusCreated)
		ids = append(ids, asked.text("review_id"))
	}
	waiting(a, "2")
	waiting(other, "0")
	w.call("POST", "/v1/reviews/"+ids[0]+"/approve", a.token, nil).want(http.StatusOK)
	waiting(a, "1")
	w.call("POST", "/v1/reviews/"+ids[1]+"/deny", a.token, `{"note":"no"}`).want(http.StatusOK)
	waiting(a, "0")
}
