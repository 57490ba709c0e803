-- A database of schema version 1, as the server before the first release left it: made through its
-- API, then written out by Python's sqlite3.Connection.iterdump. Never edited: see docs/ops/upgrade.md.
BEGIN TRANSACTION;
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
INSERT INTO "accounts" VALUES(1,X'01A213AA6B697809BDEB83125A574913','ann@example.com','ann@example.com','$argon2id$v=19$m=19456,t=2,p=1$lMOf5gG+lbtBQcojt52dYg$dDV0wko83GWBQeLskACjfz5MNBsOtEUpvZECFQL4xMY',1,1795626265449);
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
) STRICT;
INSERT INTO "api_keys" VALUES(1,X'01A213AA6B697809A9E147A4035AB2C3',1,'fd3e46d1',X'285C35DACF061B1CF4436C69D25690A160BD70BFA7EEF939A70CD87314B56C12',X'1363DF7AF20752E3339E71C0385B40ED7F6C1325CE036A94896DDD710390D0C8335DC462B77B34305BCE5215C40994A94C35A35C6E4D5FEB2C2EDBFC837346B593A39D62B5623758D7614F14674021085B71A00DFB276F9321348E84F9C1520BB6C63CE96355F4A2','default',1795626265449,NULL);
CREATE TABLE denials (
  -- What the rule that objected saw. step_uuid is empty for the run's own start.
  run_id      INTEGER NOT NULL,
  step_uuid   BLOB    NOT NULL,
  reason      INTEGER NOT NULL, -- guard.Reason
  limit_value INTEGER NOT NULL, -- nano-USD or runs, by the reason
  used_value  INTEGER NOT NULL,
  resets_at   INTEGER,
  PRIMARY KEY (run_id, step_uuid)
) STRICT, WITHOUT ROWID;
INSERT INTO "denials" VALUES(2,X'01A213AA71487A4DB38774FE1E757646',3,0,0,NULL);
CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
INSERT INTO "goose_db_version" VALUES(1,0,1,'2026-11-25 17:04:25');
INSERT INTO "goose_db_version" VALUES(2,1,1,'2026-11-25 17:04:25');
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
INSERT INTO "idempotency_keys" VALUES(1,0,'k-ada',X'678807D8D971CA90BF77C8E683A01BE00C64E6CFDCE6407C908E3E25796E7F43',X'7B226964223A2230316132313361612D366665302D373133352D626131352D636433636334653138363634222C22737461747573223A2252554E4E494E47222C226465636973696F6E223A7B226F7574636F6D65223A22414C4C4F57222C22726561736F6E223A6E756C6C7D7D',1795626266592);
INSERT INTO "idempotency_keys" VALUES(1,0,'k-bob',X'940AC162995F9EB56B63EEB66752FBFF778B2821B69C1470E7EC48727B20C30C',X'7B226964223A2230316132313361612D373039312D373464622D383739662D333461626533396464316333222C22737461747573223A2252554E4E494E47222C226465636973696F6E223A7B226F7574636F6D65223A22414C4C4F57222C22726561736F6E223A6E756C6C7D7D',1795626266769);
CREATE TABLE model_days (
  -- The same by model. Unpriced tokens are those that no price was known for.
  workspace_id      INTEGER NOT NULL,
  day               INTEGER NOT NULL,
  model_id          INTEGER NOT NULL,
  spend_nanos       INTEGER NOT NULL,
  prompt_tokens     INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  unpriced_tokens   INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, day, model_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "model_days" VALUES(1,20782,1,4500000,1000,200,0);
CREATE TABLE models (
  -- Models named by steps or priced by the workspace; names match exactly.
  id           INTEGER PRIMARY KEY,
  uuid         BLOB    NOT NULL UNIQUE,
  workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
  name         TEXT    NOT NULL,
  input_picos  INTEGER, -- null: never priced
  output_picos INTEGER,
  is_active    INTEGER NOT NULL
) STRICT;
INSERT INTO "models" VALUES(1,X'01A213AA6FD0785CBF19DD8E09AEA41C',1,'gpt-4o',2500000,10000000,1);
CREATE TABLE probes (
  -- One row that readiness checks rewrite, to prove that commits work.
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  checked_at INTEGER NOT NULL
) STRICT;
INSERT INTO "probes" VALUES(1,1795626266971);
CREATE TABLE run_metadata (
  -- What the caller attached to a run; apart, so that lists never read it.
  run_id   INTEGER PRIMARY KEY,
  metadata TEXT NOT NULL -- JSON object
) STRICT;
INSERT INTO "run_metadata" VALUES(1,'{"task":"x"}');
INSERT INTO "run_metadata" VALUES(2,'{"task":"x"}');
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
) STRICT;
INSERT INTO "runs" VALUES(1,X'01A213AA6FE07135BA15CD3CC4E18664',1,1,1,NULL,1795626266592,NULL,NULL,1795626266761,1,0,500,100,2250000);
INSERT INTO "runs" VALUES(2,X'01A213AA709174DB879F34ABE39DD1C3',1,2,4,3,1795626266769,1795626266959,1,1795626266952,2,1,500,100,2250000);
CREATE TABLE step_payloads (
  -- What went in and came out of a step, where the caller sends it.
  run_id      INTEGER NOT NULL,
  step_uuid   BLOB    NOT NULL,
  input_data  TEXT, -- JSON
  output_data TEXT, -- JSON
  error       TEXT,
  PRIMARY KEY (run_id, step_uuid)
) STRICT, WITHOUT ROWID;
INSERT INTO "step_payloads" VALUES(1,X'01A213AA7037721FB880098C2E2B5E5F','{"p":"hi"}','[1]',NULL);
INSERT INTO "step_payloads" VALUES(2,X'01A213AA70E67D1EAE8BD2618E13BB7D','{"p":"hi"}','[1]',NULL);
CREATE TABLE steps (
  -- Actions in runs: the ledger. One b-tree, no other index, because each
  -- further page that a step dirties costs more than the SQL.
  run_id            INTEGER NOT NULL,
  uuid              BLOB    NOT NULL,
  sequence          INTEGER NOT NULL, -- the caller's; orders the display
  type              INTEGER NOT NULL, -- 1 MODEL_CALL, 2 TOOL_CALL, 3 INPUT, 4 OUTPUT, 5 REASONING, 6 SYSTEM
  status            INTEGER NOT NULL, -- 1 RUNNING, 2 COMPLETED, 3 FAILED, 4 BLOCKED, 5 ABANDONED
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
  cost_nanos        INTEGER,
  PRIMARY KEY (run_id, uuid)
) STRICT, WITHOUT ROWID;
INSERT INTO "steps" VALUES(1,X'01A213AA7037721FB880098C2E2B5E5F',1,1,2,1795626266679,1,NULL,1795626266761,840,20782,500,100,2500000,10000000,2250000);
INSERT INTO "steps" VALUES(2,X'01A213AA70E67D1EAE8BD2618E13BB7D',1,1,2,1795626266854,1,NULL,1795626266938,840,20782,500,100,2500000,10000000,2250000);
INSERT INTO "steps" VALUES(2,X'01A213AA71487A4DB38774FE1E757646',2,2,4,1795626266952,NULL,'search',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE user_days (
  -- The same by end user.
  workspace_id INTEGER NOT NULL,
  day          INTEGER NOT NULL,
  user_id      INTEGER NOT NULL,
  spend_nanos  INTEGER NOT NULL,
  run_count    INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, day, user_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "user_days" VALUES(1,20782,1,2250000,1);
INSERT INTO "user_days" VALUES(1,20782,2,2250000,1);
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
) STRICT;
INSERT INTO "users" VALUES(1,1,'ada',NULL,NULL,1,1795626266592,1795626266592);
INSERT INTO "users" VALUES(2,1,'bob',1795626266946,'loops',1,1795626266959,1795626266769);
CREATE TABLE workspace_days (
  -- Use of a workspace on a UTC day: the budget's counter and the usage pages' rollup.
  workspace_id      INTEGER NOT NULL,
  day               INTEGER NOT NULL,
  spend_nanos       INTEGER NOT NULL,
  prompt_tokens     INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  run_count         INTEGER NOT NULL, -- allowed; also the month's counter
  blocked_run_count INTEGER NOT NULL,
  PRIMARY KEY (workspace_id, day)
) STRICT, WITHOUT ROWID;
INSERT INTO "workspace_days" VALUES(1,20782,4500000,1000,200,2,0);
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
) STRICT;
INSERT INTO "workspaces" VALUES(1,X'01A213AA6B69780985657E46B9648BE5',1,'My workspace','my-workspace','scale',0,50000000000,5000000000,7,3600,1,1795626265449);
CREATE UNIQUE INDEX api_keys_active ON api_keys (workspace_id) WHERE revoked_at IS NULL;
CREATE UNIQUE INDEX users_external ON users (workspace_id, external_id);
CREATE INDEX users_newest ON users (workspace_id, id);
CREATE UNIQUE INDEX models_name ON models (workspace_id, name);
CREATE UNIQUE INDEX runs_uuid ON runs (workspace_id, uuid);
CREATE INDEX runs_user ON runs (workspace_id, user_id, uuid);
CREATE INDEX runs_status ON runs (status, workspace_id, uuid);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('goose_db_version',2);
COMMIT;
