package dbfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pikarc/server/auth/privatefile"
	"github.com/pikarc/server/storage/sqlite"
)

// Restore puts a backup in the place of a database, which nobody may use: then
// it returns ErrInUse. It replaces an existing one only with force (ErrExists
// otherwise), and returns under which name that is kept.
//
// The backup is read as a backup is written, so that it is checked again, and
// the file given stays as it is. An older schema is migrated by the next serve.
func Restore(ctx context.Context, file, path string, migrations fs.FS, force bool) (kept string, err error) {
	versions, err := migrationVersions(migrations)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("read the backup: %w", err)
	}
	if path, err = Locate(path); err != nil {
		return "", err
	}
	lock, err := lockExclusive(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	_, err = os.Stat(path)
	exists := err == nil
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read the database: %w", err)
	case exists && !force:
		return "", ErrExists
	}
	// The backup is copied beside the database and checked there; only a rename is left then, which
	// either happens or does not.
	c, err := copyTo(ctx, file, filepath.Dir(path), filepath.Base(path))
	if errors.Is(err, ErrCorrupt) {
		return "", ErrBadBackup
	}
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.Remove(c.name)
		}
	}()
	// An older schema is fine: the server migrates it when it starts.
	if c.version > versions[len(versions)-1] {
		return "", ErrSchemaNewer
	}
	if err := enableIncrementalVacuum(ctx, c.name); err != nil {
		return "", fmt.Errorf("let the database give space back: %w", err)
	}
	if exists {
		if kept, err = keepAside(ctx, path, os.Link); err != nil {
			return "", fmt.Errorf("keep the old database aside: %w", err)
		}
	}
	if err := os.Rename(c.name, path); err != nil {
		return kept, fmt.Errorf("put the backup in place: %w", err)
	}
	return kept, privatefile.SyncDir(filepath.Dir(path))
}

// Install gives a finished database, which nobody uses, the name of another one.
// What is there already must be replaceable, and is asked for that under locks
// that keep all others away.
func Install(ctx context.Context, file, path string, replaceable func() error) (err error) {
	server, err := LockServer(ctx, path, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	lock, err := lockExclusive(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := replaceable(); err != nil {
		return err
	}
	if err := checkpointWAL(ctx, file); err != nil {
		return fmt.Errorf("put the database in place: %w", Classify(err))
	}
	if err := syncFile(file); err != nil {
		return fmt.Errorf("put the database in place: %w", err)
	}
	leftovers := []string{path + "-wal", path + "-shm", file + "-wal", file + "-shm"}
	for _, name := range leftovers {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put the database in place: %w", err)
		}
	}
	if err := os.Rename(file, path); err != nil {
		return fmt.Errorf("put the database in place: %w", err)
	}
	return errors.Join(privatefile.SyncDir(filepath.Dir(path)), os.Remove(file+lockSuffix), os.Remove(file+serverSuffix))
}

// syncFile makes a file's content durable. Its name is made so by syncing its directory.
func syncFile(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// keepAside gives a database a second name, with all that belongs to it. Its
// own stays until the new one takes it: a crash between leaves the old in place.
func keepAside(ctx context.Context, path string, link func(path, to string) error) (kept string, err error) {
	// A damaged database may refuse. Then its WAL is kept beside it.
	walErr := checkpointWAL(ctx, path)
	kept = siblingName(path, "before-restore", time.Now())
	if err := link(path, kept); err != nil {
		if err := copyFile(path, kept); err != nil { // the file system may have no hard links
			return "", err
		}
	}
	err = os.Rename(path+"-wal", kept+"-wal")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", errors.Join(err, walErr)
	}
	if err := os.Remove(path + "-shm"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return kept, nil
}

// copyFile copies a file under a name that appears once the copy is complete.
func copyFile(path, to string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	f, err := privatefile.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*"+partialSuffix)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// checkpointWAL moves what a killed server has left in the WAL into the file: the
// last connection does so when it closes.
func checkpointWAL(ctx context.Context, path string) (err error) {
	db, err := sqlite.OpenExisting(path, sqlite.BusyTimeoutPragma())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
	return err
}
