package storage

import (
	"database/sql"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

// ServiceTier is how a provider served a call. The values are stored: never renumber.
type ServiceTier uint8

// String is the word that the API uses; empty where none was said.
func (t ServiceTier) String() string {
	if t == 0 {
		return ""
	}
	return enumName("service tier", int(t), "default", "batch", "flex", "priority", "fast")
}

// ParseServiceTier reads a provider's word for a service tier; 0 for one that is not known.
func ParseServiceTier(text string) ServiceTier {
	tier, _ := prices.ServiceTier(text)
	return ServiceTier(enumValue(tier, "default", "batch", "flex", "priority", "fast"))
}

// rates is the tier as the catalogue names it: empty where the common prices hold.
func (t ServiceTier) rates() string {
	if t.String() == "default" {
		return ""
	}
	return t.String()
}

// Parts is what a step has used beside the whole of its prompt and completion.
type Parts struct {
	Cached       int64 // of the prompt: read from a cache
	CacheWrite   int64 // of the prompt: written to one
	CacheWrite1h int64 // of those written: to be kept for an hour
	Reasoning    int64 // of the completion
	Tier         ServiceTier
	ReportedCost *plans.Money // what the provider says that the call cost
}

// parts is Parts as it is stored.
type parts struct {
	cached, cacheWrite, cacheWrite1h, reasoning int64
	tier                                        ServiceTier
	reportedCost                                sql.NullInt64
}

func (p parts) shown() Parts {
	return Parts{
		Cached: p.cached, CacheWrite: p.cacheWrite, CacheWrite1h: p.cacheWrite1h, Reasoning: p.reasoning,
		Tier: p.tier, ReportedCost: int64Ptr[plans.Money](p.reportedCost),
	}
}

// partPrices are the prices of the parts, in pico-USD a token.
type partPrices struct{ cached, cacheWrite, cacheWrite1h, reasoning int64 }

func partPricesOf(t prices.Table) partPrices {
	return partPrices{
		cached: int64(t.Price(prices.Cached)), cacheWrite: int64(t.Price(prices.CacheWrite)),
		cacheWrite1h: int64(t.Price(prices.CacheWrite1h)), reasoning: int64(t.Price(prices.Reasoning)),
	}
}

// counts are all tokens that were reported.
func (u *usage) counts() prices.Tokens {
	return prices.Tokens{
		Prompt: u.reported.prompt, Cached: u.parts.cached, CacheWrite: u.parts.cacheWrite,
		CacheWrite1h: u.parts.cacheWrite1h, Completion: u.reported.completion, Reasoning: u.parts.reasoning,
	}
}

// take sets what an update says. A whole that is less than its parts becomes
// their sum, so that nothing that was used goes uncharged; take names it then.
func (u *usage) take(in StepUpdate) (raised Repairs) {
	set := func(to *int64, n *int64) {
		if n != nil {
			*to = *n
		}
	}
	set(&u.reported.prompt, in.PromptTokens)
	set(&u.reported.completion, in.CompletionTokens)
	set(&u.parts.cached, in.CachedTokens)
	set(&u.parts.cacheWrite, in.CacheWriteTokens)
	set(&u.parts.cacheWrite1h, in.CacheWrite1hTokens)
	set(&u.parts.reasoning, in.ReasoningTokens)
	if in.ServiceTier != 0 {
		u.parts.tier = in.ServiceTier
	}
	if in.ReportedCost != nil {
		u.parts.reportedCost = sql.NullInt64{Int64: int64(*in.ReportedCost), Valid: true}
	}
	u.parts.cacheWrite = max(u.parts.cacheWrite, u.parts.cacheWrite1h)
	// Each part is at most plans.MaxTokens, and so is their sum.
	u.parts.cacheWrite = min(u.parts.cacheWrite, plans.MaxTokens-u.parts.cached)
	u.parts.cacheWrite1h = min(u.parts.cacheWrite1h, u.parts.cacheWrite)
	if least := u.parts.cached + u.parts.cacheWrite; u.reported.prompt < least {
		u.reported.prompt = least
		raised |= RepairOf("prompt_tokens")
	}
	if u.reported.completion < u.parts.reasoning {
		u.reported.completion = u.parts.reasoning
		raised |= RepairOf("completion_tokens")
	}
	return raised
}

// saveParts stores what the step has used beside the wholes, if anything.
func (row *stepRow) saveParts(tx *Tx, runID int64, was usage) error {
	p, at := row.used.parts, row.used.partPrices
	switch {
	case p == was.parts && at == was.partPrices:
		return nil
	case p == parts{}:
		_, err := tx.exec(`DELETE FROM step_usage WHERE segment = $1 AND run_id = $2 AND step_uuid = $3`, row.segment, runID, row.ID[:])
		return err
	}
	_, err := tx.exec(`INSERT INTO step_usage (segment, run_id, step_uuid, cached_tokens, cache_write_tokens, cache_write_1h_tokens,
			reasoning_tokens, service_tier, reported_nanos, cached_picos, cache_write_picos, cache_write_1h_picos, reasoning_picos)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (segment, run_id, step_uuid) DO UPDATE SET cached_tokens = excluded.cached_tokens,
			cache_write_tokens = excluded.cache_write_tokens, cache_write_1h_tokens = excluded.cache_write_1h_tokens,
			reasoning_tokens = excluded.reasoning_tokens, service_tier = excluded.service_tier,
			reported_nanos = excluded.reported_nanos, cached_picos = excluded.cached_picos,
			cache_write_picos = excluded.cache_write_picos, cache_write_1h_picos = excluded.cache_write_1h_picos,
			reasoning_picos = excluded.reasoning_picos`,
		row.segment, runID, row.ID[:], p.cached, p.cacheWrite, p.cacheWrite1h, p.reasoning, int64(p.tier), p.reportedCost,
		at.cached, at.cacheWrite, at.cacheWrite1h, at.reasoning)
	return err
}

// toolPrefix is before a tool's name where a price is for its calls.
const toolPrefix = "tool:"

// findTool gives a call of a tool the entry that prices it, if there is one. In the books
// it then has that entry's name as its model.
func (row *stepRow) findTool(tx *Tx, ws *cachedWorkspace) error {
	if !ws.hasToolPrices || row.Type != ToolCall || row.ToolName == nil || row.model.Valid {
		return nil
	}
	id, err := tx.cache.modelIDs.get(tx, nameKey{ws.key, toolPrefix + *row.ToolName})
	if err != nil {
		return ignoreNotFound(err)
	}
	price, err := tx.cache.price(tx, idKey{ws.key, id.id})
	if err == nil && price != nil {
		row.model = nullZero(id.id)
	}
	return err
}

// costsByCall reports whether the call itself has a price, so that it costs
// something without any tokens.
func (row *stepRow) costsByCall(tx *Tx, ws *cachedWorkspace) (bool, error) {
	if err := row.findTool(tx, ws); err != nil || !row.model.Valid {
		return false, err
	}
	price, err := tx.cache.price(tx, idKey{ws.key, row.model.Int64})
	return price != nil && price.rates.PerCall != 0, err
}
