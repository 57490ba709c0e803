package server

import (
	"net/http"

	"github.com/pikarc/server/plans"
)

// Billing answers as a server without payment settings does: plans are
// shown, and changed by the operator with `pikarc set-plan`.

type planJSON struct {
	ID                plans.ID     `json:"id"`
	Name              string       `json:"name"`
	Price             *plans.Money `json:"price_usd"` // a month; null when agreed with the customer
	MonthlyRunLimit   count        `json:"monthly_run_limit"`
	MaxConcurrentRuns *int64       `json:"max_concurrent_runs"` // null when the workspace chooses
	RetentionDays     int64        `json:"retention_days"`
	Features          featuresJSON `json:"features"`
}

func planOf(p plans.Plan) planJSON {
	out := planJSON{
		ID: p.ID, Name: p.Name, MonthlyRunLimit: count(p.MonthlyRuns),
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

func (s *Server) readBilling(c *call) error {
	w, err := s.store.Workspace(c.ctx(), c.who.workspace)
	if err != nil {
		return err
	}
	c.json(http.StatusOK, struct {
		Plan              plans.ID   `json:"plan"`
		Status            string     `json:"status"`
		BillingEnabled    bool       `json:"billing_enabled"`
		CurrentPeriodEnd  instant    `json:"current_period_end"`
		CancelAtPeriodEnd bool       `json:"cancel_at_period_end"`
		Plans             []planJSON `json:"plans"`
	}{Plan: w.Plan.ID, Status: "none", BillingEnabled: s.billingEnabled(), Plans: each(plans.All(), planOf)})
	return nil
}

// billingEnabled tells whether plans can be bought on this server.
func (s *Server) billingEnabled() bool { return false }

func errNoBilling() error { return badRequest("Billing is not configured on this server") }

func (s *Server) startCheckout(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	o.Literal("plan", string(plans.Pro), string(plans.Scale))
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	return errNoBilling()
}

func (s *Server) openPortal(*call) error { return errNoBilling() }
