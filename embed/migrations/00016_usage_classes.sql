-- +goose Up
-- Kinds of tokens that cost otherwise than the rest, and what providers say of a
-- call. Nothing is rewritten: most steps have none of it, and so no row here.
ALTER TABLE workspaces ADD COLUMN trust_reported_cost INTEGER NOT NULL DEFAULT 0; -- 1: what a provider says that a call cost is booked where no price is known
ALTER TABLE workspaces ADD COLUMN refuse_unpriced INTEGER NOT NULL DEFAULT 0;     -- 1: calls of models without a price are denied
ALTER TABLE models ADD COLUMN rates TEXT; -- all prices as prices.Rates writes them, where there are more than the two
ALTER TABLE step_payloads ADD COLUMN usage_data TEXT; -- JSON: the provider's usage, where not all of it could be read

CREATE TABLE step_usage (
  -- What a step has used beside the whole of its prompt and its completion. Rows
  -- lie as their steps do, so that a commit dirties few pages.
  segment               INTEGER NOT NULL,
  run_id                INTEGER NOT NULL,
  step_uuid             BLOB    NOT NULL,
  cached_tokens         INTEGER NOT NULL, -- of the prompt: read from a cache
  cache_write_tokens    INTEGER NOT NULL, -- of the prompt: written to one
  cache_write_1h_tokens INTEGER NOT NULL, -- of those written: to be kept for an hour
  reasoning_tokens      INTEGER NOT NULL, -- of the completion
  service_tier          INTEGER NOT NULL, -- 0 none said, 1 default, 2 batch, 3 flex, 4 priority, 5 fast
  reported_nanos        INTEGER,          -- what the provider says that it cost
  cached_picos          INTEGER NOT NULL, -- the prices used; 0 where there are none
  cache_write_picos     INTEGER NOT NULL,
  cache_write_1h_picos  INTEGER NOT NULL,
  reasoning_picos       INTEGER NOT NULL,
  PRIMARY KEY (segment, run_id, step_uuid)
) STRICT, WITHOUT ROWID;
