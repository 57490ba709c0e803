-- +goose Up
-- Two new tables, empty: it costs nothing, whatever the database's size.

CREATE TABLE sign_in_addresses (
  -- Addresses from which an account has signed in, so that wrong passwords that
  -- others of the same network send do not slow its owner down.
  account_id INTEGER NOT NULL REFERENCES accounts (id),
  address    TEXT    NOT NULL, -- an IPv4 address, or a /64 of IPv6
  last_at    INTEGER NOT NULL,
  PRIMARY KEY (account_id, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE ended_sessions (
  -- Sessions that were signed out before their token expires.
  session    BLOB    PRIMARY KEY NOT NULL, -- the token's id, 16 bytes
  account_id INTEGER NOT NULL REFERENCES accounts (id),
  expires_at INTEGER NOT NULL              -- of the token; the row has no use after
) STRICT, WITHOUT ROWID;
CREATE INDEX ended_sessions_expiry ON ended_sessions (expires_at);
