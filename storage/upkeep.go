package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/storage/dbfile"
)

const (
	// upkeepHold is how long one write of upkeep may occupy the writer, and
	// upkeepChunk how many rows it deletes before it looks at the time, so that
	// decisions hardly notice it.
	upkeepHold = 250 * time.Microsecond
	// upkeepChunk is how many rows a job deletes or changes in one transaction. Decisions wait for
	// at most one chunk.
	upkeepChunk = 50
	// upkeepBytes is about how many bytes of payloads it deletes before that.
	upkeepBytes = 64 << 10
	// upkeepBackoff is for how many times the duration of its write upkeep then
	// leaves the writer to others.
	upkeepBackoff = 5
)

// Expire deletes what is past its time: runs beyond their plan's retention,
// except RUNNING ones, entries of the audit log, users of whom nothing is left,
// and idempotency keys. Usage figures stay. It returns how many runs it deleted.
func (s *Store) Expire(ctx context.Context) (runs int, err error) {
	workspaces, err := s.retentions(ctx)
	if err != nil {
		return 0, fmt.Errorf("read retentions: %w", err)
	}
	for _, w := range workspaces {
		more, err := s.hasExpired(ctx, w)
		if err != nil {
			return runs, fmt.Errorf("look for expired runs: %w", err)
		}
		for more {
			err := s.runUpkeep(ctx, w.ws, modeSQL, func(tx *Tx) (bool, error) {
				deleted, left, err := expireChunk(tx, w)
				if err == nil && !left {
					left, err = expireAudit(tx, w.ws)
				}
				if err == nil && !left {
					left, err = expireDeliveries(tx, w.ws)
				}
				runs, more = runs+deleted, left
				return left, err
			})
			if err != nil {
				return runs, fmt.Errorf("delete expired runs: %w", err)
			}
		}
		if err := s.sweepPayloads(ctx, w.ws); err != nil {
			return runs, err
		}
	}
	if err := s.expireUsers(ctx, workspaces); err != nil {
		return runs, fmt.Errorf("delete unused users: %w", err)
	}
	if err := s.expireKeys(ctx); err != nil {
		return runs, fmt.Errorf("delete expired idempotency keys: %w", err)
	}
	if err := s.expireEndpoints(ctx); err != nil {
		return runs, err
	}
	if err := s.expireLimits(ctx); err != nil {
		return runs, fmt.Errorf("delete counters of limits whose window is long over: %w", err)
	}
	if err := s.expireSessions(ctx); err != nil {
		return runs, fmt.Errorf("forget sessions that have expired: %w", err)
	}
	return runs, nil
}

// expireChunk deletes some rows of the oldest expired run. left says
// whether to call again.
func expireChunk(tx *Tx, r retention) (deleted int, left bool, err error) {
	const chunk = int64(upkeepChunk)
	bound := daysAgo(tx, r.days)
	var runID, startedAt int64
	key := runKey{ws: r.ws}
	err = tx.get(`SELECT id, uuid, started_at FROM runs WHERE workspace_id = $1 AND uuid < $2 AND status <> $3 ORDER BY uuid LIMIT 1`,
		[]any{r.ws, bound[:], int64(RunRunning)}, &runID, &key.id, &startedAt)
	if err != nil {
		return 0, false, ignoreNotFound(err)
	}
	tx.cache.runs.remove(key) // which knows segments that may be gone in a moment
	latest := startedAt
	steps := func(tx *Tx, runID, chunk int64) (n, latest int64, err error) {
		return expireSteps(tx, r.ws, runID, chunk)
	}
	for _, expire := range []func(tx *Tx, runID, chunk int64) (n, latest int64, err error){
		expirePayloads, expireTerms, expireRepairs, expireDenials, steps,
	} {
		n, counted, err := expire(tx, runID, chunk)
		latest = max(latest, counted)
		if err != nil {
			return 0, true, err
		}
		if n == chunk {
			return 0, true, recordExpired(tx, r.ws, startedAt, latest)
		}
	}
	if err := recordExpired(tx, r.ws, startedAt, latest); err != nil {
		return 0, true, err
	}
	n, err := tx.exec(`DELETE FROM idempotency_keys WHERE workspace_id = $1 AND run_id = $2 AND key IN
		(SELECT key FROM idempotency_keys WHERE workspace_id = $1 AND run_id = $2 LIMIT $3)`, r.ws, runID, chunk)
	if err != nil || n == chunk {
		return 0, true, err
	}
	for _, of := range []string{
		`run_tags WHERE run_id = $1`, `run_metadata WHERE run_id = $1`, `run_actions WHERE run_id = $1`,
		`reviews WHERE run_id = $1`,
	} {
		if _, err := tx.exec(`DELETE FROM `+of, runID); err != nil {
			return 0, true, err
		}
	}
	return 1, true, errors.Join(tx.execOne(`DELETE FROM runs WHERE id = $1`, runID), limitIndexPosition(tx))
}

