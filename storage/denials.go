package storage

import (
	"github.com/pikarc/server/guard"
)

// countDenial books a denial on the day.
func countDenial(tx *Tx, ws WorkspaceKey, reason guard.Reason) error {
	_, err := tx.exec(`INSERT INTO denial_days (workspace_id, day, reason, denial_count) VALUES ($1, $2, $3, 1)
		ON CONFLICT (workspace_id, day, reason) DO UPDATE SET denial_count = denial_days.denial_count + 1`,
		ws, dayOf(tx.now), int64(reason))
	return err
}

// ReasonUsage is how often a rule objected.
type ReasonUsage struct {
	Reason                       guard.Reason
	Today, Last7Days, Last30Days int64
}

// reasonUsage lists the rules that objected in the last 30 days, the most
// frequent first.
func reasonUsage(tx *Tx, ws WorkspaceKey, today int64) (usage []ReasonUsage, err error) {
	err = tx.each(`SELECT reason, sum(CASE WHEN day = $2 THEN denial_count ELSE 0 END),
			sum(CASE WHEN day > $2 - 7 THEN denial_count ELSE 0 END), sum(denial_count) AS count_30
		FROM denial_days WHERE workspace_id = $1 AND day >= $3 AND day <= $2
		GROUP BY reason ORDER BY count_30 DESC, reason`, []any{ws, today, today - usageDays + 1}, func(rows scanner) error {
		var r ReasonUsage
		err := rows.Scan(&r.Reason, &r.Today, &r.Last7Days, &r.Last30Days)
		usage = append(usage, r)
		return err
	})
	return usage, err
}
