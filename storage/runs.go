package storage

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
)

// NewRun is what an agent says when it asks to start.
type NewRun struct {
	UserID      string
	Metadata    []byte // JSON object, or nil
	Idempotency Idempotency

	title string // taken from the metadata
}

// StartRun decides whether a run may begin, and records it: RUNNING, or born BLOCKED.
func (s *Store) StartRun(ctx context.Context, ws WorkspaceKey, in NewRun, decide Decider) (a Answer, err error) {
	in.title = titleOf(in.Metadata) // here, so that the writer need not read it
	err = s.write(ctx, func(tx *Tx) error {
		a, err = startRun(tx, ws, in, decide)
		return err
	})
	return a, err
}

func startRun(tx *Tx, ws WorkspaceKey, in NewRun, decide Decider) (Answer, error) {
	if first, err := replay(tx, ws, 0, in.Idempotency); err != nil || first != nil {
		return Answer{Replay: first}, err
	}
	user, err := findUser(tx, ws, in.UserID)
	if err != nil {
		return Answer{}, err
	}
	state, err := startState(tx, ws, user)
	if err != nil {
		return Answer{}, err
	}
	d := decide(guard.Request{Kind: guard.Start, At: tx.now}, state)
	status := RunRunning
	if !d.Allowed() {
		status = RunBlocked
	}
	id, runID, err := insertRun(tx, ws, user, in, status, d)
	if err != nil {
		return Answer{}, err
	}
	if !d.Allowed() {
		tx.note(Change{Workspace: ws, Kind: RunDenied, Run: runID})
		err = recordDenial(tx, ws, runID, nil, d)
	} else {
		tx.note(Change{Workspace: ws, Kind: RunStarted, Run: runID})
		_, err = tx.exec(`UPDATE workspaces SET running_runs = running_runs + 1 WHERE id = $1`, ws)
	}
	if err != nil {
		return Answer{}, err
	}
	a := Answer{ID: id, Status: status.String(), Decision: d}
	return a, keep(tx, ws, 0, in.Idempotency, a)
}

func insertRun(tx *Tx, ws WorkspaceKey, user *userRow, in NewRun, status RunStatus, d guard.Decision) (uuid.UUID, int64, error) {
	id := newID(tx.now)
	userID, err := countStart(tx, ws, user, in.UserID, d.Allowed())
	if err != nil {
		return id, 0, err
	}
	now := tx.now.UnixMilli()
	ended := sql.NullInt64{Int64: now, Valid: status != RunRunning}
	reason := sql.NullInt64{Int64: int64(d.Reason), Valid: !d.Allowed()}
	var runID int64
	err = tx.get(`INSERT INTO runs (uuid, workspace_id, user_id, status, deny_reason, started_at, ended_at, last_call_at,
			step_count, blocked_step_count, prompt_tokens, completion_tokens, spend_nanos, title)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $6, 0, 0, 0, 0, 0, $8) RETURNING id`,
		[]any{id[:], ws, userID, int64(status), reason, now, ended, nullWord(in.title)}, &runID)
	if err != nil || in.Metadata == nil {
		return id, runID, err
	}
	_, err = tx.exec(`INSERT INTO run_metadata (run_id, metadata) VALUES ($1, $2)`, runID, string(in.Metadata))
	return id, runID, err
}

// countStart books a start on the user and on the day, and returns the user's id.
func countStart(tx *Tx, ws WorkspaceKey, user *userRow, externalID string, allowed bool) (int64, error) {
	userID, err := seeUser(tx, ws, user, externalID, flag(allowed))
	if err != nil {
		return 0, err
	}
	day := dayOf(tx.now)
	_, err = tx.exec(`INSERT INTO workspace_days
			(workspace_id, day, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count)
		VALUES ($1, $2, 0, 0, 0, $3, $4)
		ON CONFLICT (workspace_id, day) DO UPDATE SET run_count = workspace_days.run_count + excluded.run_count,
			blocked_run_count = workspace_days.blocked_run_count + excluded.blocked_run_count`,
		ws, day, flag(allowed), flag(!allowed))
	if err != nil || !allowed {
		return userID, err
	}
	_, err = tx.exec(`INSERT INTO user_days (workspace_id, day, user_id, spend_nanos, run_count) VALUES ($1, $2, $3, 0, 1)
		ON CONFLICT (workspace_id, day, user_id) DO UPDATE SET run_count = user_days.run_count + 1`, ws, day, userID)
	return userID, err
}

