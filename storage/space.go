package storage

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Space says how much of the database file is in use.
type Space struct {
	FileBytes int64
	FreeBytes int64 // unused pages of the file, filled by later writes
	CanShrink bool  // upkeep gives free pages back to the disk
}

// Space reads how much of the file is in use.
func (s *Store) Space(ctx context.Context) (space Space, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		space, err = s.engine.space(tx)
		return err
	})
	return space, err
}

// Shrink gives pages that are not needed soon back to the file system, and returns their number. It
// runs as upkeep.
func (s *Store) Shrink(ctx context.Context) (pages int, err error) {
	space, err := s.Space(ctx)
	if err != nil || !space.CanShrink {
		return 0, err
	}
	for more := true; more; {
		err := s.runUpkeep(ctx, noWorkspace, modeAside, func(tx *Tx) (bool, error) {
			n, err := s.engine.shrink(tx)
			pages, more = pages+n, n > 0
			return more, err
		})
		if err != nil {
			return pages, fmt.Errorf("shrink the file: %w", err)
		}
	}
	if pages == 0 {
		return 0, nil
	}
	if err := s.engine.finishShrink(ctx, s.pauseWriter); err != nil {
		return pages, fmt.Errorf("shrink the file: %w", err)
	}
	return pages, nil
}

// Expiring is how much retention will delete soon.
type Expiring struct {
	Runs  int64
	Bytes int64 // estimated from the oldest runs
}

// Expiring estimates what retention will delete from a workspace within that time.
func (s *Store) Expiring(ctx context.Context, ws WorkspaceKey, within time.Duration) (e Expiring, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		w, err := workspace(tx, ws)
		if err != nil {
			return err
		}
		e, err = expiring(tx, ws, tx.now.Add(within).AddDate(0, 0, -int(w.Plan.RetentionDays)))
		return err
	})
	return e, err
}

// expiring counts the runs that began before a time, and estimates their size from the oldest.
func expiring(tx *Tx, ws WorkspaceKey, before time.Time) (e Expiring, err error) {
	const sample, stepBytes, runBytes = 100, 100, 300 // a row with its part of the indexes
	bound := idFloor(before)
	err = tx.get(`SELECT count(*) FROM runs WHERE workspace_id = $1 AND uuid < $2`, []any{ws, bound[:]}, &e.Runs)
	if err != nil || e.Runs == 0 {
		return e, err
	}
	var runs, bytes int64
	err = tx.get(`SELECT count(*), coalesce(sum(r.step_count * $4 + $5
			+ coalesce((SELECT octet_length(m.metadata) FROM run_metadata m WHERE m.run_id = r.id), 0)
			+ coalesce((SELECT sum(coalesce(octet_length(p.input_data), 0) + coalesce(octet_length(p.output_data), 0)
				+ coalesce(octet_length(p.error), 0)) FROM step_payloads p WHERE p.run_id = r.id), 0)), 0)
		FROM (SELECT id, step_count FROM runs WHERE workspace_id = $1 AND uuid < $2 ORDER BY uuid LIMIT $3) r`,
		[]any{ws, bound[:], sample, stepBytes, runBytes}, &runs, &bytes)
	e.Bytes = bytes / max(1, runs) * e.Runs
	return e, err
}

// TotalExpiring is Expiring of all workspaces together.
func (s *Store) TotalExpiring(ctx context.Context, within time.Duration) (all Expiring, err error) {
	workspaces, err := s.retentions(ctx)
	for _, w := range workspaces {
		e, readErr := s.Expiring(ctx, w.ws, within)
		if readErr != nil {
			return all, readErr
		}
		all.Runs, all.Bytes = all.Runs+e.Runs, all.Bytes+e.Bytes
	}
	return all, err
}

// Distribution counts observations by size. Counts has one more element than
// Bounds, for what is above all of them.
type Distribution struct {
	Bounds []int64
	Counts []uint64
	Sum    int64
}

// histogram makes a Distribution. Observing costs two atomic additions.
type histogram struct {
	bounds []int64
	counts []atomic.Uint64
	sum    atomic.Int64
}

// newHistogram returns a histogram with these upper bounds, and a last bucket for everything above.
func newHistogram(bounds ...int64) *histogram {
	return &histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// observe counts one value. It takes no lock; a scrape may see the count before the sum.
func (h *histogram) observe(n int64) {
	i, _ := slices.BinarySearch(h.bounds, n)
	h.counts[i].Add(1)
	h.sum.Add(n)
}

// distribution returns a copy for the metrics.
func (h *histogram) distribution() Distribution {
	d := Distribution{Bounds: h.bounds, Counts: make([]uint64, len(h.counts)), Sum: h.sum.Load()}
	for i := range h.counts {
		d.Counts[i] = h.counts[i].Load()
	}
	return d
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
