package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

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
	writer *postgres.Writer
	pools  [2]*postgres.Pool

	workspaces []int64 // that the batch has locked
	changed    []int64
	listed     []postgres.Version
	found      versions

	expected *lru.LRU[int64, expectation] // of workspaces, and of Everything
	compared []int64                      // versions that the batch expects
	options  postgres.WriterOptions
}

// openPostgres opens a database whose schema is current, which version returns.
func openPostgres(ctx context.Context, config postgres.Config, opts Options) (e *postgresEngine, version int64, err error) {
	opened := &postgresEngine{config: config, expected: newLRU[int64, expectation](opts.CacheSize), options: postgres.WriterOptions{Machine: opts.machine, Patience: opts.AnswerTimeout / 2}}
	if version, err = opened.connect(ctx, opts.Migrations, opts.Secret); err != nil {
		return nil, 0, errors.Join(opened.classify(err), opened.close())
	}
	return opened, version, nil
}

// connect opens the writer's connection, checks schema and secret on it, and then opens
// the pools for reading. close closes what it has opened, also after an error.
func (e *postgresEngine) connect(ctx context.Context, migrations fs.FS, secret auth.Secret) (version int64, err error) {
	if e.writer, err = postgres.ConnectWriter(ctx, e.config, e.options); err != nil {
		return 0, err
	}
	current, err := postgres.SchemaVersion(ctx, e.writer.Conn)
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
		err = e.writer.Prepare(ctx)
	}
	if err != nil {
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
	// Only one of several first nodes finds NULL; the others compare with what it wrote.
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
		// A database without tables has no secret yet.
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
	applied, err = postgres.Migrate(ctx, config, migrations)
	if postgres.IsUnavailable(err) {
		err = fmt.Errorf("%s: %w", config, errors.Join(ErrUnavailable, postgres.Explain(err)))
	}
	return applied, err
}

// PostgresSchema compares a database with the migrations that the binary carries.
func PostgresSchema(ctx context.Context, url string, migrations fs.FS) (dbfile.Schema, error) {
	config, err := postgres.ParseURL(url)
	if err != nil {
		return dbfile.Schema{}, err
	}
	return postgresSchema(ctx, config, migrations)
}

// postgresSchema is PostgresSchema for a URL that was parsed.
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

// close closes what was opened. After an error of connect some of it is missing.
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
	return e.options.Machine().Add(e.writer.Offset())
}

func (e *postgresEngine) conn() conn         { return e.writer }
func (e *postgresEngine) pipeline() pipeline { return e.writer }

// expectation is a version that the next batch probably finds.
type expectation struct {
	version int64
	found   int // batches in a row that have found what they expected
}

// trusted is after how many batches a version is no longer asked for that another
// node has once changed.
const trusted = 8

// begin costs one round trip, or none where the versions are as they were for a
// while: then the server compares them on its way to the first statement.
func (e *postgresEngine) begin(scopes []WorkspaceKey) (versions, error) {
	// Slices are used again in the next batch: there is one writer, and it allocates nothing
	// here.
	alone := slices.Contains(scopes, wholeDatabase)
	e.workspaces = workspaceIDs(e.workspaces[:0], scopes)
	all, known := e.expect()
	if known = known && !alone; known {
		e.listed = e.listed[:0]
		for i, id := range e.workspaces {
			e.listed = append(e.listed, postgres.Version{Workspace: id, Version: e.compared[i]})
		}
		e.listed = append(e.listed, postgres.Version{Workspace: postgres.Everything, Version: all})
		if err := e.writer.Expect(context.Background(), e.workspaces, e.compared, all); err != nil {
			return versions{}, errors.Join(ErrUnavailable, err)
		}
	} else {
		var err error
		e.listed, err = e.writer.Begin(context.Background(), e.workspaces, alone, e.listed[:0])
		if err != nil {
			return versions{}, errors.Join(ErrUnavailable, err)
		}
		for _, v := range e.listed {
			e.learn(v)
		}
	}
	e.found = versionsOf(e.listed, e.found.of[:0])
	e.found.everything, e.found.expected = alone, known
	return e.found, nil
}

// expect lists the versions of the batch's workspaces, and returns the database's.
// ok is false where one of them is to be asked for.
func (e *postgresEngine) expect() (all int64, ok bool) {
	if e.writer.Outdated() {
		return 0, false
	}
	e.compared = e.compared[:0]
	for _, id := range e.workspaces {
		v, known := e.expected.Get(id)
		if !known || v.found < trusted {
			return 0, false
		}
		e.compared = append(e.compared, v.version)
	}
	v, known := e.expected.Get(postgres.Everything)
	return v.version, known
}

// learn remembers a version that was asked for.
func (e *postgresEngine) learn(v postgres.Version) {
	was, known := e.expected.Get(v.Workspace)
	is := expectation{version: v.Version, found: trusted}
	if known {
		is.found = was.found + 1
		if was.version != v.Version {
			is.found = 0
		}
	}
	e.expected.Add(v.Workspace, is)
}

