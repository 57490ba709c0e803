package storage

import (
	"encoding/json"
	"fmt"
	"math/bits"

	"github.com/google/uuid"
)

// EventKind is what a workspace's endpoints can be told of. The values are
// stored, as bits of endpoints.events too: never renumber.
type EventKind uint8

// The kinds of events.
const (
	BudgetThreshold   EventKind = 1 // half, most or all of a budget or limit is spent
	BudgetForecast    EventKind = 2 // at the rate of the last hour a budget will be spent today
	SpendSpike        EventKind = 3 // more is being spent than usual
	KillSwitchChanged EventKind = 4
	ReviewRequested   EventKind = 5
	ReviewDecided     EventKind = 6
	ReviewExpired     EventKind = 7
	ReviewBypassed    EventKind = 8
	LoopDetected      EventKind = 9
	UnpricedModelUsed EventKind = 10
	KeyRegenerated    EventKind = 11
	SignInRefused     EventKind = 12
	VerifyFailed      EventKind = 13 // of the server, as those below
	BackupFailed      EventKind = 14
	DiskLow           EventKind = 15
	// TestEvent is sent to one endpoint when it is asked for, and cannot be chosen.
	TestEvent EventKind = 16
)

// eventNames are the API's words, in the order of their values from 1.
func eventNames() []string {
	return []string{
		"budget.threshold", "budget.forecast", "spend.spike", "kill_switch.changed",
		"review.requested", "review.decided", "review.expired", "review.bypassed", "loop.detected",
		"model.unpriced", "key.regenerated", "sign_in.refused",
		"verify.failed", "backup.failed", "disk.low", "test",
	}
}

// String is the word that the API uses.
func (k EventKind) String() string { return enumName("event", int(k), eventNames()...) }

// EventNames lists the events that an endpoint can ask for.
func EventNames() []string { return eventNames()[:TestEvent-1] }

// ParseEvent is the reverse of String; 0 for any other word.
func ParseEvent(s string) EventKind { return EventKind(enumValue(s, eventNames()...)) }

// Events is a set of kinds.
type Events int64

// AllEvents has every event, also those of later versions.
const AllEvents Events = -1

// EventsOf is the set of some kinds.
func EventsOf(kinds ...EventKind) (all Events) {
	for _, k := range kinds {
		all |= 1 << k
	}
	return all
}

// Has reports whether an event is in the set.
func (e Events) Has(k EventKind) bool { return e&(1<<k) != 0 }

// Names lists the API's words; "*" for AllEvents.
func (e Events) Names() []string {
	if e == AllEvents {
		return []string{"*"}
	}
	names := make([]string, 0, bits.OnesCount64(uint64(e)))
	for k := BudgetThreshold; k < TestEvent; k++ {
		if e.Has(k) {
			names = append(names, k.String())
		}
	}
	return names
}

// DeliveryState is how far a delivery has come. The values are stored: never renumber.
type DeliveryState uint8

// The states of a delivery.
const (
	DeliveryPending   DeliveryState = 1
	DeliveryDelivered DeliveryState = 2
	DeliveryFailed    DeliveryState = 3 // given up
	DeliveryCancelled DeliveryState = 4 // its endpoint was switched off
)

// DeliveryStates lists the words of DeliveryState, in the order of their values from 1.
func DeliveryStates() []string { return []string{"pending", "delivered", "failed", "cancelled"} }

// String is the word that the API uses.
func (d DeliveryState) String() string {
	return enumName("delivery state", int(d), DeliveryStates()...)
}

// ParseDeliveryState is the reverse of String; 0 for any other word.
func ParseDeliveryState(s string) DeliveryState {
	return DeliveryState(enumValue(s, DeliveryStates()...))
}

// notice is an event of a workspace, before it is known who wants to hear of it.
type notice struct {
	kind EventKind
	user int64      // of users: whom data names, so that it is erased with them; 0 for nobody
	data attributes // by the API's names; texts of agents should be short
}

// wants reports whether any endpoint of the workspace wants to be told of an event.
func (w *cachedWorkspace) wants(k EventKind) bool { return w.wanted.Has(k) }

// notify has the workspace's endpoints be told of an event once the transaction
// is committed, and never if it is rolled back. It costs a look at the cache
// where no endpoint wants to hear of it. It writes by SQL, in any transaction
// mode, so a job calls it before it changes cached rows.
func (tx *Tx) notify(ws WorkspaceKey, n notice) error {
	w, err := tx.cache.workspaces.get(tx, ws)
	if err != nil || !w.wants(n.kind) {
		return err
	}
	data, err := n.encode()
	if err != nil {
		return err
	}
	return tx.enqueue(ws, newID(tx.now), n, data)
}

// enqueue writes a row for each endpoint that wants to be told.
func (tx *Tx) enqueue(ws WorkspaceKey, id uuid.UUID, n notice, data string) error {
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

// maxNoticeValue bounds, in bytes of JSON, what one attribute may bring along.
const maxNoticeValue = 8 << 10

// encode writes the data, without what is too long to be told.
func (n notice) encode() (string, error) {
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

// noticeOfAudit is what endpoints may want to hear of a change of the
// configuration; ok is false for most changes.
func noticeOfAudit(actor Actor, e auditEvent) (n notice, ok bool) {
	n.data = attributes{"by": attributes{"kind": actor.Kind, "name": nullString(actor.Name).String}}
	switch was, is := e.before["kill_switch"], e.after["kill_switch"]; {
	case was != nil && is != nil && was != is:
		n.kind = KillSwitchChanged
		n.data["active"] = is
	case e.action == ActionRotateKey && e.after != nil:
		n.kind = KeyRegenerated
		n.data["prefix"], n.data["label"] = e.after["prefix"], e.after["label"]
		n.data["replaces"] = e.before["prefix"]
	default:
		return n, false
	}
	return n, true
}
