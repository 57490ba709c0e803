package e2e_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver, for what an administrator does
)

// newerBinary builds the binary with one migration more.
func newerBinary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	migration, ofPostgres := filepath.Join(dir, "newer.sql"), filepath.Join(dir, "newer.postgres.sql")
	const script = "-- +goose Up\nCREATE TABLE newer (id INTEGER PRIMARY KEY) STRICT;\n"
	const expand = "-- +goose Up\nALTER TABLE runs ADD COLUMN newer BIGINT NOT NULL DEFAULT 0;\n"
	migrations := filepath.Join(here, "embed", "migrations")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(migrations, "09999_newer.sql"): migration, filepath.Join(migrations, "postgres", "09999_newer.sql"): ofPostgres,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{migration: []byte(script), ofPostgres: []byte(expand), filepath.Join(dir, "overlay.json"): overlay} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "pikarc")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// A newer binary changes nothing under a server that runs; one that waits for
// its end takes over, and then the old one changes nothing.
func TestNewerVersionLeavesTheSchemaOfARunningServer(t *testing.T) {
	t.Parallel()
	newer, dir := newerBinary(t), t.TempDir()
	p, u := roomy(t, dir)
	const other = "server of another version runs"
	for name, args := range map[string][]string{
		"another `pikarc serve`": {"serve", "--addr", "127.0.0.1:0"},
		other:                    {"migrate"},
		other + " on":            {"create-user", "--email", "bob@example.com", "--password-stdin"},
	} {
		out := invocation{binary: newer, args: append(args, "--data-dir", dir), stdin: "a long password\n"}.run(t)
		out.fails(t, 1, name)
	}
	p.start(t, u.APIKey, "someone")
	p.call(t, "GET", "/health/ready", "", nil).want(t, http.StatusOK)
	if copies, err := filepath.Glob(filepath.Join(dir, "*before-schema*")); err != nil || len(copies) > 0 {
		t.Errorf("copies were made: %v, %v", copies, err)
	}

	waiting := spawnBinary(t, newer, nil, "serve", "--addr", "127.0.0.1:0", "--data-dir", dir, "--wait", "30s")
	waiting.await(t, "said that it waits", func() bool { return strings.Contains(waiting.stderr.String(), "waiting") })
	p.start(t, u.APIKey, "someone")
	p.stop(t)
	waiting.await(t, "served", func() bool { return strings.Contains(waiting.stdout.String(), "serves") })
	run(t, "migrate", "--data-dir", dir).fails(t, 1, "newer pikarc")
	run(t, "serve", "--addr", "127.0.0.1:0", "--data-dir", dir).fails(t, 1, "another `pikarc serve`")
	waiting.stop(t)
}

// However the file is called, it has one server.
func TestLinkedDatabaseHasOneServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, u := roomy(t, dir)
	file := filepath.Join(dir, "pikarc.db")
	symbolic, hard, both := t.TempDir(), t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.Symlink(file, filepath.Join(symbolic, "pikarc.db")),
		os.Link(file, filepath.Join(hard, "pikarc.db")),
		os.Symlink(filepath.Join(hard, "pikarc.db"), filepath.Join(both, "pikarc.db")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, linked := range []string{symbolic, hard, both} {
		run(t, "serve", "--addr", "127.0.0.1:0", "--data-dir", linked).fails(t, 1, "another `pikarc serve`")
	}
	p.start(t, u.APIKey, "someone")
	p.stop(t)
	if err := os.Remove(filepath.Join(hard, "pikarc.db")); err != nil {
		t.Fatal(err)
	}
	p = serve(t, symbolic)
	run(t, "serve", "--addr", "127.0.0.1:0", "--data-dir", dir).fails(t, 1, "another `pikarc serve`")
	p.start(t, u.APIKey, "someone")
	p.stop(t)
	balanced(t, dir)
}

// During an upgrade nodes of two versions serve together. The first new one
// migrates; the old ones go on, and are ready, unless that migration takes away
// what they use. None begins on a schema that it does not know.
func TestNodesOfTwoVersionsServeTogether(t *testing.T) {
	t.Parallel()
	newer, url := newerBinary(t), newDatabase(t)
	u := createUserOn(t, url, "me@example.com", "enterprise")
	old := serveNode(t, url)
	old.start(t, u.APIKey, "ada")
	next := serveBinary(t, newer, []string{"PIKARC_DATABASE=" + url, sharedSecret},
		"--addr", "127.0.0.1:0", "--data-dir", filepath.Join(t.TempDir(), "none"))
	for range 20 {
		for _, p := range []*process{old, next} {
			run := p.start(t, u.APIKey, "ada")
			p.call(t, "GET", "/v1/runs/"+run.ID, u.APIKey, nil).want(t, http.StatusOK)
			p.call(t, "POST", "/v1/runs/"+run.ID+"/end", u.APIKey, map[string]string{"status": "COMPLETED"}).want(t, http.StatusOK)
		}
	}
	ready := func(p *process) int { return p.call(t, "GET", "/health/ready", "", nil).status }
	old.await(t, "looks at the schema, and is ready", func() bool { return ready(old) == http.StatusOK })
	for _, args := range [][]string{{"serve", "--addr", "127.0.0.1:0"}, {"migrate"}, {"verify"}} {
		onDatabase(url, args...).run(t).fails(t, 1, "newer pikarc", "upgrade this binary")
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), `UPDATE ledger_version SET serves_from = 9999`) // as a migration does
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	old.await(t, "is not ready any more", func() bool { return ready(old) == http.StatusServiceUnavailable })
	next.await(t, "is ready", func() bool { return ready(next) == http.StatusOK })
	old.stop(t)
	next.start(t, u.APIKey, "ada")
	next.stop(t)
	out := invocation{binary: newer, args: []string{"verify"}, settings: []string{"PIKARC_DATABASE=" + url, sharedSecret}}.run(t).ok(t)
	if !strings.Contains(out.stdout, "over 42 runs") {
		t.Errorf("the books: %s", out.stdout)
	}
}
