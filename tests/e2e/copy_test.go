package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// killAfter starts a command and kills it after it has printed this many lines on stderr. It
// reports whether the command ended by itself first.
func killAfter(t *testing.T, lines int, settings []string, args ...string) (ended bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, pikarc, args...)
	cmd.Env = environment(settings...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(stderr)
	for range lines {
		if !said.Scan() {
			break
		}
	}
	killErr := cmd.Process.Kill()
	if err := errors.Join(said.Err(), cmd.Wait()); err == nil {
		return true
	}
	return errors.Is(killErr, os.ErrProcessDone)
}

// A copy that is killed at any point leaves nothing visible in its target. The next one resumes.
func TestACopyOutlivesKills(t *testing.T) {
	t.Parallel()
	from, back, url := t.TempDir(), filepath.Join(t.TempDir(), "back"), newDatabase(t)
	p, email, demoPassword, key := startDemo(t, []string{sharedSecret}, "--data-dir", from)
	p.kill() // so that the file has a write-ahead log
	settings := []string{sharedSecret}
	accountsThere := func() outcome { return onDatabase(url, "accounts").run(t) }
	accountsBack := func() outcome { return run(t, "accounts", "--data-dir", back) }
	for _, way := range []struct {
		args  []string
		there func() outcome
	}{
		{[]string{"copy", "--from", from, "--to", url}, accountsThere},
		{[]string{"copy", "--from", url, "--to", back}, accountsBack},
	} {
		for lines := 1; ; lines++ {
			if killAfter(t, lines, settings, way.args...) {
				break
			}
			if out := way.there(); out.code == 0 {
				break // it was killed after it had put everything in place
			}
		}
		out := invocation{args: way.args, settings: settings}.run(t)
		if out.code != 0 || !strings.Contains(out.stdout, "nothing to do") {
			t.Fatalf("in the end: %+v", out)
		}
		if strings.Contains(out.stdout+out.stderr, databasePassword) {
			t.Errorf("it tells the password: %+v", out)
		}
		if out := way.there().ok(t); !strings.Contains(out.stdout, email) {
			t.Errorf("the accounts are %s", out.stdout)
		}
	}
	onDatabase(url, "verify").run(t).ok(t)
	run(t, "verify", "--data-dir", back).ok(t)
	for _, served := range []*process{
		serveNode(t, url), serveWith(t, settings, "--addr", "127.0.0.1:0", "--data-dir", back),
	} {
		served.call(t, "GET", "/v1/workspace/", key, nil).want(t, http.StatusOK)
		served.call(t, "POST", "/v1/auth/login", "", map[string]string{"email": email, "password": demoPassword}).want(t, http.StatusOK)
		served.start(t, key, "after the copy")
		served.signal(t, syscall.SIGTERM)
		served.exit(t)
	}
}

func TestACopyIsRefusedInWords(t *testing.T) {
	t.Parallel()
	dir, url := t.TempDir(), newDatabase(t)
	createUser(t, dir, "me@example.com", "basic")
	own := func(args ...string) outcome { return run(t, append([]string{"copy"}, args...)...) }
	own().fails(t, 2, "--from", "--to")
	own("--from", dir, "--to", dir+"2").fails(t, 2, "pikarc backup", "pg_dump")
	own("--from", dir, "--to", "mysql://h/d").fails(t, 1, "begins with postgres://")
	own("--from", dir, "--to", url, "--data-dir", dir).fails(t, 2, "--data-dir", "--from")
	own("--from", dir+"2", "--to", url).fails(t, 1, "secret is missing", "PIKARC_SECRET")
	invocation{args: []string{"copy", "--from", dir, "--to", url}, settings: []string{sharedSecret}}.run(t).
		fails(t, 1, "is not the one that the source is served with")
	p := serve(t, dir)
	own("--from", dir, "--to", url).fails(t, 1, "another `pikarc serve`", "--while-serving")
	p.stop(t)
	if out := own("--from", dir, "--to", url); out.code != 0 || !strings.Contains(out.stdout, "secret.key") {
		t.Fatalf("%+v", out)
	}
	node := invocation{args: []string{"serve", "--addr", "127.0.0.1:0"}, settings: []string{sharedSecret, "PIKARC_DATABASE=" + url}}
	node.run(t).fails(t, 1, "the server secret is not the one")
	p = spawn(t, []string{"PIKARC_DATABASE=" + url}, "serve", "--addr", "127.0.0.1:0", "--data-dir", dir)
	p.await(t, "serves", func() bool { return strings.Contains(p.stdout.String(), "serves http") })
	own("--from", url, "--to", dir+"2").fails(t, 1, "secret is missing")
	invocation{args: []string{"copy", "--from", url, "--to", dir}}.run(t).fails(t, 1, "nodes are connected", "--while-serving")
	p.stop(t)
}
