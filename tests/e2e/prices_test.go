package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

const ownCatalogue = "version ours 1\nprovider house\tHouse\nmodel-a\tin=2 out=8\n"

// An operator's catalogue is first shown, refused (naming its line or model) if it is wrong, and
// then used.
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
		"": "not a catalogue", "version ours 1\n": "not a catalogue",
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

// Re-pricing may be killed at any moment: the counters still match the ledger, and calling it again
// does the rest.
func TestAKilledRepricingIsContinued(t *testing.T) {
	t.Parallel()
	const callers, steps = 8, 250
	dir, random := t.TempDir(), seededRandom(t)
	user := createUser(t, dir, "ann@example.com", "enterprise")
	p := serve(t, dir)
	token := p.signIn(t, "ann@example.com")
	p.call(t, "PATCH", "/v1/workspace/", token, map[string]any{"max_concurrent_runs": callers}).want(t, http.StatusOK)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	var group errgroup.Group
	for range callers {
		group.Go(func() error {
			ask := func(method, path string, body any) (id string, err error) {
				a, err := send(t.Context(), client, method, p.url+path, user.APIKey, body)
				if err != nil || a.status >= 300 {
					return "", fmt.Errorf("%s %s: %d %s, %w", method, path, a.status, a.body, err)
				}
				var made struct{ ID string }
				return made.ID, json.Unmarshal(a.body, &made)
			}
			run, err := ask("POST", "/v1/runs/", map[string]string{"user_id": "u"})
			for n := 1; n <= steps && err == nil; n++ {
				var step string
				if step, err = ask("POST", "/v1/runs/"+run+"/steps", map[string]any{"type": "MODEL_CALL", "sequence": n, "model": "late"}); err == nil {
					_, err = ask("PATCH", "/v1/runs/"+run+"/steps/"+step, map[string]any{"prompt_tokens": 100, "completion_tokens": n})
				}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	p.call(t, "PUT", "/v1/model-pricing/late", token, map[string]any{"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}).want(t, http.StatusOK)
	p.stop(t)

	reprice := func(args ...string) (r struct {
		Steps      int64
		Difference json.Number `json:"difference_usd"`
	}) {
		t.Helper()
		out := run(t, append([]string{"prices", "reprice", "--data-dir", dir, "--email", "ann@example.com", "--json"}, args...)...).ok(t)
		answer{body: []byte(out.stdout)}.into(t, &r)
		return r
	}
	whole := reprice("--dry-run")
	if whole.Steps != callers*steps || whole.Difference != "0.702" { // 8 × (250 × 100 × 1 + 2 × 31,375) of a million
		t.Fatalf("a dry run: %+v", whole)
	}
	left := whole.Steps
	for killed := 0; killed < 20 && left > 0; killed++ {
		ctx, kill := context.WithCancel(t.Context())
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(150*time.Millisecond))), kill)
		_, _ = invocation{args: []string{"prices", "reprice", "--data-dir", dir, "--email", "ann@example.com"}}.try(ctx)
		timer.Stop()
		kill()
		run(t, "verify", "--data-dir", dir).ok(t)
		now := reprice("--dry-run").Steps
		if now > left {
			t.Fatalf("%d steps are left, after %d", now, left)
		}
		left = now
		t.Logf("%d steps are left", left)
	}
	if rest := reprice(); rest.Steps != left {
		t.Errorf("%d steps were left, and %d were priced", left, rest.Steps)
	}
	if again := reprice("--all"); again.Steps != 0 {
		t.Errorf("%d steps were priced twice", again.Steps)
	}
	run(t, "verify", "--data-dir", dir).ok(t)
	var u struct {
		Today struct {
			Total    json.Number `json:"total_usd"`
			Unpriced int64       `json:"unpriced_tokens"`
		}
	}
	p = serve(t, dir)
	p.call(t, "GET", "/v1/usage/", user.APIKey, nil).into(t, &u)
	p.stop(t)
	if u.Today.Total != whole.Difference || u.Today.Unpriced != 0 {
		t.Errorf("usage: %+v", u)
	}
}
