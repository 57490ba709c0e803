// Package postgres knows PostgreSQL, and of what is kept in it only versions and the number of a
// batch: the connections of a writer and of readers, statements that are sent together, and errors
// by their code.
//
//   - config.go: URLs, and whether a server can be used
//   - conn.go: the writer's connection, which pipelines statements
//   - rows.go: statements of one text that are sent as one, of many rows
//   - together.go: queries of several functions that are sent together
//   - writer.go: batches, with the versions of workspaces and the outcome of a lost COMMIT
//   - pool.go: connections for reading
//   - row.go: scanning rows from the binary format
//   - bulk.go: COPY
//   - migrate.go: migrations, one node at a time
//   - duty.go: holding an advisory lock while a function runs
//   - alive_unix.go: whether the server has hung up
//   - errors.go: what an error code means
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Row is a row that can be read.
type Row = interface{ Scan(dest ...any) error }

// DefaultTimeout is how long a statement may take, or the network to carry it,
// before its connection is given up.
const DefaultTimeout = 30 * time.Second

// Conn is a connection that sends what nobody waits for together with the next
// statement whose result somebody needs: a batch of a writer costs two round
// trips, however many rows it writes.
//
// It is used by one goroutine at a time.
type Conn struct {
	config Config
	pg     *pgx.Conn
	// Statements for whose results nobody waits.
	queue   []queued
	texts   map[string]*text
	units   []unit  // what is being sent; used again, as key is
	key     []byte  // of a row
	running bool    // a query, whose callback may not run another
	session Session // as Check has found it
	trips   atomic.Int64
	lost    atomic.Int64 // connections

	// A savepoint is sent only once a statement of the job is. Until then
	// rolling back to it means to forget what was queued since.
	savepoint sentState
	mark      int   // length of the queue at the savepoint
	aborted   error // what ended the transaction ahead of the savepoint, such as a lock that came too late
}

// sentState tells whether the server knows of the savepoint. A job that fails before it has sent
// anything then needs no round trip to be undone.
type sentState uint8

const (
	// noSavepoint: outside of a job.
	noSavepoint sentState = iota
	// savepointDue: to be sent before the job's first statement.
	savepointDue
	// savepointSent: the server has it.
	savepointSent
)

// queued is a statement that waits to be sent.
type queued struct {
	query string
	args  []any
	must  bool            // it must change a row
	each  func(Row) error // reads what it returns; nil for nothing

	failed func(error) error // says what its error means; nil for nothing else
}

// ErrNothingChanged says of a statement that had to change a row that it has not.
var ErrNothingChanged = errors.New("it has changed no row")

// Connect opens a connection that writes, or one that only reads.
func Connect(ctx context.Context, config Config) (*Conn, error) {
	c := &Conn{config: config}
	return c, c.open(ctx)
}

// open connects and prepares nothing: statements are prepared when they are first used.
func (c *Conn) open(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, c.config.timeout)
	defer cancel()
	pg, err := pgx.ConnectConfig(within, c.config.pgx)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", c.orNoAnswer(ctx, within, err))
	}
	c.pg, c.texts = pg, make(map[string]*text)
	c.reset()
	return nil
}

// reset forgets what belonged to an earlier transaction.
func (c *Conn) reset() {
	c.queue, c.savepoint, c.running, c.aborted = c.queue[:0], noSavepoint, false, nil
}

// Alive reports whether the connection is still there, as far as this end knows.
func (c *Conn) Alive() bool {
	return !c.Broken() && !hungUp(c.pg.PgConn().Conn())
}

// Reopen replaces the connection, which ends any transaction that is open.
func (c *Conn) Reopen(ctx context.Context) error {
	c.lost.Add(1)
	err := c.Close()
	if openErr := c.open(ctx); openErr != nil {
		return errors.Join(err, openErr)
	}
	return nil
}

// Session is one connection as the server knows it, which uses the number of a
// process again.
type Session struct {
	pid   int64
	start string
}

// Session is that of the connection which Check has looked at last.
func (c *Conn) Session() Session { return c.session }

// End ends another session of the same user and waits for its end, after which
// nothing is done any more that is still on its way to it.
func (c *Conn) End(ctx context.Context, other Session) error {
	return c.Query(ctx, `WITH other AS MATERIALIZED
			(SELECT pid FROM pg_stat_activity WHERE pid = $1 AND backend_start::text = $2)
		SELECT pg_terminate_backend(pid, 5000) FROM other`, []any{other.pid, other.start}, func(row Row) error {
		var ended bool
		err := row.Scan(&ended)
		if err == nil && !ended {
			err = errors.New("PostgreSQL does not end a session whose connection is lost")
		}
		return err
	})
}

// Close closes the connection, without a word: what it has begun the server undoes.
func (c *Conn) Close() error {
	if c.pg == nil {
		return nil
	}
	_ = c.pg.PgConn().Conn().Close() // it may be closed already
	c.pg = nil
	c.reset()
	return nil
}

