package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

// cataloguing is a world with the catalogue that is in the binary.
func cataloguing(t *testing.T) *world {
	t.Helper()
	c, err := prices.ParseCatalogue(embed.Catalogue())
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, storage.Options{Catalogue: c}, func(cfg *server.Config) { cfg.Catalogue = c })
}

const perThousand = `{"status":"COMPLETED","prompt_tokens":1000,"completion_tokens":1000}`

// A new user's first guarded call shows what it cost.
func TestTheFirstCallCostsWhatIsPublished(t *testing.T) {
	t.Parallel()
	w := cataloguing(t)
	a := w.account(plans.Basic)
	wantFields(t, w.call("GET", "/v1/workspace", a.token, nil), map[string]string{"price_catalogue": "true"})
	run := w.start(a, "ada")
	r := w.call("PATCH", w.step(a, run, "gpt-4o-2024-08-06"), a.key, perThousand).want(http.StatusOK)
	wantFields(t, r, map[string]string{
		"cost_usd": "0.0125", "priced": "true", "input_cost_per_token": "0.0000025", "output_cost_per_token": "0.00001",
		"price_source": "catalogue", "price_name": "openai/gpt-4o",
	})
	if version := r.text("price_version"); !strings.HasPrefix(version, "genai-prices ") {
		t.Errorf("the price is of %s", version)
	}
	wantFields(t, w.call("GET", "/v1/runs/"+run, a.key, nil).want(http.StatusOK), map[string]string{
		"total_usd": "0.0125", "steps.0.price_source": "catalogue", "steps.0.price_name": "openai/gpt-4o",
	})

	w.call("PUT", "/v1/model-pricing/gpt-4o-2024-08-06", a.token, `{"input_cost_per_token":0.000001,"output_cost_per_token":0}`).want(http.StatusOK)
	wantFields(t, w.call("PATCH", w.step(a, run, "gpt-4o-2024-08-06"), a.key, perThousand), map[string]string{
		"cost_usd": "0.001", "price_source": "own", "price_name": "gpt-4o-2024-08-06", "price_version": "null",
	})

	w.call("PATCH", "/v1/workspace", a.token, `{"price_catalogue":null}`).want(http.StatusUnprocessableEntity)
	w.call("PATCH", "/v1/workspace", a.token, `{"price_catalogue":"yes"}`).want(http.StatusUnprocessableEntity)
	w.call("PATCH", "/v1/workspace", a.key, `{"price_catalogue":false}`).want(http.StatusUnauthorized)
	wantFields(t, w.call("PATCH", "/v1/workspace", a.token, `{"price_catalogue":false}`).want(http.StatusOK), map[string]string{"price_catalogue": "false"})
	wantFields(t, w.call("PATCH", w.step(a, run, "gpt-4o"), a.key, perThousand), map[string]string{
		"cost_usd": "null", "priced": "false", "price_source": "null", "price_name": "null", "price_version": "null",
	})
	wantFields(t, w.call("GET", "/v1/audit/?action=workspace.update", a.token, nil), map[string]string{
		"items.0.before.price_catalogue": "true", "items.0.after.price_catalogue": "false",
	})
}

func TestAModelMayCostTheSameAsAnother(t *testing.T) {
	t.Parallel()
	w := cataloguing(t)
	a := w.account(plans.Basic)
	run := w.start(a, "ada")
	put := func(body string) *response { return w.call("PUT", "/v1/model-pricing/my-deployment", a.token, body) }
	wantFields(t, put(`{"same_as":"gpt-4o"}`).want(http.StatusOK), map[string]string{
		"model": "my-deployment", "same_as": "gpt-4o", "input_cost_per_token": "null", "output_cost_per_token": "null", "is_active": "true",
	})
	wantFields(t, w.call("GET", "/v1/model-pricing", a.key, nil), map[string]string{"0.same_as": "gpt-4o", "0.input_cost_per_token": "null"})
	wantFields(t, w.call("PATCH", w.step(a, run, "my-deployment"), a.key, perThousand), map[string]string{
		"cost_usd": "0.0125", "price_source": "alias", "price_name": "openai/gpt-4o",
	})
	for _, body := range []string{
		`{"same_as":"gpt-4o","input_cost_per_token":1,"output_cost_per_token":1}`, `{"same_as":"gpt-4o","output_cost_per_token":1}`,
		`{"same_as":""}`, `{"same_as":null}`, `{"same_as":7}`, `{"same_as":"` + strings.Repeat("x", 256) + `"}`, `{}`,
	} {
		put(body).want(http.StatusUnprocessableEntity)
	}
	wantFields(t, put(`{"input_cost_per_token":0.000002,"output_cost_per_token":0}`).want(http.StatusOK), map[string]string{"input_cost_per_token": "0.000002"})
	wantFields(t, w.call("PATCH", w.step(a, run, "my-deployment"), a.key, perThousand), map[string]string{"cost_usd": "0.002", "price_source": "own"})
	r := w.call("GET", "/v1/audit/?action=model_price.set", a.token, nil).want(http.StatusOK)
	for _, entry := range []string{
		`"before":null,"after":{"is_active":true,"same_as":"gpt-4o"}`, `"before":{"same_as":"gpt-4o"},"after":{"input_cost_per_token":0.000002,`,
	} {
		if !strings.Contains(string(r.body), entry) {
			t.Errorf("the audit log says %s, without %s", r.body, entry)
		}
	}
}

