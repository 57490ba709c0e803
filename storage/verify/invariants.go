package verify

import "strings"

// invariant is what holds between rows at every commit. Its query selects the rows
// that break it: first the columns that name one, then those that show how.
type invariant struct {
	name    string
	holds   string // what should be, for people
	key     int    // how many columns name the row
	chunked bool   // the query takes one piece of runs, $1 < id <= $2
	query   string
}

// wholeRun leaves out ended runs of which retention may have deleted a part.
const wholeRun = `NOT EXISTS (SELECT 1 FROM expired_history x
	WHERE x.workspace_id = r.workspace_id AND r.status <> 1 AND r.started_at < x.started_before)`

// invariants lists all of them. A break is for a person to judge: no repair can know
// which of two rows is the wrong one.
func invariants() []invariant {
	all := append(denialInvariants(), runInvariants()...)
	all = append(all, usageInvariants()...)
	all = append(all, localDayInvariants()...)
	all = append(all, burnInvariants()...)
	all = append(all, signInvariants()...)
	all = append(all, planInvariants()...)
	all = append(all, outboxInvariants()...)
	all = append(all, reviewInvariants()...)
	all = append(all, payloadInvariants()...)
	return append(all, orphanInvariants()...)
}

// denialInvariants: every denial has a row, and every such row belongs to a denial. Reasons are the
// numbers of guard.Reason.
func denialInvariants() []invariant {
	return []invariant{
		{
			name: "denials", holds: "a run born BLOCKED has a denial", key: 1, chunked: true,
			query: `SELECT r.id AS run_id FROM runs r WHERE r.id > $1 AND r.id <= $2 AND r.status = 4 AND r.ended_by IS NULL
				AND NOT EXISTS (SELECT 1 FROM denials d WHERE d.run_id = r.id AND octet_length(d.step_uuid) = 0) AND ` + wholeRun,
		},
		{
			name: "denials", holds: "a BLOCKED step has a denial", key: 2, chunked: true,
			query: `SELECT s.run_id, s.uuid FROM ledger_steps s JOIN runs r ON r.id = s.run_id
				WHERE s.run_id > $1 AND s.run_id <= $2 AND s.status = 4
				AND NOT EXISTS (SELECT 1 FROM denials d WHERE d.run_id = s.run_id AND d.step_uuid = s.uuid) AND ` + wholeRun,
		},
		{
			name: "denials", holds: "a start's denial belongs to a run born BLOCKED", key: 2, chunked: true,
			query: `SELECT d.run_id, d.step_uuid FROM denials d WHERE d.run_id > $1 AND d.run_id <= $2 AND octet_length(d.step_uuid) = 0
				AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = d.run_id AND r.status = 4 AND r.ended_by IS NULL)`,
		},
		{
			name: "denials", holds: "a step's denial belongs to a BLOCKED step, or to one whose review was bypassed", key: 2, chunked: true,
			query: `SELECT run_id, step_uuid FROM denials WHERE run_id > $1 AND run_id <= $2 AND octet_length(step_uuid) > 0
				EXCEPT SELECT run_id, uuid FROM ledger_steps WHERE run_id > $1 AND run_id <= $2 AND status = 4
				EXCEPT SELECT run_id, step_uuid FROM reviews WHERE run_id > $1 AND run_id <= $2 AND resolution = 6`,
		},
		// A new guard.Reason must be added here. Which rules can object where, and what they
		// keep: RunAlreadyEnded (1) only to steps; MonthlyRunLimitExceeded (6) and
		// MaxConcurrentRunsExceeded (7) only to starts. 4 to 7 have a limit, and 4 to 6 reset
		// by themselves. Policies (9, 10) object to both; 10 has a limit, and may reset. Reviews
		// (11 to 14) are of steps. The others have no limit.
		{
			name: "denials: contents", holds: "a reason with its limit, use and reset", key: 2, chunked: true,
			query: `SELECT run_id, step_uuid, reason, limit_value, used_value, resets_at FROM denials
				WHERE run_id > $1 AND run_id <= $2
				AND NOT (CASE WHEN octet_length(step_uuid) = 0 THEN reason BETWEEN 2 AND 7 OR reason IN (9, 10)
						ELSE reason BETWEEN 1 AND 5 OR reason BETWEEN 8 AND 14 END
					AND CASE WHEN reason BETWEEN 4 AND 7 OR reason = 10 THEN used_value >= limit_value
						ELSE limit_value = 0 AND used_value = 0 END
					AND (reason = 10 OR (resets_at IS NOT NULL) = (reason BETWEEN 4 AND 6))
					AND (policy_id IS NOT NULL) = (reason BETWEEN 9 AND 14)
					AND (policy_version IS NOT NULL) = (reason BETWEEN 9 AND 14))`,
		},
		{
			// Older versions left it out where all denials came after the end (1).
			name: "runs.deny_reason", holds: "the reason of a denied start or step; that it had ended only where there is no other", key: 1, chunked: true,
			query: `SELECT r.id AS run_id, r.deny_reason FROM runs r LEFT JOIN denials d ON d.run_id = r.id
				WHERE r.id > $1 AND r.id <= $2 AND ` + wholeRun + `
				GROUP BY r.id, r.deny_reason
				HAVING CASE WHEN r.deny_reason IS NULL THEN coalesce(max(d.reason), 1) > 1
					ELSE coalesce(max(CASE WHEN d.reason = r.deny_reason THEN 1 ELSE 0 END), 0) = 0 OR r.deny_reason = 1 AND max(d.reason) > 1 END`,
		},
	}
}

