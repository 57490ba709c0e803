package server

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const maxModel = 255 // characters of a name

// priceJSON is a workspace's own entry for a model: prices in USD per token or per call, or another
// model's name in same_as.
type priceJSON struct {
	ID     uuid.UUID    `json:"id"`
	Model  string       `json:"model"`
	Input  *plans.Price `json:"input_cost_per_token"` // null with same_as
	Output *plans.Price `json:"output_cost_per_token"`
	Cached *plans.Price `json:"cached_input_cost_per_token,omitempty"`
	Write  *plans.Price `json:"cache_write_cost_per_token,omitempty"`
	// Tiers and PerCall are left out unless the entry has them.
	Tiers   []ownTierJSON `json:"tiers,omitempty"`
	PerCall *plans.Money  `json:"cost_per_call,omitempty"`
	SameAs  string        `json:"same_as,omitempty"`
	Active  bool          `json:"is_active"`
}

// ownTierJSON is a tier of an entry: the prices of calls with a longer prompt.
type ownTierJSON struct {
	AbovePrompt int64       `json:"above_prompt_tokens"`
	Input       plans.Price `json:"input_cost_per_token"`
	Output      plans.Price `json:"output_cost_per_token"`
}

// priceOf converts an entry for the API.
func priceOf(p storage.ModelPrice) priceJSON {
	out := priceJSON{ID: p.ID, Model: p.Model, SameAs: p.SameAs, Active: p.Active}
	if p.SameAs == "" {
		out.Input, out.Output = &p.Input, &p.Output
	}
	if p.Rates == nil {
		return out
	}
	table := tableOf(p.Rates.Table)
	out.Cached, out.Write = table.Cached, table.CacheWrite
	for _, tier := range p.Rates.Tiers {
		out.Tiers = append(out.Tiers, ownTierJSON{tier.AbovePrompt, tier.Price(prices.Input), tier.Price(prices.Output)})
	}
	if p.Rates.PerCall != 0 {
		out.PerCall = &p.Rates.PerCall
	}
	return out
}

// listPrices answers GET /v1/model-pricing/ with the workspace's own entries.
func (s *Server) listPrices(c *call) error {
	q := request.ReadQuery(c.r)
	inactive := q.Bool("include_inactive")
	if err := q.Err(); err != nil {
		return err
	}
	list, err := s.store.Prices(c.ctx(), c.who.workspace, inactive != nil && *inactive)
	return c.ok(wire.Map(list, priceOf), err)
}

