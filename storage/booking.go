package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// StepUpdate is what an agent reports of a step; nil and 0 keep what is there.
type StepUpdate struct {
	Status           StepStatus
	DurationMillis   *int64
	PromptTokens     *int64 // absolute, so that repeating changes nothing
	CompletionTokens *int64
	OutputData       []byte // JSON, or nil
	Error            *string
	Repairs          Repairs
}

// usage is what a step has cost, and at which prices.
type usage struct {
	prompt, completion int64
	inputPrice         sql.NullInt64 // pico-USD; null when the model had no price
	outputPrice        sql.NullInt64
	cost               sql.NullInt64 // nano-USD
}

func (u usage) unpriced() int64 {
	if u.cost.Valid {
		return 0
	}
	return u.prompt + u.completion
}

// UpdateStep records how a step ended and books its usage on the day first
// reported; a correction books the difference there. Usage counts also after
// the run has ended. ErrStepBlocked when the step was denied; ErrTooLarge when
// the cost is beyond what the ledger can hold.
func (s *Store) UpdateStep(ctx context.Context, c Caller, run, step uuid.UUID, in StepUpdate) (out Step, err error) {
	update := func(find segmentFinder) error {
		return s.write(ctx, inMemory, func(tx *Tx) (err error) {
			out, err = updateStep(tx, c, run, step, find, in)
			return err
		})
	}
	var runID, segment int64
	err = update(func(tx *Tx, id int64, step uuid.UUID) (int64, error) {
		runID = id
		return newSegmentOf(tx, id, step)
	})
	if !errors.Is(err, errElsewhere) {
		return out, err
	}
	err = s.read(ctx, func(tx *Tx) (err error) {
		segment, err = segmentOf(tx, runID, step)
		return err
	})
	if err != nil {
		return Step{}, err
	}
	err = update(func(*Tx, int64, uuid.UUID) (int64, error) { return segment, nil })
	return out, err
}

func updateStep(tx *Tx, c Caller, run, step uuid.UUID, find segmentFinder, in StepUpdate) (Step, error) {
	ws, err := calling(tx, c)
	if err != nil {
		return Step{}, err
	}
	r, err := tx.memory.runs.get(tx, runKey{ws.key, run})
	if err != nil {
		return Step{}, err
	}
	row, err := r.step(tx, step, find)
	if err != nil {
		return Step{}, err
	}
	if row.status == StepBlocked {
		return Step{}, ErrStepBlocked
	}
	was := row.stepProgress
	used, err := row.report(tx, ws.key, r, in)
	if err != nil {
		return Step{}, err
	}
	if row.stepProgress != was {
		if err := saveStep(tx, r.id, row); err != nil {
			return Step{}, err
		}
	}
	if err := savePayload(tx, r.id, &row, in); err != nil {
		return Step{}, err
	}
	if err := saveRepairs(tx, r.id, row.ID[:], in.Repairs); err != nil {
		return Step{}, err
	}
	used.book(tx)
	if row.stepProgress != was || in.OutputData != nil || in.Error != nil {
		tx.note(Change{Workspace: ws.key, Kind: RunProgressed, Run: r.id})
	}
	r.updated(step)
	r.called(tx)
	return row.shown(r.status), nil
}

// report applies an update to the step, and returns the usage that is then to be booked.
func (row *stepRow) report(tx *Tx, ws WorkspaceKey, r *heldRun, in StepUpdate) (used booking, err error) {
	if in.PromptTokens != nil || in.CompletionTokens != nil {
		if used, err = row.use(tx, ws, r, in); err != nil {
			return used, err
		}
	}
	if in.Status != 0 {
		row.status = in.Status
		if !row.completedAt.Valid {
			row.completedAt = sql.NullInt64{Int64: tx.now.UnixMilli(), Valid: true}
		}
	}
	if in.DurationMillis != nil {
		row.duration = nullInt(in.DurationMillis)
	}
	return used, nil
}

// use settles the price at the first report, and finds by how much run and
// rollups then differ from what they already hold of this step.
func (row *stepRow) use(tx *Tx, ws WorkspaceKey, r *heldRun, in StepUpdate) (booking, error) {
	old := row.used
	if in.PromptTokens != nil {
		row.used.prompt = *in.PromptTokens
	}
	if in.CompletionTokens != nil {
		row.used.completion = *in.CompletionTokens
	}
	if !row.bookedDay.Valid {
		row.bookedDay = sql.NullInt64{Int64: dayOf(tx.now), Valid: true}
		if row.model.Valid {
			model, err := tx.memory.models.get(tx, idKey{ws, row.model.Int64})
			if err != nil {
				return booking{}, err
			}
			row.used.inputPrice, row.used.outputPrice = model.inputPrice, model.outputPrice
		}
	}
	if row.used.inputPrice.Valid {
		cost, err := plans.Cost(row.used.prompt, row.used.completion,
			plans.Price(row.used.inputPrice.Int64), plans.Price(row.used.outputPrice.Int64))
		if err != nil {
			return booking{}, errors.Join(ErrTooLarge, err)
		}
		row.used.cost = sql.NullInt64{Int64: int64(cost), Valid: true}
	}
	d := delta{
		spend:      row.used.cost.Int64 - old.cost.Int64,
		prompt:     row.used.prompt - old.prompt,
		completion: row.used.completion - old.completion,
		unpriced:   row.used.unpriced() - old.unpriced(),
	}
	if d == (delta{}) {
		return booking{}, nil
	}
	return d.booking(tx, dayKey{ws, row.bookedDay.Int64}, r, row.model)
}

