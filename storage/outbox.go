package storage

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/policies"
)

// notification is an event of a workspace that its endpoints may be notified of.
type notification struct {
	kind EventKind
	user int64      // internal id of the user that data names, to erase it with them; 0 for none
	data attributes // by their names in the API; texts from agents should be short
}

// subscribesTo reports whether any endpoint of the workspace is subscribed to an event.
func (w *cachedWorkspace) subscribesTo(k EventKind) bool { return w.subscribed.Has(k) }

// notify adds the event to the outbox for each subscribed endpoint. It is sent after the commit,
// and never if the transaction is rolled back. If no endpoint is subscribed, it costs one look-up
// in the cache. It writes by SQL, in any transaction mode, so call it before cached rows change.
func (tx *Tx) notify(ws WorkspaceKey, n notification) error {
	w, err := tx.cache.workspaces.get(tx, ws)
	if err != nil || !w.subscribesTo(n.kind) {
		return err
	}
	data, err := n.encode()
	if err != nil {
		return err
	}
	return tx.enqueue(ws, newID(tx.now), n, data)
}

// enqueue inserts a delivery for each endpoint that is subscribed to the event.
func (tx *Tx) enqueue(ws WorkspaceKey, id uuid.UUID, n notification, data string) error {
	_, err := tx.exec(`INSERT INTO deliveries (endpoint_id, uuid, workspace_id, event, user_id, data, state, due_at, attempts)
		SELECT id, $2, workspace_id, $3, $4, $5, 1, $6, 0 FROM endpoints
		WHERE workspace_id = $1 AND off_at IS NULL AND (events & $7) <> 0`,
		ws, id[:], int64(n.kind), nullZero(n.user), data, tx.now.UnixMilli(), int64(EventsOf(n.kind)))
	if err != nil {
		return fmt.Errorf("write the outbox: %w", err)
	}
	tx.publisher.wakeSender()
	return nil
}

// maxNoticeValue bounds one attribute, in bytes of JSON.
const maxNoticeValue = 8 << 10

// encode returns the data as JSON. A value that is too long is replaced by its length.
func (n notification) encode() (string, error) {
	kept := make(map[string]json.RawMessage, len(n.data))
	for name, value := range n.data {
		text, err := json.Marshal(value)
		if err != nil {
			return "", fmt.Errorf("write %s of %s: %w", name, n.kind, err)
		}
		if len(text) > maxNoticeValue {
			text = fmt.Appendf(nil, `{"omitted_bytes":%d}`, len(text))
		}
		kept[name] = text
	}
	text, err := json.Marshal(kept)
	return string(text), err
}

// auditNotification returns the event for a change of the configuration. ok is false for most
// changes, of which endpoints are not notified.
func auditNotification(actor Actor, e auditEvent) (n notification, ok bool) {
	n.data = attributes{"by": attributes{"kind": actor.Kind, "name": nullString(actor.Name).String}}
	switch was, is := e.before["kill_switch"], e.after["kill_switch"]; {
	case was != nil && is != nil && was != is:
		n.kind = KillSwitchChanged
		n.data["active"], n.data["reason"] = is, e.after["reason"]
	case e.action == ActionRotateKey && e.after != nil:
		n.kind = KeyRegenerated
		n.data["prefix"], n.data["label"] = e.after["prefix"], e.after["label"]
		n.data["replaces"] = e.before["prefix"]
	case e.action == ActionSignInFailed:
		n.kind = SignInRefused
		n.data = attributes{"email": e.target, "address": nullString(actor.Address).String}
	default:
		return n, false
	}
	return n, true
}

// notifyAudit notifies endpoints of a change of the configuration. Failed sign-ins are notified
// once an hour, so that somebody who guesses passwords cannot flood the outbox.
func (tx *Tx) notifyAudit(actor Actor, e auditEvent) error {
	if e.before["daily_budget_usd"] != e.after["daily_budget_usd"] {
		ws, err := tx.cache.workspaces.get(tx, e.ws)
		if err == nil {
			err = tx.checkWorkspaceBudget(ws)
		}
		if err != nil {
			return err
		}
	}
	n, ok := auditNotification(actor, e)
	if !ok {
		return nil
	}
	if n.kind == SignInRefused {
		told, err := tx.countRecentDeliveries(e.ws, n.kind, time.Hour)
		if err != nil || told > 0 {
			return err
		}
	}
	return tx.notify(e.ws, n)
}

