package verify

import "fmt"

// The counters are figures that are kept beside the ledger (runs, steps, denials)
// in the transactions that write it: counters that decisions read, and rollups
// that usage pages read. This file says, for each of them, how the ledger
// proves it. verify.go asks, and can set right; the tests ask the same.

// counterTable is a table's figures, and the query that recomputes them.
type counterTable struct {
	table   string
	key     []string // its primary key
	columns []string
	// ledger selects the key and the figures, under their names.
	ledger string
	// chunked says that ledger takes one chunk of runs, $1 < id <= $2, for the
	// tables that are too large to be compared at once.
	chunked bool
	// atLeast holds for a row (t) of which retention (x, see expired_history)
	// may have deleted some of the ledger: then what is left proves only that
	// its figures must not be lower.
	atLeast string
	// kept holds for the rows that the ledger proves; all of them where it is empty.
	kept string
	// optionalRows says that a missing row stands for zeros.
	optionalRows bool
	// unproved are columns of which the ledger says nothing: 0 in a row that a repair adds.
	unproved []string
}

// name is what differences of the counter table are listed under.
func (b counterTable) name() string {
	if len(b.columns) == 1 {
		return b.table + "." + b.columns[0]
	}
	return b.table
}

// Engine is whose SQL is spoken.
type Engine int

// The engines.
const (
	SQLite Engine = iota
	PostgreSQL
)

// elements returns a table of a JSON array's elements, and the type of an integer.
func (e Engine) elements(array string) (table, integer string) {
	if e == PostgreSQL {
		return `json_array_elements(` + array + `::json)`, `BIGINT`
	}
	return `json_each(` + array + `)`, `INTEGER`
}

// wholeText holds for a text of policies that is not cut short; others are listed by themselves.
const wholeText = `LIKE '[[%]]'`

// policiesOf makes a view with a row for each policy that a step or a start was asked of: what it
// said (1 did not object, 2 logged, 3 asked for a review, 4 denied, 5 passed by a grant), and where
// its limit counts the call, what it counts (1 usd, 2 tokens, 3 calls, 4 runs) and on which counter.
func (e Engine) policiesOf(view, columns, from, policies string) string {
	table, integer := e.elements(`CASE WHEN ` + policies + ` ` + wholeText + ` THEN ` + policies + ` END`)
	for i, name := range []string{"policy_id", "outcome", "measure", "counts_from", "scope", "slice"} {
		value := fmt.Sprintf(`a.value ->> %d`, i)
		if name != "scope" {
			value = `CAST(` + value + ` AS ` + integer + `)`
		}
		columns += `, ` + value + ` AS ` + name
	}
	return `CREATE TEMP VIEW ` + view + ` AS ` + columns + ` FROM ` + from + `, ` + table + ` a WHERE ` + policies + ` IS NOT NULL`
}

// stepsOfRuns are all columns of steps, found by their runs. What asks of a chunk of runs asks a copy
// of its steps: to find them anew for each of some forty checks takes most of the time.
const stepsOfRuns = `SELECT s.* FROM run_segments l JOIN steps s ON s.segment = l.segment AND s.run_id = l.run_id`

// emptySteps empties that copy. In PostgreSQL a DELETE would leave the rows of all chunks to be
// read over.
func (e Engine) emptySteps() string {
	if e == PostgreSQL {
		return `TRUNCATE ledger_steps`
	}
	return `DELETE FROM ledger_steps`
}

