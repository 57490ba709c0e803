package storage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// EndpointKind is what a message has to look like for an endpoint.
type EndpointKind string

// The kinds of endpoints.
const (
	Webhook EndpointKind = "webhook"
	Slack   EndpointKind = "slack"
	Discord EndpointKind = "discord"
	Teams   EndpointKind = "teams"
	Ntfy    EndpointKind = "ntfy"
	Email   EndpointKind = "email"
)

// EndpointKinds lists all of them.
func EndpointKinds() []string {
	return []string{
		string(Webhook), string(Slack), string(Discord), string(Teams), string(Ntfy), string(Email),
	}
}

// MaxEndpoints is how many endpoints a workspace may have.
const MaxEndpoints = 20

// MaxSecretOverlap is how long a replaced secret may go on signing.
const MaxSecretOverlap = 7 * 24 * time.Hour

// What a caller can act on.
var (
	ErrTooManyEndpoints   = errors.New("the workspace has too many endpoints")
	ErrEndpointOff        = errors.New("the endpoint is switched off")
	ErrEndpointUnreadable = errors.New("the server secret has changed since the endpoint was set up")
	ErrNoSecret           = errors.New("only a webhook has a secret")
)

// OffReason is why nothing is sent to an endpoint.
type OffReason string

// The reasons.
const (
	OffPaused     OffReason = "PAUSED"     // by a person
	OffGone       OffReason = "GONE"       // it answered 410
	OffUnreadable OffReason = "UNREADABLE" // the server secret has changed
	offDeleted    OffReason = "DELETED"    // its deliveries are being deleted
)

// EndpointKey is the internal id of an endpoint.
type EndpointKey int64

// Endpoint is where a workspace is told of what happens.
type Endpoint struct {
	ID        uuid.UUID
	Kind      EndpointKind
	Label     string
	Address   string // URL or email address; empty when it cannot be opened
	Events    Events
	CreatedAt time.Time
	OffAt     time.Time // zero: it is on
	// "" while it is on.
	OffReason OffReason
	// OldSecretUntil is until when a replaced secret signs too; zero: there is none.
	OldSecretUntil time.Time

	key           EndpointKey
	workspace     WorkspaceKey
	secret, older []byte // sealed
}

// Workspace is whose endpoint it is.
func (e Endpoint) Workspace() WorkspaceKey { return e.workspace }

// On reports whether messages are sent to it.
func (e Endpoint) On() bool { return e.OffAt.IsZero() }

// attributes are what the audit log says of an endpoint. Its address may be a
// secret, and may hold a person's name.
func (e Endpoint) attributes() attributes {
	a := attributes{
		"kind": e.Kind, "label": e.Label, "events": e.Events.Names(), "enabled": e.On(),
	}
	if e.OffReason != "" {
		a["disabled_reason"] = e.OffReason
	}
	return a
}

// selectEndpoint reads what scanEndpoint scans. Address and secrets are sealed.
const selectEndpoint = `SELECT id, uuid, workspace_id, kind, label, address, events, secret, old_secret, old_secret_until,
	created_at, off_at, off_reason FROM endpoints`

// scanEndpoint reads a row, and opens its address if it can.
func (s *Store) scanEndpoint(now time.Time, scan func(...any) error) (e Endpoint, err error) {
	var address []byte
	var created int64
	var until, off sql.NullInt64
	var reason sql.NullString
	err = scan(&e.key, &e.ID, &e.workspace, &e.Kind, &e.Label, &address, &e.Events, &e.secret, &e.older, &until,
		&created, &off, &reason)
	if err != nil {
		return e, err
	}
	e.CreatedAt, e.OffAt = time.UnixMilli(created).UTC(), timeOf(off)
	e.OffReason = OffReason(reason.String)
	if e.OldSecretUntil = timeOf(until); !e.OldSecretUntil.After(now) {
		e.OldSecretUntil, e.older = time.Time{}, nil
	}
	e.Address, err = s.secret.Open(address, addressContext(e.ID))
	if err != nil { // said as what is missing: it can be set anew
		e.Address = ""
	}
	return e, nil
}

// addressContext binds a sealed address to its endpoint: copied to another row, it does not open.
func addressContext(id uuid.UUID) string { return "endpoint address " + id.String() }

// secretContext does the same for the secret that signs messages.
func secretContext(id uuid.UUID) string { return "endpoint secret " + id.String() }

