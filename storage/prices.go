package storage

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

// ModelPrice is what a model's tokens cost a workspace: two prices, or the name of
// a model that costs the same.
type ModelPrice struct {
	ID            uuid.UUID
	Model         string
	Input, Output plans.Price   // a token; 0 with SameAs
	SameAs        string        // empty with prices
	Rates         *prices.Rates // all prices, the two among them, where there are more; else nil
	Active        bool
}

// prices returns the prices as they are stored: null with SameAs.
func (p ModelPrice) prices() (input, output sql.NullInt64, rates sql.NullString) {
	has := p.SameAs == ""
	if has && p.Rates != nil {
		rates = sql.NullString{String: p.Rates.String(), Valid: true}
	}
	return sql.NullInt64{Int64: int64(p.Input), Valid: has}, sql.NullInt64{Int64: int64(p.Output), Valid: has}, rates
}

// priceColumns are those that scanPrice reads.
const priceColumns = `coalesce(input_picos, 0), coalesce(output_picos, 0), coalesce(rates, ''), coalesce(same_as, ''), is_active`

// targets are what priceColumns are read into, but for the rates' text.
func (p *ModelPrice) targets(rates *string) []any {
	return []any{&p.Input, &p.Output, rates, &p.SameAs, &p.Active}
}

// setRates parses an entry's rates: all of its prices as one text, if it has more than input and
// output.
func (p *ModelPrice) setRates(text string) error {
	if text == "" {
		return nil
	}
	rates, err := prices.ParseRates(text)
	p.Rates = &rates
	return err
}

// internModel finds or makes the row of a model's name; 0 for no model.
func internModel(tx *Tx, ws WorkspaceKey, model *string) (int64, error) {
	if model == nil {
		return 0, nil
	}
	key := nameKey{ws, *model}
	m, err := tx.cache.modelIDs.get(tx, key)
	if !errors.Is(err, ErrNotFound) {
		return m.id, err
	}
	id := newID(tx.now)
	err = tx.get(`INSERT INTO models (uuid, workspace_id, name, is_active) VALUES ($1, $2, $3, 0) RETURNING id`,
		[]any{id[:], ws, *model}, &m.id)
	if err == nil {
		tx.cache.modelIDs.put(tx, key, m)
	}
	return m.id, err
}

// SetPrice sets or replaces a model's price, for usage first reported from now on.
func (s *Store) SetPrice(ctx context.Context, ws WorkspaceKey, in ModelPrice) (out ModelPrice, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: ActionSetPrice, target: in.Model, after: priceAttributes(in)}
		id, err := internModel(tx, ws, &in.Model)
		if err != nil {
			return event, err
		}
		if event.before, err = storedPriceAttributes(tx, ws, id); err != nil {
			return event, err
		}
		tx.recordChange(Change{Workspace: ws, Kind: ConfigChanged, Part: PartPrices})
		out = in
		input, output, rates := in.prices()
		return event, tx.get(`UPDATE models SET input_picos = $3, output_picos = $4, is_active = $5, same_as = $6, rates = $7
			WHERE workspace_id = $1 AND id = $2 RETURNING uuid`,
			[]any{ws, id, input, output, boolInt(in.Active), nullString(in.SameAs), rates}, &out.ID)
	})
	return out, err
}

// storedPriceAttributes reads a model's price for the audit log; nil when it has none.
func storedPriceAttributes(tx *Tx, ws WorkspaceKey, model int64) (attributes, error) {
	var p ModelPrice
	var rates string
	err := tx.get(`SELECT `+priceColumns+` FROM models
		WHERE workspace_id = $1 AND id = $2 AND (input_picos IS NOT NULL OR same_as IS NOT NULL)`,
		[]any{ws, model}, p.targets(&rates)...)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err == nil {
		err = p.setRates(rates)
	}
	return priceAttributes(p), err
}

// priceAttributes is what the audit log records of a price.
func priceAttributes(p ModelPrice) attributes {
	if p.SameAs != "" {
		return attributes{"same_as": p.SameAs, "is_active": p.Active}
	}
	f := attributes{"input_cost_per_token": p.Input, "output_cost_per_token": p.Output, "is_active": p.Active}
	if p.Rates != nil {
		f["rates"] = p.Rates.String()
	}
	return f
}

