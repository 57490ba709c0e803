-- The books: every counter and rollup recomputed from the ledger rows (runs and
-- steps), and the invariants that hold at every commit.
--
-- Each query returns a row for each difference, and nothing when the books are
-- right. Its columns are text or integers: what was checked, the key of the row,
-- what is stored, and what the ledger says.
--
-- To run them: drop the lines that begin with two dashes, split at semicolons
-- (there are none inside a query or a comment), and ask them all inside one read
-- transaction. They hold in every snapshot, also under load and after a crash.
--
-- The ledger of workspace_days, user_days, model_days, denial_days and
-- users.run_count is gone once retention has deleted runs: leave those five out then. While runs
-- are being deleted, and after a crash just then, a run may also have fewer
-- steps than it counts.
--
-- A run was born BLOCKED when its status is 4 and nobody ended it: a client may
-- end a run as BLOCKED too. Days count from 1970-01-01, of 86,400,000 ms.

SELECT 'workspaces.running_runs', w.id, w.running_runs AS stored,
  (SELECT count(*) FROM runs r WHERE r.workspace_id = w.id AND r.status = 1) AS recomputed
FROM workspaces w WHERE stored <> recomputed;

SELECT 'runs', r.id,
  printf('steps %d, blocked %d, prompt %d, completion %d, spend %d',
    r.step_count, r.blocked_step_count, r.prompt_tokens, r.completion_tokens, r.spend_nanos) AS stored,
  printf('steps %d, blocked %d, prompt %d, completion %d, spend %d',
    s.steps, s.blocked, s.prompt, s.completion, s.spend) AS recomputed
FROM runs r LEFT JOIN (
  SELECT run_id, count(*) AS steps, sum(status = 4) AS blocked, sum(prompt_tokens) AS prompt,
    sum(completion_tokens) AS completion, sum(cost_nanos) AS spend
  FROM steps GROUP BY run_id) s ON s.run_id = r.id
WHERE stored <> recomputed;

SELECT 'users.run_count', u.id, u.run_count AS stored,
  (SELECT count(*) FROM runs r WHERE r.workspace_id = u.workspace_id AND r.user_id = u.id
    AND NOT (r.status = 4 AND r.ended_by IS NULL)) AS recomputed
FROM users u WHERE stored <> recomputed;

SELECT 'workspace_days', coalesce(d.workspace_id, l.workspace_id) || '/' || coalesce(d.day, l.day),
  printf('spend %d, prompt %d, completion %d, runs %d, blocked %d',
    d.spend_nanos, d.prompt_tokens, d.completion_tokens, d.run_count, d.blocked_run_count) AS stored,
  printf('spend %d, prompt %d, completion %d, runs %d, blocked %d',
    l.spend, l.prompt, l.completion, l.allowed, l.blocked) AS recomputed
FROM workspace_days d FULL JOIN (
  SELECT workspace_id, day, sum(spend) AS spend, sum(prompt) AS prompt, sum(completion) AS completion,
    sum(allowed) AS allowed, sum(blocked) AS blocked
  FROM (
    SELECT r.workspace_id, s.booked_day AS day, s.cost_nanos AS spend, s.prompt_tokens AS prompt,
      s.completion_tokens AS completion, 0 AS allowed, 0 AS blocked
    FROM steps s JOIN runs r ON r.id = s.run_id WHERE s.booked_day IS NOT NULL
    UNION ALL
    SELECT workspace_id, started_at / 86400000, 0, 0, 0,
      NOT (status = 4 AND ended_by IS NULL), status = 4 AND ended_by IS NULL
    FROM runs)
  GROUP BY workspace_id, day) l ON l.workspace_id = d.workspace_id AND l.day = d.day
WHERE stored <> recomputed;

SELECT 'user_days', coalesce(d.workspace_id, l.workspace_id) || '/' || coalesce(d.day, l.day) || '/' || coalesce(d.user_id, l.user_id),
  printf('spend %d, runs %d', d.spend_nanos, d.run_count) AS stored,
  printf('spend %d, runs %d', l.spend, l.allowed) AS recomputed
FROM user_days d FULL JOIN (
  SELECT workspace_id, day, user_id, sum(spend) AS spend, sum(allowed) AS allowed
  FROM (
    SELECT r.workspace_id, s.booked_day AS day, r.user_id, s.cost_nanos AS spend, 0 AS allowed
    FROM steps s JOIN runs r ON r.id = s.run_id WHERE s.booked_day IS NOT NULL
    UNION ALL
    SELECT workspace_id, started_at / 86400000, user_id, 0, NOT (status = 4 AND ended_by IS NULL)
    FROM runs)
  GROUP BY workspace_id, day, user_id) l ON l.workspace_id = d.workspace_id AND l.day = d.day AND l.user_id = d.user_id
