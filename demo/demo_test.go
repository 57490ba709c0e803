package demo_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/demo"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/storage"
	"github.com/pikarc/server/storage/dbfile"
)

// filled is a store that the demo has filled, as it looks at a time.
func filled(t *testing.T, seed uint64, now time.Time) (*storage.Store, storage.WorkspaceKey) {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	path := filepath.Join(dir, "pikarc.db")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := dbfile.Migrate(ctx, path, embed.Migrations())
	must(err)
	secret, err := auth.LoadSecret(dir, "a secret of the tests, long enough to be taken")
	must(err)
	catalogue, err := prices.ParseCatalogue(embed.Catalogue())
	must(err)
	store, err := storage.Open(ctx, path, storage.Options{
		Migrations: embed.Migrations(), Secret: secret, Now: func() time.Time { return now }, Catalogue: catalogue,
	})
	must(err)
	t.Cleanup(func() { must(store.Close()) })
	_, ws, _, err := store.CreateAccount(ctx, storage.NewAccount{Email: "demo@example.com", Plan: demo.Plan})
	must(err)
	must(demo.Fill(ctx, store, ws.Key(), seed, now))
	return store, ws.Key()
}

// Whenever the demo is started, there is something to see everywhere.
func TestTheHistoryHasSomethingOfEverything(t *testing.T) {
	t.Parallel()
	for _, now := range []time.Time{
		time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC), // a Monday
		time.Date(2026, 12, 1, 0, 1, 2, 3, time.UTC),   // the first minute of a month
	} {
		t.Run(now.Format("Mon 15h"), func(t *testing.T) {
			t.Parallel()
			store, ws := filled(t, 1, now)
			u, err := store.Usage(t.Context(), ws)
			if err != nil {
				t.Fatal(err)
			}
			var reasons []guard.Reason
			for _, r := range u.ByReason {
				reasons = append(reasons, r.Reason)
			}
			slices.Sort(reasons)
			if want := []guard.Reason{1, 2, 3, 4, 5, 6, 7}; !slices.Equal(reasons, want) {
				t.Errorf("denied for %v", reasons)
			}
			unpriced := slices.ContainsFunc(u.ByModel, func(m storage.ModelUsage) bool { return m.UnpricedTokens > 0 })
			if len(u.ByModel) != 7 || !unpriced || len(u.ByUser) < 35 || u.Last30Days.Runs < 1000 || u.RunningRuns != 0 {
				t.Errorf("%d models, unpriced %v, %d users, %d runs, %d of them running", len(u.ByModel), unpriced, len(u.ByUser), u.Last30Days.Runs, u.RunningRuns)
			}
			days, err := store.DailyUsage(t.Context(), ws, 15, true)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range days[1:14] {
				if d.Runs == 0 || d.Spend == 0 || len(d.ByModel) != 5 {
					t.Errorf("%s is empty: %+v", d.Date.Format(time.DateOnly), d)
				}
			}
			yes := true
			blocked, _, err := store.Users(t.Context(), ws, storage.UserFilter{Blocked: &yes, Limit: 10})
			if err != nil || len(blocked) != 3 {
				t.Errorf("%d users are blocked, %v", len(blocked), err)
			}
			for _, status := range []storage.RunStatus{storage.RunCompleted, storage.RunFailed, storage.RunBlocked} {
				runs, _, err := store.Runs(t.Context(), ws, storage.RunFilter{Status: status, Limit: 200})
				if err != nil || len(runs) < 20 || runs[0].Title == "" || runs[0].EndedAt.After(now) || runs[0].StartedAt.After(now) {
					t.Errorf("%d runs are %s, %v", len(runs), status, err)
				}
			}
		})
	}
}

func TestTheSameSeedMakesTheSameHistory(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 8, 0, 0, 0, time.FixedZone("", -8*60*60)) // of a machine elsewhere
	look := func(at time.Time) string {
		store, ws := filled(t, 7, at)
		days, err := store.DailyUsage(t.Context(), ws, 30, true)
		if err != nil {
			t.Fatal(err)
		}
		u, err := store.Usage(t.Context(), ws)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%+v\n%+v", days, u)
	}
	if diff := cmp.Diff(look(now), look(now.UTC())); diff != "" {
		t.Errorf("made twice, it differs:\n%s", diff)
	}
}