// ledgerByDay collects, chunk by chunk ($1 < id <= $2), what the days' counters
// are recomputed from. A run was born BLOCKED when its status is 4 and nobody
// ended it: a client may end a run as BLOCKED too.
func (e Engine) ledgerByDay() (create, fill []string) {
	create = []string{
		`CREATE TEMP TABLE ledger_steps AS ` + stepsOfRuns + ` WHERE 0 = 1`,
		e.policiesOf("step_policies", `SELECT s.run_id, s.uuid AS step_uuid, s.created_at, s.status, s.prompt_tokens, s.completion_tokens,
			s.cost_nanos`, `ledger_steps s`, `s.policies`),
		e.policiesOf("run_policies", `SELECT r.id AS run_id, r.workspace_id, r.started_at`, `runs r`, `r.policies`),
		`CREATE TEMP TABLE ledger_starts (workspace_id BIGINT, day BIGINT, user_id BIGINT, key_id BIGINT, allowed BIGINT, blocked BIGINT)`,
		`CREATE TEMP TABLE ledger_usage (workspace_id BIGINT, day BIGINT, user_id BIGINT, key_id BIGINT, model_id BIGINT,
			spend BIGINT, prompt BIGINT, completion BIGINT, unpriced BIGINT, unpriced_steps BIGINT)`,
		`CREATE TEMP TABLE ledger_silent_calls (workspace_id BIGINT, day BIGINT, model_id BIGINT, n BIGINT)`,
		`CREATE TEMP TABLE ledger_tags (workspace_id BIGINT, day BIGINT, key TEXT, value TEXT,
			spend BIGINT, prompt BIGINT, completion BIGINT, allowed BIGINT, blocked BIGINT)`,
		`CREATE TEMP TABLE ledger_minutes (workspace_id BIGINT, minute BIGINT, spend BIGINT)`,
		`CREATE TEMP TABLE ledger_denials (workspace_id BIGINT, day BIGINT, reason BIGINT, n BIGINT)`,
		`CREATE TEMP TABLE ledger_limits (workspace_id BIGINT, policy_id BIGINT, counts_from BIGINT, scope TEXT, slice BIGINT, used BIGINT)`,
		`CREATE TEMP TABLE ledger_hits (workspace_id BIGINT, day BIGINT, policy_id BIGINT, outcome BIGINT, n BIGINT)`,
		`CREATE TEMP TABLE ledger_payloads (workspace_id BIGINT, number BIGINT, n BIGINT)`,
	}
	fill = []string{
		`INSERT INTO ledger_steps ` + stepsOfRuns + ` WHERE l.run_id > $1 AND l.run_id <= $2`,
		`INSERT INTO ledger_starts
		SELECT workspace_id, started_at / 86400000, user_id, key_id,
			sum(CASE WHEN status = 4 AND ended_by IS NULL THEN 0 ELSE 1 END),
			sum(CASE WHEN status = 4 AND ended_by IS NULL THEN 1 ELSE 0 END)
		FROM runs WHERE id > $1 AND id <= $2
		GROUP BY workspace_id, started_at / 86400000, user_id, key_id`,
		`INSERT INTO ledger_starts
		SELECT workspace_id, local_day + ` + localDays + `, user_id, key_id,
			sum(CASE WHEN status = 4 AND ended_by IS NULL THEN 0 ELSE 1 END),
			sum(CASE WHEN status = 4 AND ended_by IS NULL THEN 1 ELSE 0 END)
		FROM runs WHERE id > $1 AND id <= $2 AND local_day IS NOT NULL
		GROUP BY workspace_id, local_day, user_id, key_id`,
		usageOf("booked_day", "0"), usageOf("local_day", localDays),
		tagUsageOf("booked_day", "0"), tagUsageOf("local_day", localDays),
		tagStartsOf("started_at / 86400000"), tagStartsOf("local_day + " + localDays),
		`INSERT INTO ledger_minutes
		SELECT workspace_id, minute, sum(spend) FROM (
			SELECT r.workspace_id, ` + stepMinute + ` AS minute, s.cost_nanos AS spend, w.spend_from
			FROM ledger_steps s JOIN runs r ON r.id = s.run_id JOIN workspaces w ON w.id = r.workspace_id
			WHERE s.run_id > $1 AND s.run_id <= $2 AND s.cost_nanos <> 0 AND s.booked_day >= w.spend_from / 1440) e
		WHERE minute >= spend_from GROUP BY workspace_id, minute`,
		// A model call that was COMPLETED without tokens counts on the day of its completion.
		`INSERT INTO ledger_silent_calls
		SELECT r.workspace_id, s.completed_at / 86400000 AS day, s.model_id, count(*)
		FROM ledger_steps s JOIN runs r ON r.id = s.run_id
		WHERE s.run_id > $1 AND s.run_id <= $2 AND ` + silentCall + `
		GROUP BY r.workspace_id, day, s.model_id`,
		`INSERT INTO ledger_payloads
		SELECT workspace_id, number, count(*) FROM (` + payloadPlaces + `) p GROUP BY workspace_id, number`,
		// A start is denied on the day of the run's start, a step on that of its creation;
		// a denial without its step proves no day.
		`INSERT INTO ledger_denials
		SELECT r.workspace_id, r.started_at / 86400000 AS day, d.reason, count(*)
		FROM denials d JOIN runs r ON r.id = d.run_id
		WHERE d.run_id > $1 AND d.run_id <= $2 AND octet_length(d.step_uuid) = 0
		GROUP BY r.workspace_id, day, d.reason`,
		`INSERT INTO ledger_denials
		SELECT r.workspace_id, s.created_at / 86400000 AS day, d.reason, count(*)
		FROM ledger_steps s JOIN runs r ON r.id = s.run_id JOIN denials d ON d.run_id = s.run_id AND d.step_uuid = s.uuid
		WHERE s.run_id > $1 AND s.run_id <= $2
		GROUP BY r.workspace_id, day, d.reason`,
		// What a step uses counts in the window in which it was asked for; one that was denied
		// uses nothing.
		`INSERT INTO ledger_limits
		SELECT r.workspace_id, a.policy_id, a.counts_from, a.scope, a.slice,
			sum(CASE a.measure WHEN 1 THEN coalesce(a.cost_nanos, 0)
				WHEN 2 THEN coalesce(a.prompt_tokens + a.completion_tokens, 0) ELSE 1 END)
		FROM step_policies a JOIN runs r ON r.id = a.run_id
		WHERE a.run_id > $1 AND a.run_id <= $2 AND a.measure IS NOT NULL AND a.status <> 4
		GROUP BY r.workspace_id, a.policy_id, a.counts_from, a.scope, a.slice`,
		`INSERT INTO ledger_limits
		SELECT workspace_id, policy_id, counts_from, scope, slice, count(*) FROM run_policies
		WHERE run_id > $1 AND run_id <= $2 AND measure IS NOT NULL
		GROUP BY workspace_id, policy_id, counts_from, scope, slice`,
		`INSERT INTO ledger_hits
		SELECT r.workspace_id, a.created_at / 86400000 AS day, a.policy_id, a.outcome, count(*)
		FROM step_policies a JOIN runs r ON r.id = a.run_id
		WHERE a.run_id > $1 AND a.run_id <= $2 AND a.outcome > 1
		GROUP BY r.workspace_id, day, a.policy_id, a.outcome`,
		`INSERT INTO ledger_hits
		SELECT workspace_id, started_at / 86400000 AS day, policy_id, outcome, count(*) FROM run_policies
		WHERE run_id > $1 AND run_id <= $2 AND outcome > 1
		GROUP BY workspace_id, day, policy_id, outcome`,
	}
	return create, fill
}

