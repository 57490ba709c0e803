package server

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const (
	// defaultUsageDays is the window of a chart by days.
	defaultUsageDays = 30
	// maxUsageDays is the longest one.
	maxUsageDays = 365
)

// reasonUsageJSON is how often a rule objected.
type reasonUsageJSON struct {
	Reason     wire.NullString `json:"reason"`
	Today      int64           `json:"today"`
	Last7Days  int64           `json:"last_7_days"`
	Last30Days int64           `json:"last_30_days"`
}

// modelUsageJSON is what a model was used for in 30 days.
type modelUsageJSON struct {
	Model            string      `json:"model"`
	Spend            plans.Money `json:"total_usd"`
	PromptTokens     int64       `json:"prompt_tokens"`
	CompletionTokens int64       `json:"completion_tokens"`
	wire.UnpricedUsage
}

// userUsageJSON is what a user's agents used in 30 days.
type userUsageJSON struct {
	UserID         string      `json:"user_id"`
	Spend          plans.Money `json:"total_usd"`
	Runs           int64       `json:"run_count"`
	UnpricedTokens int64       `json:"unpriced_tokens"`
}

// readUsage answers GET /v1/usage/: today, the last 7 and 30 days. It reads rollups alone.
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
				wire.UnpricedUsage(m.UnpricedUsage)}
		}),
		wire.Map(u.ByUser, func(r storage.UserUsage) userUsageJSON { return userUsageJSON(r) }),
		u.MonthlyRuns, wire.Limit(u.MonthlyRunLimit),
	})
	return nil
}

// dayUsageJSON is what a workspace used on a UTC day.
type dayUsageJSON struct {
	Date             string      `json:"date"`
	Spend            plans.Money `json:"total_usd"`
	PromptTokens     int64       `json:"prompt_tokens"`
	CompletionTokens int64       `json:"completion_tokens"`
	Runs             int64       `json:"run_count"`
	BlockedRuns      int64       `json:"blocked_run_count"`
	Denials          int64       `json:"denial_count"`
	wire.UnpricedUsage
	Capped  bool             `json:"capped"`
	ByModel []modelSpendJSON `json:"by_model,omitzero"` // when asked for
}

// modelSpendJSON is a model's part of a day.
type modelSpendJSON struct {
	Model string      `json:"model"`
	Spend plans.Money `json:"total_usd"`
}

// dayUsageOf converts a day for the API.
func dayUsageOf(d storage.DayUsage) dayUsageJSON {
	out := dayUsageJSON{
		d.Date.Format(time.DateOnly), d.Spend, d.PromptTokens, d.CompletionTokens, d.Runs,
		d.BlockedRuns, d.Denials,
		wire.UnpricedUsage(d.UnpricedUsage), d.Capped, nil,
	}
	if d.ByModel != nil {
		out.ByModel = wire.Map(d.ByModel, func(m storage.ModelSpend) modelSpendJSON {
			return modelSpendJSON(m)
		})
	}
	return out
}

// readDailyUsage answers GET /v1/usage/daily: one entry for each day, also those without usage.
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
	// usageParts is how many values are listed apart unless the caller asks; the rest is added up
	// as other.
	usageParts = 100
	// maxUsageParts is how many may be listed apart.
	maxUsageParts = 200
)

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

// readUsageBy answers with whole days of the workspace's zone: those that since and until touch.
func (s *Server) readUsageBy(c *call) error {
	q := request.ReadQuery(c.r)
	group := usageGroup(q)
	in, w, err := s.usageWindow(c, q)
	if err != nil {
		return err
	}
	in.Group, in.Limit = group, q.Int("limit", usageParts, 1, maxUsageParts)
	if byDay := q.Bool("by_day"); byDay != nil {
		in.ByDay = *byDay
	}
	format := q.Literal("format", "json", "csv", "jsonl")
	byHour := q.Bool("by_hour")
	if byHour != nil && *byHour && in.To.Sub(in.From) > maxHours {
		q.Refuse("by_hour", "true", "is for at most three days")
	}
	if err := q.Err(); err != nil {
		return err
	}
	r, err := s.store.UsageBy(c.ctx(), c.who.workspace, in)
	if err != nil {
		return err
	}
	// Files have no hours: their columns are days.
	if format == "csv" || format == "jsonl" {
		return usageFile(c, in, r, format)
	}
	out := usageByOf(in, r, w)
	if byHour != nil && *byHour {
		if out.ByHour, err = s.hoursOf(c, in); err != nil {
			return err
		}
	}
	c.json(http.StatusOK, out)
	return nil
}

