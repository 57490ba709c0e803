package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/postgres"
	"github.com/pikarc/server/storage/sqlite"
	"github.com/pikarc/server/storage/verify"
)

// place is where a ledger is, or is to be: a file, or a database in PostgreSQL.
type place struct {
	path       string
	config     *postgres.Config
	migrations fs.FS
}

// place parses where a ledger is: the URL of a PostgreSQL database, or a path.
func (o Options) place(name string) (place, error) {
	if !strings.Contains(name, "://") {
		return place{path: name, migrations: o.SQLite}, nil
	}
	config, err := postgres.ParseURL(name)
	if err != nil {
		return place{}, err
	}
	config = config.With("application_name", ownName)
	return place{config: &config, migrations: o.Postgres}, nil
}

// String names the place, without a password.
func (p place) String() string {
	if p.config != nil {
		return p.config.String()
	}
	return p.path
}

const (
	// ownName is that of this package's sessions.
	ownName = "pikarc copy"
	// nodeName is that of a node's, unless the URL gives them another one.
	nodeName = "pikarc"
)

// ledger is a database that is read in one snapshot.
type ledger struct {
	place   place
	tx      *sql.Tx
	tables  map[string]found
	closers []func() error // the last is called first
}

// Close ends the snapshot.
func (l *ledger) Close() error {
	var errs []error
	for _, closer := range slices.Backward(l.closers) {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}

// snapshot begins to read a database whose schema is current.
func (p place) snapshot(ctx context.Context) (l *ledger, err error) {
	l = &ledger{place: p}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", p, errors.Join(err, l.Close()))
			l = nil
		}
	}()
	status, err := p.schema(ctx)
	if err := errors.Join(err, status.Err()); err != nil {
		return l, err
	}
	var db *sql.DB
	var opts sql.TxOptions
	if p.config != nil {
		// PostgreSQL takes its snapshot at the first statement of such a transaction. SQLite's
		// readers have one by themselves.
		db, opts = p.config.OpenDB(), sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	} else if db, err = sqlite.OpenReaders(p.path); err != nil {
		return l, err
	}
	l.closers = append(l.closers, db.Close)
	if l.tx, err = db.BeginTx(ctx, &opts); err != nil {
		return l, p.classify(err)
	}
	l.closers = append(l.closers, func() error { return ignoreDone(l.tx.Rollback()) })
	l.tables, err = catalogue(ctx, l.tx, p.config != nil)
	return l, p.classify(err)
}

// ignoreDone is for a transaction that has ended with its context.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// classify adds what SQLite's code means; PostgreSQL's errors say it themselves.
func (p place) classify(err error) error {
	if p.config == nil {
		return dbfile.OrNoSpace(dbfile.Classify(err), p.path)
	}
	return err
}

// schema says how current a database is; its version is 0 when there is none.
func (p place) schema(ctx context.Context) (status dbfile.Schema, err error) {
	if p.config == nil {
		return dbfile.SchemaStatus(ctx, p.path, p.migrations)
	}
	c, err := postgres.Connect(ctx, *p.config)
	if err != nil {
		return status, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := postgres.Check(ctx, c); err != nil {
		return status, err
	}
	current, err := postgres.SchemaVersion(ctx, c)
	if err != nil {
		return status, err
	}
	return dbfile.SchemaAt(current, p.migrations)
}

// catalogue lists the tables of a database with their columns and keys. In
// PostgreSQL a sequence that is no column's own is in it too: nobody would set it.
func catalogue(ctx context.Context, q querier, inPostgres bool) (tables map[string]found, err error) {
	// Both queries give a row for each column: the table, the column, and its place in the
	// primary key, 0 when it is not in it.
	query := `SELECT m.name, c.name, c.pk FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite^_%' ESCAPE '^' ORDER BY m.name, c.cid`
	if inPostgres {
		query = `SELECT c.relname::text, coalesce(a.attname::text, ''), coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0)
			FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
			WHERE c.relnamespace = current_schema()::regnamespace AND (c.relkind IN ('r', 'p', 'f') OR c.relkind = 'S' AND NOT EXISTS
				(SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')))
			ORDER BY c.relname, a.attnum`
	}
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close(), rows.Err()) }()
	tables = make(map[string]found)
	for rows.Next() {
		var table, column string
		var place int
		if err := rows.Scan(&table, &column, &place); err != nil {
			return nil, fmt.Errorf("list the tables: %w", err)
		}
		f := tables[table]
		if f.key == nil {
			f.key = make(map[int]string)
		}
		f.columns = append(f.columns, column)
		if place > 0 {
			f.key[place] = column
		}
		tables[table] = f
	}
	return tables, nil
}

