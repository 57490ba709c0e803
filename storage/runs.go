package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
)

// NewRun is what an agent says when it asks to start.
type NewRun struct {
	UserID   string
	Metadata []byte // JSON object, or nil
	// What the server changed in the body, for the record.
	Repairs     Repairs
	Idempotency Idempotency

	title string // taken from the metadata
	tags  []Tag
}

// StartRun decides whether a run may begin, and records it: RUNNING, or born BLOCKED.
func (s *Store) StartRun(ctx context.Context, c Caller, in NewRun, decide Decider) (a Answer, err error) {
	in.read() // here, so that the writer need not
	err = s.decideWithPolicies(ctx, knownCall{Caller: c}, func(tx *Tx, e *policyEvaluation) error {
		a, err = startRun(tx, c, in, decide, e)
		return err
	})
	return a, err
}

// read takes from the metadata what is stored apart.
func (in *NewRun) read() { in.title, in.tags = titleOf(in.Metadata), tagsOf(in.Metadata) }

// startRun does StartRun's work within the writer's transaction: the replay of an earlier answer
// first, then the user, the rules, the policies, the rows, and at last what is cached.
func startRun(tx *Tx, c Caller, in NewRun, decide Decider, e *policyEvaluation) (Answer, error) {
	ws, err := authorize(tx, c)
	if err != nil {
		return Answer{}, err
	}
	if first, err := replay(tx, ws.key, 0, in.Idempotency); err != nil || first != nil {
		return Answer{Replay: first}, err
	}
	userID, err := findUser(tx, ws.key, in.UserID)
	if err != nil {
		return Answer{}, err
	}
	state, err := loadState(tx, ws, userID)
	if err != nil {
		return Answer{}, err
	}
	d := decide(guard.Request{Kind: guard.Start, At: tx.now}, state.guardState())
	if state.user == nil {
		if state, err = addUser(tx, ws, in.UserID); err != nil {
			return Answer{}, err
		}
	}
	var call *policyCall
	if d.Allowed() {
		if call, d, err = decidePoliciesForStart(tx, ws, state.user.id, in, e, d); err != nil {
			return Answer{}, err
		}
	}
	local, err := ws.localDay(tx)
	if err != nil {
		return Answer{}, err
	}
	said, err := call.record(tx, d)
	if err != nil {
		return Answer{}, err
	}
	id, run, err := insertRun(tx, c, state.user.id, local, in, d, said)
	if err != nil {
		return Answer{}, err
	}
	if err := state.loadStarts(tx, c.Key, run, local); err != nil {
		return Answer{}, err
	}
	a := Answer{ID: id, Status: run.status.String(), Decision: d}
	if err := saveAnswer(tx, ws.key, 0, in.Idempotency, a); err != nil {
		return Answer{}, err
	}
	tx.cache.runs.put(tx, runKey{ws.key, id}, run)
	if call != nil {
		call.book(tx)
	}
	state.countStart(tx, run.id, d.Allowed())
	return a, nil
}

// addUser inserts a user who is seen for the first time.
func addUser(tx *Tx, ws *cachedWorkspace, externalID string) (decisionState, error) {
	id, err := insertUser(tx, ws.key, externalID)
	if err != nil {
		return decisionState{}, err
	}
	return loadState(tx, ws, id)
}

// insertRun stores the run. A denied start is a row too, with status BLOCKED: it counts as a
// denial, and the page of runs shows it. said is what policies have said of it.
func insertRun(
	tx *Tx, c Caller, userID int64, local sql.NullInt64, in NewRun, d guard.Decision, said string,
) (uuid.UUID, *cachedRun, error) {
	id, now := newID(tx.now), tx.now.UnixMilli()
	r := &cachedRun{userID: userID, keyID: c.Key, status: RunRunning, lastCallAt: now}
	if !d.Allowed() {
		r.status, r.denyReason, r.endedAt = RunBlocked, d.Reason, now
	}
	err := tx.get(`INSERT INTO runs (uuid, workspace_id, user_id, status, deny_reason, started_at, ended_at, last_call_at,
			step_count, blocked_step_count, prompt_tokens, completion_tokens, spend_nanos, title, key_id, local_day,
			policies)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $6, 0, 0, 0, 0, 0, $8, $9, $10, $11) RETURNING id`,
		[]any{
			id[:], c.Workspace, userID, int64(r.status), nullZero(int64(r.denyReason)), now, nullZero(r.endedAt), nullString(in.title),
			nullZero(int64(c.Key)), local, nullString(said),
		}, &r.id)
	if err != nil {
		return id, r, err
	}
	if !d.Allowed() {
		if err := recordDenial(tx, c.Workspace, r.id, nil, d); err != nil {
			return id, r, err
		}
	}
	if err := saveTags(tx, c.Workspace, r, id, in.tags); err != nil {
		return id, r, err
	}
	if err := saveRepairs(tx, r.id, nil, in.Repairs); err != nil || in.Metadata == nil {
		return id, r, err
	}
	err = tx.queue(`INSERT INTO run_metadata (run_id, metadata) VALUES ($1, $2)`, r.id, string(in.Metadata))
	return id, r, err
}