// Prices lists the entries of a workspace by name.
func (s *Store) Prices(ctx context.Context, ws WorkspaceKey, includeInactive bool) (list []ModelPrice, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT uuid, name, `+priceColumns+` FROM models WHERE workspace_id = $1 AND (input_picos IS NOT NULL OR same_as IS NOT NULL) AND is_active >= $2 ORDER BY name`,
			[]any{ws, boolInt(!includeInactive)}, func(rows scanner) error {
				var p ModelPrice
				var rates string
				err := rows.Scan(append([]any{&p.ID, &p.Model}, p.targets(&rates)...)...)
				if err == nil {
					err = p.setRates(rates)
				}
				list = append(list, p)
				return err
			})
	})
	return list, err
}

// PricePath is how a workspace's own entries lead from a model's name to its price.
type PricePath struct {
	Names         []string    // the name, and those that it says cost the same, in turn
	Own           *ModelPrice // the entry whose prices are taken; nil for none
	Cycle         bool        // the names form a cycle, so there is no price
	UsesCatalogue bool        // where no entry is left, the catalogue is asked for the last name
}

// FollowPrice finds the entries that the price of a step with this model's name
// would come from, by the rule of cachedModel.findPrice. It changes nothing.
func (s *Store) FollowPrice(ctx context.Context, ws WorkspaceKey, name string) (path PricePath, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		path = PricePath{}
		err := tx.get(`SELECT price_catalogue FROM workspaces WHERE id = $1`, []any{ws}, &path.UsesCatalogue)
		if err != nil {
			return err
		}
		next := name
		for range maxAliases {
			path.Names = append(path.Names, next)
			entry, err := activeEntry(tx, ws, next)
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			if !entry.sameAs.Valid {
				path.Own = &ModelPrice{Model: next, Input: entry.input, Output: entry.output, Active: true}
				return path.Own.setRates(entry.rates.String)
			}
			next = entry.sameAs.String
		}
		path.Cycle = true
		return nil
	})
	return path, err
}

// PriceSource is where a price comes from. The values are stored: never renumber.
type PriceSource uint8

// The sources of a price.
const (
	PriceOwn       PriceSource = 1 // the workspace's entry of the model's own name
	PriceAlias     PriceSource = 2 // another name, which the workspace's entry says is the same
	PriceCatalogue PriceSource = 3
	PriceReported  PriceSource = 4 // no entry, but the provider's own word; of no price_points
)

// String is the word that the API uses.
func (s PriceSource) String() string {
	return enumName("price source", int(s), "own", "alias", "catalogue", "reported")
}

// PriceOrigin is which entry a price is of. The zero value is that of no price.
type PriceOrigin struct {
	Source  PriceSource
	Name    string // of the entry that matched
	Version string // of the catalogue; empty for a workspace's own entry
}

// pricePoint is the prices of a model, and which entry they are of. It never changes.
type pricePoint struct {
	id int64 // of its row in price_points; 0 for an entry of the model's own name, which has none
	PriceOrigin
	rates prices.Rates
}

// cachedPoint is a row of price_points.
type cachedPoint struct {
	cached
	pricePoint
}

// loadPoint reads the prices that steps were charged with. Steps refer to a point instead of
// repeating its text.
func loadPoint(tx *Tx, key idKey) (*cachedPoint, error) {
	p := &cachedPoint{pricePoint: pricePoint{id: key.id}}
	var rates string
	err := tx.get(`SELECT source, name, version, rates FROM price_points WHERE id = $1 AND workspace_id = $2`,
		[]any{key.id, key.ws},
		&p.Source, &p.Name, &p.Version, &rates)
	if errors.Is(err, ErrNotFound) {
		err = missingRow("a price that there is a step of")
	}
	if err != nil {
		return p, err
	}
	p.rates, err = prices.ParseRates(rates)
	return p, err
}

// save has nothing to write: a point never changes.
func (p *cachedPoint) save(*Tx) error { return nil }

// intern finds or makes the row that a workspace's steps at these prices share.
func (p *pricePoint) intern(tx *Tx, ws WorkspaceKey) error {
	rates := p.rates.String()
	err := tx.get(`SELECT id FROM price_points WHERE workspace_id = $1 AND source = $2 AND name = $3
		AND version = $4 AND rates = $5`, []any{ws, int64(p.Source), p.Name, p.Version, rates}, &p.id)
	switch {
	case !errors.Is(err, ErrNotFound):
		return err
	case tx.reader:
		p.id = tx.cache.unsavedPoint(*p)
		return nil
	}
	return tx.get(`INSERT INTO price_points (workspace_id, source, name, version, rates, call_nanos)
		VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
		[]any{ws, int64(p.Source), p.Name, p.Version, rates, int64(p.rates.PerCall)}, &p.id)
}

