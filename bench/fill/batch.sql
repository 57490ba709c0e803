-- A batch of history: runs of 20 steps each, four model calls for each tool
-- call, all of them over, in the order in which they happened. The counters are
-- computed from the rows, as pikarc verify does. CROSS JOIN makes SQLite begin with
-- the batch, and not with all steps that there are.

DELETE FROM batch;

INSERT INTO batch
SELECT h.base + n, w, w * 100000 + n * 7919 % iif(w = h.big, 10000, 200), h.begins + (h.ends - h.begins) / h.runs * n
FROM (
  SELECT n, iif(n % 10 < 3, big, big + 1 + n % others) AS w
  FROM (SELECT first + low.n + 10000 * high.n AS n, last, big, others FROM history, numbers high, numbers low WHERE high.n < 10)
  WHERE n <= last), history h;

-- As if 64 runs asked for steps in turn: three segments take their 1,280 steps.
INSERT INTO steps (segment, run_id, uuid, sequence, type, status, created_at, model_id, tool_name, completed_at, duration_ms,
  booked_day, prompt_tokens, completion_tokens, input_picos, output_picos, cost_nanos)
SELECT 1 + id / 64 * 3 + ((j - 1) * 64 + id % 64) / 512, id, unhex(printf('%012x7%03x8%03x%012x', at, j, id % 4096, id)), j, iif(k IS NULL, 2, 1), 2, at,
  workspace_id * 100000 + k, iif(k IS NULL, 'search', NULL), at + 800, 800,
  iif(k IS NULL, NULL, at / 86400000), prompt, completion, (k + 1) * 150000, (k + 1) * 600000,
  prompt * (k + 1) * 150 + completion * (k + 1) * 600
FROM (SELECT p.id, p.workspace_id, j.n AS j, p.started_at + j.n * 900 AS at,
    iif(j.n % 5 = 0, NULL, (p.id + j.n) % 8) AS k,
    iif(j.n % 5 = 0, NULL, 200 + (p.id * 31 + j.n * 17) % 1800) AS prompt,
    iif(j.n % 5 = 0, NULL, 20 + (p.id * 13 + j.n * 7) % 400) AS completion
  FROM batch p CROSS JOIN numbers j WHERE j.n BETWEEN 1 AND 20);

INSERT INTO run_segments
SELECT p.id, 1 + p.id / 64 * 3 + n FROM batch p CROSS JOIN (SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2);

INSERT INTO runs (id, uuid, workspace_id, user_id, status, started_at, ended_at, ended_by, last_call_at,
  step_count, blocked_step_count, prompt_tokens, completion_tokens, spend_nanos)
SELECT p.id, unhex(printf('%012x7%03x8%03x%012x', p.started_at, 0, p.id % 4096, p.id)), p.workspace_id, p.user_id,
  iif(p.id % 10 = 0, 3, 2), p.started_at, p.started_at + 20000, 1, p.started_at + 20000,
  count(*), 0, sum(s.prompt_tokens), sum(s.completion_tokens), sum(s.cost_nanos)
FROM batch p CROSS JOIN run_steps s ON s.run_id = p.id GROUP BY p.id;

UPDATE users SET run_count = run_count + seen.runs, last_seen_at = seen.at
FROM (SELECT user_id, count(*) AS runs, max(started_at) + 20000 AS at FROM batch GROUP BY user_id) seen
WHERE users.id = seen.user_id;

INSERT INTO workspace_days (workspace_id, day, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count)
SELECT workspace_id, day, sum(spend), sum(prompt), sum(completion), sum(runs), 0
FROM (
  SELECT p.workspace_id, s.booked_day AS day, s.cost_nanos AS spend, s.prompt_tokens AS prompt, s.completion_tokens AS completion, 0 AS runs
  FROM batch p CROSS JOIN run_steps s ON s.run_id = p.id WHERE s.booked_day IS NOT NULL
  UNION ALL
  SELECT workspace_id, started_at / 86400000, 0, 0, 0, 1 FROM batch)
WHERE true GROUP BY workspace_id, day
ON CONFLICT (workspace_id, day) DO UPDATE SET spend_nanos = spend_nanos + excluded.spend_nanos,
  prompt_tokens = prompt_tokens + excluded.prompt_tokens, completion_tokens = completion_tokens + excluded.completion_tokens,
  run_count = run_count + excluded.run_count;

INSERT INTO user_days (workspace_id, day, user_id, spend_nanos, run_count)
SELECT workspace_id, day, user_id, sum(spend), sum(runs)
FROM (
  SELECT p.workspace_id, s.booked_day AS day, p.user_id, s.cost_nanos AS spend, 0 AS runs
  FROM batch p CROSS JOIN run_steps s ON s.run_id = p.id WHERE s.booked_day IS NOT NULL
  UNION ALL
  SELECT workspace_id, started_at / 86400000, user_id, 0, 1 FROM batch)
WHERE true GROUP BY workspace_id, day, user_id
ON CONFLICT (workspace_id, day, user_id) DO UPDATE SET spend_nanos = spend_nanos + excluded.spend_nanos,
  run_count = run_count + excluded.run_count;

INSERT INTO model_days (workspace_id, day, model_id, spend_nanos, prompt_tokens, completion_tokens, unpriced_tokens)
SELECT p.workspace_id, s.booked_day, s.model_id, sum(s.cost_nanos), sum(s.prompt_tokens), sum(s.completion_tokens), 0
FROM batch p CROSS JOIN run_steps s ON s.run_id = p.id WHERE s.booked_day IS NOT NULL
GROUP BY p.workspace_id, s.booked_day, s.model_id
ON CONFLICT (workspace_id, day, model_id) DO UPDATE SET spend_nanos = spend_nanos + excluded.spend_nanos,
  prompt_tokens = prompt_tokens + excluded.prompt_tokens, completion_tokens = completion_tokens + excluded.completion_tokens;

-- The batches write no spend by the minute or the hour. Both are complete from the day after the
-- history on, as after the migration that introduced them.
UPDATE workspaces SET spend_from = (SELECT ends / 86400000 + 1 FROM history) * 1440;
