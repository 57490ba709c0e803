package storage

import (
	"errors"
	"strings"
	"testing"

	"github.com/pikarc/server/plans"
)

// wants makes an endpoint of a workspace that wants to be told of some events.
func (w *world) wants(ws WorkspaceKey, events Events) Endpoint {
	w.t.Helper()
	in := NewEndpoint{Kind: Webhook, Label: "on call", Address: "https://example.com/hook", Events: events}
	e, _, err := w.CreateEndpoint(w.t.Context(), ws, in)
	w.must(err)
	return e
}

// outboxOf lists what is in the outbox of a workspace, the oldest first.
func (w *world) outboxOf(ws WorkspaceKey) (kinds []EventKind) {
	w.t.Helper()
	w.must(w.read(w.t.Context(), func(tx *Tx) error {
		return tx.each(`SELECT event FROM deliveries WHERE workspace_id = $1 ORDER BY id`, []any{ws}, func(rows scanner) error {
			var k EventKind
			err := rows.Scan(&k)
			kinds = append(kinds, k)
			return err
		})
	}))
	return kinds
}

func (w *world) wantOutbox(ws WorkspaceKey, want ...EventKind) {
	w.t.Helper()
	got := w.outboxOf(ws)
	same := len(got) == len(want)
	for i := 0; same && i < len(got); i++ {
		same = got[i] == want[i]
	}
	if !same {
		w.t.Errorf("the outbox has %v, want %v", got, want)
	}
}

func TestTheOutboxIsWrittenWithWhatItTells(t *testing.T) {
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	w.wants(ws, EventsOf(KillSwitchChanged))
	w.wants(other, AllEvents)
	_, err := w.SetKillSwitch(t.Context(), ws, true, "")
	w.must(err)
	w.wantOutbox(ws, KillSwitchChanged)
	w.wantOutbox(other)

	failed := errors.New("after it was written")
	err = w.write(t.Context(), modeCached, func(tx *Tx) error {
		return errors.Join(tx.notify(ws, notification{kind: KillSwitchChanged}), failed)
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	w.wantOutbox(ws, KillSwitchChanged)
	_, err = w.RotateKey(t.Context(), ws, Rotation{Label: "new"}) // which the endpoint does not want
	w.must(err)
	w.wantOutbox(ws, KillSwitchChanged)
	_, err = w.RotateKey(t.Context(), other, Rotation{Label: "new"})
	w.must(err)
	w.wantOutbox(other, KeyRegenerated)
	_, err = w.SetPlan(t.Context(), ws, w.plan(plans.Basic)) // which has no kill switch
	w.must(err)
	w.wantOutbox(ws, KillSwitchChanged, KillSwitchChanged)
}

func TestAnEndpointIsToldFromItsVeryFirstMomentToItsLast(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	raise := func(s *Store) {
		t.Helper()
		w.must(s.write(t.Context(), modeCached, func(tx *Tx) error { return tx.notify(ws, notification{kind: ReviewRequested}) }))
	}
	raise(w.Store) // caches the workspace
	other := w.second()
	in := NewEndpoint{Kind: Slack, Address: "https://hooks.example.com", Events: EventsOf(ReviewRequested)}
	e, _, err := other.CreateEndpoint(t.Context(), ws, in) // by another process
	w.must(err)
	raise(w.Store)
	w.wantOutbox(ws, ReviewRequested)
	_, err = w.UpdateEndpoint(t.Context(), ws, e.ID, EndpointChange{On: new(false)})
	w.must(err)
	raise(w.Store)
	raise(other)
	w.wantOutbox(ws, ReviewRequested)
	_, err = w.UpdateEndpoint(t.Context(), ws, e.ID, EndpointChange{On: new(true), Events: new(EventsOf(DiskLow))})
	w.must(err)
	raise(w.Store)
	w.wantOutbox(ws, ReviewRequested)
	_, err = w.UpdateEndpoint(t.Context(), ws, e.ID, EndpointChange{Events: new(AllEvents)})
	w.must(err)
	raise(w.Store)
	w.wantOutbox(ws, ReviewRequested, ReviewRequested)
	_, err = w.DeleteEndpoint(t.Context(), ws, e.ID)
	w.must(err)
	raise(w.Store)
	w.wantOutbox(ws)
}

func TestANoticeNamesWhoDidIt(t *testing.T) {
	w := newWorld(t)
	a, ws, _, err := w.CreateAccount(t.Context(), NewAccount{Email: "ana@example.com", Plan: plans.Scale})
	w.must(err)
	w.wants(ws.Key(), AllEvents)
	_, err = w.SetKillSwitch(WithActor(t.Context(), Actor{Kind: ActorAccount, Account: a.ID}), ws.Key(), true, "loop")
	w.must(err)
	wantTold(t, w.notices(ws.Key(), "active", "reason", "by"), "kill_switch.changed true loop map[kind:account name:ana@example.com]")
}

func TestANoticeLeavesOutWhatIsTooLong(t *testing.T) {
	text, err := notification{data: attributes{"short": "a", "long": strings.Repeat("x", maxNoticeValue)}}.encode()
	if want := `{"long":{"omitted_bytes":8194},"short":"a"}`; err != nil || text != want {
		t.Errorf("got %s, %v; want %s", text, err, want)
	}
}