WHERE stored <> recomputed;

SELECT 'model_days', coalesce(d.workspace_id, l.workspace_id) || '/' || coalesce(d.day, l.day) || '/' || coalesce(d.model_id, l.model_id),
  printf('spend %d, prompt %d, completion %d, unpriced %d',
    d.spend_nanos, d.prompt_tokens, d.completion_tokens, d.unpriced_tokens) AS stored,
  printf('spend %d, prompt %d, completion %d, unpriced %d', l.spend, l.prompt, l.completion, l.unpriced) AS recomputed
FROM model_days d FULL JOIN (
  SELECT r.workspace_id, s.booked_day AS day, s.model_id, sum(s.cost_nanos) AS spend, sum(s.prompt_tokens) AS prompt,
    sum(s.completion_tokens) AS completion,
    sum(iif(s.cost_nanos IS NULL, s.prompt_tokens + s.completion_tokens, 0)) AS unpriced
  FROM steps s JOIN runs r ON r.id = s.run_id WHERE s.booked_day IS NOT NULL AND s.model_id IS NOT NULL
  GROUP BY r.workspace_id, s.booked_day, s.model_id) l
  ON l.workspace_id = d.workspace_id AND l.day = d.day AND l.model_id = d.model_id
WHERE stored <> recomputed;

-- A start is denied on the day of the run's start, a step on that of its creation.
SELECT 'denial_days', coalesce(d.workspace_id, l.workspace_id) || '/' || coalesce(d.day, l.day) || '/' || coalesce(d.reason, l.reason),
  printf('denials %d', d.denial_count) AS stored, printf('denials %d', l.denials) AS recomputed
FROM denial_days d FULL JOIN (
  SELECT r.workspace_id, coalesce(s.created_at, r.started_at) / 86400000 AS day, n.reason, count(*) AS denials
  FROM denials n JOIN runs r ON r.id = n.run_id LEFT JOIN steps s ON s.run_id = n.run_id AND s.uuid = n.step_uuid
  GROUP BY 1, 2, 3) l ON l.workspace_id = d.workspace_id AND l.day = d.day AND l.reason = d.reason
WHERE stored <> recomputed;

-- One denial for each BLOCKED row, and no other.
SELECT 'denials', 'run ' || r.id, 'no denial' AS stored, 'born BLOCKED' AS recomputed
FROM runs r WHERE r.status = 4 AND r.ended_by IS NULL
  AND NOT EXISTS (SELECT 1 FROM denials d WHERE d.run_id = r.id AND d.step_uuid = x'')
UNION ALL
SELECT 'denials', 'step ' || s.run_id || '/' || hex(s.uuid), 'no denial', 'BLOCKED'
FROM steps s WHERE s.status = 4
  AND NOT EXISTS (SELECT 1 FROM denials d WHERE d.run_id = s.run_id AND d.step_uuid = s.uuid)
UNION ALL
SELECT 'denials', d.run_id || '/' || hex(d.step_uuid), 'denial', 'nothing BLOCKED'
FROM denials d
WHERE NOT EXISTS (SELECT 1 FROM steps s WHERE s.run_id = d.run_id AND s.uuid = d.step_uuid AND s.status = 4)
  AND NOT (d.step_uuid = x''
    AND EXISTS (SELECT 1 FROM runs r WHERE r.id = d.run_id AND r.status = 4 AND r.ended_by IS NULL));

-- Which rules can object where, and what they keep: the ended run (1) objects
-- to steps only, the month (6) and concurrency (7) to starts only. 1 to 3 have
-- no limit, 4 to 7 object from their limit on, 4 to 6 reset by themselves.
SELECT 'denials: contents', run_id || '/' || hex(step_uuid),
  printf('reason %d, limit %d, used %d, resets %s', reason, limit_value, used_value, coalesce(resets_at, 'never')), 'impossible'
FROM denials
WHERE NOT (iif(step_uuid = x'', reason BETWEEN 2 AND 7, reason BETWEEN 1 AND 5)
  AND iif(reason < 4, limit_value = 0 AND used_value = 0, used_value >= limit_value)
  AND (resets_at IS NOT NULL) = (reason BETWEEN 4 AND 6));