const day = 24 * time.Hour

// usageWindow reads a period of the workspace's days, and the one to compare it with.
func (s *Server) usageWindow(c *call, q *request.Query) (in storage.UsageQuery, w storage.Workspace, err error) {
	if w, err = s.store.Workspace(c.ctx(), c.who.workspace); err != nil {
		return in, w, err
	}
	if in.Zone, err = time.LoadLocation(w.Timezone); err != nil {
		return in, w, err
	}
	in.From, in.To = usageDays(s.Now(), in.Zone, queryDay(q, "since", in.Zone), queryDay(q, "until", in.Zone))
	refuseWindow(q, "since", in.From, in.To)
	since, until := queryDay(q, "before_since", in.Zone), queryDay(q, "before_until", in.Zone)
	if since.IsZero() != until.IsZero() {
		q.Refuse("before_since", q.String("before_since", request.MaxTimeText), "goes with before_until")
	} else if !since.IsZero() {
		in.BeforeFrom, in.BeforeTo = usageDays(s.Now(), in.Zone, since, until)
		refuseWindow(q, "before_since", in.BeforeFrom, in.BeforeTo)
	}
	return in, w, nil
}

// queryDay reads a day or a time. A day begins when it does in the workspace's zone.
func queryDay(q *request.Query, name string, zone *time.Location) time.Time {
	return q.OptionalDay(name, func(year int, month time.Month, day int) time.Time {
		return policies.StartOfDate(year, month, day, zone)
	})
}

// refuseWindow adds a problem unless from is before to and the window is a year at most.
func refuseWindow(q *request.Query, name string, from, to time.Time) {
	days := (to.Sub(from) + day/2) / day // some have an hour more or less
	if !from.Before(to) || days > maxUsageDays {
		q.Refuse(name, q.String(name, request.MaxTimeText),
			"must be before until, and at most 365 days")
	}
}

// startOfDay is the start of the day that an instant has in a zone, or of one so many days later.
func startOfDay(t time.Time, zone *time.Location, later int) time.Time {
	year, month, day := t.In(zone).Date()
	return policies.StartOfDate(year, month, day+later, zone)
}

// usageDays are the days that a window touches, from the start of the first to
// the end of the last: today and the 29 days before when nothing is asked for.
func usageDays(now time.Time, zone *time.Location, since, until time.Time) (from, to time.Time) {
	to = startOfDay(now, zone, 1)
	if !until.IsZero() {
		end := startOfDay(until, zone, 0)
		if end.Before(until) {
			end = startOfDay(until, zone, 1)
		}
		if end.Before(to) { // nothing is used after today
			to = end
		}
	}
	from = startOfDay(to, zone, -defaultUsageDays)
	if !since.IsZero() {
		from = startOfDay(since, zone, 0)
	}
	return from, to
}

// usagePartJSON is one value's usage, such as one model's.
type usagePartJSON struct {
	Value string `json:"value"`
	usageSumJSON
	usageMoreJSON
}

// usageSumJSON has null for what the rollup of its group does not keep.
type usageSumJSON struct {
	Spend            plans.Money `json:"total_usd"`
	PromptTokens     *int64      `json:"prompt_tokens"`
	CompletionTokens *int64      `json:"completion_tokens"`
	Runs             *int64      `json:"run_count"`
	BlockedRuns      *int64      `json:"blocked_run_count"`
}

// usageMoreJSON is what was asked for beside the sums.
type usageMoreJSON struct {
	Before *usageSumJSON  `json:"before,omitzero"`
	ByDay  *usageDaysJSON `json:"by_day,omitzero"`
}

