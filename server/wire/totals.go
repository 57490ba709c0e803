package wire

import (
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// Totals are sums over a time, and what they do not hold.
type Totals struct {
	Spend   plans.Money `json:"total_usd"`
	Tokens  int64       `json:"total_tokens"`
	Runs    int64       `json:"run_count"`
	Denials int64       `json:"denial_count"`
	Gaps
	Capped bool `json:"capped"`
}

// TotalsOf writes sums as the API does.
func TotalsOf(t storage.Totals) Totals {
	return Totals{t.Spend, t.Tokens, t.Runs, t.Denials, Gaps(t.Gaps), t.Capped}
}

// Gaps is what a spend does not hold.
type Gaps struct {
	UnpricedTokens    int64 `json:"unpriced_tokens"`
	UnpricedSteps     int64 `json:"unpriced_step_count"`
	CallsWithoutUsage int64 `json:"calls_without_usage"`
}
