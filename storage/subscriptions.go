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
	NoSubscription         SubscriptionStatus = "none"
	SubscriptionIncomplete SubscriptionStatus = "incomplete" // the first payment is under way
	SubscriptionActive     SubscriptionStatus = "active"
	SubscriptionPastDue    SubscriptionStatus = "past_due"
	SubscriptionPaused     SubscriptionStatus = "paused"
	SubscriptionCanceled   SubscriptionStatus = "canceled"
)

// grantedAt is the plan that a subscription gives at a moment; empty when none.
func (st SubscriptionState) grantedAt(now time.Time) plans.ID {
	if !st.PlanEndsAt.IsZero() && !now.Before(st.PlanEndsAt) {
		return ""
	}
	return st.Plan
}

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
	return s.write(ctx, dropping, func(tx *Tx) error {
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
