package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pikarc/server/storage"
)

// storeCollector turns the store's own figures into metrics, when asked.
type storeCollector struct {
	store                          *storage.Store
	queued, queueSize              *prometheus.Desc
	refused, failed                *prometheus.Desc
	batches, transactions, commits *prometheus.Desc
	locks, outdated                *prometheus.Desc
	roundTrips, reconnects         *prometheus.Desc
	fileBytes, freeBytes           *prometheus.Desc
	walBytes, walHeld              *prometheus.Desc
}

// newStoreCollector describes the store's metrics. They are read when Prometheus asks, so that
// writing costs nothing more.
func newStoreCollector(store *storage.Store) *storeCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("pikarc_"+name, help, nil, nil)
	}
	return &storeCollector{
		store:     store,
		queued:    desc("writer_queue_depth", "Writes that wait for the writer now."),
		queueSize: desc("writer_queue_capacity", "Writes that may wait; more are refused."),
		refused: desc("writer_refused_total",
			"Writes that found the queue full, answered 503."),
		failed: desc("writer_failed_batches_total",
			"Transactions lost as a whole, each of whose writes was answered 503."),
		batches: desc("writer_batch_writes", "Writes that shared a transaction."),
		transactions: desc("writer_transaction_seconds",
			"Time from BEGIN to the end of a transaction."),
		commits: desc("writer_commit_seconds",
			"Time of COMMIT alone: mostly the disk's sync."),
		locks: desc("writer_lock_seconds",
			"Time until a transaction has its locks: the wait for other nodes and commands."),
		outdated: desc("cache_outdated_total",
			"Times that another node or command had written, so that cached rows are read again."),
		roundTrips: desc("postgres_round_trips_total",
			"Times that the writer has waited for PostgreSQL; two a transaction."),
		reconnects: desc("postgres_reconnects_total",
			"Times that the writer's connection to PostgreSQL was opened again, or tried to be."),
		fileBytes: desc("database_file_bytes", "Size of the database: its file, or what PostgreSQL says."),
		freeBytes: desc("database_free_bytes",
			"Of the file, what is free for what is written next."),
		walBytes: desc("database_wal_bytes", "Size of the write-ahead log beside it."),
		walHeld: desc("database_wal_held_seconds",
			"For how long a read has kept the write-ahead log from shrinking; 0 when none does."),
	}
}

// Describe lists the metrics.
func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.queued, c.queueSize, c.refused, c.failed, c.batches, c.transactions, c.commits,
		c.locks, c.outdated, c.roundTrips, c.reconnects, c.fileBytes, c.freeBytes,
		c.walBytes, c.walHeld,
	} {
		ch <- d
	}
}

// spaceTimeout bounds how long a scrape waits for the database.
const spaceTimeout = time.Second

// Collect reads the figures.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.store.Stats()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	counter := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(c.queued, float64(st.Queued))
	gauge(c.queueSize, float64(st.QueueSize))
	counter(c.refused, st.Refused)
	counter(c.failed, st.FailedBatches)
	ch <- histogram(c.batches, st.Batches, 1)
	ch <- histogram(c.transactions, st.Transactions, float64(time.Second))
	ch <- histogram(c.commits, st.Commits, float64(time.Second))
	ch <- histogram(c.locks, st.Locks, float64(time.Second))
	counter(c.outdated, st.Outdated)
	counter(c.roundTrips, st.RoundTrips)
	counter(c.reconnects, st.Reconnects)
	inFile := st.FileBytes > 0 // else it is PostgreSQL's, which has metrics of its own
	if inFile {
		gauge(c.fileBytes, float64(st.FileBytes))
		gauge(c.walBytes, float64(st.WALBytes))
		gauge(c.walHeld, st.WALBlocked.Seconds())
	}
	// The size needs a query, which must not hold up the scrape of everything else.
	ctx, cancel := context.WithTimeout(context.Background(), spaceTimeout)
	defer cancel()
	switch space, err := c.store.Space(ctx); {
	case err != nil: // the other figures say what is wrong
	case inFile:
		gauge(c.freeBytes, float64(space.FreeBytes))
	default:
		gauge(c.fileBytes, float64(space.FileBytes))
	}
}

// histogram adds up a distribution's counts, in another unit.
func histogram(desc *prometheus.Desc, d storage.Distribution, unit float64) prometheus.Metric {
	var total uint64
	buckets := make(map[float64]uint64, len(d.Bounds))
	for i, bound := range d.Bounds {
		// Prometheus counts in each bucket all that is below its bound; the store counts between
		// two.
		total += d.Counts[i]
		buckets[float64(bound)/unit] = total
	}
	// The last count is of what lies above all bounds.
	total += d.Counts[len(d.Bounds)]
	return prometheus.MustNewConstHistogram(desc, total, float64(d.Sum)/unit, buckets)
}
