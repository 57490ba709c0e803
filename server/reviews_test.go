package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
)

// waiting has an agent ask for a step about which a person is asked.
func (w *world) waiting(a account) (run, step, review string) {
	w.t.Helper()
	w.call("PUT", "/v1/policies/refunds", a.token, `{"match":{"tools":["refund"]},"effect":"review","message":"refunds need a person"}`).want(http.StatusOK)
	run = w.start(a, "ada")
	r := w.call("POST", "/v1/runs/"+run+"/steps", a.key, `{"type":"TOOL_CALL","sequence":1,"tool_name":"refund","input_data":{"amount":101}}`,
		"Pikarc-Client", "test/1; review").want(http.StatusCreated)
	if r.text("status") != "WAITING" {
		w.t.Fatalf("nobody is asked: %s", r.body)
	}
	return run, r.text("id"), r.text("review_id")
}

func TestAStreamTellsHowReviewsGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	in := w.stream(a.token)
	told := func(run, step, review, status, resolution string) {
		t.Helper()
		e := in.until("reviews.changed", func(*response) bool { return true })
		for place, want := range map[string]string{
			"run.id": run, "step_id": step, "review_id": review, "status": status, "resolution": resolution,
		} {
			if got := e.text(place); got != want {
				t.Errorf("%s is %s, want %s in %s", place, got, want, e.body)
			}
		}
	}
	ends := map[string]func(run, review string){
		"approved": func(_, review string) {
			w.call("POST", "/v1/reviews/"+review+"/approve", a.token, nil).want(http.StatusOK)
		},
		"denied": func(_, review string) {
			w.call("POST", "/v1/reviews/"+review+"/deny", a.token, `{"note":"no"}`).want(http.StatusOK)
		},
		"cancelled": func(run, _ string) {
			w.call("POST", "/v1/runs/"+run+"/end", a.token, `{"status":"FAILED"}`).want(http.StatusOK)
		},
		"superseded": func(string, string) {
			w.call("DELETE", "/v1/policies/refunds", a.token, nil).want(http.StatusOK)
		},
		"expired": func(_, review string) {
			w.clock.advance(291 * time.Second)
			w.call("GET", "/v1/reviews/"+review, a.key, nil).want(http.StatusOK)
		},
	}
	for resolution, end := range ends {
		run, step, review := w.waiting(a)
		told(run, step, review, "pending", "null")
		end(run, review)
		status := "denied"
		if resolution == "approved" {
			status = "approved"
		}
		told(run, step, review, status, resolution)
		if resolution != "cancelled" {
			w.call("POST", "/v1/runs/"+run+"/end", a.token, `{"status":"FAILED"}`).want(http.StatusOK)
		}
	}
}

func TestAReviewShowsWhatAReviewerNeedsToKnow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	run, _, review := w.waiting(a)
	w.clock.advance(30 * time.Second)
	r := w.call("GET", "/v1/reviews/"+review, a.token, nil).want(http.StatusOK)
	for place, want := range map[string]string{
		"run_id": run, "reason": "refunds need a person", "seconds_left": "260", "waiter.alive": "true", "run.steps": "1", "run.spent_usd": "0",
		"run.title": "null", "action.input_data.amount": "101", "run.started_at": r.text("requested_at"),
	} {
		if got := r.text(place); got != want {
			t.Errorf("%s is %s, want %s", place, got, want)
		}
	}
	w.call("POST", "/v1/reviews/"+review+"/approve", a.token, nil).want(http.StatusOK)
	p := w.call("GET", "/v1/policies", a.token, nil).want(http.StatusOK)
	for place, want := range map[string]string{
		"items.0.hits.reviewed": "1", "items.0.hits.denied": "0", "items.0.reviews.count": "1", "items.0.reviews.approved_share": "1",
		"items.0.reviews.median_seconds": "30", "items.0.reviews.hint": "null",
	} {
		if got := p.text(place); got != want {
			t.Errorf("%s is %s, want %s", place, got, want)
		}
	}
}

// What a grant has let pass names it, and it names what it has let pass.
func TestAGrantAndItsStepsNameEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	run, first, review := w.waiting(a)
	w.call("POST", "/v1/reviews/"+review+"/approve", a.token, `{"grant":{"scope":"tool","seconds":60,"uses":2}}`).want(http.StatusOK)
	grant := w.call("GET", "/v1/reviews/"+review, a.token, nil).want(http.StatusOK).text("grant_id")
	var used []string
	for range 2 { // which is all that it allows
		w.clock.advance(time.Second)
		r := w.call("POST", "/v1/runs/"+run+"/steps", a.key, `{"type":"TOOL_CALL","sequence":2,"tool_name":"refund"}`).want(http.StatusCreated)
		used = append(used, r.text("id"))
		s := w.call("GET", "/v1/runs/"+run+"/steps/"+r.text("id"), a.key, nil).want(http.StatusOK)
		want := `[{"granted_by":"` + a.email + `","id":"` + grant + `","policy_name":"refunds"}]`
		if got := s.text("grants"); got != want {
			t.Errorf("the step names %s, want %s", got, want)
		}
	}
	s := w.call("GET", "/v1/runs/"+run+"/steps/"+first, a.key, nil).want(http.StatusOK)
	if strings.Contains(string(s.body), `"grants"`) {
		t.Errorf("the step that was approved itself names a grant: %s", s.body)
	}
	if got := w.call("GET", "/v1/grants/", a.key, nil).want(http.StatusOK).text("items"); got != "[]" {
		t.Errorf("a grant that is used up can still be used: %s", got)
	}
	page := w.call("GET", "/v1/grants/"+grant+"/steps?limit=1", a.key, nil).want(http.StatusOK)
	rest := w.call("GET", "/v1/grants/"+grant+"/steps?limit=1&cursor="+page.text("next_cursor"), a.key, nil).want(http.StatusOK)
	if got := page.text("items.0.step_id") + rest.text("items.0.step_id"); got != used[1]+used[0] {
		t.Errorf("it has let pass %s and %s, want %v", page.body, rest.body, used)
	}
	for place, want := range map[string]string{
		"items.0.run_id": run, "items.0.user_id": "ada", "items.0.type": "TOOL_CALL", "items.0.status": "RUNNING",
		"items.0.tool_name": "refund", "items.0.model": "null", "next_cursor": "null",
	} {
		if got := rest.text(place); got != want {
			t.Errorf("%s is %s, want %s", place, got, want)
		}
	}
	steps := w.call("GET", "/v1/runs/"+run, a.key, nil).want(http.StatusOK)
	if got := steps.text("steps.1.grants.0.id"); got != grant {
		t.Errorf("in its run the step names %s", got)
	}
}
