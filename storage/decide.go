package storage

import (
	"database/sql"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// Decider makes the verdict inside the transaction that records it:
// guard.Decide, or in a test any other.
type Decider func(guard.Request, guard.State) guard.Decision

// startState reads what the decision on a new run depends on. user is nil when
// the workspace has never seen that user.
func startState(tx *Tx, ws WorkspaceKey, user *userRow) (guard.State, error) {
	var planID plans.ID
	var daily, userDaily sql.NullInt64
	var st guard.State
	today := dayOf(tx.now)
	err := tx.get(`SELECT w.plan, w.kill_switch, w.daily_budget_nanos, w.user_daily_budget_nanos,
			w.max_concurrent_runs, w.running_runs, coalesce(d.spend_nanos, 0),
			(SELECT coalesce(sum(m.run_count), 0) FROM workspace_days m
				WHERE m.workspace_id = w.id AND m.day >= $3 AND m.day <= $2)
		FROM workspaces w LEFT JOIN workspace_days d ON d.workspace_id = w.id AND d.day = $2
		WHERE w.id = $1`, []any{ws, today, firstOfMonth(tx.now)},
		&planID, &st.KillSwitch, &daily, &userDaily,
		&st.MaxConcurrentRuns, &st.RunningRuns, &st.SpentToday, &st.RunsThisMonth)
	if err != nil {
		return st, err
	}
	st.DailyBudget, st.UserDailyBudget = budgetOf(daily), budgetOf(userDaily)
	if st.Plan, err = plans.ByID(planID); err != nil || user == nil {
		return st, err
	}
	st.UserBlocked = user.blocked
	st.UserSpentToday, err = userSpend(tx, ws, user.id, today)
	return st, err
}

// liveRun is a run as its next step sees it.
type liveRun struct {
	id     int64
	userID int64
	status RunStatus
}

// stepState reads a run and what the decision on its next step depends on.
func stepState(tx *Tx, ws WorkspaceKey, run uuid.UUID) (liveRun, guard.State, error) {
	var r liveRun
	var planID plans.ID
	var daily, userDaily sql.NullInt64
	var st guard.State
	err := tx.get(`SELECT r.id, r.user_id, r.status, w.plan, w.kill_switch, w.daily_budget_nanos,
			w.user_daily_budget_nanos, u.blocked_at IS NOT NULL,
			coalesce(wd.spend_nanos, 0), coalesce(ud.spend_nanos, 0)
		FROM runs r JOIN workspaces w ON w.id = r.workspace_id JOIN users u ON u.id = r.user_id
		LEFT JOIN workspace_days wd ON wd.workspace_id = r.workspace_id AND wd.day = $3
		LEFT JOIN user_days ud ON ud.workspace_id = r.workspace_id AND ud.day = $3 AND ud.user_id = r.user_id
		WHERE r.workspace_id = $1 AND r.uuid = $2`, []any{ws, run[:], dayOf(tx.now)},
		&r.id, &r.userID, &r.status, &planID, &st.KillSwitch, &daily,
		&userDaily, &st.UserBlocked, &st.SpentToday, &st.UserSpentToday)
	if err != nil {
		return r, st, err
	}
	st.RunEnded = r.status != RunRunning
	st.DailyBudget, st.UserDailyBudget = budgetOf(daily), budgetOf(userDaily)
	st.Plan, err = plans.ByID(planID)
	return r, st, err
}

// recordDenial keeps what the objecting rule saw, and counts it on the day; step is nil for a run's start.
func recordDenial(tx *Tx, ws WorkspaceKey, runID int64, step []byte, d guard.Decision) error {
	if err := countDenial(tx, ws, d.Reason); err != nil {
		return err
	}
	if step == nil {
		step = []byte{}
	}
	_, err := tx.exec(`INSERT INTO denials (run_id, step_uuid, reason, limit_value, used_value, resets_at)
		VALUES ($1, $2, $3, $4, $5, $6)`,
		runID, step, int64(d.Reason), d.Limit, d.Used, nullMillis(d.ResetsAt))
	return err
}

// recordedDecision rebuilds a decision from its denial, if there is one.
func recordedDecision(kind guard.Kind, reason, limit, used, resets sql.NullInt64) guard.Decision {
	d := guard.Decision{Reason: guard.Reason(reason.Int64), Limit: limit.Int64, Used: used.Int64, ResetsAt: timeOf(resets)}
	d.Evaluated = guard.Evaluated(kind, d.Reason)
	return d
}

// Answer is what a decision on a start or a step answers.
type Answer struct {
	ID       uuid.UUID
	Status   string
	Decision guard.Decision
	// Replay is the body of the first answer when an idempotency key was
	// repeated; everything else is then zero.
	Replay []byte
}

// Idempotency lets a repeated call find its first answer. The zero value asks for nothing.
type Idempotency struct {
	Key         string
	Fingerprint [32]byte            // SHA-256 of the request's body
	Encode      func(Answer) []byte // the body to keep
}

const idempotencyTTL = 24 * time.Hour

// replay finds the first answer given under the key, if it is not a day old.
func replay(tx *Tx, ws WorkspaceKey, runID int64, in Idempotency) ([]byte, error) {
	if in.Key == "" {
		return nil, nil
	}
	var fingerprint, answer []byte
	err := tx.get(`SELECT fingerprint, answer FROM idempotency_keys
		WHERE workspace_id = $1 AND run_id = $2 AND key = $3 AND created_at > $4`,
		[]any{ws, runID, in.Key, tx.now.Add(-idempotencyTTL).UnixMilli()}, &fingerprint, &answer)
	switch {
	case err != nil:
		return nil, ignoreNotFound(err)
	case string(fingerprint) != string(in.Fingerprint[:]):
		return nil, ErrKeyReused
	default:
		return answer, nil
	}
}

// keep stores an answer under its key, over one that has expired.
func keep(tx *Tx, ws WorkspaceKey, runID int64, in Idempotency, a Answer) error {
	if in.Key == "" {
		return nil
	}
	_, err := tx.exec(`INSERT INTO idempotency_keys (workspace_id, run_id, key, fingerprint, answer, created_at)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (workspace_id, run_id, key) DO UPDATE
		SET fingerprint = excluded.fingerprint, answer = excluded.answer, created_at = excluded.created_at`,
		ws, runID, in.Key, in.Fingerprint[:], in.Encode(a), tx.now.UnixMilli())
	return err
}
