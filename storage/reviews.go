package storage

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
)

// Resolution is how a review has ended. The values are stored: never renumber.
type Resolution uint8

// How reviews end; 0 is pending.
const (
	Approved   Resolution = 1
	Refused    Resolution = 2 // by a person
	Expired    Resolution = 3 // nobody has said anything in time
	Cancelled  Resolution = 4 // the step is no longer possible: kill switch, blocked user, end of the run
	Superseded Resolution = 5 // the policy has changed
	Bypassed   Resolution = 6 // the agent has not waited
)

// resolutions are the names of the Resolution values, in their order.
func resolutions() []string {
	return []string{"approved", "denied", "expired", "cancelled", "superseded", "bypassed"}
}

// String is the word that the API uses; "" while it is pending.
func (r Resolution) String() string {
	if r == 0 {
		return ""
	}
	return enumName("resolution", int(r), resolutions()...)
}

// Status is what agents read: pending, approved, or denied for everything else.
func (r Resolution) Status() string {
	switch r {
	case 0:
		return "pending"
	case Approved:
		return "approved"
	default:
		return "denied"
	}
}

// reason is why the step is then denied.
func (r Resolution) reason() guard.Reason {
	switch r {
	case Refused:
		return guard.ReviewDenied
	case Expired:
		return guard.ReviewExpired
	default:
		return guard.ReviewCancelled
	}
}

// waiterSilence is after how long without a poll nobody waits for a review any
// more. The published client polls every 2 seconds, a long poll lasts up to 25.
const waiterSilence = 40 * time.Second

// pollInterval is how often polls of one review are recorded.
const pollInterval = 2 * time.Second

// pendingReview is a review as the writer resolves it.
type pendingReview struct {
	id, runID, segment    int64
	uuid                  uuid.UUID
	run, step             uuid.UUID
	policyID, version     int64
	resolution            Resolution
	requestedAt           int64 // milliseconds
	expiresAt, lastPollAt int64
}

// waits reports whether somebody has shown lately to wait for the review.
func (p *pendingReview) waits(now time.Time) bool {
	return now.UnixMilli()-max(p.requestedAt, p.lastPollAt) <= waiterSilence.Milliseconds()
}

// selectPendingReview reads what scanPendingReview scans.
const selectPendingReview = `SELECT v.id, v.uuid, v.run_id, v.segment, r.uuid, v.step_uuid, v.policy_id, v.policy_version,
		v.resolution, v.expires_at, coalesce(v.last_poll_at, 0)
	FROM reviews v JOIN runs r ON r.id = v.run_id `

// scanPendingReview scans what the writer needs in order to resolve a review. When it was asked for
// is in its UUIDv7.
func scanPendingReview(rows scanner) (p pendingReview, err error) {
	err = rows.Scan(&p.id, &p.uuid, &p.runID, &p.segment, &p.run, &p.step, &p.policyID, &p.version,
		&p.resolution, &p.expiresAt, &p.lastPollAt)
	p.requestedAt = idMillis(p.uuid)
	return p, err
}

// findReview reads a review inside the writer.
func findReview(tx *Tx, ws WorkspaceKey, id uuid.UUID) (p pendingReview, err error) {
	err = tx.each(selectPendingReview+`WHERE v.workspace_id = $1 AND v.uuid = $2`, []any{ws, id[:]}, func(rows scanner) (err error) {
		p, err = scanPendingReview(rows)
		return err
	})
	if err == nil && p.id == 0 {
		err = ErrNotFound
	}
	return p, err
}

// requestReview has the step that was just inserted wait for a person.
func requestReview(tx *Tx, ws *cachedWorkspace, r *cachedRun, row stepRow, call *policyCall) (id uuid.UUID, err error) {
	id = newID(tx.now)
	rule := call.rule(row.Decision.Policy.ID)
	_, err = tx.exec(`INSERT INTO reviews (uuid, workspace_id, run_id, segment, step_uuid, policy_id, policy_version,
			resolution, action_hash, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9)`,
		id[:], ws.key, r.id, row.segment, row.ID[:], rule.ID, rule.Version, call.hash[:],
		tx.now.UnixMilli()+rule.Review.ExpiresSeconds*1000)
	if err != nil {
		return id, err
	}
	return id, tx.notify(ws.key, notification{kind: ReviewRequested, user: r.userID, data: attributes{
		"review_id": id, "run_id": call.facts.Run, "step_id": row.ID, "user_id": call.facts.User,
		"policy_name": rule.Name, "message": rule.Message, "type": row.Type.String(),
		"tool_name": row.ToolName, "model": row.Model, "expires_at": tx.now.Add(time.Duration(rule.Review.ExpiresSeconds) * time.Second),
	}})
}

