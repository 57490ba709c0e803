package storage

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// auditDays is how long entries are kept.
const auditDays = 365

// ActorKind is what kind of somebody has changed something.
type ActorKind string

// The kinds of actors.
const (
	ActorNobody  ActorKind = "anonymous" // nobody has proven who they are
	ActorAccount ActorKind = "account"   // a person who has signed in; named by email
	ActorKey     ActorKind = "api_key"   // an agent; named by its key's prefix
	ActorCommand ActorKind = "command"   // the operator; named by the command
	ActorStripe  ActorKind = "stripe"    // the payment service; named by the event
	ActorSystem  ActorKind = "system"    // the server itself; named by the job
	ActorChannel ActorKind = "channel"   // whoever has followed a link in a message; named by the endpoint
)

// Actor is who changes the configuration, and from where.
type Actor struct {
	Kind    ActorKind
	Name    string    // "" for nobody, and for an account whose email is to be looked up
	Account uuid.UUID // of an account without a name
	Address string    // "" for what came over no network
}

// actorKey is the key of a context's Actor.
type actorKey struct{}

// WithActor says who makes the changes that are asked for with a context. It
// is the only way to say it, so that no call can say it twice or forget to
// pass it on; without it a change is the system's.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// actorOf returns who is behind a write. A context without an actor is the server's own: a job, or
// a command on the machine.
func actorOf(ctx context.Context) Actor {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok {
		return a
	}
	return Actor{Kind: ActorSystem}
}

// Action is what an entry says was done.
type Action string

// The actions, in alphabetical order.
const (
	// Of an account: whoever signs in, or tries to.
	ActionChangePassword       Action = "account.change_password"
	ActionChangePasswordFailed Action = "account.change_password_failed"
	ActionEndOtherSessions     Action = "account.end_other_sessions"
	ActionEndSession           Action = "account.end_session"
	ActionRegister             Action = "account.register"
	ActionSetPassword          Action = "account.set_password"
	ActionSignIn               Action = "account.sign_in"
	ActionSignInFailed         Action = "account.sign_in_failed"
	ActionSignOut              Action = "account.sign_out"
	ActionSignOutEverywhere    Action = "account.sign_out_everywhere"
	// Of API keys. The target is the key's prefix.
	ActionCreateKey Action = "api_key.create"
	ActionRotateKey Action = "api_key.regenerate"
	ActionRevokeKey Action = "api_key.revoke"
	ActionRenameKey Action = "api_key.update"
	// Of endpoints for notifications. The target is the endpoint's id.
	ActionCreateEndpoint     Action = "endpoint.create"
	ActionDeleteEndpoint     Action = "endpoint.delete"
	ActionRollEndpointSecret Action = "endpoint.roll_secret"
	ActionUpdateEndpoint     Action = "endpoint.update"
	// Of grants, which let calls pass without a review.
	ActionRevokeGrant Action = "grant.revoke"
	// Of prices. The target is the model.
	ActionReprice  Action = "model_price.reprice"
	ActionSetPrice Action = "model_price.set"
	// Of policies. The target is the policy's name.
	ActionDeletePolicy Action = "policy.delete"
	ActionSetPolicy    Action = "policy.set"
	// Of reviews. A bypass is recorded under the key of the agent that did not wait.
	ActionApproveReview Action = "review.approve"
	ActionBypassReview  Action = "review.bypass"
	ActionDenyReview    Action = "review.deny"
	// Of runs that were ended together. A run's own end is in the ledger.
	ActionEndRuns Action = "run.end_many"
	// Of users. The target is the user, until it is erased.
	ActionBlockUser   Action = "user.block"
	ActionEraseUser   Action = "user.erase"
	ActionUnblockUser Action = "user.unblock"
	// Of the workspace itself.
	ActionKillSwitch Action = "workspace.kill_switch"
	ActionPlan       Action = "workspace.plan"
	ActionUpdate     Action = "workspace.update"
)

// Actions lists all of them.
func Actions() []Action {
	return []Action{
		ActionChangePassword, ActionChangePasswordFailed, ActionRegister, ActionSetPassword, ActionSignIn, ActionSignInFailed,
		ActionSignOut, ActionSignOutEverywhere, ActionEndOtherSessions, ActionEndSession,
		ActionCreateKey, ActionRotateKey, ActionRevokeKey, ActionRenameKey,
		ActionCreateEndpoint, ActionDeleteEndpoint, ActionRollEndpointSecret, ActionUpdateEndpoint, ActionReprice, ActionSetPrice,
		ActionRevokeGrant, ActionDeletePolicy, ActionSetPolicy, ActionApproveReview, ActionBypassReview, ActionDenyReview,
		ActionEndRuns, ActionBlockUser, ActionEraseUser, ActionUnblockUser, ActionKillSwitch, ActionPlan, ActionUpdate,
	}
}

