-- +goose Up
-- Three columns with constant defaults, a view, and a table of 360 rows a workspace that becomes
-- another one: it costs nothing, whatever the database's size.

-- The UTC day from which usage is counted by dates of the workspace's zone too; 0 for never.
ALTER TABLE workspaces ADD COLUMN local_from INTEGER NOT NULL DEFAULT 0;
UPDATE workspaces SET local_from = CAST(strftime('%s', 'now') AS INTEGER) / 86400 + 1 WHERE timezone <> 'UTC';

-- The date in the workspace's zone on which a start, and what a step used, count beside their UTC day.
ALTER TABLE runs ADD COLUMN local_day INTEGER;
ALTER TABLE steps ADD COLUMN local_day INTEGER;

DROP VIEW run_steps;
CREATE VIEW run_steps AS
  -- Steps as they are found by their run.
  SELECT l.run_id, l.segment, s.uuid, s.sequence, s.type, s.status, s.created_at, s.model_id, s.tool_name,
    s.completed_at, s.duration_ms, s.booked_day, s.prompt_tokens, s.completion_tokens,
    s.input_picos, s.output_picos, s.cost_nanos, s.price_id, s.local_day
  FROM run_segments l JOIN steps s ON s.segment = l.segment AND s.run_id = l.run_id;

-- Spend by quarters of an hour in place of hours, since some zones' days and hours begin within an
-- hour of UTC. Of what was folded into hours before, nothing is proven.
CREATE TEMP TABLE old_hours AS SELECT * FROM spend_hours;
DROP TABLE spend_hours;
CREATE TABLE spend_quarter_hours (
  -- Rollup: spend_minutes by quarters of an hour, of the minutes that are no longer kept.
  workspace_id INTEGER NOT NULL,
  quarter      INTEGER NOT NULL, -- since 1970-01-01
  spend_nanos  INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, quarter)
) STRICT, WITHOUT ROWID;
INSERT INTO spend_quarter_hours SELECT workspace_id, hour * 4, spend_nanos FROM old_hours;
DROP TABLE old_hours;
UPDATE workspaces SET spend_from = minutes_from WHERE spend_from < minutes_from;
