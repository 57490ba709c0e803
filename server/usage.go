package server

import (
	"net/http"
	"strings"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const (
	defaultUsageDays = 30
	maxUsageDays     = 365
)

type reasonUsageJSON struct {
	Reason     wire.NullString `json:"reason"`
	Today      int64           `json:"today"`
	Last7Days  int64           `json:"last_7_days"`
	Last30Days int64           `json:"last_30_days"`
}

type modelUsageJSON struct {
	Model            string      `json:"model"`
	Spend            plans.Money `json:"total_usd"`
	PromptTokens     int64       `json:"prompt_tokens"`
	CompletionTokens int64       `json:"completion_tokens"`
	wire.Gaps
}

type userUsageJSON struct {
	UserID         string      `json:"user_id"`
	Spend          plans.Money `json:"total_usd"`
	Runs           int64       `json:"run_count"`
	UnpricedTokens int64       `json:"unpriced_tokens"`
}

func (s *Server) readUsage(c *call) error {
	u, err := s.store.Usage(c.ctx(), c.who.workspace)
	if err != nil {
		return err
	}
	c.json(http.StatusOK, struct {
		Today           wire.Totals       `json:"today"`
		Last7Days       wire.Totals       `json:"last_7_days"`
		Last30Days      wire.Totals       `json:"last_30_days"`
		RunningRuns     int64             `json:"running_runs"`
		ByReason        []reasonUsageJSON `json:"by_reason"`
		ByModel         []modelUsageJSON  `json:"by_model"`
		ByUser          []userUsageJSON   `json:"by_user"`
		MonthlyRuns     int64             `json:"monthly_run_count"`
		MonthlyRunLimit wire.Limit        `json:"monthly_run_limit"`
	}{
		wire.TotalsOf(u.Today), wire.TotalsOf(u.Last7Days), wire.TotalsOf(u.Last30Days),
		u.RunningRuns,
		wire.Map(u.ByReason, func(r storage.ReasonUsage) reasonUsageJSON {
			return reasonUsageJSON{wire.NullString(r.Reason.String()), r.Today, r.Last7Days,
				r.Last30Days}
		}),
		wire.Map(u.ByModel, func(m storage.ModelUsage) modelUsageJSON {
			return modelUsageJSON{m.Model, m.Spend, m.PromptTokens, m.CompletionTokens,
				wire.Gaps(m.Gaps)}
		}),
		wire.Map(u.ByUser, func(r storage.UserUsage) userUsageJSON { return userUsageJSON(r) }),
		u.MonthlyRuns, wire.Limit(u.MonthlyRunLimit),
	})
	return nil
}

type dayUsageJSON struct {
	Date             string      `json:"date"`
	Spend            plans.Money `json:"total_usd"`
	PromptTokens     int64       `json:"prompt_tokens"`
	CompletionTokens int64       `json:"completion_tokens"`
	Runs             int64       `json:"run_count"`
	BlockedRuns      int64       `json:"blocked_run_count"`
	Denials          int64       `json:"denial_count"`
	wire.Gaps
	Capped  bool             `json:"capped"`
	ByModel []modelSpendJSON `json:"by_model,omitzero"` // when asked for
}

type modelSpendJSON struct {
	Model string      `json:"model"`
	Spend plans.Money `json:"total_usd"`
}

func dayUsageOf(d storage.DayUsage) dayUsageJSON {
	out := dayUsageJSON{
		d.Date.Format(time.DateOnly), d.Spend, d.PromptTokens, d.CompletionTokens, d.Runs,
		d.BlockedRuns, d.Denials,
		wire.Gaps(d.Gaps), d.Capped, nil,
	}
	if d.ByModel != nil {
		out.ByModel = wire.Map(d.ByModel, func(m storage.ModelSpend) modelSpendJSON {
			return modelSpendJSON(m)
		})
	}
	return out
}

func (s *Server) readDailyUsage(c *call) error {
	q := request.ReadQuery(c.r)
	days := q.Int("days", defaultUsageDays, 1, maxUsageDays)
	byModel := q.Literal("by", "model") != ""
	if err := q.Err(); err != nil {
		return err
	}
	usage, err := s.store.DailyUsage(c.ctx(), c.who.workspace, days, byModel)
	return c.ok(map[string]any{"items": wire.Map(usage, dayUsageOf)}, err)
}

const (
	usageParts    = 100
	maxUsageParts = 200
)

type usagePartJSON struct {
	Value string `json:"value"`
	usageSumJSON
}

// usageSumJSON has null for what the rollup of its group does not keep.
type usageSumJSON struct {
	Spend            plans.Money `json:"total_usd"`
	PromptTokens     *int64      `json:"prompt_tokens"`
	CompletionTokens *int64      `json:"completion_tokens"`
	Runs             *int64      `json:"run_count"`
	BlockedRuns      *int64      `json:"blocked_run_count"`
}

func usageSumOf(p storage.UsagePart) usageSumJSON {
	return usageSumJSON{p.Spend, p.PromptTokens, p.CompletionTokens, p.Runs, p.BlockedRuns}
}

func usagePartOf(p storage.UsagePart) usagePartJSON { return usagePartJSON{p.Value, usageSumOf(p)} }

// usageGroup reads what to group by: one of a few words, or a tag as tag:KEY.
func usageGroup(q *request.Query) storage.UsageGroup {
	text := q.RequiredString("group", maxTagText)
	key, isTag := strings.CutPrefix(text, "tag:")
	switch {
	case isTag && key != "":
		return storage.ByTag(key)
	case text == "" || isTag:
		if isTag {
			q.Refuse("group", text, "name the tag, for example tag:agent")
		}
		return ""
	}
	return storage.UsageGroup(q.RequiredLiteral("group", append(storage.UsageGroups(), "tag:KEY")...))
}

// readUsageBy answers with whole UTC days: those that since and until touch.
func (s *Server) readUsageBy(c *call) error {
	q := request.ReadQuery(c.r)
	group := usageGroup(q)
	since, until := q.OptionalTime("since"), q.OptionalTime("until")
	limit := q.Int("limit", usageParts, 1, maxUsageParts)
	from, to := usageDays(s.Now(), since, until)
	if !from.Before(to) || to.Sub(from) > maxUsageDays*day {
		q.Refuse("since", q.String("since", request.MaxTimeText),
			"must be before until, and at most 365 days")
	}
	if err := q.Err(); err != nil {
		return err
	}
	parts, other, err := s.store.UsageBy(c.ctx(), c.who.workspace, group, from, to, limit)
	if err != nil {
		return err
	}
	c.json(http.StatusOK, struct {
		Items []usagePartJSON `json:"items"`
		Other usageSumJSON    `json:"other"`
		Since wire.Time       `json:"since"`
		Until wire.Time       `json:"until"`
	}{wire.Map(parts, usagePartOf), usageSumOf(other), wire.Time(from), wire.Time(to)})
	return nil
}

const day = 24 * time.Hour

// usageDays are the days that a window touches, from the start of the first to
// the end of the last: today and the 29 days before when nothing is asked for.
func usageDays(now, since, until time.Time) (from, to time.Time) {
	to = now.UTC().Truncate(day).Add(day)
	if end := until.UTC().Add(day - 1).Truncate(day); !until.IsZero() && end.Before(to) {
		to = end // nothing is used after today
	}
	from = to.Add(-defaultUsageDays * day)
	if !since.IsZero() {
		from = since.UTC().Truncate(day)
	}
	return from, to
}
