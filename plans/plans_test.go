package plans_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pikarc/server/plans"
)

// contractPlans is the table of the contract's section 5.
func contractPlans() []plans.Plan {
	return []plans.Plan{
		{
			ID: "basic", Name: "Basic", Price: 0, MonthlyRuns: 1_000, RetentionDays: 1,
		},
		{
			ID: "pro", Name: "Pro", Price: 25_000_000_000, MonthlyRuns: 50_000, RetentionDays: 14,
			HasConfigurableConcurrency: true, HasUserDailyBudget: true,
		},
		{
			ID: "scale", Name: "Scale", Price: 79_000_000_000, MonthlyRuns: 0, RetentionDays: 90,
			HasConfigurableConcurrency: true, HasUserDailyBudget: true, HasKillSwitch: true,
		},
		{
			ID: "enterprise", Name: "Enterprise", Custom: true, MonthlyRuns: 0, RetentionDays: 365,
			HasConfigurableConcurrency: true, HasUserDailyBudget: true, HasKillSwitch: true,
		},
	}
}

func TestThePlansAreThoseOfTheContract(t *testing.T) {
	if diff := cmp.Diff(contractPlans(), plans.All()); diff != "" {
		t.Errorf("-contract +code\n%s", diff)
	}
	for _, want := range contractPlans() {
		got, err := plans.ByID(want.ID)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("ByID(%q): %v\n-contract +code\n%s", want.ID, err, diff)
		}
	}
	if plans.DefaultConcurrency != 3 || plans.MaxConcurrency != 100_000 {
		t.Errorf("concurrency starts at %d and ends at %d, want 3 and 100000", plans.DefaultConcurrency, plans.MaxConcurrency)
	}
}

func TestACallerCannotChangeThePlans(t *testing.T) {
	mine := plans.All()
	for i := range mine {
		mine[i] = plans.Plan{}
	}
	if diff := cmp.Diff(contractPlans(), plans.All()); diff != "" {
		t.Errorf("-contract +code\n%s", diff)
	}
}

func TestAnUnknownPlanIsRefusedWithTheOnesThereAre(t *testing.T) {
	for id, want := range map[plans.ID]string{
		"gold":  `unknown plan "gold": choose basic, pro, scale or enterprise`,
		"":      `unknown plan "": choose basic, pro, scale or enterprise`,
		"Basic": `unknown plan "Basic": choose basic, pro, scale or enterprise`,
		"a\nb":  `unknown plan "a\nb": choose basic, pro, scale or enterprise`,
	} {
		got, err := plans.ByID(id)
		if err == nil || err.Error() != want {
			t.Errorf("ByID(%q): %v, want %s", id, err, want)
			continue
		}
		if got != (plans.Plan{}) {
			t.Errorf("ByID(%q) refused and still returned %+v", id, got)
		}
		for _, p := range plans.All() {
			if !strings.Contains(err.Error(), string(p.ID)) {
				t.Errorf("ByID(%q) does not offer %s", id, p.ID)
			}
		}
	}
}

func TestAMissingFeatureIsRefusedInTheWordsOfTheContract(t *testing.T) {
	for plan, texts := range map[plans.ID]map[plans.Feature]string{
		plans.Basic: {
			plans.UserDailyBudget:         "User daily budget is not available on the basic plan. Upgrade to Pro, Scale or Enterprise.",
			plans.ConfigurableConcurrency: "Configurable concurrency is not available on the basic plan. Upgrade to Pro, Scale or Enterprise.",
			plans.KillSwitch:              "Kill switch is not available on the basic plan. Upgrade to Scale or Enterprise.",
		},
		plans.Pro:        {plans.KillSwitch: "Kill switch is not available on the pro plan. Upgrade to Scale or Enterprise."},
		plans.Scale:      {},
		plans.Enterprise: {},
	} {
		p, err := plans.ByID(plan)
		if err != nil {
			t.Fatal(err)
		}
		for _, feature := range []plans.Feature{plans.KillSwitch, plans.UserDailyBudget, plans.ConfigurableConcurrency} {
			want, lacking := texts[feature]
			err := p.Require(feature)
			if p.Has(feature) == lacking || (err != nil) != lacking {
				t.Errorf("%s, %s: has %v, requiring it gives %v", plan, feature, p.Has(feature), err)
				continue
			}
			if !lacking {
				continue
			}
			var typed *plans.FeatureError
			if !errors.As(err, &typed) || *typed != (plans.FeatureError{Feature: feature, Plan: plan}) || err.Error() != want {
				t.Errorf("%s, %s: %#v\n got %v\nwant %s", plan, feature, err, err, want)
			}
		}
	}
}

func TestNoPlanHasAnUnknownFeature(t *testing.T) {
	for _, p := range plans.All() {
		if p.Has("Teleport") || p.Require("Teleport") == nil {
			t.Errorf("%s has a feature that does not exist", p.ID)
		}
	}
}