// Exec runs a statement, after those that are queued, and returns how many rows
// it changed.
func (c *Conn) Exec(ctx context.Context, query string, args []any) (changed int64, err error) {
	err = c.send(ctx, query, args, func(b pgx.BatchResults) error {
		tag, err := b.Exec()
		changed = tag.RowsAffected()
		return err
	})
	return changed, err
}

// Query calls each for every row of a query, after the statements that are queued.
func (c *Conn) Query(ctx context.Context, query string, args []any, each func(Row) error) error {
	return c.send(ctx, query, args, func(b pgx.BatchResults) error {
		c.running = true
		defer func() { c.running = false }()
		return readRows(b, each)
	})
}

// readRows calls each for every row that the next statement returns.
func readRows(b pgx.BatchResults, each func(Row) error) error {
	rows, err := b.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	row := row{fields: rows.FieldDescriptions()}
	for rows.Next() {
		row.values = rows.RawValues()
		if err := each(&row); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Queue has a statement sent before the next one that somebody waits for. With
// must, one that then changes no row is an error of that one.
func (c *Conn) Queue(query string, args []any, must bool) error {
	if err := checkTexts(args); err != nil {
		return err
	}
	kept := slices.Clone(args)
	for i, a := range kept {
		if b, ok := a.([]byte); ok {
			kept[i] = slices.Clone(b) // the caller's may change until it is sent
		}
	}
	c.queue = append(c.queue, queued{query: query, args: kept, must: must})
	return nil
}

// Savepoint sets apart what comes after it, until Release or RollbackTo.
func (c *Conn) Savepoint() { c.savepoint, c.mark, c.aborted = savepointDue, len(c.queue), nil }

// RollbackTo undoes what came after the savepoint.
func (c *Conn) RollbackTo(ctx context.Context) error {
	c.queue = c.queue[:c.mark]
	if c.Broken() {
		return errLost // and with it the transaction
	}
	if c.savepoint != savepointSent {
		return c.aborted // to go on would only tell that it is so, and not why
	}
	return c.Run(context.WithoutCancel(ctx), "ROLLBACK TO SAVEPOINT job")
}

// Release ends what Savepoint has set apart.
func (c *Conn) Release() {
	if c.savepoint == savepointSent {
		c.queue = append(c.queue, queued{query: "RELEASE SAVEPOINT job"})
	}
	c.savepoint = noSavepoint
}

// Run runs a statement that takes nothing and gives nothing. Alone it is not
// prepared: in a transaction that has failed nothing can be, not even ROLLBACK.
func (c *Conn) Run(ctx context.Context, query string) error {
	if len(c.queue) > 0 || c.savepoint == savepointDue || c.Broken() {
		_, err := c.Exec(ctx, query, nil)
		return err
	}
	within, cancel := context.WithTimeout(ctx, c.config.timeout)
	defer cancel()
	c.trips.Add(1)
	if _, err := c.pg.PgConn().Exec(within, query).ReadAll(); err != nil {
		return fmt.Errorf("%s: %w", FirstWords(query), c.orNoAnswer(ctx, within, err))
	}
	return nil
}

// orNoAnswer says of an error that it comes from the timeout of a statement, where
// it does, and not from the caller's context.
func (c *Conn) orNoAnswer(ctx, within context.Context, err error) error {
	if err == nil || ctx.Err() != nil || !errors.Is(within.Err(), context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w within %v: %v", ErrNoAnswer, c.config.timeout, err) //nolint:errorlint // no deadline of the caller's
}

// Forget drops what is queued and the savepoint, at the end of a transaction.
func (c *Conn) Forget() { c.reset() }

// savepoint is one name for all jobs: there is never more than one at a time.
const savepoint = "SAVEPOINT job"

// placeSavepoint puts the savepoint before the first statement of the job. A
// statement that is prepared for the first time is so before anything else is
// run, and if that fails, so must be what would undo it: then the savepoint goes
// ahead alone.
func (c *Conn) placeSavepoint(ctx context.Context, query string) error {
	prepared := c.prepared(query)
	for _, q := range c.queue[c.mark:] {
		prepared = prepared && c.prepared(q.query)
	}
	if prepared {
		c.queue = slices.Insert(c.queue, c.mark, queued{query: savepoint})
		return nil
	}
	ofJob := slices.Clone(c.queue[c.mark:])
	c.queue, c.savepoint = c.queue[:c.mark], noSavepoint
	if err := c.Run(context.WithoutCancel(ctx), savepoint); err != nil {
		return err
	}
	c.queue, c.mark, c.savepoint = ofJob, 0, savepointSent
	return nil
}

// send sends what is queued and one more statement, in one round trip.
func (c *Conn) send(ctx context.Context, query string, args []any, read func(pgx.BatchResults) error) (err error) {
	if c.running {
		return fmt.Errorf("%s: %w", FirstWords(query), ErrNested)
	}
	if err := checkTexts(args); err != nil {
		return err
	}
	if c.pg == nil || c.pg.IsClosed() {
		return fmt.Errorf("%s: %w", FirstWords(query), errLost)
	}
	// The savepoint goes out with the job's first statement, and a job that only reads the cache
	// never has one.
	if c.savepoint == savepointDue {
		if err := c.placeSavepoint(ctx, query); err != nil {
			return err
		}
	}
	within, cancel := context.WithTimeout(ctx, c.config.timeout)
	defer cancel()
	defer func() { err = c.orNoAnswer(ctx, within, err) }()
	var batch pgx.Batch
	// All queued statements travel with this one: one round trip for the whole job, however many
	// rows it changes.
	sent := c.joined(c.queue)
	for i := range sent {
		c.add(&batch, &sent[i])
	}
	c.add(&batch, &unit{queued: queued{query: query, args: args}})
	c.trips.Add(1)
	results := c.pg.SendBatch(within, &batch)
	defer func() { err = errors.Join(err, results.Close()) }()
	c.queue, c.mark = c.queue[:0], 0
	defer clear(sent)
	for i := range sent {
		if err := sent[i].finish(results); err != nil {
			err = fmt.Errorf("%s, which was queued: %w", FirstWords(sent[i].query), err)
			if c.savepoint != savepointSent {
				c.aborted = err
			}
			return err
		}
		if sent[i].query == savepoint {
			c.savepoint = savepointSent
		}
	}
	return read(results)
}

// text is a query as PostgreSQL takes it.
type text struct {
	sql      string
	params   []int    // for each of PostgreSQL's parameters, the argument; nil when they are the same
	rows     *rowText // if it writes one row
	asks     *rowText // if it is asked for several rows of parameters
	prepared bool
}

// textOf returns what is known of a text.
func (c *Conn) textOf(query string, args int) *text {
	t := c.texts[query]
	if t == nil {
		t = renumbered(query, args)
		t.rows = rowsOf(query)
		c.texts[query] = t
	}
	return t
}

// prepared reports whether the server knows a text.
func (c *Conn) prepared(query string) bool { t := c.texts[query]; return t != nil && t.prepared }

// add adds a statement to a batch.
func (c *Conn) add(batch *pgx.Batch, u *unit) {
	if len(u.rows) > 1 {
		batch.Queue(u.text.many(), u.text.columns(u.rows)...)
		return
	}
	t := c.textOf(u.query, len(u.args))
	t.prepared = true
	if t.params == nil {
		batch.Queue(t.sql, u.args...)
		return
	}
	used := make([]any, len(t.params))
	for i, arg := range t.params {
		used[i] = u.args[arg]
	}
	batch.Queue(t.sql, used...)
}

// renumbered leaves out arguments that a query does not name, as SQLite does: of
// those PostgreSQL could not tell the type. No query of ours has a $ in a text.
func renumbered(query string, args int) *text {
	t := &text{sql: query}
	numbers := make(map[int]int)
	sql := parameters.ReplaceAllStringFunc(query, func(p string) string {
		arg, _ := strconv.Atoi(p[1:])
		if numbers[arg] == 0 && arg <= args {
			t.params = append(t.params, arg-1)
			numbers[arg] = len(t.params)
		}
		return "$" + strconv.Itoa(numbers[arg])
	})
	if len(t.params) == args {
		t.params = nil // each is named, under its own number
		return t
	}
	t.sql = sql
	if t.params == nil {
		t.params = []int{}
	}
	return t
}

// parameters finds the placeholders of a query.
var parameters = regexp.MustCompile(`\$([0-9]+)`)

// RoundTrips counts how often the connection has waited for the server, but to
// prepare a text that is new to it.
func (c *Conn) RoundTrips() int64 { return c.trips.Load() }

// Reopened counts how often the connection was given up and opened again, or tried to be.
func (c *Conn) Reopened() int64 { return c.lost.Load() }

// Pending is how many statements wait to be sent.
func (c *Conn) Pending() int { return len(c.queue) }

// checkTexts refuses what PostgreSQL cannot keep, before it can spoil a transaction.
func checkTexts(args []any) error {
	for _, a := range args {
		text := ""
		switch v := a.(type) {
		case string:
			text = v
		case *string:
			if v != nil {
				text = *v
			}
		case sql.NullString:
			text = v.String
		}
		if strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text) {
			return ErrBadText
		}
	}
	return nil
}

// ErrBadText says that a text has a NUL character, or is no UTF-8.
var ErrBadText = errors.New("PostgreSQL keeps no text with a NUL character, or that is not UTF-8")

// FirstWords names a query in an error, without its values (there are none in
// the text) and without its length.
func FirstWords(query string) string {
	words := strings.Fields(query)
	return strings.Join(words[:min(4, len(words))], " ")
}

// Broken reports whether the connection is gone, so that nobody knows what
// became of the last statement.
func (c *Conn) Broken() bool { return c.pg == nil || c.pg.IsClosed() }

// pgError is what the server says when a statement fails; nil for any other error.
func pgError(err error) *pgconn.PgError {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e
	}
	return nil
}
