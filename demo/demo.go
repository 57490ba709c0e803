// Package demo makes a workspace that looks lived in: two weeks of history written through the
// store, and simulated agents that go on from there over HTTP, as real clients do. Everything in it
// is made up, from a seed.
//
//   - demo.go: Fill
//   - catalog.go: what the agents do
//   - script.go: one run, drawn at random
//   - history.go: two weeks of runs
//   - agents.go: agents that call the server
package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// Limits of the demo's workspace: some busy days reach them, most do not.
const (
	// Low enough that some days reach them: the demo should show denials.
	dailyBudget     = 11 * plans.USD
	userDailyBudget = 3 * plans.USD / 2
	concurrentRuns  = 8
)

// Plan is the plan that the demo's workspace has: one with every feature.
const Plan = plans.Scale

// Fill gives a fresh workspace its limits and two weeks of history up to now. What it costs is for
// the store's catalogue to say: all of its models are there but one, which the dashboard should ask
// a price for. The same seed and the same now make the same history.
func Fill(ctx context.Context, store *storage.Store, ws storage.WorkspaceKey, seed uint64, now time.Time) error {
	most := int64(concurrentRuns)
	_, err := store.UpdateWorkspace(ctx, ws, storage.WorkspaceChange{
		DailyBudget:       &plans.Budget{Limit: dailyBudget, Set: true},
		UserDailyBudget:   &plans.Budget{Limit: userDailyBudget, Set: true},
		MaxConcurrentRuns: &most,
	})
	if err != nil {
		return fmt.Errorf("set the demo's limits: %w", err)
	}
	h := newHistory(ws, rand.New(rand.NewPCG(seed, 0)), now)
	if err := h.write(ctx, store); err != nil {
		return fmt.Errorf("make the demo's history: %w", err)
	}
	return nil
}
