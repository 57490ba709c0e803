// Package transfer copies a whole ledger from SQLite to PostgreSQL or back.
//
// The copy is staged (in a file beside the target's, or in a schema of its own) until all of it is
// there, is the same as what was read, and verifies. Only then does it take its place, in one step:
// until then the target looks empty. Rows are copied in chunks, in the order of each table's key,
// so an interrupted copy goes on after the last row that is there.
//
//   - transfer.go: the copy from beginning to end
//   - ledger.go: a side of it, of either engine
//   - tables.go: which tables and columns are copied
//   - read.go: reading in chunks, and digests to compare
//   - to_sqlite.go and to_postgres.go: staging, and moving into place
package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/storage/dbfile"
)

// What a caller can act on.
var (
	// ErrSameEngine: backup and restore, or pg_dump.
	ErrSameEngine = errors.New("both are of one kind, for which there are better tools")
	ErrNoLedger   = errors.New("there is no database")
	// ErrHoldsOther: the target has rows that this copy has not brought.
	ErrHoldsOther = errors.New("the target holds other data, which is left as it is: choose an empty one")
	// ErrServed: rows would change while they are copied.
	ErrServed  = errors.New("nodes are connected to the database")
	ErrCopying = errors.New("another copy to this target is under way")
	// ErrDifferences: `pikarc verify` finds some, in the source or the copy.
	ErrDifferences = errors.New("the books do not balance")
	// ErrNotTheSame: the digests of a table differ.
	ErrNotTheSame = errors.New("what has arrived is not what was sent")
	// ErrSecret: the copy could not open what the ledger has sealed.
	ErrSecret       = errors.New("the server secret is not the one that the source is served with")
	errStillServing = errors.New("stop what serves it first: what it answers from now on would be left behind")
)

// Options say how to copy.
type Options struct {
	Secret           auth.Secret // under which the source has sealed its keys
	SQLite, Postgres fs.FS       // migrations
	WhileServing     bool        // copy a source that is served all the same
	Progress         func(Progress)
}

// Progress says how far a copy has come.
type Progress struct {
	Phase    Phase
	Table    string // where the phase is about one
	Done, Of int64  // rows of all tables
}

// Phase is a part of the work.
type Phase string

// The phases, in order.
const (
	VerifyingSource Phase = "verify the source"
	Counting        Phase = "count rows"
	Copying         Phase = "copy"
	Finishing       Phase = "finish the target"
	Comparing       Phase = "compare"
	VerifyingTarget Phase = "verify the target"
	Publishing      Phase = "put it in place"
)

// Report says what was done.
type Report struct {
	From, To     string // without passwords
	Tables       int
	Rows         int64
	Resumed      int64 // rows that an earlier attempt had copied
	AlreadyThere bool  // nothing was to be done
	Checks       int   // that verify has made on either side
	Took         time.Duration
}

// Copy copies the ledger at from to to. Each is a file or the URL of a database
// in PostgreSQL.
func Copy(ctx context.Context, from, to string, opts Options) (report Report, err error) {
	began := time.Now()
	source, err := opts.place(from)
	if err != nil {
		return report, err
	}
	target, err := opts.place(to)
	if err != nil {
		return report, err
	}
	// A config is only there for PostgreSQL, so this compares the engines.
	if (source.config == nil) == (target.config == nil) {
		return report, ErrSameEngine
	}
	// One seed for both sides: digests are only compared within a copy, and never kept.
	c := &copying{opts: opts, from: source, to: target, hash: hasher{maphash.MakeSeed()}}
	c.report.From, c.report.To = source.String(), target.String()
	err = c.run(ctx)
	c.report.Took, c.report.Checks = time.Since(began), int(c.checks.Load())
	return c.report, err
}

// copying is one copy.
type copying struct {
	opts     Options
	from, to place
	hash     hasher
	source   *ledger
	target   target
	tables   []table
	total    int64
	done     int64
	digests  map[string]digest // of the source's tables
	same     map[string]bool   // tables that were already compared
	checks   atomic.Int64
	report   Report
}

// target is where rows are copied to, apart from the place where they will be.
type target interface {
	querier() querier
	postgres() bool
	clear(ctx context.Context, t table) error
	load(ctx context.Context, t table, rows [][]any) error // all of them or none
	finish(ctx context.Context, secretCheck []byte) error
	staged() place
	publish(ctx context.Context) error
	close() error
}