// countStart counts a run's start in every counter that it moves.
func (d decisionState) countStart(tx *Tx, runID int64, allowed bool) {
	c := Change{Workspace: d.ws.key, Kind: RunStarted, Run: runID}
	d.user.markSeen(tx, boolInt(allowed))
	if allowed {
		d.ws.runningRuns++
		tx.cache.markDirty(d.ws)
	} else {
		c.Kind = RunDenied
	}
	for i := range d.starts {
		if s := &d.starts[i]; s.day != nil {
			s.count(tx, boolInt(allowed), boolInt(!allowed))
		}
	}
	tx.recordChange(c)
}

// RunEnd says how a run ended.
type RunEnd struct {
	ID      uuid.UUID
	Status  RunStatus
	EndedAt time.Time
}

// EndRun ends a run. Asking again for the same end answers the first one;
// asking for another is an *EndedError, unless the server itself had ended
// the run as idle: the caller knows better.
func (s *Store) EndRun(ctx context.Context, c Caller, id uuid.UUID, status RunStatus, by EndedBy) (end RunEnd, err error) {
	err = s.writeCall(ctx, knownCall{Caller: c, run: id}, func(tx *Tx) error {
		end, err = endRun(tx, c, id, status, by)
		return err
	})
	return end, err
}

// endRun ends a run. Ending it again with the same status changes nothing; an agent's own end
// replaces that of the idle timeout, which only guessed.
func endRun(tx *Tx, c Caller, id uuid.UUID, status RunStatus, by EndedBy) (RunEnd, error) {
	ws, r, err := authorizeReport(tx, c, id)
	if err != nil {
		return RunEnd{}, err
	}
	overIdle := r.endedBy == EndedByIdle && by != EndedByIdle
	switch {
	case r.status == RunRunning:
		user, err := tx.cache.users.get(tx, idKey{ws.key, r.userID})
		if err != nil {
			return RunEnd{}, err
		}
		closing, err := closeReviews(tx, ws.key, Cancelled, ofRun, r.id)
		if err != nil {
			return RunEnd{}, err
		}
		closing.apply(tx)
		finishRun(tx, ws, r, status, by)
		user.markSeen(tx, 0)
	case overIdle:
		r.setStatus(tx, status, by)
		tx.recordChange(Change{Workspace: ws.key, Kind: RunEnded, Run: r.id})
	case r.status != status:
		return RunEnd{}, &EndedError{Status: r.status}
	}
	return RunEnd{ID: id, Status: status, EndedAt: time.UnixMilli(r.endedAt).UTC()}, nil
}

// touch moves the last call of a RUNNING run to now, which restarts its idle timeout.
func (r *cachedRun) touch(tx *Tx) {
	if r.status == RunRunning {
		r.lastCallAt = tx.now.UnixMilli()
		tx.cache.markDirty(r)
	}
}

// setStatus ends a run, or changes how it ended.
func (r *cachedRun) setStatus(tx *Tx, status RunStatus, by EndedBy) {
	r.status, r.endedAt, r.endedBy, r.statusChanged = status, tx.now.UnixMilli(), by, true
	tx.cache.markDirty(r)
}

// finishRun takes a run out of RUNNING: its slot is free again, and its open steps are abandoned by
// that.
func finishRun(tx *Tx, ws *cachedWorkspace, r *cachedRun, status RunStatus, by EndedBy) {
	r.openSteps = nil // few are reported on any more
	r.setStatus(tx, status, by)
	ws.runningRuns--
	tx.cache.markDirty(ws)
	tx.recordChange(Change{Workspace: ws.key, Kind: RunEnded, Run: r.id})
}

// Heartbeat marks a run as alive and decides whether it may go on. It records no step.
func (s *Store) Heartbeat(ctx context.Context, c Caller, id uuid.UUID, decide Decider) (a Answer, err error) {
	err = s.writeCall(ctx, knownCall{Caller: c, run: id}, func(tx *Tx) error {
		_, r, state, err := loadRunState(tx, c, id)
		if err != nil {
			return err
		}
		a = Answer{ID: id, Status: r.status.String()}
		a.Decision = decide(guard.Request{Kind: guard.Heartbeat, At: tx.now}, state)
		r.touch(tx)
		return nil
	})
	return a, err
}