// localDays is added to the dates of a workspace's own zone, as storage adds it.
const localDays = `1000000`

// localDayInvariants say what the ledger's dates of a zone may be.
func localDayInvariants() []invariant {
	return []invariant{
		{
			name: "local_day", holds: "a date on which some place had the UTC day", key: 2, chunked: true,
			query: `SELECT s.run_id, s.uuid, s.booked_day, s.local_day FROM ledger_steps s WHERE s.run_id > $1 AND s.run_id <= $2
				AND s.local_day IS NOT NULL AND (s.booked_day IS NULL OR s.local_day NOT BETWEEN s.booked_day - 1 AND s.booked_day + 1)
				UNION ALL SELECT id, uuid, started_at / 86400000, local_day FROM runs WHERE id > $1 AND id <= $2
				AND local_day NOT BETWEEN started_at / 86400000 - 1 AND started_at / 86400000 + 1`,
		},
	}
}

// usageOf collects what steps used, by the day in a column of them.
func usageOf(column, more string) string {
	return `INSERT INTO ledger_usage
		SELECT r.workspace_id, s.` + column + ` + ` + more + `, r.user_id, r.key_id, s.model_id, coalesce(sum(s.cost_nanos), 0),
			sum(s.prompt_tokens), sum(s.completion_tokens),
			sum(CASE WHEN s.cost_nanos IS NULL THEN s.prompt_tokens + s.completion_tokens ELSE 0 END),
			sum(CASE WHEN s.cost_nanos IS NULL AND s.prompt_tokens + s.completion_tokens > 0 THEN 1 ELSE 0 END)
		FROM ledger_steps s JOIN runs r ON r.id = s.run_id
		WHERE s.run_id > $1 AND s.run_id <= $2 AND s.` + column + ` IS NOT NULL
		GROUP BY r.workspace_id, s.` + column + `, r.user_id, r.key_id, s.model_id`
}

