package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// JobMetrics are those of upkeep. Their label is not called job: Prometheus gives
// that name to what it scrapes, and renames ours.
type JobMetrics struct {
	enabled     *prometheus.GaugeVec
	runs        *prometheus.CounterVec
	lastSuccess *prometheus.GaugeVec
	seconds     *prometheus.GaugeVec
	handled     *prometheus.CounterVec
	differences prometheus.Gauge
	backupBytes prometheus.Gauge

	expiringBytes prometheus.Gauge
	dutySince     prometheus.Gauge
}

// newJobMetrics returns metrics with a series for each label, which starts at 0: an alert on a job
// that never ran needs one.
func newJobMetrics(labels []string) JobMetrics {
	m := JobMetrics{
		enabled: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pikarc_job_enabled",
			Help: "1 for upkeep that this server does, 0 for what its settings leave out or another node does.",
		}, []string{"job_name"}),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pikarc_job_runs_total", Help: "Finished rounds of upkeep.",
		}, []string{"job_name", "outcome"}),
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pikarc_job_last_success_timestamp_seconds",
			Help: "When upkeep last succeeded; 0 when not since the start.",
		}, []string{"job_name"}),
		seconds: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pikarc_job_last_seconds", Help: "How long the latest round of upkeep took.",
		}, []string{"job_name"}),
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pikarc_job_handled_total",
			Help: "What upkeep has handled: runs ended as idle, runs deleted by retention.",
		}, []string{"job_name"}),
		differences: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pikarc_verify_differences",
			Help: "What the latest verification found wrong. 0 is right.",
		}),
		backupBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pikarc_backup_bytes", Help: "Size of the latest scheduled backup.",
		}),
		expiringBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pikarc_database_expiring_bytes",
			Help: "About what retention will free within 24 hours.",
		}),
		dutySince: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pikarc_upkeep_since_timestamp_seconds",
			Help: "Since when this server does the upkeep; 0 while another node does.",
		}),
	}
	// Series from the start: without them rate() sees no first increase.
	for _, label := range labels {
		m.enabled.WithLabelValues(label)
		m.runs.WithLabelValues(label, "success")
		m.runs.WithLabelValues(label, "failure")
		m.lastSuccess.WithLabelValues(label)
		m.seconds.WithLabelValues(label)
		m.handled.WithLabelValues(label)
	}
	return m
}

// collectors are what is registered.
func (m JobMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.enabled, m.runs, m.lastSuccess, m.seconds, m.handled, m.differences, m.backupBytes,
		m.expiringBytes, m.dutySince,
	}
}

// Enable says whether this server does the job with this label now.
func (m JobMetrics) Enable(label string, does bool) {
	m.enabled.WithLabelValues(label).Set(0)
	if does {
		m.enabled.WithLabelValues(label).Set(1)
	}
}

// SetOnDuty says whether this server is the one of several that does the upkeep.
func (m JobMetrics) SetOnDuty(does bool) {
	m.dutySince.Set(0)
	if does {
		m.dutySince.SetToCurrentTime()
	}
}

// Finished counts a finished round of the job with this label. It takes the time of its end from
// this machine's clock, with which Prometheus compares it.
func (m JobMetrics) Finished(label string, began time.Time, handled int, err error) {
	m.seconds.WithLabelValues(label).Set(time.Since(began).Seconds())
	m.handled.WithLabelValues(label).Add(float64(handled))
	if err != nil {
		m.runs.WithLabelValues(label, "failure").Inc()
		return
	}
	m.runs.WithLabelValues(label, "success").Inc()
	m.lastSuccess.WithLabelValues(label).SetToCurrentTime()
}

// SetDifferences records how many the latest verification has found.
func (m JobMetrics) SetDifferences(n int64) { m.differences.Set(float64(n)) }

// SetBackupBytes records the size of the latest scheduled backup.
func (m JobMetrics) SetBackupBytes(n int64) { m.backupBytes.Set(float64(n)) }

// SetExpiringBytes records what retention will free within a day.
func (m JobMetrics) SetExpiringBytes(n int64) { m.expiringBytes.Set(float64(n)) }