// endpoint reads one endpoint of a workspace: ErrNotFound if it was deleted. The row of a deleted
// one stays until its deliveries are deleted, chunk by chunk.
func (s *Store) endpoint(tx *Tx, ws WorkspaceKey, id uuid.UUID) (Endpoint, error) {
	return s.scanEndpoint(tx.now, func(dest ...any) error {
		return tx.get(selectEndpoint+` WHERE uuid = $1 AND workspace_id = $2 AND (off_reason IS NULL OR off_reason <> 'DELETED')`,
			[]any{id[:], ws}, dest...)
	})
}

// Endpoints lists a workspace's endpoints, the oldest first.
func (s *Store) Endpoints(ctx context.Context, ws WorkspaceKey) (all []Endpoint, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(selectEndpoint+` WHERE workspace_id = $1 AND (off_reason IS NULL OR off_reason <> 'DELETED') ORDER BY id`,
			[]any{ws}, func(rows scanner) error {
				e, err := s.scanEndpoint(tx.now, rows.Scan)
				all = append(all, e)
				return err
			})
	})
	return all, err
}

// Endpoint reads an endpoint.
func (s *Store) Endpoint(ctx context.Context, ws WorkspaceKey, id uuid.UUID) (e Endpoint, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		e, err = s.endpoint(tx, ws, id)
		return err
	})
	return e, err
}

// NewEndpoint is what it takes to make an endpoint.
type NewEndpoint struct {
	Kind    EndpointKind
	Label   string
	Address string
	Events  Events
}

// CreateEndpoint makes an endpoint, for what happens from now on. The secret is
// that of a webhook, and is never shown again. ErrTooManyEndpoints when there
// are MaxEndpoints.
func (s *Store) CreateEndpoint(ctx context.Context, ws WorkspaceKey, in NewEndpoint) (e Endpoint, secret string, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		var n int64
		err := tx.get(`SELECT count(*) FROM endpoints WHERE workspace_id = $1`, []any{ws}, &n)
		if err != nil {
			return auditEvent{}, err
		}
		if n >= MaxEndpoints {
			return auditEvent{}, ErrTooManyEndpoints
		}
		e = Endpoint{
			ID: newID(tx.now), Kind: in.Kind, Label: in.Label, Address: in.Address, Events: in.Events,
			CreatedAt: tx.now.Truncate(time.Millisecond), workspace: ws,
		}
		address, err := s.secret.Seal(in.Address, addressContext(e.ID))
		if err != nil {
			return auditEvent{}, fmt.Errorf("seal the address: %w", err)
		}
		var sealed []byte
		if in.Kind == Webhook {
			if secret, sealed, err = s.newEndpointSecret(e.ID); err != nil {
				return auditEvent{}, err
			}
		}
		recordEndpointChange(tx, ws)
		err = tx.get(`INSERT INTO endpoints (uuid, workspace_id, kind, label, address, events, secret, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id`,
			[]any{e.ID[:], ws, string(in.Kind), in.Label, address, int64(in.Events), sealed, e.CreatedAt.UnixMilli()}, &e.key)
		return auditEvent{ws: ws, action: ActionCreateEndpoint, target: e.ID.String(), after: e.attributes()}, err
	})
	return e, secret, err
}

// recordEndpointChange has open dashboards read the endpoints again.
func recordEndpointChange(tx *Tx, ws WorkspaceKey) {
	tx.recordChange(Change{Workspace: ws, Kind: ConfigChanged, Part: PartEndpoints})
}

// newEndpointSecret makes a secret in the form of Standard Webhooks.
func (s *Store) newEndpointSecret(endpoint uuid.UUID) (secret string, sealed []byte, err error) {
	const bytes = 32
	random := make([]byte, bytes)
	rand.Read(random) // which never fails
	secret = "whsec_" + base64.StdEncoding.EncodeToString(random)
	if sealed, err = s.secret.Seal(secret, secretContext(endpoint)); err != nil {
		return "", nil, fmt.Errorf("seal the endpoint's secret: %w", err)
	}
	return secret, sealed, nil
}

// EndpointChange names what to change; nil keeps.
type EndpointChange struct {
	// nil leaves a field as it is.
	Label   *string
	Address *string
	Events  *Events
	On      *bool
}

