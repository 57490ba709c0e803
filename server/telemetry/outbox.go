package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pikarc/server/storage"
)

// OutboxMetrics are those of notifications.
type OutboxMetrics struct {
	attempts *prometheus.CounterVec
	waiting  *atomic.Int64 // since when the oldest message waits, in milliseconds; 0: none does
	age      prometheus.GaugeFunc
}

// newOutboxMetrics returns counters of notifications, with a series for each kind of endpoint and
// result from the start.
func newOutboxMetrics() OutboxMetrics {
	m := OutboxMetrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pikarc_notification_attempts_total",
			Help: "Attempts to send a notification, by kind of endpoint.",
		}, []string{"kind", "result"}),
		waiting: new(atomic.Int64),
	}
	for _, kind := range storage.EndpointKinds() {
		for _, result := range []string{"delivered", "retry", "failed", "gone"} {
			m.attempts.WithLabelValues(kind, result)
		}
	}
	m.age = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pikarc_notification_oldest_seconds",
		Help: "For how long the oldest notification has been waiting; 0 when none is.",
	}, func() float64 {
		since := m.waiting.Load()
		if since == 0 {
			return 0
		}
		return max(0, time.Since(time.UnixMilli(since)).Seconds())
	})
	return m
}

// collectors are what is registered.
func (m OutboxMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.attempts, m.age}
}

// Attempted counts an attempt.
func (m OutboxMetrics) Attempted(kind, result string) { m.attempts.WithLabelValues(kind, result).Inc() }

// Waiting sets since when the oldest message has been waiting; zero: none does.
func (m OutboxMetrics) Waiting(since time.Time) {
	if since.IsZero() {
		m.waiting.Store(0)
		return
	}
	m.waiting.Store(since.UnixMilli())
}
