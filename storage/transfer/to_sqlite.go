package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/sqlite"
)

// stageSuffix ends the name of the file in which a ledger lies until it is complete.
const stageSuffix = ".copy"

// sqliteTarget fills a file beside the database's.
type sqliteTarget struct {
	place  place // where the ledger is to be
	stage  place
	lock   io.Closer
	loader *sqlite.Conn
	db     *sql.DB // for reading
}

// openSQLiteTarget prepares a file beside the real one, which takes its name when all is proved.
func openSQLiteTarget(ctx context.Context, to place) (t *sqliteTarget, err error) {
	t = &sqliteTarget{place: to}
	if t.place.path, err = dbfile.Locate(to.path); err != nil {
		return nil, err
	}
	t.stage = t.place
	t.stage.path += stageSuffix
	defer func() {
		if err != nil {
			err = t.stage.classify(errors.Join(err, t.close()))
			t = nil
		}
	}()
	// The lock of a server, on the staged file: two copies exclude each other as two servers
	// do.
	t.lock, err = dbfile.LockServer(ctx, t.stage.path, 0)
	if errors.Is(err, dbfile.ErrServerRunning) {
		return t, ErrCopying
	}
	if err != nil {
		return t, err
	}
	if err := t.prepare(ctx); err != nil {
		return t, err
	}
	if t.loader, err = sqlite.OpenConn(t.stage.path); err != nil {
		return t, err
	}
	for _, pragma := range []string{
		// Faster, and safe for a file that takes the database's name only at the end.
		"foreign_keys = 0", // verify looks at all of them in the end
		"synchronous = 1", "secure_delete = 0", "cache_size = -131072", "wal_autocheckpoint = 16384",
	} {
		if err := t.loader.Run("PRAGMA " + pragma); err != nil {
			return t, err
		}
	}
	t.db, err = sqlite.OpenReaders(t.stage.path)
	return t, err
}

// prepare makes the file, or finds the one of an earlier attempt. One of another
// version, or that the machine's own end has damaged, is made anew.
func (t *sqliteTarget) prepare(ctx context.Context) error {
	status, err := t.stage.schema(ctx)
	if errors.Is(err, dbfile.ErrCorrupt) || err == nil && status.Current > 0 && status.Err() != nil {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(t.stage.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		err = nil
	}
	if err != nil {
		return err
	}
	_, err = dbfile.Migrate(ctx, t.stage.path, t.stage.migrations, dbfile.WithoutBackup, dbfile.AsServer)
	return err
}

// querier reads what is staged.
func (t *sqliteTarget) querier() querier { return t.db }

// postgres reports which engine it is.
func (t *sqliteTarget) postgres() bool { return false }

// staged is where `pikarc verify` finds the staged ledger.
func (t *sqliteTarget) staged() place { return t.stage }

// clear empties a table that an interrupted copy has begun.
func (t *sqliteTarget) clear(ctx context.Context, which table) error {
	_, err := t.loader.Exec(ctx, "DELETE FROM "+which.name, nil)
	return err
}

// load stages rows in one transaction: all of a chunk, or nothing.
func (t *sqliteTarget) load(ctx context.Context, into table, rows [][]any) (err error) {
	if err := t.loader.Run("BEGIN IMMEDIATE"); err != nil {
		return t.stage.classify(err)
	}
	defer func() {
		if err != nil {
			err = t.stage.classify(errors.Join(err, t.loader.Run("ROLLBACK")))
		}
	}()
	// As many rows a statement as its parameters allow, so that its text stays the same and
	// the prepared statement is used again.
	together := max(1, maxParameters/len(into.columns))
	args := make([]any, 0, together*len(into.columns))
	for len(rows) > 0 {
		some := rows[:min(together, len(rows))]
		rows, args = rows[len(some):], args[:0]
		for _, row := range some {
			args = append(args, row...)
		}
		if len(some) < together { // the last ones, one by one: a text for each number would be kept
			for _, row := range some {
				if _, err := t.loader.Exec(ctx, insert(into, 1), row); err != nil {
					return err
				}
			}
			break
		}
		if _, err := t.loader.Exec(ctx, insert(into, together), args); err != nil {
			return err
		}
	}
	// Asked before the commit: Exec itself does not look at the context.
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.loader.Run("COMMIT")
}

// maxParameters bounds those of a statement: more are no faster.
const maxParameters = 900

// insert is a statement for so many rows.
func insert(t table, rows int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "INSERT INTO %s (%s) VALUES ", t.name, quoted(t.columns))
	n := 0
	for row := range rows {
		if row > 0 {
			b.WriteString(", ")
		}
		for i := range t.columns {
			n++
			separator := ", "
			if i == 0 {
				separator = "("
			}
			fmt.Fprintf(&b, "%s$%d", separator, n)
		}
		b.WriteString(")")
	}
	return b.String()
}

// finish does nothing: SQLite has no sequences, and its own check is verify's.
func (t *sqliteTarget) finish(context.Context, []byte) error { return nil }

// publish gives the file its name.
func (t *sqliteTarget) publish(ctx context.Context) error {
	if err := errors.Join(t.loader.Close(), t.db.Close()); err != nil {
		return err
	}
	// Install holds the locks of the place while it asks whether there is something to lose.
	return dbfile.Install(ctx, t.stage.path, t.place.path, func() error {
		exists, err := t.place.exists(ctx)
		if err != nil || !exists {
			return err
		}
		l, err := t.place.snapshot(ctx)
		if err != nil {
			return err
		}
		empty, err := l.isEmpty(ctx)
		if err == nil && !empty {
			err = ErrHoldsOther
		}
		return errors.Join(err, l.Close())
	})
}

// close releases the lock last.
func (t *sqliteTarget) close() error {
	var errs []error
	if t.loader != nil {
		errs = append(errs, t.loader.Close())
	}
	if t.db != nil {
		errs = append(errs, t.db.Close())
	}
	if t.lock != nil {
		errs = append(errs, t.lock.Close())
	}
	return errors.Join(errs...)
}
