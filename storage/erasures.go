package storage

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Erasing a user removes who they were and what was said: the name, in the
// audit log too, the titles and metadata of their runs, and the payloads of all
// steps. Figures stay, under a made-up name, so that counters can still be
// proved from the ledger.
//
// The first transaction replaces the name and records in the table erasures
// that the erasure has begun. Upkeep does the rest, after a restart too. What
// is deleted is overwritten in the file (pragma secure_delete). Last, the WAL
// is truncated, which still had the old pages.

// Erasure is how far the erasure of a user has come.
type Erasure struct {
	Pseudonym string // the user's id from now on
	Done      bool   // else the rest is under way
}

// EraseUser begins to erase a user, and continues for as long as wait.
// EraseUsers does what is left, and what has failed. RUNNING runs are ended as
// FAILED. ErrNotFound for a user never seen.
func (s *Store) EraseUser(ctx context.Context, ws WorkspaceKey, externalID string, wait time.Duration) (e Erasure, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: ActionEraseUser}
		e.Pseudonym, event.always, err = startErasure(tx, ws, externalID)
		event.target = e.Pseudonym
		return event, err
	})
	if err != nil {
		return e, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	_, restErr := s.EraseUsers(ctx)
	e.Done = restErr == nil
	return e, nil
}

// startErasure gives a user a made-up name. One who is erased already keeps theirs.
func startErasure(tx *Tx, ws WorkspaceKey, externalID string) (pseudonym string, began bool, err error) {
	var id int64
	var erased bool
	err = tx.get(`SELECT id, erased_at IS NOT NULL FROM users WHERE workspace_id = $1 AND external_id = $2`,
		[]any{ws, externalID}, &id, &erased)
	if err != nil || erased {
		return externalID, false, err
	}
	random := uuid.New()
	pseudonym = fmt.Sprintf("erased-%x", random[:8])
	err = tx.execOne(`UPDATE users SET external_id = $3, blocked_at = NULL, blocked_reason = NULL, erased_at = $4
		WHERE workspace_id = $1 AND id = $2`, ws, id, pseudonym, tx.now.UnixMilli())
	if err != nil {
		return "", false, err
	}
	above := idCeiling()
	tx.recordChange(Change{Workspace: ws, Kind: ConfigChanged, Part: PartUsers})
	return pseudonym, true, tx.execOne(`INSERT INTO erasures (user_id, workspace_id, external_id, began_at, before_run)
		VALUES ($1, $2, $3, $4, $5)`, id, ws, externalID, tx.now.UnixMilli(), above[:])
}

// pendingErasure is a row of erasures.
type pendingErasure struct {
	idKey
	name      *string // nil once the audit log no longer has it
	pseudonym string
	began     time.Time
	beforeRun uuid.UUID
	after     erasedStep // of the run at hand: steps up to this one have lost their texts
}