// RunEnd says how a run ended.
type RunEnd struct {
	ID      uuid.UUID
	Status  RunStatus
	EndedAt time.Time
}

// EndRun ends a run. Asking again for the same end answers the first one;
// asking for another is an *EndedError, unless the server itself had ended
// the run as idle: the caller knows better.
func (s *Store) EndRun(ctx context.Context, ws WorkspaceKey, id uuid.UUID, status RunStatus, by EndedBy) (end RunEnd, err error) {
	err = s.write(ctx, func(tx *Tx) error {
		end, err = endRun(tx, ws, id, status, by)
		return err
	})
	return end, err
}

func endRun(tx *Tx, ws WorkspaceKey, id uuid.UUID, status RunStatus, by EndedBy) (RunEnd, error) {
	var runID, userID int64
	var was RunStatus
	var endedAt, endedBy sql.NullInt64
	err := tx.get(`SELECT id, user_id, status, ended_at, ended_by FROM runs WHERE workspace_id = $1 AND uuid = $2`,
		[]any{ws, id[:]}, &runID, &userID, &was, &endedAt, &endedBy)
	if err != nil {
		return RunEnd{}, err
	}
	end := RunEnd{ID: id, Status: status, EndedAt: tx.now.Truncate(time.Millisecond)}
	if was == RunRunning {
		if err := seeUserAgain(tx, userID); err != nil {
			return RunEnd{}, err
		}
		return end, finishRun(tx, ws, runID, status, by)
	}
	overIdle := EndedBy(endedBy.Int64) == EndedByIdle && by != EndedByIdle
	switch {
	case was == status && !overIdle:
		end.EndedAt = timeOf(endedAt)
		return end, nil
	case overIdle:
		tx.note(Change{Workspace: ws, Kind: RunEnded, Run: runID})
		return end, tx.execOne(`UPDATE runs SET status = $2, ended_at = $3, ended_by = $4 WHERE id = $1`,
			runID, int64(status), tx.now.UnixMilli(), int64(by))
	default:
		return RunEnd{}, &EndedError{Status: was}
	}
}

// finishRun takes a run out of RUNNING: its slot is free again and its open steps are abandoned.
func finishRun(tx *Tx, ws WorkspaceKey, runID int64, status RunStatus, by EndedBy) error {
	tx.note(Change{Workspace: ws, Kind: RunEnded, Run: runID})
	err := tx.execOne(`UPDATE runs SET status = $2, ended_at = $3, ended_by = $4 WHERE id = $1`,
		runID, int64(status), tx.now.UnixMilli(), int64(by))
	if err != nil {
		return err
	}
	if _, err := tx.exec(`UPDATE steps SET status = $2 WHERE run_id = $1 AND status = $3`,
		runID, int64(StepAbandoned), int64(StepRunning)); err != nil {
		return err
	}
	return tx.execOne(`UPDATE workspaces SET running_runs = running_runs - 1 WHERE id = $1`, ws)
}

// Heartbeat marks a run as alive and decides whether it may go on. It records no step.
func (s *Store) Heartbeat(ctx context.Context, ws WorkspaceKey, id uuid.UUID, decide Decider) (a Answer, err error) {
	err = s.write(ctx, func(tx *Tx) error {
		run, state, err := stepState(tx, ws, id)
		if err != nil {
			return err
		}
		a = Answer{ID: id, Status: run.status.String()}
		a.Decision = decide(guard.Request{Kind: guard.Heartbeat, At: tx.now}, state)
		if run.status != RunRunning {
			return nil
		}
		return tx.execOne(`UPDATE runs SET last_call_at = $2 WHERE id = $1`, run.id, tx.now.UnixMilli())
	})
	return a, err
}
