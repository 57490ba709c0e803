package policyfile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/policies/policyfile"
)

const example = `policies:
  - name: large-refund
    description: A refund above $100 needs a person
    match:
      types: [TOOL_CALL]
      tools: [refund*]
      tags:
        agent: billing
    when: usd(input.amount) > usd(100)
    effect: review
    message: Ask somebody
    review:
      expires_seconds: 60
      approvals: 1
      on_expiry: deny
  - name: week
    enabled: false
    priority: 7
    limit:
      measure: usd
      per: tag:agent
      window: week
      amount: 20.000000001
      rolling: true
    effect: deny
`

func TestAFileIsReadAndWrittenTheSame(t *testing.T) {
	all, err := policyfile.Read([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[1].Limit.Amount != 20_000_000_001 || all[0].Review.ExpiresSeconds != 60 || all[1].Enabled {
		t.Errorf("read %+v", all)
	}
	text, err := policyfile.Write(all)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example, string(text)); diff != "" {
		t.Errorf("-file +written\n%s", diff)
	}
	none, err := policyfile.Write(nil)
	if err != nil || string(none) != "policies: []\n" {
		t.Errorf("no policies are %q, %v", none, err)
	}
	if all, err := policyfile.Read(none); err != nil || len(all) != 0 {
		t.Errorf("no policies are read as %v, %v", all, err)
	}
}

// Texts that YAML could take for something else come back as they were.
func TestWhateverAPolicySaysComesBack(t *testing.T) {
	anyText := rapid.OneOf(
		rapid.SampledFrom([]string{"yes", "no", "null", "~", "1.5", "0x10", "on", "- a", "a: b", "# no comment", "'", `"`, "*", "&a", "!!int"}),
		rapid.StringOfN(rapid.RuneFrom([]rune("aé: #-\n\t'\"{}[]*&!|>%@`\u2028😀")), 1, 20, -1),
	)
	rapid.Check(t, func(t *rapid.T) {
		p := policies.Policy{
			Name: "x", Enabled: rapid.Bool().Draw(t, "enabled"), Priority: rapid.Int64Range(0, 200).Draw(t, "priority"),
			Effect: policies.Deny, Description: anyText.Draw(t, "description"), Message: anyText.Draw(t, "message"),
			Match: policies.Match{Users: []string{"true", "1", strings.TrimSpace("u " + strings.Map(printable, anyText.Draw(t, "user")))}},
		}
		text, err := policyfile.Write([]policies.Policy{p})
		if err != nil {
			t.Fatal(err)
		}
		got, err := policyfile.Read(text)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if diff := cmp.Diff([]policies.Policy{p}, got); diff != "" {
			t.Errorf("%s\n-policy +read\n%s", text, diff)
		}
	})
}

func printable(r rune) rune {
	if r == '*' || r < ' ' {
		return -1
	}
	return r
}

func TestAFileSaysWhereItIsWrong(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "must be an object with `policies:`, a list"},
		{"- a\n", "must be an object with `policies:`, a list"},
		{"policies: 1\n", "must be an object with `policies:`, a list"},
		{"policys:\n  - name: a\n", "line 1: the file must be an object with `policies:`, a list, and nothing else"},
		{"policies: []\nmore: 1\n", "line 2: the file must be"},
		{"policies:\n  - {name: a, effect: deny\n", "line 1: did not find expected"},
		{"policies:\n  - name: a\n    effect: allow\n", "line 3: effect: must be deny, review or log"},
		{"policies:\n  - name: a\n", "line 2: effect: is missing"},
		{"policies:\n  - effect: deny\n", "line 2: name: a policy needs a name"},
		{"policies:\n  - name: a\n    effect: deny\n    limit:\n      measure: usd\n      per: user\n      window: day\n" +
			"      amount: -1\n", "line 8: limit.amount: must be 0 or more"},
		{"policies:\n  - name: a\n    effect: deny\n    match:\n      tools:\n        - a\n        - ''\n",
			"line 7: match.tools.1: must have at least 1 character"},
		{"policies:\n  - name: a\n    effect: deny\n    when: run.spent_usd > 1\n", "line 4: when: column 15: "},
		{"policies:\n  - name: a\n    effect: deny\n    effekt: deny\n", "line 4: effekt: is no field of a policy"},
		{"policies:\n  - name: a\n    effect: deny\n    effect: log\n", "effect"},
		{"policies:\n  - name: a\n    effect: deny\n  - name: a\n    effect: log\n", "line 4: a is on line 2 already"},
		{"policies:\n  - &a\n    name: a\n    effect: deny\n  - *a\n", "line 2: write it out: anchors and aliases"},
		{"policies:\n  - name: a\n    effect: deny\n    priority: .inf\n", "line 4: priority: must be a whole number"},
		{"policies:\n  - name: a\n    effect: deny\n    ? [a]\n    : b\n", "line 4: a key must be a text"},
		{"policies:\n  - " + strings.Repeat("[", 30) + strings.Repeat("]", 30), "line 2: nested too deeply"},
		{"policies:\n  - name: a\n    effect: deny\n  - 7\n", "line 4: must be an object"},
	} {
		_, err := policyfile.Read([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestWhatHasChanged(t *testing.T) {
	all, err := policyfile.Read([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	before, after := all[1], all[1]
	limit := *before.Limit
	limit.Amount, limit.Window = 21_000_000_000, policies.WindowDay
	after.Limit, after.Message, after.Match.Tools = &limit, "Stop", []string{"a"}
	want := []policyfile.Change{
		{Field: "limit.window", Before: `"week"`, After: `"day"`},
		{Field: "limit.amount", Before: "20.000000001", After: "21"},
		{Field: "match.tools", After: `["a"]`},
		{Field: "message", After: `"Stop"`},
	}
	if diff := cmp.Diff(want, policyfile.Changes(before, after)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if changes := policyfile.Changes(before, before); len(changes) != 0 || !policyfile.Same(before, before) ||
		policyfile.Same(before, after) {
		t.Errorf("the same has %v", changes)
	}
}
