package dbfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/pikarc/server/auth/privatefile"
)

// lockSuffix names the file beside the database whose lock says who uses it.
// SQLite's own locks cannot say so for a file that is damaged, and a restore
// is needed most for those. The system lets go of it when a process dies.
const lockSuffix = ".lock"

// Share holds the lock together with all others that use the database. Only a
// restore keeps it from them.
func Share(path string) (io.Closer, error) {
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

// serverSuffix names the file whose lock says who serves: one server alone, or
// commands that migrate meanwhile.
const serverSuffix = ".server" + lockSuffix

const (
	// lockPause is between two looks at a lock that is taken.
	lockPause = 50 * time.Millisecond
	// commandPatience is how long a server waits for commands that migrate, and
	// these for a server that does.
	commandPatience = 5 * time.Second
)

// Serve holds what only one server may hold, until it is closed: two would not
// hear of each other's changes, and do each nightly job twice. It comes before
// Migrate, and is closed after the store. ErrServed says that another still had
// it when the time to wait was over.
func Serve(ctx context.Context, path string, wait time.Duration) (io.Closer, error) {
	path, err := Locate(path)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	for {
		held, err := serveNow(path)
		if !errors.Is(err, ErrServed) {
			return held, err
		}
		patience := wait
		if !isServed(path) {
			patience = max(wait, commandPatience)
		}
		if time.Since(began) >= patience {
			return nil, err
		}
		if err := sleep(ctx, lockPause); err != nil {
			return nil, err
		}
	}
}

// serving is a server's locks.
type serving []*flock.Flock

// Close lets go of them.
func (s serving) Close() (err error) {
	for _, lock := range s {
		err = errors.Join(err, lock.Close())
	}
	return err
}

// serverLocks are the files that a server locks: one beside the database and,
// where that disturbs no lock of SQLite's, the database itself, because hard
// links in several directories are one file.
func serverLocks(path string) []string {
	if runtime.GOOS == "linux" {
		return []string{path + serverSuffix, path}
	}
	return []string{path + serverSuffix}
}

func serveNow(path string) (io.Closer, error) {
	var held serving
	for _, file := range serverLocks(path) {
		lock, err := hold(file, ErrServed)
		if err != nil {
			return nil, errors.Join(err, held.Close())
		}
		held = append(held, lock)
	}
	return held, nil
}

// isServed reports whether a server, and not only a command, has a lock.
func isServed(path string) bool {
	for _, file := range serverLocks(path) {
		lock := flock.New(file)
		ok, err := lock.TryRLock()
		if closeErr := lock.Close(); err == nil && closeErr == nil && !ok {
			return true
		}
	}
	return false
}

// shareWithCommands keeps servers from starting while a command migrates.
func shareWithCommands(path string) (*flock.Flock, error) {
	lock, err := newLock(path + serverSuffix)
	ok := false
	if err == nil {
		ok, err = lock.TryRLock()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("lock the database: %w", err)
	case !ok:
		return nil, errors.Join(ErrServedOld, lock.Close())
	}
	return lock, nil
}

// lockExclusive holds the lock alone: nobody uses the database, and nobody will.
func lockExclusive(path string) (*flock.Flock, error) { return hold(path+lockSuffix, ErrInUse) }

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
		return nil, errors.Join(fmt.Errorf("lock the database: %w", err), lock.Close())
	}
	if !ok {
		return nil, errors.Join(taken, lock.Close())
	}
	return lock, nil
}
