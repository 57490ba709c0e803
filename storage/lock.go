package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/gofrs/flock"

	"github.com/pikarc/server/auth/privatefile"
)

// lockSuffix names the file beside the database whose lock says who uses it.
// SQLite's own locks cannot say so for a file that is damaged, and a restore
// is needed most for those. The system lets go of it when a process dies.
const lockSuffix = ".lock"

// share holds the lock together with all others that use the database. Only a
// restore keeps it from them.
func share(path string) (*flock.Flock, error) {
	lock, err := newLock(path + lockSuffix)
	ok := false
	if err == nil {
		ok, err = lock.TryRLock()
	}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return nil, fmt.Errorf("%w: %w", ErrReadOnly, err)
	case err != nil:
		return nil, fmt.Errorf("lock the database: %w", err)
	case !ok:
		return nil, ErrRestoring
	}
	return lock, nil
}

// Serve holds what only one server may hold, until it is closed: two would not
// hear of each other's changes, and do each nightly job twice. ErrServed says
// that another has it.
func Serve(path string) (io.Closer, error) { return hold(path+".server"+lockSuffix, ErrServed) }

// own holds the lock alone: nobody uses the database, and nobody will.
func own(path string) (*flock.Flock, error) { return hold(path+lockSuffix, ErrInUse) }

// newLock makes the file of a lock, which belongs to the directory's owner.
func newLock(file string) (*flock.Flock, error) {
	return flock.New(file), privatefile.Ensure(file)
}

// hold holds a lock alone, or returns the error for one that is taken.
func hold(file string, taken error) (*flock.Flock, error) {
	lock, err := newLock(file)
	ok := false
	if err == nil {
		ok, err = lock.TryLock()
	}
	if err != nil {
		return nil, fmt.Errorf("lock the database: %w", err)
	}
	if !ok {
		return nil, taken
	}
	return lock, nil
}
