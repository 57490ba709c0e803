package storage

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/storage/payload"
	"github.com/pikarc/server/storage/sqlite"
)

// maxBatch bounds how many jobs share a commit, and so how long the first of
// them waits for the last.
const maxBatch = 256

// maxAttempts bounds how often a batch is run that the database gives up for
// the sake of another one.
const maxAttempts = 5

// job is one write: fn runs inside a transaction, and done gets its outcome
// after the commit.
type job struct {
	ctx   context.Context
	fn    func(*Tx) error
	scope WorkspaceKey
	locks []WorkspaceKey // besides
	mode  txMode
	call  knownCall // what it is known to read
	done  chan error
}

// The scope of a job is the workspace whose rows it reads and changes, which an
// engine with several writers locks, or one of these.
const (
	wholeDatabase WorkspaceKey = 0  // rows of any workspace: nobody else writes meanwhile
	noWorkspace   WorkspaceKey = -1 // rows that are not in the cache, whosever they are: nothing is locked
)

// txMode says how a job treats rows that may be in the cache. The writer
// flushes and invalidates accordingly.
type txMode uint8

const (
	// modeBulkSQL changes any rows by SQL: the cache is flushed before the job,
	// and all of it is invalidated after.
	modeBulkSQL txMode = iota
	// modeSQL works by SQL too, but invalidates or removes what it changed itself.
	modeSQL
	// modeCached reads and changes such rows in the cache only.
	modeCached
	// modeAside changes rows that are never in the cache: whatever it writes, no
	// node has to read its workspace again.
	modeAside
)

// write has the writer run fn, and waits for the outcome. A nil error means
// committed and synced. It returns ErrBusy at once when the queue is full. A
// context that ends keeps fn from starting. Once fn has started, write waits
// for it: the answer must be the truth.
func (s *Store) write(ctx context.Context, mode txMode, fn func(*Tx) error) error {
	return s.writeIn(ctx, wholeDatabase, mode, fn)
}

// writeIn is write for a job that keeps to its scope.
func (s *Store) writeIn(ctx context.Context, scope WorkspaceKey, mode txMode, fn func(*Tx) error) error {
	return s.submit(&job{ctx: ctx, scope: scope, mode: mode, fn: fn, done: make(chan error, 1)})
}

// writeCall is writeIn for a job that only works in the cache, of which is known what it reads.
func (s *Store) writeCall(ctx context.Context, c knownCall, fn func(*Tx) error) error {
	return s.submit(&job{ctx: ctx, scope: c.Workspace, mode: modeCached, call: c, fn: fn, done: make(chan error, 1)})
}

// writeAside is writeIn for a job that changes nothing that is ever in the cache,
// while nobody else writes in these workspaces.
func (s *Store) writeAside(ctx context.Context, of []WorkspaceKey, fn func(*Tx) error) error {
	return s.submit(&job{ctx: ctx, scope: noWorkspace, locks: of, mode: modeAside, fn: fn, done: make(chan error, 1)})
}

func (s *Store) submit(j *job) error {
	lone := s.inFlight.Add(1) == 1
	defer s.inFlight.Add(-1)
	if err := s.enqueue(j, lone); err != nil {
		return err
	}
	return s.markCorrupt(s.markFull(<-j.done))
}

// enqueue queues a job. A lone job bypasses the queue while nobody writes: its
// own goroutine becomes the writer, which spares it a switch to another one.
func (s *Store) enqueue(j *job, lone bool) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if lone {
		select {
		case s.writerLock <- struct{}{}:
			defer crashOnPanic()
			s.commitBatch([]*job{j})
			<-s.writerLock
			return nil
		default:
		}
	}
	select {
	case s.queue <- j:
	default:
		s.stats.refused.Add(1)
		return ErrBusy
	}
	select {
	case s.wake <- struct{}{}:
	default: // it is awake, and will find the job
	}
	return nil
}

