package prices_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/prices"
)

func published(t testing.TB) *prices.Catalogue {
	t.Helper()
	c, err := prices.ParseCatalogue(embed.Catalogue())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNamesFindTheirOwnEntryOrNone(t *testing.T) {
	c := published(t)
	for name, want := range map[string]string{
		"gpt-4o":                     "openai/gpt-4o",
		"gpt-4o-2024-08-06":          "openai/gpt-4o",
		"gpt-4o-2024-05-13":          "openai/gpt-4o-2024-05-13", // was dearer
		"openai/gpt-4o":              "openai/gpt-4o",            // the provider's own, not a gateway's
		"openrouter/openai/gpt-4o":   "openrouter/openai/gpt-4o",
		"azure/gpt-4o":               "openai/gpt-4o", // Azure sells it at OpenAI's price
		"azure/claude-sonnet-4-5":    "anthropic/claude-sonnet-4-5",
		"GPT-4o":                     "openai/gpt-4o",
		"gpt-4o ":                    "openai/gpt-4o",
		"gpt-4o-mini":                "openai/gpt-4o-mini",
		"gpt-4":                      "openai/gpt-4",
		"claude-sonnet-4-5@20250929": "anthropic/claude-sonnet-4-5",
		"claude-sonnet-4-5-20250929": "anthropic/claude-sonnet-4-5",
		"claude-opus-4-20250514":     "anthropic/claude-opus-4-0",
		"us.anthropic.claude-sonnet-4-5-20250929-v1:0":    "aws/regional.anthropic.claude-sonnet-4-5-20250929-v1:0",
		"us.anthropic.claude-3-5-haiku-20241022-v1:0":     "aws/regional.anthropic.claude-3-5-haiku-20241022-v1:0",
		"global.anthropic.claude-haiku-4-5-20251001-v1:0": "aws/global.anthropic.claude-haiku-4-5-20251001-v1:0",
		"bedrock/us.anthropic.claude-opus-4-5-v1:0":       "aws/regional.anthropic.claude-opus-4-5-v1:0",
		"models/gemini-2.5-flash":                         "google/gemini-2.5-flash",
		"gemini/gemini-2.5-flash":                         "google/gemini-2.5-flash",
		"vertex_ai/claude-sonnet-4-5@20250929":            "google/claude-sonnet-4-5",
		"xai/grok-4.5":                                    "x-ai/grok-4.5",

		"gpt-4o-2024-08-07":      "", // no such snapshot
		"gpt-4o-20240806":        "",
		"gpt-40":                 "",
		"gpt-4oo":                "",
		"gpt-4o-mini-2":          "",
		"claude-sonnet-4-55":     "",
		"claude-sonnet-4-5-pro":  "",
		"gemini-2.5-flash-x":     "",
		"acme/gpt-4o":            "",
		"":                       "",
		"/":                      "",
		"openai/":                "",
		strings.Repeat("a", 300): "",
	} {
		got := ""
		if m, ok := c.Find(name); ok {
			got = m.Provider.ID + "/" + m.ID
		}
		if got != want {
			t.Errorf("%q finds %q, want %q", name, got, want)
		}
	}
}

// claims is the rule once more, slowly: which texts an entry of the catalogue is for.
func claims(t testing.TB) map[string][]*regexp.Regexp {
	t.Helper()
	forms := map[string]string{
		"-#": `-20\d\d[01]\d\d\d`, "@#": `@20\d\d[01]\d\d\d`, "-##": `-20\d\d-[01]\d-\d\d`, "-0": `-0\d\d`,
		"*": `((-latest)|([-@]20\d\d[01]\d\d\d)|(-20\d\d-[01]\d-\d\d)|(-0\d\d)|(:\d{1,3})|(-v\d{1,3}))+`,
	}
	const before = `((models|publishers/(google|anthropic)/models)/)?`
	const bedrock = `((us|eu|apac|au|jp|in|ca|us-gov)\.)?(anthropic\.)?`
	rules := make(map[string][]*regexp.Regexp)
	provider, names := "", ""
	for line := range strings.Lines(embed.Catalogue()) {
		if rest, ok := strings.CutPrefix(line, "provider "); ok {
			provider, _, _ = strings.Cut(rest, "\t")
			continue
		}
		var ok bool
		if names, _, ok = strings.Cut(line, "\t"); !ok {
			continue
		}
		id := ""
		for name := range strings.FieldsSeq(names) {
			bare := strings.TrimPrefix(name, "/")
			if id == "" {
				id = provider + "/" + bare
			}
			end := "(:.*)?" // a fine-tuned model says whose it is
			if !strings.HasPrefix(bare, "ft:") {
				end = ""
			}
			for form, text := range forms {
				if base, ok := strings.CutSuffix(bare, form); ok && (form != "-#" || !strings.HasSuffix(base, "-#")) {
					rules[id] = append(rules[id], regexp.MustCompile(`^([^/]+/)?`+before+bedrock+regexp.QuoteMeta(base)+text+end+`$`))
				}
			}
			text := `([^/]+/)?` + before + bedrock + regexp.QuoteMeta(bare) + end
			rules[id] = append(rules[id], regexp.MustCompile("^"+text+"$"))
		}
	}
	return rules
}

// An edit of a name by one character must not reach an entry that does not claim it.
func FuzzANameReachesOnlyWhatClaimsIt(f *testing.F) {
	c, rules := published(f), claims(f)
	models := c.Models()
	f.Add(uint(0), uint(3), byte('x'), byte(0))
	f.Fuzz(func(t *testing.T, which, where uint, what, how byte) {
		m := models[which%uint(len(models))]
		name := m.Provider.ID + "/" + m.ID
		if len(m.Names) > 0 {
			name = m.Names[where%uint(len(m.Names))]
		}
		i := int(where % uint(len(name)))
		switch how % 3 {
		case 0:
			name = name[:i] + string(rune(what)) + name[i:]
		case 1:
			name = name[:i] + name[i+1:]
		case 2:
			name = name[:i] + string(rune(what)) + name[i+1:]
		}
		checkClaimed(t, c, rules, name)
	})
}

func checkClaimed(t *testing.T, c *prices.Catalogue, rules map[string][]*regexp.Regexp, name string) {
	t.Helper()
	found, ok := c.Find(name)
	if !ok {
		return
	}
	folded := strings.ToLower(strings.TrimSpace(name))
	for _, rule := range rules[found.Provider.ID+"/"+found.ID] {
		if rule.MatchString(folded) {
			return
		}
	}
	t.Errorf("%q finds %s/%s, which does not claim it", name, found.Provider.ID, found.ID)
}

func TestEveryNameOfTheCatalogueIsFound(t *testing.T) {
	c, rules := published(t), claims(t)
	for _, m := range c.Models() {
		if _, ok := c.Find(m.Provider.ID + "/" + m.ID); !ok {
			t.Errorf("%s/%s is not found", m.Provider.ID, m.ID)
		}
		for _, name := range m.Names {
			checkClaimed(t, c, rules, name)
			for _, edit := range []string{"-", "1", "-mini", "-2", "x", "@", ":"} {
				checkClaimed(t, c, rules, name+edit)
				checkClaimed(t, c, rules, edit+name)
			}
		}
	}
}

func BenchmarkFind(b *testing.B) {
	c := published(b)
	for _, name := range []string{"gpt-4o", "claude-sonnet-4-5-20250929", "us.anthropic.claude-3-5-haiku-20241022-v1:0", "none-such"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Find(name)
			}
		})
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	c := published(t)
	for _, name := range []string{"gpt-4o", "GPT-4o ", "claude-sonnet-4-5-20250929", "azure/gpt-4o", "none-such"} {
		if n := testing.AllocsPerRun(100, func() { c.Find(name) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestDatedPricesChangeAtTheirInstant(t *testing.T) {
	c, err := prices.ParseCatalogue("version test 1\n" +
		"provider p\tP\n" +
		"m\tin=1 out=2; 2026-08-17 in=3 out=4; 01:00-04:00 in=5 out=6; @batch 2026-10-14 in=0.5\n" +
		"night\tin=1 out=1; 22:00-02:00 in=2 out=2\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ model, at, tier, want string }{
		{"m", "2026-08-16T23:59:59.999Z", "", "in=1 out=2"},
		{"m", "2026-08-17T00:00:00Z", "", "in=3 out=4"},
		{"m", "2026-08-17T00:59:59.999Z", "", "in=3 out=4"},
		{"m", "2026-08-17T01:00:00Z", "", "in=5 out=6"},
		{"m", "2026-08-17T03:59:59.999Z", "", "in=5 out=6"},
		{"m", "2026-08-17T04:00:00Z", "", "in=3 out=4"},
		{"m", "2026-08-17T06:00:00+02:00", "", "in=3 out=4"},
		{"m", "2026-10-13T23:59:59Z", "batch", "in=3 out=4"},
		{"m", "2026-10-14T00:00:00Z", "batch", "in=0.5 out=4"},
		{"m", "2026-10-14T00:00:00Z", "flex", "in=3 out=4"},
		{"night", "2026-01-01T21:59:59Z", "", "in=1 out=1"},
		{"night", "2026-01-01T22:00:00Z", "", "in=2 out=2"},
		{"night", "2026-01-01T01:59:59Z", "", "in=2 out=2"},
		{"night", "2026-01-01T02:00:00Z", "", "in=1 out=1"},
	} {
		at, err := time.Parse(time.RFC3339Nano, tc.at)
		if err != nil {
			t.Fatal(err)
		}
		m, ok := c.Find(tc.model)
		if !ok {
			t.Fatalf("%s is not found", tc.model)
		}
		if got := m.Rates(at, tc.tier).String(); got != tc.want {
			t.Errorf("%s at %s %s: %s, want %s", tc.model, tc.at, tc.tier, got, tc.want)
		}
	}
	m, _ := c.Find("m")
	if next, ok := m.NextChange(time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)); !ok || next.Format(time.RFC3339) != "2026-08-02T01:00:00Z" {
		t.Errorf("the next change is at %s, %v", next, ok)
	}
	if from, ok := m.EffectiveFrom(time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)); !ok || from.Format(time.DateOnly) != "2026-08-17" {
		t.Errorf("in force from %s, %v", from, ok)
	}
}

func TestABrokenCatalogueIsRefusedByLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                                                 "no catalogue",
		"version x\n":                                      "no catalogue",
		"provider p\tP\nm\tin=1\n":                         "no catalogue",
		"version x\nm\tin=1\n":                             "line 2",
		"version x\nprovider p\tP\nm\tin=-1\n":             "line 3",
		"version x\nprovider p\tP\nm\tin=1e9\n":            "line 3",
		"version x\nprovider p\tP\nm\tout=x\n":             "line 3",
		"version x\nprovider p\tP\nm\tthe=1\n":             "line 3",
		"version x\nprovider p\tP\nm in=1\n":               "line 3",
		"version x\nprovider p\tP\nm\t@b in=1\n":           "line 3",
		"version x\nprovider p\tP\nm\t13-1 in=1\n":         "line 3",
		"version x\nprovider p\tP\nprovider p\tP\n":        "line 3",
		"version x\nprovider p\tP\nm\tin=99999999999999\n": "line 3",
	} {
		if _, err := prices.ParseCatalogue(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// The binary must not grow by more than 200 KiB for it.
func TestTheCatalogueStaysSmall(t *testing.T) {
	if size := len(embed.Catalogue()); size > 200<<10 {
		t.Errorf("%d bytes", size)
	}
}
