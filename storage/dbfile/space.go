package dbfile

import (
	"context"
	"errors"

	"github.com/pikarc/server/storage/sqlite"
)

// enableIncrementalVacuum rewrites a file that nobody else uses, so that it can
// shrink later, unless it can already.
func enableIncrementalVacuum(ctx context.Context, file string) (err error) {
	db, err := sqlite.OpenDB(file, sqlite.Pragma{"synchronous", "2"})
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1) // the pragma holds for the connection
	defer func() { err = errors.Join(err, db.Close()) }()
	var mode int
	if err := db.QueryRowContext(ctx, `PRAGMA auto_vacuum`).Scan(&mode); err != nil || mode == sqlite.AutoVacuumIncremental {
		return err
	}
	set := sqlite.IncrementalVacuum()
	if _, err := db.ExecContext(ctx, `PRAGMA `+set[0]+` = `+set[1]); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `VACUUM`)
	return err
}
