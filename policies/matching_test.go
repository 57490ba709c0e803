package policies_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pikarc/server/policies"
	"pgregory.net/rapid"
)

// slowMatches asks one policy after the other, as the contract is written.
func slowMatches(all []policies.Policy, f *policies.Facts) []string {
	var names []string
	for _, p := range all {
		if p.Enabled && slowApplies(p, f) && slowMatch(p, f) {
			names = append(names, fmt.Sprintf("%06d %s", p.Priority, p.Name))
		}
	}
	slices.Sort(names)
	return names
}

func slowMatch(p policies.Policy, f *policies.Facts) bool {
	one := func(patterns []string, value string) bool {
		if len(patterns) == 0 {
			return true
		}
		return value != "" && slices.ContainsFunc(patterns, func(pattern string) bool { return slowGlob(pattern, value) })
	}
	for key, pattern := range p.Match.Tags {
		value, ok := f.Tags[key]
		if !ok || !slowGlob(pattern, value) {
			return false
		}
	}
	if p.Limit != nil && (p.Limit.Per == "tool" && f.Tool == "" || p.Limit.Per == "model" && f.Model == "") {
		return false
	}
	return one(p.Match.Types, f.Type) && one(p.Match.Tools, f.Tool) && one(p.Match.Models, f.Model) &&
		one(p.Match.Users, f.User)
}

