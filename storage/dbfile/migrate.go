// Package dbfile keeps the file of a database: it migrates, backs up, restores and locks it, checks
// its integrity and the disk that it is on.
//
//   - migrate.go: the schema's version, and migrations
//   - backup.go and restore.go: copies, each checked before it gets its name
//   - lock.go: one server at a time, and no restore under a running one
//   - integrity.go: what SQLite can tell of a damaged file
//   - space.go: files that can shrink
//   - place.go and place_linux.go: where the file really is, and file systems on which locks do not
//     work
//   - errors.go: errors in words that an operator can act on
package dbfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/pikarc/server/auth/privatefile"
	"github.com/pikarc/server/storage/sqlite"
	"github.com/pressly/goose/v3"
)

// Schema compares a database with the migrations that the binary carries.
type Schema struct {
	Current int64   // version of the database; 0 when there is none yet
	Newest  int64   // version that the binary knows
	Pending []int64 // versions that Migrate would apply, in order
}

// Err is ErrSchemaOld, ErrSchemaNewer, or nil when the schema is current.
func (s Schema) Err() error {
	switch {
	case s.Current > s.Newest:
		return ErrSchemaNewer
	case s.Current < s.Newest:
		return ErrSchemaOld
	default:
		return nil
	}
}

// SchemaStatus reads where the database stands. It writes nothing, and makes no file.
func SchemaStatus(ctx context.Context, path string, migrations fs.FS) (Schema, error) {
	var current int64
	if _, err := os.Stat(path); err == nil {
		if current, err = schemaVersion(ctx, path); err != nil {
			return Schema{}, OrNoSpace(fmt.Errorf("read the schema version of %s: %w", path, Classify(err)), path)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Schema{}, fmt.Errorf("read the database: %w", err)
	}
	return SchemaAt(current, migrations)
}

// SchemaAt compares a version with the migrations.
func SchemaAt(current int64, migrations fs.FS) (Schema, error) {
	versions, err := migrationVersions(migrations)
	if err != nil {
		return Schema{}, err
	}
	status := Schema{Current: current, Newest: versions[len(versions)-1]}
	for _, v := range versions {
		if v > current {
			status.Pending = append(status.Pending, v)
		}
	}
	return status, nil
}

// MigrateOption changes how Migrate works.
type MigrateOption uint8

const (
	// WithoutBackup migrates without the copy that is kept otherwise.
	WithoutBackup MigrateOption = iota + 1
	// AsServer migrates under the lock that Serve has given. Everybody else is
	// refused with ErrOtherVersionRunning while a server has it: that server is of another
	// version, and would find a schema that it does not know.
	AsServer
)

// Migrate brings the database up to date, making the file if need be, and
// returns the versions it applied. A newer database is refused, unchanged. A
// copy of what there was before is kept beside it.
func Migrate(ctx context.Context, path string, migrations fs.FS, options ...MigrateOption) (applied []int64, err error) {
	if path, err = Locate(path); err != nil {
		return nil, err
	}
	before, err := SchemaStatus(ctx, path, migrations)
	if err != nil {
		return nil, err
	}
	if len(before.Pending) == 0 {
		return nil, ignoreOld(before.Err())
	}
	if !slices.Contains(options, AsServer) {
		command, err := lockForCommand(path)
		if errors.Is(err, ErrOtherVersionRunning) {
			return nil, waitForServersSchema(ctx, path, migrations)
		}
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, command.Close()) }()
	}
	if err := createFile(path); err != nil {
		return nil, err
	}
	lock, err := LockShared(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if !slices.Contains(options, WithoutBackup) {
		if err := backupBeforeMigrating(ctx, path, before); err != nil {
			return nil, err
		}
	}
	// Another process may migrate at the same moment (create-user beside
	// serve on a fresh directory). Each migration is one transaction, so the
	// slower of the two fails cleanly, and finds the work done when it looks
	// again, if only the other had the time for it: SQLite refuses at once where
	// waiting could be for ever.
	const attempts, pause = 5, 50 * time.Millisecond
	for attempt := range attempts {
		if err = Sleep(ctx, time.Duration(attempt)*pause); err != nil {
			break
		}
		if err = migrateUp(ctx, path, migrations); err == nil {
			return before.Pending, nil
		}
	}
	return nil, OrNoSpace(fmt.Errorf("migrate the database: %w", Classify(err)), path)
}

// waitForServersSchema waits for a server that has just started and migrates
// itself. One of another version does not.
func waitForServersSchema(ctx context.Context, path string, migrations fs.FS) error {
	for began := time.Now(); ; {
		status, err := SchemaStatus(ctx, path, migrations)
		switch {
		case err != nil:
			return err
		case !errors.Is(status.Err(), ErrSchemaOld):
			return status.Err()
		case time.Since(began) > commandWait:
			return ErrOtherVersionRunning
		}
		if err := Sleep(ctx, lockRetryDelay); err != nil {
			return err
		}
	}
}

// ignoreOld drops ErrSchemaOld: an old schema is what migrating is for.
func ignoreOld(err error) error {
	if errors.Is(err, ErrSchemaOld) {
		return nil
	}
	return err
}

// migrateUp applies the migrations that the file lacks, each in a transaction of its own.
func migrateUp(ctx context.Context, path string, migrations fs.FS) (err error) {
	// Before all else: it can only be set while there is nothing in the file, not even a journal
	// mode.
	all := append([]sqlite.Pragma{sqlite.IncrementalVacuum()}, sqlite.Pragmas(false)...)
	db, err := sqlite.OpenImmediate(path, all...)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, migrations,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// Sleep waits for d, or returns the error of a context that ends before.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// createFile makes an empty database file that only its owner can read;
// SQLite gives the WAL the same mode.
func createFile(path string) error {
	if err := privatefile.Ensure(path); err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	return nil
}

// migrationVersions lists the migrations' numbers in order.
func migrationVersions(migrations fs.FS) ([]int64, error) {
	names, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list the migrations: %w", err)
	}
	var versions []int64
	for _, name := range names {
		v, err := goose.NumericComponent(name)
		if err != nil {
			return nil, fmt.Errorf("read the version of migration %s: %w", name, err)
		}
		versions = append(versions, v)
	}
	if len(versions) == 0 {
		return nil, errors.New("the binary carries no migrations")
	}
	return versions, nil
}

// schemaVersion reads goose's table itself, because goose would make it. It
// sets no journal mode: that would be written into the file.
func schemaVersion(ctx context.Context, path string) (version int64, err error) {
	db, err := sqlite.OpenExisting(path, sqlite.BusyTimeoutPragma(), sqlite.QueryOnly())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var tables int
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'goose_db_version'`).Scan(&tables)
	if err != nil || tables == 0 {
		return 0, err
	}
	err = db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied = 1`).Scan(&version)
	return version, err
}
