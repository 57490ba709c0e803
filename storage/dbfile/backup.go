package dbfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pikarc/server/auth/privatefile"
	"github.com/pikarc/server/storage/sqlite"
)

// Backup writes a copy of a database to a file: one snapshot of it, complete
// at the moment the copy began, while others read and write. The copy is
// checked before it takes the file's name, so that the name never stands for
// half a backup, and replaces an earlier one only then. Only its owner can
// read it. It returns the copy's size in bytes.
func Backup(ctx context.Context, path, file string) (bytes int64, err error) {
	if err := requireSeparate(path, file); err != nil {
		return 0, err
	}
	copied, err := copyTo(ctx, path, filepath.Dir(file), filepath.Base(file))
	if err != nil {
		return 0, err
	}
	if err := os.Rename(copied.name, file); err != nil {
		return 0, errors.Join(fmt.Errorf("name the backup: %w", err), os.Remove(copied.name))
	}
	return copied.bytes, privatefile.SyncDir(filepath.Dir(file))
}

// requireSeparate keeps a backup from replacing what it is a backup of.
func requireSeparate(path, file string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	target, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	if !target.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", file)
	}
	// Compared as files, since a link may give them another name.
	for _, suffix := range []string{"", "-wal", "-shm", lockSuffix} {
		if part, err := os.Stat(path + suffix); err == nil && os.SameFile(part, target) {
			return fmt.Errorf("%s is the database itself, or a part of it", file)
		}
	}
	return nil
}

// partialSuffix ends the names of copies that are not complete.
const partialSuffix = ".partial"

// copied is a complete, checked and synced copy under a name of its own.
type copied struct {
	name    string
	bytes   int64
	version int64 // of its schema
}

// copyTo copies a database into a directory. VACUUM INTO reads every row in one
// snapshot and writes a file without what was deleted (docs/adr/0017).
func copyTo(ctx context.Context, path, dir, like string) (c copied, err error) {
	f, err := privatefile.CreateTemp(dir, "."+like+".*"+partialSuffix) // mode 0600
	if err != nil {
		return c, fmt.Errorf("make the copy: %w", err)
	}
	defer func() {
		err = OrNoSpace(errors.Join(err, f.Close()), f.Name())
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	c.name = f.Name()
	if err := vacuumInto(ctx, path, c.name); err != nil {
		return c, fmt.Errorf("copy %s: %w", path, err)
	}
	if c.version, err = checkCopy(ctx, c.name); err != nil {
		return c, fmt.Errorf("check the copy of %s: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return c, err
	}
	c.bytes = info.Size()
	return c, f.Sync()
}

// vacuumInto copies the database as of one moment, without its free pages, while others go on
// writing.
func vacuumInto(ctx context.Context, path, file string) (err error) {
	db, err := sqlite.OpenExisting(path, sqlite.BusyTimeoutPragma())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, `VACUUM INTO $1`, file)
	return OrNoSpace(OrNoSpace(Classify(err), file), path)
}

// checkCopy proves that a copy can be opened and is intact, and reads its schema's version.
func checkCopy(ctx context.Context, file string) (version int64, err error) {
	faults, _, err := CheckFile(ctx, file)
	if err != nil {
		return 0, err
	}
	if len(faults) > 0 {
		f := faults[0]
		return 0, fmt.Errorf("%w: %s %s %s", ErrCorrupt, f.Check, f.Row, f.Stored)
	}
	version, err = schemaVersion(ctx, file)
	if err == nil && version == 0 {
		err = errors.New("this is no database of Pikarc")
	}
	return version, err
}

// backupBeforeMigrating keeps the database as it was, beside it. A fresh one
// has nothing to keep.
func backupBeforeMigrating(ctx context.Context, path string, schema Schema) error {
	if schema.Current == 0 {
		return nil
	}
	file := siblingName(path, fmt.Sprintf("before-schema-%d", schema.Newest), time.Now())
	if _, err := Backup(ctx, path, file); err != nil {
		return fmt.Errorf("back up before migrating (or do without: pikarc migrate --no-backup): %w", err)
	}
	return nil
}

// siblingName names a file beside the database for what is kept of it.
func siblingName(path, why string, now time.Time) string {
	return fmt.Sprintf("%s-%s-%s.db", strings.TrimSuffix(path, ".db"), why, now.UTC().Format("20060102T150405.000Z"))
}
