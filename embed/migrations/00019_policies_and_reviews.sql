-- +goose Up

ALTER TABLE workspaces ADD COLUMN timezone TEXT NOT NULL DEFAULT 'UTC';
ALTER TABLE workspaces ADD COLUMN week_start INTEGER NOT NULL DEFAULT 1;
ALTER TABLE workspaces ADD COLUMN reviews_for_all INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workspaces ADD COLUMN policies_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workspaces ADD COLUMN pending_reviews INTEGER NOT NULL DEFAULT 0;

ALTER TABLE denials ADD COLUMN policy_id INTEGER;
ALTER TABLE denials ADD COLUMN policy_version INTEGER;

CREATE TABLE policies (
  -- Rules of a workspace's own. A row stays when its policy is deleted, because denials name it.
  id           INTEGER PRIMARY KEY,
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  name         TEXT    NOT NULL,
  version      INTEGER NOT NULL, -- the newest
  counts_from  INTEGER NOT NULL, -- the version from which its limit counts
  is_deleted   INTEGER NOT NULL,
  UNIQUE (workspace_id, name)
) STRICT;

CREATE TABLE policy_versions (
  -- What a policy has said, version by version.
  policy_id  INTEGER NOT NULL REFERENCES policies (id),
  version    INTEGER NOT NULL,
  definition TEXT,             -- JSON; null where the version is its deletion
  changed_at INTEGER NOT NULL,
  changed_by TEXT,             -- the actor's name
  PRIMARY KEY (policy_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE policy_counters (
  -- What was used of a policy's limit, by the value that it is kept by and by window.
  workspace_id INTEGER NOT NULL,
  policy_id    INTEGER NOT NULL,
  counts_from  INTEGER NOT NULL, -- as policies.counts_from was
  scope        TEXT    NOT NULL, -- empty for the workspace
  slice        INTEGER NOT NULL, -- start of the window, or of a sixtieth of a rolling one; milliseconds
  used         INTEGER NOT NULL, -- nano-USD, tokens, calls or runs
  PRIMARY KEY (workspace_id, policy_id, counts_from, scope, slice)
) STRICT, WITHOUT ROWID;

CREATE INDEX policy_counters_window ON policy_counters (policy_id, slice);

CREATE TABLE step_policies (
  -- The policies that a step was asked of. Rows lie as their steps do; those of a run's start in segment 0.
  segment     INTEGER NOT NULL,
  run_id      INTEGER NOT NULL,
  step_uuid   BLOB    NOT NULL, -- empty for the run's start
  policy_id   INTEGER NOT NULL,
  outcome     INTEGER NOT NULL, -- 1 did not object, 2 logged, 3 asked for a review, 4 denied, 5 passed by a grant
  measure     INTEGER,          -- where its limit counts the step: 1 usd, 2 tokens, 3 calls, 4 runs
  counts_from INTEGER,          -- and the key of the counter
  scope       TEXT,
  slice       INTEGER,
  PRIMARY KEY (segment, run_id, step_uuid, policy_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_actions (
  -- Hashes of a run's latest steps, for policies that look for repetition.
  run_id  INTEGER PRIMARY KEY,
  history BLOB NOT NULL -- 8 bytes each, the newest last
) STRICT;

CREATE TABLE reviews (
  -- Steps that wait, or waited, for a person.
  id             INTEGER PRIMARY KEY,
  uuid           BLOB    NOT NULL,
  workspace_id   INTEGER NOT NULL,
  run_id         INTEGER NOT NULL,
  segment        INTEGER NOT NULL,
  step_uuid      BLOB    NOT NULL,
  policy_id      INTEGER NOT NULL,
  policy_version INTEGER NOT NULL,
  resolution     INTEGER NOT NULL, -- 0 pending, 1 approved, 2 denied, 3 expired, 4 cancelled, 5 superseded, 6 bypassed
  action_hash    BLOB    NOT NULL, -- SHA-256 of type, tool, model and input
  expires_at     INTEGER NOT NULL,
  decided_at     INTEGER,
  decided_by     TEXT,             -- an account's email, or a channel
  note           TEXT,
  last_poll_at   INTEGER,
  grant_id       INTEGER           -- that the approval gave
) STRICT;

CREATE UNIQUE INDEX reviews_uuid ON reviews (workspace_id, uuid);
CREATE UNIQUE INDEX reviews_step ON reviews (run_id, step_uuid);
CREATE INDEX reviews_pending ON reviews (workspace_id) WHERE resolution = 0;
CREATE INDEX reviews_expiry ON reviews (expires_at) WHERE resolution = 0;

CREATE TABLE grants (
  -- What a reviewer has allowed in advance. It holds for one version of one policy.
  id             INTEGER PRIMARY KEY,
  uuid           BLOB    NOT NULL,
  workspace_id   INTEGER NOT NULL,
  policy_id      INTEGER NOT NULL,
  policy_version INTEGER NOT NULL,
  scope          INTEGER NOT NULL, -- 1 run, 2 same_action, 3 tool
  run_id         INTEGER,          -- of scope run
  action_hash    BLOB,             -- of scope same_action
  tool_name      TEXT,             -- of scope tool
  uses           INTEGER NOT NULL, -- at most
  used           INTEGER NOT NULL,
  granted_by     TEXT,
  expires_at     INTEGER NOT NULL,
  revoked_at     INTEGER
) STRICT;

CREATE UNIQUE INDEX grants_uuid ON grants (workspace_id, uuid);
CREATE INDEX grants_expiry ON grants (workspace_id, expires_at);

CREATE TABLE step_grants (
  -- Steps that a grant has let pass.
  run_id    INTEGER NOT NULL,
  step_uuid BLOB    NOT NULL,
  grant_id  INTEGER NOT NULL,
  PRIMARY KEY (run_id, step_uuid, grant_id)
) STRICT, WITHOUT ROWID;
