-- +goose Up
-- Several named keys a workspace, each with a scope and perhaps an end, and
-- runs that know which key started them. Keys of before become agents' keys:
-- those who configure with one make an admin key.
DROP INDEX api_keys_active;
ALTER TABLE api_keys ADD COLUMN scope TEXT NOT NULL DEFAULT 'agent'; -- agent, read, admin; never changes
ALTER TABLE api_keys ADD COLUMN expires_at INTEGER;
ALTER TABLE api_keys ADD COLUMN last_used_at INTEGER; -- to the minute, and up to a minute late
-- 1 for the key that regenerating replaces: the one that a workspace began with, or its successor.
ALTER TABLE api_keys ADD COLUMN is_first INTEGER NOT NULL DEFAULT 0;
UPDATE api_keys SET is_first = 1 WHERE revoked_at IS NULL;
CREATE UNIQUE INDEX api_keys_first ON api_keys (workspace_id) WHERE is_first = 1;
CREATE INDEX api_keys_newest ON api_keys (workspace_id, id);
CREATE INDEX api_keys_open ON api_keys (workspace_id, id) WHERE revoked_at IS NULL;

-- The key that a run was started with; null for runs of before.
ALTER TABLE runs ADD COLUMN key_id INTEGER;
CREATE INDEX runs_key ON runs (workspace_id, key_id, uuid) WHERE key_id IS NOT NULL;

CREATE TABLE key_days (
  -- Use of a workspace on a UTC day by the key that started the runs.
  workspace_id      INTEGER NOT NULL,
  day               INTEGER NOT NULL,
  key_id            INTEGER NOT NULL,
  spend_nanos       INTEGER NOT NULL,
  prompt_tokens     INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  run_count         INTEGER NOT NULL, -- allowed
  blocked_run_count INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, day, key_id)
) STRICT, WITHOUT ROWID;
