package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// jobMetrics are what upkeep tells of itself. Their label is not called job:
// Prometheus gives that name to what it scrapes, and renames ours.
type jobMetrics struct {
	enabled     *prometheus.GaugeVec
	runs        *prometheus.CounterVec
	lastSuccess *prometheus.GaugeVec
	seconds     *prometheus.GaugeVec
	handled     *prometheus.CounterVec
	differences prometheus.Gauge
	backupBytes prometheus.Gauge

	expiringBytes prometheus.Gauge
}

func newJobMetrics() jobMetrics {
	m := jobMetrics{
		enabled: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pikarc_job_enabled", Help: "1 for upkeep that this server does, 0 for what its settings leave out.",
		}, []string{"job_name"}),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pikarc_job_runs_total", Help: "Finished rounds of upkeep.",
		}, []string{"job_name", "outcome"}),
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pikarc_job_last_success_timestamp_seconds", Help: "When upkeep last succeeded; 0 when not since the start.",
		}, []string{"job_name"}),
		seconds: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pikarc_job_last_seconds", Help: "How long the latest round of upkeep took.",
		}, []string{"job_name"}),
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pikarc_job_handled_total", Help: "What upkeep has handled: runs ended as idle, runs deleted by retention.",
		}, []string{"job_name"}),
		differences: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pikarc_verify_differences", Help: "What the latest verification found wrong. 0 is right.",
		}),
		backupBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pikarc_backup_bytes", Help: "Size of the latest scheduled backup.",
		}),
		expiringBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pikarc_database_expiring_bytes", Help: "About what retention will free within 24 hours.",
		}),
	}
	for j := range jobCount {
		m.enabled.WithLabelValues(j.String())
		m.runs.WithLabelValues(j.String(), "success")
		m.runs.WithLabelValues(j.String(), "failure")
		m.lastSuccess.WithLabelValues(j.String())
		m.seconds.WithLabelValues(j.String())
		m.handled.WithLabelValues(j.String())
	}
	return m
}

func (m jobMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.enabled, m.runs, m.lastSuccess, m.seconds, m.handled, m.differences, m.backupBytes, m.expiringBytes,
	}
}

// enable says that this server does a job.
func (m jobMetrics) enable(j job) { m.enabled.WithLabelValues(j.String()).Set(1) }

// done counts a finished round. Its end is told by the machine's clock, as
// whoever reads the metric takes the time.
func (m jobMetrics) done(j job, began time.Time, handled int, err error) {
	label := j.String()
	m.seconds.WithLabelValues(label).Set(time.Since(began).Seconds())
	m.handled.WithLabelValues(label).Add(float64(handled))
	if err != nil {
		m.runs.WithLabelValues(label, "failure").Inc()
		return
	}
	m.runs.WithLabelValues(label, "success").Inc()
	m.lastSuccess.WithLabelValues(label).SetToCurrentTime()
}