-- The reason of a start, or else of one of the denied steps before the end.
SELECT 'runs.deny_reason', r.id, coalesce(r.deny_reason, 'none'), coalesce(group_concat(DISTINCT d.reason), 'none')
FROM runs r LEFT JOIN denials d ON d.run_id = r.id AND d.reason <> 1
GROUP BY r.id
HAVING (r.deny_reason IS NULL) <> (count(d.reason) = 0) OR NOT coalesce(max(d.reason = r.deny_reason), 1);

SELECT 'runs: ends', id, printf('status %d, ended at %s, by %s', status, coalesce(ended_at, 'never'), coalesce(ended_by, 'nobody')),
  'RUNNING without, BLOCKED with or without, others with an end'
FROM runs
WHERE NOT (status BETWEEN 1 AND 4 AND (status = 1) = (ended_at IS NULL)
  AND iif(status = 1, ended_by IS NULL, status = 4 OR ended_by IS NOT NULL));

SELECT 'steps: open in an ended run', s.run_id || '/' || hex(s.uuid), printf('run %d, step %d', r.status, s.status), 'ABANDONED'
FROM steps s JOIN runs r ON r.id = s.run_id WHERE r.status <> 1 AND s.status = 1;

SELECT 'steps: completion', run_id || '/' || hex(uuid), printf('status %d, completed %s', status, coalesce(completed_at, 'never')),
  'a time for COMPLETED and FAILED alone'
FROM steps WHERE NOT (status BETWEEN 1 AND 5 AND (completed_at IS NOT NULL) = (status IN (2, 3)));

-- Usage is reported as a whole or not at all, never on a blocked step, and it
-- costs something exactly when there were prices.
SELECT 'steps: usage', run_id || '/' || hex(uuid),
  printf('status %d, day %s, prompt %s, completion %s, prices %s and %s, cost %s', status, coalesce(booked_day, '-'),
    coalesce(prompt_tokens, '-'), coalesce(completion_tokens, '-'), coalesce(input_picos, '-'),
    coalesce(output_picos, '-'), coalesce(cost_nanos, '-')), 'impossible'
FROM steps
WHERE (booked_day IS NULL) <> (prompt_tokens IS NULL) OR (booked_day IS NULL) <> (completion_tokens IS NULL)
  OR (input_picos IS NULL) <> (output_picos IS NULL) OR (input_picos IS NULL) <> (cost_nanos IS NULL)
  OR booked_day IS NULL AND cost_nanos IS NOT NULL OR model_id IS NULL AND cost_nanos IS NOT NULL
  OR status = 4 AND booked_day IS NOT NULL;

-- Prices in thousands of picos and the rest, because tokens times picos can
-- exceed 64 bits where the cost does not.
SELECT 'steps.cost_nanos', run_id || '/' || hex(uuid), cost_nanos AS stored,
  prompt_tokens * (input_picos / 1000) + completion_tokens * (output_picos / 1000)
    + (prompt_tokens * (input_picos % 1000) + completion_tokens * (output_picos % 1000) + 999) / 1000 AS recomputed
FROM steps WHERE cost_nanos IS NOT NULL AND stored <> recomputed;

SELECT 'below zero', 'workspace ' || id, running_runs, 0 FROM workspaces WHERE running_runs < 0
UNION ALL
SELECT 'below zero', 'user ' || id, run_count, 0 FROM users WHERE run_count < 0
UNION ALL
SELECT 'below zero', 'run ' || id, min(step_count, blocked_step_count, prompt_tokens, completion_tokens, spend_nanos), 0
FROM runs WHERE min(step_count, blocked_step_count, prompt_tokens, completion_tokens, spend_nanos) < 0
UNION ALL
SELECT 'below zero', 'step ' || run_id || '/' || hex(uuid), '', 0
FROM steps WHERE min(coalesce(duration_ms, 0), coalesce(prompt_tokens, 0), coalesce(completion_tokens, 0),
  coalesce(input_picos, 0), coalesce(output_picos, 0), coalesce(cost_nanos, 0)) < 0
UNION ALL
SELECT 'below zero', 'denial ' || run_id || '/' || hex(step_uuid), min(limit_value, used_value), 0
FROM denials WHERE min(limit_value, used_value) < 0
UNION ALL
SELECT 'below zero', 'workspace day ' || workspace_id || '/' || day,
  min(spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count), 0