// The expire functions delete some rows of a run. They answer how many went (as many as asked for,
// when there may be more), and the latest instant at which one of them counts in the books.

// expirePayloads deletes texts that an older version has stored. It goes by bytes
// too: a large payload is many pages to overwrite.
func expirePayloads(tx *Tx, runID, limit int64) (n, latest int64, err error) {
	var last []byte
	var total int64
	err = tx.each(`SELECT step_uuid, coalesce(octet_length(input_data), 0) + coalesce(octet_length(output_data), 0)
			+ coalesce(octet_length(error), 0) + coalesce(octet_length(usage_data), 0)
		FROM step_payloads WHERE run_id = $1 ORDER BY step_uuid LIMIT $2`, []any{runID, limit}, func(rows scanner) error {
		var step []byte
		var size int64
		err := rows.Scan(&step, &size)
		if total += size; last == nil || total <= upkeepBytes {
			last = step
		}
		return err
	})
	if err != nil || last == nil {
		return 0, 0, err
	}
	n, err = tx.exec(`DELETE FROM step_payloads WHERE run_id = $1 AND step_uuid <= $2`, runID, last)
	if total > upkeepBytes {
		n = limit
	}
	return n, 0, err
}

// expireTerms takes a run out of the index, with what is still to be put there.
func expireTerms(tx *Tx, runID, limit int64) (n, latest int64, err error) {
	n, err = tx.exec(`DELETE FROM unindexed_steps WHERE run_id = $1 AND step_uuid IN
		(SELECT step_uuid FROM unindexed_steps WHERE run_id = $1 LIMIT $2)`, runID, limit)
	if err != nil || n == limit {
		return n, 0, err
	}
	n, err = tx.exec(`DELETE FROM run_terms WHERE run_id = $1 AND (kind, term) IN
		(SELECT kind, term FROM run_terms WHERE run_id = $1 LIMIT $2)`, runID, limit)
	return n, 0, err
}

// expireRepairs deletes which fields of the run's steps were repaired; no counter depends on it.
func expireRepairs(tx *Tx, runID, limit int64) (n, latest int64, err error) {
	n, err = tx.exec(`DELETE FROM repairs WHERE run_id = $1 AND step_uuid IN
		(SELECT step_uuid FROM repairs WHERE run_id = $1 LIMIT $2)`, runID, limit)
	return n, 0, err
}

// expireDenials deletes the run's denials. The latest of them bounds the days whose counters can no
// longer be recomputed.
func expireDenials(tx *Tx, runID, limit int64) (n, latest int64, err error) {
	err = tx.each(`DELETE FROM denials WHERE run_id = $1 AND step_uuid IN
		(SELECT step_uuid FROM denials WHERE run_id = $1 LIMIT $2) RETURNING step_uuid`, []any{runID, limit}, func(rows scanner) error {
		var step []byte
		err := rows.Scan(&step)
		n++
		if id, noID := uuid.FromBytes(step); noID == nil { // else it is the denial of the run's start
			latest = max(latest, idMillis(id))
		}
		return err
	})
	return n, latest, err
}

// expireSteps deletes segment by segment, each from the run's list when it is done, and drops the
// steps' payloads.
func expireSteps(tx *Tx, ws WorkspaceKey, runID, limit int64) (n, latest int64, err error) {
	for n < limit {
		var segment int64
		err := tx.get(`SELECT segment FROM run_segments WHERE run_id = $1 ORDER BY segment LIMIT 1`, []any{runID}, &segment)
		if err != nil {
			return n, latest, ignoreNotFound(err)
		}
		const oldest = `(SELECT uuid FROM steps WHERE segment = $1 AND run_id = $2 ORDER BY uuid LIMIT $3)`
		for _, of := range []string{
			`capped_steps WHERE`, `step_usage WHERE segment = $1 AND`, `step_grants WHERE`,
		} {
			_, err = tx.exec(`DELETE FROM `+of+` run_id = $2 AND step_uuid IN `+oldest, segment, runID, limit-n)
			if err != nil {
				return n, latest, err
			}
		}
		var texts []payloadsOf
		err = tx.each(`DELETE FROM steps WHERE segment = $1 AND run_id = $2 AND uuid IN `+oldest+`
			RETURNING created_at, coalesce(booked_day, 0), coalesce(completed_at, 0), input_payload, report_payload`,
			[]any{segment, runID, limit - n}, func(rows scanner) error {
				var created, booked, completed int64
				var p payloadsOf
				err := rows.Scan(&created, &booked, &completed, &p.input, &p.report)
				n, latest, texts = n+1, max(latest, created, booked*millisPerDay, completed), append(texts, p)
				return err
			})
		for _, p := range texts {
			err = errors.Join(err, p.drop(tx, ws))
		}
		if err != nil {
			return n, latest, err
		}
		_, err = tx.exec(`DELETE FROM run_segments WHERE run_id = $1 AND segment = $2
			AND NOT EXISTS (SELECT 1 FROM steps WHERE segment = $2 AND run_id = $1)`, runID, segment)
		if err != nil {
			return n, latest, err
		}
	}
	return n, latest, nil
}

