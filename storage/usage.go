package storage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// usageDays is the longest window of the usage page, and of by_model and by_user.
const usageDays = 30

const topUsers = 100

// Totals are what a window of days adds up to.
type Totals struct {
	Spend  plans.Money
	Tokens int64
	Runs   int64 // allowed
	// Denials counts starts and steps that were denied.
	Denials int64
	Gaps
	Capped bool // a day among them is full: usage was cut there
}

// Gaps are what is missing in a spend.
type Gaps struct {
	UnpricedTokens    int64 // that no price was known for
	UnpricedSteps     int64 // that used them
	CallsWithoutUsage int64 // completed model calls that reported no tokens
}

// ModelUsage is a model's part of the last 30 days.
type ModelUsage struct {
	Model                          string
	Spend                          plans.Money
	PromptTokens, CompletionTokens int64
	Gaps
}

// UserUsage is a user's part of the last 30 days.
type UserUsage struct {
	UserID         string
	Spend          plans.Money
	Runs           int64
	UnpricedTokens int64
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

func userUsage(tx *Tx, ws WorkspaceKey, from, to int64) (usage []UserUsage, err error) {
	err = tx.each(`SELECT u.external_id, d.spend, d.runs, d.unpriced
		FROM (SELECT user_id, sum(spend_nanos) AS spend, sum(run_count) AS runs, sum(unpriced_tokens) AS unpriced
			FROM user_days WHERE workspace_id = $1 AND day >= $2 AND day <= $3
			GROUP BY user_id ORDER BY spend DESC, user_id LIMIT $4) d
		JOIN users u ON u.id = d.user_id ORDER BY d.spend DESC, d.user_id`, []any{ws, from, to, topUsers}, func(rows scanner) error {
		var r UserUsage
		err := rows.Scan(&r.UserID, &r.Spend, &r.Runs, &r.UnpricedTokens)
		usage = append(usage, r)
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
	Gaps
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

// readModels finds the models that cost most in all of the days, and then what
// each of them cost on each day.
func readModels(tx *Tx, ws WorkspaceKey, first int64, usage []DayUsage) error {
	days := []any{ws, first, first + int64(len(usage))}
	var top []ModelSpend
	places := map[int64]int{}
	err := tx.each(`SELECT d.model_id, m.name
		FROM (SELECT model_id, sum(spend_nanos) AS spend FROM model_days
			WHERE workspace_id = $1 AND day >= $2 AND day < $3 GROUP BY model_id HAVING sum(spend_nanos) > 0) d
		JOIN models m ON m.id = d.model_id ORDER BY d.spend DESC, m.name LIMIT $4`, append(days, topModels), func(rows scanner) error {
		var id int64
		var m ModelSpend
		err := rows.Scan(&id, &m.Model)
		places[id] = len(top)
		top = append(top, m)
		return err
	})
	if err != nil {
		return err
	}
	for i := range usage {
		usage[i].ByModel = append(make([]ModelSpend, 0, len(top)), top...)
	}
	return tx.each(`SELECT day, model_id, spend_nanos FROM model_days
		WHERE workspace_id = $1 AND day >= $2 AND day < $3 AND spend_nanos > 0`, days, func(rows scanner) error {
		var day, id int64
		var spend plans.Money
		err := rows.Scan(&day, &id, &spend)
		if place, found := places[id]; found {
			usage[day-first].ByModel[place].Spend = spend
		}
		return err
	})
}

// UsageGroup is what usage can be asked by.
type UsageGroup string

// The groups that rollups are kept of.
const (
	ByKey   UsageGroup = "key"
	ByModel UsageGroup = "model"
	ByUser  UsageGroup = "user"
	ByTool  UsageGroup = "tool" // of tools that have a price of their own
)

// ByTag is the group of a tag's values.
func ByTag(key string) UsageGroup { return UsageGroup(tagGroup + key) }

const tagGroup = "tag:"

// UsageGroups lists all of them but the tags.
func UsageGroups() []string {
	return []string{string(ByKey), string(ByModel), string(ByTool), string(ByUser)}
}

// UsagePart is a part of what a workspace used. What the rollup of its group
// does not keep is nil.
type UsagePart struct {
	Value            string // the key's id, the model's or the user's name
	Spend            plans.Money
	PromptTokens     *int64
	CompletionTokens *int64
	Runs             *int64 // allowed
	BlockedRuns      *int64
}

// UsageBy reads what a workspace used on the UTC days from one midnight to
// another, by group: the dearest parts, and the sum of all that is in none of
// them, be it beyond the limit or of no known value.
func (s *Store) UsageBy(ctx context.Context, ws WorkspaceKey, group UsageGroup, from, to time.Time, limit int64) (parts []UsagePart, other UsagePart, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		args := []any{ws, dayOf(from), dayOf(to) - 1, limit}
		switch group {
		case ByKey:
			parts, err = usageByKey(tx, args)
		case ByModel:
			parts, err = usageByModel(tx, args)
		case ByTool:
			parts, err = usageByTool(tx, args)
		case ByUser:
			parts, err = usageByUser(tx, args)
		default:
			key, isTag := strings.CutPrefix(string(group), tagGroup)
			if !isTag {
				return fmt.Errorf("no usage by %q", group)
			}
			parts, err = usageByTag(tx, args, key)
		}
		if err != nil {
			return err
		}
		other, err = usageOfAll(tx, args[:3])
		return err
	})
	if err != nil {
		return nil, UsagePart{}, err
	}
	other.limitTo(group)
	for _, p := range parts {
		other.Spend -= p.Spend
		for i, sum := range other.counts() {
			if part := p.counts()[i]; *sum != nil && *part != nil {
				**sum -= **part
			}
		}
	}
	return parts, other, nil
}

func (p *UsagePart) counts() [4]**int64 {
	return [4]**int64{&p.PromptTokens, &p.CompletionTokens, &p.Runs, &p.BlockedRuns}
}

// limitTo clears what the rollup of a group does not have.
func (p *UsagePart) limitTo(group UsageGroup) {
	switch group {
	case ByModel, ByTool:
		p.Runs, p.BlockedRuns = nil, nil
	case ByUser:
		p.PromptTokens, p.CompletionTokens, p.BlockedRuns = nil, nil, nil
	}
}

func usageOfAll(tx *Tx, args []any) (all UsagePart, err error) {
	var counts [4]int64
	err = tx.get(`SELECT coalesce(sum(spend_nanos), 0), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),
			coalesce(sum(run_count), 0), coalesce(sum(blocked_run_count), 0)
		FROM workspace_days WHERE workspace_id = $1 AND day >= $2 AND day <= $3`,
		args, &all.Spend, &counts[0], &counts[1], &counts[2], &counts[3])
	for i, count := range all.counts() {
		*count = &counts[i]
	}
	return all, err
}

func usageByKey(tx *Tx, args []any) (parts []UsagePart, err error) {
	err = tx.each(`SELECT k.uuid, d.spend, d.prompt, d.completion, d.runs, d.blocked
		FROM (SELECT key_id, sum(spend_nanos) AS spend, sum(prompt_tokens) AS prompt, sum(completion_tokens) AS completion,
				sum(run_count) AS runs, sum(blocked_run_count) AS blocked
			FROM key_days WHERE workspace_id = $1 AND day >= $2 AND day <= $3 GROUP BY key_id
			ORDER BY spend DESC, runs DESC, key_id LIMIT $4) d
		JOIN api_keys k ON k.id = d.key_id ORDER BY d.spend DESC, d.runs DESC, d.key_id`, args, func(rows scanner) error {
		var id uuid.UUID
		p := UsagePart{PromptTokens: new(int64), CompletionTokens: new(int64), Runs: new(int64), BlockedRuns: new(int64)}
		err := rows.Scan(&id, &p.Spend, p.PromptTokens, p.CompletionTokens, p.Runs, p.BlockedRuns)
		p.Value = id.String()
		parts = append(parts, p)
		return err
	})
	return parts, err
}

func usageByModel(tx *Tx, args []any) (parts []UsagePart, err error) {
	err = tx.each(`SELECT m.name, d.spend, d.prompt, d.completion
		FROM (SELECT model_id, sum(spend_nanos) AS spend, sum(prompt_tokens) AS prompt, sum(completion_tokens) AS completion
			FROM model_days WHERE workspace_id = $1 AND day >= $2 AND day <= $3 GROUP BY model_id
			ORDER BY spend DESC, prompt DESC, model_id LIMIT $4) d
		JOIN models m ON m.id = d.model_id ORDER BY d.spend DESC, d.prompt DESC, d.model_id`, args, func(rows scanner) error {
		p := UsagePart{PromptTokens: new(int64), CompletionTokens: new(int64)}
		err := rows.Scan(&p.Value, &p.Spend, p.PromptTokens, p.CompletionTokens)
		parts = append(parts, p)
		return err
	})
	return parts, err
}

func usageByUser(tx *Tx, args []any) (parts []UsagePart, err error) {
	err = tx.each(`SELECT u.external_id, d.spend, d.runs
		FROM (SELECT user_id, sum(spend_nanos) AS spend, sum(run_count) AS runs
			FROM user_days WHERE workspace_id = $1 AND day >= $2 AND day <= $3 GROUP BY user_id
			ORDER BY spend DESC, runs DESC, user_id LIMIT $4) d
		JOIN users u ON u.id = d.user_id ORDER BY d.spend DESC, d.runs DESC, d.user_id`, args, func(rows scanner) error {
		p := UsagePart{Runs: new(int64)}
		err := rows.Scan(&p.Value, &p.Spend, p.Runs)
		parts = append(parts, p)
		return err
	})
	return parts, err
}

// usageByTool is by the entries that price calls of tools.
func usageByTool(tx *Tx, args []any) (parts []UsagePart, err error) {
	err = tx.each(`SELECT m.name, sum(d.spend_nanos) AS spend, sum(d.prompt_tokens), sum(d.completion_tokens)
		FROM models m JOIN model_days d ON d.workspace_id = m.workspace_id AND d.model_id = m.id
		WHERE m.workspace_id = $1 AND m.name >= 'tool:' AND m.name < 'tool;' AND d.day >= $2 AND d.day <= $3
		GROUP BY m.name ORDER BY spend DESC, m.name LIMIT $4`, args, func(rows scanner) error {
		p := UsagePart{PromptTokens: new(int64), CompletionTokens: new(int64)}
		err := rows.Scan(&p.Value, &p.Spend, p.PromptTokens, p.CompletionTokens)
		p.Value = strings.TrimPrefix(p.Value, toolPrefix)
		parts = append(parts, p)
		return err
	})
	return parts, err
}

func usageByTag(tx *Tx, args []any, key string) (parts []UsagePart, err error) {
	err = tx.each(`SELECT value, sum(spend_nanos) AS spend, sum(prompt_tokens), sum(completion_tokens),
			sum(run_count) AS runs, sum(blocked_run_count)
		FROM tag_days WHERE workspace_id = $1 AND day >= $2 AND day <= $3 AND key = $5
		GROUP BY value ORDER BY spend DESC, runs DESC, value LIMIT $4`, append(args, key), func(rows scanner) error {
		p := UsagePart{PromptTokens: new(int64), CompletionTokens: new(int64), Runs: new(int64), BlockedRuns: new(int64)}
		err := rows.Scan(&p.Value, &p.Spend, p.PromptTokens, p.CompletionTokens, p.Runs, p.BlockedRuns)
		parts = append(parts, p)
		return err
	})
	return parts, err
}
