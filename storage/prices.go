package storage

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// ModelPrice is what a model's tokens cost a workspace: two prices, or the name of
// a model that costs the same.
type ModelPrice struct {
	ID            uuid.UUID
	Model         string
	Input, Output plans.Price // a token; 0 with SameAs
	SameAs        string      // empty with prices
	Active        bool
}

// prices returns the two prices as they are stored: null with SameAs.
func (p ModelPrice) prices() (input, output sql.NullInt64) {
	has := p.SameAs == ""
	return sql.NullInt64{Int64: int64(p.Input), Valid: has}, sql.NullInt64{Int64: int64(p.Output), Valid: has}
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
	err = s.configure(ctx, func(tx *Tx) (deed, error) {
		done := deed{ws: ws, action: ActionSetPrice, target: in.Model, became: factsOfPrice(in)}
		id, err := internModel(tx, ws, &in.Model)
		if err != nil {
			return done, err
		}
		if done.was, err = priceFacts(tx, ws, id); err != nil {
			return done, err
		}
		tx.recordChange(Change{Workspace: ws, Kind: ConfigChanged, Part: PartPrices})
		out = in
		input, output := in.prices()
		return done, tx.get(`UPDATE models SET input_picos = $3, output_picos = $4, is_active = $5, same_as = $6
			WHERE workspace_id = $1 AND id = $2 RETURNING uuid`,
			[]any{ws, id, input, output, boolInt(in.Active), nullString(in.SameAs)}, &out.ID)
	})
	return out, err
}

// priceFacts is what the audit log says of a model's price; nil when it has none.
func priceFacts(tx *Tx, ws WorkspaceKey, model int64) (facts, error) {
	var p ModelPrice
	err := tx.get(`SELECT coalesce(input_picos, 0), coalesce(output_picos, 0), coalesce(same_as, ''), is_active FROM models
		WHERE workspace_id = $1 AND id = $2 AND (input_picos IS NOT NULL OR same_as IS NOT NULL)`,
		[]any{ws, model}, &p.Input, &p.Output, &p.SameAs, &p.Active)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return factsOfPrice(p), err
}

func factsOfPrice(p ModelPrice) facts {
	if p.SameAs != "" {
		return facts{"same_as": p.SameAs, "is_active": p.Active}
	}
	return facts{"input_cost_per_token": p.Input, "output_cost_per_token": p.Output, "is_active": p.Active}
}

// Prices lists the entries of a workspace by name.
func (s *Store) Prices(ctx context.Context, ws WorkspaceKey, includeInactive bool) (prices []ModelPrice, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT uuid, name, coalesce(input_picos, 0), coalesce(output_picos, 0), coalesce(same_as, ''), is_active
			FROM models WHERE workspace_id = $1 AND (input_picos IS NOT NULL OR same_as IS NOT NULL) AND is_active >= $2 ORDER BY name`,
			[]any{ws, boolInt(!includeInactive)}, func(rows scanner) error {
				var p ModelPrice
				err := rows.Scan(&p.ID, &p.Model, &p.Input, &p.Output, &p.SameAs, &p.Active)
				prices = append(prices, p)
				return err
			})
	})
	return prices, err
}