// runInvariants: a run's status, end and counters fit each other and its steps.
func runInvariants() []invariant {
	return []invariant{
		{
			name: "runs: ends", holds: "RUNNING without, BLOCKED with or without, others with an end", key: 1, chunked: true,
			query: `SELECT id AS run_id, status, ended_at, ended_by FROM runs WHERE id > $1 AND id <= $2
				AND NOT (status BETWEEN 1 AND 4 AND (status = 1) = (ended_at IS NULL)
					AND CASE WHEN status = 1 THEN ended_by IS NULL ELSE status = 4 OR ended_by IS NOT NULL END)`,
		},
		{
			name: "run_segments", holds: "the step is in one segment", key: 2, chunked: true,
			query: `SELECT run_id, uuid, count(*) AS segments FROM ledger_steps WHERE run_id > $1 AND run_id <= $2
				GROUP BY run_id, uuid HAVING count(*) > 1`,
		},
		{
			name: "steps: of a denied run", holds: "BLOCKED", key: 2, chunked: true,
			query: `SELECT s.run_id, s.uuid, s.status FROM runs r JOIN ledger_steps s ON s.run_id = r.id
				WHERE r.id > $1 AND r.id <= $2 AND r.status = 4 AND r.ended_by IS NULL AND s.status <> 4`,
		},
		{
			name: "steps: completion", holds: "a time for COMPLETED and FAILED alone", key: 2, chunked: true,
			query: `SELECT run_id, uuid, status, completed_at FROM ledger_steps WHERE run_id > $1 AND run_id <= $2
				AND NOT (status BETWEEN 1 AND 6 AND (completed_at IS NOT NULL) = (status IN (2, 3)))`,
		},
		{
			name: "api_keys: first", holds: "an agent's key that is neither revoked nor expires", key: 2,
			query: `SELECT workspace_id, prefix, scope, revoked_at, expires_at FROM api_keys
				WHERE is_first <> 0 AND (is_first <> 1 OR scope <> 'agent' OR revoked_at IS NOT NULL OR expires_at IS NOT NULL)`,
		},
		{
			name: "api_keys: scope", holds: "agent, read or admin", key: 2,
			query: `SELECT workspace_id, prefix, scope FROM api_keys WHERE scope NOT IN ('agent', 'read', 'admin')`,
		},
	}
}