// unsavedPoint gives prices that no step was charged at yet an id below zero, for
// a dry run, which can write nothing.
func (c *cache) unsavedPoint(p pricePoint) int64 {
	i := slices.IndexFunc(c.unsaved, func(q pricePoint) bool {
		return p.PriceOrigin == q.PriceOrigin && p.rates.String() == q.rates.String()
	})
	if i < 0 {
		i, c.unsaved = len(c.unsaved), append(c.unsaved, p)
	}
	return -1 - int64(i)
}

// cachedModel is a model and its price now, if it has one.
type cachedModel struct {
	cached
	priced bool
	price  pricePoint // where priced
	// published is the catalogue's entry, where the price is the catalogue's.
	published *prices.Model
	// The price is that of the moments from one to before the other; zero where there is no such
	// bound.
	from, until time.Time
}

// loadModel finds a model's price: the workspace's own entry, or the catalogue's.
func loadModel(tx *Tx, key idKey) (*cachedModel, error) {
	m := &cachedModel{}
	var name string
	err := tx.get(`SELECT name FROM models WHERE id = $1 AND workspace_id = $2`, []any{key.id, key.ws}, &name)
	if err != nil {
		return m, err
	}
	return m, m.findPrice(tx, key.ws, name)
}

// save has nothing to write: prices are changed by SQL, which invalidates.
func (m *cachedModel) save(*Tx) error { return nil }

// holds reports whether the price is still, or already, that of a moment.
func (m *cachedModel) holds(now time.Time) bool {
	return !now.Before(m.from) && (m.until.IsZero() || now.Before(m.until))
}

// maxAliases is how many names are followed from one to the next. It also ends
// a ring of names, which has no price.
const maxAliases = 16

// findPrice looks for the first that there is: the workspace's own active entry
// of the name, the price of the name that the entry says is the same, or that
// of the catalogue, where the workspace uses it.
func (m *cachedModel) findPrice(tx *Tx, ws WorkspaceKey, name string) error {
	source := PriceOwn
	for range maxAliases {
		entry, err := activeEntry(tx, ws, name)
		switch {
		case errors.Is(err, ErrNotFound):
			return m.findPublished(tx, ws, name, source)
		case err != nil:
			return err
		case entry.sameAs.Valid:
			source, name = PriceAlias, entry.sameAs.String
			continue
		}
		m.priced, m.price.PriceOrigin = true, PriceOrigin{Source: source, Name: name}
		if m.price.rates, err = entry.all(); err != nil {
			return err
		}
		if source == PriceOwn && !entry.rates.Valid {
			return nil // the step keeps the two prices itself
		}
		return m.price.intern(tx, ws)
	}
	return nil
}

// findPublished looks for a name in the catalogue.
func (m *cachedModel) findPublished(tx *Tx, ws WorkspaceKey, name string, source PriceSource) error {
	catalogue := tx.cache.catalogue
	if catalogue == nil {
		return nil
	}
	w, err := tx.cache.workspaces.get(tx, ws)
	if err != nil || !w.priceCatalogue {
		return err
	}
	published, ok := catalogue.Find(name)
	if !ok {
		return nil
	}
	m.published = published
	m.from, m.until = published.Period(tx.now)
	if source == PriceOwn {
		source = PriceCatalogue
	}
	m.priced, m.price = true, pricePoint{
		PriceOrigin: PriceOrigin{Source: source, Name: published.Provider.ID + "/" + published.ID, Version: catalogue.Version()},
		rates:       published.Rates(tx.now, ""),
	}
	return m.price.intern(tx, ws)
}

// ownEntry is what a workspace says that a model costs: two prices, all that
// there are, or the name of a model that costs the same.
type ownEntry struct {
	input, output plans.Price
	rates         sql.NullString // as prices.Rates writes them; null where the two are all
	sameAs        sql.NullString
}

