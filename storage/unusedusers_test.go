package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// names lists the users of a workspace, sorted.
func (w *world) names(ws WorkspaceKey) (all []string) {
	w.t.Helper()
	users, _, err := w.Users(context.Background(), ws, UserFilter{Limit: 1000})
	w.must(err)
	for _, u := range users {
		all = append(all, u.UserID)
	}
	slices.Sort(all)
	return all
}

// denied starts a run that no plan allows.
func (w *world) denied(ws WorkspaceKey, user string) {
	w.t.Helper()
	deny := func(guard.Request, guard.State) guard.Decision {
		return guard.Decision{Reason: guard.KillSwitchActive}
	}
	_, err := w.StartRun(context.Background(), Caller{Workspace: ws}, NewRun{UserID: user}, deny)
	w.must(err)
}

func (w *world) expire() {
	w.t.Helper()
	_, err := w.Expire(context.Background())
	w.must(err)
}

func TestUsersMadeByDeniedStartsAloneAreExpiredWithTheirRuns(t *testing.T) {
	w := newWorld(t)
	ws, pro := w.workspace(plans.Basic), w.workspace(plans.Pro) // one day and 14
	for i := range 300 {
		w.denied(ws, fmt.Sprintf("stranger %d", i))
	}
	w.denied(pro, "stranger")
	w.denied(ws, "blocked")
	_, err := w.BlockUser(t.Context(), ws, "blocked", nil)
	w.must(err)
	_, err = w.BlockUser(t.Context(), ws, "once blocked", nil)
	w.must(err)
	_, err = w.UnblockUser(t.Context(), ws, "once blocked")
	w.must(err)
	w.denied(ws, "customer")
	w.end(ws, w.start(ws, "customer").ID, RunCompleted)
	w.start(ws, "running")
	w.expire()
	if n := len(w.names(ws)); n != 304 {
		t.Errorf("%d users are left while their denials are, want 304", n)
	}

	w.Advance(23 * time.Hour)
	w.denied(ws, "stranger 7") // who is back
	w.Advance(2 * time.Hour)
	w.expire()
	if got := w.names(ws); !slices.Equal(got, []string{"blocked", "customer", "running", "stranger 7"}) {
		t.Errorf("after a day there are %q", got)
	}
	if got := w.names(pro); !slices.Equal(got, []string{"stranger"}) {
		t.Errorf("the workspace that keeps 14 days has %q", got)
	}
	if n := w.number(`SELECT sum(denial_count) FROM denial_days WHERE workspace_id = $1`, ws); n != 303 {
		t.Errorf("%d denials are counted, want 303", n)
	}
	w.mustRememberTheTruth()
	w.mustVerify()

	for _, user := range []string{"stranger 1", "stranger 2"} { // as if never seen
		w.denied(ws, user)
		w.start(ws, user)
	}
	w.Advance(26 * time.Hour)
	w.expire()
	if got := w.names(ws); !slices.Equal(got, []string{"blocked", "customer", "running", "stranger 1", "stranger 2"}) {
		t.Errorf("after another day there are %q", got)
	}
	w.mustRememberTheTruth()
	w.mustVerify()
}

// Between the look and the deletion a user may come back, who is then kept.
func TestUserWhoComesBackIsNotExpired(t *testing.T) {
	w := newWorld(t)
	ws := w.workspace(plans.Basic)
	for _, user := range []string{"allowed", "denied", "blocked", "gone"} {
		w.denied(ws, user)
	}
	w.Advance(48 * time.Hour)
	_, err := w.Expire(t.Context()) // deletes the runs, and then the users
	w.must(err)
	if got := w.names(ws); len(got) != 0 {
		t.Fatalf("%q are left", got)
	}
	for _, user := range []string{"allowed", "denied", "blocked", "gone"} {
		w.denied(ws, user)
	}
	w.elsewhere(`DELETE FROM runs; DELETE FROM denials;
		UPDATE denial_days SET denial_count = 0; UPDATE workspace_days SET blocked_run_count = 0; UPDATE users SET last_seen_at = 0`)
	found, _, err := w.unusedUsers(t.Context(), 0)
	w.must(err)
	if len(found) != 4 {
		t.Fatalf("%d users look unused", len(found))
	}
	w.start(ws, "allowed")
	w.denied(ws, "denied")
	_, err = w.BlockUser(t.Context(), ws, "blocked", nil)
	w.must(err)
	for _, u := range found {
		w.must(w.write(t.Context(), modeSQL, func(tx *Tx) error { return expireUser(tx, u, tx.now.Add(-time.Hour)) }))
	}
	if got := w.names(ws); !slices.Equal(got, []string{"allowed", "blocked", "denied"}) {
		t.Errorf("left are %q", got)
	}
	_, err = w.UnblockUser(t.Context(), ws, "gone")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("the expired user: %v", err)
	}
	w.mustRememberTheTruth()
	w.mustVerify()
}
