package storage

import (
	"testing"
	"time"

	"github.com/pikarc/server/plans"
)

func TestAChangeIsNeverThereWithoutItsEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.workspace(plans.Scale)
	refuse := `CREATE TRIGGER no_entry BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, 'no entry'); END`
	if w.url != "" {
		refuse = `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no entry''; END';
			CREATE TRIGGER no_entry BEFORE INSERT ON audit_entries EXECUTE FUNCTION refuse()`
	}
	_, err := w.otherProcess.ExecContext(t.Context(), refuse)
	w.must(err)
	if _, err := w.BlockUser(t.Context(), ws, "ada", nil); err == nil {
		t.Error("a block that could not be recorded was answered as done")
	}
	if _, err := w.SetKillSwitch(t.Context(), ws, true, ""); err == nil {
		t.Error("a kill switch that could not be recorded was answered as done")
	}
	if got, err := w.Workspace(t.Context(), ws); err != nil || got.KillSwitch {
		t.Errorf("the kill switch is %v, %v", got.KillSwitch, err)
	}
	if n := w.number(`SELECT count(*) FROM users`); n != 0 {
		t.Errorf("%d users, though the block was refused", n)
	}
}

func TestAuditEntriesAreKeptForAYear(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.workspace(plans.Basic) // the first entry of each is that it was made
	w.Advance(auditDays * 24 * time.Hour)
	if _, err := w.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.number(`SELECT count(*) FROM audit_entries WHERE workspace_id = $1`, old); n != 1 {
		t.Errorf("on the last day of the year %d entries are left, want 1", n)
	}
	for range 450 { // more than one piece deletes
		w.must(w.SignedIn(t.Context(), w.accountOf(old), "203.0.113.5/32", nil))
	}
	w.Advance(time.Millisecond)
	recent := w.workspace(plans.Basic)
	if _, err := w.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.number(`SELECT count(*) FROM audit_entries WHERE workspace_id = $1`, old); n != 450 {
		t.Errorf("after the year %d entries are left, want the 450 of that day", n)
	}
	w.Advance(auditDays * 24 * time.Hour)
	if _, err := w.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.number(`SELECT count(*) FROM audit_entries WHERE workspace_id = $1`, old); n != 0 {
		t.Errorf("%d entries are past their time", n)
	}
	if n := w.number(`SELECT count(*) FROM audit_entries WHERE workspace_id = $1`, recent); n != 1 {
		t.Errorf("%d entries of the other workspace, want 1", n)
	}
}

// accountOf is the account of a workspace.
func (w *world) accountOf(ws WorkspaceKey) (a Account) {
	w.t.Helper()
	w.must(w.read(w.t.Context(), func(tx *Tx) (err error) {
		a, err = scanAccount(tx, selectAccount+`w.id = $1`, ws)
		return err
	}))
	return a
}

// A failed sign-in of a known email writes an entry, so one of an unknown email
// must write as well: else the time of the answer would tell them apart.
func TestASignInOfNobodyWritesToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.SignedIn(t.Context(), Account{}, "203.0.113.5/32", nil))
	if at := w.number(`SELECT checked_at FROM probes`); at != w.Now().UnixMilli() {
		t.Errorf("nothing was written (the last write is of %d)", at)
	}
	if n := w.number(`SELECT count(*) FROM audit_entries`); n != 0 {
		t.Errorf("%d entries of nobody", n)
	}
}
