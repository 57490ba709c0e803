package storage

import (
	"context"
	"time"

	"github.com/pikarc/server/plans"
)

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