// recordExpired stores how far the ledger is no longer complete, for verify:
// something of a run that started then is gone, and of what counts until latest.
func recordExpired(tx *Tx, ws WorkspaceKey, startedAt, latest int64) error {
	_, err := tx.exec(`INSERT INTO expired_history (workspace_id, started_before, complete_from) VALUES ($1, $2, $3)
		ON CONFLICT (workspace_id) DO UPDATE SET
			started_before = CASE WHEN excluded.started_before > expired_history.started_before
				THEN excluded.started_before ELSE expired_history.started_before END,
			complete_from = CASE WHEN excluded.complete_from > expired_history.complete_from
				THEN excluded.complete_from ELSE expired_history.complete_from END`,
		ws, startedAt+1, floorDiv(latest, millisPerDay)+1)
	return err
}

// expireKeys deletes idempotency keys after a day, in chunks.
func (s *Store) expireKeys(ctx context.Context) error {
	const chunk = upkeepChunk
	for more := true; more; {
		err := s.runUpkeep(ctx, noWorkspace, modeAside, func(tx *Tx) (bool, error) {
			// Asked again of the row itself: somebody may have used the key anew.
			n, err := tx.exec(`DELETE FROM idempotency_keys WHERE created_at <= $1 AND (workspace_id, run_id, key) IN
				(SELECT workspace_id, run_id, key FROM idempotency_keys WHERE created_at <= $1 LIMIT $2)`,
				tx.now.Add(-idempotencyTTL).UnixMilli(), chunk)
			more = n == chunk
			return more, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// runUpkeep repeats a small chunk of upkeep in one write, until nothing is left
// to do or the write has taken upkeepHold. It retries when the queue is full,
// and backs off after the write, because nobody waits for upkeep.
func (s *Store) runUpkeep(
	ctx context.Context, scope WorkspaceKey, mode txMode, chunk func(*Tx) (more bool, err error),
) error {
	return s.runChunks(ctx, scope, mode, upkeepBackoff, chunk)
}

// runUpkeepEach runs fn for each of some things, in the writes that runUpkeep
// makes. Things of one scope that follow one another may share a write.
func runUpkeepEach[T any](
	ctx context.Context, s *Store, mode txMode, list []T, scope func(T) WorkspaceKey, fn func(*Tx, T) error,
) error {
	for len(list) > 0 {
		of := scope(list[0])
		var done int
		var latest *Tx
		err := s.runUpkeep(ctx, of, mode, func(tx *Tx) (bool, error) {
			if tx != latest { // its batch may be run again
				done, latest = 0, tx
			}
			err := fn(tx, list[done])
			done++
			return done < len(list) && scope(list[done]) == of, err
		})
		if err != nil {
			return err
		}
		list = list[done:]
	}
	return nil
}

// runChunks is runUpkeep that backs off so many times as long as the write took.
func (s *Store) runChunks(
	ctx context.Context, scope WorkspaceKey, mode txMode, backoff time.Duration, chunk func(*Tx) (more bool, err error),
) error {
	return backingOff(ctx, func() (rest time.Duration, err error) {
		err = s.writeIn(ctx, scope, mode, func(tx *Tx) error {
			started := time.Now() // the machine's time: how long the writer is held, not what day it is
			defer func() { rest = backoff * time.Since(started) }()
			for {
				more, err := chunk(tx)
				if err != nil || !more || time.Since(started) > upkeepHold || tx.cache.nearlyFull() {
					return err
				}
			}
		})
		return rest, err
	})
}

// writeIndex has fn index some things in one write, while nobody else writes in
// their workspaces, and then leaves the writer to others for a while.
func writeIndex[T any](ctx context.Context, s *Store, list []T, of func(T) WorkspaceKey, fn func(*Tx) error) error {
	locks := make([]WorkspaceKey, len(list))
	for i, t := range list {
		locks[i] = of(t)
	}
	return backingOff(ctx, func() (rest time.Duration, err error) {
		began := time.Now() // with the wait for others: the busier they are, the longer they are left alone
		err = s.writeAside(ctx, locks, fn)
		return 2 * time.Since(began), err
	})
}

// backingOff repeats a write while the queue is full, and leaves the writer to
// others afterwards.
func backingOff(ctx context.Context, write func() (rest time.Duration, err error)) error {
	for {
		rest, err := write()
		busy := errors.Is(err, ErrBusy)
		if err != nil && !busy {
			return err
		}
		if err := dbfile.Sleep(ctx, max(rest, upkeepHold)); err != nil {
			return err
		}
		if !busy {
			return nil
		}
	}
}

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
	of := func(r silentRun) WorkspaceKey { return r.key.ws }
	err = runUpkeepEach(ctx, s, modeSQL, idle, of, func(tx *Tx, r silentRun) error {
		done, err := endIfIdle(tx, r)
		ended += int(boolInt(done))
		return err
	})
	if err != nil {
		return ended, fmt.Errorf("end idle runs: %w", err)
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
	closing, err := closeReviews(tx, ws.key, Cancelled, ofRun, r.id)
	if err != nil {
		return false, err
	}
	closing.apply(tx)
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

// Expiring is how much retention will delete soon.
type Expiring struct {
	Runs  int64
	Bytes int64 // estimated from the oldest runs
}

// Expiring estimates what retention will delete from a workspace within that time.
func (s *Store) Expiring(ctx context.Context, ws WorkspaceKey, within time.Duration) (e Expiring, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		w, err := workspace(tx, ws)
		if err != nil {
			return err
		}
		e, err = expiring(tx, ws, tx.now.Add(within).AddDate(0, 0, -int(w.Plan.RetentionDays)))
		return err
	})
	return e, err
}

// expiring counts the runs that began before a time, and estimates their size from the oldest.
func expiring(tx *Tx, ws WorkspaceKey, before time.Time) (e Expiring, err error) {
	const sample, stepBytes, runBytes = 100, 100, 300 // a row with its part of the indexes
	bound := idFloor(before)
	err = tx.get(`SELECT count(*) FROM runs WHERE workspace_id = $1 AND uuid < $2`, []any{ws, bound[:]}, &e.Runs)
	if err != nil || e.Runs == 0 {
		return e, err
	}
	var runs, bytes, payloadBytes int64
	err = tx.get(`SELECT coalesce(sum(octet_length(data)) / CAST(sum(payloads) AS BIGINT), 0) FROM payload_blocks WHERE workspace_id = $1
		AND number < $2 + (SELECT min(number) FROM payload_blocks WHERE workspace_id = $1)`, []any{ws, sample}, &payloadBytes)
	if err != nil {
		return e, err
	}
	err = tx.get(`SELECT count(*), coalesce(sum(r.step_count * $4 + $5
			+ coalesce((SELECT octet_length(m.metadata) FROM run_metadata m WHERE m.run_id = r.id), 0)
			+ coalesce((SELECT sum(coalesce(octet_length(p.input_data), 0) + coalesce(octet_length(p.output_data), 0)
				+ coalesce(octet_length(p.error), 0)) FROM step_payloads p WHERE p.run_id = r.id), 0)
			+ (SELECT count(s.input_payload) + count(s.report_payload) FROM run_steps s WHERE s.run_id = r.id) * $6), 0)
		FROM (SELECT id, step_count FROM runs WHERE workspace_id = $1 AND uuid < $2 ORDER BY uuid LIMIT $3) r`,
		[]any{ws, bound[:], sample, stepBytes, runBytes, payloadBytes}, &runs, &bytes)
	e.Bytes = bytes / max(1, runs) * e.Runs
	return e, err
}

// TotalExpiring is Expiring of all workspaces together.
func (s *Store) TotalExpiring(ctx context.Context, within time.Duration) (all Expiring, err error) {
	workspaces, err := s.retentions(ctx)
	for _, w := range workspaces {
		e, readErr := s.Expiring(ctx, w.ws, within)
		if readErr != nil {
			return all, readErr
		}
		all.Runs, all.Bytes = all.Runs+e.Runs, all.Bytes+e.Bytes
	}
	return all, err
}
