package storage

import (
	"context"
	"database/sql"
	"io/fs"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage/dbfile"
)

// upTo is the binary's migrations as they were at a version.
func upTo(t *testing.T, version string) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := fs.Glob(embed.Migrations(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name[:len(version)] > version {
			continue
		}
		data, err := fs.ReadFile(embed.Migrations(), name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: data}
	}
	return files
}

// firstVersion fills a file of schema version 1 as the binary of then did: a
// start denied on each of two days, and steps denied on the days after their
// run's start, in two workspaces.
const firstVersion = `
INSERT INTO accounts VALUES (1, randomblob(16), 'a@example.com', 'a@example.com', 'x', 1, 0), (2, randomblob(16), 'b@example.com', 'b@example.com', 'x', 1, 0);
INSERT INTO workspaces VALUES
  (1, randomblob(16), 1, 'A', 'a', 'scale', 0, NULL, NULL, 3, 3600, 1, 0),
  (2, randomblob(16), 2, 'B', 'b', 'basic', 0, NULL, NULL, 3, 3600, 0, 0);
INSERT INTO api_keys VALUES (1, randomblob(16), 1, '00000001', x'01', x'01', 'default', 0, NULL), (2, randomblob(16), 2, '00000002', x'02', x'02', 'default', 0, NULL);
INSERT INTO users VALUES (1, 1, 'u', NULL, NULL, 1, 0, 0), (2, 2, 'u', NULL, NULL, 0, 0, 0);
INSERT INTO runs VALUES
  (1, x'019a879f00007000800000000000000a', 1, 1, 1, 2, 1763164800000, NULL, NULL, 1763251200000, 3, 2, 0, 0, 0),
  (2, x'019a879f00007000800000000000000b', 1, 1, 4, 3, 1763164800000, 1763164800000, NULL, 1763164800000, 0, 0, 0, 0, 0),
  (3, x'019a879f00007000800000000000000c', 1, 1, 4, 3, 1763164800001, 1763164800001, NULL, 1763164800001, 0, 0, 0, 0, 0),
  (4, x'019a879f00007000800000000000000d', 2, 2, 4, 7, 1763251200000, 1763251200000, NULL, 1763251200000, 0, 0, 0, 0, 0);
INSERT INTO run_metadata VALUES (1, '{"task":"of before there were titles"}');
INSERT INTO steps (run_id, uuid, sequence, type, status, created_at) VALUES
  (1, x'019a879f000070008000000000000001', 1, 1, 1, 1763164800000), (1, x'019a879f000070008000000000000002', 2, 1, 4, 1763164800000), (1, x'019a879f000070008000000000000003', 3, 1, 4, 1763251200000);
INSERT INTO denials VALUES
  (1, x'019a879f000070008000000000000002', 2, 0, 0, NULL), (1, x'019a879f000070008000000000000003', 2, 0, 0, NULL),
  (2, x'', 3, 0, 0, NULL), (3, x'', 3, 0, 0, NULL), (4, x'', 7, 3, 3, NULL);
INSERT INTO workspace_days VALUES (1, 20407, 0, 0, 0, 1, 2), (2, 20408, 0, 0, 0, 0, 1);
INSERT INTO user_days VALUES (1, 20407, 1, 0, 1);
`

func TestUpgradeCountsTheDenialsOfBeforeAndKeepsEverything(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "pikarc.db")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := dbfile.Migrate(ctx, path, upTo(t, "00001"))
	must(err)
	db, err := sql.Open("sqlite", "file:"+path)
	must(err)
	_, err = db.ExecContext(ctx, firstVersion)
	must(err)
	must(db.Close())

	applied, err := dbfile.Migrate(ctx, path, embed.Migrations())
	if err != nil || len(applied) == 0 {
		t.Fatalf("applied %v, %v", applied, err)
	}
	day := time.Date(2025, 11, 15, 0, 0, 0, 0, time.UTC) // of the first denials, 20407 days after 1970-01-01
	clock := &clock{}
	clock.Set(day.AddDate(0, 0, 1).Add(time.Hour))
	s := openStore(t, path, clock.Now)
	found, err := verified(path)
	if err != nil || len(found) > 0 {
		t.Errorf("books after the upgrade: %v, %v", found, err)
	}
	u, err := s.Usage(ctx, 1)
	must(err)
	want := []ReasonUsage{{guard.KillSwitchActive, 1, 2, 2}, {guard.UserBlocked, 0, 2, 2}}
	if diff := gocmp.Diff(want, u.ByReason); diff != "" || u.Last30Days.Denials != 4 || u.Today.Denials != 1 {
		t.Errorf("denials today %d, in 30 days %d, by reason (-want +got):\n%s", u.Today.Denials, u.Last30Days.Denials, diff)
	}
	other, err := s.Usage(ctx, 2)
	must(err)
	if diff := gocmp.Diff([]ReasonUsage{{guard.MaxConcurrentRunsExceeded, 1, 1, 1}}, other.ByReason); diff != "" {
		t.Errorf("denials of the other workspace (-want +got):\n%s", diff)
	}
	runs, _, err := s.Runs(ctx, 1, RunFilter{Reason: guard.UserBlocked, Limit: 10})
	must(err)
	if len(runs) != 2 || runs[0].Title != "" {
		t.Errorf("runs denied before the upgrade: %+v", runs)
	}
	old, err := s.Run(ctx, 1, [16]byte{0x01, 0x9a, 0x87, 0x9f, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0x0a}, "")
	must(err)
	if old.Title != "" || old.StepCount != 3 || string(old.Metadata) != `{"task":"of before there were titles"}` {
		t.Errorf("a run of before the upgrade: %+v", old)
	}
	scale, err := plans.ByID(plans.Scale)
	must(err)
	if _, err := s.SetPlan(ctx, 1, scale); err != nil {
		t.Errorf("a write after the upgrade: %v", err)
	}
	if _, err := s.CreateStep(ctx, Caller{Workspace: 1}, old.ID, NewStep{Type: 1, Sequence: 4}, deny); err != nil {
		t.Errorf("a denial after the upgrade: %v", err)
	}
	if found, err := verified(path); err != nil || len(found) > 0 {
		t.Errorf("books after more denials: %v, %v", found, err)
	}
}
