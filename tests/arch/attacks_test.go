package arch_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestTheAttackListNamesTestsThatExist keeps docs/security.md true.
func TestTheAttackListNamesTestsThatExist(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	exist := make(map[string]bool)
	for _, file := range goFiles(t) {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(source, -1) {
			exist[string(found[1])] = true
		}
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| attack") {
			continue
		}
		rows++
		named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("no test proves this: %s", line)
		}
		for _, name := range named {
			if !exist[name[1]] {
				t.Errorf("there is no test %s: %s", name[1], line)
			}
		}
	}
	if rows < 16 {
		t.Errorf("the list has %d attacks, want 16 at least", rows)
	}
}

// callsOut are the files that make requests of their own, and to whom. None of
// them goes where a caller says, but to endpoints, which are on public addresses.
func callsOut() map[string]string {
	return map[string]string{
		"cli/health.go":            "the server on this machine, for the operator",
		"ask/ask.go":               "the server that the agent's owner names",
		"mcp/stdio.go":             "the MCP server's command, named by who guards it",
		"mcp/http.go":              "the MCP server, named by who guards it",
		"hook/doctor.go":           "the hook in the user's own settings, for the user",
		"server/tls.go":            "the certificate authority, named by the operator",
		"server/notify/dial.go":    "public addresses alone, checked when they are dialled",
		"server/notify/sender.go":  "the same, by that client",
		"server/billing/stripe.go": "Stripe, or the stand-in that the operator names",
		"server/telemetry/otlp.go": "the operator's OpenTelemetry collector",
		"demo/agents.go":           "the demo's own server",
	}
}

// Whoever cannot make the server fetch something cannot make it reach what only it can reach.
func TestNothingThatACallerSendsIsFetched(t *testing.T) {
	fetches := regexp.MustCompile(`\bhttp\.(Get|Post|PostForm|Head|DefaultClient|DefaultTransport|Client|Transport|NewRequest\w*)\b|\bnet\.(Dial\w*|Lookup\w*|Resolver)\b|\btls\.Dial\w*|\bexec\.`)
	for _, p := range packages(t) {
		for _, file := range p.sources() {
			name := relative(t, file)
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found := fetches.Find(source)
			if _, known := callsOut()[filepath.ToSlash(name)]; known || found == nil {
				continue
			}
			t.Errorf("%s uses %s: if it goes where no caller can send it, say so in callsOut", name, found)
		}
	}
}

// A secret must come from the system, never from a generator that can be foretold.
func TestOnlyIdsComeFromThePredictableGenerator(t *testing.T) {
	allowed := []string{
		"server/call.go", "storage/values.go", // ids of requests and rows, which prove nothing
		"server/notify/sender.go",                                             // when to try again
		"demo/agents.go", "demo/demo.go", "demo/history.go", "demo/script.go", // what is made up
	}
	for _, p := range packages(t) {
		for _, file := range p.sources() {
			name := filepath.ToSlash(relative(t, file))
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range parsed.Imports {
				if path, _ := strconv.Unquote(spec.Path.Value); strings.HasPrefix(path, "math/rand") && !slices.Contains(allowed, name) {
					t.Errorf("%s uses %s", name, path)
				}
			}
		}
	}
}
