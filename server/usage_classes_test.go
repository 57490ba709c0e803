package server_test

import (
	"net/http"
	"testing"

	"github.com/pikarc/server/plans"
)

// Costs by hand, gpt-4o at 2.5 / 10, cached at 1.25 USD a million:
// 400 × 2.5 + 600 × 1.25 + 100 × 10 = 2,750 of a million.
func TestUsageIsTakenAsItsProviderSaysIt(t *testing.T) {
	t.Parallel()
	w := cataloguing(t)
	a := w.account(plans.Basic)
	run := w.start(a, "ada")
	openAI := `{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,"prompt_tokens_details":{"cached_tokens":600},` +
		`"completion_tokens_details":{"reasoning_tokens":40}}`
	for name, c := range map[string]struct {
		body string
		want map[string]string
	}{
		"its object": {`{"status":"COMPLETED","usage":` + openAI + `}`, map[string]string{
			"prompt_tokens": "1000", "cached_tokens": "600", "completion_tokens": "100", "reasoning_tokens": "40", "cost_usd": "0.00275",
		}},
		"our fields": {`{"status":"COMPLETED","prompt_tokens":"1000","completion_tokens":100.0,"cached_tokens":600,"reasoning_tokens":40}`, map[string]string{
			"prompt_tokens": "1000", "cached_tokens": "600", "completion_tokens": "100", "reasoning_tokens": "40", "cost_usd": "0.00275",
		}},
		"explicit fields win": {`{"usage":` + openAI + `,"cached_tokens":0,"completion_tokens":200}`, map[string]string{
			"prompt_tokens": "1000", "completion_tokens": "200", "cost_usd": "0.0045",
		}},
		"parts beyond the whole": {`{"prompt_tokens":400,"cached_tokens":600}`, map[string]string{
			"prompt_tokens": "600", "cached_tokens": "600", "cost_usd": "0.00075", "repaired": `["prompt_tokens"]`,
		}},
		"no object": {`{"prompt_tokens":1000,"usage":"lots"}`, map[string]string{
			"prompt_tokens": "1000", "cost_usd": "0.0025", "usage": `lots`, "repaired": `["usage"]`,
		}},
		"an object in part": {`{"usage":{"prompt_tokens":1000,"completion_tokens":"many"}}`, map[string]string{
			"prompt_tokens": "1000", "completion_tokens": "0", "cost_usd": "0.0025", "repaired": `["usage"]`,
			"usage.completion_tokens": "many",
		}},
		"null, and unreadable": {`{"prompt_tokens":1000,"usage":null,"cached_tokens":-1,"reasoning_tokens":[],"service_tier":"gold","reported_cost_usd":"a lot"}`,
			map[string]string{
				"prompt_tokens": "1000", "cost_usd": "0.0025",
				"repaired": `["cached_tokens","reasoning_tokens","service_tier","reported_cost_usd"]`,
			}},
		"a reported cost is shown": {`{"prompt_tokens":1000,"reported_cost_usd":0.00123456789123}`, map[string]string{
			"cost_usd": "0.0025", "reported_cost_usd": "0.001234568", "price_source": "catalogue",
		}},
	} {
		r := w.call("PATCH", w.step(a, run, "gpt-4o"), a.key, c.body)
		if r.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, r.status, r.body)
			continue
		}
		wantFields(t, r, c.want)
	}
	mustBalance(t, w)
}

