-- +goose Up
-- An empty table. It costs nothing.
CREATE TABLE dropped_payloads (
  -- Texts that steps no longer have, until upkeep takes them out of their blocks.
  workspace_id INTEGER NOT NULL,
  place        INTEGER NOT NULL, -- as in steps.input_payload
  PRIMARY KEY (workspace_id, place)
) STRICT, WITHOUT ROWID;
