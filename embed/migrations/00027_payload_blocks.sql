-- +goose Up
-- Payloads in blocks, appended as they come. Two columns and one new table: no
-- row is rewritten. What step_payloads has stays there, and is read there.
ALTER TABLE steps ADD COLUMN input_payload INTEGER;  -- where its input is: the number of a block of the workspace * 256 + the place in it
ALTER TABLE steps ADD COLUMN report_payload INTEGER; -- the same of its output, its error, and the provider's usage where not all of it could be read

DROP VIEW run_steps;
CREATE VIEW run_steps AS
  -- Steps as they are found by their run.
  SELECT l.run_id, l.segment, s.uuid, s.sequence, s.type, s.status, s.created_at, s.model_id, s.tool_name,
    s.completed_at, s.duration_ms, s.booked_day, s.prompt_tokens, s.completion_tokens,
    s.input_picos, s.output_picos, s.cost_nanos, s.price_id, s.local_day, s.input_payload, s.report_payload
  FROM run_segments l JOIN steps s ON s.segment = l.segment AND s.run_id = l.run_id;

CREATE TABLE payload_blocks (
  -- What went in and came out of steps: the texts of a commit, packed together. A
  -- table with a rowid, so that a block is appended, and not put into an index's pages.
  workspace_id INTEGER NOT NULL,
  number       INTEGER NOT NULL, -- counts per workspace
  payloads     INTEGER NOT NULL, -- places that steps have in it
  data         BLOB    NOT NULL, -- as package payload packs it
  PRIMARY KEY (workspace_id, number)
) STRICT;