// usageDaysJSON has a number for each day, oldest first.
type usageDaysJSON struct {
	Spend            []plans.Money `json:"total_usd"`
	PromptTokens     []int64       `json:"prompt_tokens"`
	CompletionTokens []int64       `json:"completion_tokens"`
	Runs             []int64       `json:"run_count"`
	BlockedRuns      []int64       `json:"blocked_run_count"`
}

// usageOtherJSON is that of all values that are not listed, or of all there are.
type usageOtherJSON struct {
	usageSumJSON
	usageMoreJSON
}

// usageSumOf leaves out what a group does not count: a user has no tokens of its own, for instance.
func usageSumOf(s storage.UsageSums, group storage.UsageGroup) usageSumJSON {
	out := usageSumJSON{Spend: s.Spend}
	tokens, runs, blockedRuns := group.Keeps()
	if tokens {
		out.PromptTokens, out.CompletionTokens = &s.PromptTokens, &s.CompletionTokens
	}
	if runs {
		out.Runs = &s.Runs
	}
	if blockedRuns {
		out.BlockedRuns = &s.BlockedRuns
	}
	return out
}

// usageMoreOf adds the window before, and the days, if they were asked for.
func usageMoreOf(p storage.UsagePart, in storage.UsageQuery) (out usageMoreJSON) {
	if !in.BeforeFrom.IsZero() {
		before := usageSumOf(p.Before, in.Group)
		out.Before = &before
	}
	if !in.ByDay {
		return out
	}
	tokens, runs, blockedRuns := in.Group.Keeps()
	column := func(kept bool, of func(storage.UsageSums) int64) []int64 {
		if !kept {
			return nil
		}
		return wire.Map(p.Days, of)
	}
	out.ByDay = &usageDaysJSON{
		wire.Map(p.Days, func(s storage.UsageSums) plans.Money { return s.Spend }),
		column(tokens, func(s storage.UsageSums) int64 { return s.PromptTokens }),
		column(tokens, func(s storage.UsageSums) int64 { return s.CompletionTokens }),
		column(runs, func(s storage.UsageSums) int64 { return s.Runs }),
		column(blockedRuns, func(s storage.UsageSums) int64 { return s.BlockedRuns }),
	}
	return out
}

// usageByJSON is a report.
type usageByJSON struct {
	Items       []usagePartJSON `json:"items"`
	Other       usageOtherJSON  `json:"other"`
	Total       usageOtherJSON  `json:"total"`
	Since       wire.Time       `json:"since"`
	Until       wire.Time       `json:"until"`
	BeforeSince *wire.Time      `json:"before_since,omitzero"`
	BeforeUntil *wire.Time      `json:"before_until,omitzero"`
	Days        []wire.Time     `json:"days,omitzero"` // where they begin, with by_day
	ByHour      *usageHoursJSON `json:"by_hour,omitzero"`
	usageZoneJSON
}

// usageZoneJSON says how days are counted.
type usageZoneJSON struct {
	Timezone string  `json:"timezone"`
	Since    *string `json:"timezone_since"` // days before are UTC days; null where all are
}

// usageZoneOf says since when days are those of the zone: earlier ones are kept as UTC
// days.
func usageZoneOf(w storage.Workspace) usageZoneJSON {
	out := usageZoneJSON{Timezone: w.Timezone}
	if !w.LocalFrom.IsZero() {
		out.Since = new(w.LocalFrom.Format(time.DateOnly))
	}
	return out
}

func usageWholeOf(p storage.UsagePart, in storage.UsageQuery) usageOtherJSON {
	return usageOtherJSON{usageSumOf(p.UsageSums, in.Group), usageMoreOf(p, in)}
}

func usagePartsOf(parts []storage.UsagePart, in storage.UsageQuery) []usagePartJSON {
	return wire.Map(parts, func(p storage.UsagePart) usagePartJSON {
		return usagePartJSON{p.Value, usageSumOf(p.UsageSums, in.Group), usageMoreOf(p, in)}
	})
}

