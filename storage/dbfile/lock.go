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

// LockShared takes the lock that all users of the database share. Only a
// restore, which locks it exclusively, keeps them out.
func LockShared(path string) (io.Closer, error) {
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
	// lockRetryDelay is between two looks at a lock that is taken.
	lockRetryDelay = 50 * time.Millisecond
	// commandWait is how long a server waits for commands that migrate, and
	// these for a server that does.
	commandWait = 5 * time.Second
)

// LockServer takes the lock that only one server may have, until it is closed.
// Two servers would not see each other's changes, and would do each nightly job
// twice. Take it before Migrate, and close it after the store. It returns
// ErrServerRunning when another server still had it after the time to wait.
func LockServer(ctx context.Context, path string, wait time.Duration) (io.Closer, error) {
	path, err := Locate(path)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	for {
		held, err := tryLockServer(path)
		if !errors.Is(err, ErrServerRunning) {
			return held, err
		}
		// A command holds the lock for a moment, so it is worth while to wait for one. A server
		// holds it for good.
		limit := wait
		if !serverRunning(path) {
			limit = max(wait, commandWait)
		}
		if time.Since(began) >= limit {
			return nil, err
		}
		if err := Sleep(ctx, lockRetryDelay); err != nil {
			return nil, err
		}
	}
}

// serverLock is a server's locks.
type serverLock []*flock.Flock

// Close lets go of them.
func (s serverLock) Close() (err error) {
	for _, lock := range s {
		err = errors.Join(err, lock.Close())
	}
	return err
}

// serverLockFiles are the files that a server locks: one beside the database and,
// where that disturbs no lock of SQLite's, the database itself, because hard
// links in several directories are one file.
func serverLockFiles(path string) []string {
	if runtime.GOOS == "linux" {
		return []string{path + serverSuffix, path}
	}
	return []string{path + serverSuffix}
}

// tryLockServer takes all lock files or none.
func tryLockServer(path string) (io.Closer, error) {
	var held serverLock
	for _, file := range serverLockFiles(path) {
		lock, err := tryLock(file, ErrServerRunning)
		if err != nil {
			return nil, errors.Join(err, held.Close())
		}
		held = append(held, lock)
	}
	return held, nil
}

// serverRunning reports whether a server, and not only a command, has a lock.
func serverRunning(path string) bool {
	for _, file := range serverLockFiles(path) {
		lock := flock.New(file)
		ok, err := lock.TryRLock()
		if closeErr := lock.Close(); err == nil && closeErr == nil && !ok {
			return true
		}
	}
	return false
}

// lockForCommand keeps servers from starting while a command migrates.
func lockForCommand(path string) (*flock.Flock, error) {
	lock, err := newLock(path + serverSuffix)
	ok := false
	if err == nil {
		ok, err = lock.TryRLock()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("lock the database: %w", err)
	case !ok:
		return nil, errors.Join(ErrOtherVersionRunning, lock.Close())
	}
	return lock, nil
}

// lockExclusive takes the database's lock exclusively: nobody uses it, or can begin to.
func lockExclusive(path string) (*flock.Flock, error) { return tryLock(path+lockSuffix, ErrInUse) }

// newLock makes the file of a lock, which belongs to the directory's owner.
func newLock(file string) (*flock.Flock, error) {
	return flock.New(file), privatefile.Ensure(file)
}

// tryLock takes an exclusive lock, or returns the error taken.
func tryLock(file string, taken error) (*flock.Flock, error) {
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
