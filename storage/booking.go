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

// stepRow is a step as its update finds it.
type stepRow struct {
	runID, userID int64
	runStatus     RunStatus
	status        StepStatus
	model         sql.NullInt64
	completedAt   sql.NullInt64
	duration      sql.NullInt64
	bookedDay     sql.NullInt64 // null until usage was reported
	used          usage
}

// UpdateStep records how a step ended and books its usage on the day first
// reported; a correction books the difference there. Usage counts also after
// the run has ended. ErrStepBlocked when the step was denied; ErrTooLarge when
// the cost is beyond what the ledger can hold.
func (s *Store) UpdateStep(ctx context.Context, ws WorkspaceKey, run, step uuid.UUID, in StepUpdate) (out Step, err error) {
	err = s.write(ctx, func(tx *Tx) error {
		row, err := findStep(tx, ws, run, step)
		if err != nil {
			return err
		}
		if row.status == StepBlocked {
			return ErrStepBlocked
		}
		if err := updateStep(tx, ws, row, step, in); err != nil {
			return err
		}
		out, err = readStep(tx, row.runID, step)
		return err
	})
	return out, err
}

func findStep(tx *Tx, ws WorkspaceKey, run, step uuid.UUID) (stepRow, error) {
	var r stepRow
	var prompt, completion sql.NullInt64
	err := tx.get(`SELECT r.id, r.user_id, r.status, s.status, s.model_id, s.completed_at, s.duration_ms, s.booked_day,
			s.prompt_tokens, s.completion_tokens, s.input_picos, s.output_picos, s.cost_nanos
		FROM runs r JOIN steps s ON s.run_id = r.id
		WHERE r.workspace_id = $1 AND r.uuid = $2 AND s.uuid = $3`, []any{ws, run[:], step[:]},
		&r.runID, &r.userID, &r.runStatus, &r.status, &r.model, &r.completedAt, &r.duration, &r.bookedDay,
		&prompt, &completion, &r.used.inputPrice, &r.used.outputPrice, &r.used.cost)
	r.used.prompt, r.used.completion = prompt.Int64, completion.Int64
	return r, err
}