// crashOnPanic ends the process after a panic, as a panic in the writer's own
// goroutine does. The HTTP server would recover from it, but no write may
// follow half a batch.
func crashOnPanic() {
	if v := recover(); v != nil {
		go panic(fmt.Sprintf("%v\n%s", v, debug.Stack()))
		select {}
	}
}

// runWriter commits what is queued, until the store is closed. It never delays
// a job to make a batch larger: while one batch commits, the next one gathers.
func (s *Store) runWriter() {
	defer close(s.drained)
	for range s.wake {
		s.writerLock <- struct{}{}
		for len(s.queue) > 0 || s.putBack != nil {
			s.commitBatch(s.nextBatch())
		}
		<-s.writerLock
	}
}

// nextBatch takes what is queued. First it lets goroutines run that are ready,
// such as those that the last batch has just answered, as long as that brings
// new jobs.
func (s *Store) nextBatch() (batch []*job) {
	for had := -1; had < len(s.queue); {
		had = len(s.queue)
		runtime.Gosched()
	}
	if s.putBack != nil {
		batch, s.putBack = append(batch, s.putBack), nil
	}
	for len(batch) < maxBatch && len(s.queue) > 0 {
		batch = append(batch, <-s.queue)
	}
	return batch
}

// addWaiting adds what was queued while a batch waited for its locks, if it needs no others.
func (s *Store) addWaiting(batch []*job) []*job {
	for len(batch) < maxBatch && len(s.queue) > 0 && s.putBack == nil {
		if j := <-s.queue; len(j.locks) == 0 && (j.scope == noWorkspace || slices.Contains(s.scopes, j.scope)) {
			batch = append(batch, j)
		} else {
			s.putBack = j // it is the first of the next batch
		}
	}
	return batch
}

// commitBatch runs the jobs in one transaction and answers each of them. A job
// that fails is rolled back alone. When the transaction itself fails, all of
// them get that error, also those that had an answer: it may rest on rows that
// were rolled back.
func (s *Store) commitBatch(batch []*job) {
	results, began := make([]error, len(batch)), time.Now()
	var err error
	for attempt := 0; attempt == 0 || attempt < maxAttempts && s.engine.again(err); attempt++ {
		clear(results)
		s.publisher.reset(s)
		s.cache.reviewsDecided = false
		batch, results, err = s.runBatch(batch, results)
	}
	err = s.engine.explain(err)
	s.stats.batch(len(batch), time.Since(began), err)
	if err != nil {
		for i := range results {
			results[i] = err
		}
	}
	for i, j := range batch {
		j.done <- results[i]
	}
	if err == nil {
		s.publisher.publish(s.outbox)
		if s.cache.reviewsDecided {
			s.reviewsDecided.notify()
		}
		s.engine.committed()
	}
}

// runBatch begins a transaction, runs the jobs in it and those that have waited with it, and commits.
// The cache is brought up to date right after BEGIN, when nobody else can commit any more.
func (s *Store) runBatch(batch []*job, results []error) ([]*job, []error, error) {
	s.scopes = s.scopes[:0]
	for _, j := range batch {
		s.scopes = append(append(s.scopes, j.scope), j.locks...)
	}
	s.changed = s.changed[:0]
	began := time.Now()
	found, err := s.engine.begin(s.scopes)
	if err != nil {
		return batch, results, err
	}
	if !found.expected {
		s.stats.locks.observe(int64(time.Since(began)))
	}
	s.cache.begin(found)
	s.stats.outdated.Store(s.cache.outdated)
	if s.engine.shared() {
		s.elsewhere.begun(found)
		if !found.expected {
			batch = s.addWaiting(batch)
			results = append(results, make([]error, len(batch)-len(results))...)
		}
		err = s.readAhead(batch)
	}
	if err == nil {
		err = s.runJobs(batch, results)
	}
	if err != nil {
		s.giveUp(err)
		return batch, results, errors.Join(ErrUnavailable, errBatchRollback, err, s.engine.rollback())
	}
	began = time.Now()
	left, err := s.engine.commit(s.changed)
	s.stats.commits.observe(int64(time.Since(began)))
	if err != nil {
		s.giveUp(err)
		return batch, results, err
	}
	s.cache.remember(left)
	s.noteChange()
	if s.engine.shared() {
		s.elsewhere.committed(left)
	}
	return batch, results, nil
}

