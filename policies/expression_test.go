package policies_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
)

// someFacts are of a step that calls a refund tool.
func someFacts() *policies.Facts {
	return &policies.Facts{
		Type: "TOOL_CALL", Tool: "refund_order", User: "acme/ann", Run: "r1",
		Tags:      map[string]string{"agent": "billing"},
		Metadata:  []byte(`{"team": "shop", "depth": {"of": [1, 2, 3]}}`),
		Input:     []byte(`{"amount": 120.5, "currency": "USD", "items": [{"price": 1}, {"price": 30}], "text": "5.10"}`),
		Steps:     4,
		Spent:     1_500_000_000,
		StartedAt: time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC),
		Now:       time.Date(2026, 11, 30, 23, 30, 0, 0, time.FixedZone("", 3600)),
		Repeats:   1,
	}
}

// rule compiles one policy with an expression.
func rule(t testing.TB, when string) *policies.Rule {
	t.Helper()
	body, err := json.Marshal(map[string]any{"effect": "deny", "when": when})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policies.Parse("x", body)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	set, err := policies.Compile([]policies.Policy{p})
	if err != nil {
		t.Fatal(err)
	}
	return set.Rules()[0]
}

func TestExpressions(t *testing.T) {
	for _, c := range []struct {
		when string
		want bool
	}{
		{`input.amount > 100 && !(input.currency in ['EUR'])`, true},
		{`input.amount > 120.5`, false},
		{`input.amount * 2.0 == 241.0`, true},
		{`usd(input.amount) > usd(100)`, true},
		{`usd(input.amount) == usd("120.50")`, true},
		{`usd(input.text) == usd(5.1)`, true},
		{`usd(0.1) + usd(0.2) == usd(0.3)`, true}, // as doubles it is not
		{`usd(0.123456789) == usd("0.123456789") && usd(1e-9) > usd(0)`, true},
		{`run.spent_usd == usd("1.50")`, true},
		{`run.spent_usd >= usd(1.5)`, true},
		{`run.spent_usd > usd(1.5)`, false},
		{`run.spent_usd - usd(2) < usd(0)`, true},
		{`run.spent_usd > (input.amount > 100 ? usd(1) : usd(3))`, true},
		{`run.steps == 4 && run.started_at < now`, true},
		{`now - run.started_at > duration("14h")`, true},
		{`now.getHours() == 22`, true},
		{`now.getHours("Europe/Berlin") == 23`, true},
		{`now.getHours("Asia/Kathmandu") == 4 && now.getMinutes("Asia/Kathmandu") == 15`, true},
		{`type == "TOOL_CALL" && tool.startsWith("refund") && user == "acme/ann" && model == ""`, true},
		{`tags.agent == "billing" && "agent" in tags && !("team" in tags)`, true},
		{`metadata.depth.of[1] == 2 && size(metadata.depth.of) == 3`, true},
		{`has(input.nothing) && input.nothing > 1`, false},
		{`input.?nothing.orValue(0) > 1`, false},
		{`input.items.exists(i, i.price > 20)`, true},
		{`input.items.all(i, i.price > 20)`, false},
		{`input.currency.matches("^(USD|CHF)$")`, true},
	} {
		got, err := rule(t, c.when).Holds(t.Context(), someFacts())
		if err != nil || got != c.want {
			t.Errorf("%s: got %v, %v, want %v", c.when, got, err, c.want)
		}
	}
}

// Money and numbers must not be mixed up in silence.
func TestMoneyIsComparedWithMoneyAlone(t *testing.T) {
	for _, when := range []string{
		`run.spent_usd > 100`,
		`run.spent_usd > 1.5`,
		`run.spent_usd == 2`,
		`100 < run.spent_usd`,
		`run.spent_usd == input.amount`,
		`run.spent_usd != input.amount`,
		`input.amount < run.spent_usd`,
		`run.spent_usd in [1, 2]`,
		`run.spent_usd in input.items`,
		`dyn(run.spent_usd) == 1`,
		`[run.spent_usd, 1][0] == 1`,
		`{"a": run.spent_usd, "b": 1}["a"] == 1`,
		`run.spent_usd + 1 > usd(3)`,
		`run.spent_usd + input.amount > usd(3)`,
		`(true ? run.spent_usd : input.amount) == usd(1)`,
		`run.spent_usd * 2 > usd(3)`,
		`int(run.spent_usd) > 1`,
		`double(run.spent_usd) > 1.0`,
		`string(run.spent_usd) == "1"`,
		`optional.of(run.spent_usd).orValue(usd(1)) == usd(1)`,
		`[1].exists(x, x == run.spent_usd)`,
		`[usd(1)].exists(x, x == run.spent_usd)`,
	} {
		if problems := problemsOf(t, when); len(problems) == 0 {
			t.Errorf("%s was accepted", when)
		}
	}
}

