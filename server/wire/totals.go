package wire

import (
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// Totals are sums over a period, with what could not be counted in them.
type Totals struct {
	Spend   plans.Money `json:"total_usd"`
	Tokens  int64       `json:"total_tokens"`
	Runs    int64       `json:"run_count"`
	Denials int64       `json:"denial_count"`
	UnpricedUsage
	Capped bool `json:"capped"`
}

// TotalsOf converts sums to their JSON form.
func TotalsOf(t storage.Totals) Totals {
	return Totals{t.Spend, t.Tokens, t.Runs, t.Denials, UnpricedUsage(t.UnpricedUsage), t.Capped}
}

// UnpricedUsage is the usage whose cost is missing in a spend; see storage.UnpricedUsage.
type UnpricedUsage struct {
	UnpricedTokens    int64 `json:"unpriced_tokens"`
	UnpricedSteps     int64 `json:"unpriced_step_count"`
	CallsWithoutUsage int64 `json:"calls_without_usage"`
}
