package e2e_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite"

	"github.com/pikarc/server/embed"
)

// newest is the schema version that the source carries, and how many migrations lead to it.
func newest(t *testing.T) (version int64, migrations int) {
	t.Helper()
	names, err := fs.Glob(embed.Migrations(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		v, err := goose.NumericComponent(name)
		if err != nil {
			t.Fatal(err)
		}
		version = max(version, v)
	}
	return version, len(names)
}

func TestMigrateBringsAFreshDatabaseUpToDateOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	version, n := newest(t)
	status := func(current int64, pending int) {
		t.Helper()
		want := fmt.Sprintf("schema version %d, newest %d, pending %d\n", current, version, pending)
		if out := run(t, "migrate", "--status", "--data-dir", dir).ok(t).stdout; out != want {
			t.Errorf("migrate --status: %q, want %q", out, want)
		}
	}
	migrate := func(applied int) {
		t.Helper()
		want := fmt.Sprintf("applied %d migrations; the schema is up to date\n", applied)
		if applied > 0 {
			want = "made a new database: " + filepath.Join(dir, "pikarc.db") + "\n" + want
		}
		if out := run(t, "migrate", "--init", "--data-dir", dir).ok(t).stdout; out != want {
			t.Errorf("migrate: %q, want %q", out, want)
		}
	}
	status(0, n)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("asking for the status made the data directory (%v)", err)
	}
	migrate(n)
	status(version, 0)
	migrate(0)
	serve(t, dir).stop(t)
	status(version, 0)
}

// Several rounds, because most races end well by luck.
func TestMigrationsThatRaceOnAFreshDirectoryAllSucceed(t *testing.T) {
	t.Parallel()
	const rounds, racers = 8, 5
	for range rounds {
		dir := filepath.Join(t.TempDir(), "data")
		var group sync.WaitGroup
		for range racers {
			group.Go(func() {
				out, err := invocation{args: []string{"migrate", "--init", "--data-dir", dir}}.try(t.Context())
				if err != nil || out.code != 0 {
					t.Errorf("migrate: %v, exit code %d: %s", err, out.code, out.stderr)
				}
			})
		}
		group.Wait()
		if t.Failed() {
			return
		}
	}
}

func TestNewerDatabaseIsRefusedByEveryCommandAndLeftAsItIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	createUser(t, dir, "ann@example.com", "basic")
	path := filepath.Join(dir, "pikarc.db")
	version, _ := newest(t)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, 1)`, version+1); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	for _, args := range [][]string{
		{"migrate"},
		{"serve", "--addr", "127.0.0.1:0"},
		{"create-user", "--email", "bob@example.com", "--password-stdin"},
		{"rotate-key", "--email", "ann@example.com"},
		{"set-plan", "--email", "ann@example.com", "pro"},
		{"verify", "--repair"},
	} {
		invocation{args: append(args, "--data-dir", dir), stdin: password}.run(t).fails(t, 1, "newer pikarc", "unchanged")
	}
	out := run(t, "migrate", "--status", "--data-dir", dir)
	if want := fmt.Sprintf("schema version %d, newest %d, pending 0\n", version+1, version); out.code != 1 || out.stdout != want {
		t.Errorf("migrate --status: exit code %d, %q, want 1, %q", out.code, out.stdout, want)
	}

	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("the database was changed")
	}
	if wal, err := os.Stat(path + "-wal"); err == nil && wal.Size() > 0 {
		t.Errorf("%d bytes of changes wait beside the database", wal.Size())
	}
}

func TestMigrateRefusesWhatIsNoDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "pikarc.db")
	content := bytes.Repeat([]byte("dear diary, "), 1000)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "migrate", "--data-dir", dir).fails(t, 1, path)
	run(t, "migrate", "--status", "--data-dir", dir).fails(t, 1, path)
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(content, after) {
		t.Errorf("the file was changed (%v)", err)
	}
}