// tagUsageOf is usageOf for the tags of the steps' runs.
func tagUsageOf(column, more string) string {
	return `INSERT INTO ledger_tags
		SELECT t.workspace_id, s.` + column + ` + ` + more + `, t.key, t.value, coalesce(sum(s.cost_nanos), 0),
			sum(s.prompt_tokens), sum(s.completion_tokens), 0, 0
		FROM run_tags t JOIN ledger_steps s ON s.run_id = t.run_id
		WHERE t.run_id > $1 AND t.run_id <= $2 AND s.` + column + ` IS NOT NULL
		GROUP BY t.workspace_id, s.` + column + `, t.key, t.value`
}

// tagStartsOf collects the starts of runs with tags, by a day of the run (r).
func tagStartsOf(day string) string {
	return `INSERT INTO ledger_tags
		SELECT t.workspace_id, ` + day + ` AS day, t.key, t.value, 0, 0, 0,
			sum(CASE WHEN r.status = 4 AND r.ended_by IS NULL THEN 0 ELSE 1 END),
			sum(CASE WHEN r.status = 4 AND r.ended_by IS NULL THEN 1 ELSE 0 END)
		FROM run_tags t JOIN runs r ON r.id = t.run_id
		WHERE t.run_id > $1 AND t.run_id <= $2 AND ` + day + ` IS NOT NULL
		GROUP BY t.workspace_id, ` + day + `, t.key, t.value`
}

// stepMinute is the minute in which a step (s) counts what it cost: that of its
// completion, or until then of its creation, where that is on its day.
const stepMinute = `CASE WHEN s.completed_at / 86400000 = s.booked_day THEN s.completed_at / 60000
		WHEN s.created_at / 86400000 = s.booked_day THEN s.created_at / 60000 END`

// The first minutes that are kept, and that are whole, of the workspace of a row.
const (
	minutesFrom = `(SELECT w.minutes_from FROM workspaces w WHERE w.id = workspace_id)`
	spendFrom   = `(SELECT w.spend_from FROM workspaces w WHERE w.id = workspace_id)`
)

// silentCall is a step (s) that is counted as a call without usage.
const silentCall = `s.type = 1 AND s.status = 2 AND coalesce(s.prompt_tokens + s.completion_tokens, 0) = 0
		AND coalesce(s.cost_nanos, 0) = 0`

// beforeCompleteDay is the atLeast of a counter table by days. A date of a zone begins on the UTC
// day before at the earliest.
const beforeCompleteDay = `CASE WHEN t.day < ` + localDays + ` THEN t.day ELSE t.day - ` + localDays + ` - 1 END < x.complete_from`

