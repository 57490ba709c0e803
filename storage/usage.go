package storage

import (
	"context"

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