func TestTheCatalogueIsSearchedPageByPage(t *testing.T) {
	t.Parallel()
	w := cataloguing(t)
	a := w.account(plans.Basic)
	all := func(query string) (models []string) {
		t.Helper()
		for cursor := ""; ; {
			r := w.call("GET", "/v1/model-pricing/catalogue?limit=200&"+query+cursor, a.key, nil).want(http.StatusOK)
			for i := range len(r.get("items").([]any)) {
				models = append(models, r.text(fmt.Sprintf("items.%d.provider", i))+"/"+r.text(fmt.Sprintf("items.%d.model", i)))
			}
			next := r.text("next_cursor")
			if next == "null" {
				return models
			}
			cursor = "&cursor=" + url.QueryEscape(next)
		}
	}
	c, err := prices.ParseCatalogue(embed.Catalogue())
	w.must(err)
	everything := all("")
	if len(everything) != len(c.Models()) || len(slices.Compact(slices.Sorted(slices.Values(everything)))) != len(everything) {
		t.Errorf("%d entries are listed, of %d", len(everything), len(c.Models()))
	}
	for query, want := range map[string]string{
		"q=gpt-4o-2024-08-06": "openai/gpt-4o", "q=GPT-4o&provider=openai": "openai/gpt-4o", "q=openai/gpt-4o": "openai/gpt-4o",
		"q=deepseek-chat&provider=DeepSeek": "deepseek/deepseek-chat",
	} {
		if got := all(query); !slices.Contains(got, want) || len(got) > 100 {
			t.Errorf("%s finds %v, want %s among a few", query, got, want)
		}
	}
	for _, query := range []string{"q=no+such+model", "provider=none"} {
		if got := all(query); len(got) != 0 {
			t.Errorf("%s finds %v", query, got)
		}
	}
	wantFields(t, w.call("GET", "/v1/model-pricing/catalogue?q=claude-sonnet-4-5&provider=anthropic&limit=1", a.token, nil), map[string]string{
		"items.0.input_cost_per_token": "0.000003", "items.0.cache_write_1h_cost_per_token": "0.000006",
		"items.0.tiers.0.above_prompt_tokens": "200000", "items.0.tiers.0.output_cost_per_token": "0.0000225",
	})
	for _, query := range []string{"cursor=AAAA", "cursor=!", "limit=0", "limit=201", "q=" + strings.Repeat("x", 256)} {
		w.call("GET", "/v1/model-pricing/catalogue?"+query, a.key, nil).want(http.StatusUnprocessableEntity)
	}
	w.call("GET", "/v1/model-pricing/catalogue", "", nil).want(http.StatusUnauthorized)
}

func TestAServerWithoutACatalogueListsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.call("GET", "/v1/model-pricing/catalogue", w.account(plans.Basic).key, nil).want(http.StatusOK)
	if got := strings.TrimSpace(string(r.body)); got != `{"items":[],"version":null,"next_cursor":null}` {
		t.Errorf("answered %s", got)
	}
}

