package guard_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

func ExampleDecide() {
	state := guard.State{
		DailyBudget: plans.Budget{Limit: 10 * plans.USD, Set: true},
		SpentToday:  12 * plans.USD,
	}
	at := time.Date(2026, 11, 23, 7, 8, 29, 0, time.UTC)
	d := guard.Decide(guard.Request{Kind: guard.Step, At: at}, state)
	fmt.Println(d.Allowed(), d.Reason)
	fmt.Println(plans.Money(d.Used), "of", plans.Money(d.Limit), "until", d.ResetsAt.Format(time.RFC3339))
	fmt.Println(d.Evaluated)
	// Output:
	// false WORKSPACE_DAILY_BUDGET_EXCEEDED
	// 12 of 10 until 2026-11-24T00:00:00Z
	// [RUN_ALREADY_ENDED KILL_SWITCH_ACTIVE USER_BLOCKED WORKSPACE_DAILY_BUDGET_EXCEEDED]
}

func TestACalmStateIsAllowedAfterAskingEveryRule(t *testing.T) {
	for _, kind := range kinds() {
		got := guard.Decide(guard.Request{Kind: kind, At: moment()}, calm())
		if diff := cmp.Diff(guard.Decision{Evaluated: asked(kind)}, got); diff != "" || !got.Allowed() {
			t.Errorf("%s:\n-want +got\n%s", kindName(kind), diff)
		}
	}
}

func TestEachRuleDeniesWhereTheContractAsksItAndOnlyThere(t *testing.T) {
	for _, rule := range contractRules() {
		for _, kind := range kinds() {
			state := calm()
			rule.violate(&state)
			want := guard.Decision{Evaluated: asked(kind)}
			if rule.askedAt(kind) {
				want.Reason, want.ResetsAt = rule.reason, rule.resetsAt
				want.Evaluated = want.Evaluated[:slices.Index(want.Evaluated, rule.reason)+1]
				if rule.limit != nil {
					want.Limit, want.Used = rule.limit(state), rule.used(state)
				}
			}
			got := guard.Decide(guard.Request{Kind: kind, At: moment()}, state)
			if diff := cmp.Diff(want, got); diff != "" || got.Allowed() == rule.askedAt(kind) {
				t.Errorf("%s at %s:\n-want +got\n%s", rule.code, kindName(kind), diff)
			}
		}
	}
}

// All 2^7 sets of violated rules, so all pairs too.
func TestOfAnyViolatedRulesTheFirstInContractOrderAnswers(t *testing.T) {
	rules := contractRules()
	for set := range 1 << len(rules) {
		for _, kind := range kinds() {
			state := calm()
			want := guard.None
			for i, rule := range rules {
				if set&(1<<i) == 0 {
					continue
				}
				rule.violate(&state)
				if want == guard.None && rule.askedAt(kind) {
					want = rule.reason
				}
			}
			got := guard.Decide(guard.Request{Kind: kind, At: moment()}, state)
			if got.Reason != want {
				t.Errorf("%s, violated %07b: %q, want %q", kindName(kind), set, got.Reason, want)
			}
		}
	}
}

func TestALimitDeniesFromTheVeryLastUnitOn(t *testing.T) {
	for _, c := range []struct {
		reason guard.Reason
		set    func(s *guard.State, limit, used int64)
	}{
		{guard.WorkspaceDailyBudgetExceeded, func(s *guard.State, limit, used int64) {
			s.DailyBudget.Limit, s.SpentToday = plans.Money(limit), plans.Money(used)
		}},
		{guard.UserDailyBudgetExceeded, func(s *guard.State, limit, used int64) {
			s.UserDailyBudget.Limit, s.UserSpentToday = plans.Money(limit), plans.Money(used)
		}},
		{guard.MonthlyRunLimitExceeded, func(s *guard.State, limit, used int64) {
			s.Plan.MonthlyRuns, s.RunsThisMonth = limit, used
		}},
		{guard.MaxConcurrentRunsExceeded, func(s *guard.State, limit, used int64) {
			s.MaxConcurrentRuns, s.RunningRuns = limit, used
		}},
	} {
		for _, limit := range []int64{1, 3, 1_000, 50_000, int64(plans.USD), int64(plans.MaxMoney), 1<<63 - 2} {
			for off, want := range map[int64]guard.Reason{-1: guard.None, 0: c.reason, 1: c.reason} {
				state := calm()
				c.set(&state, limit, limit+off)
				got := guard.Decide(guard.Request{Kind: guard.Start, At: moment()}, state)
				if got.Reason != want || want != guard.None && (got.Limit != limit || got.Used != limit+off) {
					t.Errorf("%s, used %d of %d: %q with %d of %d", c.reason, limit+off, limit, got.Reason, got.Used, got.Limit)
				}
			}
		}
	}
}

