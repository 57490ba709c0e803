package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
)

// WorkspaceKey is the internal id of a workspace, as a checked credential
// gives it. Every query of a tenant's data carries it.
type WorkspaceKey int64

// Workspace is a tenant and its limits.
type Workspace struct {
	key               WorkspaceKey
	ID                uuid.UUID
	Name              string
	Slug              string
	Plan              plans.Plan
	KillSwitch        bool
	DailyBudget       plans.Budget
	UserDailyBudget   plans.Budget
	MaxConcurrentRuns int64
	PriceCatalogue    bool          // models without an entry cost what the catalogue says
	TrustReportedCost bool          // what a provider says that a call cost is booked where no price is known
	RefuseUnpriced    bool          // calls of models without a price are denied
	RunIdleTimeout    time.Duration // whole seconds
	Timezone          string        // IANA, by which policies and usage count days
	LocalFrom         time.Time     // UTC midnight since when usage counts its days; zero while it was always UTC
	WeekStart         time.Weekday
	ReviewsForAll     bool // clients that do not say that they wait for reviews are asked to as well
	PendingReviews    int64
	CreatedAt         time.Time
}

// Key is the internal id, for the commands that find a workspace by its account.
func (w Workspace) Key() WorkspaceKey { return w.key }

// DefaultRunIdleTimeout ends a run that made no call for so long.
const DefaultRunIdleTimeout = time.Hour

// insertWorkspace stores a workspace with the default settings. If its slug is taken, it tries
// others: the slug is unique, and the name is not.
func insertWorkspace(tx *Tx, accountID int64, name string, plan plans.Plan) (Workspace, error) {
	w := Workspace{
		ID: newID(tx.now), Name: name, Plan: plan, MaxConcurrentRuns: plans.DefaultConcurrency,
		PriceCatalogue: true, Timezone: "UTC", WeekStart: time.Monday,
		RunIdleTimeout: DefaultRunIdleTimeout, CreatedAt: tx.now.Truncate(time.Millisecond),
	}
	w.Slug = slug(name)
	for {
		err := tx.get(`INSERT INTO workspaces (uuid, account_id, name, slug, plan, kill_switch,
				max_concurrent_runs, run_idle_timeout_seconds, running_runs, created_at, price_catalogue)
			VALUES ($1, $2, $3, $4, $5, 0, $6, $7, 0, $8, $9) ON CONFLICT (slug) DO NOTHING RETURNING id`,
			[]any{
				w.ID[:], accountID, w.Name, w.Slug, string(plan.ID), w.MaxConcurrentRuns,
				int64(w.RunIdleTimeout / time.Second), w.CreatedAt.UnixMilli(), boolInt(w.PriceCatalogue),
			}, &w.key)
		if err == nil {
			return w, insertPlanChange(tx, w.key, PlanChange{At: tx.now, To: plan.ID, By: BySignUp})
		}
		if !errors.Is(err, ErrNotFound) {
			return w, err
		}
		id := uuid.New()
		// Four random bytes make a clash unlikely; the loop would try again.
		w.Slug = fmt.Sprintf("%s-%x", slug(name), id[:4])
	}
}

// slug is the name in lower-case letters and digits of ASCII, with dashes between.
func slug(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	if len(words) == 0 {
		return "workspace"
	}
	return strings.Join(words, "-")
}

// Workspace reads a workspace.
func (s *Store) Workspace(ctx context.Context, ws WorkspaceKey) (w Workspace, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		w, err = workspace(tx, ws)
		return err
	})
	return w, err
}

// WorkspaceByEmail finds the workspace of an account.
func (s *Store) WorkspaceByEmail(ctx context.Context, email string) (w Workspace, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		var ws WorkspaceKey
		err := tx.get(`SELECT w.id FROM workspaces w JOIN accounts a ON a.id = w.account_id WHERE a.email_key = $1`,
			[]any{emailKey(email)}, &ws)
		if err != nil {
			return err
		}
		w, err = workspace(tx, ws)
		return err
	})
	return w, err
}

