package storage

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// usageDays is the longest window of the usage page, and of by_model and by_user.
const usageDays = 30

// Totals are what a window of days adds up to.
type Totals struct {
	Spend  plans.Money
	Tokens int64
	Runs   int64 // allowed
	// Denials counts starts and steps that were denied.
	Denials int64
	UnpricedUsage
	Capped bool // a day among them is full: usage was cut there
}

// UnpricedUsage is the usage whose cost is missing in a spend.
type UnpricedUsage struct {
	UnpricedTokens    int64 // of models without a price
	UnpricedSteps     int64 // the steps that used them
	CallsWithoutUsage int64 // completed model calls that reported no tokens
}

// ModelUsage is a model's part of the last 30 days.
type ModelUsage struct {
	Model                          string
	Spend                          plans.Money
	PromptTokens, CompletionTokens int64
	UnpricedUsage
}

// Usage is what a workspace used; today is part of both windows.
type Usage struct {
	Today, Last7Days, Last30Days Totals
	RunningRuns                  int64
	ByReason                     []ReasonUsage // most frequent first
	ByModel                      []ModelUsage  // dearest first
	ByUser                       []UserUsage   // dearest first, at most 100
	MonthlyRuns                  int64
	MonthlyRunLimit              int64 // 0: unlimited
}

// Usage reads the rollups; it never looks at a step or a run.
func (s *Store) Usage(ctx context.Context, ws WorkspaceKey) (u Usage, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		today := dayOf(tx.now)
		w, err := workspace(tx, ws)
		if err != nil {
			return err
		}
		u.MonthlyRunLimit = w.Plan.MonthlyRuns
		err = tx.get(`SELECT coalesce(sum(run_count), 0) FROM workspace_days
			WHERE workspace_id = $1 AND day >= $2 AND day <= $3`, []any{ws, firstOfMonth(tx.now), today}, &u.MonthlyRuns)
		if err != nil {
			return err
		}
		if u.RunningRuns, err = runningRuns(tx, ws); err != nil {
			return err
		}
		for days, totals := range map[int64]*Totals{1: &u.Today, 7: &u.Last7Days, usageDays: &u.Last30Days} {
			if *totals, err = totalsOf(tx, ws, today-days+1, today); err != nil {
				return err
			}
		}
		if u.ByReason, err = reasonUsage(tx, ws, today); err != nil {
			return err
		}
		if u.ByModel, err = modelUsage(tx, ws, today-usageDays+1, today); err != nil {
			return err
		}
		u.ByUser, err = userUsage(tx, ws, today-usageDays+1, today)
		return err
	})
	return u, err
}

func runningRuns(tx *Tx, ws WorkspaceKey) (n int64, err error) {
	err = tx.get(`SELECT running_runs FROM workspaces WHERE id = $1`, []any{ws}, &n)
	return n, err
}

// dayIsFull is isFull of a row of workspace_days; $4 is the bound.
const dayIsFull = `CASE WHEN spend_nanos >= $4 OR prompt_tokens >= $4 OR completion_tokens >= $4 THEN 1 ELSE 0 END`

func totalsOf(tx *Tx, ws WorkspaceKey, from, to int64) (t Totals, err error) {
	err = tx.get(`SELECT coalesce(sum(spend_nanos), 0), coalesce(sum(prompt_tokens + completion_tokens), 0), coalesce(sum(run_count), 0),
			(SELECT coalesce(sum(denial_count), 0) FROM denial_days WHERE workspace_id = $1 AND day >= $2 AND day <= $3),
			coalesce(sum(unpriced_tokens), 0), coalesce(sum(unpriced_steps), 0), coalesce(sum(calls_without_usage), 0),
			coalesce(max(`+dayIsFull+`), 0)
		FROM workspace_days WHERE workspace_id = $1 AND day >= $2 AND day <= $3`,
		[]any{ws, from, to, plans.MaxDay}, &t.Spend, &t.Tokens, &t.Runs, &t.Denials,
		&t.UnpricedTokens, &t.UnpricedSteps, &t.CallsWithoutUsage, &t.Capped)
	return t, err
}