// RepairRun records that a call on a run was repaired that records nothing else.
func (s *Store) RepairRun(ctx context.Context, c Caller, run uuid.UUID, r Repairs) error {
	return s.writeCall(ctx, knownCall{Caller: c, run: run}, func(tx *Tx) error {
		_, c, err := authorizeReport(tx, c, run)
		if err != nil {
			return err
		}
		return saveRepairs(tx, c.id, nil, r)
	})
}

// saveRepairs adds to what is recorded of a step, or of the run itself when
// step is nil. Hardly any call needs it, so it is no column of theirs.
func saveRepairs(tx *Tx, runID int64, step []byte, r Repairs) error {
	if r == 0 {
		return nil
	}
	if step == nil {
		step = []byte{}
	}
	err := tx.queue(`INSERT INTO repairs (run_id, step_uuid, fields) VALUES ($1, $2, $3)
		ON CONFLICT (run_id, step_uuid) DO UPDATE SET fields = repairs.fields | excluded.fields`, runID, step, int64(r))
	return err
}

// maxTitle is how many characters a run's title has at most.
const maxTitle = 120

// titleKeys are where callers write what a run does, the most telling first.
func titleKeys() []string {
	return []string{"title", "task", "name", "prompt", "goal", "query", "agent"}
}

// titleOf takes the first words of what a run does from its metadata, so that
// lists can show them without reading it: the text under one of titleKeys,
// else the first text in the object; "" when there is none.
func titleOf(metadata []byte) string {
	if len(metadata) == 0 {
		return ""
	}
	texts, first := topTexts(metadata)
	for _, key := range titleKeys() {
		if title := firstWordsOf(texts[key]); title != "" {
			return title
		}
	}
	return first
}

// topTexts reads the texts of a JSON object by name, and the words of the first
// that has any. What is no object has none.
func topTexts(object []byte) (texts map[string]string, first string) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, ""
	}
	texts = make(map[string]string)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return texts, first
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return texts, first
		}
		var text string
		if value[0] != '"' || json.Unmarshal(value, &text) != nil {
			continue
		}
		texts[key.(string)] = text
		if first == "" {
			first = firstWordsOf(text)
		}
	}
	return texts, first
}

// firstWordsOf folds white space and control characters, and cuts what is
// longer than a title. It reads no more of a text than it needs.
func firstWordsOf(text string) string {
	var b strings.Builder
	n, gap := 0, false
	for _, r := range text {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			gap = n > 0
			continue
		}
		if gap {
			b.WriteByte(' ')
			n, gap = n+1, false
		}
		b.WriteRune(r)
		if n++; n > maxTitle {
			return cutTitle([]rune(b.String()))
		}
	}
	return b.String()
}

// cutTitle ends a text that is too long with an ellipsis, between two words
// unless that would lose more than a third.
func cutTitle(text []rune) string {
	cut := text[:maxTitle-1]
	for i := len(cut) - 1; i >= maxTitle*2/3; i-- {
		if cut[i] == ' ' {
			cut = cut[:i]
			break
		}
	}
	return strings.TrimRight(string(cut), " ") + "…"
}

// shortHash is the part of an action's hash that a run's history keeps: 8 bytes are enough to count
// repeats.
func shortHash(hash [sha256.Size]byte) uint64 { return binary.BigEndian.Uint64(hash[:]) }

// saveHistory stores the hashes of the run's latest actions, the oldest first, 8 bytes each.
func (r *cachedRun) saveHistory(tx *Tx) error {
	history := make([]byte, 0, 8*len(r.facts.history))
	for _, hash := range r.facts.history {
		history = binary.BigEndian.AppendUint64(history, hash)
	}
	err := tx.queue(`INSERT INTO run_actions (run_id, history) VALUES ($1, $2)
		ON CONFLICT (run_id) DO UPDATE SET history = excluded.history`, r.id, history)
	return err
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
		err := s.writeIn(ctx, ws, modeCached, func(tx *Tx) (err error) {
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

// find lists the runs to end: those named, or those that have been silent. It reads one more than
// may be ended, so that the caller can tell that there are too many.
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
	closings := make([]reviewsClosing, len(runs))
	for i, r := range runs {
		if closings[i], err = closeReviews(tx, ws.key, Cancelled, ofRun, r.id); err != nil {
			return nil, err
		}
	}
	for i := range closings {
		closings[i].apply(tx)
	}
	for _, r := range runs {
		finishRun(tx, ws, r, in.Status, in.By)
	}
	return ended, nil
}
