-- +goose Up
-- Three new tables, empty: it costs nothing, whatever the database's size.

CREATE TABLE endpoints (
  -- Where a workspace is told of what happens.
  id               INTEGER PRIMARY KEY,
  uuid             BLOB    NOT NULL UNIQUE, -- 16 bytes
  workspace_id     INTEGER NOT NULL REFERENCES workspaces (id),
  kind             TEXT    NOT NULL,           -- webhook, slack, discord, teams, ntfy, email
  label            TEXT    NOT NULL,
  address          BLOB    NOT NULL,           -- URL or email address, sealed: those of chats are secrets
  events           INTEGER NOT NULL,           -- the set of wanted events, bit n for event n; -1: all
  secret           BLOB,                       -- sealed; that signs a webhook's messages
  old_secret       BLOB,                       -- sealed; signs too, while it is replaced
  old_secret_until INTEGER,
  created_at       INTEGER NOT NULL,
  off_at           INTEGER,                    -- since when nothing is sent; null: it is on
  off_reason       TEXT                        -- PAUSED, GONE, UNREADABLE, or DELETED until its rows are
) STRICT;
CREATE INDEX endpoints_workspace ON endpoints (workspace_id);

CREATE TABLE deliveries (
  -- The outbox: what an endpoint is to be told, or was. A row is written in the
  -- transaction of what it tells.
  id           INTEGER PRIMARY KEY,
  endpoint_id  INTEGER NOT NULL REFERENCES endpoints (id),
  uuid         BLOB    NOT NULL, -- the message's id: the same at all endpoints, and in every repeat
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  event        INTEGER NOT NULL,
  user_id      INTEGER,          -- of users: whom it names; erased with them
  data         TEXT    NOT NULL, -- JSON object
  state        INTEGER NOT NULL, -- 1 pending, 2 delivered, 3 failed, 4 cancelled
  due_at       INTEGER,          -- of the next attempt; null when there is none
  attempts     INTEGER NOT NULL, -- since it was first or again to be sent
  attempted_at INTEGER,          -- of the last attempt, as all below
  duration_ms  INTEGER,
  sent         TEXT,             -- the body, without links that decide
  status       INTEGER,          -- that was answered; null when nothing was
  answer       TEXT,             -- the beginning of the answer's body
  problem      TEXT              -- why it counts as failed; null when it does not
) STRICT;
CREATE UNIQUE INDEX deliveries_message ON deliveries (endpoint_id, uuid);
CREATE INDEX deliveries_due ON deliveries (endpoint_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_pending ON deliveries (uuid) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_user ON deliveries (workspace_id, user_id) WHERE user_id IS NOT NULL;

CREATE TABLE alerts (
  -- What a workspace has been told of that is not over: so that it is told once, and its end once.
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  event        INTEGER NOT NULL,
  subject      TEXT    NOT NULL, -- what of several it is about; '' for the workspace
  day          INTEGER NOT NULL, -- UTC, on which it was told
  level        INTEGER NOT NULL, -- the highest percentage that was told; 0 for events without
  amount       INTEGER NOT NULL, -- the limit that level is a part of, in nano-USD; 0 for events without
  PRIMARY KEY (workspace_id, event, subject)
) STRICT, WITHOUT ROWID;
