// Package storage is the ledger: it keeps everything in one SQLite file, and is
// the only package that speaks SQL. A few read-only connections serve reads.
// Every write goes through one writer (writer.go), which also makes decisions,
// inside the transaction that records them.
package storage

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/storage/postgres"
	"github.com/pikarc/server/storage/sqlite"
	"github.com/pikarc/server/storage/verify"
)

// SQLiteVersion is that of the library inside.
const SQLiteVersion = sqlite.Version

// Options of a store. The zero value of each field but Migrations has a sensible meaning.
type Options struct {
	Migrations fs.FS             // the engine's goose migrations; they say which schema is current
	Secret     auth.Secret       // seals API keys
	Now        func() time.Time  // when nil, time.Now for a file, and the server's time for PostgreSQL
	QueueSize  int               // writes that may wait; 4096 when 0
	CacheSize  int               // rows of each kind; DefaultCacheSize when 0, at least MinCacheSize
	Catalogue  *prices.Catalogue // of published prices, for workspaces that use it; nil for none
	// OpenStepTimeout is how long a run with an open step may make no call; DefaultOpenStepTimeout when 0.
	OpenStepTimeout time.Duration
}

// Store is an open database. Its methods may be called from any goroutine.
type Store struct {
	engine  engine
	secret  auth.Secret
	now     func() time.Time
	version int64 // of the schema that this binary knows

	openStepTimeout time.Duration

	cachedKeys *lru.Cache[string, Credential] // of API keys, by prefix
	keyUse     keyUse

	policySets     *policySets
	reviewsDecided broadcast

	cache      *cache         // of the writer
	scopes     []WorkspaceKey // of the batch that is being written
	writerLock chan struct{}  // full while somebody writes, who alone may use the writer's fields
	inFlight   atomic.Int64
	queue      chan *job
	wake       chan struct{} // full while a job is queued that the writer has not seen
	closing    sync.RWMutex  // held for reading while a job is queued
	closed     bool
	drained    chan struct{}

	erases chan struct{} // full while somebody erases users

	indexed  indexedSegment // by IndexRuns, of which one runs at a time
	searched int64          // maxSearched, but in tests

	watcher      atomic.Pointer[func([]Change)] // nil while nobody watches
	publisher    publisher                      // the writer's
	lastReported atomic.Int64                   // cache.externalCommits when ChangedElsewhere was last called
	stats        *stats
	outbox       chan struct{} // full after a commit that has written to the outbox

	probe   probe
	corrupt atomic.Bool // a decision could not read what it asks
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
	if opts.OpenStepTimeout == 0 {
		opts.OpenStepTimeout = DefaultOpenStepTimeout
	}
	opts.CacheSize = max(opts.CacheSize, MinCacheSize)
	s := &Store{
		secret: opts.Secret, now: opts.Now, openStepTimeout: opts.OpenStepTimeout, stats: newStats(),
		writerLock: make(chan struct{}, 1), queue: make(chan *job, opts.QueueSize), wake: make(chan struct{}, 1),
		drained: make(chan struct{}), erases: make(chan struct{}, 1),
		searched: maxSearched, policySets: newPolicySets(),
		outbox: make(chan struct{}, 1), cache: newCache(opts.CacheSize, opts.Catalogue),
	}
	s.cache.policySets = s.policySets
	var err error
	if s.cachedKeys, err = lru.New[string, Credential](opts.CacheSize); err != nil {
		return nil, fmt.Errorf("hold %d rows: %w", opts.CacheSize, err)
	}
	if err := s.openEngine(ctx, database, opts); err != nil {
		return nil, err
	}
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
	e, version, err := openPostgres(ctx, config, opts.Migrations)
	if err != nil {
		return fmt.Errorf("open %s: %w", config, err)
	}
	if s.now == nil {
		s.now = e.now
	}
	s.engine, s.version = e, version
	return nil
}

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
		return s.engine.classify(fn(&Tx{conn: c, ctx: ctx, now: s.now(), reader: true}))
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
