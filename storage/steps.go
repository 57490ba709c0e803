package storage

import (
	"context"

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
func (s *Store) CreateStep(ctx context.Context, c Caller, run uuid.UUID, in NewStep, decide Decider) (a Answer, err error) {
	err = s.write(ctx, inMemory, func(tx *Tx) error {
		a, err = createStep(tx, c, run, in, decide)
		return err
	})
	return a, err
}

func createStep(tx *Tx, c Caller, run uuid.UUID, in NewStep, decide Decider) (Answer, error) {
	r, state, err := standOnRun(tx, c, run)
	if err != nil {
		return Answer{}, err
	}
	if first, err := replay(tx, c.Workspace, r.id, in.Idempotency); err != nil || first != nil {
		return Answer{Replay: first}, err
	}
	d := decide(guard.Request{Kind: guard.Step, At: tx.now}, state)
	id, status, err := insertStep(tx, c.Workspace, r, in, d)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{ID: id, Status: status.String(), Decision: d}
	if err := keep(tx, c.Workspace, r.id, in.Idempotency, a); err != nil {
		return Answer{}, err
	}
	r.stepped(tx, d)
	return a, nil
}

func insertStep(tx *Tx, ws WorkspaceKey, r *heldRun, in NewStep, d guard.Decision) (uuid.UUID, StepStatus, error) {
	id, status := newID(tx.now), StepRunning
	if !d.Allowed() {
		status = StepBlocked
		if err := recordDenial(tx, r.id, id[:], d); err != nil {
			return id, status, err
		}
	}
	model, err := internModel(tx, ws, in.Model)
	if err != nil {
		return id, status, err
	}
	_, err = tx.exec(`INSERT INTO steps (run_id, uuid, sequence, type, status, created_at, model_id, tool_name)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		r.id, id[:], in.Sequence, int64(in.Type), int64(status), tx.now.UnixMilli(), nullZero(model), nullString(in.ToolName))
	if err != nil || in.InputData == nil {
		return id, status, err
	}
	_, err = tx.exec(`INSERT INTO step_payloads (run_id, step_uuid, input_data) VALUES ($1, $2, $3)`,
		r.id, id[:], string(in.InputData))
	return id, status, err
}

// stepped counts a step. A denial after the end says nothing about why the run
// was stopped, so it leaves denyReason alone.
func (r *heldRun) stepped(tx *Tx, d guard.Decision) {
	r.stepCount++
	if !d.Allowed() {
		r.blockedStepCount++
		if d.Reason != guard.RunAlreadyEnded && d.Reason != r.denyReason {
			r.denyReason, r.standingChanged = d.Reason, true
		}
	}
	tx.memory.changed(r)
	r.called(tx)
}