// Of runs and minutes from before the upgrade that counts them, nothing is proven.
func burnInvariants() []invariant {
	return []invariant{
		{
			name: "runs: burn", holds: "what the run's steps cost in the minute, and in the one before", key: 1, chunked: true,
			query: `SELECT e.run_id, e.burn_minute, e.burn_nanos, e.burn_before_nanos
				FROM (SELECT r.id AS run_id, r.burn_minute, r.burn_nanos, r.burn_before_nanos, s.cost_nanos, ` + stepMinute + ` AS minute
					FROM runs r JOIN workspaces w ON w.id = r.workspace_id JOIN ledger_steps s ON s.run_id = r.id
					WHERE r.id > $1 AND r.id <= $2 AND r.burn_minute > w.spend_from AND ` + wholeRun + `) e
				GROUP BY e.run_id, e.burn_minute, e.burn_nanos, e.burn_before_nanos
				HAVING e.burn_nanos <> sum(CASE WHEN e.minute = e.burn_minute THEN coalesce(e.cost_nanos, 0) ELSE 0 END)
					OR e.burn_before_nanos <> sum(CASE WHEN e.minute = e.burn_minute - 1 THEN coalesce(e.cost_nanos, 0) ELSE 0 END)
					OR coalesce(max(CASE WHEN e.cost_nanos > 0 THEN e.minute END), 0) > e.burn_minute`,
		},
		{
			name: "spend_minutes: top run", holds: "what the run's steps cost in the minute", key: 2,
			query: `SELECT m.workspace_id, m.minute, m.top_run_id, m.top_nanos
				FROM spend_minutes m JOIN workspaces w ON w.id = m.workspace_id JOIN runs r ON r.id = m.top_run_id
				WHERE m.minute >= w.spend_from AND ` + wholeRun + `
				AND m.top_nanos <> (SELECT coalesce(sum(s.cost_nanos), 0) FROM run_steps s
					WHERE s.run_id = m.top_run_id AND ` + stepMinute + ` = m.minute)`,
		},
	}
}

// stepCost is what a step (s) costs that used so many tokens, with what else it has used (u, which
// may not be there): each kind of tokens times its price, rounded up. Prices are taken in thousands
// of picos and the rest, because tokens times picos can exceed 64 bits where the cost does not.
func stepCost(prompt, completion string) string {
	kinds := []struct{ tokens, price string }{
		{prompt + ` - coalesce(u.cached_tokens + u.cache_write_tokens, 0)`, `s.input_picos`},
		{`coalesce(u.cached_tokens, 0)`, `coalesce(u.cached_picos, 0)`},
		{`coalesce(u.cache_write_tokens - u.cache_write_1h_tokens, 0)`, `coalesce(u.cache_write_picos, 0)`},
		{`coalesce(u.cache_write_1h_tokens, 0)`, `coalesce(u.cache_write_1h_picos, 0)`},
		{completion + ` - coalesce(u.reasoning_tokens, 0)`, `s.output_picos`},
		{`coalesce(u.reasoning_tokens, 0)`, `coalesce(u.reasoning_picos, 0)`},
	}
	var whole, rest []string
	for _, k := range kinds {
		whole = append(whole, `CAST(`+k.tokens+` AS NUMERIC) * (`+k.price+` / 1000)`)
		rest = append(rest, `CAST(`+k.tokens+` AS NUMERIC) * (`+k.price+` % 1000)`)
	}
	return `(` + strings.Join(whole, ` + `) + ` + floor((` + strings.Join(rest, ` + `) + ` + 999) / 1000)
		+ coalesce((SELECT p.call_nanos FROM price_points p WHERE p.id = s.price_id), 0))`
}

// stepUsage joins what else a step (s) has used (u).
const stepUsage = ` LEFT JOIN step_usage u ON u.segment = s.segment AND u.run_id = s.run_id AND u.step_uuid = s.uuid `

