package storage

import (
	"context"
	"database/sql"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
)

// NewStep is what an agent says when it asks to take a step.
type NewStep struct {
	Type        StepType
	Sequence    int64
	Model       *string
	ToolName    *string
	InputData   []byte // JSON object, or nil
	Idempotency Idempotency
}

// CreateStep decides whether a run may take a step, and records it: RUNNING or BLOCKED.
func (s *Store) CreateStep(ctx context.Context, ws WorkspaceKey, run uuid.UUID, in NewStep, decide Decider) (a Answer, err error) {
	err = s.write(ctx, func(tx *Tx) error {
		a, err = createStep(tx, ws, run, in, decide)
		return err
	})
	return a, err
}

func createStep(tx *Tx, ws WorkspaceKey, run uuid.UUID, in NewStep, decide Decider) (Answer, error) {
	r, state, err := stepState(tx, ws, run)
	if err != nil {
		return Answer{}, err
	}
	if first, err := replay(tx, ws, r.id, in.Idempotency); err != nil || first != nil {
		return Answer{Replay: first}, err
	}
	d := decide(guard.Request{Kind: guard.Step, At: tx.now}, state)
	id, status, err := insertStep(tx, ws, r, in, d)
	if err != nil {
		return Answer{}, err
	}
	if err := countStep(tx, r, d); err != nil {
		return Answer{}, err
	}
	noteStep(tx, ws, r.id, id, d)
	a := Answer{ID: id, Status: status.String(), Decision: d}
	return a, keep(tx, ws, r.id, in.Idempotency, a)
}

func noteStep(tx *Tx, ws WorkspaceKey, runID int64, id uuid.UUID, d guard.Decision) {
	c := Change{Workspace: ws, Kind: RunProgressed, Run: runID}
	if !d.Allowed() {
		c.Kind, c.Denial = StepDenied, &Denial{Step: id, Decision: d}
	}
	tx.note(c)
}

func insertStep(tx *Tx, ws WorkspaceKey, r liveRun, in NewStep, d guard.Decision) (uuid.UUID, StepStatus, error) {
	id, status := newID(tx.now), StepRunning
	if !d.Allowed() {
		status = StepBlocked
		if err := recordDenial(tx, ws, r.id, id[:], d); err != nil {
			return id, status, err
		}
	}
	var model sql.NullInt64
	if in.Model != nil {
		var err error
		if model, err = internModel(tx, ws, *in.Model); err != nil {
			return id, status, err
		}
	}
	_, err := tx.exec(`INSERT INTO steps (run_id, uuid, sequence, type, status, created_at, model_id, tool_name)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		r.id, id[:], in.Sequence, int64(in.Type), int64(status), tx.now.UnixMilli(), model, in.ToolName)
	if err != nil || in.InputData == nil {
		return id, status, err
	}
	_, err = tx.exec(`INSERT INTO step_payloads (run_id, step_uuid, input_data) VALUES ($1, $2, $3)`,
		r.id, id[:], string(in.InputData))
	return id, status, err
}

// countStep books a step on its run. A denial after the end says nothing about
// why the run was stopped, so it leaves deny_reason alone.
func countStep(tx *Tx, r liveRun, d guard.Decision) error {
	reason := sql.NullInt64{Int64: int64(d.Reason), Valid: !d.Allowed() && d.Reason != guard.RunAlreadyEnded}
	return tx.execOne(`UPDATE runs SET step_count = step_count + 1, blocked_step_count = blocked_step_count + $2,
			deny_reason = coalesce($3, deny_reason), last_call_at = $4 WHERE id = $1`,
		r.id, flag(!d.Allowed()), reason, tx.now.UnixMilli())
}
