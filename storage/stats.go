package storage

import (
	"os"
	"slices"
	"sync/atomic"
	"time"
)

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

func newHistogram(bounds ...int64) *histogram {
	return &histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

func (h *histogram) observe(n int64) {
	i, _ := slices.BinarySearch(h.bounds, n)
	h.counts[i].Add(1)
	h.sum.Add(n)
}

func (h *histogram) distribution() Distribution {
	d := Distribution{Bounds: h.bounds, Counts: make([]uint64, len(h.counts)), Sum: h.sum.Load()}
	for i := range h.counts {
		d.Counts[i] = h.counts[i].Load()
	}
	return d
}

// Stats are the store's figures since it was opened, for those who watch it.
type Stats struct {
	Queued        int          // writes that wait now
	QueueSize     int          // how many may
	Refused       uint64       // writes that found the queue full
	FailedBatches uint64       // transactions that were lost as a whole
	Batches       Distribution // writes that shared a transaction
	Transactions  Distribution // nanoseconds from BEGIN to the end
	Commits       Distribution // nanoseconds of COMMIT alone: mostly the disk
	FileBytes     int64
	WALBytes      int64
	WALBlocked    time.Duration // for how long a reader has kept the WAL from being checkpointed
}

// stats are what the writer counts.
type stats struct {
	refused, failed                atomic.Uint64
	batches, transactions, commits *histogram
}

func newStats() *stats {
	const us, ms = int64(time.Microsecond), int64(time.Millisecond)
	durations := []int64{
		100 * us, 250 * us, 500 * us, 1 * ms, 2500 * us, 5 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 1000 * ms, 5000 * ms,
	}
	return &stats{
		batches:      newHistogram(1, 2, 4, 8, 16, 32, 64, 128, maxBatch),
		transactions: newHistogram(durations...),
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

// Stats reads the figures. It asks nothing of the database, so it answers also
// when that does not.
func (s *Store) Stats() Stats {
	return Stats{
		Queued: len(s.queue), QueueSize: cap(s.queue),
		Refused: s.stats.refused.Load(), FailedBatches: s.stats.failed.Load(),
		Batches: s.stats.batches.distribution(), Transactions: s.stats.transactions.distribution(),
		Commits:   s.stats.commits.distribution(),
		FileBytes: sizeOf(s.path), WALBytes: sizeOf(s.path + "-wal"), WALBlocked: s.checkpointer.BlockedFor(),
	}
}

// sizeOf is 0 for a file that is not there.
func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
