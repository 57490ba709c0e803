package storage

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// maxBatch bounds how many jobs share a commit, and so how long the first of
// them waits for the last.
const maxBatch = 256

// job is one write: fn runs inside a transaction, and done gets its outcome
// after the commit.
type job struct {
	ctx  context.Context
	fn   func(*Tx) error
	done chan error
}

// write queues fn for the writer and waits for its outcome. A nil error means
// committed and synced. It returns ErrBusy at once when the queue is full.
// A context that ends keeps fn from starting, but once started it is waited
// for: the answer must be the truth.
func (s *Store) write(ctx context.Context, fn func(*Tx) error) error {
	j := &job{ctx: ctx, fn: fn, done: make(chan error, 1)}
	if err := s.enqueue(j); err != nil {
		return err
	}
	return <-j.done
}

func (s *Store) enqueue(j *job) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return ErrClosed
	}
	select {
	case s.queue <- j:
		return nil
	default:
		s.stats.refused.Add(1)
		return ErrBusy
	}
}

// runWriter commits what is queued until the queue is closed and empty. It
// never waits for company: while one batch commits, the next one gathers.
func (s *Store) runWriter() {
	defer close(s.drained)
	for first := range s.queue {
		batch := []*job{first}
		for len(batch) < maxBatch && len(s.queue) > 0 {
			batch = append(batch, <-s.queue)
		}
		s.commitBatch(batch)
	}
}

// commitBatch runs the jobs in one transaction and answers each of them. A
// job that fails is rolled back alone. When the transaction itself fails,
// every job that ran gets that error, whatever it found: it may have read
// what was then rolled back.
func (s *Store) commitBatch(batch []*job) {
	results, began := make([]error, len(batch)), time.Now()
	err := s.runBatch(batch, results)
	s.stats.batch(len(batch), time.Since(began), err)
	if err != nil {
		for i := range results {
			results[i] = err
		}
	}
	for i, j := range batch {
		j.done <- results[i]
	}
}

func (s *Store) runBatch(batch []*job, results []error) error {
	if err := s.writer.begin(context.Background()); err != nil {
		return classify(fmt.Errorf("begin: %w", err))
	}
	for i, j := range batch {
		if results[i] = j.ctx.Err(); results[i] != nil {
			continue
		}
		if err := s.runJob(j, &results[i]); err != nil {
			return errors.Join(ErrUnavailable, errBatchRollback, err, s.writer.rollback())
		}
	}
	began := time.Now()
	err := s.writer.commit()
	s.stats.commits.observe(int64(time.Since(began)))
	if err != nil {
		// A failed COMMIT may leave the transaction open (when busy) or closed (when the disk is full).
		return errors.Join(ErrUnavailable, fmt.Errorf("commit: %w", err), s.writer.rollback())
	}
	return nil
}

// runJob runs one job inside a savepoint. Its own error goes to result; the
// returned one means that the whole transaction is lost.
func (s *Store) runJob(j *job, result *error) error {
	if err := s.writer.run("SAVEPOINT job"); err != nil {
		return err
	}
	tx := &Tx{session: s.writer, ctx: context.Background(), now: s.now().UTC()}
	if *result = classify(protect(j.fn, tx)); *result != nil {
		if err := s.writer.run("ROLLBACK TO job"); err != nil {
			return errors.Join(*result, err)
		}
	}
	return s.writer.run("RELEASE job")
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
