package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pikarc/server/storage/postgres"
)

// stageSchema is the schema in which a ledger lies until it is complete. It is
// ours: an earlier attempt of another version is dropped with all that is in it.
const stageSchema = "pikarc_copy"

// copyLock is the advisory lock of whoever fills it.
const copyLock int64 = 0x50696b636f7079 // "Pikcopy"

// postgresTarget fills the stage's schema.
type postgresTarget struct {
	place  place          // where the ledger is to be
	stage  place          // the same database, with the stage's schema
	schema string         // of place
	locked *sql.Conn      // has copyLock
	real   *sql.DB        // place's
	db     *sql.DB        // stage's
	loader *postgres.Conn // stage's
}

// openPostgresTarget prepares a schema of its own beside the real one: rows are staged there and
// moved when all are proved.
func openPostgresTarget(ctx context.Context, to place) (t *postgresTarget, err error) {
	t = &postgresTarget{place: to, stage: to, real: to.config.OpenDB()}
	// The same statements and migrations then work on the stage, since none of them names a
	// schema.
	config := to.config.With("search_path", stageSchema)
	t.stage.config, t.db = &config, config.OpenDB()
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
			t = nil
		}
	}()
	// An advisory lock goes with its session, so a copy that was killed leaves none behind.
	if err := t.lock(ctx); err != nil {
		return t, err
	}
	if err := to.refuseNodes(ctx); err != nil {
		return t, err
	}
	if err := t.prepare(ctx); err != nil {
		return t, err
	}
	// A piece that a crash of the server takes back is copied again; what makes the
	// ledger visible is synced, and with it all before.
	t.loader, err = postgres.Connect(ctx, config.With("synchronous_commit", "off"))
	return t, err
}

// lock makes sure that no other copy writes to this database.
func (t *postgresTarget) lock(ctx context.Context) (err error) {
	if t.locked, err = t.real.Conn(ctx); err != nil {
		return err
	}
	var schema sql.NullString
	var got bool
	err = t.locked.QueryRowContext(ctx, `SELECT current_schema()::text, pg_try_advisory_lock($1)`, copyLock).Scan(&schema, &got)
	switch {
	case err != nil:
		return err
	case !got:
		return ErrCopying
	// An unusual search_path. Made up silently, a schema would not be where nodes look.
	case !schema.Valid:
		return errors.New("no schema of the search_path exists")
	}
	t.schema = schema.String
	return nil
}

