package e2e_test

import (
	"bytes"
	"database/sql"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// damage changes a database behind everybody's back.
func damage(t *testing.T, dir, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "pikarc.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "PRAGMA busy_timeout = 5000; "+statement); err != nil {
		t.Fatal(err)
	}
}

func TestVerifySaysThatAFileIsDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	createUser(t, dir, "ann@example.com", "scale")
	if err := os.WriteFile(filepath.Join(dir, "pikarc.db"), bytes.Repeat([]byte("noise"), 4000), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "verify", "--data-dir", dir); out.code != 1 || !strings.Contains(out.stderr, "the database is damaged") {
		t.Errorf("exit code %d, stderr %q", out.code, out.stderr)
	}
}

func TestVerifySaysWhatIsWrongAndRepairsIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := createUser(t, dir, "ann@example.com", "scale")
	p := serve(t, dir)
	p.start(t, u.APIKey, "someone")
	clean := regexp.MustCompile(`^\d+ checks over 1 runs in \d+\.\d s: 0 differences, 0 repaired\n$`)
	if out := run(t, "verify", "--data-dir", dir).ok(t).stdout; !clean.MatchString(out) {
		t.Errorf("printed %q", out)
	}
	damage(t, dir, `UPDATE workspaces SET running_runs = 3`)
	out := run(t, "verify", "--data-dir", dir)
	if out.code != 1 || !strings.Contains(out.stdout, "workspaces: id 1: is running_runs 3, should be running_runs 1\n") ||
		!strings.Contains(out.stderr, "1 differences are left") {
		t.Errorf("exit code %d, %q, %q", out.code, out.stdout, out.stderr)
	}
	var report struct {
		Checks, Runs, Found, Repaired int
		Differences                   []map[string]any
	}
	answer{body: []byte(run(t, "verify", "--json", "--repair", "--data-dir", dir).ok(t).stdout)}.into(t, &report)
	if report.Found != 1 || report.Repaired != 1 || len(report.Differences) != 1 || report.Differences[0]["repaired"] != true {
		t.Errorf("%+v", report)
	}
	balanced(t, dir)
	p.call(t, "PATCH", "/v1/workspace/", p.signIn(t, u.Email), map[string]int{"max_concurrent_runs": 2}).want(t, http.StatusOK)
	if d := p.start(t, u.APIKey, "someone"); d.Decision.Outcome != "ALLOW" {
		t.Errorf("the running server did not see the repair: %+v", d)
	}
	run(t, "verify", "--data-dir", t.TempDir()).fails(t, 1, "no database in", "--data-dir")
}

func TestBackupAndRestoreBringBackAServer(t *testing.T) {
	t.Parallel()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "copy.db")
	run(t, "backup", file, "--data-dir", dir).fails(t, 1, "no database in", "--data-dir")
	run(t, "backup", "--data-dir", dir).fails(t, 2, "--help")
	u := createUser(t, dir, "ann@example.com", "scale")
	p := serve(t, dir)
	kept := p.start(t, u.APIKey, "someone")
	if out := run(t, "backup", file, "--data-dir", dir).ok(t).stdout; !strings.Contains(out, file) || !strings.Contains(out, "checked") {
		t.Errorf("printed %q", out)
	}
	lost := p.start(t, u.APIKey, "someone")
	run(t, "restore", file, "--force", "--data-dir", dir).fails(t, 1, "in use", "stop the server")
	p.call(t, "GET", "/v1/runs/"+lost.ID, u.APIKey, nil).want(t, http.StatusOK)
	p.stop(t)
	run(t, "restore", file, "--data-dir", dir).fails(t, 1, "--force")
	out := run(t, "restore", file, "--force", "--data-dir", dir).ok(t).stdout
	old := regexp.MustCompile(`kept as (\S+)\n`).FindStringSubmatch(out)
	if old == nil || !strings.Contains(out, "is restored from "+file) {
		t.Fatalf("printed %q", out)
	}

	p = serve(t, dir)
	p.call(t, "GET", "/v1/runs/"+kept.ID, u.APIKey, nil).want(t, http.StatusOK)
	p.call(t, "GET", "/v1/runs/"+lost.ID, u.APIKey, nil).want(t, http.StatusNotFound)
	p.signIn(t, "ann@example.com")
	p.stop(t)
	balanced(t, dir)
	run(t, "restore", old[1], "--force", "--data-dir", dir).ok(t) // and back again
	p = serve(t, dir)
	p.call(t, "GET", "/v1/runs/"+lost.ID, u.APIKey, nil).want(t, http.StatusOK)
}

