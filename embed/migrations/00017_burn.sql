-- +goose Up
-- Money by the minute, and what each run burns. It costs a pass over
-- workspace_days, of which there is a row a workspace and day, and rewrites no
-- large table.
ALTER TABLE workspaces ADD COLUMN minutes_from INTEGER NOT NULL DEFAULT 0; -- minute from which spend_minutes is kept; before it there are hours
ALTER TABLE workspaces ADD COLUMN spend_from INTEGER NOT NULL DEFAULT 0;   -- minute from which both are whole
-- What was spent before them is in neither: the first whole day is the next one.
UPDATE workspaces SET spend_from = coalesce((SELECT max(day) + 1 FROM workspace_days d WHERE d.workspace_id = workspaces.id), 0) * 1440;

ALTER TABLE runs ADD COLUMN burn_minute INTEGER NOT NULL DEFAULT 0;       -- the latest in which it spent something
ALTER TABLE runs ADD COLUMN burn_nanos INTEGER NOT NULL DEFAULT 0;        -- spent in it
ALTER TABLE runs ADD COLUMN burn_before_nanos INTEGER NOT NULL DEFAULT 0; -- spent in the minute before it

CREATE TABLE spend_minutes (
  -- Rollup: what the steps cost that were reported in a minute.
  workspace_id INTEGER NOT NULL,
  minute       INTEGER NOT NULL, -- since 1970-01-01
  spend_nanos  INTEGER NOT NULL,
  top_run_id   INTEGER NOT NULL, -- the run that spent most in it
  top_nanos    INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, minute)
) STRICT, WITHOUT ROWID;

CREATE TABLE spend_hours (
  -- The same by hours, of the minutes that are no longer kept.
  workspace_id INTEGER NOT NULL,
  hour         INTEGER NOT NULL, -- since 1970-01-01
  spend_nanos  INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, hour)
) STRICT, WITHOUT ROWID;
