-- +goose Up
-- What policies said of a step or a start lies in the row of the step or run: a row for each
-- policy cost more than the decision. Each step that a policy was asked of is rewritten once.
ALTER TABLE steps ADD COLUMN policies TEXT; -- JSON, what the policies asked said: [[policy, outcome], [policy, outcome, measure, counts_from, scope, slice], …]
ALTER TABLE runs ADD COLUMN policies TEXT;  -- the same of the run's start

UPDATE steps SET policies = a.outcomes
FROM (SELECT segment, run_id, step_uuid, json_group_array(json(CASE WHEN measure IS NULL THEN json_array(policy_id, outcome)
    ELSE json_array(policy_id, outcome, measure, counts_from, scope, slice) END)) AS outcomes
  FROM step_policies WHERE octet_length(step_uuid) > 0 GROUP BY segment, run_id, step_uuid) a
WHERE steps.segment = a.segment AND steps.run_id = a.run_id AND steps.uuid = a.step_uuid;

UPDATE runs SET policies = a.outcomes
FROM (SELECT run_id, json_group_array(json(CASE WHEN measure IS NULL THEN json_array(policy_id, outcome)
    ELSE json_array(policy_id, outcome, measure, counts_from, scope, slice) END)) AS outcomes
  FROM step_policies WHERE segment = 0 AND octet_length(step_uuid) = 0 GROUP BY run_id) a
WHERE runs.id = a.run_id;

DROP TABLE step_policies;