func modelUsage(tx *Tx, ws WorkspaceKey, from, to int64) (usage []ModelUsage, err error) {
	err = tx.each(`SELECT m.name, d.spend, d.prompt, d.completion, d.unpriced, d.steps, d.calls
		FROM (SELECT model_id, sum(spend_nanos) AS spend, sum(prompt_tokens) AS prompt, sum(completion_tokens) AS completion,
				sum(unpriced_tokens) AS unpriced, sum(unpriced_steps) AS steps, sum(calls_without_usage) AS calls
			FROM model_days WHERE workspace_id = $1 AND day >= $2 AND day <= $3 GROUP BY model_id) d
		JOIN models m ON m.id = d.model_id ORDER BY d.spend DESC, m.name`, []any{ws, from, to}, func(rows scanner) error {
		var m ModelUsage
		err := rows.Scan(&m.Model, &m.Spend, &m.PromptTokens, &m.CompletionTokens,
			&m.UnpricedTokens, &m.UnpricedSteps, &m.CallsWithoutUsage)
		usage = append(usage, m)
		return err
	})
	return usage, err
}

// topModels is how many models a day's spend is split into.
const topModels = 5

// DayUsage is what a workspace used on one UTC day.
type DayUsage struct {
	Date                           time.Time // midnight
	Spend                          plans.Money
	PromptTokens, CompletionTokens int64
	Runs, BlockedRuns              int64
	Denials                        int64 // of starts and of steps
	UnpricedUsage
	Capped  bool         // the day is full: usage was cut
	ByModel []ModelSpend // the window's dearest, the same in each day; nil unless asked for
}

// ModelSpend is a model's part of a day's spend.
type ModelSpend struct {
	Model string
	Spend plans.Money
}

// DailyUsage lists the last days, today included, oldest first, empty days too.
func (s *Store) DailyUsage(ctx context.Context, ws WorkspaceKey, days int64, byModel bool) (usage []DayUsage, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		today := dayOf(tx.now)
		first := today - days + 1
		for day := first; day <= today; day++ {
			usage = append(usage, DayUsage{Date: dayStart(day)})
		}
		if err := readDays(tx, ws, first, usage); err != nil {
			return err
		}
		if err := readDenials(tx, ws, first, usage); err != nil || !byModel {
			return err
		}
		return readModels(tx, ws, first, usage)
	})
	return usage, err
}

// readDays fills in the days from the first one on.
func readDays(tx *Tx, ws WorkspaceKey, first int64, usage []DayUsage) error {
	return tx.each(`SELECT day, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count,
			unpriced_tokens, unpriced_steps, calls_without_usage, `+dayIsFull+`
		FROM workspace_days WHERE workspace_id = $1 AND day >= $2 AND day < $3`,
		[]any{ws, first, first + int64(len(usage)), plans.MaxDay}, func(rows scanner) error {
			var day int64
			var d DayUsage
			err := rows.Scan(&day, &d.Spend, &d.PromptTokens, &d.CompletionTokens, &d.Runs, &d.BlockedRuns,
				&d.UnpricedTokens, &d.UnpricedSteps, &d.CallsWithoutUsage, &d.Capped)
			d.Date = dayStart(day)
			usage[day-first] = d
			return err
		})
}

func readDenials(tx *Tx, ws WorkspaceKey, first int64, usage []DayUsage) error {
	return tx.each(`SELECT day, denial_count FROM denial_days WHERE workspace_id = $1 AND day >= $2 AND day < $3`,
		[]any{ws, first, first + int64(len(usage))}, func(rows scanner) error {
			var day, n int64
			err := rows.Scan(&day, &n)
			usage[day-first].Denials += n
			return err
		})
}

// readModels finds the models that cost most in all of the days, and what each
// of them cost on each day.
func readModels(tx *Tx, ws WorkspaceKey, first int64, usage []DayUsage) error {
	source, err := usageSourceOf(ByModel)
	if err != nil {
		return err
	}
	u := usageBy{tx: tx, ws: ws, from: first, to: first + int64(len(usage)) - 1, beforeTo: -1, days: len(usage), limit: topModels}
	models, err := u.byRollup(source)
	for i := range usage {
		usage[i].ByModel = make([]ModelSpend, 0, len(models))
		for _, m := range models {
			if m.Spend > 0 {
				usage[i].ByModel = append(usage[i].ByModel, ModelSpend{m.Value, m.Days[i].Spend})
			}
		}
	}
	return err
}

// UsageGroup is what usage can be asked by.
type UsageGroup string

// The groups that rollups are kept of, and prefixes, which are sums of users.
const (
	ByKey    UsageGroup = "key"
	ByModel  UsageGroup = "model"
	ByUser   UsageGroup = "user"
	ByPrefix UsageGroup = "prefix" // of users: up to the first "/", and with it
	ByTool   UsageGroup = "tool"   // of tools that have a price of their own
)

// ByTag is the group of a tag's values.
func ByTag(key string) UsageGroup { return UsageGroup(tagGroup + key) }

const tagGroup = "tag:"