func problemsOf(t *testing.T, when string) []policies.Problem {
	t.Helper()
	body, err := json.Marshal(map[string]any{"effect": "deny", "when": when})
	if err != nil {
		t.Fatal(err)
	}
	_, err = policies.Parse("x", body)
	var invalid *policies.Invalid
	if err != nil && !errors.As(err, &invalid) {
		t.Fatalf("%s: %v", when, err)
	}
	if invalid == nil {
		return nil
	}
	return invalid.Problems
}

func TestBadExpressionsAreRefusedAtTheirColumn(t *testing.T) {
	deep := strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200)
	for _, c := range []struct {
		when   string
		line   int
		column int
		says   string
	}{
		{`input.amount >`, 1, 15, "Syntax error"},
		{`input.amount > 1 && inptu.x == 2`, 1, 21, "undeclared reference to 'inptu'"},
		{"type == 'A' &&\n  tol == 'b'", 2, 3, "undeclared reference to 'tol'"},
		{`tool`, 1, 1, "must be true or false"},
		{`input.amount`, 1, 6, "must be true or false"},
		{`tool > 3`, 1, 6, "no matching overload"},
		{`run.spent_usd > 100`, 1, 15, "so write usd(100)"},
		{`true && run.spent_usd == input.amount`, 1, 31, "write usd(…) around this"},
		{`usd("abc") > usd(1)`, 1, 5, "not a decimal number"},
		{`usd(1) > usd("0.0000000015")`, 1, 14, "too many decimal places"},
		{`usd("1e400") > usd(1)`, 1, 5, "too large"},
		{`run.spent_usd > usd(1e400)`, 1, 21, "invalid double literal"},
		{`input.a.matches("(")`, 1, 17, "invalid matches argument"},
		{`input.a.matches(input.b)`, 1, 22, "must be written out"},
		{`input.a.matches("(((a{100}){100}){100})")`, 1, 17, "invalid matches argument"},
		{`input.a.matches("(a{30}){30}")`, 1, 17, "regex program size"},
		{`now > timestamp("yesterday")`, 1, 17, "invalid timestamp argument"},
		{`input.a.all(x, input.b.all(y, input.c.all(z, true)))`, 1, 42, "comprehension exceeds nesting limit"},
		{`type == "A" || input.a.all(x, input.b.exists(y, y == x))`, 1, 27, "this can cost"},
		{`input.a.all(x, x > 1 || input.b.exists(y, input.c.contains(string(y))))`, 1, 39, "this can cost"},
		{deep, 1, 1, "recursion"},
		{`now.getHours("UTC") > 3 && io.read("x")`, 1, 28, "undeclared reference"},
	} {
		problems := problemsOf(t, c.when)
		if len(problems) == 0 {
			t.Errorf("%.80s was accepted", c.when)
			continue
		}
		p := problems[0]
		if p.Field != "when" || p.Line != c.line || p.Column != c.column || !strings.Contains(p.Message, c.says) {
			t.Errorf("%.80s\n got %s\nwant line %d, column %d: … %s", c.when, p, c.line, c.column, c.says)
		}
	}
	many := strings.Repeat(`input.a.matches("a") && `, 11) + "true"
	if problems := problemsOf(t, many); len(problems) != 1 || !strings.Contains(problems[0].Message, "10 regular") {
		t.Errorf("11 regular expressions: %v", problems)
	}
}