// counterTables lists all of them. The order matters to a repair: users.run_count is
// recomputed from user_days where the ledger is gone.
func counterTables() []counterTable {
	return []counterTable{
		{
			table: "runs", key: []string{"id"}, chunked: true,
			columns: []string{
				"step_count", "blocked_step_count", "prompt_tokens", "completion_tokens", "spend_nanos",
				"unpriced_tokens", "calls_without_usage",
			},
			ledger: `SELECT run_id AS id, count(*) AS step_count, sum(CASE WHEN status = 4 THEN 1 ELSE 0 END) AS blocked_step_count,
					sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens, sum(cost_nanos) AS spend_nanos,
					sum(CASE WHEN cost_nanos IS NULL THEN prompt_tokens + completion_tokens ELSE 0 END) AS unpriced_tokens,
					sum(CASE WHEN ` + silentCall + ` THEN 1 ELSE 0 END) AS calls_without_usage
				FROM ledger_steps s WHERE run_id > $1 AND run_id <= $2 GROUP BY run_id`,
			atLeast: `t.status <> 1 AND t.started_at < x.started_before`,
		},
		{
			table: "workspaces", key: []string{"id"}, columns: []string{"running_runs", "pending_reviews"},
			ledger: `SELECT workspace_id AS id, sum(running) AS running_runs, sum(pending) AS pending_reviews
				FROM (SELECT workspace_id, 1 AS running, 0 AS pending FROM runs WHERE status = 1
					UNION ALL SELECT workspace_id, 0, 1 FROM reviews WHERE resolution = 0) e GROUP BY workspace_id`,
		},
		{
			table: "workspace_days", key: []string{"workspace_id", "day"}, optionalRows: true, atLeast: beforeCompleteDay,
			columns: []string{
				"spend_nanos", "prompt_tokens", "completion_tokens", "run_count", "blocked_run_count",
				"unpriced_tokens", "unpriced_steps", "calls_without_usage",
			},
			ledger: `SELECT workspace_id, day, sum(spend) AS spend_nanos, sum(prompt) AS prompt_tokens,
					sum(completion) AS completion_tokens, sum(allowed) AS run_count, sum(blocked) AS blocked_run_count,
					sum(unpriced) AS unpriced_tokens, sum(unpriced_steps) AS unpriced_steps, sum(silent) AS calls_without_usage
				FROM (SELECT workspace_id, day, spend, prompt, completion, 0 AS allowed, 0 AS blocked,
						unpriced, unpriced_steps, 0 AS silent FROM ledger_usage
					UNION ALL SELECT workspace_id, day, 0, 0, 0, allowed, blocked, 0, 0, 0 FROM ledger_starts
					UNION ALL SELECT workspace_id, day, 0, 0, 0, 0, 0, 0, 0, n FROM ledger_silent_calls) e
				GROUP BY workspace_id, day`,
		},
		{
			table: "user_days", key: []string{"workspace_id", "day", "user_id"}, optionalRows: true, atLeast: beforeCompleteDay,
			columns: []string{"spend_nanos", "run_count", "unpriced_tokens"},
			ledger: `SELECT workspace_id, day, user_id, sum(spend) AS spend_nanos, sum(allowed) AS run_count,
					sum(unpriced) AS unpriced_tokens
				FROM (SELECT workspace_id, day, user_id, spend, 0 AS allowed, unpriced FROM ledger_usage
					UNION ALL SELECT workspace_id, day, user_id, 0, allowed, 0 FROM ledger_starts) e
				GROUP BY workspace_id, day, user_id`,
		},
		{
			table: "model_days", key: []string{"workspace_id", "day", "model_id"}, optionalRows: true, atLeast: beforeCompleteDay,
			columns: []string{
				"spend_nanos", "prompt_tokens", "completion_tokens", "unpriced_tokens", "unpriced_steps", "calls_without_usage",
			},
			ledger: `SELECT workspace_id, day, model_id, sum(spend) AS spend_nanos, sum(prompt) AS prompt_tokens,
					sum(completion) AS completion_tokens, sum(unpriced) AS unpriced_tokens,
					sum(unpriced_steps) AS unpriced_steps, sum(silent) AS calls_without_usage
				FROM (SELECT workspace_id, day, model_id, spend, prompt, completion, unpriced, unpriced_steps, 0 AS silent
						FROM ledger_usage
					UNION ALL SELECT workspace_id, day, model_id, 0, 0, 0, 0, 0, n FROM ledger_silent_calls) e
				WHERE model_id IS NOT NULL GROUP BY workspace_id, day, model_id`,
		},
		{
			table: "key_days", key: []string{"workspace_id", "day", "key_id"}, optionalRows: true, atLeast: beforeCompleteDay,
			columns: []string{"spend_nanos", "prompt_tokens", "completion_tokens", "run_count", "blocked_run_count"},
			ledger: `SELECT workspace_id, day, key_id, sum(spend) AS spend_nanos, sum(prompt) AS prompt_tokens,
					sum(completion) AS completion_tokens, sum(allowed) AS run_count, sum(blocked) AS blocked_run_count
				FROM (SELECT workspace_id, day, key_id, spend, prompt, completion, 0 AS allowed, 0 AS blocked FROM ledger_usage
					UNION ALL SELECT workspace_id, day, key_id, 0, 0, 0, allowed, blocked FROM ledger_starts) e
				WHERE key_id IS NOT NULL GROUP BY workspace_id, day, key_id`,
		},
		{
			// A value that came when its day had as many as it may have is not counted.
			table: "tag_days", key: []string{"workspace_id", "day", "key", "value"}, optionalRows: true, atLeast: beforeCompleteDay,
			columns: []string{"spend_nanos", "prompt_tokens", "completion_tokens", "run_count", "blocked_run_count"},
			ledger: `SELECT workspace_id, day, key, value, sum(spend) AS spend_nanos, sum(prompt) AS prompt_tokens,
					sum(completion) AS completion_tokens, sum(allowed) AS run_count, sum(blocked) AS blocked_run_count
				FROM ledger_tags l
				WHERE EXISTS (SELECT 1 FROM tag_days d WHERE d.workspace_id = l.workspace_id AND d.day = l.day
						AND d.key = l.key AND d.value = l.value)
					OR (SELECT count(*) FROM tag_days d WHERE d.workspace_id = l.workspace_id AND d.day = l.day) < 1000
				GROUP BY workspace_id, day, key, value`,
		},
		{
			table: "denial_days", key: []string{"workspace_id", "day", "reason"}, optionalRows: true, atLeast: beforeCompleteDay,
			columns: []string{"denial_count"},
			ledger: `SELECT workspace_id, day, reason, sum(n) AS denial_count
				FROM ledger_denials GROUP BY workspace_id, day, reason`,
		},
		{
			table: "spend_minutes", key: []string{"workspace_id", "minute"}, optionalRows: true,
			atLeast: `t.minute / 1440 < x.complete_from`, columns: []string{"spend_nanos"},
			unproved: []string{"top_run_id", "top_nanos"}, // the row then names no run
			kept:     `minute >= ` + minutesFrom + ` AND minute >= ` + spendFrom,
			ledger: `SELECT workspace_id, minute, sum(spend) AS spend_nanos FROM ledger_minutes
				WHERE minute >= ` + minutesFrom + ` GROUP BY workspace_id, minute`,
		},
		{
			table: "spend_quarter_hours", key: []string{"workspace_id", "quarter"}, optionalRows: true,
			atLeast: `t.quarter / 96 < x.complete_from`, columns: []string{"spend_nanos"},
			kept: `quarter * 15 >= ` + spendFrom,
			ledger: `SELECT workspace_id, minute / 15 AS quarter, sum(spend) AS spend_nanos FROM ledger_minutes
				WHERE minute < ` + minutesFrom + ` GROUP BY workspace_id, minute / 15`,
		},
		{
			table: "policy_counters", key: []string{"workspace_id", "policy_id", "counts_from", "scope", "slice"},
			optionalRows: true, atLeast: `t.slice < x.complete_from * 86400000`, columns: []string{"used"},
			ledger: `SELECT workspace_id, policy_id, counts_from, scope, slice, sum(used) AS used
				FROM ledger_limits GROUP BY workspace_id, policy_id, counts_from, scope, slice`,
		},
		{
			table: "policy_days", key: []string{"workspace_id", "day", "policy_id", "outcome"}, optionalRows: true, atLeast: beforeCompleteDay,
			columns: []string{"hit_count"},
			ledger: `SELECT workspace_id, day, policy_id, outcome, sum(n) AS hit_count
				FROM ledger_hits GROUP BY workspace_id, day, policy_id, outcome`,
		},
		{
			table: "users", key: []string{"id"}, columns: []string{"run_count"},
			ledger: `SELECT user_id AS id, sum(n) AS run_count
				FROM (SELECT d.user_id, d.run_count AS n FROM user_days d
						JOIN expired_history x ON x.workspace_id = d.workspace_id WHERE d.day < x.complete_from
					UNION ALL SELECT s.user_id, s.allowed FROM ledger_starts s
						LEFT JOIN expired_history x ON x.workspace_id = s.workspace_id
						WHERE s.day >= coalesce(x.complete_from, s.day) AND s.day < ` + localDays + `) e
				GROUP BY user_id`,
		},
	}
}