// workspace reads a workspace with its settings: ErrNotFound if there is none.
func workspace(tx *Tx, ws WorkspaceKey) (Workspace, error) {
	w := Workspace{key: ws}
	var planID plans.ID
	var daily, userDaily sql.NullInt64
	var idleSeconds, created, localFrom int64
	err := tx.get(`SELECT uuid, name, slug, plan, kill_switch, daily_budget_nanos, user_daily_budget_nanos,
			max_concurrent_runs, price_catalogue, trust_reported_cost, refuse_unpriced, run_idle_timeout_seconds,
			timezone, local_from, week_start, reviews_for_all, pending_reviews, created_at FROM workspaces WHERE id = $1`, []any{ws},
		&w.ID, &w.Name, &w.Slug, &planID, &w.KillSwitch, &daily, &userDaily, &w.MaxConcurrentRuns, &w.PriceCatalogue, &w.TrustReportedCost,
		&w.RefuseUnpriced, &idleSeconds, &w.Timezone, &localFrom, &w.WeekStart, &w.ReviewsForAll, &w.PendingReviews, &created)
	if err != nil {
		return w, err
	}
	w.DailyBudget, w.UserDailyBudget = budgetOf(daily), budgetOf(userDaily)
	w.RunIdleTimeout = time.Duration(idleSeconds) * time.Second
	w.CreatedAt = time.UnixMilli(created).UTC()
	if localFrom != 0 {
		w.LocalFrom = dayStart(localFrom)
	}
	w.Plan, err = plans.ByID(planID)
	return w, err
}

// WorkspaceChange names what to change; nil keeps.
type WorkspaceChange struct {
	Name              *string
	DailyBudget       *plans.Budget
	UserDailyBudget   *plans.Budget
	MaxConcurrentRuns *int64
	PriceCatalogue    *bool
	TrustReportedCost *bool
	RefuseUnpriced    *bool
	RunIdleTimeout    *time.Duration
	Timezone          *string // that time.LoadLocation knows
	WeekStart         *time.Weekday
	ReviewsForAll     *bool
}

// UpdateWorkspace applies all of a change, or, with a *plans.FeatureError,
// nothing of it.
func (s *Store) UpdateWorkspace(ctx context.Context, ws WorkspaceKey, c WorkspaceChange) (Workspace, error) {
	return s.changeWorkspace(ctx, ws, ActionUpdate, func(w *Workspace) error {
		if c.UserDailyBudget != nil {
			// Removing a budget that the plan does not have is no privilege.
			if err := w.Plan.Require(plans.UserDailyBudget); err != nil && c.UserDailyBudget.Set {
				return err
			}
			w.UserDailyBudget = *c.UserDailyBudget
		}
		if c.MaxConcurrentRuns != nil {
			if err := w.Plan.Require(plans.ConfigurableConcurrency); err != nil {
				return err
			}
			w.MaxConcurrentRuns = *c.MaxConcurrentRuns
		}
		if c.Name != nil {
			w.Name = *c.Name
		}
		if c.DailyBudget != nil {
			w.DailyBudget = *c.DailyBudget
		}
		for field, changed := range map[*bool]*bool{
			&w.PriceCatalogue: c.PriceCatalogue, &w.TrustReportedCost: c.TrustReportedCost, &w.RefuseUnpriced: c.RefuseUnpriced,
			&w.ReviewsForAll: c.ReviewsForAll,
		} {
			if changed != nil {
				*field = *changed
			}
		}
		if c.Timezone != nil {
			w.Timezone = *c.Timezone
		}
		if c.WeekStart != nil {
			w.WeekStart = *c.WeekStart
		}
		if c.RunIdleTimeout != nil {
			w.RunIdleTimeout = *c.RunIdleTimeout
		}
		return nil
	})
}

// SetKillSwitch turns the kill switch on, where the plan has it, or off, always.
// The audit log keeps the reason, if there is one.
func (s *Store) SetKillSwitch(ctx context.Context, ws WorkspaceKey, active bool, reason string) (Workspace, error) {
	return s.changeWorkspaceFor(ctx, ws, ActionKillSwitch, reason, func(w *Workspace) error {
		if err := w.Plan.Require(plans.KillSwitch); err != nil && active {
			return err
		}
		w.KillSwitch = active
		return nil
	})
}

// changeWorkspace is changeWorkspaceFor without a target.
func (s *Store) changeWorkspace(ctx context.Context, ws WorkspaceKey, action Action, change func(*Workspace) error) (Workspace, error) {
	return s.changeWorkspaceFor(ctx, ws, action, "", change)
}

// changeWorkspaceFor is changeWorkspace for a reason that somebody gave to turn
// the kill switch. What changes nothing has none.
func (s *Store) changeWorkspaceFor(
	ctx context.Context, ws WorkspaceKey, action Action, reason string, change func(*Workspace) error,
) (w Workspace, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: action}
		if w, err = workspace(tx, ws); err != nil {
			return event, err
		}
		event.before = workspaceAttributes(w)
		if err := change(&w); err != nil {
			return event, err
		}
		if err := countLocalDays(tx, &w); err != nil {
			return event, err
		}
		event.after = workspaceAttributes(w)
		if reason != "" && event.before["kill_switch"] != event.after["kill_switch"] {
			event.after["reason"] = reason
		}
		tx.recordChange(Change{Workspace: ws, Kind: ConfigChanged, Part: PartWorkspace})
		if err := saveWorkspace(tx, w); err != nil || !w.KillSwitch {
			return event, err
		}
		// With the kill switch on, no agent may go on, whatever a person would have said.
		closing, err := closeReviews(tx, ws, Cancelled, `v.workspace_id = $2`, ws)
		closing.apply(tx)
		return event, err
	})
	return w, err
}

