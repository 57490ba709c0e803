package storage

import (
	"context"
	"errors"

	"github.com/google/uuid"
)

// Moment is how a workspace stands, in one snapshot.
type Moment struct {
	Today       Totals
	RunningRuns int64
	Runs        map[int64]Run // those asked for that exist, by internal id
}

// Moment reads how a workspace stands, and summaries of some of its runs, by
// the internal ids that changes carry.
func (s *Store) Moment(ctx context.Context, ws WorkspaceKey, runs []int64) (m Moment, err error) {
	m.Runs = make(map[int64]Run, len(runs))
	err = s.read(ctx, func(tx *Tx) error {
		today := dayOf(tx.now)
		if m.Today, err = totalsOf(tx, ws, today, today); err != nil {
			return err
		}
		if m.RunningRuns, err = runningRuns(tx, ws); err != nil {
			return err
		}
		for _, id := range runs {
			if _, read := m.Runs[id]; read {
				continue
			}
			r, err := scanRun(func(dest ...any) error { return tx.get(selectRun+` AND r.id = $2`, []any{ws, id}, dest...) })
			if errors.Is(err, ErrNotFound) {
				continue // deleted meanwhile
			}
			if err != nil {
				return err
			}
			m.Runs[id] = r
		}
		return nil
	})
	return m, err
}

// Config is what other processes, the commands, can change of a workspace.
// Two of them can be compared.
type Config struct {
	Workspace Workspace
	Key       uuid.UUID // of the active API key
}

// Config reads a workspace with the id of its active key.
func (s *Store) Config(ctx context.Context, ws WorkspaceKey) (c Config, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		if c.Workspace, err = workspace(tx, ws); err != nil {
			return err
		}
		err := tx.get(`SELECT uuid FROM api_keys WHERE workspace_id = $1 AND revoked_at IS NULL`, []any{ws}, &c.Key)
		return ignoreNotFound(err)
	})
	return c, err
}
