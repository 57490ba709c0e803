package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Writer writes batches, each in one transaction, beside those of other nodes.
// Of the ledger it knows what they have in common: a lock, versions, and the
// number of each writer's latest batch.
type Writer struct {
	*Conn
	WriterOptions
	id       [16]byte
	batch    int64 // the latest
	offset   atomic.Int64
	timed    bool // the server's time was read
	outdated bool // the latest batch has expected another version
}

// WriterOptions say what a writer goes by.
type WriterOptions struct {
	Machine  func() time.Time // this machine's clock
	Patience time.Duration    // within which the outcome of a COMMIT is found out
}

// Version is that of a workspace.
type Version struct{ Workspace, Version int64 }

// Everything is the Workspace of the version of the whole database.
const Everything int64 = 0

// LedgerLock is the advisory lock of the database that batches share, and that
// those for the whole database have alone.
const LedgerLock int64 = 0x50696b617263 // "Pikarc"

// serverMicros is the server's time, in microseconds.
const serverMicros = `CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)`

// ConnectWriter opens a connection for batches, to a server that can be used.
func ConnectWriter(ctx context.Context, config Config, opts WriterOptions) (w *Writer, err error) {
	w = &Writer{WriterOptions: opts}
	_, _ = rand.Read(w.id[:]) // it never fails
	if w.Conn, err = Connect(ctx, config); err != nil {
		return w, err
	}
	return w, w.check(ctx)
}

// check is Check for a session that writes. The ledger's statements go by keys: no
// plan is worth making anew for each, and one that reads a whole table, which a
// table is small enough for when it is planned, is not right for long.
func (w *Writer) check(ctx context.Context) error {
	if err := Check(ctx, w.Conn); err != nil {
		return err
	}
	return w.Run(ctx, `SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false),
		set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false), set_config('jit', 'off', false)`)
}

// Prepare reads the time, and forgets the numbers of writers that nobody asks for any more.
func (w *Writer) Prepare(ctx context.Context) error {
	var found []Version
	err := w.Query(ctx, `SELECT 0, 0, `+serverMicros, nil, w.readVersion(w.Machine(), &found))
	if err != nil {
		return err
	}
	const keep = 7 * 24 * time.Hour // longer than any process asks what became of a batch
	_, err = w.Exec(ctx, `DELETE FROM writers WHERE opened_at < $1`, []any{w.now().Add(-keep).UnixMilli()})
	return err
}

func (w *Writer) now() time.Time { return w.Machine().Add(w.Offset()) }

// Offset is how far the server's clock is ahead of this machine's.
func (w *Writer) Offset() time.Duration { return time.Duration(w.offset.Load()) }

// Begin begins a batch in one round trip. It locks some workspaces, in the order
// of their ids, or keeps all other batches away, and returns the version of each
// and of the whole database. The list is good until the next one.
func (w *Writer) Begin(ctx context.Context, workspaces []int64, alone bool, found []Version) ([]Version, error) {
	if err := w.newBatch(ctx); err != nil {
		return found, err
	}
	lock := lockShared
	if alone {
		lock, workspaces = `SELECT pg_advisory_xact_lock($1)`, nil
	}
	err := errors.Join(
		w.Queue(begin, nil, false),
		w.Queue(lock, []any{LedgerLock}, false),
		w.Query(ctx, `WITH `+locked+`
			SELECT id, version, 0 FROM locked
			UNION ALL SELECT 0, version, `+serverMicros+` FROM ledger_version`,
			[]any{workspaces}, w.readVersion(w.Machine(), &found)))
	if err != nil {
		return found, errors.Join(fmt.Errorf("begin: %w", err), w.Rollback(ctx))
	}
	return found, nil
}

