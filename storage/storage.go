// Package storage is the ledger: it keeps everything in one SQLite file or one PostgreSQL database,
// and is the only package that speaks SQL. Read connections serve pages and look-ups. Every write
// goes through one writer, which also makes decisions, inside the transaction that records them.
//
// Exported methods of Store own a transaction. Unexported functions take a Tx, which carries the
// time, and never begin or end one. A query has the workspace in its WHERE, also where an id alone
// would find the row.
//
// The transaction, from the outside in:
//
//   - storage.go: opening, readiness, closing
//   - engine_sqlite.go: the interface to a database, and SQLite behind it
//   - engine_postgres.go: PostgreSQL behind it
//   - writer.go: the queue, the batch, the savepoint of each job, and Tx
//   - cache.go: the rows that the writer keeps, and when they stop being valid
//   - cached.go: the kinds of those rows, and how each is loaded and saved
//   - changes.go: what is published after a commit
//
// Decisions and what they count:
//
//   - decide.go: loading a guard.State, recording a denial, idempotency keys, counters of limits,
//     conditions that are evaluated outside the writer
//   - runs.go: starting and ending a run, heartbeats
//   - steps.go: creating a step, and reading steps
//   - policies.go: storing policies, and compiling them once for each version
//   - policy_calls.go: asking the policies about a start or a step
//   - reviews.go: steps that wait for a person
//   - grants.go: approvals that last, and lists of reviews
//   - booking.go: a report of what a step used, and the limits that count it
//   - payloads.go: what steps carry along, in blocks
//   - kinds.go: the enumerations that are stored, and kinds of tokens
//   - prices.go: which price a step gets
//   - postings.go: the counters that a report moves
//   - burn.go: spend by minutes and hours
//   - reprice.go: pricing the past anew
//
// Who and what is guarded:
//
//   - accounts.go: accounts, and signing in
//   - workspaces.go: settings of a workspace, and its calendar
//   - keys.go: API keys: finding them
//   - credentials.go: making and ending keys and sessions, and when each was last used
//   - users.go: the users that agents run for, blocks among them
//   - subscriptions.go: what Stripe has sold
//   - audit.go: who changed what
//
// Pages and messages:
//
//   - run_lists.go, run_search.go and run_index.go: runs by filter, by words, and the terms that
//     make words quick to find
//   - timeline.go: a long run in outline
//   - usage.go: usage by days, models, users, keys and tags
//   - replay.go: the past again, for backtests
//   - alerts.go, outbox.go and endpoints.go: what to notify of, the queue, and where to
//
// Housekeeping:
//
//   - upkeep.go: retention, idle runs, expired keys
//   - erasures.go: erasing a user, and giving space back
//   - values.go: days, ids, cursors, NULL, histograms and the errors that callers match
package storage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/payload"
	"github.com/pikarc/server/storage/postgres"
	"github.com/pikarc/server/storage/sqlite"
	"github.com/pikarc/server/storage/verify"
)

// SQLiteVersion is that of the library inside.
const SQLiteVersion = sqlite.Version

// DefaultAnswerTimeout is how long PostgreSQL may take for a statement.
const DefaultAnswerTimeout = postgres.DefaultTimeout

// Options of a store. The zero value of each field but Migrations has a sensible meaning.
type Options struct {
	Migrations fs.FS             // the engine's goose migrations; they say which schema is current
	Secret     auth.Secret       // seals API keys
	Now        func() time.Time  // when nil, time.Now for a file, and the server's time for PostgreSQL
	QueueSize  int               // writes that may wait; 4096 when 0
	CacheSize  int               // rows of each kind; DefaultCacheSize when 0, at least MinCacheSize
	Catalogue  *prices.Catalogue // of published prices, for workspaces that use it; nil for none
	// OpenStepTimeout is how long a run with an open step may make no call; DefaultOpenStepTimeout
	// when 0.
	OpenStepTimeout time.Duration
	// AnswerTimeout is how long PostgreSQL may take for a statement; DefaultAnswerTimeout when 0.
	AnswerTimeout time.Duration

	machine func() time.Time // this machine's clock, of which PostgreSQL's is so far ahead; time.Now when nil
}