// reviewsClosing is reviews whose rows are resolved, and what is to change in
// the cache for it when nothing can fail any more.
type reviewsClosing struct {
	ws    *cachedWorkspace
	steps []closingStep

	unblocked *cachedRun    // of a refused step that was executed all the same; else nil
	calls     limitPostings // of it
}

// closingStep is a step whose review is resolved, with what apply changes in the cache.
type closingStep struct {
	pendingReview
	as     Resolution
	run    *cachedRun
	limits limitPostings
}

// ofRun selects the reviews of a run by its internal id.
const ofRun = `v.run_id = $2`

// closeReviews resolves the pending reviews of a workspace that a condition on v
// and r selects, by its argument $2.
func closeReviews(tx *Tx, ws WorkspaceKey, as Resolution, condition string, arg any) (c reviewsClosing, err error) {
	if c.ws, err = tx.cache.workspaces.get(tx, ws); err != nil || c.ws.pendingReviews == 0 {
		return c, err
	}
	var pending []pendingReview
	err = tx.each(selectPendingReview+`WHERE v.workspace_id = $1 AND v.resolution = 0 AND `+condition, []any{ws, arg},
		func(rows scanner) error {
			p, err := scanPendingReview(rows)
			pending = append(pending, p)
			return err
		})
	for _, p := range pending {
		if err == nil {
			err = c.resolve(tx, p, as, "", nil)
		}
	}
	return c, err
}

// resolve writes how a review has ended, and what becomes of its step.
func (c *reviewsClosing) resolve(tx *Tx, p pendingReview, as Resolution, by string, note *string) error {
	r, err := tx.cache.runs.get(tx, runKey{c.ws.key, p.run})
	if err != nil {
		return err
	}
	err = tx.execOne(`UPDATE reviews SET resolution = $2, decided_at = $3, decided_by = $4, note = $5 WHERE id = $1`,
		p.id, int64(as), tx.now.UnixMilli(), nullString(by), note)
	if err != nil {
		return err
	}
	closing := closingStep{pendingReview: p, as: as, run: r}
	status := StepRunning
	if as != Approved && as != Bypassed {
		status = StepBlocked
		var said sql.NullString
		err := tx.get(`SELECT policies FROM steps WHERE segment = $1 AND run_id = $2 AND uuid = $3`,
			[]any{p.segment, p.runID, p.step[:]}, &said)
		if err != nil {
			return err
		}
		if closing.limits, err = callPostings(tx, c.ws, said.String, -1); err != nil {
			return err
		}
		if err := denyReviewed(tx, c.ws.key, p, as.reason()); err != nil {
			return err
		}
	}
	if as != Bypassed { // whose report writes the step
		err = tx.execOne(`UPDATE steps SET status = $4 WHERE segment = $1 AND run_id = $2 AND uuid = $3`,
			p.segment, p.runID, p.step[:], int64(status))
	}
	if err != nil {
		return err
	}
	c.steps = append(c.steps, closing)
	return p.tell(tx, c.ws.key, r.userID, as, by, note)
}

// tell has the workspace's endpoints be told how a review has ended.
func (p *pendingReview) tell(tx *Tx, ws WorkspaceKey, user int64, as Resolution, by string, note *string) error {
	kind := ReviewDecided
	switch as {
	case Expired:
		kind = ReviewExpired
	case Bypassed:
		kind = ReviewBypassed
	}
	return tx.notify(ws, notification{kind: kind, user: user, data: attributes{
		"review_id": p.uuid, "run_id": p.run, "step_id": p.step, "status": as.Status(), "resolution": as.String(),
		"decided_by": by, "note": note,
	}})
}

// denyReviewed records the denial of a step that had waited, on the day on which it was asked for.
func denyReviewed(tx *Tx, ws WorkspaceKey, p pendingReview, reason guard.Reason) error {
	_, err := tx.exec(`INSERT INTO denials (run_id, step_uuid, reason, limit_value, used_value, policy_id, policy_version)
		VALUES ($1, $2, $3, 0, 0, $4, $5)`, p.runID, p.step[:], int64(reason), p.policyID, p.version)
	if err != nil {
		return err
	}
	return countDenial(tx, ws, floorDiv(idMillis(p.step), millisPerDay), reason)
}

