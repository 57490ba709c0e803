package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/pikarc/server/storage/sqlite"
)

// What a caller can act on. Anything else is a bug.
var (
	ErrNotFound      = errors.New("not found")
	ErrConflict      = errors.New("already exists")
	ErrBusy          = errors.New("the write queue is full")
	ErrClosed        = sqlite.ErrClosed
	ErrUnavailable   = sqlite.ErrUnavailable
	ErrSchemaOld     = errors.New("the database's schema is older than this binary: run `pikarc migrate`")
	ErrSchemaNewer   = errors.New("the database was made by a newer pikarc: upgrade this binary; the database is unchanged")
	ErrNotFirst      = errors.New("there is an account already")
	ErrBadCursor     = errors.New("not a cursor of this list")
	ErrKeyReused     = errors.New("the idempotency key was used with another body")
	ErrStepBlocked   = errors.New("a blocked step takes no update")
	ErrKeyRevoked    = errors.New("the API key is no longer active")
	ErrKeyExpired    = errors.New("the API key has expired")
	ErrTooManyKeys   = errors.New("the workspace has too many active API keys")
	ErrOutdated      = errors.New("it was changed meanwhile: read it again")
	ErrBadPassword   = errors.New("the password has changed meanwhile")
	ErrDamaged       = errors.New("the database is damaged: stop the server, and restore the latest backup with `pikarc restore FILE --force` (the damaged file is kept; see docs/ops/backup.md)")
	ErrNoSpace       = errors.New("no space left on")
	ErrBadBackup     = errors.New("that file is no sound backup: choose another; nothing was changed")
	ErrReadOnly      = errors.New("the database cannot be written: check owner and mode of the data directory and its files")
	ErrInUse         = errors.New("the database is in use: stop the server and every other pikarc command first")
	ErrServed        = errors.New("another `pikarc serve` uses this data directory: stop it first, or choose another with --data-dir")
	ErrServedOld     = errors.New("a server of another version runs on this database, whose schema is left as it is: use that version's own pikarc, or stop the server first")
	ErrNetwork       = errors.New("a database on a network file system can be served by two machines at once, and answered runs get lost: choose a directory on a disk of this machine with --data-dir")
	ErrRestoring     = errors.New("the database is being restored: try again when that is done")
	ErrExists        = errors.New("there is a database already: with --force it is kept under another name, and replaced")
	errJobPanicked   = errors.New("panic in a write")
	errBatchRollback = errors.New("the batch was rolled back")
)

// EndedError says that a run has already ended in another way than asked.
type EndedError struct{ Status RunStatus }

func (e *EndedError) Error() string {
	return fmt.Sprintf("Run has already ended as %s", e.Status)
}

// classify adds ErrUnavailable to errors of the environment (disk, locks), by SQLite's code.
func classify(err error) error {
	if !sqlite.IsUnavailable(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.Join(ErrUnavailable, asDamage(err))
}

// isMissing is the error for a row that another one refers to. Its absence is
// no answer to whoever asked, who would take it for "not found".
func isMissing(row string) error {
	return fmt.Errorf("%w: %s is missing: %w", ErrUnavailable, row, ErrDamaged)
}

// orNoSpace says of an error that the disk of a file is full, where it is.
// SQLite has no code for that when it is the index of the WAL that cannot grow.
func orNoSpace(err error, file string) error {
	full := errors.Is(err, syscall.ENOSPC) || sqlite.IsFull(err)
	if !full && sqlite.IsIOError(err) {
		const room = 64 << 10
		free, known := freeBytes(filepath.Dir(file))
		full = known && free < room
	}
	if !full || errors.Is(err, ErrNoSpace) {
		return err
	}
	return fmt.Errorf("%w %s: free some: %w", ErrNoSpace, filepath.Dir(file), err)
}

// ignoreNotFound is for look-ups whose absence means something.
func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