func usageByOf(in storage.UsageQuery, r storage.UsageReport, w storage.Workspace) usageByJSON {
	out := usageByJSON{
		Items: usagePartsOf(r.Parts, in), Other: usageWholeOf(r.Other, in), Total: usageWholeOf(r.All, in),
		Since: wire.Time(in.From), Until: wire.Time(in.To), usageZoneJSON: usageZoneOf(w),
	}
	if !in.BeforeFrom.IsZero() {
		since, until := wire.Time(in.BeforeFrom), wire.Time(in.BeforeTo)
		out.BeforeSince, out.BeforeUntil = &since, &until
	}
	if in.ByDay {
		for at := in.From; at.Before(in.To); at = startOfDay(at, in.Zone, 1) {
			out.Days = append(out.Days, wire.Time(at))
		}
	}
	return out
}

// usageFile answers with a report as a file.
func usageFile(c *call, in storage.UsageQuery, r storage.UsageReport, format string) error {
	c.w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="pikarc-usage-%s-to-%s.%s"`,
		in.From.In(in.Zone).Format(time.DateOnly), in.To.Add(-time.Millisecond).In(in.Zone).Format(time.DateOnly), format))
	if format == "csv" {
		return usageCSV(c, in, r)
	}
	return usageLines(c, usagePartsOf(r.Parts, in), usageWholeOf(r.Other, in), usageWholeOf(r.All, in))
}

// The rows of files: parts, the rest of all, and all.
const (
	rowItem  = "item"
	rowOther = "other"
	rowTotal = "total"
)

// usageLines answers the report as JSON lines, a row for each value and one for the others and the
// total.
func usageLines(c *call, parts []usagePartJSON, other, total usageOtherJSON) error {
	var out bytes.Buffer
	line := func(row any) error {
		text, err := wire.Encode(row)
		out.Write(append(text, '\n'))
		return err
	}
	type named struct {
		Row string `json:"row"`
		usagePartJSON
	}
	type unnamed struct {
		Row string `json:"row"`
		usageOtherJSON
	}
	for _, p := range parts {
		if err := line(named{rowItem, p}); err != nil {
			return err
		}
	}
	if err := line(unnamed{rowOther, other}); err != nil {
		return err
	}
	if err := line(unnamed{rowTotal, total}); err != nil {
		return err
	}
	c.body(http.StatusOK, runWriters()["jsonl"].contentType, out.Bytes())
	return nil
}

// usageCSV answers the same as CSV, with a column for each day.
func usageCSV(c *call, in storage.UsageQuery, r storage.UsageReport) error {
	compared := !in.BeforeFrom.IsZero()
	head := []string{"row", "value", "total_usd", "prompt_tokens", "completion_tokens", "run_count", "blocked_run_count"}
	if compared {
		head = append(head, "before_usd", "change_usd")
	}
	if in.ByDay {
		for at := in.From; at.Before(in.To); at = startOfDay(at, in.Zone, 1) {
			head = append(head, at.In(in.Zone).Format(time.DateOnly)+"_usd")
		}
	}
	var out bytes.Buffer
	row := func(kind string, p storage.UsagePart) error {
		sums := usageSumOf(p.UsageSums, in.Group)
		cells := []string{kind, inert(p.Value), p.Spend.String()}
		for _, n := range []*int64{sums.PromptTokens, sums.CompletionTokens, sums.Runs, sums.BlockedRuns} {
			cell := ""
			if n != nil {
				cell = strconv.FormatInt(*n, 10)
			}
			cells = append(cells, cell)
		}
		if compared {
			cells = append(cells, p.Before.Spend.String(), (p.Spend - p.Before.Spend).String())
		}
		for _, day := range p.Days {
			cells = append(cells, day.Spend.String())
		}
		return writeCSV(&out, cells)
	}
	if err := writeCSV(&out, head); err != nil {
		return err
	}
	for _, p := range r.Parts {
		if err := row(rowItem, p); err != nil {
			return err
		}
	}
	if err := row(rowOther, r.Other); err != nil {
		return err
	}
	if err := row(rowTotal, r.All); err != nil {
		return err
	}
	c.body(http.StatusOK, runWriters()["csv"].contentType, out.Bytes())
	return nil
}