// setPrice answers PUT /v1/model-pricing/{model}. It changes no step of the past; reprice does.
func (s *Server) setPrice(c *call) error {
	model, pathErr := c.pathRest("model")
	o, err := s.object(c)
	if err != nil {
		return request.Join(pathErr, err)
	}
	price := storage.ModelPrice{Model: model}
	if o.Has("same_as") { // prices beside it are then unknown fields, and refused
		price.SameAs = o.String("same_as", 1, maxModel)
	} else {
		readPrices(o, &price)
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

// maxTiers is how many tiers an entry may have. No provider has more than two.
const maxTiers = 10

// readPrices reads an entry's prices. Input and output are required unless there is a price per
// call.
func readPrices(o *request.Object, price *storage.ModelPrice) {
	perCall := o.OptionalMoney("cost_per_call")
	if perCall == nil || o.Has("input_cost_per_token") || o.Has("output_cost_per_token") {
		price.Input, price.Output = o.Price("input_cost_per_token"), o.Price("output_cost_per_token")
	}
	var rates prices.Rates
	rates.Set(prices.Input, price.Input)
	rates.Set(prices.Output, price.Output)
	more := perCall != nil
	if more {
		rates.PerCall = *perCall
	}
	for class, name := range map[prices.Class]string{
		prices.Cached: "cached_input_cost_per_token", prices.CacheWrite: "cache_write_cost_per_token",
	} {
		if own := o.OptionalPrice(name); own != nil {
			rates.Set(class, *own)
			more = true
		}
	}
	// A tier replaces input and output for calls with a longer prompt; what it leaves out follows
	// from those.
	o.Objects("tiers", maxTiers, func(item *request.Object) {
		tier := prices.Tier{AbovePrompt: item.Int("above_prompt_tokens", 1, plans.MaxTokens)}
		tier.Set(prices.Input, item.Price("input_cost_per_token"))
		tier.Set(prices.Output, item.Price("output_cost_per_token"))
		item.RefuseUnknown()
		rates.Tiers = append(rates.Tiers, tier)
		more = true
	})
	// In ascending order, as prices are looked up; callers may send them in any.
	slices.SortStableFunc(rates.Tiers, func(a, b prices.Tier) int { return cmp.Compare(a.AbovePrompt, b.AbovePrompt) })
	for i := 1; i < len(rates.Tiers); i++ {
		if rates.Tiers[i].AbovePrompt == rates.Tiers[i-1].AbovePrompt {
			o.Refuse("tiers", "two tiers begin at the same number of tokens")
			break
		}
	}
	if more {
		price.Rates = &rates
	}
}

// priceWarning returns a warning if the price was probably meant for a million tokens, or "".
func priceWarning(p storage.ModelPrice) string {
	highest := max(p.Input, p.Output)
	if p.Rates != nil {
		highest = max(highest, p.Rates.Highest())
	}
	if highest <= prices.LikelyPerToken {
		return ""
	}
	return "This is a price for one token: at $" + highest.String() +
		" each, a million tokens cost $" +
		highest.PerMillion() +
		". Prices are often given for a million tokens; divide those by 1,000,000."
}

// repriceWait bounds one call of reprice; the caller continues with the cursor. It is shorter than
// proxies commonly wait for an answer.
const repriceWait = 20 * time.Second

// RepricedJSON is what a re-pricing has changed, or would have.
type RepricedJSON struct {
	Steps      int64             `json:"steps"`
	Before     plans.Money       `json:"before_usd"`
	After      plans.Money       `json:"after_usd"`
	Difference plans.Money       `json:"difference_usd"`
	Days       []repricedDayJSON `json:"days"`
	DryRun     bool              `json:"dry_run"`
	Next       wire.NullString   `json:"next_cursor"` // null when all is done
}

// repricedDayJSON is by how much a day's spend changes.
type repricedDayJSON struct {
	Date       string      `json:"date"`
	Difference plans.Money `json:"difference_usd"`
}

// RepricedOf is how the API writes it.
func RepricedOf(r storage.Repriced, dryRun bool) RepricedJSON {
	out := RepricedJSON{
		Steps: r.Steps, Before: r.Before, After: r.After, Difference: r.Difference(),
		Days: []repricedDayJSON{}, DryRun: dryRun, Next: wire.NullString(r.Next),
	}
	for _, d := range r.Days {
		out.Days = append(out.Days, repricedDayJSON{d.Date.Format(time.DateOnly), d.Difference})
	}
	return out
}

// reprice prices past steps anew. since and until are widened to whole UTC days.
func (s *Server) reprice(c *call) error {
	o, err := s.optionalObject(c)
	if err != nil {
		return err
	}
	in := storage.Repricing{
		OnlyUnpriced: o.OptionalBool("only_unpriced", true), DryRun: o.OptionalBool("dry_run", true), Wait: repriceWait,
	}
	if model := o.OptionalString("model", 1, maxModel); model != nil {
		in.Model = *model
	}
	since, until := o.OptionalTime("since"), o.OptionalTime("until")
	// Steps are booked on UTC days, so a price that changes at noon is applied to whole days.
	if in.From = since.UTC().Truncate(day); since.IsZero() {
		in.From = since
	}
	if in.To = until.UTC().Add(day - 1).Truncate(day); until.IsZero() {
		in.To = until
	}
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		o.Refuse("since", "must be before until")
	}
	if cursor := o.OptionalString("cursor", 1, maxCursor); cursor != nil {
		in.Cursor = *cursor
	}
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	out, err := s.store.Reprice(c.ctx(), c.who.workspace, in)
	if errors.Is(err, storage.ErrBadCursor) {
		return request.Invalid([]any{"body", "cursor"}, "not a cursor of this call", in.Cursor)
	}
	return c.ok(RepricedOf(out, in.DryRun), err)
}
