package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/postgres"
	"github.com/pikarc/server/storage/verify"
)

// postgresEngine keeps the ledger in PostgreSQL, which other nodes may use too.
//
// A batch locks its workspaces, by the rows of workspaces in the order of their
// keys, and reads the version of each; its commit writes the next ones. A batch
// for the whole database excludes all others, and writes the version of the
// database (ledger_version). So a row in the cache holds as long as the version
// under which it was read is the one that is found, on however many nodes.
type postgresEngine struct {
	config postgres.Config
	writer *postgres.Conn
	pools  [2]*postgres.Pool

	id    uuid.UUID // of this writer
	batch int64     // the latest

	workspaces []int64 // that the batch has locked, in order
	exclusive  bool    // it has locked all of them
	found      versions

	patience time.Duration // within which the outcome of a COMMIT is found out

	machine func() time.Time // this machine's clock
	offset  atomic.Int64     // of the database's clock from it, in nanoseconds
}

// ledgerLock is the advisory lock of the database that batches share, and that
// those for the whole database have alone.
const ledgerLock int64 = 0x50696b617263 // "Pikarc"

// serverMicros is the server's time, in microseconds.
const serverMicros = `CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)`

// openPostgres opens a database whose schema is current, which version returns.
func openPostgres(ctx context.Context, config postgres.Config, opts Options) (e *postgresEngine, version int64, err error) {
	opened := &postgresEngine{config: config, id: uuid.New(), machine: opts.machine, patience: opts.AnswerTimeout / 2}
	if version, err = opened.connect(ctx, opts.Migrations, opts.Secret); err != nil {
		return nil, 0, errors.Join(opened.classify(err), opened.close())
	}
	return opened, version, nil
}

func (e *postgresEngine) connect(ctx context.Context, migrations fs.FS, secret auth.Secret) (version int64, err error) {
	if e.writer, err = postgres.Connect(ctx, e.config); err != nil {
		return 0, err
	}
	if err := postgres.Check(ctx, e.writer); err != nil {
		return 0, err
	}
	current, err := postgres.SchemaVersion(ctx, e.writer)
	if err != nil {
		return 0, err
	}
	status, err := dbfile.SchemaAt(current, migrations)
	if err == nil {
		err = status.Err()
	}
	if err == nil {
		err = e.claim(ctx, secret)
	}
	if err == nil {
		err = e.writer.Query(ctx, `SELECT 0, 0, `+serverMicros, nil, e.readVersion(e.machine()))
	}
	if err != nil {
		return 0, err
	}
	const keep = 7 * 24 * time.Hour // longer than any process asks what became of a batch
	if _, err = e.writer.Exec(ctx, `DELETE FROM writers WHERE opened_at < $1`, []any{e.now().Add(-keep).UnixMilli()}); err != nil {
		return 0, err
	}
	e.pools[forLists] = postgres.NewPool(e.config, max(4, 2*runtime.GOMAXPROCS(0)))
	e.pools[forCredentials] = postgres.NewPool(e.config, 2)
	return status.Newest, nil
}

// claim compares the server secret with that of the nodes that have opened the
// database before, or is the first.
func (e *postgresEngine) claim(ctx context.Context, secret auth.Secret) error {
	check, err := secret.Check()
	if err != nil {
		return err
	}
	_, err = e.writer.Exec(ctx, `UPDATE ledger_version SET secret_check = $1 WHERE secret_check IS NULL`, []any{check})
	if err != nil {
		return err
	}
	var known []byte
	err = e.writer.Query(ctx, `SELECT secret_check FROM ledger_version`, nil, func(row scanner) error { return row.Scan(&known) })
	if err == nil && !bytes.Equal(known, check) {
		err = ErrOtherSecret
	}
	return err
}

// PostgresName names a database without its password. An error says what is
// wrong with the URL, without repeating it.
func PostgresName(url string) (string, error) {
	config, err := postgres.ParseURL(url)
	if err != nil {
		return "", err
	}
	return config.String(), nil
}

// PostgresHasSecret reports whether some node has opened the database before,
// whose server secret all others need.
func PostgresHasSecret(ctx context.Context, url string) (known bool, err error) {
	config, err := postgres.ParseURL(url)
	if err != nil {
		return false, err
	}
	err = onPostgresOnce(ctx, config, func(c *postgres.Conn) error {
		err := c.Query(ctx, `SELECT count(*) FROM ledger_version WHERE secret_check IS NOT NULL`, nil,
			func(row scanner) error { return row.Scan(&known) })
		if postgres.IsUndefinedTable(err) {
			return nil
		}
		return err
	})
	return known, err
}

