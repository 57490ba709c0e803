-- +goose Up
-- What the explorer of runs finds by. Nothing of what is there is rewritten: the
-- index of texts, models and tools is filled beside the writer, from the oldest run on.
CREATE TABLE run_tags (
  -- Tags of a run, taken from its metadata when it starts.
  run_id       INTEGER NOT NULL,
  key          TEXT    NOT NULL,
  value        TEXT    NOT NULL,
  workspace_id INTEGER NOT NULL,
  run_uuid     BLOB    NOT NULL,
  PRIMARY KEY (run_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX run_tags_value ON run_tags (workspace_id, key, value, run_uuid);

CREATE TABLE tag_days (
  -- Use of a workspace on a UTC day by a tag's value. A day has a bounded number
  -- of rows: what comes later is in the workspace's day alone.
  workspace_id      INTEGER NOT NULL,
  day               INTEGER NOT NULL,
  key               TEXT    NOT NULL,
  value             TEXT    NOT NULL,
  spend_nanos       INTEGER NOT NULL,
  prompt_tokens     INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  run_count         INTEGER NOT NULL, -- allowed
  blocked_run_count INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, day, key, value)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_terms (
  -- What a run is found by: words of its title, user and errors, its models and its tools.
  run_id       INTEGER NOT NULL,
  kind         INTEGER NOT NULL, -- 1 word, 2 model, 3 tool
  term         TEXT    NOT NULL,
  workspace_id INTEGER NOT NULL,
  run_uuid     BLOB    NOT NULL,
  PRIMARY KEY (run_id, kind, term)
) STRICT, WITHOUT ROWID;

CREATE INDEX run_terms_term ON run_terms (workspace_id, kind, term, run_uuid);

CREATE TABLE run_index (
  -- One row: how far run_terms has come.
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  run_id  INTEGER NOT NULL, -- runs up to this one have their words
  segment INTEGER NOT NULL  -- steps of the segments before this one are in it
) STRICT;

INSERT INTO run_index (id, run_id, segment) VALUES (1, 0, 0);

CREATE TABLE unindexed_steps (
  -- Steps that were reported with an error or another model than they were asked for,
  -- until run_terms has those.
  run_id    INTEGER NOT NULL,
  step_uuid BLOB    NOT NULL,
  PRIMARY KEY (run_id, step_uuid)
) STRICT, WITHOUT ROWID;

CREATE TABLE saved_views (
  -- Filters of the list of runs that a workspace has given a name.
  id           INTEGER PRIMARY KEY,
  uuid         BLOB    NOT NULL UNIQUE,
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  name         TEXT    NOT NULL,
  query        TEXT    NOT NULL, -- as in the address of the page
  created_at   INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX saved_views_name ON saved_views (workspace_id, name);
