package policies_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
)

const full = `{
	"name": "refunds", "description": "Large ones", "enabled": false, "priority": 7,
	"match": {"types": ["TOOL_CALL"], "tools": ["refund*"], "models": ["gpt-4*"], "users": ["acme/*"],
		"tags": {"agent": "billing"}},
	"when": "input.amount > 100 && !(input.currency in ['EUR'])",
	"limit": {"measure": "usd", "per": "tag:agent", "window": "week", "amount": 20.5, "rolling": true},
	"effect": "review", "message": "Ask a person", "review": {"expires_seconds": 60, "approvals": 1, "on_expiry": "deny"}
}`

func TestEveryFieldIsRead(t *testing.T) {
	got, err := policies.Parse("refunds", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := policies.Policy{
		Name: "refunds", Description: "Large ones", Priority: 7,
		Match: policies.Match{
			Types: []string{"TOOL_CALL"}, Tools: []string{"refund*"}, Models: []string{"gpt-4*"},
			Users: []string{"acme/*"}, Tags: map[string]string{"agent": "billing"},
		},
		When: "input.amount > 100 && !(input.currency in ['EUR'])",
		Limit: &policies.Limit{
			Measure: policies.MeasureUSD, Per: "tag:agent", Window: policies.WindowWeek,
			Amount: 20_500_000_000, Rolling: true,
		},
		Effect: policies.Review, Message: "Ask a person",
		Review: policies.ReviewTerms{ExpiresSeconds: 60, Approvals: 1, OnExpiry: "deny"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	again, err := policies.Parse("", got.JSON())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("what is written reads back as another policy: -first +second\n%s", diff)
	}
}

func TestWhatIsLeftOutHasItsDefault(t *testing.T) {
	got, err := policies.Parse("short", []byte(`{"effect": "deny", "when": " ", "limit": null}`))
	if err != nil {
		t.Fatal(err)
	}
	want := policies.Policy{Name: "short", Enabled: true, Priority: 100, Effect: policies.Deny}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	got, err = policies.Parse("asks", []byte(`{"effect": "review"}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(policies.DefaultReview(), got.Review); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestBadPoliciesSayWhatIsWrong(t *testing.T) {
	many := func(n int, of string) string { return "[" + strings.TrimSuffix(strings.Repeat(of+",", n), ",") + "]" }
	limit := func(body string) string { return `{"effect": "deny", "limit": {` + body + `}}` }
	const lim = `"measure": "calls", "per": "user", "window": "hour", "amount": `
	for _, c := range []struct{ name, body, want string }{
		{"x", `{}`, "effect: is missing: say deny, review or log"},
		{"x", `{"effect": null}`, "effect: is missing: say deny, review or log"},
		{"x", `{"effect": "allow"}`, "effect: must be deny, review or log"},
		{"x", `{"effect": 3}`, "effect: must be deny, review or log"},
		{"x", `{"effect": "deny", "efect": 1}`, "efect: is no field of a policy"},
		{"x", `{"effect": "deny", "match": {"tool": "a"}}`, "match.tool: is no field of a policy"},
		{"x", `{"effect": "deny", "effect": "log"}`, "effect: is there twice"},
		{"x", `{"effect": "deny"} {}`, "is no JSON: something follows the object"},
		{"x", `{"effect": "deny"`, "is no JSON: it ends too soon"},
		{"x", `[]`, "must be an object"},
		{"x", ``, "is no JSON: it ends too soon"},
		{"x", `{"effect": "deny", "match": 1}`, "match: must be an object"},
		{"a/b", `{"effect": "deny"}`, "name: must be 1 to 64 letters, digits, dots, dashes or underscores, and begin with a letter or digit"},
		{"..", `{"effect": "deny"}`, "name: must be 1 to 64 letters, digits, dots, dashes or underscores, and begin with a letter or digit"},
		{strings.Repeat("n", 65), `{"effect": "deny"}`, "name: must be 1 to 64 letters, digits, dots, dashes or underscores, and begin with a letter or digit"},
		{"x", `{"effect": "deny", "name": "y"}`, "name: is another than that in the path"},
		{"", `{"effect": "deny"}`, "name: a policy needs a name"},
		{"x", `{"effect": "deny", "priority": 1.5}`, "priority: must be a whole number"},
		{"x", `{"effect": "deny", "priority": -1}`, "priority: must be at least 0"},
		{"x", `{"effect": "deny", "priority": 1e400}`, "priority: must be a whole number"},
		{"x", `{"effect": "deny", "enabled": "yes"}`, "enabled: must be true or false"},
		{"x", `{"effect": "deny", "message": "a\u0000b"}`, "message: must not contain the NUL character"},
		{"x", `{"effect": "deny", "message": "` + strings.Repeat("m", 1001) + `"}`, "message: must have at most 1000 characters"},
		{"x", `{"effect": "deny", "match": {"types": ["TOOLCALL"]}}`,
			"match.types.0: is none of the types of steps: MODEL_CALL, TOOL_CALL, INPUT, OUTPUT, REASONING, SYSTEM"},
		{"x", `{"effect": "deny", "match": {"tools": ["ok", ""]}}`, "match.tools.1: must have at least 1 character"},
		{"x", `{"effect": "deny", "match": {"tools": "refund"}}`, "match.tools: must be a list of texts"},
		{"x", `{"effect": "deny", "match": {"users": [null]}}`, "match.users.0: must be a text"},
		{"x", `{"effect": "deny", "match": {"tools": ` + many(101, `"a"`) + `}}`, "match.tools: 100 entries are the most"},
		{"x", `{"effect": "deny", "match": {"tools": ["*a*b*c*d*e*f*g*h*i"]}}`, "match.tools.0: must have at most 8 wildcards"},
		{"x", `{"effect": "deny", "match": {"tags": {"a\u0000": "b"}}}`,
			"match.tags.a\x00: a tag's key has 1 to 40 characters, none of them invisible"},
		{"x", `{"effect": "deny", "match": {"tags": {"a": "b\u0000"}}}`, "match.tags.a: must not contain invisible characters"},
		{"x", `{"effect": "deny", "match": {"tags": {"a": "` + strings.Repeat("v", 10_000) + `"}}}`,
			"match.tags.a: must have at most 100 characters"},
		{"x", `{"effect": "deny", "match": {"tags": {"1":"","2":"","3":"","4":"","5":"","6":"","7":"","8":"","9":"","10":"","11":""}}}`,
			"match.tags: 10 tags are the most"},
		{"x", limit(`"measure": "calls"`), "limit.per: is missing; " +
			"limit.window: is missing: say run, minute, hour, day, week, month or total; limit.amount: is missing"},
		{"x", limit(`"measure": "dollars", "per": "user", "window": "hour", "amount": 1`),
			"limit.measure: must be usd, tokens, calls, runs or repeats"},
		{"x", limit(`"measure": "calls", "per": "user", "window": 0, "amount": 1`),
			"limit.window: must be run, minute, hour, day, week, month or total"},
		{"x", limit(`"measure": "calls", "per": "team", "window": "hour", "amount": 1`),
			"limit.per: must be workspace, user, run, tool, model or tag:KEY"},
		{"x", limit(`"measure": "calls", "per": "tag:", "window": "hour", "amount": 1`),
			"limit.per: a tag's key has 1 to 40 characters, none of them invisible"},
		{"x", limit(lim + `1e400`), "limit.amount: must be at most 1000000000000"},
		{"x", limit(lim + `-1`), "limit.amount: must be 0 or more"},
		{"x", limit(lim + `2.5`), "limit.amount: too many decimal places: the nearest is 3"},
		{"x", limit(lim + `"NaN"`), "limit.amount: not a finite number"},
		{"x", limit(lim + `true`), "limit.amount: must be a number"},
		{"x", limit(lim + `""`), "limit.amount: must be a number"},
		{"x", limit(`"measure": "usd", "per": "user", "window": "day", "amount": 1e400`), "limit.amount: must be at most 1000000000"},
		{"x", limit(`"measure": "usd", "per": "user", "window": "day", "amount": 1e-10`),
			"limit.amount: too many decimal places: the nearest is 0.000000001"},
		{"x", limit(`"measure": "repeats", "per": "run", "amount": 9`), "limit.amount: must be 2 to 8 repeats"},
		{"x", limit(`"measure": "repeats", "per": "user", "window": "day", "amount": 5`),
			"limit: repeats are counted per run, in the window of the run"},
		{"x", limit(`"measure": "runs", "per": "run", "window": "day", "amount": 5`),
			"limit: runs are counted when they start: per workspace, user or tag, and over time"},
		{"x", limit(`"measure": "calls", "per": "run", "window": "run", "amount": 5, "rolling": true`),
			"limit.rolling: the window of a run and the total do not roll"},
		{"x", `{"effect": "review", "limit": {"measure": "runs", "per": "user", "window": "day", "amount": 5}}`,
			"effect: a run's start cannot wait for a person: deny or log"},
		{"x", `{"effect": "deny", "match": {"tools": ["a"]}, "limit": {"measure": "runs", "per": "user", "window": "day", "amount": 5}}`,
			"match: runs are counted when they start, where there is no type, tool or model"},
		{"x", `{"effect": "log", "review": {}}`, "review: is for the effect review alone"},
		{"x", `{"effect": "review", "review": {"expires_seconds": 4}}`, "review.expires_seconds: must be at least 5"},
		{"x", `{"effect": "review", "review": {"expires_seconds": 86401}}`, "review.expires_seconds: must be at most 86400"},
		{"x", `{"effect": "review", "review": {"approvals": 2}}`, "review.approvals: must be at most 1"},
		{"x", `{"effect": "review", "review": {"on_expiry": "allow"}}`, "review.on_expiry: must be deny"},
		{"x", `{"effect": "deny", "when": "` + strings.Repeat("1", 5000) + `"}`,
			"when: column 1: the expression has 5000 bytes, 4096 are the most"},
		{"x", `{"effect": "deny", "when": "` + strings.Repeat("1", 1<<20) + `"}`,
			"the policy has 1048606 bytes, 65536 are the most"},
	} {
		_, err := policies.Parse(c.name, []byte(c.body))
		var invalid *policies.Invalid
		if !errors.As(err, &invalid) {
			t.Errorf("%.200s: got %v, want an *Invalid", c.body, err)
			continue
		}
		if got := invalid.Error(); got != c.want {
			t.Errorf("%.200s\n got %s\nwant %s", c.body, got, c.want)
		}
	}
}

func TestReadyPoliciesAreValid(t *testing.T) {
	ready := policies.Ready()
	if len(ready) != 4 {
		t.Errorf("%d ready policies", len(ready))
	}
	for _, p := range ready {
		got, err := policies.Parse("", p.JSON())
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		if diff := cmp.Diff(p, got); diff != "" {
			t.Errorf("%s: -ready +parsed\n%s", p.Name, diff)
		}
	}
}

func TestAmountsAreExact(t *testing.T) {
	body := `{"effect":"deny","limit":{"measure":"usd","per":"workspace","window":"total","amount":"999999999.999999999"}}`
	p, err := policies.Parse("x", []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if p.Limit.Amount != int64(plans.MaxMoney)-1 {
		t.Errorf("read %d", p.Limit.Amount)
	}
	var out struct{ Limit struct{ Amount json.Number } }
	if err := json.Unmarshal(p.JSON(), &out); err != nil {
		t.Fatal(err)
	}
	if out.Limit.Amount != "999999999.999999999" {
		t.Errorf("written %s", out.Limit.Amount)
	}
}

func TestStoredPoliciesAreReadWhateverTheirExpressions(t *testing.T) {
	body := []byte(`{"effect": "deny", "when": "gone(1)"}`)
	if _, err := policies.Parse("x", body); err == nil {
		t.Fatal("the expression is accepted")
	}
	p, err := policies.ParseStored("x", body)
	if err != nil || p.When != "gone(1)" {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := policies.ParseStored("x", []byte(`{"when": "true"}`)); err == nil {
		t.Error("a policy without an effect is read")
	}
}