// workspaceIDs lists the ids of some scopes in order, each once.
func workspaceIDs(ids []int64, scopes []WorkspaceKey) []int64 {
	for _, ws := range scopes {
		if ws != noWorkspace {
			ids = append(ids, int64(ws))
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// versionsOf takes that of the whole database from those of workspaces, which it appends to a list.
func versionsOf(list []postgres.Version, of []workspaceVersion) (v versions) {
	for _, read := range list {
		if read.Workspace == postgres.Everything {
			v.all = read.Version
		} else {
			of = append(of, workspaceVersion{WorkspaceKey(read.Workspace), read.Version})
		}
	}
	v.of = of
	return v
}

func (e *postgresEngine) savepoint() error  { e.writer.Savepoint(); return nil }
func (e *postgresEngine) rollbackTo() error { return e.writer.RollbackTo(context.Background()) }
func (e *postgresEngine) release() error    { e.writer.Release(); return nil }

// commit sends all that is queued, in one round trip.
func (e *postgresEngine) commit(changed []WorkspaceKey) (versions, error) {
	e.changed = workspaceIDs(e.changed[:0], changed)
	if err := e.writer.Commit(context.Background(), e.changed); err != nil {
		return versions{}, errors.Join(ErrUnavailable, err)
	}
	// The locks are held until the commit, so nobody else has raised these versions
	// meanwhile.
	left := e.found
	for i, w := range left.of {
		if _, found := slices.BinarySearch(e.changed, int64(w.ws)); found {
			left.of[i].version++
			e.leave(int64(w.ws), left.of[i].version)
		}
	}
	if slices.Contains(e.changed, postgres.Everything) {
		left.all++
		e.leave(postgres.Everything, left.all)
	}
	return left, nil
}

// leave remembers a version that a batch has made.
func (e *postgresEngine) leave(workspace, version int64) {
	v, _ := e.expected.Get(workspace)
	v.version = version
	e.expected.Add(workspace, v)
}

// rollback ends the batch, and with it the locks.
func (e *postgresEngine) rollback() error { return e.writer.Rollback(context.Background()) }

// dutyLock is the advisory lock of the node that does the upkeep.
const dutyLock = postgres.LedgerLock + 1

// onDuty runs fn while this node has the lock, which PostgreSQL frees when the node is
// gone.
func (e *postgresEngine) onDuty(ctx context.Context, fn func(context.Context), lost func(error)) {
	postgres.WhileLocked(ctx, e.config, dutyLock, fn, lost)
}

// versions reads the versions without locks: they may be old by the time they are
// compared.
func (e *postgresEngine) versions(ctx context.Context, of []WorkspaceKey) (found versions, err error) {
	ids := make([]int64, len(of))
	for i, ws := range of {
		ids[i] = int64(ws)
	}
	var list []postgres.Version
	err = e.read(ctx, forLists, func(c conn) error {
		list = nil
		return c.Query(ctx, `SELECT id, version FROM workspaces WHERE id = ANY($1)
			UNION ALL SELECT 0, version FROM ledger_version`, []any{ids}, func(row scanner) error {
			var v postgres.Version
			err := row.Scan(&v.Workspace, &v.Version)
			list = append(list, v)
			return err
		})
	})
	return versionsOf(list, nil), e.classify(err)
}

func (e *postgresEngine) shared() bool { return true }
func (e *postgresEngine) committed()   {} // PostgreSQL has checkpoints of its own

// read runs fn on a session of a pool, in one snapshot.
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

// space knows the size alone: what is free inside is vacuum's business.
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
	const patience = time.Hour // for one table: a call's time says nothing about it
	c, err := postgres.Connect(ctx, e.config.WithTimeout(patience))
	if err != nil {
		return e.classify(err)
	}
	defer func() { _ = c.Close() }()
	for _, table := range []string{
		"users", "runs", "run_metadata", "step_payloads", "payload_blocks", "idempotency_keys", "audit_entries", "deliveries", "erasures",
	} {
		if err := c.Run(ctx, "VACUUM "+table); err != nil {
			return e.classify(err)
		}
	}
	return nil
}

// size has no files to measure. It counts what PostgreSQL's distance costs instead.
func (e *postgresEngine) size() engineSize {
	return engineSize{roundTrips: e.writer.RoundTrips(), reconnects: e.writer.Reopened()}
}

// classify joins ErrUnavailable to errors that come from the environment, and errDamaged
// as well where files are damaged. Others, such as a broken constraint, stay as they are.
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

// again reports whether the batch may simply be run again, as after a deadlock.
func (e *postgresEngine) again(err error) bool {
	return err != nil && (postgres.IsRetryable(err) || e.writer.Outdated())
}

// explain adds what an operator can do.
func (e *postgresEngine) explain(err error) error {
	if postgres.IsFull(err) && !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("%w the PostgreSQL server: free some: %w", ErrNoSpace, err)
	}
	return postgres.Explain(err)
}

// backup is for PostgreSQL's own tools.
func (e *postgresEngine) backup(context.Context, string) (int64, error) { return 0, ErrNoBackup }

// verify is gentle: it runs beside decisions.
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

// verifyPostgres opens connections of its own, so that it takes none of the pools'.
func verifyPostgres(ctx context.Context, config postgres.Config, opts verify.Options) (report verify.Report, err error) {
	db := config.OpenDB()
	defer func() { err = errors.Join(err, db.Close()) }()
	return verify.Postgres(ctx, db, opts)
}
