package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pikarc/server/storage"
)

// BookingMetrics count what reports of usage left open. They only grow: a step
// that is priced later is not taken away again.
type BookingMetrics struct {
	unpricedSteps, unpricedTokens, withoutUsage, capped prometheus.Counter
}

func newBookingMetrics() BookingMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "pikarc_" + name, Help: help})
	}
	return BookingMetrics{
		unpricedSteps: counter("unpriced_steps_total",
			"Steps that reported usage which no price was known for."),
		unpricedTokens: counter("unpriced_tokens_total", "Tokens of such steps."),
		withoutUsage: counter("calls_without_usage_total",
			"Model calls that were completed without any tokens."),
		capped: counter("capped_steps_total",
			"Steps of whose usage a full day or run took only a part."),
	}
}

func (m BookingMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.unpricedSteps, m.unpricedTokens, m.withoutUsage, m.capped}
}

// Updated counts what is new with a committed update.
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
