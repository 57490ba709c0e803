package server

import (
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const (
	minIdleTimeout = 60               // seconds
	maxIdleTimeout = 7 * 24 * 60 * 60 // seconds
)

// workspaceJSON is a workspace with its settings. A budget that is not set is null, which differs
// from a budget of 0.
type workspaceJSON struct {
	ID                uuid.UUID    `json:"id"`
	Name              string       `json:"name"`
	Slug              string       `json:"slug"`
	Plan              plans.ID     `json:"plan"`
	KillSwitch        bool         `json:"kill_switch"`
	DailyBudget       plans.Budget `json:"daily_budget_usd"`
	UserDailyBudget   plans.Budget `json:"user_daily_budget_usd"`
	MaxConcurrentRuns int64        `json:"max_concurrent_runs"`
	PriceCatalogue    bool         `json:"price_catalogue"`
	UnpricedModels    string       `json:"unpriced_models"`
	TrustReportedCost bool         `json:"trust_reported_cost"`
	MonthlyRunLimit   wire.Limit   `json:"monthly_run_limit"`
	RetentionDays     int64        `json:"retention_days"`
	RunIdleTimeout    int64        `json:"run_idle_timeout_seconds"`
	Timezone          string       `json:"timezone"`
	WeekStart         string       `json:"week_start"`
	Reviews           string       `json:"reviews"`
	PendingReviews    int64        `json:"pending_reviews"`
	Features          featuresJSON `json:"features"`
	CreatedAt         wire.Time    `json:"created_at"`
}

// featuresJSON tells which settings the plan has.
type featuresJSON struct {
	KillSwitch              bool `json:"kill_switch"`
	UserDailyBudget         bool `json:"user_daily_budget"`
	ConfigurableConcurrency bool `json:"configurable_concurrency"`
}

// featuresOf converts a plan's features.
func featuresOf(p plans.Plan) featuresJSON {
	return featuresJSON{p.HasKillSwitch, p.HasUserDailyBudget, p.HasConfigurableConcurrency}
}

// workspaceOf converts a workspace for the API.
func workspaceOf(w storage.Workspace) workspaceJSON {
	return workspaceJSON{
		ID: w.ID, Name: w.Name, Slug: w.Slug, Plan: w.Plan.ID, KillSwitch: w.KillSwitch,
		DailyBudget: w.DailyBudget, UserDailyBudget: w.UserDailyBudget,
		MaxConcurrentRuns: w.MaxConcurrentRuns,
		PriceCatalogue:    w.PriceCatalogue, UnpricedModels: w.UnpricedModels(),
		TrustReportedCost: w.TrustReportedCost,
		MonthlyRunLimit:   wire.Limit(w.Plan.MonthlyRuns), RetentionDays: w.Plan.RetentionDays,
		RunIdleTimeout: int64(w.RunIdleTimeout / time.Second), Features: featuresOf(w.Plan),
		Timezone: w.Timezone, WeekStart: strings.ToLower(w.WeekStart.String()),
		Reviews: w.Reviews(), PendingReviews: w.PendingReviews,
		CreatedAt: wire.Time(w.CreatedAt),
	}
}

// readWorkspace answers GET /v1/workspace/.
func (s *Server) readWorkspace(c *call) error {
	w, err := s.store.Workspace(c.ctx(), c.who.workspace)
	return c.ok(workspaceOf(w), err)
}

// updateWorkspace answers PATCH /v1/workspace/. A field that is left out stays, and null removes a
// budget. The store refuses settings that the plan lacks.
func (s *Server) updateWorkspace(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	// Each field is nil if it is not in the body, which leaves the setting as it is.
	change := storage.WorkspaceChange{Name: o.PresentString("name", 1, MaxName)}
	if budget, present := o.Budget("daily_budget_usd"); present {
		change.DailyBudget = &budget
	}
	if budget, present := o.Budget("user_daily_budget_usd"); present {
		change.UserDailyBudget = &budget
	}
	change.MaxConcurrentRuns = o.PresentInt("max_concurrent_runs", 1, plans.MaxConcurrency)
	change.PriceCatalogue = o.PresentBool("price_catalogue")
	change.TrustReportedCost = o.PresentBool("trust_reported_cost")
	if o.Has("unpriced_models") {
		change.RefuseUnpriced = new(o.Literal("unpriced_models", "allow", "deny") == "deny")
	}
	if n := o.PresentInt("run_idle_timeout_seconds", minIdleTimeout, maxIdleTimeout); n != nil {
		timeout := time.Duration(*n) * time.Second
		change.RunIdleTimeout = &timeout
	}
	readCalendar(o, &change)
	if o.Has("reviews") {
		change.ReviewsForAll = new(o.Literal("reviews", "known_clients", "all_clients") == "all_clients")
	}
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	w, err := s.store.UpdateWorkspace(c.ctx(), c.who.workspace, change)
	return c.ok(workspaceOf(w), err)
}

// maxTimezone is longer than any zone's name.
const maxTimezone = 64

// readCalendar reads by which days and weeks policies count.
func readCalendar(o *request.Object, change *storage.WorkspaceChange) {
	if zone := o.PresentString("timezone", 1, maxTimezone); zone != nil {
		// "Local" is the machine's zone, which says nothing on another one.
		if _, err := time.LoadLocation(*zone); err != nil || *zone == "Local" {
			o.Refuse("timezone", "is no IANA time zone, such as Europe/Berlin")
		}
		change.Timezone = zone
	}
	if !o.Has("week_start") {
		return
	}
	day := o.Literal("week_start", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.ToLower(d.String()) == day {
			change.WeekStart = &d
		}
	}
}

// setKillSwitch answers POST /v1/workspace/kill-switch. It holds for the very next decision.
func (s *Server) setKillSwitch(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	active := o.Bool("active")
	reason := o.OptionalString("reason", 0, maxBlockReason)
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	if reason == nil {
		reason = new(string)
	}
	w, err := s.store.SetKillSwitch(c.ctx(), c.who.workspace, active, *reason)
	return c.ok(workspaceOf(w), err)
}

// expiringWithin is how far ahead one is told what retention will delete.
const expiringWithin = 24 * time.Hour

// fileJSON is the size of the database's file and log; null on PostgreSQL.
type fileJSON struct {
	Bytes     int64 `json:"bytes"`
	FreeBytes int64 `json:"free_bytes"`
	LogBytes  int64 `json:"log_bytes"`
	CanShrink bool  `json:"can_shrink"`
}

// spaceJSON is what the database takes, and what retention will free soon.
type spaceJSON struct {
	File     *fileJSON    `json:"file"`
	Expiring expiringJSON `json:"expiring"`
}

// expiringJSON is what retention deletes within the next hours.
type expiringJSON struct {
	WithinHours int64 `json:"within_hours"`
	Runs        int64 `json:"runs"`
	Bytes       int64 `json:"bytes"`
}

// readSpace tells what retention will free of the caller's workspace and, where
// no plans are sold and tenants so are the operator's own, how full the file is.
func (s *Server) readSpace(c *call) error {
	e, err := s.store.Expiring(c.ctx(), c.who.workspace, expiringWithin)
	if err != nil {
		return err
	}
	answer := spaceJSON{Expiring: expiringJSON{int64(expiringWithin / time.Hour), e.Runs, e.Bytes}}
	// Where plans are sold, how full the file is tells a tenant about the others.
	if !s.billingEnabled() {
		space, err := s.store.Space(c.ctx())
		if err != nil {
			return err
		}
		answer.File = &fileJSON{space.FileBytes, space.FreeBytes, s.store.Stats().WALBytes,
			space.CanShrink}
	}
	return c.ok(answer, nil)
}
