-- +goose Up
-- What the dashboard lists and counts: the title of a run, runs by the reason of
-- their denial, and denials by day.

-- The first words of what a run does, from its metadata; null without any, and
-- for runs that are older than this column.
ALTER TABLE runs ADD COLUMN title TEXT;

CREATE INDEX runs_reason ON runs (workspace_id, deny_reason, uuid) WHERE deny_reason IS NOT NULL;

CREATE TABLE denial_days (
  -- Denials of a workspace on a UTC day, of starts and of steps, by the rule that objected.
  workspace_id INTEGER NOT NULL,
  day          INTEGER NOT NULL,
  reason       INTEGER NOT NULL, -- guard.Reason
  denial_count INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, day, reason)
) STRICT, WITHOUT ROWID;

-- Denials of before are counted while their runs are still kept.
INSERT INTO denial_days (workspace_id, day, reason, denial_count)
SELECT workspace_id, day, reason, count(*) FROM (
  SELECT r.workspace_id, r.started_at / 86400000 AS day, d.reason
  FROM denials d JOIN runs r ON r.id = d.run_id WHERE d.step_uuid = x''
  UNION ALL
  SELECT r.workspace_id, s.created_at / 86400000, d.reason
  FROM denials d JOIN runs r ON r.id = d.run_id JOIN steps s ON s.run_id = d.run_id AND s.uuid = d.step_uuid
  WHERE d.step_uuid <> x'') counted
GROUP BY workspace_id, day, reason;