// OutboxWritten receives after commits of this process that wrote to the outbox. Writes of other
// processes are not signalled, so poll the outbox as well.
func (s *Store) OutboxWritten() <-chan struct{} { return s.outbox }

// DueEndpoint is an endpoint that is to be sent something.
type DueEndpoint struct {
	Key EndpointKey
	At  time.Time // when the next attempt is due
}

// DueEndpoints lists the endpoints with pending deliveries, due or not, and since when the oldest
// of all has been waiting (zero if there is none).
func (s *Store) DueEndpoints(ctx context.Context) (due []DueEndpoint, oldest time.Time, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		var first uuid.UUID
		err := tx.get(`SELECT uuid FROM deliveries WHERE due_at IS NOT NULL ORDER BY uuid LIMIT 1`, nil, &first)
		if err != nil {
			return ignoreNotFound(err)
		}
		oldest = idTime(first)
		for key := EndpointKey(0); ; { // from one endpoint to the next, however much each has pending
			var at int64
			err := tx.get(`SELECT endpoint_id, due_at FROM deliveries WHERE due_at IS NOT NULL AND endpoint_id > $1
				ORDER BY endpoint_id, due_at LIMIT 1`, []any{key}, &key, &at)
			if err != nil {
				return ignoreNotFound(err)
			}
			due = append(due, DueEndpoint{key, time.UnixMilli(at).UTC()})
		}
	})
	return due, oldest, err
}

// Delivery is a message to an endpoint, and the outcome of its last attempt.
type Delivery struct {
	ID          uuid.UUID // of the message: the same for all endpoints and all retries
	Event       EventKind
	Data        []byte // JSON object
	State       DeliveryState
	DueAt       time.Time // of the next attempt; zero if there is none
	Attempts    int64
	AttemptedAt time.Time // zero before the first attempt
	Took        time.Duration
	Sent        string // the request's body
	Status      int64  // HTTP status of the response; 0 if there was none
	Answer      string // the beginning of the response's body
	Problem     string // why the attempt failed; empty if it did not
}

// At is when the event happened.
func (d Delivery) At() time.Time { return idTime(d.ID) }

// selectDelivery reads what scanDelivery scans.
const selectDelivery = `SELECT uuid, event, data, state, due_at, attempts, attempted_at, coalesce(duration_ms, 0),
	coalesce(sent, ''), coalesce(status, 0), coalesce(answer, ''), coalesce(problem, '') FROM deliveries`

// scanDelivery scans a delivery with its latest attempt.
func scanDelivery(scan func(...any) error) (d Delivery, err error) {
	var due, attempted sql.NullInt64
	var millis int64
	err = scan(&d.ID, &d.Event, &d.Data, &d.State, &due, &d.Attempts, &attempted, &millis, &d.Sent, &d.Status, &d.Answer, &d.Problem)
	d.DueAt, d.AttemptedAt, d.Took = timeOf(due), timeOf(attempted), time.Duration(millis)*time.Millisecond
	return d, err
}

// Outgoing is what an endpoint is to be sent now.
type Outgoing struct {
	Endpoint
	Target
	Workspace  Workspace
	Deliveries []Delivery // at most as many as were asked for, those that are due first
}