// apply changes the cache.
func (c *reviewsClosing) apply(tx *Tx) {
	for _, s := range c.steps {
		c.ws.pendingReviews--
		tx.cache.markDirty(c.ws)
		s.run.evictStep(s.step)
		if s.as != Approved && s.as != Bypassed {
			s.run.blockedStepCount++
			s.run.denyReason, s.run.statusChanged = s.as.reason(), true
		}
		tx.cache.markDirty(s.run)
		s.limits.book(tx)
		tx.recordChange(Change{Workspace: c.ws.key, Kind: ReviewResolved, Run: s.runID, Step: s.step, Review: s.uuid, As: s.as})
		tx.cache.reviewsDecided = true
	}
	if c.unblocked != nil {
		c.unblocked.blockedStepCount--
		tx.cache.markDirty(c.unblocked)
		c.calls.book(tx)
	}
}

// broadcast wakes all who wait for the next decision of a review.
type broadcast struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns a channel that is closed with the next notify.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// notify wakes everybody who waits.
func (b *broadcast) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// ReviewsDecided returns a channel that is closed when this process has next
// committed a decision of some review.
func (s *Store) ReviewsDecided() <-chan struct{} { return s.reviewsDecided.wait() }

// PollReview reads a review for an agent that waits for it, which is a sign of
// life of its run. A review whose time is over is resolved first, so that what
// is answered is true. Where nothing can be written now, the review is answered
// as it was.
func (s *Store) PollReview(ctx context.Context, ws WorkspaceKey, id uuid.UUID) (Review, error) {
	rv, err := s.Review(ctx, ws, id)
	if err != nil || rv.Resolution != 0 {
		return rv, err
	}
	now := s.now()
	if now.Sub(rv.LastPollAt) < pollInterval && now.Before(rv.ExpiresAt) {
		return rv, nil
	}
	err = s.writeIn(ctx, ws, modeCached, func(tx *Tx) error { return pollReview(tx, ws, id) })
	if err != nil {
		return rv, nil //nolint:nilerr // the agent asks again, and a known review is never an error
	}
	return s.Review(ctx, ws, id)
}

// pollReview notes that an agent asks about its review. Who no longer asks has given up, and an
// approval would come too late. An expired review is resolved here, without waiting for the job.
func pollReview(tx *Tx, ws WorkspaceKey, id uuid.UUID) error {
	p, err := findReview(tx, ws, id)
	if err != nil || p.resolution != 0 {
		return err
	}
	if tx.now.UnixMilli() >= p.expiresAt {
		return expireReview(tx, ws, p)
	}
	r, err := tx.cache.runs.get(tx, runKey{ws, p.run})
	if err != nil {
		return err
	}
	if err := tx.execOne(`UPDATE reviews SET last_poll_at = $2 WHERE id = $1`, p.id, tx.now.UnixMilli()); err != nil {
		return err
	}
	r.touch(tx)
	return nil
}

// expireReview denies a step whose review nobody decided in time.
func expireReview(tx *Tx, ws WorkspaceKey, p pendingReview) error {
	w, err := tx.cache.workspaces.get(tx, ws)
	if err != nil {
		return err
	}
	c := reviewsClosing{ws: w}
	if err := c.resolve(tx, p, Expired, "", nil); err != nil {
		return err
	}
	c.apply(tx)
	return nil
}

