package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Past is a write whose parts have times of their own. It makes history: for
// the demo now, for an import one day. It goes the same ways as the present,
// so that ids, counters and rollups are those of the times given.
type Past struct{ tx *Tx }

// WritePast has fn make a piece of history in one write: all of it, or with
// an error nothing.
func (s *Store) WritePast(ctx context.Context, fn func(Past) error) error {
	return s.write(ctx, func(tx *Tx) error { return fn(Past{tx}) })
}

// at is the transaction at a time. What was noted then is no news, so nobody is told.
func (p Past) at(t time.Time) *Tx {
	tx := *p.tx
	tx.now, tx.notes = t.UTC(), nil
	return &tx
}

// StartRun is Store.StartRun at a time.
func (p Past) StartRun(t time.Time, ws WorkspaceKey, in NewRun, decide Decider) (Answer, error) {
	in.title = titleOf(in.Metadata)
	return startRun(p.at(t), ws, in, decide)
}

// CreateStep is Store.CreateStep at a time.
func (p Past) CreateStep(t time.Time, ws WorkspaceKey, run uuid.UUID, in NewStep, decide Decider) (Answer, error) {
	return createStep(p.at(t), ws, run, in, decide)
}

// UpdateStep is Store.UpdateStep at a time.
func (p Past) UpdateStep(t time.Time, ws WorkspaceKey, run, step uuid.UUID, in StepUpdate) error {
	tx := p.at(t)
	row, err := findStep(tx, ws, run, step)
	if err != nil {
		return err
	}
	if row.status == StepBlocked {
		return ErrStepBlocked
	}
	return updateStep(tx, ws, row, step, in)
}

// EndRun is Store.EndRun at a time.
func (p Past) EndRun(t time.Time, ws WorkspaceKey, id uuid.UUID, status RunStatus, by EndedBy) error {
	_, err := endRun(p.at(t), ws, id, status, by)
	return err
}

// BlockUser is Store.BlockUser at a time.
func (p Past) BlockUser(t time.Time, ws WorkspaceKey, externalID string, reason *string) error {
	_, err := blockUser(p.at(t), ws, externalID, reason)
	return err
}