// UsageGroups lists all of them but the tags.
func UsageGroups() []string {
	return []string{string(ByKey), string(ByModel), string(ByPrefix), string(ByTool), string(ByUser)}
}

// Keeps says what beside money the rollup of the group keeps.
func (g UsageGroup) Keeps() (tokens, runs, blockedRuns bool) {
	switch g {
	case ByModel, ByTool:
		return true, false, false
	case ByUser, ByPrefix:
		return false, true, false
	}
	return true, true, true
}

// UsagePart is a part of what a workspace used.
type UsagePart struct {
	Value string // the key's id, or the name
	UsageSums
	Before UsageSums   // in the period before
	Days   []UsageSums // of the period, where they are asked for
}

// UsageQuery asks for the days from the start of one to that of another.
type UsageQuery struct {
	Group UsageGroup
	// Whole UTC days; To is not part of the window.
	From, To             time.Time
	BeforeFrom, BeforeTo time.Time      // the period to compare with; zero for none
	Zone                 *time.Location // of the days; nil for UTC
	ByDay                bool
	Limit                int64
}

// UsageReport has the dearest parts of all, and in Other all that is in none of
// them, be it beyond the limit or of no known value.
type UsageReport struct {
	Parts      []UsagePart
	Other, All UsagePart
}

// usageBy is a query under way.
type usageBy struct {
	tx                   *Tx
	ws                   WorkspaceKey
	from, to             int64 // dates, both included
	beforeFrom, beforeTo int64
	localFrom            int64 // as workspaces.local_from
	days                 int   // to be listed, or 0
	limit                int64
}

func newUsageBy(tx *Tx, ws WorkspaceKey, q UsageQuery) (*usageBy, error) {
	zone := cmp.Or(q.Zone, time.UTC)
	u := usageBy{tx: tx, ws: ws, from: dateIn(q.From, zone), to: dateIn(q.To, zone) - 1, beforeTo: -1, limit: q.Limit}
	if !q.BeforeFrom.IsZero() {
		u.beforeFrom, u.beforeTo = dateIn(q.BeforeFrom, zone), dateIn(q.BeforeTo, zone)-1
	}
	if q.ByDay {
		u.days = int(u.to - u.from + 1)
	}
	err := tx.get(`SELECT local_from FROM workspaces WHERE id = $1`, []any{ws}, &u.localFrom)
	return &u, err
}

// UsageBy reads what a workspace used, by group: money, and what else the
// rollup of the group keeps.
func (s *Store) UsageBy(ctx context.Context, ws WorkspaceKey, q UsageQuery) (r UsageReport, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		u, err := newUsageBy(tx, ws, q)
		if err != nil {
			return err
		}
		if r.All, err = u.all(); err != nil {
			return err
		}
		if q.Group == ByPrefix {
			r.Parts, err = u.byPrefix()
			return err
		}
		source, err := usageSourceOf(q.Group)
		if err != nil {
			return err
		}
		r.Parts, err = u.byRollup(source)
		return err
	})
	if err != nil {
		return UsageReport{}, err
	}
	r.All.limitTo(q.Group)
	r.Other = r.All
	r.Other.Days = slices.Clone(r.All.Days)
	for _, p := range r.Parts {
		r.Other.subtract(p.UsageSums)
		r.Other.Before.subtract(p.Before)
		for i, day := range p.Days {
			r.Other.Days[i].subtract(day)
		}
	}
	return r, nil
}

// limitTo clears what the rollup of a group does not have.
func (p *UsagePart) limitTo(group UsageGroup) {
	tokens, runs, blockedRuns := group.Keeps()
	limit := func(s *UsageSums) {
		if !tokens {
			s.PromptTokens, s.CompletionTokens = 0, 0
		}
		if !runs {
			s.Runs = 0
		}
		if !blockedRuns {
			s.BlockedRuns = 0
		}
	}
	limit(&p.UsageSums)
	limit(&p.Before)
	for i := range p.Days {
		limit(&p.Days[i])
	}
}

// place adds a day's sums where they belong.
func (u *usageBy) place(p *UsagePart, isBefore bool, day int64, sums UsageSums) {
	date := dateOfDay(day)
	if isBefore {
		p.Before.add(sums)
		return
	}
	p.add(sums)
	if u.days > 0 {
		p.Days[date-u.from].add(sums)
	}
}

