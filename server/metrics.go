package server

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/storage"
)

// metrics are what a server counts of itself. Every label comes from a short
// list that is known beforehand, never from what callers send, and every
// series is there from the start, so that a rate or an alert never misses the
// first event.
//
// What stands in the way of a decision is looked up once, when routes are
// registered; a request then costs one histogram observation and one or two
// atomic additions.
type metrics struct {
	registry  *prometheus.Registry
	seconds   *prometheus.HistogramVec
	requests  *prometheus.CounterVec
	decisions *prometheus.CounterVec
	repairs   *prometheus.CounterVec
	jobs      jobMetrics
	booking   bookingMetrics
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pikarc_http_request_seconds", Help: "Time from a request's header to its whole answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"method", "route"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pikarc_http_requests_total", Help: "Answered requests, by the first digit of their status.",
		}, []string{"method", "route", "status"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pikarc_decisions_total", Help: "Decisions made; repeats under an idempotency key are not.",
		}, []string{"kind", "outcome", "reason"}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pikarc_repaired_fields_total", Help: "Fields of runs and steps that could not be kept as sent.",
		}, []string{"field"}),
		jobs:    newJobMetrics(),
		booking: newBookingMetrics(),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "pikarc_build_info", Help: "1, with the server's version.", ConstLabels: prometheus.Labels{"version": s.Version},
	})
	build.Set(1)
	m.registry.MustRegister(m.seconds, m.requests, m.decisions, m.repairs, build, newStoreCollector(s.store),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.jobs.collectors()...)
	m.registry.MustRegister(s.bodies.collectors()...)
	for _, field := range storage.AllRepairs.Fields() {
		m.repairs.WithLabelValues(field)
	}
	m.registry.MustRegister(m.booking.collectors()...)
	return m
}

// MetricsHandler serves what is counted, in Prometheus' text form, at /metrics.
func (s *Server) MetricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{DisableCompression: true}))
	return mux
}

// routeMeter counts one route's requests and decisions.
type routeMeter struct {
	seconds   prometheus.Observer
	requests  [6]prometheus.Counter // by the first digit of the status
	decisions []prometheus.Counter  // by guard.Reason; nil when the route decides nothing
	repairs   *prometheus.CounterVec
}

// meter makes the meter of a route. Requests that no route serves share one.
func (m *metrics) meter(rt route) *routeMeter {
	method, path := rt.method, rt.path
	if path == "" {
		method, path = "other", "other"
	}
	r := &routeMeter{seconds: m.seconds.WithLabelValues(method, path), repairs: m.repairs}
	for digit, class := range []string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"} {
		if digit != 1 && digit != 3 { // the server answers no such thing
			r.requests[digit] = m.requests.WithLabelValues(method, path, class)
		}
	}
	if kind := decisionKind(rt); kind != "" {
		r.decisions = append(r.decisions, m.decisions.WithLabelValues(kind, "ALLOW", ""))
		for reason := guard.Reason(1); reason.String() != ""; reason++ {
			r.decisions = append(r.decisions, m.decisions.WithLabelValues(kind, "DENY", reason.String()))
		}
	}
	return r
}

// decisionKind names what a route decides on, if anything.
func decisionKind(rt route) string {
	switch rt.method + " " + rt.path {
	case "POST /v1/runs/":
		return "start"
	case "POST /v1/runs/:run_id/steps":
		return "step"
	case "POST /v1/runs/:run_id/heartbeat":
		return "heartbeat"
	default:
		return ""
	}
}

// answered counts a request that is over.
func (r *routeMeter) answered(status int, took time.Duration) {
	r.seconds.Observe(took.Seconds())
	digit := status / 100
	if digit >= len(r.requests) || r.requests[digit] == nil {
		digit = 0
	}
	r.requests[digit].Inc()
}

// repaired counts fields that could not be kept as sent.
func (r *routeMeter) repaired(fields storage.Repairs) {
	for _, field := range fields.Fields() {
		r.repairs.WithLabelValues(field).Inc()
	}
}

// decided counts a decision.
func (r *routeMeter) decided(d guard.Decision) {
	if int(d.Reason) < len(r.decisions) {
		r.decisions[d.Reason].Inc()
	}
}
