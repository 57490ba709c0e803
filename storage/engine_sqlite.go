package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/postgres"
	"github.com/pikarc/server/storage/sqlite"
	"github.com/pikarc/server/storage/verify"
)

// engine is the database below the ledger: connections, transactions, space and
// errors. It knows no table of the ledger but those that it needs for itself.
//
// The methods of a transaction are called by whoever has the writer lock, one
// after another. When begin, commit or rollback fails, no transaction is open
// any more, and the next begin starts afresh.
type engine interface {
	// begin starts a transaction for jobs of some scopes, and returns the
	// versions that it finds. Until its end nobody else changes rows in them.
	begin(scopes []WorkspaceKey) (versions, error)
	// conn runs the transaction's statements. pipeline, which not every engine
	// has, sends those together for whose results nobody waits.
	conn() conn
	pipeline() pipeline
	// savepoint, rollbackTo and release set apart what one job does.
	savepoint() error
	rollbackTo() error
	release() error
	// commit makes the transaction durable, and returns the versions that it
	// leaves: new ones in the scopes in which rows have changed that may be cached.
	commit(changed []WorkspaceKey) (versions, error)
	rollback() error
	// committed is called after a commit, once its callers have their answers.
	committed()

	// onDuty calls fn, whenever no other node is on duty, until ctx ends, and
	// returns then. fn's context ends when another one may be.
	onDuty(ctx context.Context, fn func(context.Context), lost func(error))
	// shared reports whether other nodes may use the database.
	shared() bool
	// versions reads those of some workspaces and of the whole database, where it is shared.
	versions(ctx context.Context, of []WorkspaceKey) (versions, error)

	// read runs fn in a snapshot, once a connection of the pool is free.
	read(ctx context.Context, from readPool, fn func(conn) error) error

	// space reads how the database is filled. shrink gives some of what is free
	// back to the disk, in a transaction of the writer, and returns how many
	// pages; finishShrink makes that take effect.
	space(tx *Tx) (Space, error)
	shrink(tx *Tx) (pages int, err error)
	finishShrink(ctx context.Context, exclusive pauseWriter) error
	// scrub removes what deleted and overwritten rows have left behind, in logs too.
	scrub(ctx context.Context, exclusive pauseWriter) error
	// size is what can be told without asking the database.
	size() engineSize

	// classify adds ErrUnavailable, ErrCorrupt and the like to an error of a
	// statement; explain adds what the operator can do about one of a batch.
	classify(err error) error
	explain(err error) error
	// again reports whether a transaction was given up in favour of another one,
	// and may simply be run again.
	again(err error) bool

	backup(ctx context.Context, file string) (bytes int64, err error)
	verify(ctx context.Context) (verify.Report, error)
	close() error
}

// conn is a connection to the database, the writer's or a reader's, inside a
// transaction.
type conn interface {
	// Exec runs a statement and returns how many rows it changed.
	Exec(ctx context.Context, query string, args []any) (changed int64, err error)
	// Query calls each for every row of a query.
	Query(ctx context.Context, query string, args []any, each func(scanner) error) error
}

// pipeline is a connection that sends statements together.
type pipeline interface {
	// Queue has a statement sent before the next one whose result somebody
	// needs. With must, the transaction fails if it then changes no row.
	Queue(query string, args []any, must bool) error
	// Together runs functions whose queries are sent together.
	Together(ctx context.Context, fns []func(postgres.Reader)) error
}

// scanner is a row that can be read.
type scanner = sqlite.Row

// versions tell whether somebody else has committed: a row in the cache holds
// while the versions are those that it was read under.
type versions struct {
	all int64              // of the whole database
	of  []workspaceVersion // of the workspaces that were asked for, where the engine knows them
	// everything says that any row may have changed: nobody has asked for the
	// version of each workspace.
	everything bool
	// expected says that nobody has asked at all: if they are others, the transaction fails, and
	// is run again.
	expected bool
}

// workspaceVersion is the version of one workspace's rows.
type workspaceVersion struct {
	ws      WorkspaceKey
	version int64
}

// readPool names one of an engine's pools of connections for reading.
type readPool uint8