func TestOwnEntriesPriceEveryKindOfTokenAndCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	run := w.start(a, "ada")
	put := func(model, body string) *response { return w.call("PUT", "/v1/model-pricing/"+model, a.token, body) }
	r := put("house", `{"input_cost_per_token":2e-6,"output_cost_per_token":8e-6,"cached_input_cost_per_token":1e-6,`+
		`"cache_write_cost_per_token":"0.000003","cost_per_call":0.01,`+
		`"tiers":[{"above_prompt_tokens":1000,"input_cost_per_token":4e-6,"output_cost_per_token":9e-6}]}`).want(http.StatusOK)
	entry := map[string]string{
		"input_cost_per_token": "0.000002", "cached_input_cost_per_token": "0.000001", "cache_write_cost_per_token": "0.000003",
		"cost_per_call": "0.01", "tiers.0.above_prompt_tokens": "1000", "tiers.0.output_cost_per_token": "0.000009",
	}
	wantFields(t, r, entry)
	list := map[string]string{}
	for name, want := range entry {
		list["0."+name] = want
	}
	wantFields(t, w.call("GET", "/v1/model-pricing/", a.key, nil).want(http.StatusOK), list)
	// 100 × 2 + 500 × 1 + 300 × 3 + 50 × 8 = 2,000 of a million, and the call.
	wantFields(t, w.call("PATCH", w.step(a, run, "house"), a.key,
		`{"prompt_tokens":900,"completion_tokens":50,"cached_tokens":500,"cache_write_tokens":300}`), map[string]string{
		"cost_usd": "0.012", "price_source": "own", "price_name": "house",
	})
	// Above 1,000: 2,000 × 4 + 100 × 9 of a million.
	wantFields(t, w.call("PATCH", w.step(a, run, "house"), a.key, `{"prompt_tokens":2000,"completion_tokens":100}`), map[string]string{
		"cost_usd": "0.0189", "input_cost_per_token": "0.000004",
	})
	put("tool:search", `{"cost_per_call":"0.005"}`).want(http.StatusOK)
	step := w.call("POST", "/v1/runs/"+run+"/steps", a.key, `{"type":"TOOL_CALL","sequence":9,"tool_name":"search"}`).want(http.StatusCreated).text("id")
	wantFields(t, w.call("PATCH", "/v1/runs/"+run+"/steps/"+step, a.key, `{"status":"COMPLETED"}`), map[string]string{
		"cost_usd": "0.005", "model": "null", "price_source": "own", "price_name": "tool:search",
	})
	for name, body := range map[string]string{
		"a price beside same_as": `{"same_as":"house","cached_input_cost_per_token":1}`,
		"a call beside same_as":  `{"same_as":"house","cost_per_call":1}`,
		"nothing":                `{}`,
		"one of two":             `{"cost_per_call":1,"input_cost_per_token":1}`,
		"a negative class":       `{"input_cost_per_token":1,"output_cost_per_token":1,"cached_input_cost_per_token":-1}`,
		"tiers of no list":       `{"input_cost_per_token":1,"output_cost_per_token":1,"tiers":{}}`,
		"a tier of nothing":      `{"input_cost_per_token":1,"output_cost_per_token":1,"tiers":[{}]}`,
		"a tier that is none":    `{"input_cost_per_token":1,"output_cost_per_token":1,"tiers":[7]}`,
		"an unknown field in a tier": `{"input_cost_per_token":1,"output_cost_per_token":1,` +
			`"tiers":[{"above_prompt_tokens":1,"input_cost_per_token":1,"output_cost_per_token":1,"x":1}]}`,
		"two tiers at once": `{"input_cost_per_token":1,"output_cost_per_token":1,"tiers":[` +
			`{"above_prompt_tokens":1,"input_cost_per_token":1,"output_cost_per_token":1},` +
			`{"above_prompt_tokens":1,"input_cost_per_token":2,"output_cost_per_token":1}]}`,
	} {
		if r := put("house", body); r.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	wantFields(t, w.call("GET", "/v1/model-pricing/", a.key, nil), list)
	mustBalance(t, w)
}

func TestUnpricedModelsAreDeniedWhereAskedFor(t *testing.T) {
	t.Parallel()
	w := cataloguing(t)
	a := w.account(plans.Basic)
	run := w.start(a, "ada")
	w.call("PATCH", "/v1/workspace", a.token, `{"unpriced_models":"perhaps"}`).want(http.StatusUnprocessableEntity)
	r := w.call("PATCH", "/v1/workspace", a.token, `{"unpriced_models":"deny","trust_reported_cost":true}`).want(http.StatusOK)
	wantFields(t, r, map[string]string{"unpriced_models": "deny", "trust_reported_cost": "true"})
	ask := func(model string) *response {
		return w.call("POST", "/v1/runs/"+run+"/steps", a.key, `{"type":"MODEL_CALL","sequence":1,"model":"`+model+`"}`).want(http.StatusCreated)
	}
	wantFields(t, ask("no-such-model"), map[string]string{
		"status": "BLOCKED", "decision.reason": "MODEL_NOT_PRICED", "decision.limit": "null", "decision.resets_at": "null",
	})
	wantFields(t, ask("gpt-4o"), map[string]string{"status": "RUNNING"})
	wantFields(t, w.call("GET", "/v1/runs/?reason=MODEL_NOT_PRICED", a.key, nil).want(http.StatusOK), map[string]string{"items.0.deny_reason": "MODEL_NOT_PRICED"})

	w.call("PATCH", "/v1/workspace", a.token, `{"unpriced_models":"allow"}`).want(http.StatusOK)
	wantFields(t, w.call("PATCH", w.step(a, run, "no-such-model"), a.key, `{"prompt_tokens":7,"usage":{"prompt_tokens":7,"completion_tokens":1,"cost":0.0005}}`),
		map[string]string{"cost_usd": "0.0005", "priced": "true", "price_source": "reported", "price_name": "null", "input_cost_per_token": "null"})
	mustBalance(t, w)
}

// mustBalance proves the books.
func mustBalance(t *testing.T, w *world) {
	t.Helper()
	report, err := w.store.Verify(t.Context())
	w.must(err)
	for _, d := range report.Differences {
		t.Errorf("the books: %+v", d)
	}
}