// prepare makes the stage, or finds the one of an earlier attempt.
func (t *postgresTarget) prepare(ctx context.Context) error {
	var exists bool
	err := t.locked.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)`, stageSchema).Scan(&exists)
	if err != nil {
		return err
	}
	if exists {
		status, err := t.stage.schema(ctx)
		if err != nil {
			return err
		}
		// Of this version: what is in it is compared with the source, and kept.
		if status.Err() == nil {
			return nil
		}
		if _, err := t.locked.ExecContext(ctx, "DROP SCHEMA "+stageSchema+" CASCADE"); err != nil {
			return err
		}
	}
	if _, err := t.locked.ExecContext(ctx, "CREATE SCHEMA "+stageSchema); err != nil {
		return fmt.Errorf("%w (the role needs the right CREATE on the database)", err)
	}
	_, err = postgres.Migrate(ctx, *t.stage.config, t.stage.migrations)
	return err
}

// querier reads what is staged.
func (t *postgresTarget) querier() querier { return t.db }

// postgres reports which engine it is.
func (t *postgresTarget) postgres() bool { return true }

// staged is where `pikarc verify` finds the staged ledger.
func (t *postgresTarget) staged() place { return t.stage }

// clear empties a table, and those that refer to it.
func (t *postgresTarget) clear(ctx context.Context, which table) error {
	_, err := t.db.ExecContext(ctx, "TRUNCATE "+which.name+" CASCADE")
	return err
}

// load stages rows by COPY, which is many times faster than INSERT.
func (t *postgresTarget) load(ctx context.Context, into table, rows [][]any) error {
	return t.loader.CopyIn(ctx, into.name, into.columns, rows)
}

// finish sets the sequences behind what was copied, tells the nodes to come which
// secret they need, and has PostgreSQL know its new tables.
func (t *postgresTarget) finish(ctx context.Context, secretCheck []byte) error {
	// A node with another secret is refused by it when it starts.
	if _, err := t.db.ExecContext(ctx, `UPDATE ledger_version SET secret_check = $1`, secretCheck); err != nil {
		return err
	}
	// Rows have come with their ids, of which the sequences know nothing: they would begin at
	// 1.
	identities, err := names(ctx, t.db, `SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = current_schema()::regnamespace AND a.attidentity <> '' AND c.relname <> 'goose_db_version' ORDER BY 1`)
	if err != nil {
		return err
	}
	for _, identity := range identities {
		table, column, _ := strings.Cut(identity, ".")
		var next int64
		err := t.db.QueryRowContext(ctx, fmt.Sprintf(`SELECT setval(pg_get_serial_sequence('%s', '%s'), coalesce(max(%[2]s), 0) + 1, false) FROM %[1]s`,
			table, column)).Scan(&next)
		if err != nil {
			return fmt.Errorf("set the sequence of %s: %w", table, err)
		}
	}
	// Without statistics the first queries would be planned as for empty tables.
	for _, name := range copied() {
		if _, err := t.db.ExecContext(ctx, "VACUUM (ANALYZE) "+name); err != nil {
			return fmt.Errorf("vacuum %s: %w", name, err)
		}
	}
	return nil
}

// publish moves the ledger into its schema. An empty one that is there makes room.
func (t *postgresTarget) publish(ctx context.Context) (err error) {
	err = errors.Join(t.loader.Close(), t.db.Close()) // they have statements that name the stage's tables
	if err != nil {
		return err
	}
	// In one transaction: whoever looks sees no ledger, or all of it.
	tx, err := t.real.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreDone(tx.Rollback())) }()
	// Once more, because the copy may have taken hours.
	if err := refuseNodes(ctx, tx); err != nil {
		return err
	}
	if err := t.makeRoom(ctx, tx); err != nil {
		return err
	}
	relations, err := names(ctx, tx, `SELECT relname::text FROM pg_class WHERE relnamespace = '`+stageSchema+`'::regnamespace
		AND relkind IN ('r', 'p', 'v', 'm') ORDER BY relname`)
	if err != nil {
		return err
	}
	for _, name := range relations {
		if _, err := tx.ExecContext(ctx, "ALTER TABLE "+stageSchema+"."+name+" SET SCHEMA "+postgres.Quoted(t.schema)); err != nil {
			return fmt.Errorf("move %s: %w", name, err)
		}
	}
	if _, err := tx.ExecContext(ctx, "DROP SCHEMA "+stageSchema); err != nil { // it says what was forgotten
		return err
	}
	return tx.Commit()
}

// makeRoom drops an empty ledger, under locks that keep it empty.
func (t *postgresTarget) makeRoom(ctx context.Context, tx *sql.Tx) error {
	there, err := catalogue(ctx, tx, true)
	if err != nil || len(there) == 0 {
		return err
	}
	var drop []string
	for name := range there {
		if leftOut()[name] == "" && !slices.Contains(copied(), name) {
			return fmt.Errorf("%w: it has a table %s", ErrHoldsOther, name)
		}
		drop = append(drop, postgres.Quoted(t.schema)+"."+name)
	}
	slices.Sort(drop)
	// Nobody may write to them between the look and the drop.
	if _, err := tx.ExecContext(ctx, "LOCK TABLE "+strings.Join(drop, ", ")); err != nil {
		return err
	}
	l := &ledger{tx: tx, tables: there}
	if empty, err := l.isEmpty(ctx); err != nil || !empty {
		return errors.Join(err, ErrHoldsOther)
	}
	// The view reads tables that are about to go, and PostgreSQL would refuse to drop them.
	if _, err := tx.ExecContext(ctx, "DROP VIEW IF EXISTS "+postgres.Quoted(t.schema)+".run_steps"); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "DROP TABLE "+strings.Join(drop, ", "))
	return err
}

// close releases the locks with the connections.
func (t *postgresTarget) close() error {
	var errs []error
	if t.loader != nil {
		errs = append(errs, t.loader.Close())
	}
	if t.locked != nil {
		errs = append(errs, t.locked.Close())
	}
	return errors.Join(append(errs, t.db.Close(), t.real.Close())...)
}

// names reads a list of names.
func names(ctx context.Context, q querier, query string) (all []string, err error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close(), rows.Err()) }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		all = append(all, name)
	}
	return all, nil
}