// runJobs runs each job, and writes what they changed in the cache. An error
// means that the whole transaction is lost.
func (s *Store) runJobs(batch []*job, results []error) error {
	for i, j := range batch {
		if results[i] = j.ctx.Err(); results[i] != nil {
			continue
		}
		if err := s.runJob(j, &results[i]); err != nil {
			return err
		}
	}
	return s.cache.flush(s.transaction())
}

// transaction returns a Tx on the writer's connection. Its context never ends: a job that has begun
// is finished, see write.
func (s *Store) transaction() *Tx {
	return &Tx{
		conn: s.engine.conn(), pipeline: s.engine.pipeline(), ctx: context.Background(), now: s.now().UTC(),
		cache: s.cache, publisher: &s.publisher, payloads: s.payloads,
	}
}

// runJob runs one job inside a savepoint. Its own error goes to result; the
// returned one means that the whole transaction is lost.
func (s *Store) runJob(j *job, result *error) error {
	tx := s.transaction()
	tx.scope = j.scope
	if err := s.cache.startDay(tx); err != nil {
		return err
	}
	if j.mode < modeCached || s.cache.limitReads > maxLimitReads {
		if err := s.cache.flush(tx); err != nil {
			return err
		}
	}
	if j.mode == modeBulkSQL {
		defer s.cache.invalidateAll()
	}
	if err := s.engine.savepoint(); err != nil {
		return err
	}
	recorded := len(s.publisher.pending)
	s.cache.wrote = false
	if *result = s.engine.classify(protect(j.fn, tx)); *result != nil {
		if s.engine.again(*result) {
			return *result // the others, which may succeed, are run again with it
		}
		s.publisher.pending = s.publisher.pending[:recorded]
		if err := s.engine.rollbackTo(); err != nil {
			return errors.Join(*result, err)
		}
		for _, undo := range slices.Backward(tx.undo) {
			undo()
		}
		if j.mode < modeCached && len(s.cache.dirty) > 0 {
			s.cache.purge() // only this job's rows are dirty, some of them half changed
		}
	} else if s.cache.wrote && j.mode != modeAside {
		s.changed = append(s.changed, j.scope)
	}
	return s.engine.release()
}

// protect turns a panic of fn into an error, so that it harms no other job.
func protect(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v\n%s", errJobPanicked, v, debug.Stack())
		}
	}()
	return fn(tx)
}

// Backfill is a write whose parts have times of their own. It creates history: for the demo today,
// for imports later. It uses the same functions as live calls, so that ids, counters and rollups
// are those of the given times.
type Backfill struct{ tx *Tx }

// WriteBackfill has fn make some history in one write: all of it, or with
// an error nothing.
func (s *Store) WriteBackfill(ctx context.Context, fn func(Backfill) error) error {
	return s.write(ctx, modeBulkSQL, func(tx *Tx) error {
		tx.publisher = nil // history is not published as live events
		return fn(Backfill{tx})
	})
}

// at moves the transaction to a time. A cached day sums up the days before it,
// so on another day the cache is read again.
func (p Backfill) at(t time.Time) (*Tx, error) {
	m := p.tx.cache
	p.tx.now = t.UTC()
	if day := dayOf(p.tx.now); day != m.today || m.nearlyFull() {
		m.today = day
		return p.tx, p.reread()
	}
	return p.tx, nil
}

// reread writes what was counted and reads it again when it is next asked for.
func (p Backfill) reread() error {
	defer p.tx.cache.invalidateAll()
	return p.tx.cache.flush(p.tx)
}

// StartRun is Store.StartRun at a time.
func (p Backfill) StartRun(t time.Time, ws WorkspaceKey, in NewRun, decide Decider) (Answer, error) {
	tx, err := p.at(t)
	if err != nil {
		return Answer{}, err
	}
	in.read()
	return startRun(tx, Caller{Workspace: ws}, in, decide, nil)
}

