-- +goose Up
-- What no price was known for, and model calls that reported no usage, are
-- counted where spend is counted. The ledger of before is read once: about a
-- second for three million steps.
ALTER TABLE workspace_days ADD COLUMN unpriced_tokens INTEGER NOT NULL DEFAULT 0;     -- of the tokens, those that no price was known for
ALTER TABLE workspace_days ADD COLUMN unpriced_steps INTEGER NOT NULL DEFAULT 0;      -- steps that used them
ALTER TABLE workspace_days ADD COLUMN calls_without_usage INTEGER NOT NULL DEFAULT 0; -- COMPLETED model calls that reported no tokens, on the day of their completion
ALTER TABLE user_days ADD COLUMN unpriced_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE model_days ADD COLUMN unpriced_steps INTEGER NOT NULL DEFAULT 0;
ALTER TABLE model_days ADD COLUMN calls_without_usage INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN unpriced_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN calls_without_usage INTEGER NOT NULL DEFAULT 0;

CREATE TABLE capped_steps (
  -- Steps of which a full day or run could take only a part, with the tokens
  -- that were reported. The step itself has what was booked.
  run_id            INTEGER NOT NULL,
  step_uuid         BLOB    NOT NULL,
  prompt_tokens     INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  PRIMARY KEY (run_id, step_uuid)
) STRICT, WITHOUT ROWID;

CREATE TEMP TABLE unpriced AS
SELECT s.run_id, r.workspace_id, r.user_id, s.model_id, s.booked_day AS day, s.prompt_tokens + s.completion_tokens AS tokens
FROM steps s JOIN runs r ON r.id = s.run_id
WHERE s.booked_day IS NOT NULL AND s.cost_nanos IS NULL AND s.prompt_tokens + s.completion_tokens > 0;

CREATE TEMP TABLE without_usage AS
SELECT s.run_id, r.workspace_id, s.model_id, s.completed_at / 86400000 AS day
FROM steps s JOIN runs r ON r.id = s.run_id
WHERE s.type = 1 AND s.status = 2 AND coalesce(s.prompt_tokens + s.completion_tokens, 0) = 0;

UPDATE runs SET unpriced_tokens = g.tokens
FROM (SELECT run_id, sum(tokens) AS tokens FROM unpriced GROUP BY run_id) g WHERE g.run_id = runs.id;

UPDATE runs SET calls_without_usage = g.calls
FROM (SELECT run_id, count(*) AS calls FROM without_usage GROUP BY run_id) g WHERE g.run_id = runs.id;

INSERT INTO workspace_days (workspace_id, day, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count,
  unpriced_tokens, unpriced_steps)
SELECT workspace_id, day, 0, 0, 0, 0, 0, sum(tokens), count(*) FROM unpriced WHERE true GROUP BY workspace_id, day
ON CONFLICT (workspace_id, day) DO UPDATE SET unpriced_tokens = excluded.unpriced_tokens, unpriced_steps = excluded.unpriced_steps;

INSERT INTO workspace_days (workspace_id, day, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count,
  calls_without_usage)
SELECT workspace_id, day, 0, 0, 0, 0, 0, count(*) FROM without_usage WHERE true GROUP BY workspace_id, day
ON CONFLICT (workspace_id, day) DO UPDATE SET calls_without_usage = excluded.calls_without_usage;

-- Where retention has deleted the steps, the models' days still know of unpriced tokens.
UPDATE workspace_days SET unpriced_tokens = g.tokens
FROM (SELECT workspace_id, day, sum(unpriced_tokens) AS tokens FROM model_days GROUP BY workspace_id, day) g
WHERE g.workspace_id = workspace_days.workspace_id AND g.day = workspace_days.day AND g.tokens > workspace_days.unpriced_tokens;

UPDATE user_days SET unpriced_tokens = g.tokens
FROM (SELECT workspace_id, day, user_id, sum(tokens) AS tokens FROM unpriced GROUP BY workspace_id, day, user_id) g
WHERE g.workspace_id = user_days.workspace_id AND g.day = user_days.day AND g.user_id = user_days.user_id;

UPDATE model_days SET unpriced_steps = g.steps
FROM (SELECT workspace_id, day, model_id, count(*) AS steps FROM unpriced GROUP BY workspace_id, day, model_id) g
WHERE g.workspace_id = model_days.workspace_id AND g.day = model_days.day AND g.model_id = model_days.model_id;

INSERT INTO model_days (workspace_id, day, model_id, spend_nanos, prompt_tokens, completion_tokens, unpriced_tokens, calls_without_usage)
SELECT workspace_id, day, model_id, 0, 0, 0, 0, count(*) FROM without_usage WHERE model_id IS NOT NULL
GROUP BY workspace_id, day, model_id
ON CONFLICT (workspace_id, day, model_id) DO UPDATE SET calls_without_usage = excluded.calls_without_usage;

DROP TABLE unpriced;
DROP TABLE without_usage;
