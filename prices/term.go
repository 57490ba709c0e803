package prices

import (
	"fmt"
	"strings"
	"time"
)

// term is rates with when, and for whom, they hold.
type term struct {
	tier  string    // the service tier, or "" for all
	from  time.Time // zero: always
	daily bool      // only between start and end of each day, UTC
	start time.Duration
	end   time.Duration // before start: over midnight
	rates Rates
}

// holds reports whether the term applies at a moment in UTC. A day's hours
// include their start and exclude their end.
func (t term) holds(at time.Time) bool {
	if at.Before(t.from) {
		return false
	}
	if !t.daily {
		return true
	}
	since := at.Sub(time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC))
	if t.end < t.start {
		return since >= t.start || since < t.end
	}
	return t.start <= since && since < t.end
}

// next returns the first moment after at when the term begins or ceases to hold.
func (t term) next(at time.Time) (time.Time, bool) {
	if t.from.After(at) {
		return t.from, true
	}
	if !t.daily {
		return time.Time{}, false
	}
	day := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
	first := day.Add(48 * time.Hour)
	for _, edge := range []time.Time{day.Add(t.start), day.Add(t.end), day.Add(24*time.Hour + t.start), day.Add(24*time.Hour + t.end)} {
		if edge.After(at) && edge.Before(first) {
			first = edge
		}
	}
	return first, true
}

// NextChange returns when the model's prices change after a moment, if they do.
func (m *Model) NextChange(at time.Time) (first time.Time, changes bool) {
	at = at.UTC()
	for _, t := range m.terms {
		if next, ok := t.next(at); ok && (!changes || next.Before(first)) {
			first, changes = next, true
		}
	}
	return first, changes
}

// last returns the latest moment, not after at, when the term began or ceased to hold.
func (t term) last(at time.Time) (time.Time, bool) {
	if t.from.IsZero() && !t.daily || t.from.After(at) {
		return time.Time{}, false
	}
	latest := t.from
	if t.daily {
		day := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
		for _, edge := range []time.Duration{t.start - 24*time.Hour, t.end - 24*time.Hour, t.start, t.end} {
			if edge := day.Add(edge); edge.After(latest) && !edge.After(at) {
				latest = edge
			}
		}
	}
	return latest, true
}

// Period returns the moments from which, and before which, the prices of a
// moment hold; the zero time where they have no such bound.
func (m *Model) Period(at time.Time) (from, until time.Time) {
	at = at.UTC()
	for _, t := range m.terms {
		if last, ok := t.last(at); ok && last.After(from) {
			from = last
		}
	}
	until, _ = m.NextChange(at)
	return from, until
}

// EffectiveFrom returns the day from which the prices of a moment hold; false
// where the data set does not say.
func (m *Model) EffectiveFrom(at time.Time) (from time.Time, known bool) {
	at = at.UTC()
	for _, t := range m.terms {
		if t.tier == "" && t.holds(at) {
			from, known = t.from, !t.from.IsZero()
		}
	}
	return from, known
}

// ServiceTiers lists the service tiers for which the model has prices of their own.
func (m *Model) ServiceTiers() (tiers []string) {
	for _, t := range m.terms {
		if t.tier != "" {
			tiers = append(tiers, t.tier)
		}
	}
	return tiers
}

// parseTerms parses a model's terms, which are separated by semicolons.
func parseTerms(text string) ([]term, error) {
	var terms []term
	for part := range strings.SplitSeq(text, "; ") {
		t, err := parseTerm(part)
		if err != nil {
			return nil, err
		}
		terms = append(terms, t)
	}
	return terms, nil
}

// parseTerm parses a term: the service tier, dates or hours for which it holds, and prices.
func parseTerm(text string) (t term, err error) {
	if rest, ok := strings.CutPrefix(text, "@"); ok {
		t.tier, text, _ = strings.Cut(rest, " ")
	}
	head, rest, _ := strings.Cut(text, " ")
	switch {
	// Prices without a condition hold always.
	case strings.Contains(head, "="):
		rest = text
	case strings.Contains(head, ":"):
		t.daily = true
		from, to, _ := strings.Cut(head, "-")
		if t.start, err = parseClock(from); err == nil {
			t.end, err = parseClock(to)
		}
	default:
		t.from, err = time.Parse(time.DateOnly, head)
	}
	if err != nil {
		return t, fmt.Errorf("%q is neither a date nor hours: %w", head, err)
	}
	t.rates, err = ParseRates(rest)
	return t, err
}

// parseClock parses a time of day.
func parseClock(text string) (time.Duration, error) {
	at, err := time.Parse("15:04", text)
	return time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute, err
}