// What a batch begins with.
const (
	begin      = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`
	lockShared = `SELECT pg_advisory_xact_lock_shared($1)`
	locked     = `locked AS MATERIALIZED (SELECT id, version FROM workspaces WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE)`
)

// ErrOutdated says that a batch has expected another version than it has found.
var ErrOutdated = errors.New("another node has written meanwhile")

// driftAllowed is how far the time that a batch goes by may be from the server's by
// the time that it has its locks, if it has not asked.
const driftAllowed = 2 * time.Second

// Expect begins a batch that expects to find versions that are known: of some
// workspaces, in the order of their ids, and of the whole database. It asks nobody:
// what begins and locks goes ahead of the first statement that somebody waits for,
// which may be the COMMIT. Where a version is another one by then, or the time is, the server fails
// that, and so everything after it: with ErrOutdated nothing of the batch is done,
// and it is to be run again.
func (w *Writer) Expect(ctx context.Context, workspaces, expected []int64, all int64) error {
	if err := w.newBatch(ctx); err != nil {
		return err
	}
	asked := w.Machine()
	w.queue = append(w.queue, queued{query: begin}, queued{query: lockShared, args: []any{LedgerLock}}, queued{
		query: `WITH ` + locked + `
			SELECT CAST(CASE WHEN version = $3 AND abs(` + serverMicros + ` - $4) < $5
				AND $2 = (SELECT coalesce(array_agg(version ORDER BY id), CAST('{}' AS bigint[])) FROM locked)
				THEN CAST(` + serverMicros + ` AS text) ELSE 'another node has written: the batch is run again' END AS bigint)
			FROM ledger_version`,
		// A slice that is nil would be NULL, which equals nothing.
		args: []any{workspaces, append([]int64{}, expected...), all, w.now().UnixMicro(), driftAllowed.Microseconds()},
		each: func(row Row) error {
			var micros int64
			err := row.Scan(&micros)
			w.readTime(asked, micros)
			return err
		},
		failed: func(err error) error {
			if e := pgError(err); e != nil && e.Code == "22P02" { // the text is no number
				w.outdated = true
				return ErrOutdated
			}
			return err
		},
	})
	return nil
}

// Outdated reports whether the latest batch has failed with ErrOutdated, whatever
// its error was taken for.
func (w *Writer) Outdated() bool { return w.outdated }

// newBatch numbers a batch, on a connection that is there.
func (w *Writer) newBatch(ctx context.Context) error {
	w.outdated = false
	if !w.Alive() {
		if err := w.reopen(ctx); err != nil {
			return err
		}
	}
	w.batch++
	return nil
}

// readVersion reads a workspace with its version, or 0 with the database's and its time.
func (w *Writer) readVersion(asked time.Time, found *[]Version) func(Row) error {
	return func(row Row) error {
		var v Version
		var micros int64
		err := row.Scan(&v.Workspace, &v.Version, &micros)
		*found = append(*found, v)
		if v.Workspace == Everything {
			w.readTime(asked, micros)
		}
		return err
	}
}

// readTime takes the server's time, which was read somewhere between the question and
// now. A wait for a lock or for the COMMIT may be any part of that, so an offset that
// may still be right is kept. The first one is taken from the middle.
func (w *Writer) readTime(asked time.Time, micros int64) {
	server, now := time.UnixMicro(micros), w.Machine()
	least, most := server.Sub(now), server.Sub(asked)
	offset := least + (most-least)/2
	if w.timed {
		offset = min(max(w.Offset(), least), most)
	}
	w.timed = true
	w.offset.Store(int64(offset))
}

// Commit ends a batch in one round trip, with all that is queued. It counts up the
// versions of the workspaces in which the batch has changed what others may
// remember; with Everything among them, that of the whole database.
func (w *Writer) Commit(ctx context.Context, changed []int64) error {
	if w.Broken() { // the server ends the transaction with the connection
		return errors.Join(ErrRolledBack, errLost)
	}
	err := w.Queue(`WITH counted AS (UPDATE workspaces SET version = version + 1 WHERE id = ANY($4))
		INSERT INTO writers (id, batch, opened_at) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET batch = excluded.batch`, []any{w.id[:], w.batch, w.now().UnixMilli(), changed}, true)
	if slices.Contains(changed, Everything) {
		err = errors.Join(err, w.Queue(`UPDATE ledger_version SET version = version + 1`, nil, true))
	}
	if err == nil {
		err = w.Run(context.WithoutCancel(ctx), "COMMIT")
	}
	switch {
	case err == nil:
		w.Forget()
		return nil
	case w.Broken():
		if committed, askErr := w.outcome(ctx); askErr != nil {
			return errors.Join(ErrUnknownOutcome, err, askErr)
		} else if committed {
			return nil
		}
	}
	return errors.Join(ErrRolledBack, fmt.Errorf("commit: %w", err), w.Rollback(ctx))
}

// What became of a batch that was not committed.
var (
	ErrRolledBack     = errors.New("the batch was rolled back")
	ErrUnknownOutcome = errors.New("the answer to a COMMIT was lost, and its outcome could not be found out")
)

// outcome asks whether the latest batch was committed, after the answer to its
// COMMIT was lost. While the old connection still works on it, it has the
// writer's row, so to ask for that with a lock is to wait for it. A COMMIT may
// also be on its way still: not before the old session has ended is there none.
func (w *Writer) outcome(ctx context.Context) (committed bool, err error) {
	const pause = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, w.Patience)
	defer cancel()
	look := func() (latest int64, err error) {
		err = w.Query(ctx, `SELECT batch FROM writers WHERE id = $1 FOR UPDATE`, []any{w.id[:]},
			func(row Row) error { return row.Scan(&latest) })
		return latest, err
	}
	for old := w.Session(); ; {
		var latest int64
		if err = w.reopen(ctx); err == nil {
			latest, err = look()
		}
		if err == nil && latest != w.batch {
			if err = w.End(ctx, old); err == nil {
				latest, err = look()
			}
		}
		if err == nil {
			return latest == w.batch, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false, errors.Join(err, ctx.Err())
		case <-timer.C:
		}
	}
}

// Rollback ends the transaction. A connection on which that fails is given up,
// and the server ends the transaction with it.
func (w *Writer) Rollback(ctx context.Context) error {
	begun := len(w.queue) == 0 || w.queue[0].query != begin
	w.Forget()
	if w.Broken() || !begun {
		return nil
	}
	if err := w.Run(context.WithoutCancel(ctx), "ROLLBACK"); err != nil {
		return errors.Join(err, w.Close())
	}
	return nil
}

func (w *Writer) reopen(ctx context.Context) error {
	err := w.Reopen(ctx)
	if err == nil {
		err = w.check(ctx)
	}
	if err != nil { // nothing is written on a connection that was not found to be right
		return errors.Join(err, w.Close())
	}
	return nil
}
