package storage

import (
	"context"
	"errors"
	"math"
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
	err = s.writeIn(ctx, c.Workspace, modeCached, func(tx *Tx) error {
		a, err = createStep(tx, c, run, in, decide)
		return err
	})
	return a, err
}

func createStep(tx *Tx, c Caller, run uuid.UUID, in NewStep, decide Decider) (Answer, error) {
	r, state, err := loadRunState(tx, c, run)
	if err != nil {
		return Answer{}, err
	}
	if first, err := replay(tx, c.Workspace, r.id, in.Idempotency); err != nil || first != nil {
		return Answer{Replay: first}, err
	}
	if state.Unpriced, err = refusesModel(tx, c.Workspace, in); err != nil {
		return Answer{}, err
	}
	d := decide(guard.Request{Kind: guard.Step, At: tx.now}, state)
	row, err := insertStep(tx, c.Workspace, r, in, d)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{ID: row.ID, Status: row.status.String(), Decision: d}
	if err := saveAnswer(tx, c.Workspace, r.id, in.Idempotency, a); err != nil {
		return Answer{}, err
	}
	if d.Allowed() {
		r.cacheStep(row)
	}
	r.countStep(tx, row.segment, d)
	recordStepChange(tx, c.Workspace, r.id, row.ID, d)
	return a, nil
}

// refusesModel reports whether the step calls a model that has no price, and the
// workspace refuses that.
func refusesModel(tx *Tx, ws WorkspaceKey, in NewStep) (bool, error) {
	w, err := tx.cache.workspaces.get(tx, ws)
	if err != nil || !w.refusesUnpriced || in.Type != ModelCall || in.Model == nil {
		return false, err
	}
	model, err := internModel(tx, ws, in.Model)
	if err != nil {
		return false, err
	}
	price, err := tx.cache.price(tx, idKey{ws, model})
	return price == nil, err
}

func recordStepChange(tx *Tx, ws WorkspaceKey, runID int64, id uuid.UUID, d guard.Decision) {
	c := Change{Workspace: ws, Kind: RunProgressed, Run: runID}
	if !d.Allowed() {
		c.Kind, c.Denial = StepDenied, &Denial{Step: id, Decision: d}
	}
	tx.recordChange(c)
}

func insertStep(tx *Tx, ws WorkspaceKey, r *cachedRun, in NewStep, d guard.Decision) (row stepRow, err error) {
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
	if row.segment, err = r.assignSegment(tx); err != nil {
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

// countStep counts a step on its run. A denial after the run's end says nothing
// about why the run was stopped: it becomes the run's reason only if there is
// no other.
func (r *cachedRun) countStep(tx *Tx, segment int64, d guard.Decision) {
	r.segment = segment
	r.stepCount++
	if !d.Allowed() {
		r.blockedStepCount++
		if d.Reason != r.denyReason && (d.Reason != guard.RunAlreadyEnded || r.denyReason == guard.None) {
			r.denyReason, r.statusChanged = d.Reason, true
		}
	}
	tx.cache.markDirty(r)
	r.touch(tx)
}

// Steps are stored in segments: several hundred steps that were asked for one
// after another, whatever their runs. So a commit dirties the few pages of the
// newest segment, however many runs are active. Stored by run, it would dirty
// one page for each run. run_segments lists the segments in which a run has
// steps; the view run_steps finds a run's steps through it.

// segmentSteps is about how many steps a segment takes. A larger segment has
// more pages to dirty; of smaller ones each run has more.
const segmentSteps = 512

// assignSegment returns the segment for the run's next step, and lists the run
// there. countStep then caches that it is listed.
func (r *cachedRun) assignSegment(tx *Tx) (segment int64, err error) {
	segment, err = tx.cache.newestSegment(tx)
	if err != nil || segment == r.segment {
		return segment, err
	}
	_, err = tx.exec(`INSERT INTO run_segments (run_id, segment) VALUES ($1, $2) ON CONFLICT (run_id, segment) DO NOTHING`, r.id, segment)
	return segment, err
}

// newestSegment is the segment being filled, or the next one when that is full.
// It does no harm when another process fills the same segment, or another.
func (c *cache) newestSegment(tx *Tx) (int64, error) {
	switch {
	case c.segment == 0:
		err := tx.get(`SELECT coalesce(max(segment), 0) + 1 FROM steps`, nil, &c.segment)
		if err != nil {
			return 0, err
		}
	case c.segmentSteps == segmentSteps:
		c.segment, c.segmentSteps = c.segment+1, 0
	}
	c.segmentSteps++
	return c.segment, nil
}

// segmentFinder finds the segment of a run's step. A step never moves.
type segmentFinder func(tx *Tx, runID int64, step uuid.UUID) (segment int64, err error)

// searchedSegments is how many of a run's newest segments the writer searches
// for a step: most steps are reported soon. A reader searches the others, which
// delays nobody.
const searchedSegments = 16

// errNotInNewest says that a step is in none of a run's newest segments.
var errNotInNewest = errors.New("the step is in no segment that was looked into")

// findInNewestSegments searches the newest segments only.
func findInNewestSegments(tx *Tx, runID int64, step uuid.UUID) (int64, error) {
	segment, err := findAmongSegments(tx, searchedSegments, runID, step)
	if errors.Is(err, ErrNotFound) {
		err = errNotInNewest
	}
	return segment, err
}

// findSegment searches all of a run's segments.
func findSegment(tx *Tx, runID int64, step uuid.UUID) (int64, error) {
	return findAmongSegments(tx, math.MaxInt64, runID, step)
}

func findAmongSegments(tx *Tx, newest, runID int64, step uuid.UUID) (segment int64, err error) {
	err = tx.get(`SELECT s.segment FROM (SELECT segment FROM run_segments WHERE run_id = $1 ORDER BY segment DESC LIMIT $3) l
		JOIN steps s ON s.segment = l.segment AND s.run_id = $1 AND s.uuid = $2`, []any{runID, step[:], newest}, &segment)
	return segment, err
}