// usageInvariants: what a step has used, its prices and its cost fit each other.
func usageInvariants() []invariant {
	return []invariant{
		// Usage is reported as a whole or not at all, never on a blocked step,
		// and it costs something exactly when there were prices.
		{
			name: "steps: usage", holds: "usage whole or absent, a cost where there are prices or a reported one, none when BLOCKED", key: 2, chunked: true,
			query: `SELECT s.run_id, s.uuid, s.status, s.booked_day, s.prompt_tokens, s.completion_tokens, s.input_picos, s.output_picos,
					s.cost_nanos, u.reported_nanos
				FROM ledger_steps s` + stepUsage + `WHERE s.run_id > $1 AND s.run_id <= $2
				AND ((s.booked_day IS NULL) <> (s.prompt_tokens IS NULL) OR (s.booked_day IS NULL) <> (s.completion_tokens IS NULL)
					OR (s.input_picos IS NULL) <> (s.output_picos IS NULL) OR s.input_picos IS NOT NULL AND s.cost_nanos IS NULL
					OR s.input_picos IS NULL AND s.cost_nanos IS NOT NULL AND (u.reported_nanos IS NULL OR s.cost_nanos > u.reported_nanos
						OR s.cost_nanos < u.reported_nanos
							AND NOT EXISTS (SELECT 1 FROM capped_steps c WHERE c.run_id = s.run_id AND c.step_uuid = s.uuid))
					OR s.booked_day IS NULL AND (s.cost_nanos IS NOT NULL OR u.run_id IS NOT NULL)
					OR s.model_id IS NULL AND s.cost_nanos IS NOT NULL
					OR s.status = 4 AND s.booked_day IS NOT NULL)`,
		},
		{
			name: "step_usage", holds: "parts within their wholes, and nothing below zero", key: 2, chunked: true,
			query: `SELECT s.run_id, s.uuid, s.prompt_tokens, u.cached_tokens, u.cache_write_tokens, u.cache_write_1h_tokens,
					s.completion_tokens, u.reasoning_tokens, u.service_tier, u.reported_nanos
				FROM ledger_steps s JOIN step_usage u ON u.segment = s.segment AND u.run_id = s.run_id AND u.step_uuid = s.uuid
				LEFT JOIN capped_steps c ON c.run_id = s.run_id AND c.step_uuid = s.uuid
				WHERE s.run_id > $1 AND s.run_id <= $2
				AND (u.cached_tokens < 0 OR u.cache_write_tokens < 0 OR u.cache_write_1h_tokens < 0 OR u.reasoning_tokens < 0
					OR coalesce(u.reported_nanos, 0) < 0 OR u.cached_picos < 0 OR u.cache_write_picos < 0
					OR u.cache_write_1h_picos < 0 OR u.reasoning_picos < 0
					OR u.cached_tokens + u.cache_write_tokens > coalesce(c.prompt_tokens, s.prompt_tokens)
					OR u.cache_write_1h_tokens > u.cache_write_tokens
					OR u.reasoning_tokens > coalesce(c.completion_tokens, s.completion_tokens)
					OR u.service_tier NOT BETWEEN 0 AND 5)`,
		},
		{
			name: "price_points", holds: "a source with its version, and nothing below zero", key: 1,
			query: `SELECT id, source, name, version, call_nanos FROM price_points
				WHERE source NOT IN (2, 3) AND (source <> 1 OR version <> '') OR source = 3 AND version = '' OR call_nanos < 0`,
		},
		{
			name: "models: prices", holds: "two prices, or another model's name, or neither where there is no entry", key: 2,
			query: `SELECT workspace_id, name, input_picos, output_picos, same_as, is_active FROM models
				WHERE (input_picos IS NULL) <> (output_picos IS NULL) OR input_picos IS NOT NULL AND same_as IS NOT NULL
					OR is_active <> 0 AND input_picos IS NULL AND same_as IS NULL OR is_active NOT IN (0, 1)
					OR rates IS NOT NULL AND (input_picos IS NULL OR rates = '')`,
		},
		{
			name: "steps.price_id", holds: "one of the workspace's price_points, on a step with prices", key: 2, chunked: true,
			query: `SELECT run_id, uuid, price_id, input_picos FROM ledger_steps s WHERE run_id > $1 AND run_id <= $2
				AND price_id IS NOT NULL AND (input_picos IS NULL OR NOT EXISTS (SELECT 1 FROM price_points p
					JOIN runs r ON r.id = s.run_id AND r.workspace_id = p.workspace_id WHERE p.id = s.price_id))`,
		},
		{
			name: "steps.cost_nanos", holds: "tokens times prices, rounded up", key: 2, chunked: true,
			query: `SELECT s.run_id, s.uuid, s.prompt_tokens, s.input_picos, s.completion_tokens, s.output_picos, s.cost_nanos
				FROM ledger_steps s` + stepUsage + `WHERE s.run_id > $1 AND s.run_id <= $2 AND s.input_picos IS NOT NULL
				AND s.cost_nanos <> ` + stepCost("s.prompt_tokens", "s.completion_tokens") + `
				AND NOT EXISTS (SELECT 1 FROM capped_steps c WHERE c.run_id = s.run_id AND c.step_uuid = s.uuid)`,
		},
		// Beyond 64 bits PostgreSQL counts on, SQLite in floating point: near enough for a bound.
		{
			name: "capped_steps", holds: "a step of which less is booked than was reported", key: 2, chunked: true,
			query: `SELECT run_id, uuid, prompt_tokens, reported_prompt, completion_tokens, reported_completion, cost_nanos, whole_cost
				FROM (SELECT s.run_id, s.uuid, s.prompt_tokens, c.prompt_tokens AS reported_prompt,
						s.completion_tokens, c.completion_tokens AS reported_completion, s.cost_nanos,
						CASE WHEN s.input_picos IS NULL THEN u.reported_nanos
							ELSE ` + stepCost("c.prompt_tokens", "c.completion_tokens") + ` END AS whole_cost
					FROM capped_steps c JOIN ledger_steps s ON s.run_id = c.run_id AND s.uuid = c.step_uuid` + stepUsage + `
					WHERE s.run_id > $1 AND s.run_id <= $2) x
				WHERE NOT (prompt_tokens <= reported_prompt AND completion_tokens <= reported_completion
					AND coalesce(cost_nanos <= whole_cost, 1 = 1)
					AND (prompt_tokens < reported_prompt OR completion_tokens < reported_completion
						OR coalesce(cost_nanos < whole_cost, 1 = 0)))`,
		},
		// What the ledger no longer proves, the rollups still prove of each
		// other: every dollar and run of a workspace is one of a user's, and
		// every dollar one of a model's. Tokens may belong to no model.
		{
			name: "days agree", holds: "the same by workspace and by user", key: 2,
			query: `SELECT d.workspace_id, d.day, d.spend_nanos, u.spend AS spend_by_user, d.run_count, u.runs AS runs_by_user
				FROM workspace_days d JOIN expired_history x ON x.workspace_id = d.workspace_id AND d.day < x.complete_from
				LEFT JOIN (SELECT workspace_id, day, sum(spend_nanos) AS spend, sum(run_count) AS runs
					FROM user_days GROUP BY workspace_id, day) u ON u.workspace_id = d.workspace_id AND u.day = d.day
				WHERE d.spend_nanos <> coalesce(u.spend, 0) OR d.run_count <> coalesce(u.runs, 0)`,
		},
		// Of unpriced tokens older versions have kept no more than the models'.
		{
			name: "days agree", holds: "no more unpriced tokens by user than by workspace", key: 2,
			query: `SELECT d.workspace_id, d.day, d.unpriced_tokens, u.unpriced AS unpriced_by_user
				FROM workspace_days d JOIN (SELECT workspace_id, day, sum(unpriced_tokens) AS unpriced
					FROM user_days GROUP BY workspace_id, day) u ON u.workspace_id = d.workspace_id AND u.day = d.day
				WHERE d.unpriced_tokens < u.unpriced`,
		},
		{
			name: "days agree", holds: "no more unpriced tokens, steps and silent calls by model than by workspace", key: 2,
			query: `SELECT d.workspace_id, d.day, d.unpriced_tokens, m.unpriced AS unpriced_by_model,
					d.unpriced_steps, m.steps AS steps_by_model, d.calls_without_usage, m.calls AS calls_by_model
				FROM workspace_days d JOIN (SELECT workspace_id, day, sum(unpriced_tokens) AS unpriced,
					sum(unpriced_steps) AS steps, sum(calls_without_usage) AS calls
					FROM model_days GROUP BY workspace_id, day) m ON m.workspace_id = d.workspace_id AND m.day = d.day
				WHERE d.unpriced_tokens < m.unpriced OR d.unpriced_steps < m.steps OR d.calls_without_usage < m.calls`,
		},
		{
			name: "days agree", holds: "the same spend by workspace and by model, and no more tokens by model", key: 2,
			query: `SELECT d.workspace_id, d.day, d.spend_nanos, m.spend AS spend_by_model, d.prompt_tokens, m.prompt AS prompt_by_model,
					d.completion_tokens, m.completion AS completion_by_model
				FROM workspace_days d JOIN expired_history x ON x.workspace_id = d.workspace_id AND d.day < x.complete_from
				LEFT JOIN (SELECT workspace_id, day, sum(spend_nanos) AS spend, sum(prompt_tokens) AS prompt,
					sum(completion_tokens) AS completion
					FROM model_days GROUP BY workspace_id, day) m ON m.workspace_id = d.workspace_id AND m.day = d.day
				WHERE d.spend_nanos <> coalesce(m.spend, 0) OR d.prompt_tokens < coalesce(m.prompt, 0)
					OR d.completion_tokens < coalesce(m.completion, 0)`,
		},
		// Runs of before keys were kept belong to none.
		{
			name: "days agree", holds: "no more by key than by workspace", key: 2,
			query: `SELECT k.workspace_id, k.day, d.spend_nanos, k.spend AS spend_by_key, d.prompt_tokens, k.prompt AS prompt_by_key,
					d.completion_tokens, k.completion AS completion_by_key, d.run_count, k.runs AS runs_by_key,
					d.blocked_run_count, k.blocked AS blocked_by_key
				FROM (SELECT workspace_id, day, sum(spend_nanos) AS spend, sum(prompt_tokens) AS prompt,
						sum(completion_tokens) AS completion, sum(run_count) AS runs, sum(blocked_run_count) AS blocked
					FROM key_days GROUP BY workspace_id, day) k
				JOIN expired_history x ON x.workspace_id = k.workspace_id AND k.day < x.complete_from
				LEFT JOIN workspace_days d ON d.workspace_id = k.workspace_id AND d.day = k.day
				WHERE k.spend > coalesce(d.spend_nanos, 0) OR k.prompt > coalesce(d.prompt_tokens, 0)
					OR k.completion > coalesce(d.completion_tokens, 0) OR k.runs > coalesce(d.run_count, 0)
					OR k.blocked > coalesce(d.blocked_run_count, 0)`,
		},
	}
}