// run copies the ledger: it reserves both sides, stages and compares table by table, verifies both,
// and moves the result into place. Until the last step the target looks empty.
func (c *copying) run(ctx context.Context) (err error) {
	if exists, err := c.from.exists(ctx); err != nil || !exists {
		return errors.Join(err, missing(!exists && err == nil, c.from))
	}
	held, err := c.from.reserve(ctx)
	switch {
	case err == nil:
		defer func() { err = errors.Join(err, held.Close()) }()
	// A rehearsal goes on without the reservation: its snapshot is consistent, but what is
	// booked from now on is not in it.
	case !errors.Is(err, ErrServed) && !errors.Is(err, dbfile.ErrServerRunning):
		return err
	case !c.opts.WhileServing:
		return fmt.Errorf("%s: %w: %w", c.from, err, errStillServing)
	}
	if c.source, err = c.from.snapshot(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.source.Close()) }()
	if err := c.checkSecret(ctx); err != nil {
		return err
	}
	// A copy that has succeeded and is called again changes nothing, and says so.
	if there, err := c.alreadyThere(ctx); err != nil || there {
		c.report.AlreadyThere = there
		return err
	}
	if c.target, err = openTarget(ctx, c.to); err != nil {
		return fmt.Errorf("prepare %s: %w", c.to, err)
	}
	// An error leaves the stage as it is: the next attempt goes on from there.
	if err := c.fillAndVerify(ctx); err != nil {
		return errors.Join(err, c.target.close())
	}
	c.say(Publishing, "")
	return errors.Join(c.target.publish(ctx), c.target.close())
}

// missing returns ErrNoLedger if that is so.
func missing(is bool, p place) error {
	if !is {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrNoLedger, p)
}

// fillAndVerify does all but publish. The source is verified meanwhile, on another processor;
// differences in it end the copy at once.
func (c *copying) fillAndVerify(ctx context.Context) error {
	verify := func(ctx context.Context) error { return c.verify(ctx, c.from) }
	return both(ctx, verify, func(ctx context.Context) error {
		err := c.fill(ctx)
		if err == nil {
			c.say(VerifyingSource, "")
		}
		return err
	})
}

