package storage

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/pikarc/server/plans"
)

// Subscription is a workspace that is a customer of Stripe, and what Stripe
// last said of it.
type Subscription struct {
	Workspace WorkspaceKey
	Customer  string // Stripe's id
	SubscriptionState

	version int64
}

// SubscriptionState is what Stripe says of a customer. Two that are the same
// compare equal: times are UTC, of whole milliseconds.
type SubscriptionState struct {
	ID                string // Stripe's; empty until one was bought
	Status            SubscriptionStatus
	Plan              plans.ID // what it pays for, until PlanEndsAt; empty when for nothing
	PeriodEnd         time.Time
	CancelAtPeriodEnd bool
	PastDueSince      time.Time
	PlanEndsAt        time.Time // zero while nothing ends the plan
}

// SubscriptionStatus is the state of a subscription, in the API's word. It is stored.
type SubscriptionStatus string

// The states of a subscription.
const (
	// NoSubscription: never bought, or long over.
	NoSubscription         SubscriptionStatus = "none"
	SubscriptionIncomplete SubscriptionStatus = "incomplete" // the first payment is under way
	// SubscriptionActive: paid, or in a trial.
	SubscriptionActive SubscriptionStatus = "active"
	// SubscriptionPastDue: a payment failed; the plan stays for a grace period.
	SubscriptionPastDue SubscriptionStatus = "past_due"
	// SubscriptionPaused: Stripe collects nothing.
	SubscriptionPaused SubscriptionStatus = "paused"
	// SubscriptionCanceled: it has ended.
	SubscriptionCanceled SubscriptionStatus = "canceled"
)

// grantedAt is the plan that a subscription gives at a moment; empty when none.
func (st SubscriptionState) grantedAt(now time.Time) plans.ID {
	if !st.PlanEndsAt.IsZero() && !now.Before(st.PlanEndsAt) {
		return ""
	}
	return st.Plan
}

// selectSubscription reads what scanSubscription scans.
const selectSubscription = `SELECT workspace_id, customer, version, subscription, status, plan, period_end,
	cancel_at_period_end, past_due_since, plan_ends_at, granted_plan FROM subscriptions WHERE `

// scanSubscription also returns the plan that was granted.
func scanSubscription(tx *Tx, query string, arg any) (sub Subscription, granted plans.ID, err error) {
	var id, plan, given sql.NullString
	var periodEnd, pastDue, planEnds sql.NullInt64
	err = tx.get(query, []any{arg}, &sub.Workspace, &sub.Customer, &sub.version, &id, &sub.Status, &plan, &periodEnd,
		&sub.CancelAtPeriodEnd, &pastDue, &planEnds, &given)
	sub.ID, sub.Plan, granted = id.String, plans.ID(plan.String), plans.ID(given.String)
	sub.PeriodEnd, sub.PastDueSince, sub.PlanEndsAt = timeOf(periodEnd), timeOf(pastDue), timeOf(planEnds)
	return sub, granted, err
}

// CustomerSubscription finds the workspace that is a customer of Stripe.
func (s *Store) CustomerSubscription(ctx context.Context, customer string) (sub Subscription, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		sub, _, err = scanSubscription(tx, selectSubscription+`customer = $1`, customer)
		return err
	})
	return sub, err
}

// Billing is all that the billing page shows of a workspace.
type Billing struct {
	Workspace    Workspace
	Email        string       // of its account
	Subscription Subscription // Customer is empty when there never was one
	Changes      []PlanChange // the last ones, newest first
}

// Billing reads a workspace with its subscription.
func (s *Store) Billing(ctx context.Context, ws WorkspaceKey) (b Billing, err error) {
	const lastChanges = 20
	err = s.read(ctx, func(tx *Tx) error {
		if b.Workspace, err = workspace(tx, ws); err != nil {
			return err
		}
		err := tx.get(`SELECT a.email FROM workspaces w JOIN accounts a ON a.id = w.account_id WHERE w.id = $1`,
			[]any{ws}, &b.Email)
		if err != nil {
			return err
		}
		b.Subscription, _, err = scanSubscription(tx, selectSubscription+`workspace_id = $1`, ws)
		if errors.Is(err, ErrNotFound) {
			b.Subscription = Subscription{Workspace: ws, SubscriptionState: SubscriptionState{Status: NoSubscription}}
		} else if err != nil {
			return err
		}
		b.Changes, err = planChanges(tx, ws, lastChanges)
		return err
	})
	return b, err
}

// SetCustomer records that a workspace is a customer of Stripe, in the place
// of the one it was before ("" when none). ErrOutdated when that has changed meanwhile.
func (s *Store) SetCustomer(ctx context.Context, ws WorkspaceKey, before, customer string) error {
	return s.writeIn(ctx, ws, modeSQL, func(tx *Tx) error {
		err := tx.execOne(`INSERT INTO subscriptions (workspace_id, customer, version, status, cancel_at_period_end)
			VALUES ($1, $2, 1, $3, 0)
			ON CONFLICT (workspace_id) DO UPDATE SET customer = excluded.customer, version = subscriptions.version + 1
			WHERE subscriptions.customer IN ($4, excluded.customer)`, ws, customer, string(NoSubscription), before)
		if errors.Is(err, ErrNotFound) {
			return ErrOutdated
		}
		return err
	})
}

