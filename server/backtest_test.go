package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

// Policies are tried on what a workspace has recorded, and nothing is saved.
func TestPoliciesAreTriedOnThePast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.account(plans.Enterprise), w.account(plans.Enterprise)
	for range 2 {
		run := w.start(a, "ann")
		for i := range 3 {
			body := fmt.Sprintf(`{"type":"TOOL_CALL","sequence":%d,"tool_name":"refund","input_data":{"amount":%d}}`, i+1, 60*(i+1))
			w.call("POST", "/v1/runs/"+run+"/steps", a.key, body).want(http.StatusCreated)
			w.clock.advance(time.Minute)
		}
	}
	w.step(b, w.start(b, "bob"), "gpt-4o") // of nobody's business here

	const hourly = `{"name":"hourly","effect":"deny","limit":{"measure":"calls","per":"user","window":"day","amount":4}}`
	const large = `{"name":"large","enabled":false,"effect":"review","match":{"tools":["refund*"]},"when":"usd(input.amount) > usd(100)"}`
	got := w.call("POST", "/v1/policies/backtest", a.key, `{"policies":[`+hourly+`,`+large+`]}`)
	got.want(http.StatusOK)
	var result struct {
		Runs, Steps, Denied, Reviewed int
		ByPolicy                      []struct {
			Policy           string `json:"policy_name"`
			Denied, Reviewed int
		} `json:"by_policy"`
		Examples []json.RawMessage
	}
	if err := json.Unmarshal(got.body, &result); err != nil {
		t.Fatal(err)
	}
	if result.Runs != 2 || result.Steps != 6 || result.Denied != 2 || result.Reviewed != 2 || len(result.Examples) != 4 ||
		result.ByPolicy[0].Policy != "hourly" || result.ByPolicy[1].Reviewed != 2 {
		t.Errorf("%s", got.body)
	}
	w.call("POST", "/v1/policies/backtest", a.key,
		`{"policies":[`+hourly+`],"since":"2026-11-20T00:00:00Z","until":"2026-11-20T00:00:00Z"}`).want(http.StatusOK)
	if list := w.call("GET", "/v1/policies/", a.key, nil); !strings.Contains(string(list.body), `"items":[]`) {
		t.Errorf("something was saved: %s", list.body)
	}
}

func TestABacktestEndsInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.Timeouts.Backtest = 1 })
	a := w.account(plans.Enterprise)
	w.start(a, "ann")
	w.call("POST", "/v1/policies/backtest", a.token, `{"policies":[]}`).
		wantDetail(http.StatusBadRequest, "The backtest took too long, or others did before it. Choose a shorter time.")
}

func TestABacktestSaysWhatIsWrongWithItsPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Enterprise)
	for _, c := range []struct{ body, want string }{
		{`{}`, `"loc":["body","policies"]`},
		{`{"policies":[{"name":"a","effect":"deny"},{"name":"b","effect":"deny","when":"run.spent_usd > 1"}]}`,
			`"loc":["body","policies",1,"when"]`},
		{`{"policies":[{"name":"b","effect":"deny","when":"run.spent_usd > 1"}]}`, `"column":15`},
		{`{"policies":[{"effect":"deny"}]}`, `"loc":["body","policies",0,"name"]`},
		{`{"policies":[{"name":"a"}],"more":1}`, `"loc":["body","more"]`},
		{`{"policies":[],"since":"2026-11-21T00:00:00Z","until":"2026-11-20T00:00:00Z"}`, `"loc":["body","since"]`},
		{`{"policies":[],"since":"2020-11-21T00:00:00Z","until":"2026-11-20T00:00:00Z"}`, `400 days`},
		{`{"policies":` + "[" + strings.Repeat(`{"name":"a","effect":"deny"},`, 100) + `{"name":"a","effect":"deny"}]}`, `"loc":["body","policies"]`},
	} {
		got := w.call("POST", "/v1/policies/backtest", a.token, c.body)
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(string(got.body), c.want) {
			t.Errorf("%.200s: %d %s, want %s", c.body, got.status, got.body, c.want)
		}
	}
}
