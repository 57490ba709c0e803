package sqlite

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// end is a time that is over.
func end() <-chan struct{} {
	over := make(chan struct{})
	close(over)
	return over
}

// Whatever is wrong with its transaction, a session is used no more.
func TestSessionWhoseTransactionFailedIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	for range f.pool.Size() { // one that is inside a transaction, as a stray BEGIN leaves it
		s, err := f.pool.take(t.Context())
		if err == nil {
			_, err = s.Exec(t.Context(), "BEGIN", nil)
		}
		f.pool.slots <- s
		f.must(err)
	}
	for range f.pool.Size() {
		if _, err := f.pool.Begin(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("began twice: %v", err)
		}
	}
	for range f.pool.Size() { // one that is outside although its read is not over
		s, err := f.pool.Begin(t.Context())
		f.must(err)
		_, err = s.Exec(t.Context(), "ROLLBACK", nil)
		f.must(err)
		if err := f.pool.End(t.Context(), s); !errors.Is(err, ErrUnavailable) {
			t.Errorf("ended twice: %v", err)
		}
	}
	for range f.pool.Size() {
		f.must(f.read(end()))
	}
}

// A place whose session cannot be opened is filled by a later caller.
func TestSessionThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	for range f.pool.Size() {
		f.must((<-f.pool.slots).close())
		f.pool.slots <- nil
	}
	intact := f.pool.db
	var err error
	f.pool.db, err = OpenDB(filepath.Join(t.TempDir(), "none", "none.db"))
	f.must(err)
	for range 2 * f.pool.Size() {
		if err := f.read(end()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("without a file: %v", err)
		}
	}
	f.must(f.pool.db.Close())
	f.pool.db = intact
	for range f.pool.Size() {
		f.must(f.read(end()))
	}
}

func TestPoolWaitsForReadsBeforeItCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		over, ended, closed := make(chan struct{}), make(chan error, 1), make(chan error, 1)
		go func() { ended <- f.read(over) }()
		synctest.Wait()
		go func() { closed <- f.pool.Close() }()
		synctest.Wait()
		if len(closed) > 0 {
			t.Error("closed under a read")
		}
		close(over)
		f.must(<-ended)
		f.must(<-closed)
		for range 100 { // never by chance
			if err := f.read(end()); !errors.Is(err, ErrClosed) {
				t.Fatalf("after Close: %v", err)
			}
		}
	})
}

func TestConnectionWithAnotherPragmaIsNotUsed(t *testing.T) {
	t.Parallel()
	path := created(t)
	for i, p := range Pragmas(true) {
		set := Pragmas(true)
		set[i][1] = "0"
		if p[0] == "journal_mode" {
			set[i][1] = "delete"
		}
		db, err := OpenDB(path, set...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openSession(t.Context(), db); err == nil || !strings.Contains(err.Error(), p[0]) {
			t.Errorf("with another %s: %v", p[0], err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