const (
	// forLists serves lists and pages, which may be slow.
	forLists readPool = iota
	// forCredentials is apart, so that no slow list delays the look-up of a
	// key, which comes before every decision.
	forCredentials
)

// pauseWriter runs prepare beside the writes, and then fn while none is under way.
type pauseWriter func(ctx context.Context, prepare func(), fn func() (bool, error)) (done bool, err error)

// engineSize is how large the database's files are, and how the writer's connection has fared.
type engineSize struct {
	file, log int64
	blocked   time.Duration // for how long a reader has kept the log from shrinking

	roundTrips, reconnects int64 // to a server
}

// sqliteEngine keeps the ledger in one file.
type sqliteEngine struct {
	path       string
	migrations fs.FS
	lock       io.Closer // shared: no restore may replace the file meanwhile

	writer       writerConn
	reopened     int64 // how often the writer's connection was replaced
	found        versions
	checkpointer *sqlite.Checkpointer

	db    *sql.DB // readers
	pools [2]*sqlite.Pool
}

// writerConn is the writer's connection. Tests put their own in front of it.
type writerConn interface {
	conn
	Run(query string) error // a statement without parameters and rows
	Reopen() error          // replaces the connection, whose transaction ends
	Close() error
}

// openSQLite opens a file whose schema is current, which version returns.
func openSQLite(ctx context.Context, path string, migrations fs.FS) (e *sqliteEngine, version int64, err error) {
	if path, err = dbfile.Locate(path); err != nil {
		return nil, 0, err
	}
	status, err := dbfile.SchemaStatus(ctx, path, migrations)
	if err != nil {
		return nil, 0, err
	}
	if err := status.Err(); err != nil {
		return nil, 0, err
	}
	e = &sqliteEngine{path: path, migrations: migrations}
	if e.lock, err = dbfile.LockShared(path); err != nil {
		return nil, 0, err
	}
	if err := e.connect(ctx); err != nil {
		return nil, 0, errors.Join(dbfile.OrNoSpace(err, path), e.close())
	}
	return e, status.Newest, nil
}

// connect opens the writer, the checkpointer and the readers. The writer comes first: it fails if
// the file cannot be written, and that is the error to report.
func (e *sqliteEngine) connect(ctx context.Context) error {
	writer, err := sqlite.OpenConn(e.path)
	if err != nil {
		return fmt.Errorf("open the database for writing: %w", dbfile.Classify(err))
	}
	e.writer = writer
	if err := requireWritable(e.writer); err != nil {
		return err
	}
	if e.checkpointer, err = sqlite.NewCheckpointer(e.path, writer); err != nil {
		return fmt.Errorf("open the database for checkpoints: %w", dbfile.Classify(err))
	}
	if e.db, err = sqlite.OpenReaders(e.path); err != nil {
		return fmt.Errorf("open the database for reading: %w", err)
	}
	if e.pools[forLists], err = sqlite.NewPool(ctx, e.db, max(4, 2*runtime.GOMAXPROCS(0))); err != nil {
		return err
	}
	e.pools[forCredentials], err = sqlite.NewPool(ctx, e.db, 2)
	return err
}

// requireWritable returns ErrReadOnly when no write can ever succeed. That
// another process writes just now is no such thing. BEGIN IMMEDIATE alone would
// do with a read lock on a file that is read-only, so it takes a statement.
func requireWritable(writer writerConn) error {
	err := writer.Run("BEGIN IMMEDIATE")
	if err == nil {
		err = errors.Join(writer.Run(`UPDATE probes SET checked_at = checked_at WHERE id = 1`), writer.Run("ROLLBACK"))
	}
	if sqlite.IsReadOnly(err) {
		return dbfile.OrReadOnly(err)
	}
	return nil
}

// close closes the readers first, so that the writer is the last and
// checkpoints the WAL.
func (e *sqliteEngine) close() error {
	var errs []error
	for _, readers := range e.pools {
		if readers != nil {
			errs = append(errs, readers.Close())
		}
	}
	if e.db != nil {
		errs = append(errs, e.db.Close())
	}
	if e.checkpointer != nil {
		errs = append(errs, e.checkpointer.Close())
	}
	if e.writer != nil {
		errs = append(errs, e.writer.Close())
	}
	return errors.Join(append(errs, e.lock.Close())...)
}

