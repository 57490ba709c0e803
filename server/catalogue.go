package server

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// catalogueEntryJSON is an entry of the catalogue, with its current prices.
type catalogueEntryJSON struct {
	Model    string   `json:"model"`
	Provider string   `json:"provider"`
	Names    []string `json:"names"`
	tableJSON
	PerCall       *plans.Money `json:"cost_per_call,omitempty"`
	Tiers         []tierJSON   `json:"tiers"`
	EffectiveFrom *wire.Time   `json:"effective_from"`
	NextChange    *wire.Time   `json:"next_change"`
}

// tableJSON is the prices of a token by its class. Input and output are always there; another class
// is left out if it has no price of its own.
type tableJSON struct {
	Input        *plans.Price `json:"input_cost_per_token"`
	Output       *plans.Price `json:"output_cost_per_token"`
	Cached       *plans.Price `json:"cached_input_cost_per_token,omitempty"`
	CacheWrite   *plans.Price `json:"cache_write_cost_per_token,omitempty"`
	CacheWrite1h *plans.Price `json:"cache_write_1h_cost_per_token,omitempty"`
	Reasoning    *plans.Price `json:"reasoning_cost_per_token,omitempty"`
}

// tierJSON is a tier with all its prices: those of calls whose prompt is longer than AbovePrompt.
type tierJSON struct {
	AbovePrompt int64 `json:"above_prompt_tokens"`
	tableJSON
}

// tableOf converts a table of prices. A price that the table does not have of its own is null,
// though another one applies.
func tableOf(t prices.Table) tableJSON {
	own := func(c prices.Class) *plans.Price {
		price, ok := t.Own(c)
		if !ok {
			return nil
		}
		return &price
	}
	input, output := t.Price(prices.Input), t.Price(prices.Output)
	return tableJSON{
		Input: &input, Output: &output, Cached: own(prices.Cached),
		CacheWrite:   own(prices.CacheWrite),
		CacheWrite1h: own(prices.CacheWrite1h), Reasoning: own(prices.Reasoning),
	}
}

// newCatalogueEntry converts a model's prices as they hold now.
func newCatalogueEntry(m *prices.Model, now time.Time) catalogueEntryJSON {
	rates := m.Rates(now, "")
	out := catalogueEntryJSON{
		Model: m.ID, Provider: m.Provider.ID, Names: append([]string{}, m.Names...),
		tableJSON: tableOf(rates.Table), Tiers: []tierJSON{},
	}
	if rates.PerCall != 0 {
		out.PerCall = &rates.PerCall
	}
	for _, tier := range rates.Tiers {
		out.Tiers = append(out.Tiers, tierJSON{tier.AbovePrompt,
			tableOf(rates.At(tier.AbovePrompt + 1))})
	}
	if from, known := m.EffectiveFrom(now); known {
		out.EffectiveFrom = new(wire.Time(from))
	}
	if next, changes := m.NextChange(now); changes {
		out.NextChange = new(wire.Time(next))
	}
	return out
}

// cataloguePage is a page of published prices.
type cataloguePage struct {
	Items   []catalogueEntryJSON `json:"items"`
	Version wire.NullString      `json:"version"` // null where the server has no catalogue
	Next    wire.NullString      `json:"next_cursor"`
}

// listCatalogue answers GET /v1/model-pricing/catalogue: published prices by provider and model, or
// those that match a text.
func (s *Server) listCatalogue(c *call) error {
	q := request.ReadQuery(c.r)
	text, provider := q.String("q", maxModel), q.String("provider", maxModel)
	limit, cursor := q.Int("limit", pageLength, 1, maxPage), q.String("cursor", maxCatalogueCursor)
	if err := q.Err(); err != nil {
		return err
	}
	after, ok := parseCatalogueCursor(cursor)
	if !ok {
		return request.Invalid([]any{"query", "cursor"}, "not a cursor of this list", cursor)
	}
	out := cataloguePage{Items: []catalogueEntryJSON{}}
	if s.Catalogue == nil {
		return c.ok(out, nil)
	}
	out.Version = wire.NullString(s.Catalogue.Version())
	for _, m := range searchCatalogue(s.Catalogue, after, text, provider) {
		if int64(len(out.Items)) == limit {
			last := out.Items[limit-1]
			out.Next = wire.NullString(catalogueCursor(catalogueKey{last.Provider, last.Model}))
			break
		}
		out.Items = append(out.Items, newCatalogueEntry(m, s.Now()))
	}
	return c.ok(out, nil)
}

// catalogueKey orders the list: by provider, then by model.
type catalogueKey struct{ provider, model string }

// catalogueKeyOf returns a model's place in the list.
func catalogueKeyOf(m *prices.Model) catalogueKey { return catalogueKey{m.Provider.ID, m.ID} }

// compare orders by provider, then by model.
func (k catalogueKey) compare(other catalogueKey) int {
	return cmp.Or(strings.Compare(k.provider, other.provider),
		strings.Compare(k.model, other.model))
}

