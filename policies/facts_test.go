package policies_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pikarc/server/policies"
	"pgregory.net/rapid"
)

func TestTagsOfARun(t *testing.T) {
	long := strings.Repeat("é", 101)
	for _, c := range []struct {
		metadata string
		want     map[string]string
		defects  []string
	}{
		{``, nil, nil},
		{`null`, nil, nil},
		{`[1]`, nil, nil},
		{`{}`, nil, nil},
		{`{"agent": "billing", "team": "x"}`, map[string]string{"agent": "billing"}, nil},
		{`{"agent": 7}`, nil, []string{"tags.agent: is no text"}},
		{`{"tags": {"team": "x"}, "agent": "billing"}`, map[string]string{"team": "x"}, nil},
		{`{"tags": null, "agent": "billing"}`, map[string]string{"agent": "billing"}, nil},
		{`{"tags": {}, "agent": "billing"}`, nil, nil},
		{`{"tags": ["a"]}`, nil, []string{"tags: is no object of texts, so there are none"}},
		{`{"tags": {"a": 1, "b": null, "c": "d", "": "e"}}`, map[string]string{"c": "d"},
			[]string{"tags: a key is empty", "tags.a: is no text", "tags.b: is no text"}},
		{`{"tags": {"a": "` + long + `"}}`, map[string]string{"a": strings.Repeat("é", 100)},
			[]string{"tags.a: was cut to 100 characters"}},
		{`{"tags": {"` + long + `": "v"}}`, map[string]string{strings.Repeat("é", 40): "v"},
			[]string{"tags." + strings.Repeat("é", 40) + ": the key was cut to 40 characters"}},
		{`{"tags": {"` + long + `": "v", "` + long + `é": "w"}}`, map[string]string{strings.Repeat("é", 40): "v"},
			[]string{"tags." + strings.Repeat("é", 40) + ": the key was cut to 40 characters",
				"tags." + strings.Repeat("é", 40) + ": another key is the same once cut"}},
		{`{"tags": {"a": "x\u0000y"}}`, map[string]string{"a": "x\uFFFDy"}, []string{"tags.a: an invisible character was replaced"}},
	} {
		got, defects := policies.TagsOf([]byte(c.metadata))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%.60s: -want +got\n%s", c.metadata, diff)
		}
		if diff := cmp.Diff(c.defects, defects); diff != "" {
			t.Errorf("%.60s: -want +got\n%s", c.metadata, diff)
		}
	}
}

func TestElevenTagsAreTen(t *testing.T) {
	var pairs []string
	for i := range 11 {
		pairs = append(pairs, fmt.Sprintf(`"k%02d": "v"`, i))
	}
	tags, defects := policies.TagsOf([]byte(`{"tags": {` + strings.Join(pairs, ",") + `}}`))
	if len(tags) != 10 || tags["k10"] != "" {
		t.Errorf("kept %v", tags)
	}
	if diff := cmp.Diff([]string{"tags.k10: left out, 10 are the most"}, defects); diff != "" {
		t.Error(diff)
	}
}

func TestRepeats(t *testing.T) {
	for _, c := range []struct {
		history, next string
		want          int64
	}{
		{"", "a", 1},
		{"a", "a", 2},
		{"b", "a", 1},
		{"ba", "a", 2},
		{"aaaa", "a", 5},
		{"aaab", "a", 2},
		{"ab", "a", 2},
		{"abab", "a", 3},
		{"xabab", "a", 3},
		{"aba", "b", 2},
		{"abcab", "c", 1}, // longer cycles are not looked for
		{"abaab", "a", 2},
		{strings.Repeat("a", 40), "a", 17},
		{strings.Repeat("ab", 20), "a", 9},
	} {
		history := make([]uint64, len(c.history))
		for i := range history {
			history[i] = uint64(c.history[i])
		}
		if got := policies.Repeats(history, uint64(c.next[0])); got != c.want {
			t.Errorf("%s then %s: got %d, want %d", c.history, c.next, got, c.want)
		}
	}
}

// slowRepeats writes out what a row of n would look like, and compares.
func slowRepeats(history []uint64, next uint64) int64 {
	if len(history) > 16 {
		history = history[len(history)-16:]
	}
	all := append(append([]uint64(nil), history...), next)
	longest := int64(1)
	for period := 1; period <= 2; period++ {
		for n := 2; (n-1)*period+1 <= len(all); n++ {
			tail := all[len(all)-((n-1)*period+1):]
			same := true
			for i := range tail {
				same = same && tail[i] == tail[i%period]
			}
			if same {
				longest = max(longest, int64(n))
			}
		}
	}
	return longest
}

func TestRepeatsAreThoseOfASlowLook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := rapid.SliceOfN(rapid.Uint64Range(1, 3), 0, 24).Draw(t, "history")
		next := rapid.Uint64Range(1, 3).Draw(t, "next")
		if got, want := policies.Repeats(history, next), slowRepeats(history, next); got != want {
			t.Errorf("%v then %d: got %d, want %d", history, next, got, want)
		}
	})
}

func TestScopes(t *testing.T) {
	f := someFacts()
	f.Model = "gpt"
	for per, want := range map[string]string{
		"workspace": "", "user": "acme/ann", "run": "r1", "tool": "refund_order", "model": "gpt",
		"tag:agent": "billing", "tag:team": "",
	} {
		l := policies.Limit{Per: per}
		if got := l.Scope(f); got != want {
			t.Errorf("%s: got %q, want %q", per, got, want)
		}
	}
}
