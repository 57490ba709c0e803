package storage

import (
	"database/sql"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// Decider decides, inside the transaction that records the decision. It is
// guard.Decide; a test may pass any other.
type Decider func(guard.Request, guard.State) guard.Decision

// decisionState is the cached rows that a decision depends on.
type decisionState struct {
	ws      *cachedWorkspace
	day     *cachedDay      // of the workspace, today
	user    *cachedUser     // nil when the workspace has never seen the user
	userDay *cachedUserDay  // nil with user
	keyDay  *cachedKeyDay   // of a start, by the key that makes it; nil when none does
	tagDays []*cachedTagDay // of a start, by the run's tags
}

// loadState loads what a decision depends on; userID is 0 for a user never seen.
func loadState(tx *Tx, ws *cachedWorkspace, userID int64) (state decisionState, err error) {
	today := dayKey{ws.key, dayOf(tx.now)}
	state.ws = ws
	if state.day, err = tx.cache.days.get(tx, today); err != nil || userID == 0 {
		return state, err
	}
	if state.user, err = tx.cache.users.get(tx, idKey{ws.key, userID}); err != nil {
		return state, err
	}
	state.userDay, err = tx.cache.userDays.get(tx, partKey{today, userID})
	return state, err
}

func (d decisionState) guardState() guard.State {
	s := guard.State{
		Plan: d.ws.plan, KillSwitch: d.ws.killSwitch,
		DailyBudget: d.ws.dailyBudget, SpentToday: plans.Money(d.day.spend),
		UserDailyBudget: d.ws.userDailyBudget,
		RunsThisMonth:   d.day.earlierRuns + d.day.runs,
		RunningRuns:     d.ws.runningRuns, MaxConcurrentRuns: d.ws.maxConcurrentRuns,
	}
	if d.user != nil {
		s.UserBlocked, s.UserSpentToday = d.user.blocked, plans.Money(d.userDay.spend)
	}
	return s
}

// loadRunState loads a run, and what the decision on its next call depends on.
func loadRunState(tx *Tx, c Caller, id uuid.UUID) (r *cachedRun, state guard.State, err error) {
	ws, err := authorize(tx, c)
	if err != nil {
		return nil, state, err
	}
	if r, err = tx.cache.runs.get(tx, runKey{ws.key, id}); err != nil {
		return nil, state, err
	}
	loaded, err := loadState(tx, ws, r.userID)
	if err != nil {
		return nil, state, err
	}
	state = loaded.guardState()
	state.RunEnded = r.status != RunRunning
	return r, state, nil
}

// recordDenial stores what the objecting rule saw, and counts the denial on the
// day; step is nil for a run's start.
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
	Fingerprint [32]byte            // SHA-256 of the request's body; only with a key
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

// saveAnswer stores an answer under its key, in place of one that has expired.
func saveAnswer(tx *Tx, ws WorkspaceKey, runID int64, in Idempotency, a Answer) error {
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

// countDenial books a denial on the day.
func countDenial(tx *Tx, ws WorkspaceKey, reason guard.Reason) error {
	_, err := tx.exec(`INSERT INTO denial_days (workspace_id, day, reason, denial_count) VALUES ($1, $2, $3, 1)
		ON CONFLICT (workspace_id, day, reason) DO UPDATE SET denial_count = denial_days.denial_count + 1`,
		ws, dayOf(tx.now), int64(reason))
	return err
}

// ReasonUsage is how often a rule objected.
type ReasonUsage struct {
	Reason                       guard.Reason
	Today, Last7Days, Last30Days int64
}

// reasonUsage lists the rules that objected in the last 30 days, the most
// frequent first.
func reasonUsage(tx *Tx, ws WorkspaceKey, today int64) (usage []ReasonUsage, err error) {
	err = tx.each(`SELECT reason, sum(CASE WHEN day = $2 THEN denial_count ELSE 0 END),
			sum(CASE WHEN day > $2 - 7 THEN denial_count ELSE 0 END), sum(denial_count) AS count_30
		FROM denial_days WHERE workspace_id = $1 AND day >= $3 AND day <= $2
		GROUP BY reason ORDER BY count_30 DESC, reason`, []any{ws, today, today - usageDays + 1}, func(rows scanner) error {
		var r ReasonUsage
		err := rows.Scan(&r.Reason, &r.Today, &r.Last7Days, &r.Last30Days)
		usage = append(usage, r)
		return err
	})
	return usage, err
}
