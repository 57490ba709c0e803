package storage

import (
	"slices"
	"testing"
	"time"
)

// What a workspace's version says is what nodes go by, so these tests are about
// PostgreSQL, which has them.

// versionsNow are those of the whole database and of each workspace.
func (w *world) versionsNow() (all int64, of map[WorkspaceKey]int64) {
	w.t.Helper()
	var keys []WorkspaceKey
	w.must(w.read(w.t.Context(), func(tx *Tx) error {
		return tx.each(`SELECT id FROM workspaces`, nil, func(rows scanner) error {
			var ws WorkspaceKey
			err := rows.Scan(&ws)
			keys = append(keys, ws)
			return err
		})
	}))
	v, err := w.engine.versions(w.t.Context(), keys)
	w.must(err)
	of = make(map[WorkspaceKey]int64)
	for _, found := range v.of {
		of[found.ws] = found.version
	}
	return v.all, of
}

// mustLeaveVersions fails if something leaves another version of anything than of
// the workspaces that it may change.
func (w *world) mustLeaveVersions(name string, do func() error, change ...WorkspaceKey) {
	w.t.Helper()
	all, of := w.versionsNow()
	w.must(do())
	allNow, now := w.versionsNow()
	if allNow != all {
		w.t.Errorf("%s: every node reads everything again", name)
	}
	for ws, version := range now {
		if known, ok := of[ws]; ok && (version != known) != slices.Contains(change, ws) {
			w.t.Errorf("%s: workspace %d has version %d, had %d", name, ws, version, known)
		}
	}
}

// Upkeep that finds nothing to do, or that writes only what no decision needs, has
// no node read a workspace again.
func TestUpkeepLeavesTheVersionsOfWhatItDoesNotChange(t *testing.T) {
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	_, _, err := w.CreateEndpoint(t.Context(), ws, NewEndpoint{Kind: Webhook, Address: "http://127.0.0.1:1/", Events: AllEvents})
	w.must(err)
	_, err = w.IndexRuns(t.Context()) // once a minute it has all nodes begin new segments
	w.must(err)
	w.tagged(other, "u", `{"title":"a title"}`)
	run := w.start(ws, "u").ID
	w.report(ws, run, w.createModelCall(ws, run, "asked"), StepUpdate{Model: new("answered"), Error: new("TimeoutError")})
	w.KeyUsed(w.caller(ws).Key)
	ctx := t.Context()
	of := func(fn func() (int, error)) func() error { return func() error { _, err := fn(); return err } }
	for name, do := range map[string]func() error{
		"index_runs":          of(func() (int, error) { return w.IndexRuns(ctx) }),
		"record_key_use":      of(func() (int, error) { return w.RecordKeyUse(ctx) }),
		"end_idle_runs":       of(func() (int, error) { return w.EndIdleRuns(ctx) }),
		"delete_expired_runs": of(func() (int, error) { return w.Expire(ctx) }),
		"erase_users":         of(func() (int, error) { return w.EraseUsers(ctx) }),
		"expire_reviews":      of(func() (int, error) { return w.ExpireReviews(ctx) }),
		"fold_minutes":        of(func() (int, error) { return w.FoldMinutes(ctx) }),
		"shrink_file":         of(func() (int, error) { return w.Shrink(ctx) }),
		"check_alerts":        func() error { return w.CheckAlerts(ctx) },
		"readiness":           func() error { return w.Ready(ctx) },
	} {
		w.mustLeaveVersions(name, do)
	}
	if n := w.number(`SELECT count(*) FROM run_terms`); n < 5 { // a, title, timeouterror, asked, answered
		t.Errorf("the index has %d terms", n)
	}
}

// What changes one workspace leaves another version of that one alone.
func TestAChangeLeavesAnotherVersionOfItsWorkspaceAlone(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	ctx := t.Context()
	for name, do := range map[string]func() error{
		"step":        func() error { w.step(ws, run); return nil },
		"kill switch": func() error { _, err := w.SetKillSwitch(ctx, ws, true, ""); return err },
		"price":       func() error { w.price(ws, "m", 1, 1); return nil },
		"block":       func() error { _, err := w.BlockUser(ctx, ws, "u", nil); return err },
		"key":         func() error { _, err := w.CreateKey(ctx, ws, NewKey{Label: "k"}); return err },
	} {
		w.mustLeaveVersions(name, do, ws)
	}
	w.mustLeaveVersions("account", func() error { w.unlimitedWorkspace(); return nil })
	w.Advance(7 * time.Hour)
	w.mustLeaveVersions("idle run", func() error { _, err := w.EndIdleRuns(ctx); return err }, ws)
}
