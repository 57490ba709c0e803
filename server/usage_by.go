package server

import (
	"net/http"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

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

// readUsageBy answers with whole UTC days: those that since and until touch.
func (s *Server) readUsageBy(c *call) error {
	q := request.ReadQuery(c.r)
	group := storage.UsageGroup(q.RequiredLiteral("group", storage.UsageGroups()...))
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
