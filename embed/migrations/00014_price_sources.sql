-- +goose Up
-- Prices also come from the embedded catalogue and by another name. Nothing is
-- rewritten: steps of before have no price_id, and workspaces of before keep to
-- their own entries until somebody switches the catalogue on.
ALTER TABLE workspaces ADD COLUMN price_catalogue INTEGER NOT NULL DEFAULT 0; -- 1: models without an entry cost what the catalogue says
ALTER TABLE models ADD COLUMN same_as TEXT;                                   -- the name whose price this one has; null with prices
ALTER TABLE steps ADD COLUMN price_id INTEGER; -- of price_points; null where the price is the entry of the model's own name

DROP VIEW run_steps;
CREATE VIEW run_steps AS
  -- Steps as they are found by their run.
  SELECT l.run_id, l.segment, s.uuid, s.sequence, s.type, s.status, s.created_at, s.model_id, s.tool_name,
    s.completed_at, s.duration_ms, s.booked_day, s.prompt_tokens, s.completion_tokens,
    s.input_picos, s.output_picos, s.cost_nanos, s.price_id
  FROM run_segments l JOIN steps s ON s.segment = l.segment AND s.run_id = l.run_id;

-- The table comes after the view: SQLite's integrity_check takes a view that
-- the schema ends with for the sign to check only a part of the file.
CREATE TABLE price_points (
  -- Prices that steps were charged at, with where they come from. A row never
  -- changes; a workspace's steps at the same prices share it.
  id           INTEGER PRIMARY KEY,
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  source       INTEGER NOT NULL, -- 1 own, 2 alias, 3 catalogue
  name         TEXT    NOT NULL, -- of the entry that matched
  version      TEXT    NOT NULL, -- of the catalogue; empty where it is not the catalogue's
  rates        TEXT    NOT NULL, -- as prices.Rates writes them
  call_nanos   INTEGER NOT NULL, -- of them: for the call itself, in nano-USD
  UNIQUE (workspace_id, source, name, version, rates)
) STRICT;