// ExpireReviews resolves the reviews whose time is over, and returns how many.
func (s *Store) ExpireReviews(ctx context.Context) (expired int, err error) {
	type due struct {
		ws WorkspaceKey
		id uuid.UUID
	}
	var found []due
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT workspace_id, uuid FROM reviews WHERE resolution = 0 AND expires_at <= $1`,
			[]any{tx.now.UnixMilli()}, func(rows scanner) error {
				var d due
				err := rows.Scan(&d.ws, &d.id)
				found = append(found, d)
				return err
			})
	})
	for _, d := range found {
		if err == nil {
			err = s.writeIn(ctx, d.ws, modeCached, func(tx *Tx) error { return pollReview(tx, d.ws, d.id) })
			expired++
		}
	}
	return expired, err
}

// Verdict is what a person says of a review.
type Verdict struct {
	Approve bool
	Note    *string
	Grant   *NewGrant // with an approval: more of the same is allowed at once
	Channel string    // through which it came; "" for the account that is signed in
}

// DecideReview applies a verdict. A second one changes nothing and answers the
// first; so does an approval that nobody waits for any more.
func (s *Store) DecideReview(ctx context.Context, ws WorkspaceKey, id uuid.UUID, v Verdict) (Review, error) {
	actor := actorOf(ctx)
	err := s.writeIn(ctx, ws, modeCached, func(tx *Tx) error { return decideReview(tx, ws, id, v, actor) })
	if err != nil {
		return Review{}, err
	}
	return s.Review(ctx, ws, id)
}

// decideReview approves or denies a step. A review is decided once: who comes second gets the first
// decision.
func decideReview(tx *Tx, ws WorkspaceKey, id uuid.UUID, v Verdict, actor Actor) error {
	p, err := findReview(tx, ws, id)
	if err != nil || p.resolution != 0 {
		return err
	}
	if tx.now.UnixMilli() >= p.expiresAt || v.Approve && !p.waits(tx.now) {
		return expireReview(tx, ws, p)
	}
	by := v.Channel
	if by == "" {
		if err := actor.lookUpName(tx); err != nil {
			return err
		}
		by = actor.Name
	}
	c := reviewsClosing{}
	if c.ws, err = tx.cache.workspaces.get(tx, ws); err != nil {
		return err
	}
	as, action := Refused, ActionDenyReview
	if v.Approve {
		as, action = Approved, ActionApproveReview
	}
	after := attributes{"run_id": p.run, "step_id": p.step}
	if v.Note != nil {
		after["note"] = *v.Note
	}
	if v.Grant != nil && v.Approve {
		if err := insertGrant(tx, ws, p, *v.Grant, by); err != nil {
			return err
		}
		after["grant"] = v.Grant.Scope.String()
	}
	if err := recordAudit(tx, actor, auditEvent{ws: ws, action: action, target: id.String(), after: after, always: true}); err != nil {
		return err
	}
	if err := c.resolve(tx, p, as, by, v.Note); err != nil {
		return err
	}
	c.apply(tx)
	return nil
}

// reportUnapproved is called when an agent reports on a step that it should have waited
// for. What it has used is booked all the same. ErrStepBlocked when the step was
// denied without anybody being asked.
func (row *stepRow) reportUnapproved(tx *Tx, ws *cachedWorkspace, r *cachedRun, c Caller) (closing reviewsClosing, err error) {
	p := pendingReview{}
	err = tx.each(selectPendingReview+`WHERE v.run_id = $1 AND v.step_uuid = $2`, []any{r.id, row.ID[:]}, func(rows scanner) (err error) {
		p, err = scanPendingReview(rows)
		return err
	})
	if err == nil && p.id == 0 {
		err = ErrStepBlocked
	}
	if err != nil {
		return closing, err
	}
	refused := row.status == StepBlocked
	row.status = StepRunning
	closing.ws = ws
	if !refused {
		err = closing.resolve(tx, p, Bypassed, "", nil)
	} else {
		err = tx.execOne(`UPDATE reviews SET resolution = $2 WHERE id = $1`, p.id, int64(Bypassed))
		if err == nil {
			closing.calls, err = callPostings(tx, ws, row.said.String, 1)
		}
		if err == nil {
			err = p.tell(tx, ws.key, r.userID, Bypassed, "", nil)
		}
		closing.unblocked = r
	}
	if err != nil {
		return closing, err
	}
	actor := Actor{Kind: ActorKey}
	if err := tx.get(`SELECT prefix FROM api_keys WHERE id = $1`, []any{int64(c.Key)}, &actor.Name); ignoreNotFound(err) != nil {
		return closing, err
	}
	return closing, recordAudit(tx, actor, auditEvent{
		ws: ws.key, action: ActionBypassReview, target: row.ID.String(), always: true, after: attributes{"run_id": p.run},
	})
}

// RunStartedAt is when the run has begun.
func (r Review) RunStartedAt() time.Time { return idTime(r.Run) }

// RequestedAt is when the step was asked for.
func (r Review) RequestedAt() time.Time { return idTime(r.ID) }

// Waits reports whether somebody has shown lately to wait for the review.
func (r Review) Waits(now time.Time) bool {
	last := r.RequestedAt()
	if r.LastPollAt.After(last) {
		last = r.LastPollAt
	}
	return r.Resolution == 0 && now.Before(r.ExpiresAt) && now.Sub(last) <= waiterSilence
}