// Customers lists customers of Stripe by their workspaces, those after a
// workspace, at most limit.
func (s *Store) Customers(ctx context.Context, after WorkspaceKey, limit int) (all []Subscription, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT workspace_id, customer FROM subscriptions WHERE workspace_id > $1 ORDER BY workspace_id LIMIT $2`,
			[]any{after, limit}, func(rows scanner) error {
				var sub Subscription
				err := rows.Scan(&sub.Workspace, &sub.Customer)
				all = append(all, sub)
				return err
			})
	})
	return all, err
}

// EndedPlans lists all customers whose plan has ended and is still theirs.
func (s *Store) EndedPlans(ctx context.Context) (all []Subscription, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT workspace_id, customer FROM subscriptions
			WHERE granted_plan IS NOT NULL AND plan_ends_at <= $1 ORDER BY plan_ends_at`,
			[]any{tx.now.UnixMilli()}, func(rows scanner) error {
				var sub Subscription
				err := rows.Scan(&sub.Workspace, &sub.Customer)
				all = append(all, sub)
				return err
			})
	})
	return all, err
}

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
	err = s.configure(WithActor(ctx, settler(ctx, in.Event)), in.Read.Workspace, func(tx *Tx) (event auditEvent, err error) {
		out, event, err = settle(tx, in)
		return event, err
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

// settle applies a subscription as Stripe has it now. An event is handled once: its id is stored in
// the same transaction, and a repetition changes nothing. ErrOutdated if somebody else has applied
// a state since this one was read.
func settle(tx *Tx, in Settlement) (out Settled, event auditEvent, err error) {
	by := ByStripeCheck
	if in.Event != "" {
		by = ByStripeEvent
		n, err := tx.exec(`INSERT INTO stripe_events (id, handled_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`,
			in.Event, tx.now.UnixMilli())
		if err != nil || n == 0 {
			return Settled{Repeated: true}, auditEvent{}, err
		}
	}
	before, had, err := scanSubscription(tx, selectSubscription+`workspace_id = $1`, in.Read.Workspace)
	if err != nil {
		return Settled{}, auditEvent{}, err
	}
	if before.version != in.Read.version {
		return Settled{}, auditEvent{}, ErrOutdated
	}
	gets := in.Now.grantedAt(tx.now)
	if err := saveSubscription(tx, before.Workspace, in.Now, gets); err != nil {
		return Settled{}, auditEvent{}, err
	}
	w, err := workspace(tx, before.Workspace)
	if err != nil {
		return Settled{}, auditEvent{}, err
	}
	out = Settled{Changed: before.SubscriptionState != in.Now || had != gets, From: w.Plan.ID}
	next, err := planAfter(w.Plan, had, gets, in.Unpaid)
	if err == nil {
		event, err = changePlan(tx, &w, next, by, in.Event)
	}
	out.To = w.Plan.ID
	return out, event, err
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

// saveSubscription stores the state, and raises its version.
func saveSubscription(tx *Tx, ws WorkspaceKey, st SubscriptionState, granted plans.ID) error {
	return tx.execOne(`UPDATE subscriptions SET version = version + 1, subscription = $2, status = $3, plan = $4,
			period_end = $5, cancel_at_period_end = $6, past_due_since = $7, plan_ends_at = $8, granted_plan = $9
		WHERE workspace_id = $1`,
		ws, nullString(st.ID), string(st.Status), nullString(string(st.Plan)), nullMillis(st.PeriodEnd),
		boolInt(st.CancelAtPeriodEnd), nullMillis(st.PastDueSince), nullMillis(st.PlanEndsAt), nullString(string(granted)))
}

// StripeEventHandled reports whether an event has taken effect, which spares
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

// DeleteOldStripeEvents deletes events too old to be repeated, and returns how many.
func (s *Store) DeleteOldStripeEvents(ctx context.Context) (forgotten int, err error) {
	const chunk = 200
	for more := true; more; {
		err := s.runUpkeep(ctx, noWorkspace, modeAside, func(tx *Tx) (bool, error) {
			n, err := tx.exec(`DELETE FROM stripe_events WHERE id IN
				(SELECT id FROM stripe_events WHERE handled_at <= $1 LIMIT $2)`, tx.now.Add(-stripeEventTTL).UnixMilli(), chunk)
			forgotten, more = forgotten+int(n), n == chunk
			return more, err
		})
		if err != nil {
			return forgotten, err
		}
	}
	return forgotten, nil
}

// ChangedBy is who changed a plan. The values are stored: never renumber.
type ChangedBy uint8

// Who changes plans.
const (
	// BySignUp: the plan that a new workspace gets.
	BySignUp  ChangedBy = 1
	ByCommand ChangedBy = 2 // the operator's set-plan
	// ByStripeEvent: a webhook brought the news; ByStripeCheck: the daily comparison did.
	ByStripeEvent ChangedBy = 3
	ByStripeCheck ChangedBy = 4 // this server asked Stripe: at a plan's end, and daily
)

// String is the word that the API uses.
func (b ChangedBy) String() string {
	return enumName("changed by", int(b), "sign_up", "command", "stripe_event", "stripe_check")
}

// PlanChange is one line of a workspace's history of plans.
type PlanChange struct {
	At    time.Time
	From  plans.ID // empty when the workspace was made
	To    plans.ID
	By    ChangedBy
	Event string // Stripe's id, when By is ByStripeEvent
	Reset PlanReset
}

// PlanReset is what a workspace had that its new plan lacks; zero where nothing was lost.
type PlanReset struct {
	KillSwitch        bool         // it was on
	UserDailyBudget   plans.Budget // the one that was removed
	MaxConcurrentRuns int64        // the number that was replaced
}

// fit takes from a workspace what its plan lacks, and says what that was.
func fit(w *Workspace) (lost PlanReset) {
	if !w.Plan.HasKillSwitch {
		lost.KillSwitch, w.KillSwitch = w.KillSwitch, false
	}
	if !w.Plan.HasUserDailyBudget {
		lost.UserDailyBudget, w.UserDailyBudget = w.UserDailyBudget, plans.Budget{}
	}
	if !w.Plan.HasConfigurableConcurrency && w.MaxConcurrentRuns != plans.DefaultConcurrency {
		lost.MaxConcurrentRuns, w.MaxConcurrentRuns = w.MaxConcurrentRuns, plans.DefaultConcurrency
	}
	return lost
}

// changePlan is the only place where a plan changes after sign-up. The new
// plan, what it resets and the line of history are one transaction, so the
// next decision sees all of it. What it returns is for the audit log.
func changePlan(tx *Tx, w *Workspace, plan plans.Plan, by ChangedBy, stripeEvent string) (auditEvent, error) {
	if w.Plan.ID == plan.ID {
		return auditEvent{}, nil
	}
	event := auditEvent{ws: w.key, action: ActionPlan, before: workspaceAttributes(*w)}
	c := PlanChange{At: tx.now, From: w.Plan.ID, To: plan.ID, By: by, Event: stripeEvent}
	w.Plan = plan
	c.Reset = fit(w)
	event.after = workspaceAttributes(*w)
	if err := saveWorkspace(tx, *w); err != nil {
		return event, err
	}
	tx.recordChange(Change{Workspace: w.key, Kind: ConfigChanged, Part: PartPlan})
	return event, insertPlanChange(tx, w.key, c)
}

// insertPlanChange keeps which settings the new plan has reset, so that billing questions can be
// answered later.
func insertPlanChange(tx *Tx, ws WorkspaceKey, c PlanChange) error {
	concurrency := sql.NullInt64{Int64: c.Reset.MaxConcurrentRuns, Valid: c.Reset.MaxConcurrentRuns != 0}
	return tx.execOne(`INSERT INTO plan_changes (workspace_id, changed_at, from_plan, to_plan, changed_by, stripe_event,
			reset_kill_switch, reset_user_budget_nanos, reset_max_concurrent_runs)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		ws, c.At.UnixMilli(), nullString(string(c.From)), string(c.To), int64(c.By), nullString(c.Event),
		boolInt(c.Reset.KillSwitch), nullBudget(c.Reset.UserDailyBudget), concurrency)
}

// planChanges lists the last changes of a workspace's plan, newest first.
func planChanges(tx *Tx, ws WorkspaceKey, limit int) (all []PlanChange, err error) {
	err = tx.each(`SELECT changed_at, from_plan, to_plan, changed_by, stripe_event, reset_kill_switch,
			reset_user_budget_nanos, reset_max_concurrent_runs
		FROM plan_changes WHERE workspace_id = $1 ORDER BY id DESC LIMIT $2`, []any{ws, limit},
		func(rows scanner) error {
			var c PlanChange
			var at int64
			var from, event sql.NullString
			var budget, concurrency sql.NullInt64
			err := rows.Scan(&at, &from, &c.To, &c.By, &event, &c.Reset.KillSwitch, &budget, &concurrency)
			c.At, c.From, c.Event = time.UnixMilli(at).UTC(), plans.ID(from.String), event.String
			c.Reset.UserDailyBudget, c.Reset.MaxConcurrentRuns = budgetOf(budget), concurrency.Int64
			all = append(all, c)
			return err
		})
	return all, err
}

// SetPlan moves a workspace to a plan, as the operator says, and resets what
// that plan lacks.
func (s *Store) SetPlan(ctx context.Context, ws WorkspaceKey, plan plans.Plan) (w Workspace, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		if w, err = workspace(tx, ws); err != nil {
			return auditEvent{}, err
		}
		return changePlan(tx, &w, plan, ByCommand, "")
	})
	return w, err
}
