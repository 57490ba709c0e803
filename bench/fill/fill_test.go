package fill

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pikarc/server/bench/ledgercheck"
	"github.com/pikarc/server/bench/proc"
)

func TestFilledFileVerifies(t *testing.T) {
	dir := t.TempDir()
	path, pikarc := filepath.Join(dir, "pikarc.db"), filepath.Join(dir, "pikarc")
	if err := proc.Build(t.Context(), filepath.Join("..", ".."), pikarc); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), pikarc, append(args, "--data-dir", dir)...).CombinedOutput(); err != nil {
			t.Fatalf("pikarc %v: %v\n%s", args, err, out)
		}
	}
	command("migrate", "--init")
	db, err := ledgercheck.OpenForWriting(path)
	if err != nil {
		t.Fatal(err)
	}
	const tenants = `
		INSERT INTO accounts (id, uuid, email, email_key, password_hash, token_version, created_at)
		SELECT value, randomblob(16), value, value, '', 1, 0 FROM json_each('[1,2,3]');
		INSERT INTO workspaces (id, uuid, account_id, name, slug, plan, kill_switch, max_concurrent_runs, run_idle_timeout_seconds, running_runs, created_at)
		SELECT id, randomblob(16), id, id, id, 'enterprise', 0, 3, 3600, 0, 0 FROM accounts;
		INSERT INTO api_keys (uuid, workspace_id, prefix, hash, sealed, label, created_at)
		SELECT randomblob(16), id, id, x'', x'', '', 0 FROM workspaces`
	if _, err := db.Exec(tenants); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	const runs, batchSize = 450, 25 // more than one run a day, so that batches end in mid-day
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if err := fill(t.Context(), path, runs*StepsOfRun, now, batchSize); err != nil {
		t.Fatal(err)
	}
	want := ledgercheck.Answers{Starts: runs, Steps: runs * StepsOfRun, Patches: runs * StepsOfRun * 4 / 5, Ends: runs}
	if err := ledgercheck.Verify(t.Context(), path, want); err != nil {
		t.Error(err)
	}
	command("verify")
}
