-- +goose Up
-- A new table, empty: it costs nothing, whatever the database's size. Sessions that began before are
-- not in it.
CREATE TABLE sessions (
  -- Sign-ins whose tokens have not expired, so that people see them and end one. What a token may do
  -- is not decided here: ended_sessions and the account's token_version say which have ended.
  session       BLOB    PRIMARY KEY NOT NULL, -- the token's id, 16 bytes
  account_id    INTEGER NOT NULL REFERENCES accounts (id),
  token_version INTEGER NOT NULL,             -- the account's when its token was issued; another one ends it
  agent         TEXT    NOT NULL,             -- what the browser or program says it is; '' where it says nothing
  created_at    INTEGER NOT NULL,             -- when somebody signed in
  used_at       INTEGER NOT NULL,             -- when it last made a call, to the minute
  expires_at    INTEGER NOT NULL              -- of the token; the row has no use after
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_account ON sessions (account_id, created_at);
CREATE INDEX sessions_expiry ON sessions (expires_at);
