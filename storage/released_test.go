package storage

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage/dbfile"
)

// releasedNow is an hour after the released databases were made.
func releasedNow() time.Time { return time.Date(2026, 11, 25, 18, 0, 0, 0, time.UTC) }

// openReleased loads a dump, migrates it, and opens it with the secret that it was made with.
func openReleased(t *testing.T, dump string) *Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pikarc.db")
	script, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), string(script)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := dbfile.Migrate(t.Context(), path, embed.Migrations()); err != nil {
		t.Fatal(err)
	}
	secret, err := auth.LoadSecret(t.TempDir(), "a-secret-of-the-tests-that-is-long-enough")
	if err != nil {
		t.Fatal(err)
	}
	return openStore(t, path, releasedNow, func(o *Options) { o.Secret = secret })
}

func TestTheLedgerOfEachReleasedSchemaIsKept(t *testing.T) {
	t.Parallel()
	dumps, err := filepath.Glob("testdata/released/*.sql")
	if err != nil || len(dumps) == 0 {
		t.Fatalf("no released schema: %v", err)
	}
	for _, dump := range dumps {
		t.Run(filepath.Base(dump), func(t *testing.T) {
			s, ctx := openReleased(t, dump), t.Context()
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			w, err := s.WorkspaceByEmail(ctx, "Ann@example.com")
			must(err)
			usage, err := s.Usage(ctx, w.Key())
			must(err)
			if got := usage.Today; got.Spend != 4_500_000 || got.Tokens != 1200 || got.Runs != 2 || usage.MonthlyRuns != 2 {
				t.Errorf("usage is %+v", usage)
			}
			runs, _, err := s.Runs(ctx, w.Key(), RunFilter{Limit: 10})
			must(err)
			if len(runs) != 2 || runs[0].Status != RunBlocked || runs[0].BlockedStepCount != 1 || runs[1].Status != RunRunning {
				t.Fatalf("runs are %+v", runs)
			}
			detail, err := s.Run(ctx, w.Key(), runs[0].ID, "")
			must(err)
			if len(detail.Steps) != 2 || string(detail.Metadata) != `{"task":"x"}` || string(detail.Steps[0].OutputData) != "[1]" {
				t.Errorf("a run is %+v", detail)
			}
			key, err := s.APIKey(ctx, w.Key())
			must(err)
			if len(key.Full) != len("lg_12345678_")+64 {
				t.Errorf("the key is shown as %q", key.Full)
			}
			decide(t, s, w, runs[1].ID)
		})
	}
}

// decide goes on where the old server stopped: with the run that still runs, and with the counters of its day.
func decide(t *testing.T, s *Store, w Workspace, run uuid.UUID) {
	t.Helper()
	model := "gpt-4o"
	a, err := s.CreateStep(t.Context(), Caller{Workspace: w.Key()}, run, NewStep{Type: 1, Sequence: 2, Model: &model}, guard.Decide)
	if err != nil || !a.Decision.Allowed() {
		t.Fatalf("a further step: %+v, %v", a, err)
	}
	spent := plans.Budget{Limit: 4_500_000, Set: true}
	if _, err := s.UpdateWorkspace(t.Context(), w.Key(), WorkspaceChange{DailyBudget: &spent}); err != nil {
		t.Fatal(err)
	}
	a, err = s.CreateStep(t.Context(), Caller{Workspace: w.Key()}, run, NewStep{Type: 1, Sequence: 3, Model: &model}, guard.Decide)
	if err != nil || a.Decision.Reason != guard.WorkspaceDailyBudgetExceeded || a.Decision.Used != 4_500_000 {
		t.Errorf("with the day's budget spent: %+v, %v", a, err)
	}
}
