-- +goose Up
-- One new table, filled from the decisions that policies were asked of, and an
-- index of reviews: it reads step_policies once, a row for each step that a policy matched.

CREATE TABLE policy_days (
  -- How often a policy has objected on a day.
  workspace_id INTEGER NOT NULL,
  day          INTEGER NOT NULL, -- UTC, on which it was asked
  policy_id    INTEGER NOT NULL,
  outcome      INTEGER NOT NULL, -- as of step_policies, from 2
  hit_count    INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, day, policy_id, outcome)
) STRICT, WITHOUT ROWID;

INSERT INTO policy_days (workspace_id, day, policy_id, outcome, hit_count)
SELECT r.workspace_id, coalesce(s.created_at, r.started_at) / 86400000, a.policy_id, a.outcome, count(*)
FROM step_policies a JOIN runs r ON r.id = a.run_id
LEFT JOIN steps s ON s.segment = a.segment AND s.run_id = a.run_id AND s.uuid = a.step_uuid
WHERE a.outcome > 1 GROUP BY 1, 2, 3, 4;

CREATE INDEX reviews_policy ON reviews (policy_id, uuid);
