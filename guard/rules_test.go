package guard_test

import (
	"time"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"pgregory.net/rapid"
)

// rule is one row of the contract's table of decision rules, with a way to
// break it and nothing else.
type rule struct {
	reason   guard.Reason
	code     string
	start    bool // asked when a run starts
	step     bool // asked at a step and, unless it is of the step itself, at a heartbeat
	itself   bool // asks about the step itself
	objects  func(guard.State) bool
	violate  func(*guard.State)
	limit    func(guard.State) int64 // nil where the rule compares nothing
	used     func(guard.State) int64
	resetsAt time.Time // for a decision at moment(); zero where it never resets by itself
}

// moment is when the table's decisions are made.
func moment() time.Time { return time.Date(2026, 11, 23, 7, 8, 29, 123_000_000, time.UTC) }

// contractRules is the table, in the contract's order.
func contractRules() []rule {
	tomorrow := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	return []rule{
		{
			reason: guard.RunAlreadyEnded, code: "RUN_ALREADY_ENDED", step: true,
			objects: func(s guard.State) bool { return s.RunEnded },
			violate: func(s *guard.State) { s.RunEnded = true },
		},
		{
			reason: guard.KillSwitchActive, code: "KILL_SWITCH_ACTIVE", start: true, step: true,
			objects: func(s guard.State) bool { return s.KillSwitch },
			violate: func(s *guard.State) { s.KillSwitch = true },
		},
		{
			reason: guard.UserBlocked, code: "USER_BLOCKED", start: true, step: true,
			objects: func(s guard.State) bool { return s.UserBlocked },
			violate: func(s *guard.State) { s.UserBlocked = true },
		},
		{
			reason: guard.WorkspaceDailyBudgetExceeded, code: "WORKSPACE_DAILY_BUDGET_EXCEEDED", start: true, step: true,
			objects:  func(s guard.State) bool { return s.DailyBudget.Set && s.SpentToday >= s.DailyBudget.Limit },
			violate:  func(s *guard.State) { s.SpentToday = s.DailyBudget.Limit },
			limit:    func(s guard.State) int64 { return int64(s.DailyBudget.Limit) },
			used:     func(s guard.State) int64 { return int64(s.SpentToday) },
			resetsAt: tomorrow,
		},
		{
			reason: guard.UserDailyBudgetExceeded, code: "USER_DAILY_BUDGET_EXCEEDED", start: true, step: true,
			objects: func(s guard.State) bool {
				return s.Plan.HasUserDailyBudget && s.UserDailyBudget.Set && s.UserSpentToday >= s.UserDailyBudget.Limit
			},
			violate:  func(s *guard.State) { s.UserSpentToday = s.UserDailyBudget.Limit },
			limit:    func(s guard.State) int64 { return int64(s.UserDailyBudget.Limit) },
			used:     func(s guard.State) int64 { return int64(s.UserSpentToday) },
			resetsAt: tomorrow,
		},
		{
			reason: guard.MonthlyRunLimitExceeded, code: "MONTHLY_RUN_LIMIT_EXCEEDED", start: true,
			objects:  func(s guard.State) bool { return s.Plan.MonthlyRuns > 0 && s.RunsThisMonth >= s.Plan.MonthlyRuns },
			violate:  func(s *guard.State) { s.RunsThisMonth = s.Plan.MonthlyRuns },
			limit:    func(s guard.State) int64 { return s.Plan.MonthlyRuns },
			used:     func(s guard.State) int64 { return s.RunsThisMonth },
			resetsAt: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
		},
		{
			reason: guard.MaxConcurrentRunsExceeded, code: "MAX_CONCURRENT_RUNS_EXCEEDED", start: true,
			objects: func(s guard.State) bool { return s.RunningRuns >= s.MaxConcurrentRuns },
			violate: func(s *guard.State) { s.RunningRuns = s.MaxConcurrentRuns },
			limit:   func(s guard.State) int64 { return s.MaxConcurrentRuns },
			used:    func(s guard.State) int64 { return s.RunningRuns },
		},
		{
			reason: guard.ModelNotPriced, code: "MODEL_NOT_PRICED", step: true, itself: true,
			objects: func(s guard.State) bool { return s.UnpricedRefused },
			violate: func(s *guard.State) { s.UnpricedRefused = true },
		},
	}
}