// signInvariants: nothing that is counted is below zero.
func signInvariants() []invariant {
	const name, holds = "below zero", "0 or more"
	return []invariant{
		{name: name, holds: holds, key: 1, query: `SELECT id AS workspace_id, running_runs, pending_reviews FROM workspaces
				WHERE running_runs < 0 OR pending_reviews < 0`},
		{
			name: name, holds: holds, key: 4,
			query: `SELECT workspace_id, policy_id, scope, slice, used FROM policy_counters WHERE used < 0`,
		},
		{name: name, holds: holds, key: 1, query: `SELECT id AS user_id, run_count FROM users WHERE run_count < 0`},
		{
			name: name, holds: holds, key: 1, chunked: true,
			query: `SELECT id AS run_id, step_count, blocked_step_count, prompt_tokens, completion_tokens, spend_nanos,
					unpriced_tokens, calls_without_usage
				FROM runs WHERE id > $1 AND id <= $2 AND (step_count < 0 OR blocked_step_count < 0
					OR prompt_tokens < 0 OR completion_tokens < 0 OR spend_nanos < 0
					OR unpriced_tokens < 0 OR calls_without_usage < 0)`,
		},
		{
			name: name, holds: holds, key: 2, chunked: true,
			query: `SELECT run_id, uuid, duration_ms, prompt_tokens, completion_tokens, input_picos, output_picos, cost_nanos
				FROM ledger_steps WHERE run_id > $1 AND run_id <= $2 AND (duration_ms < 0 OR prompt_tokens < 0
					OR completion_tokens < 0 OR input_picos < 0 OR output_picos < 0 OR cost_nanos < 0)`,
		},
		{
			name: name, holds: holds, key: 2, chunked: true,
			query: `SELECT run_id, step_uuid, limit_value, used_value FROM denials
				WHERE run_id > $1 AND run_id <= $2 AND (limit_value < 0 OR used_value < 0)`,
		},
		{
			name: name, holds: holds, key: 2,
			query: `SELECT workspace_id, day, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count,
					unpriced_tokens, unpriced_steps, calls_without_usage
				FROM workspace_days WHERE spend_nanos < 0 OR prompt_tokens < 0 OR completion_tokens < 0
					OR run_count < 0 OR blocked_run_count < 0
					OR unpriced_tokens < 0 OR unpriced_steps < 0 OR calls_without_usage < 0`,
		},
		{
			name: name, holds: holds, key: 3,
			query: `SELECT workspace_id, day, user_id, spend_nanos, run_count, unpriced_tokens
				FROM user_days WHERE spend_nanos < 0 OR run_count < 0 OR unpriced_tokens < 0`,
		},
		{
			name: name, holds: holds, key: 3,
			query: `SELECT workspace_id, day, model_id, spend_nanos, prompt_tokens, completion_tokens, unpriced_tokens,
					unpriced_steps, calls_without_usage
				FROM model_days WHERE spend_nanos < 0 OR prompt_tokens < 0 OR completion_tokens < 0 OR unpriced_tokens < 0
					OR unpriced_steps < 0 OR calls_without_usage < 0`,
		},
		{
			name: name, holds: holds, key: 3,
			query: `SELECT workspace_id, day, key_id, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count
				FROM key_days WHERE spend_nanos < 0 OR prompt_tokens < 0 OR completion_tokens < 0
					OR run_count < 0 OR blocked_run_count < 0`,
		},
		{
			name: name, holds: holds, key: 3,
			query: `SELECT workspace_id, day, reason, denial_count FROM denial_days WHERE denial_count < 0`,
		},
	}
}