func TestABudgetOfZeroDeniesTheFirstCentAndAnUnsetOneNothing(t *testing.T) {
	for _, kind := range kinds() {
		state := calm()
		state.DailyBudget, state.SpentToday = plans.Budget{Set: true}, 0
		if got := guard.Decide(guard.Request{Kind: kind, At: moment()}, state); got.Reason != guard.WorkspaceDailyBudgetExceeded {
			t.Errorf("%s with a budget of 0: %q", kindName(kind), got.Reason)
		}
		state = calm()
		state.DailyBudget, state.UserDailyBudget = plans.Budget{}, plans.Budget{}
		state.SpentToday, state.UserSpentToday = plans.MaxMoney, plans.MaxMoney
		if got := guard.Decide(guard.Request{Kind: kind, At: moment()}, state); !got.Allowed() {
			t.Errorf("%s without budgets: %q", kindName(kind), got.Reason)
		}
	}
}

func TestEveryPlanIsHeldToItsOwnLimits(t *testing.T) {
	for _, plan := range plans.All() {
		state := calm()
		state.Plan, state.RunsThisMonth = plan, 50_000
		wantRuns := guard.None
		if plan.ID == plans.Basic || plan.ID == plans.Pro {
			wantRuns = guard.MonthlyRunLimitExceeded
		}
		if got := guard.Decide(guard.Request{Kind: guard.Start, At: moment()}, state); got.Reason != wantRuns {
			t.Errorf("the 50,001st run on %s: %q, want %q", plan.ID, got.Reason, wantRuns)
		}

		state = calm()
		state.Plan, state.UserSpentToday = plan, state.UserDailyBudget.Limit
		wantUser := guard.UserDailyBudgetExceeded
		if plan.ID == plans.Basic {
			wantUser = guard.None // a budget left over from a larger plan binds nobody
		}
		if got := guard.Decide(guard.Request{Kind: guard.Step, At: moment()}, state); got.Reason != wantUser {
			t.Errorf("a spent user budget on %s: %q, want %q", plan.ID, got.Reason, wantUser)
		}
	}
}

// The numbers are in databases and the codes in clients.
func TestReasonsKeepTheirNumbersAndCodes(t *testing.T) {
	codes := []string{""}
	for i, rule := range contractRules() {
		codes = append(codes, rule.code)
		if int(rule.reason) != i+1 {
			t.Errorf("%s is stored as %d, want %d", rule.code, rule.reason, i+1)
		}
		if rule.reason.HasLimit() != (rule.limit != nil) {
			t.Errorf("%s: HasLimit is %v", rule.code, rule.reason.HasLimit())
		}
		money := rule.code == "WORKSPACE_DAILY_BUDGET_EXCEEDED" || rule.code == "USER_DAILY_BUDGET_EXCEEDED"
		if rule.reason.IsMoney() != money {
			t.Errorf("%s: IsMoney is %v", rule.code, rule.reason.IsMoney())
		}
	}
	codes = append(codes, "POLICY_DENIED", "POLICY_LIMIT_EXCEEDED", "REVIEW_NOT_SUPPORTED", "REVIEW_DENIED",
		"REVIEW_EXPIRED", "REVIEW_CANCELLED")
	for number, want := range codes {
		if got := guard.Reason(number).String(); got != want {
			t.Errorf("reason %d is %q, want %q", number, got, want)
		}
	}
	if guard.None != 0 || guard.None.HasLimit() || guard.None.IsMoney() {
		t.Errorf("None is %d, HasLimit %v, IsMoney %v", guard.None, guard.None.HasLimit(), guard.None.IsMoney())
	}
	for number := len(codes); number < 256; number++ {
		if got := guard.Reason(number).String(); got != "" {
			t.Errorf("reason %d, which does not exist, is %q", number, got)
		}
	}
}

func TestEachReasonIsReadBackFromItsCode(t *testing.T) {
	codes := guard.Reasons()
	if len(codes) != 14 {
		t.Errorf("%d reasons", len(codes))
	}
	for i, code := range codes {
		if r := guard.ParseReason(code); r != guard.Reason(i+1) || r.String() != code {
			t.Errorf("%s is read as %d", code, r)
		}
	}
	for _, code := range []string{"", "NONE", "user_blocked", "USER_BLOCKED "} {
		if r := guard.ParseReason(code); r != guard.None {
			t.Errorf("%q is read as %v", code, r)
		}
	}
}
