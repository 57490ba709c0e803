package server

import (
	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const maxModel = 255 // characters of a name

type priceJSON struct {
	ID     uuid.UUID    `json:"id"`
	Model  string       `json:"model"`
	Input  *plans.Price `json:"input_cost_per_token"` // null with same_as
	Output *plans.Price `json:"output_cost_per_token"`
	SameAs string       `json:"same_as,omitempty"`
	Active bool         `json:"is_active"`
}

func priceOf(p storage.ModelPrice) priceJSON {
	out := priceJSON{ID: p.ID, Model: p.Model, SameAs: p.SameAs, Active: p.Active}
	if p.SameAs == "" {
		out.Input, out.Output = &p.Input, &p.Output
	}
	return out
}

func (s *Server) listPrices(c *call) error {
	q := request.ReadQuery(c.r)
	inactive := q.Bool("include_inactive")
	if err := q.Err(); err != nil {
		return err
	}
	prices, err := s.store.Prices(c.ctx(), c.who.workspace, inactive != nil && *inactive)
	return c.ok(wire.Map(prices, priceOf), err)
}

func (s *Server) setPrice(c *call) error {
	model, pathErr := c.pathRest("model")
	o, err := s.object(c)
	if err != nil {
		return request.Join(pathErr, err)
	}
	price := storage.ModelPrice{Model: model}
	if o.Has("same_as") { // prices beside it are refused, as fields that are not known are
		price.SameAs = o.String("same_as", 1, maxModel)
	} else {
		price.Input, price.Output = o.Price("input_cost_per_token"), o.Price("output_cost_per_token")
	}
	price.Active = o.OptionalBool("is_active", true)
	o.RefuseUnknown()
	if err := request.Join(pathErr, o.Err()); err != nil {
		return err
	}
	price, err = s.store.SetPrice(c.ctx(), c.who.workspace, price)
	return c.ok(struct {
		priceJSON
		Warning string `json:"warning,omitempty"`
	}{priceOf(price), priceWarning(price)}, err)
}

// likelyPerToken is what no model's token costs, and many a million of them do: $0.01.
const likelyPerToken plans.Price = 10_000_000_000

// priceWarning says what a price means that was probably meant for a million
// tokens; "" for others.
func priceWarning(p storage.ModelPrice) string {
	highest := max(p.Input, p.Output)
	if highest <= likelyPerToken {
		return ""
	}
	return "This is a price for one token: at $" + highest.String() + " each, a million tokens cost $" +
		highest.PerMillion() + ". Prices are often given for a million tokens; divide those by 1,000,000."
}
