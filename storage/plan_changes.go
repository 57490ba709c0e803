package storage

import (
	"context"
	"database/sql"
	"time"

	"github.com/pikarc/server/plans"
)

// ChangedBy is who changed a plan. The values are stored: never renumber.
type ChangedBy uint8

// Who changes plans.
const (
	BySignUp      ChangedBy = 1
	ByCommand     ChangedBy = 2 // the operator's set-plan
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
	err = s.configure(ctx, func(tx *Tx) (auditEvent, error) {
		if w, err = workspace(tx, ws); err != nil {
			return auditEvent{}, err
		}
		return changePlan(tx, &w, plan, ByCommand, "")
	})
	return w, err
}
