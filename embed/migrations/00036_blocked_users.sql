-- +goose Up
-- Who is blocked is found without a look at all users. Both hold blocked users alone, so nothing is written for others.
CREATE INDEX users_blocked ON users (workspace_id, id) WHERE blocked_at IS NOT NULL;
CREATE INDEX users_blocked_external ON users (workspace_id, external_id) WHERE blocked_at IS NOT NULL;
