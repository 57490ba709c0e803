package policyfile_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/policies/policyfile"
)

// The page for operators has no example that does not work.
func TestEveryExampleOfTheDocumentationWorks(t *testing.T) {
	page, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := make(map[string][]string)
	for _, found := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```").FindAllSubmatch(page, -1) {
		blocks[string(found[1])] = append(blocks[string(found[1])], string(found[2]))
	}
	if len(blocks["yaml"]) < 3 || len(blocks["cel"]) != 1 || len(blocks["json"]) != 1 {
		t.Fatalf("the page has %v", blocks)
	}
	for _, text := range blocks["yaml"] {
		if all, err := policyfile.Read([]byte(text)); err != nil || len(all) == 0 {
			t.Errorf("%s\n%v", text, err)
		}
	}
	input := regexp.MustCompile("(?s)with the `input`\\s+`(.*?)`").FindSubmatch(page)
	if input == nil {
		t.Fatal("the page says no input")
	}
	facts := &policies.Facts{
		Type: "TOOL_CALL", Tags: map[string]string{"agent": "billing"}, Input: input[1], Spent: 1_000_000_000,
		StartedAt: time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC), Now: time.Date(2026, 11, 30, 9, 30, 0, 0, time.UTC),
	}
	for when := range strings.Lines(blocks["cel"][0]) {
		if holds, err := holds(t, strings.TrimSpace(when), facts); err != nil || !holds {
			t.Errorf("%s: %v, %v", when, holds, err)
		}
	}
	var request struct{ Policies []json.RawMessage }
	if err := json.Unmarshal([]byte(blocks["json"][0]), &request); err != nil {
		t.Fatal(err)
	}
	for _, body := range request.Policies {
		if _, err := policies.Parse("", body); err != nil {
			t.Error(err)
		}
	}
}

func holds(t *testing.T, when string, facts *policies.Facts) (bool, error) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"effect": "deny", "when": when})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policies.Parse("x", body)
	if err != nil {
		return false, err
	}
	set, err := policies.Compile([]policies.Policy{p})
	if err != nil {
		t.Fatal(err)
	}
	return set.Rules()[0].Holds(t.Context(), facts)
}