// UpdateEndpoint changes an endpoint, for what happens from now on.
func (s *Store) UpdateEndpoint(ctx context.Context, ws WorkspaceKey, id uuid.UUID, c EndpointChange) (e Endpoint, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: ActionUpdateEndpoint, target: id.String()}
		if e, err = s.endpoint(tx, ws, id); err != nil {
			return event, err
		}
		event.before = e.attributes()
		if c.Label != nil {
			e.Label = *c.Label
		}
		if c.Events != nil {
			e.Events = *c.Events
		}
		if c.On != nil && *c.On != e.On() {
			e.OffAt, e.OffReason = time.Time{}, ""
			if !*c.On {
				e.OffAt, e.OffReason = tx.now.Truncate(time.Millisecond), OffPaused
			}
		}
		event.after = e.attributes()
		if c.Address != nil && *c.Address != e.Address {
			e.Address = *c.Address
			event.after["url"] = "changed"
			address, err := s.secret.Seal(e.Address, addressContext(e.ID))
			if err != nil {
				return event, fmt.Errorf("seal the address: %w", err)
			}
			if err := tx.execOne(`UPDATE endpoints SET address = $2 WHERE id = $1`, e.key, address); err != nil {
				return event, err
			}
		}
		recordEndpointChange(tx, ws)
		return event, tx.execOne(`UPDATE endpoints SET label = $2, events = $3, off_at = $4, off_reason = $5 WHERE id = $1`,
			e.key, e.Label, int64(e.Events), nullMillis(e.OffAt), nullString(string(e.OffReason)))
	})
	return e, err
}

// RollEndpointSecret gives a webhook a new secret. The old one signs too until
// the overlap is over. ErrNoSecret for an endpoint of another kind.
func (s *Store) RollEndpointSecret(
	ctx context.Context, ws WorkspaceKey, id uuid.UUID, overlap time.Duration,
) (e Endpoint, secret string, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: ActionRollEndpointSecret, target: id.String(), always: true}
		if e, err = s.endpoint(tx, ws, id); err != nil {
			return event, err
		}
		if e.Kind != Webhook {
			return event, ErrNoSecret
		}
		var sealed []byte
		if secret, sealed, err = s.newEndpointSecret(id); err != nil {
			return event, err
		}
		e.OldSecretUntil, e.older = time.Time{}, nil
		if overlap > 0 {
			e.OldSecretUntil, e.older = tx.now.Add(overlap).Truncate(time.Millisecond), e.secret
			event.after = attributes{"overlap_seconds": int64(overlap / time.Second)}
		}
		recordEndpointChange(tx, ws)
		return event, tx.execOne(`UPDATE endpoints SET secret = $2, old_secret = $3, old_secret_until = $4 WHERE id = $1`,
			e.key, sealed, e.older, nullMillis(e.OldSecretUntil))
	})
	return e, secret, err
}

// DeleteEndpoint deletes an endpoint with its deliveries: nothing is sent to it
// any more.
func (s *Store) DeleteEndpoint(ctx context.Context, ws WorkspaceKey, id uuid.UUID) (e Endpoint, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: ActionDeleteEndpoint, target: id.String()}
		if e, err = s.endpoint(tx, ws, id); err != nil {
			return event, err
		}
		event.before = e.attributes()
		recordEndpointChange(tx, ws)
		return event, tx.execOne(`UPDATE endpoints SET off_at = $2, off_reason = $3 WHERE id = $1`,
			e.key, tx.now.UnixMilli(), string(offDeleted))
	})
	if err != nil {
		return e, err
	}
	return e, s.deleteDeliveries(context.WithoutCancel(ctx), e.key)
}

// deleteDeliveries deletes what is left of an endpoint that is being deleted,
// in chunks. Expire does it again for one that a crash has left.
func (s *Store) deleteDeliveries(ctx context.Context, key EndpointKey) error {
	for more := true; more; {
		err := s.runUpkeep(ctx, noWorkspace, modeAside, func(tx *Tx) (bool, error) {
			n, err := tx.exec(`DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE endpoint_id = $1 LIMIT $2)`,
				key, upkeepChunk)
			if err != nil || n > 0 {
				return true, err
			}
			more = false
			_, err = tx.exec(`DELETE FROM endpoints WHERE id = $1`, key)
			return false, err
		})
		if err != nil {
			return fmt.Errorf("delete an endpoint's deliveries: %w", err)
		}
	}
	return nil
}

