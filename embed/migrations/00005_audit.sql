-- +goose Up

CREATE TABLE audit_entries (
  -- Changes of configuration and sign-ins, written with the change itself and
  -- kept for 365 days. The uuid begins with the millisecond, so that the key
  -- serves newest-first lists and bounds in time. No secret is ever in here.
  workspace_id INTEGER NOT NULL,
  uuid         BLOB    NOT NULL,
  actor_kind   TEXT    NOT NULL,
  actor_name   TEXT,            -- email, prefix of an API key, command; null for nobody known
  action       TEXT    NOT NULL,
  target       TEXT,            -- what was changed, where a workspace has several of it
  was          TEXT,            -- JSON object of what differs, before; null when it did not exist
  became       TEXT,            -- the same, after
  address      TEXT,            -- where the request came from; null for what came over no network
  PRIMARY KEY (workspace_id, uuid)
) STRICT, WITHOUT ROWID;