// eachPeriod reads days of the period, and of the one before if there is one;
// $1 to $3 are the workspace and the first and the last day of a range.
func (u *usageBy) eachPeriod(query string, use func(rows scanner, isBefore bool) error, args ...any) error {
	read := func(from, to int64, isBefore bool) error {
		for _, r := range u.ranges(from, to) {
			err := u.tx.each(query, append([]any{u.ws, r.first, r.last}, args...), func(rows scanner) error {
				return use(rows, isBefore)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := read(u.from, u.to, false)
	if err != nil || u.beforeTo < u.beforeFrom {
		return err
	}
	return read(u.beforeFrom, u.beforeTo, true)
}

func (u *usageBy) newPart(value string) UsagePart {
	return UsagePart{Value: value, Days: make([]UsageSums, u.days)}
}

// all reads the workspace's days of both periods.
func (u *usageBy) all() (all UsagePart, err error) {
	all = u.newPart("")
	err = u.eachPeriod(`SELECT day, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count
		FROM workspace_days WHERE workspace_id = $1 AND day >= $2 AND day <= $3`, func(rows scanner, isBefore bool) error {
		var day int64
		var s UsageSums
		err := rows.Scan(&day, &s.Spend, &s.PromptTokens, &s.CompletionTokens, &s.Runs, &s.BlockedRuns)
		u.place(&all, isBefore, day, s)
		return err
	})
	return all, err
}

// byRollup finds the dearest parts, and reads what each was on each day by its key.
func (u *usageBy) byRollup(s usageSource) (parts []UsagePart, err error) {
	args := append([]any{u.ws, u.limit}, s.key...)
	days := inRanges(s.table, u.ranges(u.from, u.to), &args)
	var ids []any
	places := map[any]int{}
	err = u.tx.each(`SELECT d.`+s.id+`, sum(`+strings.Join(s.columns[:], `), sum(`)+`) FROM (`+days+`) d
		WHERE d.workspace_id = $1`+s.condition(3)+` GROUP BY d.`+s.id+` ORDER BY 2 DESC, 5 DESC, 3 DESC, 1 LIMIT $2`, args, func(rows scanner) error {
		var id any
		p := u.newPart("")
		err := s.scan(rows, &id, &p.Spend, &p.PromptTokens, &p.CompletionTokens, &p.Runs, &p.BlockedRuns)
		if text, isText := id.(string); isText {
			p.Value = text
		}
		places[id] = len(ids)
		ids, parts = append(ids, id), append(parts, p)
		return err
	})
	if err != nil || len(ids) == 0 {
		return parts, err
	}
	if err := u.name(parts, s, ids, places); err != nil {
		return nil, err
	}
	if u.days == 0 && u.beforeTo < u.beforeFrom {
		return parts, nil
	}
	return parts, u.eachDay(s, ids, func(id any, isBefore bool, day int64, sums UsageSums) {
		if p := &parts[places[id]]; isBefore {
			p.Before.add(sums)
		} else if u.days > 0 {
			p.Days[dateOfDay(day)-u.from].add(sums)
		}
	})
}

// eachDay looks each of some ids up on each day of the period and of the one before.
func (u *usageBy) eachDay(s usageSource, ids []any, use func(id any, isBefore bool, day int64, sums UsageSums)) error {
	args := append([]any{u.ws, u.from, u.to}, s.key...)
	return u.eachPeriod(`WITH RECURSIVE days (day) AS (SELECT $2 + CAST(0 AS BIGINT) UNION ALL SELECT day + 1 FROM days WHERE day < $3)
		SELECT d.`+s.id+`, d.day, `+strings.Join(s.columns[:], `, `)+` FROM days CROSS JOIN `+s.table+` d
		WHERE d.workspace_id = $1 AND d.day = days.day`+s.condition(4)+` AND d.`+s.id+` IN `+placeholders(len(args), len(ids)),
		func(rows scanner, isBefore bool) error {
			var day int64
			var id any
			var sums UsageSums
			err := s.scan(rows, &id, &day, &sums.Spend, &sums.PromptTokens, &sums.CompletionTokens, &sums.Runs, &sums.BlockedRuns)
			use(id, isBefore, day, sums)
			return err
		}, append(s.key, ids...)...)
}

// name gives parts the names that their ids stand for.
func (u *usageBy) name(parts []UsagePart, s usageSource, ids []any, places map[any]int) error {
	if s.names == "" {
		return nil
	}
	return u.tx.each(s.names+` WHERE id IN `+placeholders(0, len(ids)), ids, func(rows scanner) error {
		var id int64
		var name string
		if s.id != "key_id" {
			err := rows.Scan(&id, &name)
			parts[places[id]].Value = strings.TrimPrefix(name, s.prefix)
			return err
		}
		var key uuid.UUID
		err := rows.Scan(&id, &key)
		parts[places[id]].Value = key.String()
		return err
	})
}