// begin takes SQLite's lock, which is on the whole file whatever the scopes, and
// asks whether another process has committed since the last time.
func (e *sqliteEngine) begin([]WorkspaceKey) (versions, error) {
	err := e.writer.Run("BEGIN IMMEDIATE")
	switch {
	case sqlite.IsBusy(err):
		return versions{}, dbfile.Classify(fmt.Errorf("begin: %w", err)) // nothing has begun
	case err != nil:
		return versions{}, e.reopen(fmt.Errorf("begin: %w", err))
	}
	err = e.writer.Query(context.Background(), "PRAGMA data_version", nil, func(row scanner) error {
		return row.Scan(&e.found.all)
	})
	if err != nil {
		err = fmt.Errorf("look for other processes: %w", err)
		return versions{}, errors.Join(ErrUnavailable, errBatchRollback, err, e.rollback())
	}
	e.found.all |= e.reopened << 32 // a new connection counts from the start
	return e.found, nil
}

// conn is the writer's connection.
func (e *sqliteEngine) conn() conn { return e.writer }

// pipeline is nil: a statement in the same process has no round trip to save.
func (e *sqliteEngine) pipeline() pipeline { return nil }

// savepoint sets a job apart. It costs 3 to 4 % of a batch's time, and saves the batch from a job
// that fails.
func (e *sqliteEngine) savepoint() error { return e.writer.Run("SAVEPOINT job") }

// rollbackTo undoes the job; the savepoint stays open until release.
func (e *sqliteEngine) rollbackTo() error { return e.writer.Run("ROLLBACK TO job") }

// release keeps what the job has done for the commit.
func (e *sqliteEngine) release() error { return e.writer.Run("RELEASE job") }

// commit leaves data_version as it was: one's own commits do not count.
func (e *sqliteEngine) commit([]WorkspaceKey) (versions, error) {
	if err := e.writer.Run("COMMIT"); err != nil {
		return versions{}, e.reopen(fmt.Errorf("commit: %w", err))
	}
	return e.found, nil
}

// rollback ends the transaction. If that fails, the state of the connection is unknown, and it is
// replaced.
func (e *sqliteEngine) rollback() error {
	if err := e.writer.Run("ROLLBACK"); err != nil { // SQLite may have done so itself
		return e.reopen(err)
	}
	return nil
}

// reopen replaces the writer's connection, after a statement that begins or
// ends a transaction has failed: a transaction may still be open, and no other
// batch may run inside it.
func (e *sqliteEngine) reopen(cause error) error {
	e.reopened++
	return errors.Join(ErrUnavailable, cause, e.writer.Reopen())
}

// committed tells the checkpointer that the WAL has grown.
func (e *sqliteEngine) committed() { e.checkpointer.Committed() }

// onDuty calls fn at once: the server holds a lock on the file.
func (e *sqliteEngine) onDuty(ctx context.Context, fn func(context.Context), _ func(error)) { fn(ctx) }

// shared is false: a lock on the file keeps a second server away.
func (e *sqliteEngine) shared() bool { return false }

// versions answers nothing: nobody shares the file. What other commands commit is seen by begin.
func (e *sqliteEngine) versions(context.Context, []WorkspaceKey) (v versions, err error) {
	return v, nil
}

// read runs fn in a read transaction of a pooled connection.
func (e *sqliteEngine) read(ctx context.Context, from readPool, fn func(conn) error) (err error) {
	pool := e.pools[from]
	session, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	// Deferred, so that a panic of fn does not keep the session.
	defer func() {
		if endErr := pool.End(ctx, session); endErr != nil {
			err = errors.Join(err, endErr)
		}
	}()
	return fn(session)
}

// classify goes by SQLite's extended error code.
func (e *sqliteEngine) classify(err error) error { return dbfile.Classify(err) }

// again is always false.
func (e *sqliteEngine) again(error) bool { return false } // it has one writer at a time
// explain says which disk is full.
func (e *sqliteEngine) explain(err error) error { return dbfile.OrNoSpace(err, e.path) }

