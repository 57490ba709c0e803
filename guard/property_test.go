package guard_test

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"pgregory.net/rapid"
)

// Any int64 anywhere and any time: nothing may panic, and nothing may be
// computed on the way that could overflow.
func TestEveryDecisionIsTheContractsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req, state := anyRequest().Draw(t, "request"), anyState().Draw(t, "state")
		got := guard.Decide(req, state)

		want := guard.Decision{ResetsAt: got.ResetsAt} // whose own tests are in resets_test.go
		for _, rule := range contractRules() {
			if !rule.askedAt(req.Kind) {
				continue
			}
			want.Evaluated = append(want.Evaluated, rule.reason)
			if !rule.objects(state) {
				continue
			}
			want.Reason = rule.reason
			if rule.limit != nil {
				want.Limit, want.Used = rule.limit(state), rule.used(state)
			}
			break
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-contract +code\n%s", diff)
		}
	})
}

func TestMoreUseNeverTurnsADenyIntoAnAllow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req, less := anyRequest().Draw(t, "request"), anyState().Draw(t, "state")
		atLeast := func(n int64, label string) int64 { return rapid.Int64Range(n, math.MaxInt64).Draw(t, label) }
		more := less
		more.SpentToday = plans.Money(atLeast(int64(less.SpentToday), "more spent"))
		more.UserSpentToday = plans.Money(atLeast(int64(less.UserSpentToday), "more spent by the user"))
		more.RunsThisMonth = atLeast(less.RunsThisMonth, "more runs")
		more.RunningRuns = atLeast(less.RunningRuns, "more running")
		more.RunEnded = less.RunEnded || rapid.Bool().Draw(t, "ends")
		more.KillSwitch = less.KillSwitch || rapid.Bool().Draw(t, "is stopped")
		more.UserBlocked = less.UserBlocked || rapid.Bool().Draw(t, "is blocked")
		more.UnpricedRefused = less.UnpricedRefused || rapid.Bool().Draw(t, "has no price")

		before, after := guard.Decide(req, less), guard.Decide(req, more)
		if !before.Allowed() && after.Allowed() {
			t.Errorf("%s, yet allowed with more use: %+v", before.Reason, more)
		}
		if !before.Allowed() && len(after.Evaluated) > len(before.Evaluated) {
			t.Errorf("%s, yet with more use a later rule answers: %s", before.Reason, after.Reason)
		}
	})
}

func TestTighterLimitsNeverTurnADenyIntoAnAllow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req, loose := anyRequest().Draw(t, "request"), anyState().Draw(t, "state")
		atMost := func(n int64, label string) int64 { return rapid.Int64Range(math.MinInt64, n).Draw(t, label) }
		tight := loose
		tight.DailyBudget.Limit = plans.Money(atMost(int64(loose.DailyBudget.Limit), "tighter budget"))
		tight.UserDailyBudget.Limit = plans.Money(atMost(int64(loose.UserDailyBudget.Limit), "tighter user budget"))
		tight.MaxConcurrentRuns = atMost(loose.MaxConcurrentRuns, "tighter concurrency")
		if loose.Plan.MonthlyRuns > 0 { // 0 is unlimited
			tight.Plan.MonthlyRuns = rapid.Int64Range(1, loose.Plan.MonthlyRuns).Draw(t, "tighter month")
		}
		if before, after := guard.Decide(req, loose), guard.Decide(req, tight); !before.Allowed() && after.Allowed() {
			t.Errorf("%s, yet allowed with tighter limits: %+v", before.Reason, tight)
		}
	})
}

func TestWithoutTheFeatureTheUserBudgetChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req, state := anyRequest().Draw(t, "request"), anyState().Draw(t, "state")
		state.Plan.HasUserDailyBudget = false
		without := state
		without.UserDailyBudget, without.UserSpentToday = plans.Budget{}, 0
		if diff := cmp.Diff(guard.Decide(req, without), guard.Decide(req, state)); diff != "" {
			t.Errorf("-without +with a user budget\n%s", diff)
		}
	})
}

func TestEvaluatedIsRegainedFromKindAndReason(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req, state := anyRequest().Draw(t, "request"), anyState().Draw(t, "state")
		d := guard.Decide(req, state)
		if diff := cmp.Diff(d.Evaluated, guard.Evaluated(req.Kind, d.Reason)); diff != "" {
			t.Errorf("-decided +regained\n%s", diff)
		}
		all := asked(req.Kind)
		if !d.Allowed() {
			all = all[:slices.Index(all, d.Reason)+1]
		}
		if diff := cmp.Diff(all, d.Evaluated); diff != "" {
			t.Errorf("-rules up to the objector +evaluated\n%s", diff)
		}
	})
}

func TestEvaluatedListsWhatTheContractAsks(t *testing.T) {
	for _, kind := range kinds() {
		all := asked(kind)
		if diff := cmp.Diff(all, guard.Evaluated(kind, guard.None)); diff != "" {
			t.Errorf("%s, allowed:\n-contract +code\n%s", kindName(kind), diff)
		}
		for i, reason := range all {
			if diff := cmp.Diff(all[:i+1], guard.Evaluated(kind, reason)); diff != "" {
				t.Errorf("%s, %s:\n-contract +code\n%s", kindName(kind), reason, diff)
			}
		}
	}
}

func TestTheSameQuestionGetsTheSameAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req, state := anyRequest().Draw(t, "request"), anyState().Draw(t, "state")
		otherReq, otherState := anyRequest().Draw(t, "other request"), anyState().Draw(t, "other state")
		first := guard.Decide(req, state)
		guard.Decide(otherReq, otherState)
		if diff := cmp.Diff(first, guard.Decide(req, state)); diff != "" {
			t.Errorf("-first +second\n%s", diff)
		}
	})
}

func TestSpoilingAnAnswerDoesNotReachTheNextOne(t *testing.T) {
	spoil := func(rules []guard.Reason) {
		rules = rules[:cap(rules)]
		for i := range rules {
			rules[i] = 99
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		req, state := anyRequest().Draw(t, "request"), anyState().Draw(t, "state")
		first := guard.Decide(req, state)
		kept := slices.Clone(first.Evaluated)
		spoil(first.Evaluated)
		spoil(guard.Evaluated(req.Kind, first.Reason))
		next := guard.Decide(req, state)
		if next.Reason != first.Reason || !slices.Equal(next.Evaluated, kept) {
			t.Errorf("%s after %v, then %s after %v", first.Reason, kept, next.Reason, next.Evaluated)
		}
	})
}

func TestTheHourChangesNoVerdict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req, state := anyRequest().Draw(t, "request"), anyState().Draw(t, "state")
		now, later := guard.Decide(req, state), guard.Request{Kind: req.Kind, At: anyRequest().Draw(t, "later").At}
		then := guard.Decide(later, state)
		now.ResetsAt, then.ResetsAt = moment(), moment()
		if diff := cmp.Diff(now, then); diff != "" {
			t.Errorf("-now +then\n%s", diff)
		}
	})
}
