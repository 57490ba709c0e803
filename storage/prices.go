package storage

import (
	"context"
	"database/sql"
	"errors"

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
	err = s.configure(ctx, func(tx *Tx) (auditEvent, error) {
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
	Ring          bool        // the names lead round, and to no price
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
		path.Ring = true
		return nil
	})
	return path, err
}
