// Package storage is the ledger: it keeps everything in one SQLite file, and is
// the only package that speaks SQL. A few read-only connections serve reads.
// Every write goes through one writer (writer.go), which also makes decisions,
// inside the transaction that records them.
package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/prices"

	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/sqlite"
	"github.com/pikarc/server/storage/verify"
)

// SQLiteVersion is that of the library inside.
const SQLiteVersion = sqlite.Version

// Options of a store. The zero value of each field but Migrations has a sensible meaning.
type Options struct {
	Migrations fs.FS             // goose migrations; says which schema is current
	Secret     auth.Secret       // seals API keys
	Now        func() time.Time  // time.Now when nil
	QueueSize  int               // writes that may wait; 4096 when 0
	CacheSize  int               // rows of each kind; DefaultCacheSize when 0, at least MinCacheSize
	Catalogue  *prices.Catalogue // of published prices, for workspaces that use it; nil for none
	// OpenStepTimeout is how long a run with an open step may make no call; DefaultOpenStepTimeout when 0.
	OpenStepTimeout time.Duration
}

// Store is an open database. Its methods may be called from any goroutine.
type Store struct {
	path       string
	lock       io.Closer // shared: no restore may replace the file meanwhile
	migrations fs.FS
	secret     auth.Secret
	now        func() time.Time
	version    int64 // of the schema that this binary knows

	openStepTimeout time.Duration

	db      *sql.DB // readers
	readers *sqlite.Pool
	// credentials are separate readers, so that no slow list delays the look-up
	// of a key, which comes before every decision.
	credentials *sqlite.Pool
	cachedKeys  *lru.Cache[string, Credential] // of API keys, by prefix
	keyUse      keyUse

	writer       writerConn
	checkpointer *sqlite.Checkpointer
	cache        *cache        // of the writer
	writerLock   chan struct{} // full while somebody writes, who alone may use the writer's fields
	inFlight     atomic.Int64
	queue        chan *job
	wake         chan struct{} // full while a job is queued that the writer has not seen
	closing      sync.RWMutex  // held for reading while a job is queued
	closed       bool
	drained      chan struct{}

	erases chan struct{} // full while somebody erases users

	watcher      atomic.Pointer[func([]Change)] // nil while nobody watches
	publisher    publisher                      // the writer's
	lastReported atomic.Int64                   // cache.externalCommits when ChangedElsewhere was last called
	stats        *stats
	outbox       chan struct{} // full after a commit that has written to the outbox

	probe   probe
	corrupt atomic.Bool // a decision could not read what it asks
}

// Open opens a database whose schema is current. It returns ErrSchemaOld or
// ErrSchemaNewer when it is not, and fails if a pragma did not take.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
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
	path, err := dbfile.Locate(path)
	if err != nil {
		return nil, err
	}
	status, err := dbfile.SchemaStatus(ctx, path, opts.Migrations)
	if err != nil {
		return nil, err
	}
	if err := status.Err(); err != nil {
		return nil, err
	}
	s := &Store{
		path: path, migrations: opts.Migrations, secret: opts.Secret, now: opts.Now, version: status.Newest,
		writerLock: make(chan struct{}, 1), queue: make(chan *job, opts.QueueSize), wake: make(chan struct{}, 1), drained: make(chan struct{}),
		cache: newCache(opts.CacheSize, opts.Catalogue), stats: newStats(), openStepTimeout: opts.OpenStepTimeout,
		erases: make(chan struct{}, 1), outbox: make(chan struct{}, 1),
	}
	if s.cachedKeys, err = lru.New[string, Credential](opts.CacheSize); err != nil {
		return nil, fmt.Errorf("hold %d rows: %w", opts.CacheSize, err)
	}
	if s.lock, err = dbfile.LockShared(path); err != nil {
		return nil, err
	}
	if err := s.connect(ctx); err != nil {
		return nil, errors.Join(dbfile.OrNoSpace(err, path), s.disconnect())
	}
	go s.runWriter()
	return s, nil
}

// Close answers every write that is queued, refuses new ones, and closes the file.
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
	return s.disconnect()
}

func (s *Store) connect(ctx context.Context) error {
	writer, err := sqlite.OpenConn(s.path)
	if err != nil {
		return fmt.Errorf("open the database for writing: %w", dbfile.Classify(err))
	}
	s.writer = writer
	if err := requireWritable(s.writer); err != nil {
		return err
	}
	if s.checkpointer, err = sqlite.NewCheckpointer(s.path, writer); err != nil {
		return fmt.Errorf("open the database for checkpoints: %w", dbfile.Classify(err))
	}
	if s.db, err = sqlite.OpenReaders(s.path); err != nil {
		return fmt.Errorf("open the database for reading: %w", err)
	}
	if s.readers, err = sqlite.NewPool(ctx, s.db, max(4, 2*runtime.GOMAXPROCS(0))); err != nil {
		return err
	}
	s.credentials, err = sqlite.NewPool(ctx, s.db, 2)
	return err
}

// disconnect closes what connect has opened, the readers first, so that the
// writer is the last and checkpoints the WAL.
func (s *Store) disconnect() error {
	var errs []error
	for _, readers := range []*sqlite.Pool{s.readers, s.credentials} {
		if readers != nil {
			errs = append(errs, readers.Close())
		}
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.checkpointer != nil {
		errs = append(errs, s.checkpointer.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
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

// read runs fn in a snapshot of the database.
func (s *Store) read(ctx context.Context, fn func(*Tx) error) error {
	return s.readFrom(ctx, s.readers, fn)
}

// readFrom runs fn in a snapshot, once a session of a pool is free.
func (s *Store) readFrom(ctx context.Context, pool *sqlite.Pool, fn func(*Tx) error) (err error) {
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
	return dbfile.Classify(fn(&Tx{conn: session, ctx: ctx, now: s.now(), reader: true}))
}

// Backup backs up the store's own database.
func (s *Store) Backup(ctx context.Context, file string) (bytes int64, err error) {
	return dbfile.Backup(ctx, s.path, file)
}

// Verify proves the store's own database, gently and without repair: what the
// server does every night.
func (s *Store) Verify(ctx context.Context) (verify.Report, error) {
	return verify.File(ctx, s.path, verify.Options{Migrations: s.migrations, Gentle: true})
}