// saveWorkspace writes all settings. The counters are not among them: they belong to the writer's
// cache.
func saveWorkspace(tx *Tx, w Workspace) error {
	return tx.execOne(`UPDATE workspaces SET name = $2, plan = $3, kill_switch = $4, daily_budget_nanos = $5,
			user_daily_budget_nanos = $6, max_concurrent_runs = $7, run_idle_timeout_seconds = $8, price_catalogue = $9,
			trust_reported_cost = $10, refuse_unpriced = $11, timezone = $12, week_start = $13, reviews_for_all = $14,
			local_from = $15 WHERE id = $1`,
		w.key, w.Name, string(w.Plan.ID), boolInt(w.KillSwitch), nullBudget(w.DailyBudget),
		nullBudget(w.UserDailyBudget), w.MaxConcurrentRuns, int64(w.RunIdleTimeout/time.Second), boolInt(w.PriceCatalogue),
		boolInt(w.TrustReportedCost), boolInt(w.RefuseUnpriced), w.Timezone, int64(w.WeekStart), boolInt(w.ReviewsForAll), w.localFrom())
}

// countLocalDays has usage counted by the dates of the workspace's zone as well, once it is another
// one than UTC: from today where nothing has been counted today, and else from tomorrow, so that
// each UTC day is counted in one way. What was counted before stays as it is.
func countLocalDays(tx *Tx, w *Workspace) error {
	// Once it is set it stays, also when the zone changes again.
	if w.Timezone == "UTC" || !w.LocalFrom.IsZero() {
		return nil
	}
	var counted int64
	err := tx.get(`SELECT count(*) FROM workspace_days WHERE workspace_id = $1 AND day = $2`,
		[]any{w.key, dayOf(tx.now)}, &counted)
	w.LocalFrom = dayStart(dayOf(tx.now) + counted)
	return err
}

// localFrom is LocalFrom as a day's number; 0 for never.
func (w Workspace) localFrom() int64 {
	if w.LocalFrom.IsZero() {
		return 0
	}
	return dayOf(w.LocalFrom)
}

// workspaceAttributes is what the audit log says of a workspace.
func workspaceAttributes(w Workspace) attributes {
	return attributes{
		"name": w.Name, "plan": w.Plan.ID, "kill_switch": w.KillSwitch,
		"daily_budget_usd": w.DailyBudget, "user_daily_budget_usd": w.UserDailyBudget,
		"max_concurrent_runs": w.MaxConcurrentRuns, "price_catalogue": w.PriceCatalogue,
		"trust_reported_cost": w.TrustReportedCost, "unpriced_models": w.UnpricedModels(),
		"timezone": w.Timezone, "week_start": strings.ToLower(w.WeekStart.String()), "reviews": w.Reviews(),
		"run_idle_timeout_seconds": int64(w.RunIdleTimeout / time.Second),
	}
}

// Reviews is the API's word for who is asked to wait for reviews.
func (w Workspace) Reviews() string {
	if w.ReviewsForAll {
		return "all_clients"
	}
	return "known_clients"
}

// UnpricedModels is the API's word for whether calls of models without a price are denied.
func (w Workspace) UnpricedModels() string {
	if w.RefuseUnpriced {
		return "deny"
	}
	return "allow"
}

// SavedView is a filter of the list of runs that a workspace has given a name.
type SavedView struct {
	ID        uuid.UUID
	Name      string
	Query     string // as in the address of the page
	CreatedAt time.Time
}

// MaxSavedViews is how many a workspace may have.
const MaxSavedViews = 50