// all returns the entry's rates, whichever way they are stored.
func (e ownEntry) all() (prices.Rates, error) {
	if e.rates.Valid {
		return prices.ParseRates(e.rates.String)
	}
	return twoPrices(e.input, e.output), nil
}

// twoPrices are the rates of an entry that has only an input and an output price.
func twoPrices(input, output plans.Price) (r prices.Rates) {
	r.Set(prices.Input, input)
	r.Set(prices.Output, output)
	return r
}

// activeEntry reads the workspace's entry for a model, unless it is switched off.
func activeEntry(tx *Tx, ws WorkspaceKey, name string) (e ownEntry, err error) {
	err = tx.get(`SELECT coalesce(input_picos, 0), coalesce(output_picos, 0), rates, same_as FROM models
		WHERE workspace_id = $1 AND name = $2 AND is_active = 1 AND (input_picos IS NOT NULL OR same_as IS NOT NULL)`,
		[]any{ws, name}, &e.input, &e.output, &e.rates, &e.sameAs)
	return e, err
}

// price is what a model costs at the time of the transaction; nil without a price.
func (c *cache) price(tx *Tx, model idKey) (*pricePoint, error) {
	found, err := c.models.get(tx, model)
	if err == nil && !found.holds(tx.now) {
		c.models.remove(model)
		found, err = c.models.get(tx, model)
	}
	if err != nil || !found.priced {
		return nil, err
	}
	return &found.price, nil
}

// chargedRates returns the prices that the step was charged. It is nil if the step has no price, or
// only the input and output prices that its own row stores.
func (row *stepRow) chargedRates(tx *Tx, ws WorkspaceKey) (*prices.Rates, error) {
	if row.used.point == 0 {
		return nil, nil
	}
	if row.used.point < 0 {
		return &tx.cache.unsaved[-1-row.used.point].rates, nil
	}
	point, err := tx.cache.points.get(tx, idKey{ws, row.used.point})
	if err != nil {
		return nil, err
	}
	return &point.rates, nil
}

// findPrice gives the step the price of its model for its service tier, if there is one.
func (row *stepRow) findPrice(tx *Tx, ws WorkspaceKey) error {
	if !row.model.Valid {
		return nil
	}
	model := idKey{ws, row.model.Int64}
	price, err := tx.cache.price(tx, model)
	if err == nil && price != nil && row.used.parts.tier.rates() != "" {
		price, err = tx.cache.tierPrice(tx, model, row.used.parts.tier)
	}
	if err != nil || price == nil {
		return err
	}
	row.Price, row.used.point = price.PriceOrigin, price.id
	row.used.charge(price.rates.Table)
	return nil
}

// tierPrice is what a model that has a price costs by a service tier. Only the
// catalogue's tiers differ.
func (c *cache) tierPrice(tx *Tx, model idKey, tier ServiceTier) (*pricePoint, error) {
	found, err := c.models.get(tx, model)
	if err != nil || found.published == nil {
		return &found.price, err
	}
	price := pricePoint{PriceOrigin: found.price.PriceOrigin, rates: found.published.Rates(tx.now, tier.rates())}
	return &price, price.intern(tx, model.ws)
}

// charge makes these the prices that the step keeps: two, and where there are
// parts, theirs.
func (u *usage) charge(t prices.Table) {
	u.inputPrice = sql.NullInt64{Int64: int64(t.Price(prices.Input)), Valid: true}
	u.outputPrice = sql.NullInt64{Int64: int64(t.Price(prices.Output)), Valid: true}
	u.partPrices = partPrices{}
	if u.parts != (parts{}) {
		u.partPrices = partPricesOf(t)
	}
}

// price is what all that was reported costs. The prices that the step keeps
// become those of a prompt as long as this one.
func (u *usage) price(rates *prices.Rates) (plans.Money, error) {
	if rates == nil {
		input, output := plans.Price(u.inputPrice.Int64), plans.Price(u.outputPrice.Int64)
		u.charge(twoPrices(input, output).Table)
		return plans.Cost(u.reported.prompt, u.reported.completion, input, output)
	}
	u.charge(rates.At(u.reported.prompt))
	return rates.Cost(u.counts())
}
