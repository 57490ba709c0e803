package storage

import (
	"context"
	"errors"
	"time"

	"github.com/pikarc/server/plans"
)

// Settlement is what was learnt about a customer, and how.
type Settlement struct {
	// Read is the subscription as it was before Stripe was asked. If another
	// settlement came in between, what Stripe said may be the older news.
	Read Subscription
	Now  SubscriptionState
	// Event is the id of Stripe's event that made us ask; empty when none did.
	Event string
	// Unpaid is the plan of a workspace that pays for none.
	Unpaid plans.Plan
}

// Settled says what a settlement did.
type Settled struct {
	Repeated bool // the event had been handled before, and nothing was done
	Changed  bool // what Stripe says was news
	From, To plans.ID
}

// Settle records what Stripe says of a customer and gives the workspace the
// plan that follows, in one transaction with the event that brought the news.
// ErrOutdated: read the subscription and ask Stripe again.
func (s *Store) Settle(ctx context.Context, in Settlement) (out Settled, err error) {
	err = s.configure(WithActor(ctx, settler(ctx, in.Event)), func(tx *Tx) (done deed, err error) {
		out, done, err = settle(tx, in)
		return done, err
	})
	return out, err
}

// settler is who the audit log says has changed a plan: Stripe by its event,
// or this server, which asked Stripe of its own accord.
func settler(ctx context.Context, event string) Actor {
	if event == "" {
		return Actor{Kind: ActorSystem, Name: ByStripeCheck.String()}
	}
	return Actor{Kind: ActorStripe, Name: event, Address: actorOf(ctx).Address}
}

func settle(tx *Tx, in Settlement) (out Settled, done deed, err error) {
	by := ByStripeCheck
	if in.Event != "" {
		by = ByStripeEvent
		n, err := tx.exec(`INSERT INTO stripe_events (id, handled_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`,
			in.Event, tx.now.UnixMilli())
		if err != nil || n == 0 {
			return Settled{Repeated: true}, deed{}, err
		}
	}
	before, had, err := scanSubscription(tx, selectSubscription+`workspace_id = $1`, in.Read.Workspace)
	if err != nil {
		return Settled{}, deed{}, err
	}
	if before.version != in.Read.version {
		return Settled{}, deed{}, ErrOutdated
	}
	gets := in.Now.grantedAt(tx.now)
	if err := saveSubscription(tx, before.Workspace, in.Now, gets); err != nil {
		return Settled{}, deed{}, err
	}
	w, err := workspace(tx, before.Workspace)
	if err != nil {
		return Settled{}, deed{}, err
	}
	out = Settled{Changed: before.SubscriptionState != in.Now || had != gets, From: w.Plan.ID}
	next, err := planAfter(w.Plan, had, gets, in.Unpaid)
	if err == nil {
		done, err = changePlan(tx, &w, next, by, in.Event)
	}
	out.To = w.Plan.ID
	return out, done, err
}

// planAfter is the plan of a workspace whose subscription gave it one plan and
// now gives it another ("" is none). Only a change moves the workspace, so
// that the operator's set-plan stands until the customer decides anew; and
// what is not bought here is not lost here: a plan that the operator arranged
// stays, and the end of a subscription takes only what it gave.
func planAfter(now plans.Plan, had, gets plans.ID, unpaid plans.Plan) (plans.Plan, error) {
	switch {
	case gets == had || now.Custom:
		return now, nil
	case gets != "":
		return plans.ByID(gets)
	case now.ID == had:
		return unpaid, nil
	default:
		return now, nil
	}
}

func saveSubscription(tx *Tx, ws WorkspaceKey, st SubscriptionState, granted plans.ID) error {
	return tx.execOne(`UPDATE subscriptions SET version = version + 1, subscription = $2, status = $3, plan = $4,
			period_end = $5, cancel_at_period_end = $6, past_due_since = $7, plan_ends_at = $8, granted_plan = $9
		WHERE workspace_id = $1`,
		ws, nullWord(st.ID), string(st.Status), nullWord(string(st.Plan)), nullMillis(st.PeriodEnd),
		flag(st.CancelAtPeriodEnd), nullMillis(st.PastDueSince), nullMillis(st.PlanEndsAt), nullWord(string(granted)))
}

// StripeEventHandled tells whether an event has taken effect, which spares
// asking Stripe about a repeated one. Settle looks again.
func (s *Store) StripeEventHandled(ctx context.Context, id string) (bool, error) {
	err := s.read(ctx, func(tx *Tx) error {
		var handledAt int64
		return tx.get(`SELECT handled_at FROM stripe_events WHERE id = $1`, []any{id}, &handledAt)
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// stripeEventTTL is far beyond the days for which Stripe repeats an event.
const stripeEventTTL = 90 * 24 * time.Hour

// ForgetStripeEvents deletes events too old to be repeated, and returns how many.
func (s *Store) ForgetStripeEvents(ctx context.Context) (forgotten int, err error) {
	const piece = 200
	for more := true; more; {
		err := s.slice(ctx, dropping, func(tx *Tx) (bool, error) {
			n, err := tx.exec(`DELETE FROM stripe_events WHERE id IN
				(SELECT id FROM stripe_events WHERE handled_at <= $1 LIMIT $2)`, tx.now.Add(-stripeEventTTL).UnixMilli(), piece)
			forgotten, more = forgotten+int(n), n == piece
			return more, err
		})
		if err != nil {
			return forgotten, err
		}
	}
	return forgotten, nil
}