// Outgoing reads what an endpoint is to be sent now. ErrEndpointOff when it is
// switched off, ErrEndpointUnreadable when it cannot be sent anything because
// the server secret has changed.
func (s *Store) Outgoing(ctx context.Context, key EndpointKey, limit int) (out Outgoing, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		out = Outgoing{}
		out.Endpoint, err = s.scanEndpoint(tx.now, func(dest ...any) error {
			return tx.get(selectEndpoint+` WHERE id = $1`, []any{key}, dest...)
		})
		switch {
		case err != nil:
			return err
		case !out.On():
			return ErrEndpointOff
		}
		if out.Target, err = s.target(out.Endpoint); err != nil {
			return err
		}
		if out.Workspace, err = workspace(tx, out.Endpoint.workspace); err != nil {
			return err
		}
		return tx.each(selectDelivery+` WHERE endpoint_id = $1 AND due_at IS NOT NULL AND due_at <= $2 ORDER BY due_at LIMIT $3`,
			[]any{key, tx.now.UnixMilli(), limit}, func(rows scanner) error {
				d, err := scanDelivery(rows.Scan)
				out.Deliveries = append(out.Deliveries, d)
				return err
			})
	})
	return out, err
}

// Attempt is the outcome of sending a message once.
type Attempt struct {
	At      time.Time
	Took    time.Duration
	Sent    string
	Status  int64
	Answer  string
	Problem string    // empty if it was delivered
	Next    time.Time // of the next attempt, after a problem; zero to give up
}

// RecordAttempt records the outcome of an attempt. It does nothing, without an error, if the
// endpoint has been deleted meanwhile.
func (s *Store) RecordAttempt(ctx context.Context, e Endpoint, message uuid.UUID, a Attempt) error {
	state := DeliveryDelivered
	switch {
	case a.Problem == "":
		a.Next = time.Time{}
	case a.Next.IsZero():
		state = DeliveryFailed
	default:
		state = DeliveryPending
	}
	return s.writeIn(ctx, e.workspace, modeAside, func(tx *Tx) error {
		_, err := tx.exec(`UPDATE deliveries SET state = $3, due_at = $4, attempts = attempts + 1, attempted_at = $5, duration_ms = $6,
				sent = $7, status = $8, answer = $9, problem = $10 WHERE endpoint_id = $1 AND uuid = $2`,
			e.key, message[:], int64(state), nullMillis(a.Next), a.At.UnixMilli(), a.Took.Milliseconds(),
			a.Sent, nullZero(a.Status), nullString(a.Answer), nullString(a.Problem))
		return err
	})
}

// SwitchOff stops sending to an endpoint, as the server's own decision.
func (s *Store) SwitchOff(ctx context.Context, e Endpoint, reason OffReason) error {
	return s.configure(ctx, e.workspace, func(tx *Tx) (auditEvent, error) {
		now, err := s.endpoint(tx, e.workspace, e.ID)
		if err != nil || !now.On() {
			return auditEvent{ws: e.workspace}, ignoreNotFound(err)
		}
		event := auditEvent{ws: e.workspace, action: ActionUpdateEndpoint, target: e.ID.String(), before: now.attributes()}
		now.OffAt, now.OffReason = tx.now, reason
		event.after = now.attributes()
		recordEndpointChange(tx, e.workspace)
		return event, tx.execOne(`UPDATE endpoints SET off_at = $2, off_reason = $3 WHERE id = $1`, e.key, tx.now.UnixMilli(), string(reason))
	})
}

