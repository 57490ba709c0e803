package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// Billing, from the first click to the last cent.
//
// Without Stripe settings there is none: plans are shown, and changed by the
// operator with `pikarc set-plan`. With them:
//
//  1. A person picks a plan, and POST checkout answers with the address of a
//     page of Stripe's (checkout.go). The workspace becomes a customer of
//     Stripe first, once and for all, so that every later event can be told
//     whose it is. Who has a subscription is sent to the customer portal
//     instead: it is changed there, never bought twice.
//  2. The person pays, and Stripe sends events to POST webhook (webhook.go). An
//     event is only a reason to look: whichever it is, we list the customer's
//     subscriptions (stripe.go), which are the truth of this moment, work out
//     what they amount to (standing.go), and record that together with the
//     event's id and the change of plan in one transaction (storage/settle.go).
//     So events may come late, twice or in any order.
//  3. Between listing and recording another event may have got ahead of us.
//     The subscription's row has a version; if it moved, we list again.
//  4. The plan goes when Stripe says so: at the end of the period when
//     canceled, and a grace period after the first payment that failed. A job
//     looks for plans whose end has come, asks Stripe once more, and settles
//     (reconcile.go). Nobody is downgraded while Stripe is away.
//  5. Once a day, and at each start, the same is done with all customers, for
//     what webhooks missed.
//
// Stripe decides what is paid, this server what that gives. Stripe moves a
// plan only when what it says changes, so the operator's set-plan stands; see
// planAfter in storage/settle.go. No call to Stripe is made inside a transaction.

type planJSON struct {
	ID                plans.ID     `json:"id"`
	Name              string       `json:"name"`
	Price             *plans.Money `json:"price_usd"` // a month; null when agreed with the customer
	MonthlyRunLimit   wire.Limit   `json:"monthly_run_limit"`
	MaxConcurrentRuns *int64       `json:"max_concurrent_runs"` // null when the workspace chooses
	RetentionDays     int64        `json:"retention_days"`
	Features          featuresJSON `json:"features"`
	CanBuy            bool         `json:"can_buy"` // checkout takes it from this workspace
}

func planOf(p plans.Plan) planJSON {
	out := planJSON{
		ID: p.ID, Name: p.Name, MonthlyRunLimit: wire.Limit(p.MonthlyRuns),
		RetentionDays: p.RetentionDays, Features: featuresOf(p),
	}
	if !p.Custom {
		out.Price = &p.Price
	}
	if !p.HasConfigurableConcurrency {
		fixed := int64(plans.DefaultConcurrency)
		out.MaxConcurrentRuns = &fixed
	}
	return out
}

type billingJSON struct {
	Plan              plans.ID                   `json:"plan"`
	Status            storage.SubscriptionStatus `json:"status"`
	BillingEnabled    bool                       `json:"billing_enabled"`
	PortalEnabled     bool                       `json:"portal_enabled"`
	SubscriptionPlan  wire.NullString            `json:"subscription_plan"`
	CurrentPeriodEnd  wire.Time                  `json:"current_period_end"`
	CancelAtPeriodEnd bool                       `json:"cancel_at_period_end"`
	GraceEndsAt       wire.Time                  `json:"grace_ends_at"`
	PlanEndsAt        wire.Time                  `json:"plan_ends_at"`
	NextPlan          wire.NullString            `json:"next_plan"`
	Plans             []planJSON                 `json:"plans"`
	Changes           []planChangeJSON           `json:"changes"`
}

type planChangeJSON struct {
	At    wire.Time       `json:"at"`
	From  wire.NullString `json:"from"`
	To    plans.ID        `json:"to"`
	By    string          `json:"by"`
	Reset planResetJSON   `json:"reset"`
}

type planResetJSON struct {
	KillSwitch        bool         `json:"kill_switch"`
	UserDailyBudget   plans.Budget `json:"user_daily_budget_usd"`
	MaxConcurrentRuns wire.Limit   `json:"max_concurrent_runs"`
}

func planChangeOf(c storage.PlanChange) planChangeJSON {
	return planChangeJSON{
		At: wire.Time(c.At), From: wire.NullString(c.From), To: c.To, By: c.By.String(),
		Reset: planResetJSON{c.Reset.KillSwitch, c.Reset.UserDailyBudget, wire.Limit(c.Reset.MaxConcurrentRuns)},
	}
}

func (s *Server) readBilling(c *call) error {
	b, err := s.store.Billing(c.ctx(), c.who.workspace)
	if err != nil {
		return err
	}
	sub := b.Subscription
	out := billingJSON{
		Plan: b.Workspace.Plan.ID, Status: sub.Status, BillingEnabled: s.billingEnabled(),
		PortalEnabled: s.stripe != nil && sub.Customer != "", SubscriptionPlan: wire.NullString(sub.Plan),
		CurrentPeriodEnd: wire.Time(sub.PeriodEnd), CancelAtPeriodEnd: sub.CancelAtPeriodEnd,
		Plans: wire.Map(plans.All(), planOf), Changes: wire.Map(b.Changes, planChangeOf),
	}
	if s.stripe != nil {
		for i, p := range out.Plans {
			out.Plans[i].CanBuy = len(s.Stripe.Prices[p.ID]) > 0 && !b.Workspace.Plan.Custom
		}
	}
	// What is over, or was never this workspace's, ends nothing more.
	if ends := sub.PlanEndsAt; s.Now().Before(ends) && sub.Plan == b.Workspace.Plan.ID && s.stripe != nil {
		out.PlanEndsAt, out.NextPlan = wire.Time(ends), wire.NullString(s.DefaultPlan.ID)
		if sub.Status == storage.SubscriptionPastDue {
			out.GraceEndsAt = wire.Time(ends)
		}
	}
	c.json(http.StatusOK, out)
	return nil
}

// billingEnabled tells whether plans can be bought on this server.
func (s *Server) billingEnabled() bool { return s.stripe != nil }

func errNoBilling() error { return badRequest("Billing is not configured on this server") }

// askStripe bounds everything that one request or check asks of Stripe.
func (s *Server) askStripe(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.Stripe.Timeout)
}

// stripeAway words trouble of Stripe's for the person who waits. A refusal by
// Stripe is a mistake of this server or in its settings, and stays an error.
func stripeAway(err error) error {
	if !errors.Is(err, errStripeAway) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.Join(retryLater(http.StatusServiceUnavailable,
		"Stripe does not answer now. Nothing was changed; try again in a minute.", "60"), err)
}
