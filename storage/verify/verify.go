// Package verify proves the counters of a database from its ledger: it recomputes every counter and
// rollup, compares them, and can set right what differs.
//
// It repeats in SQL what package storage computes in Go, and shares no code with it on purpose: a
// mistake in one of them shows as a difference.
//
//   - verify.go: a verification of a file or a PostgreSQL database, and its report
//   - ledger.go: the counters, each with the query that recomputes it
//   - compare.go: comparing them table by table, and repairing
//   - invariants.go, reviews.go, payloads.go and outbox.go: conditions between rows that no
//     counter expresses
package verify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"

	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/sqlite"
)

const (
	// listed is how many differences a report names; it counts all of them.
	listed = 1000
	// runsPerChunk is how many runs are looked at between two pauses, unless they have more steps
	// than stepsPerChunk.
	runsPerChunk  = 2000
	stepsPerChunk = "100000"
)

// Difference is where a figure is not what the ledger proves, or where rows
// contradict each other.
type Difference struct {
	Check    string `json:"check"`
	Row      string `json:"row"`
	Stored   string `json:"stored"`
	ShouldBe string `json:"should_be"`
	Repaired bool   `json:"repaired"`
}

// Report is what a verification has found.
type Report struct {
	Runs        int64         // that were looked at, with all their steps
	Checks      int           // that were made
	Found       int64         // differences
	Repaired    int64         // of those found
	Differences []Difference  // the first thousand
	Took        time.Duration // by the machine's clock
}

// Clean reports whether nothing is wrong, or nothing is any more.
func (r Report) Clean() bool { return r.Found == r.Repaired }

// Corrupt reports whether the file itself is broken: nothing in it was compared.
func (r Report) Corrupt() bool {
	return slices.ContainsFunc(r.Differences, func(d Difference) bool { return d.Check == dbfile.Integrity })
}

// Options say how to verify. The zero value looks, at full speed.
type Options struct {
	Migrations fs.FS
	Repair     bool // set figures right that the ledger proves
	Gentle     bool // rest after each piece for as long as it took, for the sake of decisions
}

// File compares the counters of a file with its ledger (ledger.go), and rows
// with each other (invariants.go), after SQLite's own checks. It looks at one
// snapshot, over a connection of its own, so that it may run beside a server
// under load.
//
// With Repair, and when there is something to repair, it looks once more while
// it holds the write lock, and sets right all it finds in that one transaction.
func File(ctx context.Context, path string, opts Options) (report Report, err error) {
	defer func() { err = dbfile.OrNoSpace(err, path) }()
	if _, err := os.Stat(path); err != nil {
		return Report{}, fmt.Errorf("read the database: %w", err)
	}
	if damage, err := checkFile(ctx, path); err != nil || damage.Found > 0 {
		return damage, err
	}
	status, err := dbfile.SchemaStatus(ctx, path, opts.Migrations)
	if err := errors.Join(err, status.Err()); err != nil {
		return Report{}, err
	}
	report, err = transaction(ctx, path, "BEGIN", "ROLLBACK", opts)
	if err != nil || !opts.Repair || report.Found == 0 {
		return report, err
	}
	return transaction(ctx, path, "BEGIN IMMEDIATE", "COMMIT", opts)
}

// Postgres is File for a database in PostgreSQL, which checks its own pages.
func Postgres(ctx context.Context, db *sql.DB, opts Options) (report Report, err error) {
	report, err = inPostgres(ctx, db, false, opts)
	if err != nil || !opts.Repair || report.Found == 0 {
		return report, err
	}
	return inPostgres(ctx, db, true, opts)
}