// searchCatalogue lists the entries after a key whose names or provider contain the text, and the
// entry that a step with exactly this name would be priced by.
func searchCatalogue(
	c *prices.Catalogue, after catalogueKey, text, provider string,
) (found []*prices.Model) {
	got, _ := c.Find(text)
	text = strings.ToLower(strings.TrimSpace(text))
	for _, m := range c.Models() {
		if provider != "" && m.Provider.ID != strings.ToLower(provider) ||
			catalogueKeyOf(m).compare(after) <= 0 {
			continue
		}
		if m == got || matchesText(m, text) {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(a, b *prices.Model) int {
		return catalogueKeyOf(a).compare(catalogueKeyOf(b))
	})
	return found
}

// matchesText reports whether a lower-case text occurs in one of the model's names.
func matchesText(m *prices.Model, text string) bool {
	in := func(name string) bool { return strings.Contains(strings.ToLower(name), text) }
	return in(m.Provider.ID+"/"+m.ID) || in(m.Provider.Name) || slices.ContainsFunc(m.Names, in)
}

const (
	// maxCatalogueCursor leaves room for the longest names.
	maxCatalogueCursor    = 1000
	catalogueCursorPrefix = "catalogue\n" // which no cursor of another list begins with
)

// catalogueCursor encodes the last entry of a page. It is not signed: everybody may read the whole
// catalogue.
func catalogueCursor(k catalogueKey) string {
	return base64.RawURLEncoding.EncodeToString([]byte(catalogueCursorPrefix + k.provider + "\n" +
		k.model))
}

// parseCatalogueCursor reads a cursor; the empty one is the beginning of the list.
func parseCatalogueCursor(text string) (k catalogueKey, ok bool) {
	if text == "" {
		return k, true
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	key, prefixed := strings.CutPrefix(string(raw), catalogueCursorPrefix)
	k.provider, k.model, ok = strings.Cut(key, "\n")
	return k, ok && prefixed && err == nil && k.provider != "" && k.model != ""
}

// resolvedJSON says which entry would price a model's name, and why. Source, Name and Version are
// what a step would store.
type resolvedJSON struct {
	Source    wire.NullString     `json:"price_source"`
	Name      wire.NullString     `json:"price_name"`
	Version   wire.NullString     `json:"price_version"`
	Names     []string            `json:"names"`
	Reason    string              `json:"reason"`
	Input     *plans.Price        `json:"input_cost_per_token"`
	Output    *plans.Price        `json:"output_cost_per_token"`
	Published *catalogueEntryJSON `json:"published"`
}

// resolvePrice answers where the price for a model's name would come from.
func (s *Server) resolvePrice(c *call) error {
	q := request.ReadQuery(c.r)
	model := q.RequiredString("model", maxModel)
	if err := q.Err(); err != nil {
		return err
	}
	path, err := s.store.FollowPrice(c.ctx(), c.who.workspace, model)
	if err != nil {
		return err
	}
	return c.ok(s.resolved(path), nil)
}

// resolved explains how a model gets its price, or why it has none: the names that lead to it, and
// whether an entry of the workspace or of the catalogue holds.
func (s *Server) resolved(path storage.PricePath) resolvedJSON {
	out := resolvedJSON{Names: path.Names, Reason: "no_entry"}
	source, last := storage.PriceOwn, path.Names[len(path.Names)-1]
	if len(path.Names) > 1 {
		source = storage.PriceAlias
	}
	if path.Cycle {
		out.Reason = "ring"
		return out
	}
	// The workspace's own entry wins over anything that is published.
	if own := path.Own; own != nil {
		out.Source, out.Name, out.Reason = wire.NullString(source.String()), wire.NullString(last), "own_entry"
		out.Input, out.Output = &own.Input, &own.Output
		return out
	}
	if s.Catalogue == nil {
		return out
	}
	m, found := s.Catalogue.Find(last)
	if !found {
		return out
	}
	out.Published = new(newCatalogueEntry(m, s.Now()))
	// The price is shown all the same: it is what turning the catalogue on would give.
	if !path.UsesCatalogue {
		out.Reason = "catalogue_off"
		return out
	}
	if source == storage.PriceOwn {
		source = storage.PriceCatalogue
	}
	out.Source, out.Name = wire.NullString(source.String()), wire.NullString(m.Provider.ID+"/"+m.ID)
	out.Version, out.Input, out.Output = wire.NullString(s.Catalogue.Version()), out.Published.Input, out.Published.Output
	out.Reason = matchKind(m, last)
	return out
}

// matchKind says how the name matches the entry: exactly, with its provider, or by a rule of the
// data set.
func matchKind(m *prices.Model, name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	is := func(other string) bool { return strings.ToLower(other) == name }
	switch {
	case is(m.ID) || slices.ContainsFunc(m.Names, is):
		return "exact_name"
	case is(m.Provider.ID + "/" + m.ID):
		return "provider_name"
	}
	return "data_set_rule"
}