// Store is an open database. Its methods may be called from any goroutine.
type Store struct {
	// What the ledger stands on: SQLite or PostgreSQL.
	engine  engine
	secret  auth.Secret
	now     func() time.Time
	version int64 // of the schema that this binary knows

	openStepTimeout time.Duration

	cachedKeys *lru.Cache[string, Credential] // of API keys, by prefix
	// When credentials were last used, gathered and written once a minute.
	keyUse     lastUses[KeyID]
	sessionUse lastUses[auth.SessionID]

	payloads       *payload.Codec
	policySets     *policySets
	reviewsDecided broadcast

	cache      *cache         // of the writer
	scopes     []WorkspaceKey // of the batch that is being written
	changed    []WorkspaceKey // those in which it has written what may be in a cache
	writerLock chan struct{}  // full while somebody writes, who alone may use the writer's fields
	// inFlight counts writes that have begun and not ended, by which a lone one is recognized.
	inFlight atomic.Int64
	queue    chan *job
	putBack  *job          // taken from the queue, for the next batch
	wake     chan struct{} // full while a job is queued that the writer has not seen
	closing  sync.RWMutex  // held for reading while a job is queued
	// Guarded by closing: no job is queued once it is set.
	closed  bool
	drained chan struct{}

	erases chan struct{} // full while somebody erases users

	indexed  indexedSegment // by IndexRuns, of which one runs at a time
	swept    time.Time      // when it last looked for what other nodes have committed late
	searched int64          // maxSearched, but in tests

	watcher      atomic.Pointer[func([]Change)] // nil while nobody watches
	publisher    publisher                      // the writer's
	lastReported atomic.Int64                   // cache.externalCommits when ChangedElsewhere was last called
	elsewhere    elsewhere
	opened       time.Time
	changedAfter atomic.Int64 // how long after opened the latest change was committed, in nanoseconds
	noticed      int64        // the writer's: cache.externalCommits at that time
	stats        *stats
	outbox       chan struct{} // full after a commit that has written to the outbox

	probe   probe
	corrupt atomic.Bool // a decision could not read what it asks
	full    atomic.Bool // a write has found the disk full, and no check since that it no longer is
}

// Open opens a database whose schema is current: a file, or the URL of one in
// PostgreSQL. It returns ErrSchemaOld or
// ErrSchemaNewer when it is not, and fails if a pragma did not take.
func Open(ctx context.Context, database string, opts Options) (*Store, error) {
	if opts.QueueSize == 0 {
		opts.QueueSize = 4096
	}
	if opts.CacheSize == 0 {
		opts.CacheSize = DefaultCacheSize
	}
	if opts.machine == nil {
		opts.machine = time.Now
	}
	if opts.OpenStepTimeout == 0 {
		opts.OpenStepTimeout = DefaultOpenStepTimeout
	}
	opts.CacheSize = max(opts.CacheSize, MinCacheSize)
	s := &Store{
		secret: opts.Secret, now: opts.Now, openStepTimeout: opts.OpenStepTimeout, stats: newStats(),
		writerLock: make(chan struct{}, 1), queue: make(chan *job, opts.QueueSize), wake: make(chan struct{}, 1),
		drained: make(chan struct{}), erases: make(chan struct{}, 1),
		searched: maxSearched, policySets: newPolicySets(), elsewhere: newElsewhere(),
		outbox: make(chan struct{}, 1), cache: newCache(opts.CacheSize, opts.Catalogue),
	}
	s.cache.policySets = s.policySets
	var err error
	if s.cachedKeys, err = lru.New[string, Credential](opts.CacheSize); err != nil {
		return nil, fmt.Errorf("hold %d rows: %w", opts.CacheSize, err)
	}
	if s.payloads, err = payload.NewCodec(); err != nil {
		return nil, err
	}
	if err := s.openEngine(ctx, database, opts); err != nil {
		return nil, err
	}
	s.opened = s.now()
	go s.runWriter()
	return s, nil
}

// openEngine opens the database, by the engine that its name asks for.
func (s *Store) openEngine(ctx context.Context, database string, opts Options) (err error) {
	if !postgres.IsURL(database) {
		if s.now == nil {
			s.now = time.Now
		}
		s.engine, s.version, err = openSQLite(ctx, database, opts.Migrations)
		return err
	}
	config, err := postgres.ParseURL(database)
	if err != nil {
		return err
	}
	opts.AnswerTimeout = cmp.Or(opts.AnswerTimeout, DefaultAnswerTimeout)
	config = config.WithTimeout(opts.AnswerTimeout)
	e, version, err := openPostgres(ctx, config, opts)
	if err != nil {
		return fmt.Errorf("open %s: %w", config, err)
	}
	if s.now == nil {
		s.now = e.now
	}
	s.engine, s.version = e, version
	return nil
}

// OnDuty calls fn while this node is the one that does the upkeep, until ctx
// ends: for a file at once, and on PostgreSQL whenever no other node does. fn's
// context ends when another one may take over, and fn must return then. lost is
// told why.
func (s *Store) OnDuty(ctx context.Context, fn func(context.Context), lost func(error)) {
	s.engine.onDuty(ctx, fn, lost)
}

// Shared reports whether other nodes may use the database.
func (s *Store) Shared() bool { return s.engine.shared() }

// Time is that of the ledger. Nodes on one PostgreSQL share its clock.
func (s *Store) Time() time.Time { return s.now() }

