// Package plans is the rule book: what each tier allows, and how money and prices are written, read
// and multiplied. It knows no clock, database or network, so every other package may use it.
//
//   - plans.go: the tiers and their features
//   - money.go: nano-USD and pico-USD, exact and checked for overflow
package plans

import (
	"fmt"
	"strings"
)

// ID names a plan as the API and the database write it.
type ID string

// The plans, from the smallest to the largest.
const (
	// Basic is free, and has no features beside the limits.
	Basic ID = "basic"
	// Pro and Scale are sold through Stripe.
	Pro   ID = "pro"
	Scale ID = "scale"
	// Enterprise is agreed with the customer, or what one's own server gives everybody.
	Enterprise ID = "enterprise"
)

// DefaultConcurrency is the number of runs that may be RUNNING at once where
// the plan fixes it, and where a workspace starts that may change it.
const DefaultConcurrency = 3

// MaxConcurrency is the largest concurrency that a workspace may choose.
const MaxConcurrency = 100_000

// Feature is something that only some plans have.
type Feature string

// The gated features, worded as they open the sentence of a 403.
const (
	// KillSwitch stops all agents of a workspace at once.
	KillSwitch Feature = "Kill switch"
	// UserDailyBudget bounds what each user's agents may spend a day.
	UserDailyBudget Feature = "User daily budget"
	// ConfigurableConcurrency lets the workspace choose how many runs may be open.
	ConfigurableConcurrency Feature = "Configurable concurrency"
)

// Plan is one tier.
type Plan struct {
	ID    ID
	Name  string
	Price Money // a month; meaningless when Custom
	// Custom says that the price is agreed with the customer.
	Custom bool
	// MonthlyRuns is the number of runs a UTC month may start; 0 is unlimited.
	MonthlyRuns   int64
	RetentionDays int64

	HasKillSwitch              bool
	HasUserDailyBudget         bool
	HasConfigurableConcurrency bool
}

// All lists the plans from the smallest to the largest.
func All() []Plan {
	return []Plan{
		{ID: Basic, Name: "Basic", MonthlyRuns: 1_000, RetentionDays: 1},
		{
			ID: Pro, Name: "Pro", Price: 25 * USD, MonthlyRuns: 50_000, RetentionDays: 14,
			HasUserDailyBudget: true, HasConfigurableConcurrency: true,
		},
		{
			ID: Scale, Name: "Scale", Price: 79 * USD, RetentionDays: 90,
			HasUserDailyBudget: true, HasConfigurableConcurrency: true, HasKillSwitch: true,
		},
		{
			ID: Enterprise, Name: "Enterprise", Custom: true, RetentionDays: 365,
			HasUserDailyBudget: true, HasConfigurableConcurrency: true, HasKillSwitch: true,
		},
	}
}

// ByID finds a plan. The error names the plans there are.
func ByID(id ID) (Plan, error) {
	for _, p := range All() {
		if p.ID == id {
			return p, nil
		}
	}
	return Plan{}, fmt.Errorf("unknown plan %q: choose %s", string(id), List())
}

// List names all plans in a sentence: "basic, pro, scale or enterprise".
func List() string {
	var names []string
	for _, p := range All() {
		names = append(names, string(p.ID))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// Has reports whether the plan includes the feature.
func (p Plan) Has(f Feature) bool {
	switch f {
	case KillSwitch:
		return p.HasKillSwitch
	case UserDailyBudget:
		return p.HasUserDailyBudget
	case ConfigurableConcurrency:
		return p.HasConfigurableConcurrency
	default:
		return false
	}
}

// Require returns a *FeatureError when the plan lacks the feature.
func (p Plan) Require(f Feature) error {
	if p.Has(f) {
		return nil
	}
	return &FeatureError{Feature: f, Plan: p.ID}
}

// FeatureError says that a plan lacks a feature; its text is what the caller reads.
type FeatureError struct {
	Feature Feature
	Plan    ID
}

// Error names the plans that have the feature.
func (e *FeatureError) Error() string {
	var names []string
	for _, p := range All() {
		if p.Has(e.Feature) {
			names = append(names, p.Name)
		}
	}
	last := len(names) - 1
	return fmt.Sprintf("%s is not available on the %s plan. Upgrade to %s or %s.",
		e.Feature, e.Plan, strings.Join(names[:last], ", "), names[last])
}