func updateStep(tx *Tx, ws WorkspaceKey, row stepRow, step uuid.UUID, in StepUpdate) error {
	was := row
	if in.PromptTokens != nil || in.CompletionTokens != nil {
		if err := bookUsage(tx, ws, &row, in); err != nil {
			return err
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
	if row != was {
		if err := saveStep(tx, row, step); err != nil {
			return err
		}
	}
	if err := savePayload(tx, row.runID, step, in); err != nil {
		return err
	}
	if row.runStatus != RunRunning {
		return nil
	}
	return tx.execOne(`UPDATE runs SET last_call_at = $2 WHERE id = $1`, row.runID, tx.now.UnixMilli())
}

// bookUsage settles the price at the first report, and moves run and rollups
// by the difference to what they already hold of this step.
func bookUsage(tx *Tx, ws WorkspaceKey, row *stepRow, in StepUpdate) error {
	old := row.used
	if in.PromptTokens != nil {
		row.used.prompt = *in.PromptTokens
	}
	if in.CompletionTokens != nil {
		row.used.completion = *in.CompletionTokens
	}
	if !row.bookedDay.Valid {
		row.bookedDay = sql.NullInt64{Int64: dayOf(tx.now), Valid: true}
		if err := findPrice(tx, row.model, &row.used); err != nil {
			return err
		}
	}
	if row.used.inputPrice.Valid {
		cost, err := plans.Cost(row.used.prompt, row.used.completion,
			plans.Price(row.used.inputPrice.Int64), plans.Price(row.used.outputPrice.Int64))
		if err != nil {
			return errors.Join(ErrTooLarge, err)
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
		return nil
	}
	return d.book(tx, ws, *row)
}

// findPrice copies the model's active prices, if it has any.
func findPrice(tx *Tx, model sql.NullInt64, u *usage) error {
	if !model.Valid {
		return nil
	}
	err := tx.get(`SELECT input_picos, output_picos FROM models WHERE id = $1 AND is_active = 1`,
		[]any{model.Int64}, &u.inputPrice, &u.outputPrice)
	return ignoreNotFound(err)
}

// delta is by how much a report moves the counters.
type delta struct{ spend, prompt, completion, unpriced int64 }

// book moves every counter that holds this step's usage, on the step's day.
func (d delta) book(tx *Tx, ws WorkspaceKey, row stepRow) error {
	tx.note(Change{Workspace: ws, Kind: RunProgressed, Run: row.runID})
	day := row.bookedDay.Int64
	var spend, prompt, completion int64
	err := tx.get(`INSERT INTO workspace_days
			(workspace_id, day, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count)
		VALUES ($1, $2, $3, $4, $5, 0, 0)
		ON CONFLICT (workspace_id, day) DO UPDATE SET spend_nanos = workspace_days.spend_nanos + excluded.spend_nanos,
			prompt_tokens = workspace_days.prompt_tokens + excluded.prompt_tokens,
			completion_tokens = workspace_days.completion_tokens + excluded.completion_tokens
		RETURNING spend_nanos, prompt_tokens, completion_tokens`,
		[]any{ws, day, d.spend, d.prompt, d.completion}, &spend, &prompt, &completion)
	if err != nil {
		return err
	}
	// Every other counter is a part of these, so this one check keeps all of
	// them far from overflow. The savepoint undoes the addition above.
	if max(spend, prompt, completion) > plans.MaxDay {
		return fmt.Errorf("%w: the workspace's day would exceed %s USD or %d tokens",
			ErrTooLarge, plans.Money(plans.MaxDay), int64(plans.MaxDay))
	}
	if _, err := tx.exec(`INSERT INTO user_days (workspace_id, day, user_id, spend_nanos, run_count)
		VALUES ($1, $2, $3, $4, 0) ON CONFLICT (workspace_id, day, user_id)
		DO UPDATE SET spend_nanos = user_days.spend_nanos + excluded.spend_nanos`,
		ws, day, row.userID, d.spend); err != nil {
		return err
	}
	if err := d.bookModel(tx, ws, row); err != nil {
		return err
	}
	return d.bookRun(tx, row.runID)
}

func (d delta) bookModel(tx *Tx, ws WorkspaceKey, row stepRow) error {
	if !row.model.Valid {
		return nil
	}
	_, err := tx.exec(`INSERT INTO model_days
			(workspace_id, day, model_id, spend_nanos, prompt_tokens, completion_tokens, unpriced_tokens)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (workspace_id, day, model_id)
		DO UPDATE SET spend_nanos = model_days.spend_nanos + excluded.spend_nanos,
			prompt_tokens = model_days.prompt_tokens + excluded.prompt_tokens,
			completion_tokens = model_days.completion_tokens + excluded.completion_tokens,
			unpriced_tokens = model_days.unpriced_tokens + excluded.unpriced_tokens`,
		ws, row.bookedDay.Int64, row.model.Int64, d.spend, d.prompt, d.completion, d.unpriced)
	return err
}

// bookRun bounds a run by the day's bound too: a run that lives for many days
// could otherwise outgrow it.
func (d delta) bookRun(tx *Tx, runID int64) error {
	var spend, prompt, completion int64
	err := tx.get(`UPDATE runs SET spend_nanos = spend_nanos + $2, prompt_tokens = prompt_tokens + $3,
			completion_tokens = completion_tokens + $4 WHERE id = $1
		RETURNING spend_nanos, prompt_tokens, completion_tokens`,
		[]any{runID, d.spend, d.prompt, d.completion}, &spend, &prompt, &completion)
	if err == nil && max(spend, prompt, completion) > plans.MaxDay {
		return fmt.Errorf("%w: the run would exceed %s USD or %d tokens",
			ErrTooLarge, plans.Money(plans.MaxDay), int64(plans.MaxDay))
	}
	return err
}

func saveStep(tx *Tx, row stepRow, step uuid.UUID) error {
	tokens := func(n int64) sql.NullInt64 { return sql.NullInt64{Int64: n, Valid: row.bookedDay.Valid} }
	return tx.execOne(`UPDATE steps SET status = $3, completed_at = $4, duration_ms = $5, booked_day = $6,
			prompt_tokens = $7, completion_tokens = $8, input_picos = $9, output_picos = $10, cost_nanos = $11
		WHERE run_id = $1 AND uuid = $2`,
		row.runID, step[:], int64(row.status), row.completedAt, row.duration, row.bookedDay,
		tokens(row.used.prompt), tokens(row.used.completion), row.used.inputPrice, row.used.outputPrice, row.used.cost)
}

func savePayload(tx *Tx, runID int64, step uuid.UUID, in StepUpdate) error {
	if in.OutputData == nil && in.Error == nil {
		return nil
	}
	_, err := tx.exec(`INSERT INTO step_payloads (run_id, step_uuid, output_data, error) VALUES ($1, $2, $3, $4)
		ON CONFLICT (run_id, step_uuid) DO UPDATE SET
			output_data = coalesce(excluded.output_data, step_payloads.output_data),
			error = coalesce(excluded.error, step_payloads.error)`,
		runID, step[:], nullText(in.OutputData), in.Error)
	return err
}