// Close answers every write that is queued, refuses new ones, and closes the database.
func (s *Store) Close() error {
	s.closing.Lock()
	if s.closed {
		s.closing.Unlock()
		return nil
	}
	s.closed = true
	close(s.wake)
	s.closing.Unlock()
	<-s.drained
	return s.engine.close()
}

// read runs fn in a snapshot of the database.
func (s *Store) read(ctx context.Context, fn func(*Tx) error) error {
	return s.readFrom(ctx, forLists, fn)
}

// readFrom runs fn in a snapshot, once a connection of a pool is free.
func (s *Store) readFrom(ctx context.Context, pool readPool, fn func(*Tx) error) error {
	return s.engine.read(ctx, pool, func(c conn) error {
		return s.engine.classify(fn(&Tx{conn: c, ctx: ctx, now: s.now(), payloads: s.payloads, reader: true}))
	})
}

// Backup backs up the store's own database.
func (s *Store) Backup(ctx context.Context, file string) (bytes int64, err error) {
	return s.engine.backup(ctx, file)
}

// Verify proves the store's own database, gently and without repair: what the
// server does every night.
func (s *Store) Verify(ctx context.Context) (verify.Report, error) {
	return s.engine.verify(ctx)
}

// probeInterval bounds how often readiness checks may write.
const probeInterval = time.Second

// probeBytes is how much a readiness check writes: more pages than a run's start.
const probeBytes = 48 << 10

// CoreTables are the tables that every request reads. A server checks them
// before it starts on a file that is too large to be checked as a whole.
func CoreTables() []string { return []string{"accounts", "workspaces", "api_keys", "models"} }

// probe keeps the latest readiness check.
type probe struct {
	sync.Mutex
	at   time.Time
	err  error
	key  int64 // the latest API key that was looked at
	fill byte  // of what it writes: SQLite does not write what has not changed
}

// Ready proves that the schema is the one this binary knows, that the writer commits, and that the
// disk has room for what a run's start writes; it asks at most once a second, and repeats the
// answer in between. ErrSchemaOld, ErrSchemaNewer, ErrBusy or ErrUnavailable otherwise.
func (s *Store) Ready(ctx context.Context) error {
	s.probe.Lock()
	defer s.probe.Unlock()
	if time.Since(s.probe.at) < probeInterval {
		return s.probe.err
	}
	err := s.checkReady(ctx)
	if ctx.Err() == nil { // a caller that went away says nothing about the store
		s.probe.at, s.probe.err = time.Now(), err
	}
	return err
}

// checkReady asks what a decision would need: both pools can read, the schema is the right one, and
// the writer can commit. It writes for real, because a full or read-only disk shows only then.
func (s *Store) checkReady(ctx context.Context) error {
	if s.corrupt.Load() {
		return s.engine.classify(ErrCorrupt)
	}
	if err := s.readFrom(ctx, forLists, s.requireSchema); err != nil {
		return err
	}
	err := s.readFrom(ctx, forCredentials, func(tx *Tx) error { return errors.Join(s.requireSchema(tx), s.requireDecidable(tx)) })
	if err != nil {
		return s.markCorrupt(err)
	}
	full := s.full.Load()
	err = s.writeIn(ctx, noWorkspace, modeCached, func(tx *Tx) error {
		if full && s.engine.shared() {
			// PostgreSQL would write into what old probes have left in its file.
			if _, err := tx.exec(`TRUNCATE probes`); err != nil {
				return err
			}
		}
		s.probe.fill++
		room := bytes.Repeat([]byte{s.probe.fill}, probeBytes)
		_, err := tx.exec(`INSERT INTO probes (id, checked_at, room) VALUES (1, $1, $2)
			ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at, room = excluded.room`, tx.now.UnixMilli(), room)
		return err
	})
	if err == nil && full {
		s.full.Store(false)
	}
	return err
}

// markFull remembers that a write has found the disk full. Others may still have
// room in their pages, so only a readiness check finds that it no longer is.
func (s *Store) markFull(err error) error {
	if err != nil && errors.Is(err, ErrNoSpace) {
		s.full.Store(true)
	}
	return err
}

// markCorrupt remembers, until a restart, that rows that decisions need cannot
// be read. After a restart the server refuses the file and says what to do.
func (s *Store) markCorrupt(err error) error {
	if err != nil && errors.Is(err, ErrCorrupt) {
		s.corrupt.Store(true)
	}
	return err
}

