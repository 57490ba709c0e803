package storage

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// everySession reads often enough to use each session of both pools.
func (w *world) everySession() {
	w.t.Helper()
	for range cap(w.readers.slots) + cap(w.credentials.slots) {
		if _, err := w.KeyCredential(w.t.Context(), "00000000"); !errors.Is(err, ErrNotFound) {
			w.t.Fatalf("look a key up: %v", err)
		}
		if _, _, err := w.Runs(w.t.Context(), 1, RunFilter{Limit: 1}); err != nil {
			w.t.Fatalf("list runs: %v", err)
		}
	}
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

// Whatever is wrong with its transaction, a session is used no more.
func TestSessionWhoseTransactionFailedIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, p := range map[string]*pool{"readers": w.readers, "credentials": w.credentials} {
		read := func(fn func(*Tx) error) error { return p.read(t.Context(), fn) }
		for range cap(p.slots) { // one that is inside a transaction, as a stray BEGIN leaves it
			s, err := p.take(t.Context())
			if err == nil {
				_, err = s.exec(t.Context(), "BEGIN", nil)
			}
			p.slots <- s
			if err != nil {
				t.Error(err)
			}
		}
		for range cap(p.slots) {
			if err := read(func(*Tx) error { return nil }); !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: began twice: %v", name, err)
			}
		}
		for range cap(p.slots) { // one that is outside although its read is not over
			err := read(func(tx *Tx) error { _, err := tx.exec("ROLLBACK"); return err })
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: ended twice: %v", name, err)
			}
		}
		for range cap(p.slots) {
			func() {
				defer func() { _ = recover() }()
				_ = read(func(*Tx) error { panic("a bug") })
			}()
		}
	}
	w.everySession()
}

// A place whose session cannot be opened is filled by a later caller.
func TestSessionThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.credentials
	for range cap(p.slots) {
		w.must((<-p.slots).close())
		p.slots <- nil
	}
	sound := p.db
	var err error
	p.db, err = sql.Open("sqlite", dsn(filepath.Join(t.TempDir(), "none", "none.db")))
	w.must(err)
	for range 2 * cap(p.slots) {
		if _, err := w.KeyCredential(t.Context(), "00000000"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("without a file: %v", err)
		}
		w.probe.at = w.probe.at.Add(-2 * probeInterval)
		if err := w.Ready(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("readiness without a file: %v", err)
		}
	}
	w.must(p.db.Close())
	p.db = sound
	w.probe.at = w.probe.at.Add(-2 * probeInterval)
	w.must(w.Ready(t.Context()))
	w.everySession()
}

func TestReadsAfterCloseAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	started, over, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- w.read(context.Background(), func(tx *Tx) error {
			close(started)
			<-over
			var n int64
			return tx.get(`SELECT count(*) FROM runs`, nil, &n)
		})
	}()
	<-started
	closed := make(chan error, 1)
	go func() { closed <- w.Close() }()
	<-w.readers.closed
	if len(closed) > 0 {
		t.Error("closed under a read")
	}
	close(over)
	w.must(<-ended)
	w.must(<-closed)
	for range 100 { // never by chance
		_, keyErr := w.KeyCredential(t.Context(), "00000000")
		_, _, listErr := w.Runs(t.Context(), 1, RunFilter{Limit: 1})
		if !errors.Is(keyErr, ErrClosed) || !errors.Is(listErr, ErrClosed) || !errors.Is(w.Ready(t.Context()), ErrClosed) {
			t.Fatalf("after Close: %v, %v, %v", keyErr, listErr, w.Ready(t.Context()))
		}
	}
}
