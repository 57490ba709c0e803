package storage

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/storage/dbfile"
)

// sixthVersion fills a file of schema version 6: priced, unpriced and
// unreported steps of today, of a model or none, and a day whose steps
// retention has deleted.
const sixthVersion = `
INSERT INTO accounts VALUES (1, randomblob(16), 'a@example.com', 'a@example.com', 'x', 1, 0);
INSERT INTO workspaces VALUES (1, randomblob(16), 1, 'A', 'a', 'scale', 0, NULL, NULL, 3, 3600, 0, 0);
INSERT INTO api_keys VALUES (1, randomblob(16), 1, '00000001', x'01', x'01', 'default', 0, NULL);
INSERT INTO users VALUES (1, 1, 'u', NULL, NULL, 2, 0, 0);
INSERT INTO models VALUES (1, randomblob(16), 1, 'priced', 1000, 1000, 1), (2, randomblob(16), 1, 'unpriced', NULL, NULL, 0);
INSERT INTO expired_history VALUES (1, 1763164800000, 20407);
INSERT INTO runs VALUES (1, x'019a879f00007000800000000000000a', 1, 1, 2, NULL, 1763164800000, 1763164900000, 1, 1763164800000, 6, 0, 160, 0, 100, NULL);
INSERT INTO run_segments VALUES (1, 0);
INSERT INTO steps VALUES
  (0, 1, x'019a879f000070008000000000000001', 1, 1, 2, 1763164800000, 1, NULL, 1763164800000, 1, 20407, 100, 0, 1000, 1000, 100),
  (0, 1, x'019a879f000070008000000000000002', 2, 1, 2, 1763164800000, 2, NULL, 1763164800000, 1, 20407, 50, 0, NULL, NULL, NULL),
  (0, 1, x'019a879f000070008000000000000003', 3, 2, 2, 1763164800000, NULL, 't', 1763164800000, 1, 20407, 10, 0, NULL, NULL, NULL),
  (0, 1, x'019a879f000070008000000000000004', 4, 1, 2, 1763164800000, 2, NULL, 1763251200000, 1, NULL, NULL, NULL, NULL, NULL, NULL),
  (0, 1, x'019a879f000070008000000000000005', 5, 1, 2, 1763164800000, NULL, NULL, 1763164800000, 1, 20407, 0, 0, NULL, NULL, NULL),
  (0, 1, x'019a879f000070008000000000000006', 6, 2, 2, 1763164800000, NULL, 't', 1763164800000, 1, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO workspace_days VALUES (1, 20407, 100, 160, 0, 1, 0), (1, 20400, 7, 1007, 0, 1, 0);
INSERT INTO user_days VALUES (1, 20407, 1, 100, 1), (1, 20400, 1, 7, 1);
INSERT INTO model_days VALUES (1, 20407, 1, 100, 100, 0, 0), (1, 20407, 2, 0, 50, 0, 50), (1, 20400, 1, 7, 7, 0, 0), (1, 20400, 2, 0, 1000, 0, 1000);
`

