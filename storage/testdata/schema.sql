CREATE TABLE accounts (
  -- People who sign in to the dashboard.
  id            INTEGER PRIMARY KEY,
  uuid          BLOB    NOT NULL UNIQUE,
  email         TEXT    NOT NULL,        -- as typed
  email_key     TEXT    NOT NULL UNIQUE, -- folded: what is compared
  password_hash TEXT    NOT NULL,        -- argon2id, PHC form
  token_version INTEGER NOT NULL,        -- a new one ends all earlier tokens
  created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE alerts (
  -- What a workspace has been told of that is not over: so that it is told once, and its end once.
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  event        INTEGER NOT NULL,
  subject      TEXT    NOT NULL, -- what of several it is about; '' for the workspace
  day          INTEGER NOT NULL, -- UTC, on which it was told
  level        INTEGER NOT NULL, -- the highest percentage that was told; 0 for events without
  amount       INTEGER NOT NULL, -- the limit that level is a part of, in nano-USD; 0 for events without
  PRIMARY KEY (workspace_id, event, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
  -- Keys of agents; those of the past are kept, revoked.
  id           INTEGER PRIMARY KEY,
  uuid         BLOB    NOT NULL UNIQUE,
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  prefix       TEXT    NOT NULL UNIQUE,
  hash         BLOB    NOT NULL, -- SHA-256 of the whole key
  sealed       BLOB    NOT NULL, -- the whole key, AES-256-GCM under the server secret
  label        TEXT    NOT NULL,
  created_at   INTEGER NOT NULL,
  revoked_at   INTEGER
, scope TEXT NOT NULL DEFAULT 'agent', expires_at INTEGER, last_used_at INTEGER, is_first INTEGER NOT NULL DEFAULT 0) STRICT;

CREATE UNIQUE INDEX api_keys_first ON api_keys (workspace_id) WHERE is_first = 1;

CREATE INDEX api_keys_newest ON api_keys (workspace_id, id);

CREATE INDEX api_keys_open ON api_keys (workspace_id, id) WHERE revoked_at IS NULL;

CREATE TABLE audit_entries (
  -- Changes of configuration and sign-ins, written with the change itself and
  -- kept for 365 days. The uuid begins with the millisecond, so that the key
  -- serves newest-first lists and bounds in time. No secret is ever in here.
  workspace_id INTEGER NOT NULL,
  uuid         BLOB    NOT NULL,
  actor_kind   TEXT    NOT NULL,
  actor_name   TEXT,            -- email, prefix of an API key, command; null for nobody known
  action       TEXT    NOT NULL,
  target       TEXT,            -- what was changed, where a workspace has several of it
  was          TEXT,            -- JSON object of what differs, before; null when it did not exist
  became       TEXT,            -- the same, after
  address      TEXT,            -- where the request came from; null for what came over no network
  PRIMARY KEY (workspace_id, uuid)
) STRICT, WITHOUT ROWID;

CREATE TABLE capped_steps (
  -- Steps of which a full day or run could take only a part, with the tokens
  -- that were reported. The step itself has what was booked.
  run_id            INTEGER NOT NULL,
  step_uuid         BLOB    NOT NULL,
  prompt_tokens     INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  PRIMARY KEY (run_id, step_uuid)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
  -- The outbox: what an endpoint is to be told, or was. A row is written in the
  -- transaction of what it tells.
  id           INTEGER PRIMARY KEY,
  endpoint_id  INTEGER NOT NULL REFERENCES endpoints (id),
  uuid         BLOB    NOT NULL, -- the message's id: the same at all endpoints, and in every repeat
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  event        INTEGER NOT NULL,
  user_id      INTEGER,          -- of users: whom it names; erased with them
  data         TEXT    NOT NULL, -- JSON object
  state        INTEGER NOT NULL, -- 1 pending, 2 delivered, 3 failed, 4 cancelled
  due_at       INTEGER,          -- of the next attempt; null when there is none
  attempts     INTEGER NOT NULL, -- since it was first or again to be sent
  attempted_at INTEGER,          -- of the last attempt, as all below
  duration_ms  INTEGER,
  sent         TEXT,             -- the body, without links that decide
  status       INTEGER,          -- that was answered; null when nothing was
  answer       TEXT,             -- the beginning of the answer's body
  problem      TEXT              -- why it counts as failed; null when it does not
) STRICT;

CREATE INDEX deliveries_due ON deliveries (endpoint_id, due_at) WHERE due_at IS NOT NULL;

CREATE UNIQUE INDEX deliveries_message ON deliveries (endpoint_id, uuid);

CREATE INDEX deliveries_pending ON deliveries (uuid) WHERE due_at IS NOT NULL;

CREATE INDEX deliveries_user ON deliveries (workspace_id, user_id) WHERE user_id IS NOT NULL;

CREATE TABLE denial_days (
  -- Denials of a workspace on a UTC day, of starts and of steps, by the rule that objected.
  workspace_id INTEGER NOT NULL,
  day          INTEGER NOT NULL,
  reason       INTEGER NOT NULL, -- guard.Reason
  denial_count INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, day, reason)
) STRICT, WITHOUT ROWID;

CREATE TABLE denials (
  -- What the rule that objected saw. step_uuid is empty for the run's own start.
  run_id      INTEGER NOT NULL,
  step_uuid   BLOB    NOT NULL,
  reason      INTEGER NOT NULL, -- guard.Reason
  limit_value INTEGER NOT NULL, -- nano-USD or runs, by the reason
  used_value  INTEGER NOT NULL,
  resets_at   INTEGER, policy_id INTEGER, policy_version INTEGER,
  PRIMARY KEY (run_id, step_uuid)
) STRICT, WITHOUT ROWID;

CREATE TABLE dropped_payloads (
  -- Texts that steps no longer have, until upkeep takes them out of their blocks.
  workspace_id INTEGER NOT NULL,
  place        INTEGER NOT NULL, -- as in steps.input_payload
  PRIMARY KEY (workspace_id, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE ended_sessions (
  -- Sessions that were signed out before their token expires.
  session    BLOB    PRIMARY KEY NOT NULL, -- the token's id, 16 bytes
  account_id INTEGER NOT NULL REFERENCES accounts (id),
  expires_at INTEGER NOT NULL              -- of the token; the row has no use after
) STRICT, WITHOUT ROWID;

CREATE INDEX ended_sessions_expiry ON ended_sessions (expires_at);

CREATE TABLE endpoints (
  -- Where a workspace is told of what happens.
  id               INTEGER PRIMARY KEY,
  uuid             BLOB    NOT NULL UNIQUE, -- 16 bytes
  workspace_id     INTEGER NOT NULL REFERENCES workspaces (id),
  kind             TEXT    NOT NULL,           -- webhook, slack, discord, teams, ntfy, email
  label            TEXT    NOT NULL,
  address          BLOB    NOT NULL,           -- URL or email address, sealed: those of chats are secrets
  events           INTEGER NOT NULL,           -- the set of wanted events, bit n for event n; -1: all
  secret           BLOB,                       -- sealed; that signs a webhook's messages
  old_secret       BLOB,                       -- sealed; signs too, while it is replaced
  old_secret_until INTEGER,
  created_at       INTEGER NOT NULL,
  off_at           INTEGER,                    -- since when nothing is sent; null: it is on
  off_reason       TEXT                        -- PAUSED, GONE, UNREADABLE, or DELETED until its rows are
) STRICT;

CREATE INDEX endpoints_workspace ON endpoints (workspace_id);

CREATE TABLE erasures (
  -- Erasures of users that are not finished: what is still to be looked at.
  user_id      INTEGER PRIMARY KEY,
  workspace_id INTEGER NOT NULL,
  external_id  TEXT,             -- the erased name; null once the audit log no longer has it
  began_at     INTEGER NOT NULL,
  before_run   BLOB    NOT NULL  -- the uuid of the user's oldest run that is done; newer ones are too
) STRICT;

CREATE TABLE expired_history (
  -- How much of a workspace's history retention has deleted: what the ledger's
  -- rows can no longer prove. No row where nothing was ever deleted.
  workspace_id   INTEGER PRIMARY KEY,
  started_before INTEGER NOT NULL, -- runs that started at this time or later are whole
  complete_from  INTEGER NOT NULL  -- rows that count on this day or later are all there
) STRICT;

CREATE TABLE grants (
  -- What a reviewer has allowed in advance. It holds for one version of one policy.
  id             INTEGER PRIMARY KEY,
  uuid           BLOB    NOT NULL,
  workspace_id   INTEGER NOT NULL,
  policy_id      INTEGER NOT NULL,
  policy_version INTEGER NOT NULL,
  scope          INTEGER NOT NULL, -- 1 run, 2 same_action, 3 tool
  run_id         INTEGER,          -- of scope run
  action_hash    BLOB,             -- of scope same_action
  tool_name      TEXT,             -- of scope tool
  uses           INTEGER NOT NULL, -- at most
  used           INTEGER NOT NULL,
  granted_by     TEXT,
  expires_at     INTEGER NOT NULL,
  revoked_at     INTEGER
) STRICT;

CREATE INDEX grants_expiry ON grants (workspace_id, expires_at);

CREATE UNIQUE INDEX grants_uuid ON grants (workspace_id, uuid);

CREATE TABLE idempotency_keys (
  -- First answers of calls that carried an Idempotency-Key, for 24 hours.
  workspace_id INTEGER NOT NULL,
  run_id       INTEGER NOT NULL, -- 0 for run starts
  key          TEXT    NOT NULL,
  fingerprint  BLOB    NOT NULL, -- SHA-256 of the request's body
  answer       BLOB    NOT NULL, -- the response's body
  created_at   INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, run_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

CREATE TABLE key_days (
  -- Use of a workspace on a UTC day by the key that started the runs.
  workspace_id      INTEGER NOT NULL,
  day               INTEGER NOT NULL,
  key_id            INTEGER NOT NULL,
  spend_nanos       INTEGER NOT NULL,
  prompt_tokens     INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  run_count         INTEGER NOT NULL, -- allowed
  blocked_run_count INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, day, key_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE model_days (
  -- The same by model. Unpriced tokens are those that no price was known for.
  workspace_id      INTEGER NOT NULL,
  day               INTEGER NOT NULL,
  model_id          INTEGER NOT NULL,
  spend_nanos       INTEGER NOT NULL,
  prompt_tokens     INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  unpriced_tokens   INTEGER NOT NULL, unpriced_steps INTEGER NOT NULL DEFAULT 0, calls_without_usage INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (workspace_id, day, model_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE models (
  -- Models named by steps or priced by the workspace; names match exactly.
  id           INTEGER PRIMARY KEY,
  uuid         BLOB    NOT NULL UNIQUE,
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  name         TEXT    NOT NULL,
  input_picos  INTEGER, -- null: never priced
  output_picos INTEGER,
  is_active    INTEGER NOT NULL
, same_as TEXT, rates TEXT) STRICT;

CREATE UNIQUE INDEX models_name ON models (workspace_id, name);

CREATE TABLE payload_blocks (
  -- What went in and came out of steps: the texts of a commit, packed together. A
  -- table with a rowid, so that a block is appended, and not put into an index's pages.
  workspace_id INTEGER NOT NULL,
  number       INTEGER NOT NULL, -- counts per workspace
  payloads     INTEGER NOT NULL, -- places that steps have in it
  data         BLOB    NOT NULL, -- as package payload packs it
  PRIMARY KEY (workspace_id, number)
) STRICT;

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

CREATE TABLE policies (
  -- Rules of a workspace's own. A row stays when its policy is deleted, because denials name it.
  id           INTEGER PRIMARY KEY,
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  name         TEXT    NOT NULL,
  version      INTEGER NOT NULL, -- the newest
  counts_from  INTEGER NOT NULL, -- the version from which its limit counts
  is_deleted   INTEGER NOT NULL,
  UNIQUE (workspace_id, name)
) STRICT;

CREATE TABLE policy_counters (
  -- What was used of a policy's limit, by the value that it is kept by and by window.
  workspace_id INTEGER NOT NULL,
  policy_id    INTEGER NOT NULL,
  counts_from  INTEGER NOT NULL, -- as policies.counts_from was
  scope        TEXT    NOT NULL, -- empty for the workspace
  slice        INTEGER NOT NULL, -- start of the window, or of a sixtieth of a rolling one; milliseconds
  used         INTEGER NOT NULL, -- nano-USD, tokens, calls or runs
  PRIMARY KEY (workspace_id, policy_id, counts_from, scope, slice)
) STRICT, WITHOUT ROWID;

CREATE INDEX policy_counters_window ON policy_counters (policy_id, slice);

CREATE TABLE policy_days (
  -- How often a policy has objected on a day.
  workspace_id INTEGER NOT NULL,
  day          INTEGER NOT NULL, -- UTC, on which it was asked
  policy_id    INTEGER NOT NULL,
  outcome      INTEGER NOT NULL, -- as of step_policies, from 2
  hit_count    INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, day, policy_id, outcome)
) STRICT, WITHOUT ROWID;

CREATE TABLE policy_versions (
  -- What a policy has said, version by version.
  policy_id  INTEGER NOT NULL REFERENCES policies (id),
  version    INTEGER NOT NULL,
  definition TEXT,             -- JSON; null where the version is its deletion
  changed_at INTEGER NOT NULL,
  changed_by TEXT,             -- the actor's name
  PRIMARY KEY (policy_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE price_points (
  -- Prices that steps were charged at, with where they come from. A row never
  -- changes; a workspace's steps at the same prices share it.
  id           INTEGER PRIMARY KEY,
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  source       INTEGER NOT NULL, -- 1 own, 2 alias, 3 catalogue
  name         TEXT    NOT NULL, -- of the entry that matched
  version      TEXT    NOT NULL, -- of the catalogue; empty where it is not the catalogue's
  rates        TEXT    NOT NULL, -- as prices.Rates writes them
  call_nanos   INTEGER NOT NULL, -- of them: for the call itself, in nano-USD
  UNIQUE (workspace_id, source, name, version, rates)
) STRICT;

CREATE TABLE probes (
  -- One row that readiness checks rewrite, to prove that commits work.
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  checked_at INTEGER NOT NULL
, room BLOB) STRICT;

CREATE TABLE repairs (
  -- Which fields of a run's or step's description could not be kept as they were sent.
  run_id    INTEGER NOT NULL,
  step_uuid BLOB    NOT NULL, -- empty for the run itself
  fields    INTEGER NOT NULL, -- a bit a field, see storage.Repairs
  PRIMARY KEY (run_id, step_uuid)
) STRICT, WITHOUT ROWID;

CREATE TABLE reviews (
  -- Steps that wait, or waited, for a person.
  id             INTEGER PRIMARY KEY,
  uuid           BLOB    NOT NULL,
  workspace_id   INTEGER NOT NULL,
  run_id         INTEGER NOT NULL,
  segment        INTEGER NOT NULL,
  step_uuid      BLOB    NOT NULL,
  policy_id      INTEGER NOT NULL,
  policy_version INTEGER NOT NULL,
  resolution     INTEGER NOT NULL, -- 0 pending, 1 approved, 2 denied, 3 expired, 4 cancelled, 5 superseded, 6 bypassed
  action_hash    BLOB    NOT NULL, -- SHA-256 of type, tool, model and input
  expires_at     INTEGER NOT NULL,
  decided_at     INTEGER,
  decided_by     TEXT,             -- an account's email, or a channel
  note           TEXT,
  last_poll_at   INTEGER,
  grant_id       INTEGER           -- that the approval gave
) STRICT;

CREATE INDEX reviews_expiry ON reviews (expires_at) WHERE resolution = 0;

CREATE INDEX reviews_pending ON reviews (workspace_id) WHERE resolution = 0;

CREATE INDEX reviews_policy ON reviews (policy_id, uuid);

CREATE UNIQUE INDEX reviews_step ON reviews (run_id, step_uuid);

CREATE UNIQUE INDEX reviews_uuid ON reviews (workspace_id, uuid);

CREATE TABLE run_actions (
  -- Hashes of a run's latest steps, for policies that look for repetition.
  run_id  INTEGER PRIMARY KEY,
  history BLOB NOT NULL -- 8 bytes each, the newest last
) STRICT;

CREATE TABLE run_index (
  -- One row: how far run_terms has come.
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  run_id  INTEGER NOT NULL, -- runs up to this one have their words
  segment INTEGER NOT NULL  -- steps of the segments before this one are in it
) STRICT;

CREATE TABLE run_metadata (
  -- What the caller attached to a run; apart, so that lists never read it.
  run_id   INTEGER PRIMARY KEY,
  metadata TEXT NOT NULL -- JSON object
) STRICT;

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
    s.input_picos, s.output_picos, s.cost_nanos, s.price_id, s.local_day, s.input_payload, s.report_payload
  FROM run_segments l JOIN steps s ON s.segment = l.segment AND s.run_id = l.run_id;

CREATE TABLE run_tags (
  -- Tags of a run, taken from its metadata when it starts.
  run_id       INTEGER NOT NULL,
  key          TEXT    NOT NULL,
  value        TEXT    NOT NULL,
  workspace_id INTEGER NOT NULL,
  run_uuid     BLOB    NOT NULL,
  PRIMARY KEY (run_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX run_tags_value ON run_tags (workspace_id, key, value, run_uuid);

CREATE TABLE run_terms (
  -- What a run is found by: words of its title, user and errors, its models and its tools.
  run_id       INTEGER NOT NULL,
  kind         INTEGER NOT NULL, -- 1 word, 2 model, 3 tool
  term         TEXT    NOT NULL,
  workspace_id INTEGER NOT NULL,
  run_uuid     BLOB    NOT NULL,
  PRIMARY KEY (run_id, kind, term)
) STRICT, WITHOUT ROWID;

CREATE INDEX run_terms_term ON run_terms (workspace_id, kind, term, run_uuid);

CREATE TABLE runs (
  -- Agent executions. The uuid begins with the start's millisecond, so one
  -- index serves look-ups, newest-first lists and bounds in time.
  id                 INTEGER PRIMARY KEY,
  uuid               BLOB    NOT NULL,
  workspace_id       INTEGER NOT NULL,
  user_id            INTEGER NOT NULL,
  status             INTEGER NOT NULL, -- 1 RUNNING, 2 COMPLETED, 3 FAILED, 4 BLOCKED
  deny_reason        INTEGER,          -- guard.Reason of the run's own denial, or of its latest denied step
  started_at         INTEGER NOT NULL,
  ended_at           INTEGER,
  ended_by           INTEGER,          -- 1 CLIENT, 2 DASHBOARD, 3 IDLE_TIMEOUT; null when born BLOCKED
  last_call_at       INTEGER NOT NULL, -- the idle clock
  step_count         INTEGER NOT NULL,
  blocked_step_count INTEGER NOT NULL,
  prompt_tokens      INTEGER NOT NULL,
  completion_tokens  INTEGER NOT NULL,
  spend_nanos        INTEGER NOT NULL
, title TEXT, unpriced_tokens INTEGER NOT NULL DEFAULT 0, calls_without_usage INTEGER NOT NULL DEFAULT 0, key_id INTEGER, burn_minute INTEGER NOT NULL DEFAULT 0, burn_nanos INTEGER NOT NULL DEFAULT 0, burn_before_nanos INTEGER NOT NULL DEFAULT 0, local_day INTEGER, policies TEXT) STRICT;

CREATE INDEX runs_key ON runs (workspace_id, key_id, uuid) WHERE key_id IS NOT NULL;

CREATE INDEX runs_reason ON runs (workspace_id, deny_reason, uuid) WHERE deny_reason IS NOT NULL;

CREATE INDEX runs_status ON runs (status, workspace_id, uuid);

CREATE INDEX runs_user ON runs (workspace_id, user_id, uuid);

CREATE UNIQUE INDEX runs_uuid ON runs (workspace_id, uuid);

CREATE TABLE saved_views (
  -- Filters of the list of runs that a workspace has given a name.
  id           INTEGER PRIMARY KEY,
  uuid         BLOB    NOT NULL UNIQUE,
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  name         TEXT    NOT NULL,
  query        TEXT    NOT NULL, -- as in the address of the page
  created_at   INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX saved_views_name ON saved_views (workspace_id, name);

CREATE TABLE sessions (
  -- Sign-ins whose tokens have not expired, so that people see them and end one. What a token may do
  -- is not decided here: ended_sessions and the account's token_version say which have ended.
  session       BLOB    PRIMARY KEY NOT NULL, -- the token's id, 16 bytes
  account_id    INTEGER NOT NULL REFERENCES accounts (id),
  token_version INTEGER NOT NULL,             -- the account's when its token was issued; another one ends it
  agent         TEXT    NOT NULL,             -- what the browser or program says it is; '' where it says nothing
  created_at    INTEGER NOT NULL,             -- when somebody signed in
  used_at       INTEGER NOT NULL,             -- when it last made a call, to the minute
  expires_at    INTEGER NOT NULL              -- of the token; the row has no use after
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_account ON sessions (account_id, created_at);

CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE sign_in_addresses (
  -- Addresses from which an account has signed in, so that wrong passwords that
  -- others of the same network send do not slow its owner down.
  account_id INTEGER NOT NULL REFERENCES accounts (id),
  address    TEXT    NOT NULL, -- an IPv4 address, or a /64 of IPv6
  last_at    INTEGER NOT NULL,
  PRIMARY KEY (account_id, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE spend_minutes (
  -- Rollup: what the steps cost that were reported in a minute.
  workspace_id INTEGER NOT NULL,
  minute       INTEGER NOT NULL, -- since 1970-01-01
  spend_nanos  INTEGER NOT NULL,
  top_run_id   INTEGER NOT NULL, -- the run that spent most in it
  top_nanos    INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, minute)
) STRICT, WITHOUT ROWID;

CREATE TABLE spend_quarter_hours (
  -- Rollup: spend_minutes by quarters of an hour, of the minutes that are no longer kept.
  workspace_id INTEGER NOT NULL,
  quarter      INTEGER NOT NULL, -- since 1970-01-01
  spend_nanos  INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, quarter)
) STRICT, WITHOUT ROWID;

CREATE TABLE step_grants (
  -- Steps that a grant has let pass.
  run_id    INTEGER NOT NULL,
  step_uuid BLOB    NOT NULL,
  grant_id  INTEGER NOT NULL,
  PRIMARY KEY (run_id, step_uuid, grant_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX step_grants_grant ON step_grants (grant_id, step_uuid);

CREATE TABLE step_payloads (
  -- What went in and came out of a step, where the caller sends it.
  run_id      INTEGER NOT NULL,
  step_uuid   BLOB    NOT NULL,
  input_data  TEXT, -- JSON
  output_data TEXT, -- JSON
  error       TEXT, usage_data TEXT,
  PRIMARY KEY (run_id, step_uuid)
) STRICT, WITHOUT ROWID;

CREATE TABLE step_usage (
  -- What a step has used beside the whole of its prompt and its completion. Rows
  -- lie as their steps do, so that a commit dirties few pages.
  segment               INTEGER NOT NULL,
  run_id                INTEGER NOT NULL,
  step_uuid             BLOB    NOT NULL,
  cached_tokens         INTEGER NOT NULL, -- of the prompt: read from a cache
  cache_write_tokens    INTEGER NOT NULL, -- of the prompt: written to one
  cache_write_1h_tokens INTEGER NOT NULL, -- of those written: to be kept for an hour
  reasoning_tokens      INTEGER NOT NULL, -- of the completion
  service_tier          INTEGER NOT NULL, -- 0 none said, 1 default, 2 batch, 3 flex, 4 priority, 5 fast
  reported_nanos        INTEGER,          -- what the provider says that it cost
  cached_picos          INTEGER NOT NULL, -- the prices used; 0 where there are none
  cache_write_picos     INTEGER NOT NULL,
  cache_write_1h_picos  INTEGER NOT NULL,
  reasoning_picos       INTEGER NOT NULL,
  PRIMARY KEY (segment, run_id, step_uuid)
) STRICT, WITHOUT ROWID;

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
  cost_nanos        INTEGER, price_id INTEGER, local_day INTEGER, input_payload INTEGER, report_payload INTEGER, policies TEXT,
  PRIMARY KEY (segment, run_id, uuid)
) STRICT, WITHOUT ROWID;

CREATE TABLE stripe_events (
  -- Stripe's events that took effect, so that each does once. Kept for 90 days.
  id         TEXT    PRIMARY KEY, -- Stripe's
  handled_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX stripe_events_age ON stripe_events (handled_at);

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

CREATE TABLE tag_days (
  -- Use of a workspace on a UTC day by a tag's value. A day has a bounded number
  -- of rows: what comes later is in the workspace's day alone.
  workspace_id      INTEGER NOT NULL,
  day               INTEGER NOT NULL,
  key               TEXT    NOT NULL,
  value             TEXT    NOT NULL,
  spend_nanos       INTEGER NOT NULL,
  prompt_tokens     INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  run_count         INTEGER NOT NULL, -- allowed
  blocked_run_count INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, day, key, value)
) STRICT, WITHOUT ROWID;

CREATE TABLE unindexed_steps (
  -- Steps that were reported with an error or another model than they were asked for,
  -- until run_terms has those.
  run_id    INTEGER NOT NULL,
  step_uuid BLOB    NOT NULL,
  PRIMARY KEY (run_id, step_uuid)
) STRICT, WITHOUT ROWID;

CREATE TABLE user_days (
  -- The same by end user.
  workspace_id INTEGER NOT NULL,
  day          INTEGER NOT NULL,
  user_id      INTEGER NOT NULL,
  spend_nanos  INTEGER NOT NULL,
  run_count    INTEGER NOT NULL, unpriced_tokens INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (workspace_id, day, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
  -- End users for whom agents run, as the callers name them.
  id             INTEGER PRIMARY KEY,
  workspace_id   INTEGER NOT NULL REFERENCES workspaces (id),
  external_id    TEXT    NOT NULL, -- the API's user_id
  blocked_at     INTEGER,
  blocked_reason TEXT,
  run_count      INTEGER NOT NULL, -- counter: allowed runs, ever
  last_seen_at   INTEGER,          -- start or end of the latest run; null when only ever blocked
  created_at     INTEGER NOT NULL
, erased_at INTEGER) STRICT;

CREATE INDEX users_blocked ON users (workspace_id, id) WHERE blocked_at IS NOT NULL;

CREATE INDEX users_blocked_external ON users (workspace_id, external_id) WHERE blocked_at IS NOT NULL;

CREATE UNIQUE INDEX users_external ON users (workspace_id, external_id);

CREATE INDEX users_newest ON users (workspace_id, id);

CREATE TABLE workspace_days (
  -- Use of a workspace on a UTC day: the budget's counter and the usage pages' rollup.
  workspace_id      INTEGER NOT NULL,
  day               INTEGER NOT NULL,
  spend_nanos       INTEGER NOT NULL,
  prompt_tokens     INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  run_count         INTEGER NOT NULL, -- allowed; also the month's counter
  blocked_run_count INTEGER NOT NULL, unpriced_tokens INTEGER NOT NULL DEFAULT 0, unpriced_steps INTEGER NOT NULL DEFAULT 0, calls_without_usage INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (workspace_id, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE workspaces (
  -- Tenants: one per account.
  id                       INTEGER PRIMARY KEY,
  uuid                     BLOB    NOT NULL UNIQUE,
  account_id               INTEGER NOT NULL UNIQUE REFERENCES accounts (id),
  name                     TEXT    NOT NULL,
  slug                     TEXT    NOT NULL UNIQUE,
  plan                     TEXT    NOT NULL,
  kill_switch              INTEGER NOT NULL,
  daily_budget_nanos       INTEGER,
  user_daily_budget_nanos  INTEGER,
  max_concurrent_runs      INTEGER NOT NULL,
  run_idle_timeout_seconds INTEGER NOT NULL,
  running_runs             INTEGER NOT NULL CHECK (running_runs >= 0), -- counter: runs that are RUNNING
  created_at               INTEGER NOT NULL
, price_catalogue INTEGER NOT NULL DEFAULT 0, trust_reported_cost INTEGER NOT NULL DEFAULT 0, refuse_unpriced INTEGER NOT NULL DEFAULT 0, minutes_from INTEGER NOT NULL DEFAULT 0, spend_from INTEGER NOT NULL DEFAULT 0, timezone TEXT NOT NULL DEFAULT 'UTC', week_start INTEGER NOT NULL DEFAULT 1, reviews_for_all INTEGER NOT NULL DEFAULT 0, policies_version INTEGER NOT NULL DEFAULT 0, pending_reviews INTEGER NOT NULL DEFAULT 0, local_from INTEGER NOT NULL DEFAULT 0) STRICT;

