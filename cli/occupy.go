package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/pikarc/server/auth/privatefile"
	"github.com/pikarc/server/storage"
	"github.com/pikarc/server/storage/dbfile"
)

// occupy takes what only one server may hold, before anything of the database is
// changed, and looks whether a file is sound. Nodes on PostgreSQL share it.
func (o serveOptions) occupy(
	ctx context.Context, at ledgerLocation, log *slog.Logger,
) (isNew bool, held io.Closer, err error) {
	if at.inPostgres() {
		if o.backups.Dir != "" {
			return false, nil, at.requireFile("--backup-dir")
		}
		err = o.await(ctx, at, log, func() error {
			found, err := at.exists(ctx)
			isNew = !found
			return err
		})
		return isNew, io.NopCloser(nil), err
	}
	isNew = !hasDatabase(at.dir)
	if held, err = o.lock(ctx, at.dir, log); err != nil {
		return isNew, nil, err
	}
	err = dbfile.CheckIntegrity(ctx, databasePath(at.dir), storage.CoreTables()...)
	if err != nil {
		return isNew, nil, errors.Join(err, held.Close())
	}
	return isNew, held, nil
}

// await calls fn until PostgreSQL takes what it does, for as long as is asked for: it may not
// answer yet, or a proxy has not found the primary.
func (o serveOptions) await(
	ctx context.Context, at ledgerLocation, log *slog.Logger, fn func() error,
) error {
	const pause = 250 * time.Millisecond
	for said := false; ; said = true {
		err := fn()
		if !at.inPostgres() || !errors.Is(err, storage.ErrUnavailable) ||
			time.Now().After(o.waitUntil) {
			return err
		}
		if !said {
			log.Info("the database does not answer: waiting", "database", at.String(), "wait",
				o.wait.String(), "error", err.Error())
		}
		if err := dbfile.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// lock waits for another server to end where that is asked for.
func (o serveOptions) lock(ctx context.Context, dir string, log *slog.Logger) (io.Closer, error) {
	if err := privatefile.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	path := databasePath(dir)
	held, err := dbfile.LockServer(ctx, path, 0)
	if !errors.Is(err, dbfile.ErrServerRunning) || o.wait == 0 {
		return held, err
	}
	log.Info("another server uses this data directory: waiting for its end", "wait",
		o.wait.String())
	return dbfile.LockServer(ctx, path, o.wait)
}