// What the tester says of a name is what a step with it then gets.
func TestANameIsResolvedAsAStepIsPriced(t *testing.T) {
	t.Parallel()
	w := cataloguing(t)
	a := w.account(plans.Basic)
	put := func(model, body string) {
		w.call("PUT", "/v1/model-pricing/"+model, a.token, body).want(http.StatusOK)
	}
	const price = `"input_cost_per_token":0.000001,"output_cost_per_token":0.000002`
	put("own", `{`+price+`}`)
	put("gpt-4", `{`+price+`,"is_active":false}`) // the catalogue's holds
	put("to-own", `{"same_as":"own"}`)
	put("to-published", `{"same_as":"to-snapshot"}`)
	put("to-snapshot", `{"same_as":"models/gemini-2.5-flash"}`)
	put("to-none", `{"same_as":"nobody's"}`)
	put("ring", `{"same_as":"gnir"}`)
	put("gnir", `{"same_as":"ring"}`)
	reasons := map[string]string{
		"own": "own_entry", "gpt-4": "exact_name", "to-own": "own_entry", "to-published": "data_set_rule", "to-none": "no_entry", "ring": "ring",
		"gpt-4o": "exact_name", " GPT-4o": "exact_name", "openai/gpt-4o": "provider_name", "gpt-4o-2024-08-06": "exact_name", "models/gemini-2.5-flash": "data_set_rule", "gpt-4o-": "no_entry",
	}
	run := w.start(a, "ada")
	check := func(name, reason string) *response {
		t.Helper()
		r := w.call("GET", "/v1/model-pricing/resolve?model="+url.QueryEscape(name), a.key, nil).want(http.StatusOK)
		wantFields(t, r, map[string]string{"reason": reason, "names.0": name})
		step := w.call("PATCH", w.step(a, run, name), a.key, perThousand).want(http.StatusOK)
		for _, field := range []string{"price_source", "price_name", "price_version", "input_cost_per_token", "output_cost_per_token"} {
			if r.text(field) != step.text(field) {
				t.Errorf("%q: %s is said to be %s; a step has %s", name, field, r.text(field), step.text(field))
			}
		}
		return r
	}
	for name, reason := range reasons {
		check(name, reason)
	}
	wantFields(t, check("to-published", "data_set_rule"), map[string]string{"price_source": "alias", "names.2": "models/gemini-2.5-flash", "published.model": "gemini-2.5-flash"})
	w.call("PATCH", "/v1/workspace", a.token, `{"price_catalogue":false}`).want(http.StatusOK)
	wantFields(t, check("gpt-4o", "catalogue_off"), map[string]string{"price_source": "null", "published.input_cost_per_token": "0.0000025"})
	check("own", "own_entry")
	check("to-published", "catalogue_off")
	w.call("GET", "/v1/model-pricing/resolve?model=gpt-4o", "", nil).want(http.StatusUnauthorized)
}

func TestStepsArePricedAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	run := w.start(a, "ada")
	w.call("PATCH", w.step(a, run, "mine"), a.key, perThousand).want(http.StatusOK)
	w.call("PUT", "/v1/model-pricing/mine", a.token, `{"input_cost_per_token":0.000001,"output_cost_per_token":0}`).want(http.StatusOK)
	reprice := func(body any) *response { return w.call("POST", "/v1/model-pricing/reprice", a.token, body) }
	const made = `"steps":1,"before_usd":0,"after_usd":0.001,"difference_usd":0.001,"days":[{"date":"2026-11-23","difference_usd":0.001}]`
	same := func(r *response, want string) {
		t.Helper()
		if got := strings.TrimSpace(string(r.want(http.StatusOK).body)); got != "{"+want+`,"next_cursor":null}` {
			t.Errorf("answered %s, want %s", got, want)
		}
	}
	const none = `"steps":0,"before_usd":0,"after_usd":0,"difference_usd":0,"days":[]`
	same(reprice(nil), made+`,"dry_run":true`)
	same(reprice(`{"since":"2026-11-23T23:59:59Z","until":null}`), made+`,"dry_run":true`)
	same(reprice(`{"until":"2026-11-23T00:00:00.001Z","model":"mine"}`), made+`,"dry_run":true`)
	same(reprice(`{"since":"2026-11-24T00:00:00Z"}`), none+`,"dry_run":true`)
	same(reprice(`{"until":"2026-11-23T00:00:00Z"}`), none+`,"dry_run":true`)
	same(reprice(`{"model":"min"}`), none+`,"dry_run":true`)
	wantFields(t, w.call("GET", "/v1/runs/"+run, a.key, nil), map[string]string{"total_usd": "0", "unpriced_tokens": "2000"})
	same(reprice(`{"dry_run":false}`), made+`,"dry_run":false`)
	same(reprice(`{"dry_run":false,"only_unpriced":false}`), none+`,"dry_run":false`)
	wantFields(t, w.call("GET", "/v1/runs/"+run, a.key, nil), map[string]string{
		"total_usd": "0.001", "unpriced_tokens": "0", "steps.0.price_source": "own", "steps.0.cost_usd": "0.001",
	})
	r := w.call("GET", "/v1/audit/?action=model_price.reprice", a.token, nil).want(http.StatusOK)
	wantFields(t, r, map[string]string{"items.0.after.difference_usd": "0.001", "items.0.after.steps": "1", "items.0.actor.kind": "account"})
	for _, body := range []string{
		`{"since":"2026-11-23"}`, `{"since":"2026-11-23T00:00:00Z","until":"2026-11-23T00:00:00Z"}`, `{"only_unpriced":1}`,
		`{"dry_run":"no"}`, `{"cursor":"x"}`, `{"cursor":""}`, `{"dryrun":false}`, `{"model":""}`, `[]`,
	} {
		reprice(body).want(http.StatusUnprocessableEntity)
	}
	w.call("POST", "/v1/model-pricing/reprice", a.key, nil).want(http.StatusUnauthorized)
	w.call("POST", "/v1/model-pricing/reprice", "", nil).want(http.StatusUnauthorized)
}
