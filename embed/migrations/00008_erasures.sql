-- +goose Up

ALTER TABLE users ADD COLUMN erased_at INTEGER; -- external_id is a made-up one since

CREATE TABLE erasures (
  -- Erasures of users that are not finished: what is still to be looked at.
  user_id      INTEGER PRIMARY KEY,
  workspace_id INTEGER NOT NULL,
  external_id  TEXT,             -- the erased name; null once the audit log no longer has it
  began_at     INTEGER NOT NULL,
  before_run   BLOB    NOT NULL  -- the uuid of the user's oldest run that is done; newer ones are too
) STRICT;