func TestRestoreIntoAFreshDirectoryWithoutItsSecretKeepsTheKeysAlive(t *testing.T) {
	t.Parallel()
	dir, file, fresh := t.TempDir(), filepath.Join(t.TempDir(), "copy.db"), filepath.Join(t.TempDir(), "new", "data")
	u := createUser(t, dir, "ann@example.com", "scale")
	run(t, "backup", file, "--data-dir", dir).ok(t)
	run(t, "restore", file, "--data-dir", fresh).ok(t)
	p := serve(t, fresh)
	p.start(t, u.APIKey, "someone")
	var shown struct{ Key *string }
	p.call(t, "GET", "/v1/api-keys/", p.signIn(t, "ann@example.com"), nil).want(t, http.StatusOK).into(t, &shown)
	if shown.Key != nil {
		t.Errorf("the key shows under another secret: %q", *shown.Key)
	}
	p.stop(t)
	content, err := os.ReadFile(filepath.Join(dir, "secret.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fresh, "secret.key"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	p = serve(t, fresh)
	p.call(t, "GET", "/v1/api-keys/", p.signIn(t, "ann@example.com"), nil).want(t, http.StatusOK).into(t, &shown)
	if shown.Key == nil || *shown.Key != u.APIKey {
		t.Error("the key does not show under the old secret")
	}
}

func TestServeBacksUpWhatIsOverdueAndOnlyThat(t *testing.T) {
	t.Parallel()
	dir, backups := t.TempDir(), filepath.Join(t.TempDir(), "backups")
	u := createUser(t, dir, "ann@example.com", "scale")
	p := serve(t, dir, "--backup-dir", backups, "--backup-keep", "2")
	taken := func() []string {
		files, err := filepath.Glob(filepath.Join(backups, "pikarc-*.db"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	p.await(t, "backed up", func() bool { return len(taken()) == 1 && strings.Contains(p.stderr.String(), "backed up") })
	p.start(t, u.APIKey, "someone")
	p.stop(t)
	p = serve(t, dir, "--backup-dir", backups)
	p.call(t, "GET", "/health/ready", "", nil).want(t, http.StatusOK)
	p.stop(t)
	if n := len(taken()); n != 1 {
		t.Errorf("%d backups, the first of which was minutes old at the most", n)
	}
	run(t, "restore", taken()[0], "--data-dir", filepath.Join(t.TempDir(), "new")).ok(t)
}

func TestOperatorsHaveAddressesOfTheirOwn(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir(), "--metrics-addr", "127.0.0.1:0", "--debug-addr", "localhost:0")
	address := func(name string) string {
		var found []string
		p.await(t, "says where "+name+" are", func() bool {
			found = regexp.MustCompile(`(?m)^` + name + `: (http://\S+)\n`).FindStringSubmatch(p.stdout.String())
			return found != nil
		})
		return found[1]
	}
	for url, says := range map[string]string{
		address("Metrics"):                               "pikarc_decisions_total",
		address("Profiles"):                              "goroutine",
		address("Profiles") + "goroutine?debug=1":        "goroutine profile",
		address("Metrics") + "/../v1/workspace/":         "404",
		strings.TrimSuffix(p.url, "/") + "/metrics":      "Not Found",
		strings.TrimSuffix(p.url, "/") + "/debug/pprof/": "Not Found",
	} {
		got, err := send(t.Context(), http.DefaultClient, "GET", url, "", nil)
		if err != nil || !strings.Contains(string(got.body), says) {
			t.Errorf("%s answered %d without %q (%v)", url, got.status, says, err)
		}
	}
	p.stop(t)
}

func TestPlainServeListensOnOneAddressOnly(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	p.call(t, "GET", "/metrics", "", nil).want(t, http.StatusNotFound)
	p.call(t, "GET", "/debug/pprof/", "", nil).want(t, http.StatusNotFound)
	if out := p.stdout.String(); strings.Contains(out, "Metrics") || strings.Contains(out, "Profiles") {
		t.Errorf("printed %q", out)
	}
}

func TestProfilesAreForLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{":6060", "0.0.0.0:6060", "192.0.2.1:6060", "example.com:6060", "6060", "[::]:6060"} {
		run(t, "serve", "--debug-addr", addr, "--addr", "127.0.0.1:0", "--data-dir", t.TempDir()).fails(t, 2, "--debug-addr", "loopback")
	}
}