// verify proves the counters of a database from its ledger.
func (p place) verify(ctx context.Context) (report verify.Report, err error) {
	if p.config == nil {
		return verify.File(ctx, p.path, verify.Options{Migrations: p.migrations})
	}
	db := p.config.OpenDB()
	defer func() { err = errors.Join(err, db.Close()) }()
	return verify.Postgres(ctx, db, verify.Options{})
}

// verify recomputes the counters of one side: a copy of a ledger with differences would keep them.
func (c *copying) verify(ctx context.Context, p place) error {
	report, err := p.verify(ctx)
	if err != nil {
		return fmt.Errorf("verify %s: %w", p, err)
	}
	c.checks.Store(int64(report.Checks))
	if !report.Clean() {
		return fmt.Errorf("%w: `pikarc verify` finds %d differences in %s%s", ErrDifferences, report.Found, p, first(report))
	}
	return nil
}

// first describes the first difference, to begin a search with.
func first(report verify.Report) string {
	if len(report.Differences) == 0 {
		return ""
	}
	d := report.Differences[0]
	return fmt.Sprintf(", the first is %s %s: %s, should be %s", d.Check, d.Row, d.Stored, d.ShouldBe)
}

// reserve keeps servers from a source until it is closed, where nothing else would.
func (p place) reserve(ctx context.Context) (io.Closer, error) {
	if p.config != nil {
		return io.NopCloser(nil), p.refuseNodes(ctx)
	}
	return dbfile.LockServer(ctx, p.path, 0)
}

// refuseNodes returns ErrServed where nodes stay connected. PostgreSQL shows the
// sessions of a node that has just been stopped for a moment longer, so it waits for them.
func (p place) refuseNodes(ctx context.Context) (err error) {
	db := p.config.OpenDB()
	defer func() { err = errors.Join(err, db.Close()) }()
	const pause, patience = 50 * time.Millisecond, 3 * time.Second
	for began := time.Now(); ; {
		err := refuseNodes(ctx, db)
		if !errors.Is(err, ErrServed) || time.Since(began) > patience {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// refuseNodes returns ErrServed while nodes are connected.
func refuseNodes(ctx context.Context, q querier) error {
	var nodes int
	err := q.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()`, nodeName).Scan(&nodes)
	if err == nil && nodes > 0 {
		err = ErrServed
	}
	return err
}

// exists reports whether there is a ledger, be it an empty one. Other tables are
// refused: they are somebody else's.
func (p place) exists(ctx context.Context) (bool, error) {
	if p.config == nil {
		info, err := os.Stat(p.path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
			return false, nil
		}
		return err == nil, err
	}
	status, err := p.schema(ctx)
	if err != nil || status.Current > 0 {
		return err == nil, err
	}
	db := p.config.OpenDB()
	defer func() { err = errors.Join(err, db.Close()) }()
	tables, err := catalogue(ctx, db, true)
	// Any one of them will do for the message.
	for name := range tables {
		return false, fmt.Errorf("%w: it has a table %s", ErrHoldsOther, name)
	}
	return false, err
}

// isEmpty reports whether a ledger holds no rows but those that it was made with.
func (l *ledger) isEmpty(ctx context.Context) (bool, error) {
	for _, name := range copied() {
		if _, ok := l.tables[name]; !ok || name == seeded {
			continue
		}
		var holds bool
		if err := l.tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+name+")").Scan(&holds); err != nil {
			return false, fmt.Errorf("look into %s: %w", name, err)
		}
		if holds {
			return false, nil
		}
	}
	return true, nil
}