// delta is by how much a report moves the counters.
type delta struct{ spend, prompt, completion, unpriced int64 }

// booking is a delta with every counter that it moves. The zero value moves none.
type booking struct {
	delta
	run      *heldRun
	day      *heldDay
	userDay  *heldUserDay
	modelDay *heldModelDay // nil for a step without a model
}

// booking reads every counter that holds a step's usage, on the step's day,
// and fails if one would outgrow its bound. The user's and the model's days are
// parts of the workspace's, so its bound is theirs; a run may live for many
// days, so it has the bound of a day too.
func (d delta) booking(tx *Tx, on dayKey, r *heldRun, model sql.NullInt64) (b booking, err error) {
	b.delta, b.run = d, r
	if b.day, err = tx.memory.days.get(tx, on); err != nil {
		return b, err
	}
	if b.userDay, err = tx.memory.userDays.get(tx, partKey{on, r.userID}); err != nil {
		return b, err
	}
	if model.Valid {
		if b.modelDay, err = tx.memory.modelDays.get(tx, partKey{on, model.Int64}); err != nil {
			return b, err
		}
	}
	if max(b.day.spend+d.spend, b.day.prompt+d.prompt, b.day.completion+d.completion) > plans.MaxDay {
		return b, tooLarge("the workspace's day")
	}
	if max(r.spend+d.spend, r.promptTokens+d.prompt, r.completionTokens+d.completion) > plans.MaxDay {
		return b, tooLarge("the run")
	}
	return b, nil
}

// book moves the counters. It cannot fail.
func (b booking) book(tx *Tx) {
	if b.run == nil {
		return
	}
	b.run.spend += b.spend
	b.run.promptTokens += b.prompt
	b.run.completionTokens += b.completion
	tx.memory.changed(b.run)
	b.day.spend += b.spend
	b.day.prompt += b.prompt
	b.day.completion += b.completion
	tx.memory.changed(b.day)
	b.userDay.spend += b.spend
	tx.memory.changed(b.userDay)
	if b.modelDay == nil {
		return
	}
	b.modelDay.spend += b.spend
	b.modelDay.prompt += b.prompt
	b.modelDay.completion += b.completion
	b.modelDay.unpriced += b.unpriced
	tx.memory.changed(b.modelDay)
}

func tooLarge(what string) error {
	return fmt.Errorf("%w: %s would exceed %s USD or %d tokens", ErrTooLarge, what, plans.Money(plans.MaxDay), int64(plans.MaxDay))
}

func saveStep(tx *Tx, runID int64, row stepRow) error {
	tokens := func(n int64) sql.NullInt64 { return sql.NullInt64{Int64: n, Valid: row.bookedDay.Valid} }
	return tx.execOne(`UPDATE steps SET status = $3, completed_at = $4, duration_ms = $5, booked_day = $6,
			prompt_tokens = $7, completion_tokens = $8, input_picos = $9, output_picos = $10, cost_nanos = $11
		WHERE run_id = $1 AND uuid = $2 AND segment = $12`,
		runID, row.ID[:], int64(row.status), row.completedAt, row.duration, row.bookedDay,
		tokens(row.used.prompt), tokens(row.used.completion), row.used.inputPrice, row.used.outputPrice, row.used.cost, row.segment)
}

func savePayload(tx *Tx, runID int64, row *stepRow, in StepUpdate) error {
	if in.OutputData == nil && in.Error == nil {
		return nil
	}
	if in.OutputData != nil {
		row.OutputData = in.OutputData
	}
	if in.Error != nil {
		row.Error = in.Error
	}
	_, err := tx.exec(`INSERT INTO step_payloads (run_id, step_uuid, output_data, error) VALUES ($1, $2, $3, $4)
		ON CONFLICT (run_id, step_uuid) DO UPDATE SET
			output_data = coalesce(excluded.output_data, step_payloads.output_data),
			error = coalesce(excluded.error, step_payloads.error)`,
		runID, row.ID[:], nullText(in.OutputData), in.Error)
	return err
}