// SavedViews lists a workspace's views by their names.
func (s *Store) SavedViews(ctx context.Context, ws WorkspaceKey) (views []SavedView, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT uuid, name, query, created_at FROM saved_views WHERE workspace_id = $1 ORDER BY name`,
			[]any{ws}, func(rows scanner) error {
				var v SavedView
				var created int64
				err := rows.Scan(&v.ID, &v.Name, &v.Query, &created)
				v.CreatedAt = time.UnixMilli(created).UTC()
				views = append(views, v)
				return err
			})
	})
	return views, err
}

// SaveView keeps a view, in place of one that has its name. ErrTooManyViews when
// there are MaxSavedViews others.
func (s *Store) SaveView(ctx context.Context, ws WorkspaceKey, name, query string) (v SavedView, err error) {
	err = s.writeIn(ctx, ws, modeCached, func(tx *Tx) error {
		var others int64
		err := tx.get(`SELECT count(*) FROM saved_views WHERE workspace_id = $1 AND name <> $2`, []any{ws, name}, &others)
		if err != nil {
			return err
		}
		if others >= MaxSavedViews {
			return ErrTooManyViews
		}
		id, created := newID(tx.now), int64(0)
		v = SavedView{Name: name, Query: query}
		err = tx.get(`INSERT INTO saved_views (uuid, workspace_id, name, query, created_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (workspace_id, name) DO UPDATE SET query = excluded.query RETURNING uuid, created_at`,
			[]any{id[:], ws, name, query, tx.now.UnixMilli()}, &v.ID, &created)
		v.CreatedAt = time.UnixMilli(created).UTC()
		return err
	})
	return v, err
}

// DeleteView deletes a view; ErrNotFound when there is none.
func (s *Store) DeleteView(ctx context.Context, ws WorkspaceKey, id uuid.UUID) error {
	return s.writeIn(ctx, ws, modeCached, func(tx *Tx) error {
		return tx.execOne(`DELETE FROM saved_views WHERE workspace_id = $1 AND uuid = $2`, ws, id[:])
	})
}

// calendar is how a workspace counts days and weeks.
type calendar struct {
	zone      *time.Location
	weekStart time.Weekday
}

// buckets returns those of a limit's window at the time of the call; see policies.Limit.Buckets.
func (c calendar) buckets(l *policies.Limit, f *policies.Facts) (first, current, next time.Time) {
	if l.Window == policies.WindowRun {
		return f.StartedAt, f.StartedAt, time.Time{}
	}
	return l.Buckets(f.Now, c.zone, c.weekStart)
}

// calendarOf parses a workspace's time zone. UTC, which most have, needs no look-up.
func calendarOf(zone string, weekStart int64) (c calendar, err error) {
	c.zone, c.weekStart = time.UTC, time.Weekday(weekStart)
	if zone != "UTC" {
		c.zone, err = time.LoadLocation(zone)
	}
	return c, err
}

// calendar returns the workspace's calendar. It is parsed once for each time the row is loaded.
func (w *cachedWorkspace) calendar() (calendar, error) {
	var err error
	if w.dates.zone == nil {
		w.dates, err = calendarOf(w.timezone, w.weekStart)
	}
	return w.dates, err
}

// readCalendar reads the calendar of a workspace, for lists.
func readCalendar(tx *Tx, ws WorkspaceKey) (c calendar, err error) {
	w, err := workspace(tx, ws)
	if err != nil {
		return c, err
	}
	return calendarOf(w.Timezone, int64(w.WeekStart))
}

// retention is how far back a workspace's history is kept.
type retention struct {
	ws   WorkspaceKey
	days int64
}

// retentions lists how long each workspace's plan keeps history.
func (s *Store) retentions(ctx context.Context) (all []retention, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		var keys []WorkspaceKey
		err := tx.each(`SELECT id FROM workspaces`, nil, func(rows scanner) error {
			var ws WorkspaceKey
			err := rows.Scan(&ws)
			keys = append(keys, ws)
			return err
		})
		for _, ws := range keys {
			w, wsErr := workspace(tx, ws)
			all, err = append(all, retention{ws, w.Plan.RetentionDays}), errors.Join(err, wsErr)
		}
		return err
	})
	return all, err
}

// hasExpired reports whether Expire has anything of a workspace to delete. Mostly it has not, and
// then no writer is asked.
func (s *Store) hasExpired(ctx context.Context, r retention) (has bool, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		runs, audit, deliveries := daysAgo(tx, r.days), daysAgo(tx, auditDays), daysAgo(tx, deliveryDays)
		return tx.get(`SELECT EXISTS (SELECT 1 FROM runs WHERE workspace_id = $1 AND uuid < $2 AND status <> $3)
			OR EXISTS (SELECT 1 FROM audit_entries WHERE workspace_id = $1 AND uuid < $4)
			OR EXISTS (SELECT 1 FROM endpoints e JOIN deliveries d ON d.endpoint_id = e.id
				WHERE e.workspace_id = $1 AND d.uuid < $5 AND d.due_at IS NULL)`,
			[]any{r.ws, runs[:], int64(RunRunning), audit[:], deliveries[:]}, &has)
	})
	return has, err
}
