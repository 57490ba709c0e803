package storage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// DefaultOpenStepTimeout is after how long without a call a run is idle
// although a step of it is open: a model or a tool may take hours.
const DefaultOpenStepTimeout = 6 * time.Hour

// silentRun is a run that is to be ended, unless it has called since.
type silentRun struct {
	key        runKey
	lastCallAt int64 // milliseconds; 0: whenever it called
}

// EndIdleRuns ends, as FAILED, every run that made no call for its
// workspace's idle timeout, and returns how many. A run with an open step is
// not idle until Options.OpenStepTimeout has passed too.
func (s *Store) EndIdleRuns(ctx context.Context) (ended int, err error) {
	var idle []silentRun
	err = s.read(ctx, func(tx *Tx) error {
		now := tx.now.UnixMilli()
		return tx.each(`SELECT r.workspace_id, r.uuid, r.last_call_at FROM runs r JOIN workspaces w ON w.id = r.workspace_id
			WHERE r.status = $1 AND r.last_call_at < $2 - w.run_idle_timeout_seconds * 1000
			AND (r.last_call_at < $3 OR NOT EXISTS (SELECT 1 FROM run_steps s WHERE s.run_id = r.id AND s.status = $4))`,
			[]any{int64(RunRunning), now, now - s.openStepTimeout.Milliseconds(), int64(StepRunning)}, func(rows scanner) error {
				var r silentRun
				err := rows.Scan(&r.key.ws, &r.key.id, &r.lastCallAt)
				idle = append(idle, r)
				return err
			})
	})
	if err != nil {
		return 0, fmt.Errorf("find idle runs: %w", err)
	}
	for len(idle) > 0 {
		err := s.runUpkeep(ctx, modeSQL, func(tx *Tx) (bool, error) {
			if len(idle) == 0 {
				return false, nil
			}
			done, err := endIfIdle(tx, idle[0])
			idle, ended = idle[1:], ended+int(boolInt(done))
			return true, err
		})
		if err != nil {
			return ended, fmt.Errorf("end idle runs: %w", err)
		}
	}
	return ended, nil
}

// endIfIdle looks again: the run may have called, or ended, since it was
// found, or its workspace's timeout has changed. Its steps need no second
// look, because no step opens or closes without a call.
func endIfIdle(tx *Tx, found silentRun) (bool, error) {
	ws, r, err := found.again(tx)
	if err != nil || r == nil || r.lastCallAt >= tx.now.UnixMilli()-ws.idleTimeout.Milliseconds() {
		return false, err
	}
	finishRun(tx, ws, r, RunFailed, EndedByIdle)
	return true, nil
}

// again finds a run as the writer sees it: nil when it has called or ended meanwhile.
func (f silentRun) again(tx *Tx) (*cachedWorkspace, *cachedRun, error) {
	ws, err := tx.cache.workspaces.get(tx, f.key.ws)
	if err != nil {
		return nil, nil, err
	}
	r, err := tx.cache.runs.get(tx, f.key)
	if err != nil {
		return ws, nil, ignoreNotFound(err)
	}
	if r.status != RunRunning || f.lastCallAt != 0 && r.lastCallAt != f.lastCallAt {
		return ws, nil, nil
	}
	return ws, r, nil
}

const (
	// MaxEnds is how many runs one EndRuns ends.
	MaxEnds = 1000
	// endsAtOnce is how many of them share a write, so that decisions wait a moment and not longer.
	endsAtOnce = 50
)

// EndsOfRuns says which runs of a workspace to end, and how.
type EndsOfRuns struct {
	IDs         []uuid.UUID // at most MaxEnds; those that are not RUNNING are left alone
	SilentSince time.Time   // without ids: the runs whose last call was before
	Status      RunStatus
	By          EndedBy
}

// EndRuns ends many runs, those first that were silent longest, and returns
// which. It stops after MaxEnds; more says that others are left. A run that
// calls meanwhile stays, unless it was named.
func (s *Store) EndRuns(ctx context.Context, ws WorkspaceKey, in EndsOfRuns) (ended []uuid.UUID, more bool, err error) {
	var found []silentRun
	if err := s.read(ctx, func(tx *Tx) (err error) { found, err = in.find(tx, ws); return err }); err != nil {
		return nil, false, fmt.Errorf("find the runs to end: %w", err)
	}
	if more = len(found) > MaxEnds; more {
		found = found[:MaxEnds]
	}
	for len(found) > 0 {
		n := min(endsAtOnce, len(found))
		var part []uuid.UUID
		err := s.write(ctx, modeCached, func(tx *Tx) (err error) {
			part, err = in.end(tx, actorOf(ctx), found[:n])
			return err
		})
		if err != nil {
			return ended, more, fmt.Errorf("end runs: %w", err)
		}
		ended, found = append(ended, part...), found[n:]
	}
	return ended, more, nil
}

func (in EndsOfRuns) find(tx *Tx, ws WorkspaceKey) (found []silentRun, err error) {
	for _, id := range in.IDs {
		found = append(found, silentRun{key: runKey{ws, id}})
	}
	if in.IDs != nil {
		return found, nil
	}
	return found, tx.each(`SELECT uuid, last_call_at FROM runs WHERE workspace_id = $1 AND status = $2 AND last_call_at < $3
		ORDER BY last_call_at, uuid LIMIT $4`, []any{ws, int64(RunRunning), in.SilentSince.UnixMilli(), MaxEnds + 1}, func(rows scanner) error {
		f := silentRun{key: runKey{ws: ws}}
		err := rows.Scan(&f.key.id, &f.lastCallAt)
		found = append(found, f)
		return err
	})
}

// end ends runs in one write, and has it in the audit log. Memory is changed
// last, when nothing can fail any more.
func (in EndsOfRuns) end(tx *Tx, actor Actor, found []silentRun) (ended []uuid.UUID, err error) {
	var runs []*cachedRun
	var ws *cachedWorkspace
	for _, f := range found {
		var r *cachedRun
		if ws, r, err = f.again(tx); err != nil {
			return nil, err
		}
		if r != nil && !slices.Contains(runs, r) {
			runs, ended = append(runs, r), append(ended, f.key.id)
		}
	}
	if len(runs) == 0 {
		return nil, nil
	}
	event := auditEvent{ws: ws.key, action: ActionEndRuns, after: attributes{"runs": len(runs), "status": in.Status.String()}}
	if err := recordAudit(tx, actor, event); err != nil {
		return nil, err
	}
	for _, r := range runs {
		finishRun(tx, ws, r, in.Status, in.By)
	}
	return ended, nil
}
