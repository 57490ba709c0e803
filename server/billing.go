package server

import (
	"net/http"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// planJSON is a plan that a workspace may have, with its limits and price.
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

// planOf converts a plan. A custom plan has no price: it was agreed with the customer.
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

// billingJSON is a workspace's plan and subscription, as the last event from Stripe left them.
// Times are null where nothing is due.
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

// planChangeJSON is one change of the workspace's plan, and which settings it reset.
type planChangeJSON struct {
	At    wire.Time       `json:"at"`
	From  wire.NullString `json:"from"`
	To    plans.ID        `json:"to"`
	By    string          `json:"by"`
	Reset planResetJSON   `json:"reset"`
}

// planResetJSON holds the settings that a plan lacks and that were therefore reset, with their
// values before.
type planResetJSON struct {
	KillSwitch        bool         `json:"kill_switch"`
	UserDailyBudget   plans.Budget `json:"user_daily_budget_usd"`
	MaxConcurrentRuns wire.Limit   `json:"max_concurrent_runs"`
}

// planChangeOf converts a change for the API.
func planChangeOf(c storage.PlanChange) planChangeJSON {
	return planChangeJSON{
		At: wire.Time(c.At), From: wire.NullString(c.From), To: c.To, By: c.By.String(),
		Reset: planResetJSON{c.Reset.KillSwitch, c.Reset.UserDailyBudget,
			wire.Limit(c.Reset.MaxConcurrentRuns)},
	}
}

// readBilling answers GET /v1/billing/. It reads the database alone: the page must open when Stripe
// is away.
func (s *Server) readBilling(c *call) error {
	b, err := s.store.Billing(c.ctx(), c.who.workspace)
	if err != nil {
		return err
	}
	sub := b.Subscription
	out := billingJSON{
		Plan: b.Workspace.Plan.ID, Status: sub.Status, BillingEnabled: s.billingEnabled(),
		PortalEnabled:    s.billingEnabled() && sub.Customer != "",
		SubscriptionPlan: wire.NullString(sub.Plan),
		CurrentPeriodEnd: wire.Time(sub.PeriodEnd), CancelAtPeriodEnd: sub.CancelAtPeriodEnd,
		Plans: wire.Map(plans.All(), planOf), Changes: wire.Map(b.Changes, planChangeOf),
	}
	if s.billingEnabled() {
		for i, p := range out.Plans {
			out.Plans[i].CanBuy = s.billing.Sells(p.ID) && !b.Workspace.Plan.Custom
		}
	}
	// What is over, or was never this workspace's, ends nothing more.
	if ends := sub.PlanEndsAt; s.Now().Before(ends) && sub.Plan == b.Workspace.Plan.ID &&
		s.billingEnabled() {
		out.PlanEndsAt, out.NextPlan = wire.Time(ends), wire.NullString(s.DefaultPlan.ID)
		if sub.Status == storage.SubscriptionPastDue {
			out.GraceEndsAt = wire.Time(ends)
		}
	}
	c.json(http.StatusOK, out)
	return nil
}

// billingEnabled reports whether plans can be bought on this server.
func (s *Server) billingEnabled() bool { return s.billing != nil }

// errNoBilling is the 400 of a server without Stripe's keys.
func errNoBilling() error { return badRequest("Billing is not configured on this server") }

// pageJSON is the address of a page of Stripe's that the browser is to open.
type pageJSON struct {
	URL string `json:"url"`
}

// startCheckout answers with the page where a plan is bought, or, for a
// workspace that has a subscription, with the portal where it is changed.
func (s *Server) startCheckout(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	plan := plans.ID(o.Literal("plan", string(plans.Pro), string(plans.Scale)))
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	if !s.billingEnabled() {
		return errNoBilling()
	}
	url, err := s.billing.Checkout(c.ctx(), c.who.workspace, plan)
	return c.ok(pageJSON{url}, err)
}

// openPortal answers with Stripe's page where a customer changes or cancels
// the subscription, and finds invoices.
func (s *Server) openPortal(c *call) error {
	if !s.billingEnabled() {
		return errNoBilling()
	}
	url, err := s.billing.Portal(c.ctx(), c.who.workspace)
	return c.ok(pageJSON{url}, err)
}

// takeStripeEvent answers 200 for all that need not come again, and an error of
// our own or of Stripe's as a 5xx, upon which Stripe sends the event again.
func (s *Server) takeStripeEvent(c *call) error {
	body, err := request.ReadBody(c.w, c.r, s.configLimit(c))
	if err != nil {
		return err
	}
	if !s.billingEnabled() {
		return errNoBilling()
	}
	err = s.billing.TakeEvent(c.ctx(), body, c.r.Header.Get("Stripe-Signature"))
	return c.ok(map[string]bool{"received": true}, err)
}