func kinds() []guard.Kind { return []guard.Kind{guard.Start, guard.Step, guard.Heartbeat} }

func kindName(k guard.Kind) string {
	return map[guard.Kind]string{guard.Start: "start", guard.Step: "step", guard.Heartbeat: "heartbeat"}[k]
}

func (r rule) askedAt(k guard.Kind) bool {
	return k == guard.Start && r.start || k == guard.Step && r.step || k == guard.Heartbeat && r.step && !r.itself
}

// asked lists the reasons that the contract asks for, in order.
func asked(k guard.Kind) []guard.Reason {
	var reasons []guard.Reason
	for _, r := range contractRules() {
		if r.askedAt(k) {
			reasons = append(reasons, r.reason)
		}
	}
	return reasons
}

// calm is a state with every limit set and none reached; no two numbers in it
// are alike, so that a mix-up shows.
func calm() guard.State {
	return guard.State{
		Plan:              plans.Plan{ID: plans.Pro, MonthlyRuns: 50_000, HasUserDailyBudget: true},
		DailyBudget:       plans.Budget{Limit: 10 * plans.USD, Set: true},
		SpentToday:        4 * plans.USD,
		UserDailyBudget:   plans.Budget{Limit: 2 * plans.USD, Set: true},
		UserSpentToday:    1 * plans.USD,
		RunsThisMonth:     49_000,
		RunningRuns:       5,
		MaxConcurrentRuns: 7,
	}
}

// number draws any int64, small ones and the ends often, so that use and limit
// often meet.
func number() *rapid.Generator[int64] {
	const lowest, highest = -1 << 63, 1<<63 - 1
	return rapid.OneOf(
		rapid.Int64Range(-1, 3), rapid.Int64Range(lowest, lowest+2), rapid.Int64Range(highest-2, highest), rapid.Int64(),
	)
}

func anyState() *rapid.Generator[guard.State] {
	return rapid.Custom(func(t *rapid.T) guard.State {
		money := rapid.Map(number(), func(n int64) plans.Money { return plans.Money(n) })
		plan := rapid.SampledFrom(plans.All()).Draw(t, "plan")
		if rapid.Bool().Draw(t, "invented plan") {
			plan = plans.Plan{MonthlyRuns: number().Draw(t, "monthly"), HasUserDailyBudget: rapid.Bool().Draw(t, "user budgets")}
		}
		rarely := rapid.Map(rapid.IntRange(0, 7), func(n int) bool { return n == 7 })
		return guard.State{
			Plan:              plan,
			RunEnded:          rarely.Draw(t, "ended"),
			KillSwitch:        rarely.Draw(t, "kill switch"),
			UserBlocked:       rarely.Draw(t, "blocked"),
			UnpricedRefused:   rarely.Draw(t, "unpriced"),
			DailyBudget:       plans.Budget{Limit: money.Draw(t, "budget"), Set: rapid.Bool().Draw(t, "budget set")},
			SpentToday:        money.Draw(t, "spent"),
			UserDailyBudget:   plans.Budget{Limit: money.Draw(t, "user budget"), Set: rapid.Bool().Draw(t, "user budget set")},
			UserSpentToday:    money.Draw(t, "user spent"),
			RunsThisMonth:     number().Draw(t, "runs"),
			RunningRuns:       number().Draw(t, "running"),
			MaxConcurrentRuns: number().Draw(t, "concurrency"),
		}
	})
}

// anyRequest asks anything at any time that Go can hold, in any zone.
func anyRequest() *rapid.Generator[guard.Request] {
	return rapid.Custom(func(t *rapid.T) guard.Request {
		const day = 24 * 60 * 60
		zone := time.FixedZone("somewhere", rapid.IntRange(-day, day).Draw(t, "offset"))
		at := time.Unix(number().Draw(t, "seconds"), number().Draw(t, "nanoseconds")).In(zone)
		return guard.Request{Kind: rapid.SampledFrom(kinds()).Draw(t, "kind"), At: at}
	})
}
