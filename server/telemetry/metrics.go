package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/storage"
)

// Metrics are the server's own metrics. Every label value comes from a short list that is known in
// advance, never from what callers send. Every series exists from the start, so that no rate and no
// alert misses the first event.
//
// A decision must not wait for metrics. Their series are looked up once, when routes are
// registered; a request then costs one histogram observation and one or two atomic additions.
type Metrics struct {
	Jobs    JobMetrics
	Booking BookingMetrics
	Outbox  OutboxMetrics

	registry  *prometheus.Registry
	seconds   *prometheus.HistogramVec
	requests  *prometheus.CounterVec
	decisions *prometheus.CounterVec
	repairs   *prometheus.CounterVec
}

// Sources are what metrics are read from.
type Sources struct {
	Version string
	Store   *storage.Store
	Jobs    []string // the labels of all jobs

	BodyMemory    func() int64 // bytes that large bodies take now
	BodiesRefused func() int64 // refused for lack of memory, since the start
}

// New makes the metrics of one server.
func New(from Sources) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "pikarc_http_request_seconds",
			Help:    "Time from a request's header to its whole answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"method", "route"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pikarc_http_requests_total",
			Help: "Answered requests, by the first digit of their status.",
		}, []string{"method", "route", "status"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pikarc_decisions_total",
			Help: "Decisions made. Answers repeated under an idempotency key do not count.",
		}, []string{"kind", "outcome", "reason"}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pikarc_repaired_fields_total",
			Help: "Fields of runs and steps that could not be kept as sent.",
		}, []string{"field"}),
		Jobs:    newJobMetrics(from.Jobs),
		Booking: newBookingMetrics(),
		Outbox:  newOutboxMetrics(),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "pikarc_build_info", Help: "1, with the server's version.",
		ConstLabels: prometheus.Labels{"version": from.Version},
	})
	build.Set(1)
	m.registry.MustRegister(m.seconds, m.requests, m.decisions, m.repairs, build,
		newStoreCollector(from.Store),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.Jobs.collectors()...)
	m.registry.MustRegister(m.Outbox.collectors()...)
	m.registry.MustRegister(bodyCollectors(from)...)
	// Fields are a fixed list, so that no caller can make series without end by inventing names.
	for _, field := range storage.AllRepairs.Fields() {
		m.repairs.WithLabelValues(field)
	}
	m.registry.MustRegister(m.Booking.collectors()...)
	return m
}

// bodyCollectors report the memory that large bodies take.
func bodyCollectors(from Sources) []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pikarc_body_memory_bytes", Help: "What large request bodies take in memory now.",
		}, func() float64 { return float64(from.BodyMemory()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "pikarc_bodies_refused_total",
			Help: "Large request bodies for which there was no memory (503).",
		}, func() float64 { return float64(from.BodiesRefused()) }),
	}
}

// Handler serves what is counted, in Prometheus' text form, at /metrics.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry,
		promhttp.HandlerOpts{DisableCompression: true}))
	return mux
}

// RouteMetrics count one route's requests and decisions.
type RouteMetrics struct {
	seconds   prometheus.Observer
	requests  [6]prometheus.Counter // by the first digit of the status
	decisions []prometheus.Counter  // by guard.Reason; nil when the route decides nothing
	reviews   prometheus.Counter    // decisions that a person is to make
	repairs   *prometheus.CounterVec
}

// Route returns the metrics of a route. Requests that match no route (path "") share one.
func (m *Metrics) Route(method, path string) *RouteMetrics {
	kind := decisionKind(method, path)
	if path == "" {
		method, path = "other", "other"
	}
	r := &RouteMetrics{seconds: m.seconds.WithLabelValues(method, path), repairs: m.repairs}
	for digit, class := range []string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"} {
		if digit != 1 && digit != 3 { // the server never answers with 1xx or 3xx
			r.requests[digit] = m.requests.WithLabelValues(method, path, class)
		}
	}
	if kind != "" {
		r.decisions = append(r.decisions, m.decisions.WithLabelValues(kind, "ALLOW", ""))
		for reason := guard.Reason(1); reason.String() != ""; reason++ {
			r.decisions = append(r.decisions, m.decisions.WithLabelValues(kind, "DENY",
				reason.String()))
		}
		r.reviews = m.decisions.WithLabelValues(kind, "REVIEW", "")
	}
	return r
}

// decisionKind names the kind of decision that a route makes; "" for none.
func decisionKind(method, path string) string {
	switch method + " " + path {
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

// Answered counts a request that is over.
func (r *RouteMetrics) Answered(status int, took time.Duration) {
	r.seconds.Observe(took.Seconds())
	digit := status / 100
	if digit >= len(r.requests) || r.requests[digit] == nil {
		digit = 0
	}
	r.requests[digit].Inc()
}

// Repaired counts fields that could not be kept as sent.
func (r *RouteMetrics) Repaired(fields storage.Repairs) {
	for _, field := range fields.Fields() {
		r.repairs.WithLabelValues(field).Inc()
	}
}

// Decided counts a decision.
func (r *RouteMetrics) Decided(d guard.Decision) {
	if d.Review && r.reviews != nil {
		r.reviews.Inc()
		return
	}
	if int(d.Reason) < len(r.decisions) {
		r.decisions[d.Reason].Inc()
	}
}