// A rule that cannot be evaluated has an answer all the same, and it is an error.
func TestErringExpressionsSayThatTheyErr(t *testing.T) {
	long, err := json.Marshal(map[string]any{"items": make([]int, 200_000)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ when, input string }{
		{`input.nothing > 1`, `{}`},
		{`input.amount > 1`, `{"amount": "many"}`},
		{`input.amount > 1`, ``},
		{`input.a / 0 == 1`, `{"a": 1}`},
		{`usd(input.amount) > usd(1)`, `{"amount": "1,000"}`},
		{`usd(input.amount) > usd(1)`, `{"amount": 1e300}`},
		{`usd(input.amount) > usd(1)`, `{"amount": {}}`},
		{`input.items.all(i, i == 0)`, string(long)},
		{`input.a > 1`, `not JSON`},
	} {
		f := someFacts()
		f.Input = []byte(c.input)
		if holds, err := rule(t, c.when).Holds(t.Context(), f); err == nil || holds {
			t.Errorf("%s of %.40s: got %v, %v", c.when, c.input, holds, err)
		}
	}
}

func TestStoredExpressionsThatNoLongerCompileFailWhenAsked(t *testing.T) {
	set, err := policies.Compile([]policies.Policy{{Name: "old", Enabled: true, Effect: policies.Deny, When: "gone(1)"}})
	if err != nil {
		t.Fatal(err)
	}
	rules := set.Matching(&policies.Facts{Start: true, User: "u"})
	if len(rules) != 1 {
		t.Fatalf("%d rules match", len(rules))
	}
	if holds, err := rules[0].Holds(t.Context(), someFacts()); err == nil || holds {
		t.Errorf("got %v, %v", holds, err)
	}
	if !set.NeedsInput() || !set.NeedsMetadata() || !set.NeedsTags() || !rules[0].UsesRun() {
		t.Error("nobody knows what it needs, so it needs everything")
	}
}

func TestASetKnowsWhatItNeeds(t *testing.T) {
	needs := func(when string) string {
		p := policies.Policy{Name: "x", Enabled: true, Effect: policies.Deny, When: when}
		set, err := policies.Compile([]policies.Policy{p})
		if err != nil {
			t.Fatal(err)
		}
		r := set.Rules()[0]
		return fmt.Sprint(set.NeedsTags(), set.NeedsMetadata(), set.NeedsInput(), set.NeedsRepeats(), r.HasWhen(), r.UsesRun())
	}
	for when, want := range map[string]string{
		``:                           "false false false false false false",
		`user == "a"`:                "false false false false true false",
		`tags.agent == "b"`:          "true false false false true false",
		`has(metadata.a)`:            "false true false false true false",
		`input.x == 1`:               "false false true false true false",
		`input.items.all(i, i == 1)`: "false false true false true false",
		`run.steps > 3`:              "false false false false true true",
		`run.spent_usd > usd(3)`:     "false false false false true true",
		`now.getHours("UTC") > 3`:    "false false false false true true",
	} {
		if got := needs(when); got != want {
			t.Errorf("%s: got %s, want %s", when, got, want)
		}
	}
	all := policies.Policy{
		Name: "x", Enabled: true, Effect: policies.Deny,
		Limit: &policies.Limit{Measure: policies.MeasureRepeats, Per: "run", Window: policies.WindowRun, Amount: 5},
	}
	set, err := policies.Compile([]policies.Policy{all})
	if err != nil {
		t.Fatal(err)
	}
	if !set.NeedsRepeats() || set.NeedsTags() {
		t.Error("a limit of repeats needs repeats alone")
	}
	all.Limit = &policies.Limit{Measure: policies.MeasureUSD, Per: "tag:agent", Window: policies.WindowDay, Amount: int64(plans.USD)}
	if set, err = policies.Compile([]policies.Policy{all}); err != nil {
		t.Fatal(err)
	}
	if set.NeedsRepeats() || !set.NeedsTags() {
		t.Error("a limit per tag needs tags alone")
	}
}

// What passes each part of itself once is evaluated by a writer; all else is watched.
func TestSimpleConditionsHaveNoLoopsAndNoRegularExpressions(t *testing.T) {
	t.Parallel()
	for when, want := range map[string]bool{
		"":                   true,
		`input.amount > 100`: true,
		`model != 'other' && input.?amount.orValue(0.0) > 100.0`: true,
		`run.spent_usd > usd(2) && now.getHours() >= 22`:         true,
		`now.getDayOfWeek("Europe/Berlin") == 0`:                 false,
		`now - run.started_at > duration("1h")`:                  true,
		`timestamp(input.at) < now`:                              false,
		`duration(input.wait) > duration("1h")`:                  false,
		`now.getMinutes(input.zone) == 0`:                        false,
		`tags.agent.startsWith("b") || user in ["a", "b"]`:       true,
		`[1].all(n, n > run.steps)`:                              false,
		`input.items.exists(i, i.price > 20)`:                    false,
		`tool.matches("^a")`:                                     false,
		`input.a.contains(input.b)`:                              false,
	} {
		body, err := json.Marshal(map[string]string{"effect": "deny", "when": when})
		if err != nil {
			t.Fatal(err)
		}
		p, err := policies.Parse("x", body)
		if err != nil {
			t.Fatal(err)
		}
		set, err := policies.Compile([]policies.Policy{p})
		if err != nil {
			t.Fatal(err)
		}
		if got := set.Rules()[0].Simple(); got != want {
			t.Errorf("%q: %v, want %v", when, got, want)
		}
	}
}