// onPostgresOnce runs fn on a connection of its own, to a server that can be used.
func onPostgresOnce(ctx context.Context, config postgres.Config, fn func(*postgres.Conn) error) (err error) {
	c, err := postgres.Connect(ctx, config)
	if err != nil {
		return fmt.Errorf("%s: %w", config, errors.Join(ErrUnavailable, postgres.Explain(err)))
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	err = postgres.Check(ctx, c)
	if err == nil {
		err = fn(c)
	}
	if postgres.IsUnavailable(err) { // a proxy may accept while it has no primary, and then end it
		err = errors.Join(ErrUnavailable, postgres.Explain(err))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	return nil
}

// MigratePostgres brings a database up to date, and returns the versions that it
// applied. Nodes that start at once take turns.
func MigratePostgres(ctx context.Context, url string, migrations fs.FS) (applied []int64, err error) {
	config, err := postgres.ParseURL(url)
	if err != nil {
		return nil, err
	}
	status, err := postgresSchema(ctx, config, migrations)
	if err != nil || errors.Is(status.Err(), ErrSchemaNewer) {
		return nil, errors.Join(err, status.Err())
	}
	return postgres.Migrate(ctx, config, migrations)
}

// PostgresSchema compares a database with the migrations that the binary carries.
func PostgresSchema(ctx context.Context, url string, migrations fs.FS) (dbfile.Schema, error) {
	config, err := postgres.ParseURL(url)
	if err != nil {
		return dbfile.Schema{}, err
	}
	return postgresSchema(ctx, config, migrations)
}

func postgresSchema(ctx context.Context, config postgres.Config, migrations fs.FS) (status dbfile.Schema, err error) {
	err = onPostgresOnce(ctx, config, func(c *postgres.Conn) error {
		current, err := postgres.SchemaVersion(ctx, c)
		if err != nil {
			return err
		}
		status, err = dbfile.SchemaAt(current, migrations)
		return err
	})
	return status, err
}

func (e *postgresEngine) close() error {
	var errs []error
	for _, pool := range e.pools {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	if e.writer != nil {
		errs = append(errs, e.writer.Close())
	}
	return errors.Join(errs...)
}

// now is the database's time: there is one clock for all nodes.
func (e *postgresEngine) now() time.Time {
	return e.machine().Add(time.Duration(e.offset.Load()))
}

func (e *postgresEngine) conn() conn         { return e.writer }
func (e *postgresEngine) pipeline() pipeline { return e.writer }

// begin costs one round trip.
func (e *postgresEngine) begin(scopes []WorkspaceKey) (versions, error) {
	ctx := context.Background()
	e.workspaces, e.exclusive = e.workspaces[:0], false
	for _, ws := range scopes {
		switch ws {
		case wholeDatabase:
			e.exclusive = true
		case noWorkspace:
		default:
			e.workspaces = append(e.workspaces, int64(ws))
		}
	}
	slices.Sort(e.workspaces)
	e.workspaces = slices.Compact(e.workspaces)
	lock := `SELECT pg_advisory_xact_lock_shared($1)`
	if e.exclusive {
		lock, e.workspaces = `SELECT pg_advisory_xact_lock($1)`, e.workspaces[:0]
	}
	if !e.writer.Alive() {
		if err := e.reopen(ctx); err != nil {
			return versions{}, errors.Join(ErrUnavailable, err)
		}
	}
	e.batch++
	e.found = versions{everything: e.exclusive, of: e.found.of[:0]}
	asked := e.machine()
	err := errors.Join(
		e.writer.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", nil, false),
		e.writer.Queue(lock, []any{ledgerLock}, false),
		e.writer.Query(ctx, `WITH locked AS MATERIALIZED
				(SELECT id, version FROM workspaces WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE)
			SELECT id, version, 0 FROM locked
			UNION ALL SELECT 0, version, `+serverMicros+` FROM ledger_version`,
			[]any{e.workspaces}, e.readVersion(asked)))
	if err != nil {
		return versions{}, errors.Join(ErrUnavailable, fmt.Errorf("begin: %w", err), e.rollback())
	}
	return e.found, nil
}

// readVersion reads a workspace with its version, or 0 with the database's and its time.
func (e *postgresEngine) readVersion(asked time.Time) func(scanner) error {
	return func(row scanner) error {
		var v workspaceVersion
		var micros int64
		err := row.Scan(&v.ws, &v.version, &micros)
		if v.ws != wholeDatabase {
			e.found.of = append(e.found.of, v)
			return err
		}
		e.found.all = v.version
		half := e.machine().Sub(asked) / 2 // it was read somewhere between, and the lock may have taken its time
		e.offset.Store(int64(time.UnixMicro(micros).Sub(asked.Add(half))))
		return err
	}
}

func (e *postgresEngine) savepoint() error  { e.writer.Savepoint(); return nil }
func (e *postgresEngine) rollbackTo() error { return e.writer.RollbackTo(context.Background()) }
func (e *postgresEngine) release() error    { e.writer.Release(); return nil }

// commit sends all that is queued, in one round trip.
func (e *postgresEngine) commit() (versions, error) {
	ctx, left := context.Background(), versions{all: e.found.all, of: e.found.of}
	err := e.writer.Queue(`INSERT INTO writers (id, batch, opened_at) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET batch = excluded.batch`, []any{e.id[:], e.batch, e.now().UnixMilli()}, true)
	if len(e.workspaces) > 0 {
		err = errors.Join(err, e.writer.Queue(`UPDATE workspaces SET version = version + 1 WHERE id = ANY($1)`, []any{e.workspaces}, false))
		for i := range left.of {
			left.of[i].version++
		}
	}
	if e.exclusive {
		err = errors.Join(err, e.writer.Queue(`UPDATE ledger_version SET version = version + 1`, nil, true))
		left.all++
	}
	if err == nil {
		err = e.writer.Run(context.WithoutCancel(ctx), "COMMIT")
	}
	switch {
	case err == nil:
		e.writer.Forget()
		return left, nil
	case e.writer.Broken():
		if committed, askErr := e.outcome(ctx); askErr != nil {
			return versions{}, errors.Join(ErrUnavailable, ErrUnknownOutcome, err, askErr)
		} else if committed {
			return left, nil
		}
	}
	return versions{}, errors.Join(ErrUnavailable, errBatchRollback, fmt.Errorf("commit: %w", err), e.rollback())
}

// outcome asks whether the latest batch was committed, after the answer to its
// COMMIT was lost. While the old connection still works on it, it has the
// writer's row, so to ask for that with a lock is to wait for it. A COMMIT may
// also be on its way still: not before the old session has ended is there none.
func (e *postgresEngine) outcome(ctx context.Context) (committed bool, err error) {
	const pause = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, e.patience)
	defer cancel()
	look := func() (latest int64, err error) {
		err = e.writer.Query(ctx, `SELECT batch FROM writers WHERE id = $1 FOR UPDATE`, []any{e.id[:]},
			func(row scanner) error { return row.Scan(&latest) })
		return latest, err
	}
	for old := e.writer.Session(); ; {
		var latest int64
		if err = e.reopen(ctx); err == nil {
			latest, err = look()
		}
		if err == nil && latest != e.batch {
			if err = e.writer.End(ctx, old); err == nil {
				latest, err = look()
			}
		}
		if err == nil {
			return latest == e.batch, nil
		}
		if sleepErr := dbfile.Sleep(ctx, pause); sleepErr != nil {
			return false, errors.Join(err, sleepErr)
		}
	}
}

// rollback ends the transaction. A connection on which that fails is given up,
// and the server ends the transaction with it.
func (e *postgresEngine) rollback() error {
	e.writer.Forget()
	if e.writer.Broken() {
		return nil
	}
	if err := e.writer.Run(context.Background(), "ROLLBACK"); err != nil {
		return errors.Join(err, e.writer.Close())
	}
	return nil
}

func (e *postgresEngine) reopen(ctx context.Context) error {
	err := e.writer.Reopen(ctx)
	if err == nil {
		err = postgres.Check(ctx, e.writer)
	}
	if err != nil { // nothing is written on a connection that was not found to be right
		return errors.Join(err, e.writer.Close())
	}
	return nil
}

// dutyLock is the advisory lock of the node that does the upkeep.
const dutyLock = ledgerLock + 1

func (e *postgresEngine) onDuty(ctx context.Context, fn func(context.Context), lost func(error)) {
	postgres.WhileLocked(ctx, e.config, dutyLock, fn, lost)
}

func (e *postgresEngine) versions(ctx context.Context, of []WorkspaceKey) (found versions, err error) {
	ids := make([]int64, len(of))
	for i, ws := range of {
		ids[i] = int64(ws)
	}
	err = e.read(ctx, forLists, func(c conn) error {
		return c.Query(ctx, `SELECT id, version FROM workspaces WHERE id = ANY($1)
			UNION ALL SELECT 0, version FROM ledger_version`, []any{ids}, func(row scanner) error {
			var v workspaceVersion
			if err := row.Scan(&v.ws, &v.version); err != nil {
				return err
			}
			if v.ws == wholeDatabase {
				found.all = v.version
			} else {
				found.of = append(found.of, v)
			}
			return nil
		})
	})
	return found, e.classify(err)
}

func (e *postgresEngine) shared() bool { return true }
func (e *postgresEngine) committed()   {} // PostgreSQL has checkpoints of its own

func (e *postgresEngine) read(ctx context.Context, from readPool, fn func(conn) error) error {
	pool := e.pools[from]
	session, err := pool.Begin(ctx)
	switch {
	case errors.Is(err, postgres.ErrClosed):
		return ErrClosed
	case err != nil && ctx.Err() == nil:
		return errors.Join(ErrUnavailable, err)
	case err != nil:
		return err
	}
	defer pool.End(ctx, session) // deferred, so that a panic of fn does not keep it
	err = fn(session)
	if ctx.Err() != nil { // pgx says it in its own words
		return errors.Join(ctx.Err(), err)
	}
	return err
}

func (e *postgresEngine) space(tx *Tx) (space Space, err error) {
	err = tx.get(`SELECT pg_database_size(current_database())`, nil, &space.FileBytes)
	return space, err
}

// shrink does nothing: PostgreSQL's own vacuum finds what is free, and uses it again.
func (e *postgresEngine) shrink(*Tx) (pages int, err error) { return 0, nil }

func (e *postgresEngine) finishShrink(context.Context, pauseWriter) error { return nil }

// scrub has PostgreSQL remove the old versions of rows that may have what was
// erased. Its log keeps them until it is recycled, and so do archives of it.
func (e *postgresEngine) scrub(ctx context.Context, _ pauseWriter) error {
	c, err := postgres.Connect(ctx, e.config)
	if err != nil {
		return e.classify(err)
	}
	defer func() { _ = c.Close() }()
	for _, table := range []string{
		"users", "runs", "run_metadata", "step_payloads", "idempotency_keys", "audit_entries", "deliveries", "erasures",
	} {
		if err := c.Run(ctx, "VACUUM "+table); err != nil {
			return e.classify(err)
		}
	}
	return nil
}

func (e *postgresEngine) size() engineSize { return engineSize{} }

func (e *postgresEngine) classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	damaged := postgres.IsCorrupt(err) || errors.Is(err, ErrCorrupt)
	if !damaged && !postgres.IsUnavailable(err) {
		return err
	}
	if damaged && !errors.Is(err, errDamaged) {
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return errors.Join(ErrUnavailable, e.explain(err))
}

func (e *postgresEngine) again(err error) bool { return postgres.IsRetryable(err) }

func (e *postgresEngine) explain(err error) error {
	if postgres.IsFull(err) && !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("%w the PostgreSQL server: free some: %w", ErrNoSpace, err)
	}
	return postgres.Explain(err)
}

func (e *postgresEngine) backup(context.Context, string) (int64, error) { return 0, ErrNoBackup }

func (e *postgresEngine) verify(ctx context.Context) (verify.Report, error) {
	return verifyPostgres(ctx, e.config, verify.Options{Gentle: true})
}

// VerifyPostgres proves the counters of a database from its ledger. A repair
// keeps all writers away.
func VerifyPostgres(ctx context.Context, url string, migrations fs.FS, opts verify.Options) (verify.Report, error) {
	status, err := PostgresSchema(ctx, url, migrations)
	if err := errors.Join(err, status.Err()); err != nil {
		return verify.Report{}, err
	}
	config, err := postgres.ParseURL(url)
	if err != nil {
		return verify.Report{}, err
	}
	return verifyPostgres(ctx, config, opts)
}

func verifyPostgres(ctx context.Context, config postgres.Config, opts verify.Options) (report verify.Report, err error) {
	db := config.OpenDB()
	defer func() { err = errors.Join(err, db.Close()) }()
	return verify.Postgres(ctx, db, opts)
}