// planInvariants: a workspace has nothing that its plan lacks, and its plan is the latest in its
// history.
func planInvariants() []invariant {
	return []invariant{
		{
			name: "workspaces: beyond the plan", holds: "nothing that the plan forbids, whoever changed the plan and when", key: 1,
			query: `SELECT id AS workspace_id, plan, kill_switch, user_daily_budget_nanos, max_concurrent_runs FROM workspaces
				WHERE plan IN ('basic', 'pro') AND kill_switch <> 0
					OR plan = 'basic' AND (user_daily_budget_nanos IS NOT NULL OR max_concurrent_runs <> 3)`,
		},
		// A workspace older than the history begins with its first change, or has none.
		{
			name: "plan_changes", holds: "from the plan that the change before led to, and to another", key: 2,
			query: `SELECT workspace_id, id, from_plan, to_plan, was FROM (
					SELECT id, workspace_id, from_plan, to_plan,
						lag(to_plan) OVER (PARTITION BY workspace_id ORDER BY id) AS was,
						lag(id) OVER (PARTITION BY workspace_id ORDER BY id) AS earlier
					FROM plan_changes) c
				WHERE earlier IS NOT NULL AND coalesce(from_plan, '') <> coalesce(was, '') OR from_plan = to_plan`,
		},
		{
			name: "plan_changes", holds: "the newest leads to the plan that the workspace has", key: 1,
			query: `SELECT w.id AS workspace_id, w.plan, c.to_plan FROM workspaces w JOIN plan_changes c ON c.workspace_id = w.id
				WHERE c.id = (SELECT max(id) FROM plan_changes WHERE workspace_id = w.id) AND c.to_plan <> w.plan`,
		},
	}
}

