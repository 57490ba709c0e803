package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pikarc/server/storage/postgres"
	"github.com/pikarc/server/storage/sqlite"
)

// failStatement makes one transaction statement fail once; state then puts the
// transaction into the state that the test wants.
func (w *world) failStatement(statement string, state func() error) {
	h := w.hooks()
	h.onRun = func(query string) error {
		if query != statement {
			return nil
		}
		h.onRun = nil
		return errors.Join(errors.New("the disk is gone"), state())
	}
}

// behindHooks is the connection to the file without the hooks.
func (w *world) behindHooks() writerConn { return w.file().writer.(*hookedFile).writerConn }

// After a BEGIN, COMMIT or ROLLBACK that failed, the state of the transaction is
// unknown: the next one gets a new connection, and still sees everything that
// others have committed.
func TestWritersConnectionIsReplacedWhenATransactionStatementFails(t *testing.T) {
	t.Parallel()
	nothing := func() error { return nil }
	for name, fail := range map[string]func(w *world){
		"begin, begun": func(w *world) {
			w.failStatement("BEGIN IMMEDIATE", func() error { return w.behindHooks().Run("BEGIN IMMEDIATE") })
		},
		"begin, not begun": func(w *world) { w.failStatement("BEGIN IMMEDIATE", nothing) },
		"commit, not done": func(w *world) { w.failStatement("COMMIT", nothing) },
		"commit, rolled back": func(w *world) {
			w.failStatement("COMMIT", func() error { return w.behindHooks().Run("ROLLBACK") })
		},
		"rollback, not done": func(w *world) { w.failStatement("ROLLBACK", nothing); w.failNextRelease() },
		"rollback, all undone": func(w *world) {
			w.failStatement("ROLLBACK", func() error { return w.behindHooks().Run("ROLLBACK") })
			w.failNextRelease()
		},
	} {
		w := newWorld(t)
		ws := w.unlimitedWorkspace()
		replaced := 0
		w.hooks().onReopen = func() error { replaced++; return nil }
		fail(w)
		if err := w.write(t.Context(), modeBulkSQL, add("lost")); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if replaced != 1 {
			t.Errorf("%s: the connection was replaced %d times", name, replaced)
		}
		_, err := w.otherProcess.ExecContext(t.Context(), `UPDATE workspaces SET kill_switch = 1`)
		w.must(err)
		if got := w.start(ws, "u"); got.Status != "BLOCKED" {
			t.Errorf("%s: another process's commit was missed: %+v", name, got)
		}
		w.must(w.write(t.Context(), modeBulkSQL, add("kept")))
		if w.rows("lost") != 0 || w.rows("kept") != 1 {
			t.Errorf("%s: %d and %d rows", name, w.rows("lost"), w.rows("kept"))
		}
	}
}

// failNextRelease makes the next batch's last savepoint fail, and so the batch.
func (w *world) failNextRelease() {
	h := w.hooks()
	inner := h.onRun
	h.onRun = func(query string) error {
		if query == "RELEASE job" {
			h.onRun = inner
			return errors.New("the disk is gone")
		}
		return nil
	}
}

// While no connection can be opened every write is refused; as soon as one can,
// writes succeed again.
func TestWriterComesBackOnceItsFileCanBeOpened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Dir(w.path)
	w.failStatement("COMMIT", func() error { return os.Rename(dir, dir+".gone") })
	for range 3 {
		if err := w.write(t.Context(), modeBulkSQL, add("lost")); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	}
	if _, err := os.Stat(w.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
	w.must(os.Rename(dir+".gone", dir))
	w.must(w.write(t.Context(), modeBulkSQL, add("kept")))
	if w.rows("lost") != 0 || w.rows("kept") != 1 {
		t.Errorf("%d and %d rows", w.rows("lost"), w.rows("kept"))
	}
}

// A statement's parameters and position belong to the connection: running one
// inside the callback of another would break both.
func TestStatementInsideACallbackOfAnotherIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	err := w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
		return tx.each(`SELECT 1 UNION SELECT 2`, nil, func(scanner) error { return add("nested")(tx) })
	})
	if !errors.Is(err, sqlite.ErrNested) && !errors.Is(err, postgres.ErrNested) {
		t.Error(err)
	}
	w.must(w.write(context.Background(), modeBulkSQL, add("after")))
	if w.rows("nested") != 0 || w.rows("after") != 1 {
		t.Errorf("%d and %d rows", w.rows("nested"), w.rows("after"))
	}
}
