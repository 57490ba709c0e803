-- Once: the users and models of every workspace that there is, and what the
-- batches need. Users are numbered so that a batch finds them without a look-up.
-- The first workspace is the big one.

CREATE TEMP TABLE numbers (n INTEGER PRIMARY KEY);
WITH RECURSIVE up(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM up WHERE n < 9999)
INSERT INTO numbers SELECT n FROM up;

CREATE TEMP TABLE history (
  runs        INTEGER, -- in all
  begins      INTEGER, -- UTC milliseconds
  ends        INTEGER,
  base        INTEGER, -- runs are numbered above this
  big         INTEGER, -- id of the first workspace
  others      INTEGER, -- how many more there are
  first       INTEGER, -- the batch at hand
  last        INTEGER
);

CREATE TEMP TABLE batch (
  id           INTEGER PRIMARY KEY,
  workspace_id INTEGER,
  user_id      INTEGER,
  started_at   INTEGER
);

INSERT INTO users (id, workspace_id, external_id, run_count, created_at)
SELECT w.id * 100000 + n, w.id, printf('user-%d', n), 0, w.created_at
FROM workspaces w JOIN numbers ON n < iif(w.id = (SELECT min(id) FROM workspaces), 10000, 200);

INSERT INTO models (id, uuid, workspace_id, name, input_picos, output_picos, is_active)
SELECT w.id * 100000 + n, randomblob(16), w.id, printf('provider/model-%d', n), (n + 1) * 150000, (n + 1) * 600000, 1
FROM workspaces w JOIN numbers ON n < 8;