FROM workspace_days WHERE min(spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count) < 0
UNION ALL
SELECT 'below zero', 'user day ' || workspace_id || '/' || day || '/' || user_id, min(spend_nanos, run_count), 0
FROM user_days WHERE min(spend_nanos, run_count) < 0
UNION ALL
SELECT 'below zero', 'model day ' || workspace_id || '/' || day || '/' || model_id,
  min(spend_nanos, prompt_tokens, completion_tokens, unpriced_tokens), 0
FROM model_days WHERE min(spend_nanos, prompt_tokens, completion_tokens, unpriced_tokens) < 0
UNION ALL
SELECT 'below zero', 'denial day ' || workspace_id || '/' || day || '/' || reason, denial_count, 0
FROM denial_days WHERE denial_count < 0;

-- What belongs to something belongs to what exists, in the same workspace.
SELECT 'orphans', 'run ' || r.id, r.user_id, 'no such user in the workspace'
FROM runs r WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = r.user_id AND u.workspace_id = r.workspace_id)
UNION ALL
SELECT 'orphans', 'step ' || s.run_id || '/' || hex(s.uuid), s.run_id, 'no such run'
FROM steps s WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = s.run_id)
UNION ALL
SELECT 'orphans', 'step ' || s.run_id || '/' || hex(s.uuid), s.model_id, 'no such model in the workspace'
FROM steps s JOIN runs r ON r.id = s.run_id WHERE s.model_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM models m WHERE m.id = s.model_id AND m.workspace_id = r.workspace_id)
UNION ALL
SELECT 'orphans', 'payload ' || p.run_id || '/' || hex(p.step_uuid), '', 'no such step'
FROM step_payloads p WHERE NOT EXISTS (SELECT 1 FROM steps s WHERE s.run_id = p.run_id AND s.uuid = p.step_uuid)
UNION ALL
SELECT 'orphans', 'metadata ' || m.run_id, '', 'no such run'
FROM run_metadata m WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = m.run_id)
UNION ALL
SELECT 'orphans', 'idempotency key ' || k.workspace_id || '/' || k.run_id || '/' || k.key, '', 'no such run in the workspace'
FROM idempotency_keys k WHERE k.run_id <> 0
  AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = k.run_id AND r.workspace_id = k.workspace_id)
UNION ALL
SELECT 'orphans', 'user day ' || d.workspace_id || '/' || d.day || '/' || d.user_id, '', 'no such user in the workspace'
FROM user_days d WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = d.user_id AND u.workspace_id = d.workspace_id)
UNION ALL
SELECT 'orphans', 'model day ' || d.workspace_id || '/' || d.day || '/' || d.model_id, '', 'no such model in the workspace'
FROM model_days d WHERE NOT EXISTS (SELECT 1 FROM models m WHERE m.id = d.model_id AND m.workspace_id = d.workspace_id);

SELECT 'api_keys: active', w.id, count(k.id), 1
FROM workspaces w LEFT JOIN api_keys k ON k.workspace_id = w.id AND k.revoked_at IS NULL
GROUP BY w.id HAVING count(k.id) <> 1;

-- Nobody holds what the plan forbids, whoever changed the plan and when.
SELECT 'workspaces: beyond the plan', id,
  printf('kill switch %d, user budget %s, concurrency %d', kill_switch, coalesce(user_daily_budget_nanos, 'none'), max_concurrent_runs),
  'not on the ' || plan || ' plan'
FROM workspaces
WHERE plan IN ('basic', 'pro') AND kill_switch <> 0
  OR plan = 'basic' AND (user_daily_budget_nanos IS NOT NULL OR max_concurrent_runs <> 3);

-- The history of plans has no gap and ends with the plan there is. A workspace
-- older than the history begins with its first change, or has none.
SELECT 'plan_changes', workspace_id || '/' || id, 'from ' || coalesce(from_plan, 'nothing'), 'was ' || coalesce(was, 'nothing')
FROM (
  SELECT id, workspace_id, from_plan, to_plan,
    lag(to_plan) OVER (PARTITION BY workspace_id ORDER BY id) AS was,
    lag(id) OVER (PARTITION BY workspace_id ORDER BY id) AS earlier
  FROM plan_changes)
WHERE earlier IS NOT NULL AND from_plan IS NOT was OR from_plan IS to_plan
UNION ALL
SELECT 'plan_changes', w.id || '/newest', w.plan, c.to_plan
FROM workspaces w JOIN plan_changes c ON c.workspace_id = w.id
WHERE c.id = (SELECT max(id) FROM plan_changes WHERE workspace_id = w.id) AND c.to_plan <> w.plan;