// expireEndpoints finishes deleting endpoints that a crash has left.
func (s *Store) expireEndpoints(ctx context.Context) error {
	var left []EndpointKey
	err := s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT id FROM endpoints WHERE off_reason = 'DELETED'`, nil, func(rows scanner) error {
			var key EndpointKey
			err := rows.Scan(&key)
			left = append(left, key)
			return err
		})
	})
	for _, key := range left {
		err = errors.Join(err, s.deleteDeliveries(ctx, key))
	}
	return err
}

// wantedEvents is the union of what a workspace's endpoints want.
func wantedEvents(tx *Tx, ws WorkspaceKey) (all Events, err error) {
	err = tx.each(`SELECT events FROM endpoints WHERE workspace_id = $1 AND off_at IS NULL`, []any{ws}, func(rows scanner) error {
		var events Events
		err := rows.Scan(&events)
		all |= events
		return err
	})
	return all, err
}

// Target is what it takes to send to an endpoint.
type Target struct {
	Kind    EndpointKind
	Address string
	Secrets []string // that sign, the newest first; none but for webhooks
}

// target opens what an endpoint's row keeps sealed: ErrEndpointUnreadable when
// that was under another server secret.
func (s *Store) target(e Endpoint) (Target, error) {
	t := Target{Kind: e.Kind, Address: e.Address}
	if t.Address == "" {
		return t, ErrEndpointUnreadable
	}
	for _, sealed := range [][]byte{e.secret, e.older} {
		if sealed == nil {
			continue
		}
		secret, err := s.secret.Open(sealed, secretContext(e.ID))
		if err != nil {
			return t, ErrEndpointUnreadable
		}
		t.Secrets = append(t.Secrets, secret)
	}
	return t, nil
}

// DeliveryFilter narrows a list of deliveries; zero values ask for all.
type DeliveryFilter struct {
	State  DeliveryState
	Limit  int64
	Cursor string
}

// Deliveries lists what an endpoint was told and is to be told, newest first,
// and the cursor of the next page ("" at the end).
func (s *Store) Deliveries(
	ctx context.Context, ws WorkspaceKey, id uuid.UUID, f DeliveryFilter,
) (all []Delivery, next string, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		e, err := s.endpoint(tx, ws, id)
		if err != nil {
			return err
		}
		before := idCeiling()
		if f.Cursor != "" {
			key, err := parseCursor(listDeliveries, int64(e.key), f.Cursor, len(before))
			if err != nil {
				return err
			}
			before = uuid.UUID(key)
		}
		query, args := selectDelivery+` WHERE endpoint_id = $1 AND uuid < $2`, []any{e.key, before[:], f.Limit + 1}
		if f.State != 0 {
			query, args = query+` AND state = $4`, append(args, int64(f.State))
		}
		return tx.each(query+` ORDER BY uuid DESC LIMIT $3`, args, func(rows scanner) error {
			if int64(len(all)) == f.Limit {
				last := all[len(all)-1].ID
				next = cursor(listDeliveries, int64(e.key), last[:])
				return nil
			}
			d, err := scanDelivery(rows.Scan)
			all = append(all, d)
			return err
		})
	})
	return all, next, err
}

// Resend sends a message to an endpoint again, with the same id, as if it were
// new. ErrEndpointOff when the endpoint is switched off.
func (s *Store) Resend(ctx context.Context, ws WorkspaceKey, id, message uuid.UUID) (d Delivery, err error) {
	err = s.writeIn(ctx, ws, modeCached, func(tx *Tx) error {
		e, err := s.endpoint(tx, ws, id)
		if err != nil {
			return err
		}
		if !e.On() {
			return ErrEndpointOff
		}
		err = tx.execOne(`UPDATE deliveries SET state = 1, due_at = $3, attempts = 0 WHERE endpoint_id = $1 AND uuid = $2`,
			e.key, message[:], tx.now.UnixMilli())
		if err != nil {
			return err
		}
		tx.publisher.wakeSender()
		d, err = deliveryOf(tx, e.key, message)
		return err
	})
	return d, err
}

// TestEndpoint sends an endpoint a message that says that it works.
// ErrEndpointOff when it is switched off.
func (s *Store) TestEndpoint(ctx context.Context, ws WorkspaceKey, id uuid.UUID) (d Delivery, err error) {
	err = s.writeIn(ctx, ws, modeCached, func(tx *Tx) error {
		e, err := s.endpoint(tx, ws, id)
		if err != nil {
			return err
		}
		if !e.On() {
			return ErrEndpointOff
		}
		message := newID(tx.now)
		_, err = tx.exec(`INSERT INTO deliveries (endpoint_id, uuid, workspace_id, event, data, state, due_at, attempts)
			VALUES ($1, $2, $3, $4, '{}', 1, $5, 0)`, e.key, message[:], ws, int64(TestEvent), tx.now.UnixMilli())
		if err != nil {
			return err
		}
		tx.publisher.wakeSender()
		d, err = deliveryOf(tx, e.key, message)
		return err
	})
	return d, err
}

// deliveryOf reads one delivery of an endpoint.
func deliveryOf(tx *Tx, key EndpointKey, message uuid.UUID) (Delivery, error) {
	return scanDelivery(func(dest ...any) error {
		return tx.get(selectDelivery+` WHERE endpoint_id = $1 AND uuid = $2`, []any{key, message[:]}, dest...)
	})
}