// requireDecidable reads what the look-up of a key and a decision read, of a
// few workspaces at a time and of all of them in the end.
func (s *Store) requireDecidable(tx *Tx) error {
	const few = 16
	var keys []WorkspaceKey
	latest := s.probe.key
	s.probe.key = 0 // from the beginning, unless there are more
	err := tx.each(`SELECT k.id, k.workspace_id, a.uuid FROM api_keys k
		LEFT JOIN workspaces w ON w.id = k.workspace_id LEFT JOIN accounts a ON a.id = w.account_id
		WHERE k.id > $1 ORDER BY k.id LIMIT $2`, []any{latest, few}, func(row scanner) error {
		var ws WorkspaceKey
		var account uuid.UUID
		if err := row.Scan(&latest, &ws, &account); err != nil {
			return err
		}
		if account == uuid.Nil {
			return missingRow("an API key's workspace or account")
		}
		if keys = append(keys, ws); len(keys) == few {
			s.probe.key = latest
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, ws := range keys {
		if _, err := loadWorkspace(tx, ws); err != nil {
			return fmt.Errorf("read workspace %d: %w", ws, err)
		}
		if _, err := loadDay(tx, dayKey{ws, dayOf(tx.now)}); err != nil {
			return fmt.Errorf("read the day of workspace %d: %w", ws, err)
		}
	}
	return nil
}

// requireSchema fails if another process has migrated the database to a version that this binary
// does not know.
func (s *Store) requireSchema(tx *Tx) error {
	status := dbfile.Schema{Newest: s.version}
	err := tx.get(`SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`, nil, &status.Current)
	if err != nil {
		return err
	}
	err = status.Err()
	if errors.Is(err, ErrSchemaNewer) && s.engine.shared() {
		return s.requireOlderMayServe(tx)
	}
	return err
}

// requireOlderMayServe returns ErrSchemaNewer unless nodes of this version may
// serve on beside the newer one that has migrated the database.
func (s *Store) requireOlderMayServe(tx *Tx) error {
	var servesFrom int64
	err := tx.get(`SELECT serves_from FROM ledger_version`, nil, &servesFrom)
	if err == nil && servesFrom > s.version {
		err = ErrSchemaNewer
	}
	return err
}

// writeProbe is a small write that changes nothing that matters.
func writeProbe(tx *Tx) error {
	_, err := tx.exec(`INSERT INTO probes (id, checked_at) VALUES (1, $1)
		ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at`, tx.now.UnixMilli())
	return err
}

// Stats are the store's figures since it was opened, for metrics.
type Stats struct {
	Queued        int          // writes that wait now
	QueueSize     int          // how many may
	Refused       uint64       // writes that found the queue full
	FailedBatches uint64       // transactions that were lost as a whole
	Batches       Distribution // writes that shared a transaction
	Transactions  Distribution // nanoseconds from BEGIN to the end
	Locks         Distribution // nanoseconds from BEGIN until a transaction had its locks
	Commits       Distribution // nanoseconds of COMMIT alone: mostly the disk
	Outdated      uint64       // times that another process had written, so that cached rows are read again
	RoundTrips    uint64       // times that the writer has waited for PostgreSQL
	Reconnects    uint64       // times that it has connected again
	FileBytes     int64
	WALBytes      int64
	WALBlocked    time.Duration // for how long a reader has kept the WAL from being checkpointed
}

// stats holds the writer's own counters.
type stats struct {
	refused, failed, outdated             atomic.Uint64
	batches, transactions, locks, commits *histogram
}

// newStats returns the store's histograms. Durations are in nanoseconds; their buckets are close
// together around the usual commit of about a millisecond.
func newStats() *stats {
	const us, ms = int64(time.Microsecond), int64(time.Millisecond)
	durations := []int64{
		100 * us, 250 * us, 500 * us, 1 * ms, 2500 * us, 5 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 1000 * ms, 5000 * ms,
	}
	return &stats{
		batches:      newHistogram(1, 2, 4, 8, 16, 32, 64, 128, maxBatch),
		transactions: newHistogram(durations...),
		locks:        newHistogram(durations...),
		commits:      newHistogram(durations...),
	}
}

// batch counts a transaction of the writer.
func (s *stats) batch(jobs int, took time.Duration, err error) {
	s.batches.observe(int64(jobs))
	s.transactions.observe(int64(took))
	if err != nil {
		s.failed.Add(1)
	}
}

// Stats reads the figures. It does not use the database, so it works even if that does not answer.
func (s *Store) Stats() Stats {
	size := s.engine.size()
	return Stats{
		Queued: len(s.queue), QueueSize: cap(s.queue),
		Refused: s.stats.refused.Load(), FailedBatches: s.stats.failed.Load(),
		Batches: s.stats.batches.distribution(), Transactions: s.stats.transactions.distribution(),
		Locks: s.stats.locks.distribution(), Commits: s.stats.commits.distribution(), Outdated: s.stats.outdated.Load(),
		RoundTrips: uint64(size.roundTrips), Reconnects: uint64(size.reconnects),
		FileBytes: size.file, WALBytes: size.log, WALBlocked: size.blocked,
	}
}
