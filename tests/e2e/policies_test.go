package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file of policies is shown first, refused with its lines where it is wrong,
// and in force for the next decision of a server that is running.
func TestPoliciesAreKeptInAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := onlyObject(t, invocation{
		args:  []string{"create-user", "--init", "--data-dir", dir, "--email", "ann@example.com", "--password-stdin", "--json"},
		stdin: password,
	}.run(t).ok(t).stdout, "account_id", "email", "workspace_id", "plan", "api_key")["api_key"]
	file := filepath.Join(t.TempDir(), "policies.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	apply := func(args ...string) outcome {
		t.Helper()
		return run(t, append([]string{"policies", "apply", "--data-dir", dir, "--email", "ann@example.com"}, args...)...)
	}
	export := func() string {
		t.Helper()
		return run(t, "policies", "export", "--data-dir", dir, "--email", "ann@example.com").ok(t).stdout
	}
	says := func(o outcome, want ...string) {
		t.Helper()
		for _, text := range want {
			if !strings.Contains(o.ok(t).stdout, text) {
				t.Errorf("%q is not in:\n%s", text, o.stdout)
			}
		}
	}

	if got := export(); got != "policies: []\n" {
		t.Errorf("without policies it exports %q", got)
	}
	ready := run(t, "policies", "export", "--ready").ok(t).stdout
	write(ready)
	says(apply("--dry-run", file), "+ large-refund", "+ runaway-loop", "Nothing was changed")
	apply(file).fails(t, 2, "--yes")
	if got := export(); got != "policies: []\n" {
		t.Errorf("something was applied: %s", got)
	}
	says(apply("--yes", file), "4 saved, 0 deleted")
	says(apply("--yes", file), "Nothing changes.")
	for _, name := range []string{"large-refund", "no-writes-at-night", "run-budget", "runaway-loop"} {
		if !strings.Contains(export(), "name: "+name) {
			t.Errorf("%s is not exported", name)
		}
	}

	write("policies:\n  - name: a\n    effect: deny\n  - name: b\n    effect: deny\n    when: run.spent_usd > 1\n")
	apply("--yes", file).fails(t, 1, "line 6: when: column 15")
	apply("--yes", file+".none").fails(t, 1, "policies.yaml.none")
	run(t, "policies", "apply", "--data-dir", dir, "--yes", file).fails(t, 1, "line 6")
	run(t, "policies", "apply", "--data-dir", dir).fails(t, 2, "arg")

	const blocked = "policies:\n  - name: run-budget\n    match:\n      tools: [deploy]\n    effect: deny\n    message: Not today\n"
	write(blocked)
	p := serve(t, dir)
	defer p.stop(t)
	var started struct{ ID string }
	p.call(t, http.MethodPost, "/v1/runs/", key, map[string]any{"user_id": "u"}).want(t, http.StatusCreated).into(t, &started)
	step := func() string {
		t.Helper()
		body := map[string]any{"type": "TOOL_CALL", "sequence": 1, "tool_name": "deploy"}
		return string(p.call(t, http.MethodPost, "/v1/runs/"+started.ID+"/steps", key, body).body)
	}
	if before := step(); !strings.Contains(before, `"ALLOW"`) {
		t.Errorf("before: %s", before)
	}
	says(apply("--prune", "--yes", file), "~ run-budget", "- large-refund", "1 saved, 3 deleted")
	if after := step(); !strings.Contains(after, `"POLICY_DENIED"`) || !strings.Contains(after, "Not today") {
		t.Errorf("after: %s", after)
	}
	if got := export(); got != blocked {
		t.Errorf("exported:\n%s", got)
	}
}
