-- +goose Up
-- A table of its own, so that the steps of which nothing was repaired, nearly
-- all, grow by no byte. It is new, so this costs nothing whatever the history.
CREATE TABLE repairs (
  -- Which fields of a run's or step's description could not be kept as they were sent.
  run_id    INTEGER NOT NULL,
  step_uuid BLOB    NOT NULL, -- empty for the run itself
  fields    INTEGER NOT NULL, -- a bit a field, see storage.Repairs
  PRIMARY KEY (run_id, step_uuid)
) STRICT, WITHOUT ROWID;