// EraseUsers goes on with every erasure that is not finished, and returns how
// many it has finished. They then are, in the file and in the WAL as well.
func (s *Store) EraseUsers(ctx context.Context) (finished int, err error) {
	select {
	case s.erases <- struct{}{}: // one at a time
		defer func() { <-s.erases }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	begun, err := s.pendingErasures(ctx)
	if err != nil || len(begun) == 0 {
		return 0, err
	}
	for _, e := range begun {
		if err := s.eraseRuns(ctx, e); err != nil {
			return 0, fmt.Errorf("erase what runs of a user have said: %w", err)
		}
		if err := s.sweepPayloads(ctx, e.ws); err != nil {
			return 0, err
		}
		if err := s.eraseFromAudit(ctx, e); err != nil {
			return 0, fmt.Errorf("erase a user from the audit log: %w", err)
		}
		if err := s.eraseFromOutbox(ctx, e); err != nil {
			return 0, fmt.Errorf("erase a user from the outbox: %w", err)
		}
	}
	// Only now are the bytes gone from the file and its logs as well. An erasure is finished after
	// that, so a crash before repeats it.
	if err := s.engine.scrub(ctx, s.pauseWriter); err != nil {
		return 0, err
	}
	for _, e := range begun {
		err := s.writeIn(ctx, e.ws, modeSQL, func(tx *Tx) error {
			return tx.execOne(`DELETE FROM erasures WHERE workspace_id = $1 AND user_id = $2`, e.ws, e.id)
		})
		if err != nil {
			return finished, fmt.Errorf("finish an erasure: %w", err)
		}
		finished++
	}
	return finished, nil
}

// pendingErasures lists the erasures that have begun and not ended: an erasure of many runs takes
// several transactions, and goes on after a restart.
func (s *Store) pendingErasures(ctx context.Context) (begun []pendingErasure, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT e.workspace_id, e.user_id, e.external_id, u.external_id, e.began_at, e.before_run
			FROM erasures e JOIN users u ON u.id = e.user_id ORDER BY e.user_id`, nil, func(rows scanner) error {
			var e pendingErasure
			var name sql.NullString
			var began int64
			err := rows.Scan(&e.ws, &e.id, &name, &e.pseudonym, &began, &e.beforeRun)
			e.name, e.began = stringPtr(name), time.UnixMilli(began).UTC()
			begun = append(begun, e)
			return err
		})
	})
	return begun, err
}

// eraseRuns takes from all runs of a user what was said, the newest run first.
func (s *Store) eraseRuns(ctx context.Context, e pendingErasure) error {
	for more := true; more; {
		next, latest := e, (*Tx)(nil)
		err := s.runUpkeep(ctx, e.ws, modeSQL, func(tx *Tx) (bool, error) {
			if tx != latest { // its batch may be run again
				next, latest = e, tx
			}
			var err error
			more, err = eraseRunChunk(tx, &next)
			return more, err
		})
		if err != nil {
			return err
		}
		e = next
	}
	return nil
}

// eraseRunChunk erases some rows of the user's newest run that is not done yet.
// It reports whether there is more to do.
func eraseRunChunk(tx *Tx, e *pendingErasure) (more bool, err error) {
	var runID int64
	key := runKey{ws: e.ws}
	err = tx.get(`SELECT id, uuid FROM runs WHERE workspace_id = $1 AND user_id = $2 AND uuid < $3 ORDER BY uuid DESC LIMIT 1`,
		[]any{e.ws, e.id, e.beforeRun[:]}, &runID, &key.id)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	if err := endErased(tx, key); err != nil {
		return true, err
	}
	if n, _, err := expirePayloads(tx, runID, upkeepChunk); err != nil || n > 0 {
		return true, err
	}
	last, left, err := erasePayloads(tx, e.ws, runID, e.after)
	if err != nil || left {
		e.after = last
		return true, err
	}
	// Models and tools stay with the figures.
	n, err := tx.exec(`DELETE FROM run_terms WHERE run_id = $1 AND kind = $2 AND term IN
		(SELECT term FROM run_terms WHERE run_id = $1 AND kind = $2 LIMIT $3)`, runID, int64(termWord), int64(upkeepChunk))
	if err != nil || n > 0 {
		return true, err
	}
	n, err = tx.exec(`DELETE FROM idempotency_keys WHERE workspace_id = $1 AND run_id = $2 AND key IN
		(SELECT key FROM idempotency_keys WHERE workspace_id = $1 AND run_id = $2 LIMIT $3)`, e.ws, runID, int64(upkeepChunk))
	if err != nil || n > 0 {
		return true, err
	}
	if _, err := tx.exec(`DELETE FROM run_metadata WHERE run_id = $1`, runID); err != nil {
		return true, err
	}
	if err := eraseTags(tx, key); err != nil {
		return true, err
	}
	if _, err := tx.exec(`UPDATE runs SET title = NULL WHERE workspace_id = $1 AND id = $2 AND title IS NOT NULL`, e.ws, runID); err != nil {
		return true, err
	}
	e.beforeRun, e.after = key.id, erasedStep{}
	return true, tx.execOne(`UPDATE erasures SET before_run = $3 WHERE workspace_id = $1 AND user_id = $2`, e.ws, e.id, key.id[:])
}

// erasedStep is where a step is in its run, whose texts were erased.
type erasedStep struct {
	segment int64
	step    uuid.UUID
}

// erasePayloads drops the texts of some steps of a run that come after one, and
// returns the last of them; more says whether to go on from there.
func erasePayloads(tx *Tx, ws WorkspaceKey, runID int64, after erasedStep) (last erasedStep, more bool, err error) {
	var steps []erasedStep
	var texts []payloadsOf
	err = tx.each(`SELECT segment, uuid, input_payload, report_payload FROM run_steps
		WHERE run_id = $1 AND segment >= $2 AND (segment, uuid) > ($2, $3)
			AND (input_payload IS NOT NULL OR report_payload IS NOT NULL) ORDER BY segment, uuid LIMIT $4`,
		[]any{runID, after.segment, after.step[:], int64(upkeepChunk)}, func(rows scanner) error {
			var s erasedStep
			var p payloadsOf
			err := rows.Scan(&s.segment, &s.step, &p.input, &p.report)
			steps, texts = append(steps, s), append(texts, p)
			return err
		})
	if err != nil || len(steps) == 0 {
		return after, false, err
	}
	for i, s := range steps {
		err := errors.Join(texts[i].drop(tx, ws), tx.queueOne(`UPDATE steps SET input_payload = NULL, report_payload = NULL
			WHERE segment = $1 AND run_id = $2 AND uuid = $3`, s.segment, runID, s.step[:]))
		if err != nil {
			return after, true, err
		}
	}
	return steps[len(steps)-1], true, nil
}

// endErased ends a run of an erased user that is still RUNNING.
func endErased(tx *Tx, key runKey) error {
	r, err := tx.cache.runs.get(tx, key)
	if err != nil || r.status != RunRunning {
		return err
	}
	ws, err := tx.cache.workspaces.get(tx, key.ws)
	if err != nil {
		return err
	}
	finishRun(tx, ws, r, RunFailed, EndedByDashboard)
	return nil
}

// eraseFromAudit replaces the user's name in the entries that were written
// before the erasure began, and takes the texts from them.
func (s *Store) eraseFromAudit(ctx context.Context, e pendingErasure) error {
	if e.name == nil {
		return nil
	}
	until := idFloor(e.began.Add(time.Millisecond))
	for after := uuid.Nil; ; {
		entries, last, err := s.entriesNaming(ctx, e, after, until)
		if err != nil {
			return err
		}
		of := func(AuditEntry) WorkspaceKey { return e.ws }
		err = runUpkeepEach(ctx, s, modeAside, entries, of, func(tx *Tx, entry AuditEntry) error {
			return anonymize(tx, e, entry)
		})
		if err != nil {
			return err
		}
		if last == after {
			break
		}
		after = last
	}
	return s.writeIn(ctx, e.ws, modeSQL, func(tx *Tx) error {
		return tx.execOne(`UPDATE erasures SET external_id = NULL WHERE workspace_id = $1 AND user_id = $2`, e.ws, e.id)
	})
}

// eraseFromOutbox deletes what endpoints were told, and what they are to be
// told, of a user.
func (s *Store) eraseFromOutbox(ctx context.Context, e pendingErasure) error {
	for more := true; more; {
		err := s.runUpkeep(ctx, e.ws, modeAside, func(tx *Tx) (bool, error) {
			n, err := tx.exec(`DELETE FROM deliveries WHERE id IN
				(SELECT id FROM deliveries WHERE workspace_id = $1 AND user_id = $2 LIMIT $3)`, e.ws, e.id, upkeepChunk)
			more = n == upkeepChunk
			return more, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// entriesNaming looks at some entries after an id for those of a user, and
// returns the last one that it has looked at.
func (s *Store) entriesNaming(ctx context.Context, e pendingErasure, after, until uuid.UUID) (found []AuditEntry, last uuid.UUID, err error) {
	const lookedAt = 5000
	last = after
	err = s.read(ctx, func(tx *Tx) error {
		err := tx.get(`SELECT uuid FROM (SELECT uuid FROM audit_entries WHERE workspace_id = $1 AND uuid > $2 AND uuid < $3
			ORDER BY uuid LIMIT $4) i ORDER BY uuid DESC LIMIT 1`, []any{e.ws, after[:], until[:], lookedAt}, &last)
		if err != nil {
			return ignoreNotFound(err)
		}
		return tx.each(`SELECT uuid, was, became FROM audit_entries WHERE workspace_id = $1 AND uuid > $2 AND uuid <= $3
			AND target = $4 AND action LIKE 'user.%'`, []any{e.ws, after[:], last[:], *e.name}, func(rows scanner) error {
			var entry AuditEntry
			var was, became sql.NullString
			err := rows.Scan(&entry.ID, &was, &became)
			entry.Before, entry.After = jsonOf(was), jsonOf(became)
			found = append(found, entry)
			return err
		})
	})
	return found, last, err
}

// anonymize gives an entry the user's made-up name, and takes the texts that
// people have written about them.
func anonymize(tx *Tx, e pendingErasure, entry AuditEntry) error {
	before, err := withoutTexts(entry.Before)
	if err != nil {
		return err
	}
	after, err := withoutTexts(entry.After)
	if err != nil {
		return err
	}
	// Retention may have been faster.
	_, err = tx.exec(`UPDATE audit_entries SET target = $3, was = $4, became = $5 WHERE workspace_id = $1 AND uuid = $2`,
		e.ws, entry.ID[:], e.pseudonym, nullJSON(before), nullJSON(after))
	return err
}

// withoutTexts drops the attributes of an entry that are texts.
func withoutTexts(object []byte) ([]byte, error) {
	if object == nil {
		return nil, nil
	}
	var all attributes
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, fmt.Errorf("read an entry of the audit log: %w", err)
	}
	for name, value := range all {
		if _, isText := value.(string); isText {
			delete(all, name)
		}
	}
	return json.Marshal(all)
}

// pauseWriter runs prepare beside the writes, and then fn while none is under
// way, unless the store is closed.
func (s *Store) pauseWriter(ctx context.Context, prepare func(), fn func() (bool, error)) (done bool, err error) {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return false, ErrClosed
	}
	prepare()
	select {
	case s.writerLock <- struct{}{}:
		defer func() { <-s.writerLock }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	return fn()
}

// Space says how much of the database file is in use.
type Space struct {
	FileBytes int64
	FreeBytes int64 // unused pages of the file, filled by later writes
	CanShrink bool  // upkeep gives free pages back to the disk
}

// Space reads how much of the file is in use.
func (s *Store) Space(ctx context.Context) (space Space, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		space, err = s.engine.space(tx)
		return err
	})
	return space, err
}

// Shrink gives pages that are not needed soon back to the file system, and returns their number. It
// runs as upkeep.
func (s *Store) Shrink(ctx context.Context) (pages int, err error) {
	space, err := s.Space(ctx)
	if err != nil || !space.CanShrink {
		return 0, err
	}
	for more := true; more; {
		err := s.runUpkeep(ctx, noWorkspace, modeAside, func(tx *Tx) (bool, error) {
			n, err := s.engine.shrink(tx)
			pages, more = pages+n, n > 0
			return more, err
		})
		if err != nil {
			return pages, fmt.Errorf("shrink the file: %w", err)
		}
	}
	if pages == 0 {
		return 0, nil
	}
	if err := s.engine.finishShrink(ctx, s.pauseWriter); err != nil {
		return pages, fmt.Errorf("shrink the file: %w", err)
	}
	return pages, nil
}

// A start that is denied makes its user known, so that whoever sends names
// could fill the table with them. Retention deletes a user of whom nothing is
// left: no run, none ever allowed (so no figure either), and no block.

// unusedUser is a user who looked unused.
type unusedUser struct {
	idKey
	name string
}

// unusedCondition is true of an unused user u.
const unusedCondition = `u.run_count = 0 AND u.blocked_at IS NULL
	AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.workspace_id = u.workspace_id AND r.user_id = u.id)`

// expireUsers deletes unused users whom nobody has seen for the time that their
// workspace keeps history. Readers look for them, so that the writer is only
// asked for those that there are.
func (s *Store) expireUsers(ctx context.Context, kept []retention) error {
	days := make(map[WorkspaceKey]int64, len(kept))
	for _, k := range kept {
		days[k.ws] = k.days
	}
	for after := int64(0); ; {
		found, last, err := s.unusedUsers(ctx, after)
		if err != nil || last == after {
			return err
		}
		after = last
		of := func(u unusedUser) WorkspaceKey { return u.ws }
		err = runUpkeepEach(ctx, s, modeSQL, found, of, func(tx *Tx, u unusedUser) error {
			return expireUser(tx, u, tx.now.AddDate(0, 0, -int(days[u.ws])))
		})
		if err != nil {
			return err
		}
	}
}

// unusedUsers looks at the users after an id, and returns the last one that it has looked at.
func (s *Store) unusedUsers(ctx context.Context, after int64) (found []unusedUser, last int64, err error) {
	const lookedAt = 5000
	err = s.read(ctx, func(tx *Tx) error {
		err := tx.get(`SELECT coalesce(max(id), $1) FROM (SELECT id FROM users WHERE id > $1 ORDER BY id LIMIT $2) i`,
			[]any{after, lookedAt}, &last)
		if err != nil {
			return err
		}
		return tx.each(`SELECT u.workspace_id, u.id, u.external_id FROM users u WHERE u.id > $1 AND u.id <= $2 AND `+unusedCondition,
			[]any{after, last}, func(row scanner) error {
				var u unusedUser
				err := row.Scan(&u.ws, &u.id, &u.name)
				found = append(found, u)
				return err
			})
	})
	return found, last, err
}

// expireUser looks again: the user may have come back since.
func expireUser(tx *Tx, u unusedUser, before time.Time) error {
	n, err := tx.exec(`DELETE FROM users AS u WHERE u.id = $1 AND u.workspace_id = $2
		AND coalesce(u.last_seen_at, u.created_at) < $3 AND `+unusedCondition, u.id, u.ws, before.UnixMilli())
	if err != nil || n == 0 {
		return err
	}
	tx.cache.users.remove(u.idKey)
	tx.cache.userIDs.remove(nameKey{u.ws, u.name})
	return nil
}