// CancelDeliveries cancels what is pending for an endpoint that is switched off.
func (s *Store) CancelDeliveries(ctx context.Context, key EndpointKey) error {
	for more := true; more; {
		err := s.runUpkeep(ctx, noWorkspace, modeAside, func(tx *Tx) (bool, error) {
			n, err := tx.exec(`UPDATE deliveries SET state = $2, due_at = NULL WHERE id IN (SELECT d.id FROM endpoints e
				JOIN deliveries d ON d.endpoint_id = e.id WHERE e.id = $1 AND e.off_at IS NOT NULL AND d.due_at IS NOT NULL LIMIT $3)`,
				key, int64(DeliveryCancelled), upkeepChunk)
			more = n == upkeepChunk
			return more, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deliveryDays is how long deliveries that are settled are kept.
const deliveryDays = 14

// expireDeliveries deletes a chunk of a workspace's deliveries that are older than deliveryDays.
func expireDeliveries(tx *Tx, ws WorkspaceKey) (left bool, err error) {
	bound := daysAgo(tx, deliveryDays)
	n, err := tx.exec(`DELETE FROM deliveries WHERE id IN (SELECT d.id FROM endpoints e JOIN deliveries d ON d.endpoint_id = e.id
		WHERE e.workspace_id = $1 AND d.uuid < $2 AND d.due_at IS NULL LIMIT $3)`, ws, bound[:], upkeepChunk)
	return n == upkeepChunk, err
}

// countRecentDeliveries counts the deliveries of an event that are younger than age.
func (tx *Tx) countRecentDeliveries(ws WorkspaceKey, kind EventKind, age time.Duration) (n int64, err error) {
	since := idFloor(tx.now.Add(-age))
	err = tx.get(`SELECT count(*) FROM endpoints e JOIN deliveries d ON d.endpoint_id = e.id
		WHERE e.workspace_id = $1 AND d.uuid >= $2 AND d.event = $3`, []any{ws, since[:], int64(kind)}, &n)
	return n, err
}

// ServerAlert is a condition of the server itself. Its operator is notified: the workspace that was
// created first.
type ServerAlert struct {
	Kind   EventKind
	Firing bool
	Data   map[string]any // by the API's names
}

// Alert notifies the operator of a condition of the server: once when it begins, and once when it
// is over.
func (s *Store) Alert(ctx context.Context, a ServerAlert) error {
	var ws WorkspaceKey
	err := s.read(ctx, func(tx *Tx) error { return tx.get(`SELECT id FROM workspaces ORDER BY id LIMIT 1`, nil, &ws) })
	if err != nil {
		return ignoreNotFound(err)
	}
	return s.writeIn(ctx, ws, modeCached, func(tx *Tx) error {
		told, err := readAlert(tx, ws, a.Kind, "")
		if err != nil || a.Firing == (told.day != 0) {
			return err
		}
		w, err := tx.cache.workspaces.get(tx, ws)
		if err != nil {
			return err
		}
		data := attributes{"status": statusResolved}
		for name, value := range a.Data {
			data[name] = value
		}
		switch {
		case !a.Firing:
			err = deleteAlert(tx, ws, a.Kind, "")
		case w.subscribesTo(a.Kind):
			data["status"] = statusFiring
			err = saveAlert(tx, ws, a.Kind, "", alert{day: dayOf(tx.now)})
		default:
			return nil
		}
		if err != nil {
			return err
		}
		return tx.notify(ws, notification{kind: a.Kind, data: data})
	})
}

// limitAlert is how much of a limit one value of its scope has used, and what was told of it.
type limitAlert struct {
	limitKey
	told     alert
	policy   *policies.Policy // nil when it is off or gone, or counts anew
	used     int64
	resetsAt time.Time
}

// checkLimits tells of limits that were lowered below what is used of them, and of those that an
// endpoint is new to, for the values of their scope with the most usage; and once of the end of
// what was told.
func (s *Store) checkLimits(ctx context.Context, ws WorkspaceKey) error {
	var found []limitAlert
	err := s.read(ctx, func(tx *Tx) (err error) {
		found, err = limitAlerts(tx, ws)
		return err
	})
	if err != nil {
		return err
	}
	of := func(limitAlert) WorkspaceKey { return ws }
	return runUpkeepEach(ctx, s, modeCached, found, of, func(tx *Tx, a limitAlert) error { return a.check(tx) })
}

func limitAlerts(tx *Tx, ws WorkspaceKey) (found []limitAlert, err error) {
	told, toldErr := toldLimits(tx, ws)
	list, err := readPolicies(tx, ws, "")
	if err == nil && len(list) > 0 {
		err = addPolicyUse(tx, ws, list)
	}
	if err := errors.Join(toldErr, err); err != nil {
		return nil, err
	}
	calendar, err := readCalendar(tx, ws)
	byID := make(map[int64]*StoredPolicy, len(list))
	for i := range list {
		p := &list[i]
		byID[p.ID] = p
		for _, u := range p.Use {
			a := limitAlert{limitKey: limitKey{ws: ws, policy: p.ID, countsFrom: p.countsFrom, scope: u.Scope}, policy: &p.Policy}
			if u.user != 0 {
				a.scope = strconv.FormatInt(u.user, 10)
			}
			if _, has := told[limitSubject(a.limitKey)]; !has && p.Enabled && levelOf(u.Used, p.Limit.Amount) > 0 {
				a.used, a.resetsAt = u.Used, u.ResetsAt
				found = append(found, a)
			}
		}
	}
	for subject, was := range told {
		a := limitAlert{limitKey: limitKey{ws: ws}, told: was}
		if err == nil {
			err = a.parse(subject)
		}
		if p := byID[a.limitKey.policy]; err == nil && p != nil && p.Enabled && p.Limit != nil && p.countsFrom == a.countsFrom {
			a.policy = &p.Policy
			err = a.read(tx, calendar)
		}
		found = append(found, a)
	}
	return found, err
}

// parse reads what limitSubject has written.
func (a *limitAlert) parse(subject string) error {
	parts := strings.SplitN(subject, ":", 4)
	if len(parts) != 4 {
		return fmt.Errorf("%q is no subject of a limit", subject)
	}
	a.scope = parts[3]
	_, err := fmt.Sscan(parts[1]+" "+parts[2], &a.limitKey.policy, &a.countsFrom)
	return err
}

// read reads what is used of the limit in the window that is now. Of a run that has ended nothing
// is.
func (a *limitAlert) read(tx *Tx, c calendar) (err error) {
	f := policies.Facts{Now: tx.now}
	if a.policy.Limit.Window == policies.WindowRun {
		run, _, _ := strings.Cut(a.scope, " ")
		id, err := uuid.Parse(run)
		if err != nil {
			return err
		}
		f.StartedAt = idTime(id)
		_, status, err := findRun(tx, a.ws, id)
		if err != nil || status != RunRunning {
			return ignoreNotFound(err)
		}
	}
	first, current, next := c.buckets(a.policy.Limit, &f)
	a.bucket, a.resetsAt = current.UnixMilli(), next
	a.used, err = usedSince(tx, a.limitKey, first.UnixMilli())
	return err
}

// check compares what was told of the limit with what was read of it. A decision may have told more
// meanwhile, which then stands.
func (a *limitAlert) check(tx *Tx) error {
	ws, err := tx.cache.workspaces.get(tx, a.ws)
	if err != nil {
		return err
	}
	told, err := readAlert(tx, a.ws, BudgetThreshold, limitSubject(a.limitKey))
	if err != nil || told != a.told {
		return err
	}
	if a.policy != nil && levelOf(a.used, a.policy.Limit.Amount) > 0 && (told.day == 0 || told.day == windowNumber(a.policy.Limit, a.resetsAt)) {
		return tx.notifyLimit(ws, a.policy, a.limitKey, a.resetsAt, 0, a.used)
	}
	return a.resolve(tx)
}

func (a *limitAlert) resolve(tx *Tx) error {
	if err := deleteAlert(tx, a.ws, BudgetThreshold, limitSubject(a.limitKey)); err != nil {
		return err
	}
	n := notification{kind: BudgetThreshold}
	var err error
	if a.policy != nil {
		n.user = limitUser(a.policy.Limit, a.scope)
		n.data, err = limitAttributes(tx, a.ws, a.policy, a.scope, a.used, a.resetsAt)
	} else {
		var name string
		name, err = policyName(tx, a.ws, a.limitKey.policy)
		n.data = attributes{"policy_name": name}
	}
	if err != nil {
		return err
	}
	n.data["status"], n.data["percent"] = statusResolved, a.told.level
	return tx.notify(a.ws, n)
}

// deleteAlert forgets a notification: the next time it is reported again.
func deleteAlert(tx *Tx, ws WorkspaceKey, kind EventKind, subject string) error {
	_, err := tx.exec(`DELETE FROM alerts WHERE workspace_id = $1 AND event = $2 AND subject = $3`, ws, int64(kind), subject)
	return err
}

// userSubject is the subject of a user's alerts.
func userSubject(id int64) string { return "user:" + strconv.FormatInt(id, 10) }