// both calls two functions at once. Where one fails, the other's context ends, and the first error
// is returned.
func both(ctx context.Context, a, b func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	for _, fn := range []func(context.Context) error{a, b} {
		group.Go(func() {
			if err := fn(ctx); err != nil {
				cancel(err)
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// fill copies and proves everything but the source, and what publish does.
func (c *copying) fill(ctx context.Context) error {
	there, err := catalogue(ctx, c.target.querier(), c.target.postgres())
	if err != nil {
		return err
	}
	if c.tables, err = tablesOf(c.source.tables, there); err != nil {
		return err
	}
	if err := c.count(ctx); err != nil {
		return err
	}
	c.digests, c.same = make(map[string]digest), make(map[string]bool)
	for _, t := range c.tables {
		if err := c.copyTable(ctx, t); err != nil {
			return err
		}
	}
	c.say(Finishing, "")
	secretCheck, err := c.opts.Secret.Check()
	if err == nil {
		err = c.target.finish(ctx, secretCheck)
	}
	if err != nil {
		return fmt.Errorf("finish %s: %w", c.to, err)
	}
	verify := func(ctx context.Context) error { return c.verify(ctx, c.target.staged()) }
	return both(ctx, verify, func(ctx context.Context) error {
		err := c.compare(ctx)
		if err == nil {
			c.say(VerifyingTarget, "")
		}
		return err
	})
}

// count finds out how much there is to copy.
func (c *copying) count(ctx context.Context) error {
	c.say(Counting, "")
	for _, t := range c.tables {
		n, err := countRows(ctx, c.source.tx, t.name)
		if err != nil {
			return err
		}
		c.total += n
	}
	c.report.Tables, c.report.Rows = len(c.tables), c.total
	return nil
}

// copyTable copies what the target does not have of a table. What it has must be
// how the source begins; otherwise the source has changed since, and the table is
// copied anew.
func (c *copying) copyTable(ctx context.Context, t table) error {
	last, err := lastKey(ctx, c.target.querier(), t)
	if err != nil {
		return err
	}
	var have digest
	if last != nil {
		// What the source has up to the last row that has arrived.
		have, err = c.hash.digestOf(ctx, c.source.tx, t, span{upTo: last}, func() {})
		if err != nil {
			return err
		}
		there, err := c.hash.digestOf(ctx, c.target.querier(), t, span{}, func() {})
		if err != nil {
			return err
		}
		// Rows were changed or deleted since the earlier attempt.
		if have != there {
			if err := c.target.clear(ctx, t); err != nil {
				return fmt.Errorf("empty %s: %w", t.name, err)
			}
			have, last = digest{}, nil
		}
	}
	// Its first row comes with the migrations, not from an earlier copy.
	if t.name != seeded {
		c.report.Resumed += have.rows
	}
	c.done += have.rows
	sent, err := c.send(ctx, t, last)
	// Without a new row, the digests above have compared all of the table already.
	c.same[t.name] = sent.rows == 0
	have.join(sent)
	c.digests[t.name] = have
	return err
}

// send copies the rows of a table after a key. One goroutine reads while another writes.
func (c *copying) send(ctx context.Context, t table, after []any) (sent digest, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	// One chunk waits while another is written and a third is read: about 24 MiB at most.
	// Only the writing goroutine changes c.done until it has ended.
	chunks, written := make(chan chunk, 1), make(chan error, 1)
	go func() {
		var err error
		// After an error it goes on receiving, so that the reader is never left waiting.
		for p := range chunks {
			if err == nil {
				if err = c.target.load(ctx, t, p.rows); err != nil {
					cancel(err) // the reader need not go on
				}
				c.done += int64(len(p.rows))
				c.say(Copying, t.name)
			}
		}
		written <- err
	}()
	var p chunk
	flush := func() error {
		if len(p.rows) == 0 {
			return nil
		}
		select {
		case chunks <- p:
			p = chunk{}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err = eachRow(ctx, c.source.tx, t, span{after: after}, func(row []any) error {
		sent.add(c.hash.of(row))
		p.rows, p.bytes = append(p.rows, row), p.bytes+size(row)
		if len(p.rows) == chunkRows || p.bytes > chunkBytes {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	close(chunks)
	if writeErr := <-written; writeErr != nil {
		err = writeErr // the reader's is a consequence
	}
	cancel(nil)
	if err != nil {
		return sent, fmt.Errorf("copy %s: %w", t.name, err)
	}
	return sent, nil
}

// compare reads back what was copied.
func (c *copying) compare(ctx context.Context) error {
	c.done = 0
	for _, t := range c.tables {
		want := c.digests[t.name]
		if !c.same[t.name] || want.rows == 0 {
			seen := func() {
				// Saying it for each row would take longer than reading the row.
				if c.done++; c.done%chunkRows == 0 {
					c.say(Comparing, t.name)
				}
			}
			got, err := c.hash.digestOf(ctx, c.target.querier(), t, span{}, seen)
			if err != nil {
				return err
			}
			if got != want {
				return fmt.Errorf("%w: %s has %d rows, and %d were sent", ErrNotTheSame, t.name, got.rows, want.rows)
			}
			continue
		}
		c.done += want.rows
	}
	return nil
}

// say reports progress, if somebody listens.
func (c *copying) say(phase Phase, table string) {
	if c.opts.Progress != nil {
		c.opts.Progress(Progress{Phase: phase, Table: table, Done: c.done, Of: c.total})
	}
}

// checkSecret opens the source's newest API key, and compares the secret with
// what the nodes on PostgreSQL know of it.
func (c *copying) checkSecret(ctx context.Context) error {
	if c.from.config != nil {
		var known []byte
		check, err := c.opts.Secret.Check()
		if err != nil {
			return err
		}
		err = c.source.tx.QueryRowContext(ctx, `SELECT secret_check FROM ledger_version`).Scan(&known)
		if err != nil {
			return fmt.Errorf("read what is known of the secret: %w", err)
		}
		// A ledger that no node has served yet knows no secret.
		if known != nil && !bytes.Equal(known, check) {
			return ErrSecret
		}
	}
	// The newest one: older keys may have been sealed before a secret was replaced.
	rows, err := c.source.tx.QueryContext(ctx, `SELECT uuid, sealed FROM api_keys ORDER BY id DESC LIMIT 1`)
	if err != nil {
		return fmt.Errorf("read the API keys: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		var sealed []byte
		if err := rows.Scan(&id, &sealed); err != nil {
			return fmt.Errorf("read the API keys: %w", err)
		}
		if _, err := c.opts.Secret.Open(sealed, id.String()); errors.Is(err, auth.ErrCannotOpen) {
			return ErrSecret
		} else if err != nil {
			return err
		}
	}
	return rows.Err()
}

// alreadyThere reports whether the target holds the source's data. It returns
// ErrHoldsOther when it holds other.
func (c *copying) alreadyThere(ctx context.Context) (is bool, err error) {
	if exists, err := c.to.exists(ctx); err != nil || !exists {
		return false, err
	}
	there, err := c.to.snapshot(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, there.Close()) }()
	empty, err := there.isEmpty(ctx)
	if err != nil || empty {
		return false, err
	}
	// It holds rows. They may be those of an earlier copy that has succeeded, so all is
	// compared.
	tables, err := tablesOf(c.source.tables, there.tables)
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		a, err := c.hash.digestOf(ctx, c.source.tx, t, span{}, func() {})
		if err != nil {
			return false, err
		}
		b, err := c.hash.digestOf(ctx, there.tx, t, span{}, func() {})
		if err != nil {
			return false, err
		}
		if a != b {
			return false, fmt.Errorf("%w: its %s are others", ErrHoldsOther, t.name)
		}
		c.report.Tables, c.report.Rows = c.report.Tables+1, c.report.Rows+a.rows
	}
	return true, nil
}

// openTarget opens the target of either engine.
func openTarget(ctx context.Context, to place) (target, error) {
	if to.config != nil {
		return openPostgresTarget(ctx, to)
	}
	return openSQLiteTarget(ctx, to)
}