// attributes are what an entry says of a thing, by the API's names; nil for a
// thing that does not exist. Values are what the API shows, never a secret.
type attributes map[string]any

// auditEvent is a change that is to be recorded in the audit log.
type auditEvent struct {
	ws     WorkspaceKey
	action Action
	target string // "" when there is only one of it
	before attributes
	after  attributes
	always bool // record it even if no attribute differs
}

// configure is write for a change of a workspace's configuration. The audit entry
// is written in the same transaction, so that neither exists without the other. A
// call that changes nothing leaves no entry. fn may change rows of this workspace
// only, because only its cached rows are invalidated.
func (s *Store) configure(ctx context.Context, ws WorkspaceKey, fn func(*Tx) (auditEvent, error)) error {
	actor := actorOf(ctx)
	return s.writeIn(ctx, ws, modeSQL, func(tx *Tx) error {
		event, err := fn(tx)
		if err != nil {
			return err
		}
		tx.cache.invalidate(event.ws)
		return recordAudit(tx, actor, event)
	})
}

// recordAudit writes an audit entry with the attributes that differ, in the transaction of the
// change itself. A change that changed nothing leaves no entry, unless the event is always
// recorded.
func recordAudit(tx *Tx, actor Actor, e auditEvent) error {
	before, after, err := diffAttributes(e.before, e.after)
	if err != nil || before == nil && after == nil && !e.always {
		return err
	}
	if err := actor.lookUpName(tx); err != nil {
		return err
	}
	if err := tx.notifyAudit(actor, e); err != nil {
		return err
	}
	_, err = insertAudit(tx, actor, e, before, after)
	return err
}

// lookUpName finds the email of an account that has only said its id.
func (a *Actor) lookUpName(tx *Tx) error {
	if a.Kind != ActorAccount || a.Name != "" {
		return nil
	}
	if err := tx.get(`SELECT email FROM accounts WHERE uuid = $1`, []any{a.Account[:]}, &a.Name); err != nil {
		return fmt.Errorf("name the actor: %w", err)
	}
	return nil
}