func TestUpgradeCountsWhatIsMissingInTheSpendOfBefore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "pikarc.db")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := dbfile.Migrate(ctx, path, upTo(t, "00006"))
	must(err)
	db, err := sql.Open("sqlite", "file:"+path)
	must(err)
	_, err = db.ExecContext(ctx, sixthVersion)
	must(err)
	must(db.Close())
	_, err = dbfile.Migrate(ctx, path, embed.Migrations())
	must(err)
	found, err := verified(path)
	if err != nil || len(found) > 0 {
		t.Errorf("books after the upgrade: %+v, %v", found, err)
	}

	clock := &clock{}
	clock.Set(time.Date(2025, 11, 16, 1, 0, 0, 0, time.UTC)) // the day after 20407
	s := openStore(t, path, clock.Now)
	u, err := s.Usage(ctx, 1)
	must(err)
	for name, want := range map[string]struct{ want, got UnpricedUsage }{
		"today":        {UnpricedUsage{0, 0, 1}, u.Today.UnpricedUsage},
		"last 7 days":  {UnpricedUsage{60, 2, 2}, u.Last7Days.UnpricedUsage},
		"last 30 days": {UnpricedUsage{1060, 2, 2}, u.Last30Days.UnpricedUsage}, // nobody has counted the steps that are gone
	} {
		if diff := gocmp.Diff(want.want, want.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	users, _, err := s.Users(ctx, 1, UserFilter{Limit: 1})
	must(err)
	runs, _, err := s.Runs(ctx, 1, RunFilter{Limit: 1})
	must(err)
	if users[0].Last30Days.UnpricedTokens != 60 || runs[0].UnpricedTokens != 60 || runs[0].CallsWithoutUsage != 2 {
		t.Errorf("user %+v, run %+v", users[0], runs[0])
	}
	if _, err := s.StartRun(ctx, Caller{Workspace: 1}, NewRun{UserID: "u"}, guard.Decide); err != nil {
		t.Errorf("a write after the upgrade: %v", err)
	}
}

// policiesInRows adds to sixthVersion what version 27 knew of two policies: a row for each that a
// step or a start was asked of, and the counters that they prove.
const policiesInRows = `
INSERT INTO policies (id, workspace_id, name, version, counts_from, is_deleted) VALUES (3, 1, 'a', 1, 1, 0), (4, 1, 'b', 2, 2, 0);
INSERT INTO policy_versions (policy_id, version, definition, changed_at) VALUES (3, 1, '{"effect":"log"}', 0), (4, 2, '{"effect":"log"}', 0);
INSERT INTO step_policies VALUES
  (0, 1, x'', 4, 1, 4, 2, '1', 1763164800000),
  (0, 1, x'019a879f000070008000000000000001', 3, 2, NULL, NULL, NULL, NULL),
  (0, 1, x'019a879f000070008000000000000001', 4, 1, 1, 2, 'a "b"', 1763164800000),
  (0, 1, x'019a879f000070008000000000000002', 4, 1, 3, 2, '', -1);
INSERT INTO policy_counters (workspace_id, policy_id, counts_from, scope, slice, used) VALUES
  (1, 4, 2, '1', 1763164800000, 1), (1, 4, 2, 'a "b"', 1763164800000, 100), (1, 4, 2, '', -1, 1);
INSERT INTO policy_days (workspace_id, day, policy_id, outcome, hit_count) VALUES (1, 20407, 3, 2, 1);
`

func TestUpgradeMovesWhatPoliciesSaidIntoTheSteps(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pikarc.db")
	query := func(what func(*sql.DB) error) {
		t.Helper()
		db, err := sql.Open("sqlite", "file:"+path)
		if err == nil {
			err = errors.Join(what(db), db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	migrate := func(migrations fs.FS) {
		t.Helper()
		if _, err := dbfile.Migrate(t.Context(), path, migrations); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []struct{ number, rows string }{{"00006", sixthVersion}, {"00027", policiesInRows}} {
		migrate(upTo(t, version.number))
		query(func(db *sql.DB) error {
			_, err := db.ExecContext(t.Context(), version.rows)
			return err
		})
	}
	migrate(embed.Migrations())
	if found, err := verified(path); err != nil || len(found) > 0 {
		t.Errorf("books after the upgrade: %+v, %v", found, err)
	}
	var all string
	query(func(db *sql.DB) error {
		return db.QueryRowContext(t.Context(), `SELECT (SELECT policies FROM runs) || (SELECT group_concat(coalesce(policies, '-'), ' ')
			FROM (SELECT policies FROM steps ORDER BY uuid))`).Scan(&all)
	})
	const want = `[[4,1,4,2,"1",1763164800000]][[3,2],[4,1,1,2,"a \"b\"",1763164800000]] [[4,1,3,2,"",-1]] - - - -`
	if all != want {
		t.Errorf("got %s, want %s", all, want)
	}
}
