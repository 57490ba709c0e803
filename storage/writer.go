package storage

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/sqlite"
)

// maxBatch bounds how many jobs share a commit, and so how long the first of
// them waits for the last.
const maxBatch = 256

// job is one write: fn runs inside a transaction, and done gets its outcome
// after the commit.
type job struct {
	ctx  context.Context
	fn   func(*Tx) error
	way  way
	done chan error
}

// way is how a job's fn goes about the rows that the writer's memory may hold.
type way uint8

const (
	bySQL    way = iota // reads and changes any by SQL: memory is flushed before, and read again after
	dropping            // the same, but it drops or invalidates what it changed, so that nothing else is read again
	inMemory            // reads and changes them in memory only
)

// write has fn run by the writer and waits for its outcome. A nil error means
// committed and synced. It returns ErrBusy at once when the queue is full.
// A context that ends keeps fn from starting, but once started it is waited
// for: the answer must be the truth.
func (s *Store) write(ctx context.Context, way way, fn func(*Tx) error) error {
	alone := s.underWay.Add(1) == 1
	defer s.underWay.Add(-1)
	j := &job{ctx: ctx, way: way, fn: fn, done: make(chan error, 1)}
	if err := s.admit(j, alone); err != nil {
		return err
	}
	return s.noticeDamage(<-j.done)
}

// admit queues a job. One that is alone is the writer itself if nobody writes:
// it waits for the disk, and should not wait for another goroutine besides.
func (s *Store) admit(j *job, alone bool) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if alone {
		select {
		case s.writerLock <- struct{}{}:
			defer dieOfPanic()
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

// dieOfPanic ends the process, as a panic of the writer's goroutine does, where
// a caller would otherwise recover from it: nothing may follow half a batch.
func dieOfPanic() {
	if v := recover(); v != nil {
		go panic(fmt.Sprintf("%v\n%s", v, debug.Stack()))
		select {}
	}
}

// runWriter commits what is queued, until there will be no more. It does not
// wait for company: while one batch commits, the next one gathers.
func (s *Store) runWriter() {
	defer close(s.drained)
	for range s.wake {
		s.writerLock <- struct{}{}
		for len(s.queue) > 0 {
			s.commitBatch(s.nextBatch())
		}
		<-s.writerLock
	}
}

// nextBatch lets those run first that are ready to, such as everybody whom the
// last batch has just answered, as long as they bring something.
func (s *Store) nextBatch() (batch []*job) {
	for had := -1; had < len(s.queue); {
		had = len(s.queue)
		runtime.Gosched()
	}
	for len(batch) < maxBatch && len(s.queue) > 0 {
		batch = append(batch, <-s.queue)
	}
	return batch
}

// commitBatch runs the jobs in one transaction and answers each of them. A
// job that fails is rolled back alone. When the transaction itself fails,
// every job that ran gets that error, whatever it found: it may have read
// what was then rolled back.
func (s *Store) commitBatch(batch []*job) {
	results, began := make([]error, len(batch)), time.Now()
	s.notes.begin(s)
	err := dbfile.OrNoSpace(s.runBatch(batch, results), s.path)
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
		s.notes.tell()
		s.checkpointer.Committed()
	}
}

func (s *Store) runBatch(batch []*job, results []error) error {
	err := s.writer.Run("BEGIN IMMEDIATE")
	switch {
	case sqlite.IsBusy(err):
		return dbfile.Classify(fmt.Errorf("begin: %w", err)) // nothing has begun
	case err != nil:
		return s.abandon(fmt.Errorf("begin: %w", err))
	}
	if err := s.runJobs(batch, results); err != nil {
		err = errors.Join(ErrUnavailable, errBatchRollback, err)
		if endErr := s.writer.Run("ROLLBACK"); endErr != nil { // SQLite may have done so itself
			return s.abandon(errors.Join(err, endErr))
		}
		s.cache.purge()
		return err
	}
	began := time.Now()
	err = s.writer.Run("COMMIT")
	s.stats.commits.observe(int64(time.Since(began)))
	if err != nil {
		return s.abandon(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// abandon gives up the writer's connection, because a statement that begins or
// ends a transaction failed: there may be one or not, and no next batch may
// find itself inside.
func (s *Store) abandon(cause error) error {
	s.cache.purge()
	s.cache.dataVersion = -1 // data_version counts anew, and somebody may have committed meanwhile
	return errors.Join(ErrUnavailable, cause, s.writer.Reopen())
}

// runJobs runs each job, and writes what they changed in the cache. An error
// means that the whole transaction is lost.
func (s *Store) runJobs(batch []*job, results []error) error {
	if err := s.cache.begin(s.transaction()); err != nil {
		return fmt.Errorf("look for other processes: %w", err)
	}
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

func (s *Store) transaction() *Tx {
	return &Tx{conn: s.writer, ctx: context.Background(), now: s.now().UTC(), cache: s.cache, notes: &s.notes}
}

// runJob runs one job inside a savepoint. Its own error goes to result; the
// returned one means that the whole transaction is lost.
func (s *Store) runJob(j *job, result *error) error {
	tx := s.transaction()
	if err := s.cache.startDay(tx); err != nil {
		return err
	}
	if j.way != inMemory {
		if err := s.cache.flush(tx); err != nil {
			return err
		}
	}
	if j.way == bySQL {
		defer s.cache.invalidateAll()
	}
	if err := s.writer.Run("SAVEPOINT job"); err != nil {
		return err
	}
	noted := len(s.notes.list)
	if *result = dbfile.Classify(protect(j.fn, tx)); *result != nil {
		s.notes.list = s.notes.list[:noted]
		if err := s.writer.Run("ROLLBACK TO job"); err != nil {
			return errors.Join(*result, err)
		}
		for _, undo := range tx.undo {
			undo()
		}
		if j.way != inMemory && len(s.cache.dirty) > 0 {
			s.cache.purge() // it has counted in several parts; nothing else is unwritten
		}
	}
	return s.writer.Run("RELEASE job")
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
