package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pikarc/server/storage/sqlite"
)

// wholeCheckBytes is up to which size a file is checked whole before a server
// starts on it: that takes a fraction of a second.
const wholeCheckBytes = 64 << 20

// CheckSound returns ErrDamaged when SQLite finds a file to be damaged. Of a
// large file it checks the tables on which every request depends; the nightly
// verification checks all of it. No file is a sound one.
func CheckSound(ctx context.Context, path string) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	checks := []string{"PRAGMA quick_check(1)"}
	if info.Size() > wholeCheckBytes {
		checks = []string{"PRAGMA quick_check(accounts)", "PRAGMA quick_check(workspaces)", "PRAGMA quick_check(api_keys)", "PRAGMA quick_check(models)"}
	}
	db, err := sqlite.OpenExisting(path, sqlite.WaitForLocks(), sqlite.QueryOnly())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, check := range checks {
		var answer string
		if err := db.QueryRowContext(ctx, check).Scan(&answer); err != nil {
			return asReadOnly(orNoSpace(classify(fmt.Errorf("check %s: %w", path, err)), path))
		}
		if answer != "ok" {
			return fmt.Errorf("check %s: %w: %s", path, ErrDamaged, answer)
		}
	}
	return nil
}

// asDamage adds ErrDamaged to what SQLite says of a file that is no sound database.
func asDamage(err error) error {
	if sqlite.IsCorrupt(err) && !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// requireWritable returns ErrReadOnly when no write can ever succeed. That
// another process writes just now is no such thing. BEGIN IMMEDIATE alone would
// do with a read lock on a file that is read-only, so it takes a statement.
func requireWritable(writer writing) error {
	err := writer.Run("BEGIN IMMEDIATE")
	if err == nil {
		err = errors.Join(writer.Run(`UPDATE probes SET checked_at = checked_at WHERE id = 1`), writer.Run("ROLLBACK"))
	}
	if sqlite.IsReadOnly(err) {
		return asReadOnly(err)
	}
	return nil
}

// asReadOnly adds ErrReadOnly to what SQLite says of files it may not write.
func asReadOnly(err error) error {
	if sqlite.IsReadOnly(err) {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}
