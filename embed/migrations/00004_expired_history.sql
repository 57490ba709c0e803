-- +goose Up
CREATE TABLE expired_history (
  -- How much of a workspace's history retention has deleted: what the ledger's
  -- rows can no longer prove. No row where nothing was ever deleted.
  workspace_id   INTEGER PRIMARY KEY,
  started_before INTEGER NOT NULL, -- runs that started at this time or later are whole
  complete_from  INTEGER NOT NULL  -- rows that count on this day or later are all there
) STRICT;

-- Where runs are missing already, nobody has noted which: then nothing up to now can be proved.
INSERT INTO expired_history (workspace_id, started_before, complete_from)
SELECT d.workspace_id, (max(d.day) + 1) * 86400000, max(d.day) + 1
FROM workspace_days d GROUP BY d.workspace_id
HAVING sum(d.run_count + d.blocked_run_count) <> (SELECT count(*) FROM runs r WHERE r.workspace_id = d.workspace_id);

-- What a readiness check writes is as large as a run's start, so that a disk
-- with room for a page and no more is not called ready.
ALTER TABLE probes ADD COLUMN room BLOB;
