package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// everySession reads often enough to use each session of both pools.
func (w *world) everySession() {
	w.t.Helper()
	for range w.poolSize(forLists) + w.poolSize(forCredentials) {
		if _, err := w.KeyCredential(w.t.Context(), "00000000"); !errors.Is(err, ErrNotFound) {
			w.t.Fatalf("look a key up: %v", err)
		}
		if _, _, err := w.Runs(w.t.Context(), 1, RunFilter{Limit: 1}); err != nil {
			w.t.Fatalf("list runs: %v", err)
		}
	}
}

// poolSize is how many sessions a pool has.
func (w *world) poolSize(pool readPool) int {
	if e, ok := w.engine.(*postgresEngine); ok {
		return e.pools[pool].Size()
	}
	return w.file().pools[pool].Size()
}

// A caller may hang up at any instant of its read, also while the transaction
// begins or ends.
func TestCancelledReadsSpoilNoSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const callers, reads = 8, 5_000
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for i := range reads {
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					for range i % 50 {
						runtime.Gosched()
					}
					cancel()
				}()
				_, keyErr := w.KeyCredential(ctx, "00000000")
				_, _, listErr := w.Runs(ctx, 1, RunFilter{Limit: 1})
				for _, err := range []error{ignoreNotFound(keyErr), listErr} {
					if err != nil && !errors.Is(err, context.Canceled) {
						t.Errorf("read %d: %v", i, err)
						return
					}
				}
			}
		})
	}
	group.Wait()
	w.everySession()
	w.must(w.Ready(t.Context()))
}

// Whatever is wrong with its transaction, a session is used no more; and a
// panic costs none.
func TestSessionWhoseReadFailedIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, pool := range map[string]readPool{"readers": forLists, "credentials": forCredentials} {
		read := func(fn func(*Tx) error) error { return w.readFrom(t.Context(), pool, fn) }
		for range w.poolSize(pool) { // one that is outside although its read is not over
			// PostgreSQL takes a second end of a transaction for a warning.
			err := read(func(tx *Tx) error { _, err := tx.exec("ROLLBACK"); return err })
			if w.url == "" && !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: ended twice: %v", name, err)
			}
		}
		for range w.poolSize(pool) {
			func() {
				defer func() { _ = recover() }()
				_ = read(func(*Tx) error { panic("a bug") })
			}()
		}
	}
	w.everySession()
}

// While no session can be opened nothing is read, and the server is not ready.
func TestReadsComeBackOnceTheFileCanBeOpened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Dir(w.path)
	w.must(os.Rename(dir, dir+".gone"))
	for range w.file().pools[forCredentials].Size() {
		err := w.readFrom(t.Context(), forCredentials, func(tx *Tx) error { _, err := tx.exec("ROLLBACK"); return err })
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("ended twice: %v", err)
		}
	}
	for range 2 * w.file().pools[forCredentials].Size() {
		if _, err := w.KeyCredential(t.Context(), "00000000"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("without a file: %v", err)
		}
		w.probe.at = w.probe.at.Add(-2 * probeInterval)
		if err := w.Ready(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("readiness without a file: %v", err)
		}
	}
	w.must(os.Rename(dir+".gone", dir))
	w.probe.at = w.probe.at.Add(-2 * probeInterval)
	w.must(w.Ready(t.Context()))
	w.everySession()
}

func TestReadsAfterCloseAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.Close())
	for range 100 { // never by chance
		_, keyErr := w.KeyCredential(t.Context(), "00000000")
		_, _, listErr := w.Runs(t.Context(), 1, RunFilter{Limit: 1})
		if !errors.Is(keyErr, ErrClosed) || !errors.Is(listErr, ErrClosed) || !errors.Is(w.Ready(t.Context()), ErrClosed) {
			t.Fatalf("after Close: %v, %v, %v", keyErr, listErr, w.Ready(t.Context()))
		}
	}
}
