package storage

import (
	"context"
	"time"

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
	Repairs     Repairs
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
	row, err := insertStep(tx, c.Workspace, r, in, d)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{ID: row.ID, Status: row.status.String(), Decision: d}
	if err := keep(tx, c.Workspace, r.id, in.Idempotency, a); err != nil {
		return Answer{}, err
	}
	if d.Allowed() {
		r.opened(row)
	}
	r.stepped(tx, row.segment, d)
	noteStep(tx, c.Workspace, r.id, row.ID, d)
	return a, nil
}

func noteStep(tx *Tx, ws WorkspaceKey, runID int64, id uuid.UUID, d guard.Decision) {
	c := Change{Workspace: ws, Kind: RunProgressed, Run: runID}
	if !d.Allowed() {
		c.Kind, c.Denial = StepDenied, &Denial{Step: id, Decision: d}
	}
	tx.note(c)
}

func insertStep(tx *Tx, ws WorkspaceKey, r *heldRun, in NewStep, d guard.Decision) (row stepRow, err error) {
	if r.erased {
		in.InputData = nil
	}
	row.Step = Step{
		ID: newID(tx.now), Sequence: in.Sequence, Type: in.Type, Model: in.Model, ToolName: in.ToolName, InputData: in.InputData,
		Decision: d, CreatedAt: tx.now.Truncate(time.Millisecond),
	}
	row.status = StepRunning
	if !d.Allowed() {
		row.status = StepBlocked
		if err := recordDenial(tx, ws, r.id, row.ID[:], d); err != nil {
			return row, err
		}
	}
	model, err := internModel(tx, ws, in.Model)
	if err != nil {
		return row, err
	}
	row.model = nullZero(model)
	if row.segment, err = r.place(tx); err != nil {
		return row, err
	}
	_, err = tx.exec(`INSERT INTO steps (segment, run_id, uuid, sequence, type, status, created_at, model_id, tool_name)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, row.segment,
		r.id, row.ID[:], in.Sequence, int64(in.Type), int64(row.status), tx.now.UnixMilli(), row.model, in.ToolName)
	if err != nil {
		return row, err
	}
	if err := saveRepairs(tx, r.id, row.ID[:], in.Repairs); err != nil || in.InputData == nil {
		return row, err
	}
	_, err = tx.exec(`INSERT INTO step_payloads (run_id, step_uuid, input_data) VALUES ($1, $2, $3)`,
		r.id, row.ID[:], string(in.InputData))
	return row, err
}

// stepped counts a step, and knows where it is. A denial after the end says
// nothing about why the run was stopped: it is the run's reason only where there is no other.
func (r *heldRun) stepped(tx *Tx, segment int64, d guard.Decision) {
	r.segment = segment
	r.stepCount++
	if !d.Allowed() {
		r.blockedStepCount++
		if d.Reason != r.denyReason && (d.Reason != guard.RunAlreadyEnded || r.denyReason == guard.None) {
			r.denyReason, r.standingChanged = d.Reason, true
		}
	}
	tx.memory.changed(r)
	r.called(tx)
}