// inPostgres looks at one snapshot. A repair keeps all writers away, which read
// ledger_version first, and tells them by its next version that rows have changed.
func inPostgres(ctx context.Context, db *sql.DB, repair bool, opts Options) (report Report, err error) {
	started := time.Now()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return report, fmt.Errorf("begin to verify: %w", err)
	}
	v := verification{ctx: ctx, conn: tx, engine: PostgreSQL, report: &report, chunk: runsPerChunk, repair: repair, gentle: opts.Gentle}
	// To compile a query takes longer than any of them runs. SET takes no snapshot, as LOCK does not.
	err = v.exec([]string{`SET LOCAL jit = off`, `SET LOCAL work_mem = '32MB'`})
	if err == nil && repair { // so the one to come has all that was committed
		err = v.exec([]string{`LOCK TABLE ledger_version IN ACCESS EXCLUSIVE MODE`, `UPDATE ledger_version SET version = version + 1`})
	}
	if err == nil {
		err = v.run()
	}
	if err != nil || !repair {
		err = errors.Join(ctx.Err(), err, tx.Rollback())
	} else {
		err = tx.Commit()
	}
	report.Took = time.Since(started)
	return report, err
}

// checkFile makes SQLite's own checks.
func checkFile(ctx context.Context, path string) (report Report, err error) {
	faults, made, err := dbfile.CheckFile(ctx, path)
	report.Checks = made
	for _, f := range faults {
		report.add(Difference{Check: f.Check, Row: f.Row, Stored: f.Stored, ShouldBe: f.ShouldBe})
	}
	return report, err
}

// transaction runs a verification in one transaction, so that rows and counters are read as of one
// moment. With repairs it also keeps writers away.
func transaction(ctx context.Context, path, begin, end string, opts Options) (report Report, err error) {
	started := time.Now()
	conn, err := openAlone(ctx, path)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	always := context.WithoutCancel(ctx) // that it ends is true, or it has not ended
	if _, err := conn.ExecContext(always, begin); err != nil {
		return report, dbfile.Classify(fmt.Errorf("begin to verify: %w", err))
	}
	v := verification{ctx: ctx, conn: conn, report: &report, chunk: runsPerChunk, repair: begin == "BEGIN IMMEDIATE", gentle: opts.Gentle}
	if err := v.run(); err != nil {
		_, endErr := conn.ExecContext(always, "ROLLBACK")
		return report, dbfile.Classify(errors.Join(ctx.Err(), err, endErr))
	}
	if _, err := conn.ExecContext(always, end); err != nil {
		return report, dbfile.Classify(fmt.Errorf("end to verify: %w", err))
	}
	report.Took = time.Since(started)
	return report, nil
}

// Compare makes all checks but SQLite's own inside a transaction that the
// caller has begun, looking at so many runs at a time. It repairs nothing.
func Compare(ctx context.Context, conn Querier, engine Engine, runs int) (report Report, err error) {
	v := verification{ctx: ctx, conn: conn, engine: engine, report: &report, chunk: runs}
	err = v.run()
	return report, err
}

// Checks names the checks that Compare makes, some of them several times.
func Checks() (names []string) {
	for _, b := range counterTables() {
		names = append(names, b.name())
	}
	for _, i := range invariants() {
		names = append(names, i.name)
	}
	return names
}

// alone is a connection and the pool that holds nothing else.
type alone struct {
	*sql.Conn
	db *sql.DB
}

// openAlone opens a connection that shares nothing with a Store. It may make
// temporary tables, which go to disk when they are large.
func openAlone(ctx context.Context, path string) (alone, error) {
	const cacheKiB = "-16384"
	db, err := sqlite.OpenDB(path, append(sqlite.Pragmas(false), sqlite.Pragma{"temp_store", "1"}, sqlite.Pragma{"cache_size", cacheKiB})...)
	if err != nil {
		return alone{}, fmt.Errorf("open the database to verify it: %w", err)
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return alone{}, dbfile.Classify(errors.Join(fmt.Errorf("open the database to verify it: %w", err), db.Close()))
	}
	return alone{conn, db}, nil
}

// Close closes both.
func (a alone) Close() error { return errors.Join(a.Conn.Close(), a.db.Close()) }

// verification is one verification, inside its transaction.
type verification struct {
	ctx    context.Context
	conn   Querier
	engine Engine
	report *Report
	chunk  int // runs
	repair bool
	gentle bool
}

