// Package guard is the decision engine. Given a request and the state of its workspace, Decide
// answers ALLOW or DENY with a reason, and DecidePolicies adds what the workspace's own policies
// say, which may be REVIEW. It is pure: the same input always gives the same decision, and it reads
// no clock.
package guard

import (
	"time"

	"github.com/pikarc/server/plans"
)

// Kind is what an agent asks for.
type Kind uint8

// The questions an agent asks.
const (
	Start     Kind = iota + 1 // may a new run begin?
	Step                      // may this run take its next step?
	Heartbeat                 // may this run go on? Nothing is recorded.
)

// Reason names the rule or policy verdict that objected. The values are stored: never renumber. A
// new reason takes the next free value, whatever its place in order, and is also listed in
// storage/verify/invariants.go.
type Reason uint8

// The reasons of a DENY; None is an ALLOW.
const (
	// None is the reason of an ALLOW.
	None Reason = 0
	// RunAlreadyEnded: nothing more is asked for in a run that has ended, whoever ended it.
	RunAlreadyEnded Reason = 1
	// KillSwitchActive: somebody has stopped all agents of the workspace.
	KillSwitchActive Reason = 2
	// UserBlocked: the user that the agent runs for is blocked.
	UserBlocked Reason = 3
	// WorkspaceDailyBudgetExceeded: the workspace has spent its budget of this UTC day.
	WorkspaceDailyBudgetExceeded Reason = 4
	// UserDailyBudgetExceeded: the user has spent the budget that each user has for a UTC day.
	UserDailyBudgetExceeded Reason = 5
	// MonthlyRunLimitExceeded: the plan's runs of this calendar month (UTC) are used up.
	MonthlyRunLimitExceeded Reason = 6
	// MaxConcurrentRunsExceeded: too many runs of the workspace are open at once.
	MaxConcurrentRunsExceeded Reason = 7
	// ModelNotPriced: the model has no price, and the workspace allows no unpriced ones.
	ModelNotPriced Reason = 8

	// Those of policies and of the people who review; see DecidePolicies.
	PolicyDenied Reason = 9
	// PolicyLimitExceeded: the limit of a policy is used up.
	PolicyLimitExceeded Reason = 10
	ReviewNotSupported  Reason = 11 // a person would be asked, but the client cannot wait for one
	ReviewDenied        Reason = 12 // by a person
	ReviewExpired       Reason = 13 // nobody has said anything in time
	ReviewCancelled     Reason = 14 // what was asked about is no longer possible
)

// String is the code that the API shows.
func (r Reason) String() string {
	switch r {
	case RunAlreadyEnded:
		return "RUN_ALREADY_ENDED"
	case KillSwitchActive:
		return "KILL_SWITCH_ACTIVE"
	case UserBlocked:
		return "USER_BLOCKED"
	case WorkspaceDailyBudgetExceeded:
		return "WORKSPACE_DAILY_BUDGET_EXCEEDED"
	case UserDailyBudgetExceeded:
		return "USER_DAILY_BUDGET_EXCEEDED"
	case MonthlyRunLimitExceeded:
		return "MONTHLY_RUN_LIMIT_EXCEEDED"
	case MaxConcurrentRunsExceeded:
		return "MAX_CONCURRENT_RUNS_EXCEEDED"
	case ModelNotPriced:
		return "MODEL_NOT_PRICED"
	case PolicyDenied:
		return "POLICY_DENIED"
	case PolicyLimitExceeded:
		return "POLICY_LIMIT_EXCEEDED"
	case ReviewNotSupported:
		return "REVIEW_NOT_SUPPORTED"
	case ReviewDenied:
		return "REVIEW_DENIED"
	case ReviewExpired:
		return "REVIEW_EXPIRED"
	case ReviewCancelled:
		return "REVIEW_CANCELLED"
	default:
		return ""
	}
}

// Reasons lists the codes of all reasons, those of policies and reviews included, in the order of
// their values from 1.
func Reasons() []string {
	var codes []string
	for r := RunAlreadyEnded; r.String() != ""; r++ {
		codes = append(codes, r.String())
	}
	return codes
}

// ParseReason is the reverse of String; None for any other code.
func ParseReason(code string) Reason {
	for r := RunAlreadyEnded; r.String() != ""; r++ {
		if r.String() == code {
			return r
		}
	}
	return None
}

// IsMoney reports whether the rule's Limit and Used are plans.Money; otherwise they count runs. A
// new reason that limits money must be added here.
func (r Reason) IsMoney() bool {
	return r == WorkspaceDailyBudgetExceeded || r == UserDailyBudgetExceeded
}

// HasLimit reports whether the rule compares usage with a limit. A new reason that does so must be
// added here: the API answers null for limit and used of all others.
func (r Reason) HasLimit() bool {
	return r >= WorkspaceDailyBudgetExceeded && r <= MaxConcurrentRunsExceeded || r == PolicyLimitExceeded
}

// IsPolicy reports whether the reason names a policy.
func (r Reason) IsPolicy() bool { return r >= PolicyDenied && r <= ReviewCancelled }

// Request is what is asked, and when.
type Request struct {
	Kind Kind
	At   time.Time
}

