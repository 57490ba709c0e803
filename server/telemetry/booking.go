package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pikarc/server/storage"
)

// BookingMetrics count reported usage that could not be priced or booked in full. They only grow: a
// step that gets its price later is not subtracted.
type BookingMetrics struct {
	unpricedSteps, unpricedTokens, withoutUsage, capped prometheus.Counter
}

// newBookingMetrics returns counters of what is wrong with reported usage.
func newBookingMetrics() BookingMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "pikarc_" + name, Help: help})
	}
	return BookingMetrics{
		unpricedSteps: counter("unpriced_steps_total",
			"Steps that reported usage without a known price."),
		unpricedTokens: counter("unpriced_tokens_total", "Tokens of such steps."),
		withoutUsage: counter("calls_without_usage_total",
			"Model calls that were completed without any tokens."),
		capped: counter("capped_steps_total",
			"Steps booked only in part, because their day or run was full."),
	}
}

// collectors are what is registered.
func (m BookingMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.unpricedSteps, m.unpricedTokens, m.withoutUsage, m.capped}
}

// Updated counts what a committed update newly made unpriced, unreported or capped.
func (m BookingMetrics) Updated(u storage.StepUpdated) {
	if u.NewlyUnpriced {
		m.unpricedSteps.Inc()
	}
	if u.UnpricedTokens > 0 {
		m.unpricedTokens.Add(float64(u.UnpricedTokens))
	}
	if u.WithoutUsage {
		m.withoutUsage.Inc()
	}
	if u.NewlyCapped {
		m.capped.Inc()
	}
}
