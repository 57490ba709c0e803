package dbfile

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
	// ErrSchemaOld and ErrSchemaNewer: binary and file are of different releases.
	ErrSchemaOld   = errors.New("the database's schema is older than this binary: run `pikarc migrate`")
	ErrSchemaNewer = errors.New("the database was made by a newer pikarc: upgrade this binary; the database is unchanged")
	// ErrCorrupt: SQLite found pages or indexes that do not fit.
	ErrCorrupt = errors.New("the database is damaged")
	// ErrNoSpace is completed with the directory whose disk is full.
	ErrNoSpace = errors.New("no space left on")
	// ErrBadBackup: the file that is to be restored is damaged itself.
	ErrBadBackup = errors.New("that file is no sound backup: choose another; nothing was changed")
	// ErrReadOnly: found when the server starts, and not with the first write.
	ErrReadOnly = errors.New("the database cannot be written: check owner and mode of the data directory and its files")
	// ErrInUse: a restore must be alone.
	ErrInUse = errors.New("the database is in use: stop the server and every other pikarc command first")
	// ErrServerRunning: one server serves a file, because it caches rows.
	ErrServerRunning       = errors.New("another `pikarc serve` uses this data directory: stop it first, or choose another with --data-dir")
	ErrOtherVersionRunning = errors.New("a server of another version runs on this database, whose schema is left as it is: use that version's own pikarc, or stop the server first")
	// ErrNetwork: locks of such file systems cannot be relied on.
	ErrNetwork   = errors.New("a database on a network file system can be served by two machines at once, and answered runs get lost: choose a directory on a disk of this machine with --data-dir")
	ErrRestoring = errors.New("the database is being restored: try again when that is done")
	// ErrExists protects a database from a restore into the wrong directory.
	ErrExists = errors.New("there is a database already: with --force it is kept under another name, and replaced")
)

// ErrDamagedFile is ErrCorrupt with what to do about a damaged file.
var ErrDamagedFile = fmt.Errorf("%w: stop the server, and restore the latest backup with `pikarc restore FILE --force` (the damaged file is kept; see docs/ops/backup.md)", ErrCorrupt)

// Classify adds sqlite.ErrUnavailable to errors of the environment (disk,
// locks), and ErrDamagedFile to those of a file that is no intact database.
func Classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	damaged := sqlite.IsCorrupt(err) || errors.Is(err, ErrCorrupt)
	if !damaged && !sqlite.IsUnavailable(err) {
		return err
	}
	if damaged && !errors.Is(err, ErrDamagedFile) {
		err = fmt.Errorf("%w: %w", ErrDamagedFile, err)
	}
	return errors.Join(sqlite.ErrUnavailable, err)
}

// OrNoSpace says of an error that the disk of a file is full, where it is.
// SQLite has no code for that when it is the index of the WAL that cannot grow.
func OrNoSpace(err error, file string) error {
	full := errors.Is(err, syscall.ENOSPC) || sqlite.IsFull(err)
	if !full && sqlite.IsIOError(err) {
		const room = 64 << 10
		free, _, known := Disk(filepath.Dir(file))
		full = known && free < room
	}
	if !full || errors.Is(err, ErrNoSpace) {
		return err
	}
	return fmt.Errorf("%w %s: free some: %w", ErrNoSpace, filepath.Dir(file), err)
}

// OrReadOnly adds ErrReadOnly to what SQLite says of files it may not write.
func OrReadOnly(err error) error {
	if sqlite.IsReadOnly(err) {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}