// CreateStep is Store.CreateStep at a time.
func (p Backfill) CreateStep(t time.Time, ws WorkspaceKey, run uuid.UUID, in NewStep, decide Decider) (Answer, error) {
	tx, err := p.at(t)
	if err != nil {
		return Answer{}, err
	}
	return createStep(tx, Caller{Workspace: ws}, run, in, decide, nil)
}

// UpdateStep is Store.UpdateStep at a time.
func (p Backfill) UpdateStep(t time.Time, ws WorkspaceKey, run, step uuid.UUID, in StepUpdate) error {
	tx, err := p.at(t)
	if err != nil {
		return err
	}
	_, err = updateStep(tx, Caller{Workspace: ws}, run, step, findSegment, in)
	return err
}

// EndRun is Store.EndRun at a time.
func (p Backfill) EndRun(t time.Time, ws WorkspaceKey, id uuid.UUID, status RunStatus, by EndedBy) error {
	tx, err := p.at(t)
	if err != nil {
		return err
	}
	_, err = endRun(tx, Caller{Workspace: ws}, id, status, by)
	return err
}

// BlockUser is Store.BlockUser at a time. It works by SQL, so it flushes and
// invalidates the cache first.
func (p Backfill) BlockUser(t time.Time, ws WorkspaceKey, externalID string, reason *string) error {
	tx, err := p.at(t)
	if err != nil {
		return err
	}
	if err := p.reread(); err != nil {
		return err
	}
	_, _, err = blockUser(tx, ws, externalID, reason)
	return err
}

// Tx is a transaction: on the writer the part of a batch that is one job's, on
// a reader a snapshot. Unexported functions take it; exported methods of Store own it.
type Tx struct {
	conn      conn
	pipeline  pipeline // the writer's, where its engine has one
	ctx       context.Context
	now       time.Time
	cache     *cache     // the writer's; nil on a reader, or one of its own
	publisher *publisher // the writer's; nil on a reader
	undo      []func()   // drops from the cache what a failed job has put there
	payloads  *payload.Codec
	expected  *expectedPayloads // that are about to be read
	reader    bool              // it can write nothing
	scope     WorkspaceKey
}

// exec runs a statement and returns how many rows it changed.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	n, err := tx.conn.Exec(tx.ctx, query, args)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", sqlite.FirstWords(query), err)
	}
	if n > 0 {
		tx.cache.wrote = true
	}
	return n, nil
}

// execOne is exec for a statement that must change a row: ErrNotFound when it did not.
func (tx *Tx) execOne(query string, args ...any) error {
	n, err := tx.exec(query, args...)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// queue is exec for a statement whose result the job does not need, and which cannot fail unless
// its whole transaction does.
func (tx *Tx) queue(query string, args ...any) error {
	if tx.pipeline != nil {
		tx.cache.wrote = true
		return tx.pipeline.Queue(query, args, false)
	}
	_, err := tx.exec(query, args...)
	return err
}

// queueOne is queue for a statement that must change a row.
func (tx *Tx) queueOne(query string, args ...any) error {
	if tx.pipeline != nil {
		tx.cache.wrote = true
		return tx.pipeline.Queue(query, args, true)
	}
	return tx.execOne(query, args...)
}

// get scans the first row of a query: ErrNotFound when there is none.
func (tx *Tx) get(query string, args []any, dest ...any) error {
	found := false
	err := tx.each(query, args, func(row scanner) error {
		if found {
			return nil
		}
		found = true
		return row.Scan(dest...)
	})
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

// each calls scan for every row of a query, which may be a write that returns some.
func (tx *Tx) each(query string, args []any, scan func(scanner) error) error {
	if !tx.reader && !strings.HasPrefix(query, "SELECT") && !strings.HasPrefix(query, "PRAGMA") {
		tx.cache.wrote = true
	}
	if err := tx.conn.Query(tx.ctx, query, args, scan); err != nil {
		return fmt.Errorf("%s: %w", sqlite.FirstWords(query), err)
	}
	return nil
}