// SQLite reuses the pages of deleted rows, and its file never shrinks by
// itself. New databases have incremental auto-vacuum, so that upkeep can move
// the last pages into free ones and truncate the file. Older databases cannot
// shrink until a restore has rewritten the file (docs/ops/space.md).

// spaceReserve is the share of the pages in use that stays free: one part in
// spaceReserve. Pages that retention frees are soon needed again.
const spaceReserve = 16

// space counts pages: those of the file, and those on its free list.
func (e *sqliteEngine) space(tx *Tx) (Space, error) {
	var pages, free, size, mode int64
	err := errors.Join(
		tx.get(`PRAGMA page_count`, nil, &pages), tx.get(`PRAGMA freelist_count`, nil, &free),
		tx.get(`PRAGMA page_size`, nil, &size), tx.get(`PRAGMA auto_vacuum`, nil, &mode))
	canShrink := mode == sqlite.AutoVacuumIncremental
	return Space{FileBytes: pages * size, FreeBytes: free * size, CanShrink: canShrink}, err
}

// shrink cuts some pages from the end of the file, moving what they hold, and
// returns how many; 0 when only the reserve is free.
func (e *sqliteEngine) shrink(tx *Tx) (cut int, err error) {
	var pages, free int64
	err = errors.Join(tx.get(`PRAGMA page_count`, nil, &pages), tx.get(`PRAGMA freelist_count`, nil, &free))
	if err != nil || free <= (pages-free)/spaceReserve {
		return 0, err
	}
	err = tx.each(`PRAGMA incremental_vacuum(4)`, nil, func(scanner) error { return nil })
	if err != nil {
		return 0, err
	}
	var after int64
	err = tx.get(`PRAGMA page_count`, nil, &after)
	return int(pages - after), err
}

// finishShrink empties the WAL: the file is cut when the last of it is checkpointed.
func (e *sqliteEngine) finishShrink(ctx context.Context, exclusive pauseWriter) error {
	if err := e.scrub(ctx, exclusive); err != nil && !errors.Is(err, errBlockedByReader) {
		return err
	}
	return nil
}

// scrub checkpoints the WAL and cuts it to nothing: until then it may have
// pages as they were before. In the file itself, what is deleted is overwritten
// (pragma secure_delete). Readers may keep it from that for a while, and
// writers wait for it no longer than for any other checkpoint.
func (e *sqliteEngine) scrub(ctx context.Context, exclusive pauseWriter) error {
	const attempts, pause = 20, 50 * time.Millisecond
	for range attempts {
		done, err := exclusive(ctx, e.checkpointer.Checkpoint, func() (bool, error) { return e.truncateWAL(ctx) })
		if done || err != nil {
			return err
		}
		if err := dbfile.Sleep(ctx, pause); err != nil {
			return err
		}
	}
	return errBlockedByReader
}

// errBlockedByReader says that something reads an old state of the file, as a
// backup does or a verification.
var errBlockedByReader = errors.New("the log cannot be emptied yet: a long read is under way")

// truncateWAL is called while nobody writes, for some milliseconds. In these
// the readers of the WAL end, and new readers need only the file.
func (e *sqliteEngine) truncateWAL(ctx context.Context) (done bool, err error) {
	const attempts, pause = 4, time.Millisecond
	for range attempts {
		if done, err = e.checkpointer.Truncate(); done || err != nil {
			return done, err
		}
		if err := dbfile.Sleep(ctx, pause); err != nil {
			return false, err
		}
	}
	return false, nil
}

// size reads the lengths of the database and its WAL from the file system.
func (e *sqliteEngine) size() engineSize {
	return engineSize{file: sizeOf(e.path), log: sizeOf(e.path + "-wal"), blocked: e.checkpointer.BlockedFor()}
}

// sizeOf is 0 for a file that is not there.
func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// backup copies the file beside the writer.
func (e *sqliteEngine) backup(ctx context.Context, file string) (bytes int64, err error) {
	return dbfile.Backup(ctx, e.path, file)
}

// verify opens the file with connections of its own, and pauses between queries.
func (e *sqliteEngine) verify(ctx context.Context) (verify.Report, error) {
	return verify.File(ctx, e.path, verify.Options{Migrations: e.migrations, Gentle: true})
}