// State is all that a decision depends on, as it stands inside the
// transaction that will record the decision.
type State struct {
	// The plan's limits of runs.
	Plan plans.Plan

	// What is asked of a run; false for a start.
	RunEnded bool
	// Set by the workspace.
	KillSwitch  bool
	UserBlocked bool

	UnpricedRefused bool // the step calls a model without a price, and the workspace refuses that

	// Budgets that are not set object to nothing; one of 0 objects to everything.
	DailyBudget     plans.Budget
	SpentToday      plans.Money // by the workspace, this UTC day
	UserDailyBudget plans.Budget
	UserSpentToday  plans.Money

	RunsThisMonth int64 // allowed runs started this UTC month
	// The counter is one of the workspace, over all users and keys.
	RunningRuns       int64
	MaxConcurrentRuns int64
}

// Decision is the answer.
type Decision struct {
	Reason Reason // None allows, unless a person is to be asked
	// Review asks for a person's word: neither an ALLOW nor a DENY.
	Review bool
	// Policy is the one that denies, or wants a person asked; nil for none.
	Policy *Policy
	// Limit and Used are those of the rule that objected, in nano-USD or a count
	// (IsMoney), and 0 where Reason.HasLimit is false.
	Limit, Used int64
	// ResetsAt is when the rule stops objecting by itself; zero when it does not.
	ResetsAt time.Time
	// Evaluated are the rules looked at, in the order asked; the last of them
	// objected, if any did.
	Evaluated []Reason
	// Policies names those that were asked after the rules, in their order.
	Policies []string
}

// Allowed reports whether the answer is ALLOW.
func (d Decision) Allowed() bool { return d.Reason == None && !d.Review }

// Denied reports whether the answer is DENY.
func (d Decision) Denied() bool { return d.Reason != None }

// Outcome is the answer as the API writes it.
func (d Decision) Outcome() string {
	switch {
	case d.Denied():
		return "DENY"
	case d.Review:
		return "REVIEW"
	default:
		return "ALLOW"
	}
}

// IsMoney reports whether Limit and Used are plans.Money.
func (d Decision) IsMoney() bool { return d.Reason.IsMoney() || d.Policy != nil && d.Policy.Money }

// Decide asks the rules in their order; the first that objects answers.
func Decide(req Request, state State) Decision {
	rules := order(req.Kind)
	for i, rule := range rules {
		if d, objects := evaluate(rule, req.At, state); objects {
			d.Reason = rule
			d.Evaluated = rules[:i+1]
			return d
		}
	}
	return Decision{Evaluated: rules}
}

// Evaluated lists the rules that a decision of this kind and reason has evaluated. It is computed
// and not stored, so a rule that is inserted before others appears in their old decisions too.
func Evaluated(kind Kind, reason Reason) []Reason {
	rules := order(kind)
	for i, rule := range rules {
		if rule == reason {
			return rules[:i+1]
		}
	}
	return rules
}

// order lists the rules that apply to a kind of request, in the order in which they are asked. The
// default is the heartbeat.
func order(kind Kind) []Reason {
	switch kind {
	case Start:
		return []Reason{
			KillSwitchActive, UserBlocked, WorkspaceDailyBudgetExceeded, UserDailyBudgetExceeded,
			MonthlyRunLimitExceeded, MaxConcurrentRunsExceeded,
		}
	case Step:
		return []Reason{
			RunAlreadyEnded, KillSwitchActive, UserBlocked, WorkspaceDailyBudgetExceeded, UserDailyBudgetExceeded,
			ModelNotPriced,
		}
	default:
		return []Reason{
			RunAlreadyEnded, KillSwitchActive, UserBlocked, WorkspaceDailyBudgetExceeded, UserDailyBudgetExceeded,
		}
	}
}

// evaluate returns the rule's decision, without a reason, and reports whether the rule objects.
func evaluate(rule Reason, at time.Time, s State) (Decision, bool) {
	switch rule {
	case RunAlreadyEnded:
		return Decision{}, s.RunEnded
	case KillSwitchActive:
		return Decision{}, s.KillSwitch
	case UserBlocked:
		return Decision{}, s.UserBlocked
	case WorkspaceDailyBudgetExceeded:
		return budget(s.DailyBudget, s.SpentToday, at)
	case UserDailyBudgetExceeded:
		if !s.Plan.HasUserDailyBudget {
			return Decision{}, false
		}
		return budget(s.UserDailyBudget, s.UserSpentToday, at)
	case MonthlyRunLimitExceeded:
		limit := s.Plan.MonthlyRuns
		d := Decision{Limit: limit, Used: s.RunsThisMonth, ResetsAt: nextMonth(at)}
		return d, limit > 0 && s.RunsThisMonth >= limit
	case MaxConcurrentRunsExceeded:
		d := Decision{Limit: s.MaxConcurrentRuns, Used: s.RunningRuns}
		return d, s.RunningRuns >= s.MaxConcurrentRuns
	case ModelNotPriced:
		return Decision{}, s.UnpricedRefused
	default:
		return Decision{}, false
	}
}

// budget objects once a day's budget is spent. Budgets are compared with what was spent, not with
// what a call will cost, which nobody knows: a call may go beyond, the next one is denied.
func budget(b plans.Budget, spent plans.Money, at time.Time) (Decision, bool) {
	d := Decision{Limit: int64(b.Limit), Used: int64(spent), ResetsAt: nextDay(at)}
	return d, b.Set && spent >= b.Limit
}

// nextDay is the next midnight in UTC, when daily budgets begin anew.
func nextDay(at time.Time) time.Time {
	y, m, d := at.UTC().Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC)
}

// nextMonth is the first of the next month in UTC.
func nextMonth(at time.Time) time.Time {
	y, m, _ := at.UTC().Date()
	return time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC)
}
