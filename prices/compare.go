package prices

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pikarc/server/plans"
)

// Change is how the prices of a model differ between two catalogues.
type Change struct {
	Model         string // PROVIDER/ID
	Before, After string // as Rates writes them; empty where the model is in one of them only
	Doubt         string // why a person should look at it; empty where nothing is suspicious
}

// most is how many times its price a model may cost from one catalogue to the next before it is
// doubted.
const most = 3

// LikelyPerToken is what no model's token costs, and many a million of them do: $0.01.
const LikelyPerToken plans.Price = 10_000_000_000

// Compare lists the models whose prices of a moment differ, by name.
func Compare(before, after *Catalogue, at time.Time) []Change {
	was, is := before.ratesAt(at), after.ratesAt(at)
	var changes []Change
	for name, rates := range is {
		old, known := was[name]
		if known && old.String() == rates.String() {
			continue
		}
		c := Change{Model: name, After: rates.String(), Doubt: doubt(old, rates, known)}
		if known {
			c.Before = old.String()
		}
		changes = append(changes, c)
	}
	// A price that is gone leaves steps without a price, so it is listed as well.
	for name, rates := range was {
		if _, known := is[name]; !known {
			changes = append(changes, Change{Model: name, Before: rates.String()})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Model, b.Model) })
	return changes
}

// ratesAt are the prices of a moment by PROVIDER/ID, with those of service tiers
// behind it: PROVIDER/ID@batch.
func (c *Catalogue) ratesAt(at time.Time) map[string]Rates {
	all := make(map[string]Rates, len(c.models))
	for _, m := range c.models {
		name := m.Provider.ID + "/" + m.ID
		all[name] = m.Rates(at, "")
		for _, tier := range m.ServiceTiers() {
			all[name+"@"+tier] = m.Rates(at, tier)
		}
	}
	return all
}

// doubt returns why a person should look at a changed price before it is used; "" for no reason.
func doubt(before, after Rates, known bool) string {
	if after.Highest() > LikelyPerToken {
		return "above $0.01 a token"
	}
	if !known {
		return ""
	}
	for class := range classes {
		old, new := before.Price(class), after.Price(class)
		switch {
		case old > 0 && new == 0:
			return "fell to zero"
		case old > 0 && (new > most*old || new < old/most):
			return fmt.Sprintf("moved more than %d ×", most)
		}
	}
	return ""
}

// Older reports whether a catalogue is of an earlier release of the same data set.
// The versions of different data sets have no order.
func (c *Catalogue) Older(than *Catalogue) bool {
	mine, other := strings.Fields(c.version), strings.Fields(than.version)
	if len(mine) < 2 || len(other) < 2 || mine[0] != other[0] {
		return false
	}
	return slices.CompareFunc(strings.Split(mine[1], "."), strings.Split(other[1], "."), func(a, b string) int {
		m, mErr := strconv.Atoi(a)
		n, nErr := strconv.Atoi(b)
		if mErr != nil || nErr != nil {
			return strings.Compare(a, b)
		}
		return cmp.Compare(m, n)
	}) < 0
}
