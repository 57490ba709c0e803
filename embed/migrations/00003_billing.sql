-- +goose Up
CREATE TABLE subscriptions (
  -- Workspaces that are customers of Stripe, and what Stripe last said of each.
  workspace_id         INTEGER PRIMARY KEY REFERENCES workspaces (id),
  customer             TEXT    NOT NULL UNIQUE, -- Stripe's id
  version              INTEGER NOT NULL,        -- a new one makes everything read before it outdated
  subscription         TEXT,                    -- Stripe's id; null until one was bought
  status               TEXT    NOT NULL,        -- none, incomplete, active, past_due, paused, canceled
  plan                 TEXT,                    -- what it pays for, until plan_ends_at; null when for nothing
  period_end           INTEGER,
  cancel_at_period_end INTEGER NOT NULL,
  past_due_since       INTEGER,                 -- of the payment that failed
  plan_ends_at         INTEGER,                 -- null while nothing ends the plan
  granted_plan         TEXT                     -- what the workspace was given for it; null when nothing
) STRICT;
CREATE INDEX subscriptions_ending ON subscriptions (plan_ends_at) WHERE granted_plan IS NOT NULL;

CREATE TABLE stripe_events (
  -- Stripe's events that took effect, so that each does once. Kept for 90 days.
  id         TEXT    PRIMARY KEY, -- Stripe's
  handled_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX stripe_events_age ON stripe_events (handled_at);

CREATE TABLE plan_changes (
  -- Every change of a workspace's plan, beginning with the plan that it was made with.
  id                        INTEGER PRIMARY KEY,
  workspace_id              INTEGER NOT NULL REFERENCES workspaces (id),
  changed_at                INTEGER NOT NULL,
  from_plan                 TEXT,             -- null when the workspace was made
  to_plan                   TEXT    NOT NULL,
  changed_by                INTEGER NOT NULL, -- 1 sign_up, 2 command, 3 stripe_event, 4 stripe_check
  stripe_event              TEXT,             -- Stripe's id of the event
  reset_kill_switch         INTEGER NOT NULL, -- it was on, and the new plan has none
  reset_user_budget_nanos   INTEGER,          -- the budget that was removed
  reset_max_concurrent_runs INTEGER           -- the number that was replaced
) STRICT;
CREATE INDEX plan_changes_workspace ON plan_changes (workspace_id, id);