// Querier is a connection or a transaction.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// run makes every check. Books come before invariants, so that these judge what a
// repair has left.
func (v *verification) run() error {
	create, fill := v.engine.ledgerByDay()
	for _, b := range counterTables() {
		create = append(create, b.createDiffTable())
	}
	if err := v.exec(create); err != nil {
		return err
	}
	if err := v.checkListing(); err != nil {
		return fmt.Errorf("verify run_segments: %w", err)
	}
	err := v.eachChunk(chunkOfRuns, v.chunk, func(low, high int64) error {
		if err := v.exec([]string{v.engine.emptySteps()}); err != nil {
			return err
		}
		return errors.Join(v.exec(fill, low, high), v.check(true, low, high))
	})
	if err != nil {
		return err
	}
	if err := v.check(false); err != nil {
		return err
	}
	v.report.Checks = 1 + len(counterTables()) + len(invariants()) + dbfile.FileChecks()
	return v.conn.QueryRowContext(v.ctx, `SELECT coalesce(sum(allowed + blocked), 0) FROM ledger_starts WHERE day < `+localDays).Scan(&v.report.Runs)
}

// chunkOfRuns selects the last run of a chunk: the one after $2 others above $1, or before that the
// one with which there are many steps.
const chunkOfRuns = `SELECT id FROM (SELECT id, row_number() OVER w AS n, sum(step_count) OVER w AS steps
		FROM (SELECT id, step_count FROM runs WHERE id > $1 ORDER BY id LIMIT CAST($2 AS BIGINT) + 1) r WINDOW w AS (ORDER BY id)) x
	WHERE n > $2 OR steps >= ` + stepsPerChunk + ` ORDER BY id LIMIT 1`

// exec runs statements one after another.
func (v *verification) exec(statements []string, args ...any) error {
	for _, statement := range statements {
		if _, err := v.conn.ExecContext(v.ctx, statement, args...); err != nil {
			return fmt.Errorf("%s: %w", sqlite.FirstWords(statement), err)
		}
	}
	return nil
}

// eachChunk calls do for one chunk of numbers after another, low < n <= high,
// and pauses after each. next selects of the numbers above $1 the one after $2
// others. The first chunk has no beginning and the last no end, so that rows
// of runs that do not exist belong to a chunk too.
func (v *verification) eachChunk(next string, size int, do func(low, high int64) error) error {
	for low := int64(math.MinInt64); low < math.MaxInt64; {
		started, high := time.Now(), int64(math.MaxInt64)
		err := v.conn.QueryRowContext(v.ctx, next, low, size-1).Scan(&high)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err := do(low, high); err != nil {
			return err
		}
		low = high
		if err := v.pause(time.Since(started)); err != nil {
			return err
		}
	}
	return nil
}

// check asks those counters and invariants that work on chunks, or the others.
func (v *verification) check(chunked bool, chunk ...any) error {
	for _, b := range counterTables() {
		if b.chunked != chunked {
			continue
		}
		if err := v.checkCounters(b, chunk); err != nil {
			return fmt.Errorf("verify %s: %w", b.name(), err)
		}
	}
	for _, r := range invariants() {
		if r.chunked != chunked {
			continue
		}
		if err := v.checkInvariant(r, chunk); err != nil {
			return fmt.Errorf("verify %s: %w", r.name, err)
		}
	}
	return nil
}

// checkInvariant lists what a invariant's query selects.
func (v *verification) checkInvariant(r invariant, args []any) error {
	return eachRow(v.ctx, v.conn, r.query, args, func(columns []string, values []any) {
		v.report.add(Difference{
			Check: r.name, ShouldBe: r.holds,
			Row:    describe(columns[:r.key], values[:r.key]),
			Stored: describe(columns[r.key:], values[r.key:]),
		})
	})
}

// pause lets decisions have the machine for as long as they had to share it.
func (v *verification) pause(took time.Duration) error {
	if !v.gentle {
		return nil
	}
	return dbfile.Sleep(v.ctx, took)
}

// add counts a difference, and keeps the first ones for people.
func (r *Report) add(d Difference) {
	r.Found++
	if d.Repaired {
		r.Repaired++
	}
	if len(r.Differences) < listed {
		r.Differences = append(r.Differences, d)
	}
}
