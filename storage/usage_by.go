package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// UsageGroup is what usage can be asked by.
type UsageGroup string

// The groups that rollups are kept of.
const (
	ByKey   UsageGroup = "key"
	ByModel UsageGroup = "model"
	ByUser  UsageGroup = "user"
)

// UsageGroups lists all of them.
func UsageGroups() []string { return []string{string(ByKey), string(ByModel), string(ByUser)} }

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
		case ByUser:
			parts, err = usageByUser(tx, args)
		default:
			return fmt.Errorf("no usage by %q", group)
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
	other.keepAs(group)
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

// keepAs forgets what the rollup of a group does not keep.
func (p *UsagePart) keepAs(group UsageGroup) {
	switch group {
	case ByModel:
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