// orphanInvariants: every reference leads to a row of the same workspace. Hot tables have no
// foreign keys, which would cost a look-up with each write, and a foreign key would not know of
// workspaces.
func orphanInvariants() []invariant {
	const name = "orphans"
	return []invariant{
		{
			name: name, holds: "the run's user is one of the workspace", key: 1, chunked: true,
			query: `SELECT r.id AS run_id, r.user_id FROM runs r WHERE r.id > $1 AND r.id <= $2
				AND NOT EXISTS (SELECT 1 FROM users u WHERE u.id = r.user_id AND u.workspace_id = r.workspace_id)`,
		},
		{
			name: name, holds: "the run's key is one of the workspace", key: 1, chunked: true,
			query: `SELECT r.id AS run_id, r.key_id FROM runs r WHERE r.id > $1 AND r.id <= $2 AND r.key_id IS NOT NULL
				AND NOT EXISTS (SELECT 1 FROM api_keys k WHERE k.id = r.key_id AND k.workspace_id = r.workspace_id)`,
		},
		{
			name: name, holds: "the step's run exists", key: 2, chunked: true,
			query: `SELECT s.run_id, s.uuid FROM ledger_steps s WHERE s.run_id > $1 AND s.run_id <= $2
				AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = s.run_id)`,
		},
		{
			name: name, holds: "the step's model is one of the workspace", key: 2, chunked: true,
			query: `SELECT s.run_id, s.uuid, s.model_id FROM ledger_steps s JOIN runs r ON r.id = s.run_id
				WHERE s.run_id > $1 AND s.run_id <= $2 AND s.model_id IS NOT NULL
				AND NOT EXISTS (SELECT 1 FROM models m WHERE m.id = s.model_id AND m.workspace_id = r.workspace_id)`,
		},
		{
			name: name, holds: "the payload's step exists", key: 2, chunked: true,
			query: `SELECT run_id, step_uuid FROM step_payloads WHERE run_id > $1 AND run_id <= $2
				EXCEPT SELECT run_id, uuid FROM ledger_steps WHERE run_id > $1 AND run_id <= $2`,
		},
		{
			name: name, holds: "the step of the usage exists, in that segment", key: 2,
			query: `SELECT u.run_id, u.step_uuid, u.segment FROM step_usage u WHERE NOT EXISTS (SELECT 1 FROM steps s
				WHERE s.segment = u.segment AND s.run_id = u.run_id AND s.uuid = u.step_uuid)`,
		},
		{
			name: name, holds: "the review's step exists, in a run of the workspace", key: 1,
			query: `SELECT v.id, v.run_id, v.step_uuid FROM reviews v WHERE NOT EXISTS (SELECT 1 FROM steps s
					WHERE s.segment = v.segment AND s.run_id = v.run_id AND s.uuid = v.step_uuid)
				OR NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = v.run_id AND r.workspace_id = v.workspace_id)`,
		},
		{
			name: name, holds: "the capped step exists", key: 2, chunked: true,
			query: `SELECT run_id, step_uuid FROM capped_steps WHERE run_id > $1 AND run_id <= $2
				EXCEPT SELECT run_id, uuid FROM ledger_steps WHERE run_id > $1 AND run_id <= $2`,
		},
		{
			name: name, holds: "the tag's run is one of the workspace", key: 2, chunked: true,
			query: `SELECT t.run_id, t.key FROM run_tags t WHERE t.run_id > $1 AND t.run_id <= $2
				AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = t.run_id AND r.workspace_id = t.workspace_id AND r.uuid = t.run_uuid)`,
		},
		{
			name: name, holds: "the term's run is one of the workspace", key: 3, chunked: true,
			query: `SELECT t.run_id, t.kind, t.term FROM run_terms t WHERE t.run_id > $1 AND t.run_id <= $2
				AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = t.run_id AND r.workspace_id = t.workspace_id AND r.uuid = t.run_uuid)`,
		},
		{
			name: name, holds: "the metadata's run exists", key: 1, chunked: true,
			query: `SELECT m.run_id FROM run_metadata m WHERE m.run_id > $1 AND m.run_id <= $2
				AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = m.run_id)`,
		},
		{
			name: "users.erased_at", holds: "nothing that was said in their runs, once the erasure is finished", key: 2,
			query: `SELECT u.id AS user_id, r.id AS run_id, r.title FROM users u JOIN runs r ON r.workspace_id = u.workspace_id AND r.user_id = u.id
				WHERE u.erased_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.user_id = u.id)
				AND (r.title IS NOT NULL OR EXISTS (SELECT 1 FROM run_metadata m WHERE m.run_id = r.id)
					OR EXISTS (SELECT 1 FROM run_tags t WHERE t.run_id = r.id)
					OR EXISTS (SELECT 1 FROM run_steps s WHERE s.run_id = r.id
						AND (s.input_payload IS NOT NULL OR s.report_payload IS NOT NULL))
					OR EXISTS (SELECT 1 FROM step_payloads p WHERE p.run_id = r.id))`,
		},
		{
			name: name, holds: "the idempotency key's run is one of the workspace", key: 3,
			query: `SELECT k.workspace_id, k.run_id, k.key FROM idempotency_keys k WHERE k.run_id <> 0
				AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = k.run_id AND r.workspace_id = k.workspace_id)`,
		},
		{
			name: name, holds: "the user is one of the workspace", key: 3,
			query: `SELECT d.workspace_id, d.day, d.user_id FROM user_days d
				WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = d.user_id AND u.workspace_id = d.workspace_id)`,
		},
		{
			name: name, holds: "the model is one of the workspace", key: 3,
			query: `SELECT d.workspace_id, d.day, d.model_id FROM model_days d
				WHERE NOT EXISTS (SELECT 1 FROM models m WHERE m.id = d.model_id AND m.workspace_id = d.workspace_id)`,
		},
		{
			name: name, holds: "the key is one of the workspace", key: 3,
			query: `SELECT d.workspace_id, d.day, d.key_id FROM key_days d
				WHERE NOT EXISTS (SELECT 1 FROM api_keys k WHERE k.id = d.key_id AND k.workspace_id = d.workspace_id)`,
		},
	}
}
