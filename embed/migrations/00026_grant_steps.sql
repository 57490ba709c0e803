-- +goose Up
-- An index of what grants have let pass: it reads step_grants once, a row for each such step.
CREATE INDEX step_grants_grant ON step_grants (grant_id, step_uuid);