// insertAudit stores an entry. Its UUIDv7 carries the time, so entries are sorted by their id.
func insertAudit(tx *Tx, actor Actor, e auditEvent, before, after []byte) (id uuid.UUID, err error) {
	if err := actor.lookUpName(tx); err != nil {
		return id, err
	}
	id = newID(tx.now)
	_, err = tx.exec(`INSERT INTO audit_entries (workspace_id, uuid, actor_kind, actor_name, action, target, was, became, address)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, e.ws, id[:], string(actor.Kind), nullString(actor.Name), string(e.action),
		nullString(e.target), nullJSON(before), nullJSON(after), nullString(actor.Address))
	return id, err
}

// recordProgress records what an event of many transactions has done by now: the
// first of them inserts an entry, and the others replace what it says.
func recordProgress(tx *Tx, actor Actor, entry uuid.UUID, e auditEvent) (uuid.UUID, error) {
	_, after, err := diffAttributes(nil, e.after)
	if err != nil {
		return entry, err
	}
	if entry == uuid.Nil {
		return insertAudit(tx, actor, e, nil, after)
	}
	_, err = tx.exec(`UPDATE audit_entries SET became = $3 WHERE workspace_id = $1 AND uuid = $2`, e.ws, entry[:], nullJSON(after))
	return entry, err
}

// diffAttributes writes both as JSON objects of what differs; both nil when nothing
// does. A thing that came or went differs in all it has.
func diffAttributes(was, became attributes) (before, after []byte, err error) {
	kept := [2]attributes{make(attributes), make(attributes)}
	for i, side := range [2]attributes{was, became} {
		other := [2]attributes{became, was}[i]
		for name, value := range side {
			same, err := equalJSON(value, other[name])
			if err != nil {
				return nil, nil, fmt.Errorf("write %s for the audit log: %w", name, err)
			}
			if _, both := other[name]; !both || !same {
				kept[i][name] = value
			}
		}
	}
	if len(kept[0]) == 0 && len(kept[1]) == 0 {
		return nil, nil, nil
	}
	if was != nil {
		before, err = json.Marshal(kept[0])
	}
	if became != nil && err == nil {
		after, err = json.Marshal(kept[1])
	}
	return before, after, err
}

// equalJSON compares two attributes as they would be stored: a budget of 1 USD read from the
// database equals one that was just parsed.
func equalJSON(a, b any) (bool, error) {
	left, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	right, err := json.Marshal(b)
	return bytes.Equal(left, right), err
}

// AuditEntry is one change or sign-in.
type AuditEntry struct {
	ID      uuid.UUID
	At      time.Time
	Actor   Actor
	Action  Action
	Target  string // "" when there is only one of it
	Before  []byte // JSON object; nil when it did not exist
	After   []byte // JSON object; nil when it is gone
	Address string // "" for what came over no network
}

// AuditFilter narrows a list of entries; zero values ask for all.
type AuditFilter struct {
	Action Action
	Since  time.Time // inclusive
	Until  time.Time // exclusive
	Limit  int64
	Cursor string
}

// Audit lists a workspace's entries, newest first, and the cursor of the next
// page ("" at the end).
func (s *Store) Audit(ctx context.Context, ws WorkspaceKey, f AuditFilter) (entries []AuditEntry, next string, err error) {
	before, from, err := idBounds(listAudit, ws, f.Since, f.Until, f.Cursor)
	if err != nil {
		return nil, "", err
	}
	query, args := `SELECT uuid, actor_kind, actor_name, action, target, was, became, address FROM audit_entries
		WHERE workspace_id = $1 AND uuid < $2 AND uuid >= $3`, []any{ws, before[:], from[:], f.Limit + 1}
	if f.Action != "" {
		query, args = query+` AND action = $5`, append(args, string(f.Action))
	}
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(query+` ORDER BY uuid DESC LIMIT $4`, args, func(rows scanner) error {
			if int64(len(entries)) == f.Limit {
				last := entries[len(entries)-1].ID
				next = cursor(listAudit, int64(ws), last[:])
				return nil
			}
			e, err := scanAudit(rows)
			entries = append(entries, e)
			return err
		})
	})
	return entries, next, err
}

// scanAudit scans the columns that every query of audit entries selects.
func scanAudit(rows scanner) (e AuditEntry, err error) {
	var name, target, was, became, address sql.NullString
	err = rows.Scan(&e.ID, &e.Actor.Kind, &name, &e.Action, &target, &was, &became, &address)
	e.At = idTime(e.ID)
	e.Actor.Name, e.Target, e.Address = name.String, target.String, address.String
	e.Before, e.After = jsonOf(was), jsonOf(became)
	return e, err
}

// idTime is the millisecond with which an id of newID begins.
func idTime(id uuid.UUID) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)).UTC()
}

// Stop is when, by whom and why the kill switch was turned on, as far as the
// audit log says.
type Stop struct {
	Since  time.Time // zero where it says nothing
	Actor  Actor
	Reason string
}

// lastStop returns the latest audit entry of the kill switch, if that turned it on: who did, when
// and why. nil if the log no longer has it.
func lastStop(tx *Tx, ws WorkspaceKey) (*Stop, error) {
	stop, kept := &Stop{}, idFloor(tx.now.AddDate(0, 0, -auditDays))
	err := tx.each(`SELECT uuid, actor_kind, actor_name, action, target, was, became, address FROM audit_entries
		WHERE workspace_id = $1 AND uuid > $2 AND action = $3 ORDER BY uuid DESC LIMIT 1`,
		[]any{ws, kept[:], string(ActionKillSwitch)}, func(row scanner) error {
			e, err := scanAudit(row)
			if err != nil {
				return err
			}
			var after struct {
				On     bool   `json:"kill_switch"`
				Reason string `json:"reason"`
			}
			if err := json.Unmarshal(e.After, &after); err != nil || !after.On {
				return err // it is on by something else
			}
			stop.Since, stop.Actor, stop.Reason = e.At, e.Actor, after.Reason
			return nil
		})
	return stop, err
}

// expireAudit deletes some of a workspace's entries that are past their time.
func expireAudit(tx *Tx, ws WorkspaceKey) (left bool, err error) {
	const chunk = 200
	bound := daysAgo(tx, auditDays)
	n, err := tx.exec(`DELETE FROM audit_entries WHERE workspace_id = $1 AND uuid IN
		(SELECT uuid FROM audit_entries WHERE workspace_id = $1 AND uuid < $2 ORDER BY uuid LIMIT $3)`, ws, bound[:], chunk)
	return n == chunk, err
}
