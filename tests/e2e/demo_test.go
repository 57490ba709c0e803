package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// startDemo starts a demo, and returns it with the account that it prints.
func startDemo(t *testing.T, settings []string, args ...string) (p *process, email, password, key string) {
	t.Helper()
	p = spawn(t, settings, append([]string{"demo", "--addr", "127.0.0.1:0"}, args...)...)
	says := regexp.MustCompile(`(?m)^Pikarc \S+ serves a demo: (http://\S+)/\nEmail +(\S+)\nPassword +(\S+)\nAPI key +(lg_\S+)\n`)
	p.await(t, "says where it serves", func() bool {
		found := says.FindStringSubmatch(p.stdout.String())
		if found != nil {
			p.url, email, password, key = found[1], found[2], found[3], found[4]
		}
		return found != nil
	})
	return p, email, password, key
}

// workspaceUsage is what the test reads of GET /v1/usage/.
type workspaceUsage struct {
	Last30Days struct {
		Runs int64 `json:"run_count"`
	} `json:"last_30_days"`
	ByReason []struct{ Reason string } `json:"by_reason"`
}

func TestDemoIsALivingWorkspaceThatLeavesNothing(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	p, email, password, key := startDemo(t, []string{"TMPDIR=" + temp})
	var session struct {
		AccessToken string `json:"access_token"`
	}
	p.call(t, "POST", "/v1/auth/login", "", map[string]string{"email": email, "password": password}).want(t, http.StatusOK).into(t, &session)
	usage := func() (u workspaceUsage) {
		p.call(t, "GET", "/v1/usage/", session.AccessToken, nil).want(t, http.StatusOK).into(t, &u)
		return u
	}
	before := usage()
	if len(before.ByReason) != 7 || before.Last30Days.Runs < 1000 {
		t.Errorf("the history has %d runs, denied for %v", before.Last30Days.Runs, before.ByReason)
	}
	p.call(t, "GET", "/v1/workspace/", key, nil).want(t, http.StatusOK)
	// A budget may be used up at this hour, so that agents are denied: either way they ask.
	p.call(t, "PATCH", "/v1/workspace/", session.AccessToken, map[string]any{"daily_budget_usd": nil, "user_daily_budget_usd": nil}).want(t, http.StatusOK)
	p.await(t, "has an agent at work", func() bool { return usage().Last30Days.Runs > before.Last30Days.Runs })
	p.signal(t, syscall.SIGINT)
	if state := p.exit(t); state.ExitCode() != 0 {
		t.Errorf("%v after SIGINT\nstderr: %s", state, &p.stderr)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDemoKeepsADirectoryThatItWasGivenAndFillsNoOther(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p, _, _, key := startDemo(t, nil, "--data-dir", dir, "--seed", "3")
	p.stop(t)
	balanced(t, dir)
	run(t, "demo", "--addr", "127.0.0.1:0", "--data-dir", dir).fails(t, 1, dir, "holds a database already")
	invocation{args: []string{"demo", "--addr", "127.0.0.1:0"}, settings: []string{"PIKARC_DATA_DIR=" + dir}}.run(t).fails(t, 1, "holds a database already")
	again := serve(t, dir) // what the demo made is an ordinary data directory
	again.call(t, "GET", "/v1/runs/?limit=1", key, nil).want(t, http.StatusOK)
	again.stop(t)
}

func TestDemoInterruptedWhileItFillsLeavesNothing(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	p := spawn(t, []string{"TMPDIR=" + temp}, "demo", "--addr", "127.0.0.1:0")
	p.await(t, "makes its directory", func() bool {
		made, err := filepath.Glob(filepath.Join(temp, "pikarc-demo-*", "pikarc.db"))
		return err == nil && len(made) > 0
	})
	p.signal(t, syscall.SIGTERM)
	if state := p.exit(t); state.ExitCode() != 0 {
		t.Errorf("%v after SIGTERM\nstdout: %s\nstderr: %s", state, &p.stdout, &p.stderr)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if strings.Contains(p.stderr.String(), "Error") {
		t.Errorf("stderr: %s", &p.stderr)
	}
}
