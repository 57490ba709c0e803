package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ownCatalogue = "version ours 1\nprovider house\tHouse\nmodel-a\tin=2 out=8\n"

// The catalogue of an operator is shown first, refused with its line or model where it is wrong, and then used.
func TestAnOperatorsCatalogueIsUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := onlyObject(t, invocation{
		args:  []string{"create-user", "--init", "--data-dir", dir, "--email", "ann@example.com", "--password-stdin", "--json"},
		stdin: password,
	}.run(t).ok(t).stdout, "account_id", "email", "workspace_id", "plan", "api_key")["api_key"]
	file := filepath.Join(t.TempDir(), "catalogue.txt")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	update := func(args ...string) outcome {
		return run(t, append([]string{"prices", "update", "--data-dir", dir, "--from", file}, args...)...)
	}
	kept := filepath.Join(dir, "catalogue.txt")

	for text, said := range map[string]string{
		"": "no catalogue", "version ours 1\n": "no catalogue",
		"version ours 1\nprovider house\tHouse\nmodel-a\tin=two\n":                    "line 3",
		"version ours 1\nprovider house\tHouse\nmodel-a\tin=-2 out=8\n":               "line 3",
		"version ours 1\nprovider house\tHouse\nmodel-a\tin=20000 out=8\n":            "house/model-a above $0.01 a token",
		"version genai-prices 0.0.1 00\nprovider house\tHouse\nmodel-a\tin=2 out=8\n": "older",
		"version ours 1\nprovider openai\tOpenAI\ngpt-4o\tin=0 out=8\n":               "openai/gpt-4o fell to zero",
		"version ours 1\nprovider openai\tOpenAI\ngpt-4o\tin=2.5 out=31\n":            "openai/gpt-4o moved more than 3 ×",
		ownCatalogue + strings.Repeat("#", 9<<20):                                     "larger than 8 MiB",
	} {
		write(text)
		update("--yes").fails(t, 1, said)
	}
	run(t, "prices", "update", "--data-dir", dir).fails(t, 2, "--from")
	run(t, "prices", "update", "--data-dir", dir, "--from", file+".none").fails(t, 1, "catalogue.txt.none")
	run(t, "prices", "update", "--data-dir", t.TempDir(), "--from", file).fails(t, 1, "no database")

	write(ownCatalogue)
	shown := update().ok(t).stdout
	if !strings.Contains(shown, "house/model-a") || !strings.Contains(shown, "Nothing was changed") {
		t.Errorf("shown: %.300s", shown)
	}
	if _, err := os.Stat(kept); !os.IsNotExist(err) {
		t.Errorf("something was kept: %v", err)
	}
	update("--yes").ok(t)

	catalogue := func() string {
		t.Helper()
		p := serve(t, dir)
		defer p.stop(t)
		a := p.call(t, http.MethodGet, "/v1/model-pricing/catalogue?limit=1", key, nil)
		return string(a.body)
	}
	if got := catalogue(); !strings.Contains(got, `"version":"ours 1"`) || !strings.Contains(got, "model-a") {
		t.Errorf("the server has %s", got)
	}
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	if got := catalogue(); !strings.Contains(got, `"version":"genai-prices `) {
		t.Errorf("without the file the server has %s", got)
	}
	if err := os.WriteFile(kept, []byte("version ours 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "serve", "--data-dir", dir, "--addr", "127.0.0.1:0").fails(t, 1, "catalogue.txt", "remove it")
}
