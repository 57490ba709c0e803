-- +goose Up
-- Steps by segments of the time in which they were asked for, and no longer by
-- their runs alone: so a commit dirties the few pages of the newest segment,
-- and not one for every run in it. All steps of before are segment 0.
ALTER TABLE steps RENAME TO old_steps;

CREATE TABLE steps (
  -- Actions in runs: the ledger. One b-tree, no other index, because each
  -- further page that a step dirties costs more than the SQL.
  segment           INTEGER NOT NULL, -- a few hundred steps that were asked for one after another
  run_id            INTEGER NOT NULL,
  uuid              BLOB    NOT NULL,
  sequence          INTEGER NOT NULL, -- the caller's; orders the display
  type              INTEGER NOT NULL, -- 1 MODEL_CALL, 2 TOOL_CALL, 3 INPUT, 4 OUTPUT, 5 REASONING, 6 SYSTEM
  status            INTEGER NOT NULL, -- 1 RUNNING, ABANDONED once its run has ended, 2 COMPLETED, 3 FAILED, 4 BLOCKED, 5 ABANDONED by older versions
  created_at        INTEGER NOT NULL,
  model_id          INTEGER,
  tool_name         TEXT,
  completed_at      INTEGER,
  duration_ms       INTEGER,
  booked_day        INTEGER,          -- the day its usage counts on; null until usage is reported
  prompt_tokens     INTEGER,
  completion_tokens INTEGER,
  input_picos       INTEGER,          -- the prices used; null when the model had none
  output_picos      INTEGER,
  cost_nanos        INTEGER,
  PRIMARY KEY (segment, run_id, uuid)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_segments (
  -- In which segments a run has steps.
  run_id  INTEGER NOT NULL,
  segment INTEGER NOT NULL,
  PRIMARY KEY (run_id, segment)
) STRICT, WITHOUT ROWID;

CREATE VIEW run_steps AS
  -- Steps as they are found by their run.
  SELECT l.run_id, l.segment, s.uuid, s.sequence, s.type, s.status, s.created_at, s.model_id, s.tool_name,
    s.completed_at, s.duration_ms, s.booked_day, s.prompt_tokens, s.completion_tokens,
    s.input_picos, s.output_picos, s.cost_nanos
  FROM run_segments l JOIN steps s ON s.segment = l.segment AND s.run_id = l.run_id;

INSERT INTO steps SELECT 0, o.* FROM old_steps o;
INSERT INTO run_segments SELECT DISTINCT run_id, 0 FROM steps;
DROP TABLE old_steps;