func slowGlob(pattern, value string) bool {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?s)^` + strings.Join(parts, ".*") + `$`).MatchString(value)
}

// slowApplies says whether starts, or steps, ask the policy at all.
func slowApplies(p policies.Policy, f *policies.Facts) bool {
	l := p.Limit
	if !f.Start {
		return l == nil || l.Measure != policies.MeasureRuns
	}
	ofAStep := len(p.Match.Types) > 0 || len(p.Match.Tools) > 0 || len(p.Match.Models) > 0 ||
		strings.Contains(p.When, "tool") || p.Effect == policies.Review
	if l != nil {
		ofAStep = ofAStep || l.Per == "run" || l.Per == "tool" || l.Per == "model" ||
			l.Window == policies.WindowRun || l.Measure == policies.MeasureCalls || l.Measure == policies.MeasureRepeats
	}
	return !ofAStep
}

func TestMatchingIsWhatALoopFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(anyPolicy(), 0, 150).Draw(t, "policies")
		for i := range all {
			all[i].Name = fmt.Sprintf("p%03d", i)
		}
		set, err := policies.Compile(all)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			f := anyFacts().Draw(t, "facts")
			var got []string
			for _, r := range set.Matching(f) {
				got = append(got, fmt.Sprintf("%06d %s", r.Priority, r.Name))
			}
			if diff := cmp.Diff(slowMatches(all, f), got); diff != "" {
				t.Errorf("%+v\n-loop +index\n%s", f, diff)
			}
		}
	})
}

// Words that share prefixes, so that patterns and values meet.
func anyWord() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.RuneFrom([]rune("abé")), 0, 5, -1)
}

func anyPattern() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.RuneFrom([]rune("abé*")), 1, 5, -1)
}

func anyPolicy() *rapid.Generator[policies.Policy] {
	return rapid.Custom(func(t *rapid.T) policies.Policy {
		list := func(name string) []string {
			if rapid.IntRange(0, 2).Draw(t, name+" asked") > 0 {
				return nil
			}
			return rapid.SliceOfN(anyPattern(), 0, 3).Draw(t, name)
		}
		p := policies.Policy{
			Enabled:  rapid.IntRange(0, 5).Draw(t, "enabled") > 0,
			Priority: rapid.Int64Range(0, 3).Draw(t, "priority"),
			Effect:   rapid.SampledFrom([]policies.Effect{policies.Deny, policies.Review, policies.Log}).Draw(t, "effect"),
			Match:    policies.Match{Types: list("types"), Tools: list("tools"), Models: list("models"), Users: list("users")},
			When:     rapid.SampledFrom([]string{"", "", `user != "x"`, `tool == "a"`}).Draw(t, "when"),
		}
		if rapid.IntRange(0, 3).Draw(t, "tagged") == 0 {
			p.Match.Tags = rapid.MapOfN(rapid.SampledFrom([]string{"k", "l", "m"}),
				rapid.StringOfN(rapid.RuneFrom([]rune("ab*")), 0, 3, -1), 0, 2).Draw(t, "tags")
		}
		if rapid.IntRange(0, 2).Draw(t, "limited") == 0 {
			p.Limit = &policies.Limit{
				Measure: policies.Measure(rapid.IntRange(1, 5).Draw(t, "measure")),
				Per:     rapid.SampledFrom([]string{"workspace", "user", "run", "tool", "model", "tag:k"}).Draw(t, "per"),
				Window:  policies.Window(rapid.IntRange(1, 7).Draw(t, "window")),
				Amount:  1,
			}
		}
		return p
	})
}

func anyFacts() *rapid.Generator[*policies.Facts] {
	return rapid.Custom(func(t *rapid.T) *policies.Facts {
		f := &policies.Facts{User: anyWord().Draw(t, "user"), Start: rapid.Bool().Draw(t, "start")}
		if !f.Start {
			f.Type, f.Tool, f.Model = anyWord().Draw(t, "type"), anyWord().Draw(t, "tool"), anyWord().Draw(t, "model")
		}
		f.Tags = rapid.MapOfN(rapid.SampledFrom([]string{"k", "l", "n"}),
			rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 0, 3, -1), 0, 3).Draw(t, "tags")
		return f
	})
}

func TestAsManyPoliciesAsThereMayBe(t *testing.T) {
	all := make([]policies.Policy, policies.MaxPolicies)
	for i := range all {
		all[i] = policies.Policy{
			Name: fmt.Sprintf("p%04d", len(all)-i), Enabled: true, Effect: policies.Log,
			Match: policies.Match{Users: []string{fmt.Sprintf("u%d*", i%10)}},
		}
	}
	set, err := policies.Compile(all)
	if err != nil {
		t.Fatal(err)
	}
	rules := set.Matching(&policies.Facts{User: "u7/ann", Type: "INPUT"})
	if len(rules) != policies.MaxPolicies/10 {
		t.Fatalf("%d rules match", len(rules))
	}
	if !slices.IsSortedFunc(rules, func(a, b *policies.Rule) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("they are not asked in their order")
	}
	if _, err := policies.Compile(make([]policies.Policy, 10_000)); err == nil ||
		!strings.Contains(err.Error(), "10000 policies are more than 1000") {
		t.Errorf("10,000 policies: %v", err)
	}
}

func hundred() []policies.Policy {
	all := make([]policies.Policy, 100)
	for i := range all {
		all[i] = policies.Policy{
			Name: fmt.Sprintf("p%d", i), Enabled: true, Priority: 100, Effect: policies.Deny,
			Match: policies.Match{
				Types: []string{"TOOL_CALL"}, Tools: []string{fmt.Sprintf("tool_%d_*", i), fmt.Sprintf("other_%d", i)},
				Users: []string{fmt.Sprintf("customer-%d/*", i%7)}, Tags: map[string]string{"agent": fmt.Sprintf("a%d", i)},
			},
		}
	}
	return all
}

func TestMatchingNoneAllocatesNothing(t *testing.T) {
	set, err := policies.Compile(hundred())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*policies.Facts{
		{Type: "TOOL_CALL", Tool: "tool_3_x", User: "customer-4/ann", Tags: map[string]string{"agent": "a3"}},
		{Type: "MODEL_CALL", Model: "gpt-4o", User: "customer-4/ann"},
		{Start: true, User: "customer-4/ann"},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if rules := set.Matching(f); rules != nil {
				t.Errorf("%d rules match", len(rules))
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// A set made from another one asks the same.
func TestAChangedSetKeepsNothingOfTheOldOne(t *testing.T) {
	p := policies.Policy{Name: "a", Enabled: true, Effect: policies.Deny, When: `user == "x"`}
	first, err := policies.Compile([]policies.Policy{p})
	if err != nil {
		t.Fatal(err)
	}
	q := p
	q.When, q.Priority = `user == "y"`, 7
	second, err := first.With([]policies.Policy{q, {Name: "b", Enabled: true, Effect: policies.Log, When: p.When}})
	if err != nil {
		t.Fatal(err)
	}
	f := &policies.Facts{Type: "INPUT", User: "x"}
	for i, want := range []string{"a true", "b true", "a false"} {
		r := append(first.Matching(f), second.Matching(f)...)[i]
		holds, err := r.Holds(t.Context(), f)
		if got := fmt.Sprint(r.Name, " ", holds); err != nil || got != want {
			t.Errorf("rule %d: got %s, %v, want %s", i, got, err, want)
		}
	}
}

func BenchmarkMatching100None(b *testing.B) {
	set, err := policies.Compile(hundred())
	if err != nil {
		b.Fatal(err)
	}
	f := &policies.Facts{Type: "TOOL_CALL", Tool: "tool_3_x", User: "customer-4/ann", Tags: map[string]string{"agent": "a3"}}
	b.ReportAllocs()
	for b.Loop() {
		if set.Matching(f) != nil {
			b.Fatal("one matches")
		}
	}
}
