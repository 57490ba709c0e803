package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Backfill is a write whose parts have times of their own. It makes history: for
// the demo now, for an import one day. It takes the same paths as live calls,
// so that ids, counters and rollups are those of the times given.
type Backfill struct{ tx *Tx }

// WriteBackfill has fn make some history in one write: all of it, or with
// an error nothing.
func (s *Store) WriteBackfill(ctx context.Context, fn func(Backfill) error) error {
	return s.write(ctx, modeBulkSQL, func(tx *Tx) error {
		tx.publisher = nil // what was then is no news
		return fn(Backfill{tx})
	})
}

// at moves the transaction to a time. A cached day sums up the days before it,
// so on another day the cache is read again.
func (p Backfill) at(t time.Time) (*Tx, error) {
	m := p.tx.cache
	p.tx.now = t.UTC()
	if day := dayOf(p.tx.now); day != m.today || m.nearlyFull() {
		m.today = day
		return p.tx, p.reread()
	}
	return p.tx, nil
}

// reread writes what was counted and reads it again when it is next asked for.
func (p Backfill) reread() error {
	defer p.tx.cache.invalidateAll()
	return p.tx.cache.flush(p.tx)
}

// StartRun is Store.StartRun at a time.
func (p Backfill) StartRun(t time.Time, ws WorkspaceKey, in NewRun, decide Decider) (Answer, error) {
	tx, err := p.at(t)
	if err != nil {
		return Answer{}, err
	}
	in.read()
	return startRun(tx, Caller{Workspace: ws}, in, decide)
}

// CreateStep is Store.CreateStep at a time.
func (p Backfill) CreateStep(t time.Time, ws WorkspaceKey, run uuid.UUID, in NewStep, decide Decider) (Answer, error) {
	tx, err := p.at(t)
	if err != nil {
		return Answer{}, err
	}
	return createStep(tx, Caller{Workspace: ws}, run, in, decide)
}

// UpdateStep is Store.UpdateStep at a time.
func (p Backfill) UpdateStep(t time.Time, ws WorkspaceKey, run, step uuid.UUID, in StepUpdate) error {
	tx, err := p.at(t)
	if err != nil {
		return err
	}
	_, err = updateStep(tx, Caller{Workspace: ws}, run, step, findSegment, in)
	return err
}

// EndRun is Store.EndRun at a time.
func (p Backfill) EndRun(t time.Time, ws WorkspaceKey, id uuid.UUID, status RunStatus, by EndedBy) error {
	tx, err := p.at(t)
	if err != nil {
		return err
	}
	_, err = endRun(tx, Caller{Workspace: ws}, id, status, by)
	return err
}

// BlockUser is Store.BlockUser at a time. It works by SQL, so it flushes and
// invalidates the cache first.
func (p Backfill) BlockUser(t time.Time, ws WorkspaceKey, externalID string, reason *string) error {
	tx, err := p.at(t)
	if err != nil {
		return err
	}
	if err := p.reread(); err != nil {
		return err
	}
	_, err = blockUser(tx, ws, externalID, reason)
	return err
}
