package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const (
	maxBacktested = 100 // policies in one call
	// backtestDefault is how much of the past is replayed unless the caller asks for more.
	backtestDefault = 7 * day
	// backtestLongest is longer than any plan keeps history.
	backtestLongest = 400 * day
)

// backtest answers what policies would have said of what was recorded. It saves
// nothing. Of no time at all it answers whether the policies are right.
func (s *Server) backtest(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	now := s.Now()
	since, until := o.OptionalTime("since"), o.OptionalTime("until")
	if until.IsZero() {
		until = now
	}
	if since.IsZero() {
		since = until.Add(-backtestDefault)
	}
	switch {
	case until.Before(since):
		o.Refuse("since", "must not be after until")
	case until.Sub(since) > backtestLongest:
		o.Refuse("since", "must be at most 400 days before until")
	}
	list, err := readBacktested(o)
	if err != nil {
		return err
	}
	set, err := policies.Compile(list)
	if err != nil {
		return err
	}
	result, err := s.replay(c.ctx(), c.who.workspace, set, since, until)
	return c.ok(backtestOf(result, since, until), err)
}

// readBacktested reads the policies of a backtest, which name themselves.
func readBacktested(o *request.Object) (list []policies.Policy, err error) {
	var wrong error
	n := 0
	o.Objects("policies", maxBacktested, func(item *request.Object) {
		p, err := policies.Parse("", item.Raw())
		if err != nil {
			wrong = request.Join(wrong, invalidPolicy(err, item.Raw(), "body", "policies", n))
		}
		p.Enabled = true // asked about, whether it is switched on or not
		list = append(list, p)
		n++
	})
	if !o.Has("policies") {
		o.Refuse("policies", "name the policies to be asked")
	}
	o.RefuseUnknown()
	return list, request.Join(o.Err(), wrong)
}

// replay runs a backtest, of no time at all without reading anything.
func (s *Server) replay(
	ctx context.Context, ws storage.WorkspaceKey, set *policies.Set, since, until time.Time,
) (policies.Result, error) {
	// Of no time, which is a question about the policies alone.
	if !since.Before(until) {
		return policies.NewBacktest(set, time.UTC, time.Monday, since).Result(), nil
	}
	w, err := s.store.Workspace(ctx, ws)
	if err != nil {
		return policies.Result{}, err
	}
	zone, err := time.LoadLocation(w.Timezone)
	if err != nil {
		return policies.Result{}, fmt.Errorf("the workspace's time zone: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, s.Timeouts.Backtest)
	defer cancel()
	result, err := s.replayAlone(limited, ws, set, since, until, zone, w.WeekStart)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = badRequest("The backtest took too long, or others did before it. Choose a shorter time.")
	}
	return result, err
}

// replayAlone runs one backtest at a time: each reads much of the ledger, and two would slow
// decisions down twice as much. Others wait for their turn until their request times out.
func (s *Server) replayAlone(
	ctx context.Context, ws storage.WorkspaceKey, set *policies.Set, since, until time.Time,
	zone *time.Location, weekStart time.Weekday,
) (policies.Result, error) {
	if err := s.backtests.Acquire(ctx, 1); err != nil {
		return policies.Result{}, err
	}
	defer s.backtests.Release(1)
	test := policies.NewBacktest(set, zone, weekStart, since)
	// It may be earlier than since: limits need to know what was used of their window before.
	from := set.From(since, zone, weekStart)
	err := s.store.Replay(ctx, ws, from, until, set, func(e *policies.Event) error { return test.Add(ctx, e) })
	return test.Result(), err
}

// backtestJSON is what policies would have said of the runs and steps between since and until.
// not_spent_usd is what the steps that they would have denied cost.
type backtestJSON struct {
	Since      wire.Time             `json:"since"`
	Until      wire.Time             `json:"until"`
	Runs       int64                 `json:"runs"`
	Steps      int64                 `json:"steps"`
	DeniedRuns int64                 `json:"denied_runs"`
	Denied     int64                 `json:"denied"`
	Reviewed   int64                 `json:"reviewed"`
	Logged     int64                 `json:"logged"`
	NotSpent   plans.Money           `json:"not_spent_usd"`
	ByPolicy   []backtestPolicyJSON  `json:"by_policy"`
	ByDay      []backtestDayJSON     `json:"by_day"`
	Examples   []backtestExampleJSON `json:"examples"`
}

// backtestPolicyJSON is one policy's part in it.
type backtestPolicyJSON struct {
	Policy     string `json:"policy_name"`
	DeniedRuns int64  `json:"denied_runs"`
	Denied     int64  `json:"denied"`
	Reviewed   int64  `json:"reviewed"`
	Logged     int64  `json:"logged"`
	Failed     int64  `json:"failed"` // its expression could not be evaluated
}

// backtestDayJSON is one UTC day's part in it.
type backtestDayJSON struct {
	Date       string      `json:"date"`
	Steps      int64       `json:"steps"`
	DeniedRuns int64       `json:"denied_runs"`
	Denied     int64       `json:"denied"`
	Reviewed   int64       `json:"reviewed"`
	NotSpent   plans.Money `json:"not_spent_usd"`
}

// backtestExampleJSON is one call to which a policy would have objected.
type backtestExampleJSON struct {
	Run    string          `json:"run_id"`
	Step   wire.NullString `json:"step_id"` // null for the run's start
	Policy string          `json:"policy_name"`
	Effect string          `json:"effect"`
	At     wire.Time       `json:"at"`
}

// backtestOf converts a result for the API.
func backtestOf(r policies.Result, since, until time.Time) backtestJSON {
	return backtestJSON{
		Since: wire.Time(since), Until: wire.Time(until), Runs: r.Runs, Steps: r.Steps,
		DeniedRuns: r.DeniedRuns, Denied: r.Denied, Reviewed: r.Reviewed, Logged: r.Logged, NotSpent: r.NotSpent,
		ByPolicy: wire.Map(r.ByPolicy, func(p policies.PolicyResult) backtestPolicyJSON {
			return backtestPolicyJSON{p.Policy, p.DeniedRuns, p.Denied, p.Reviewed, p.Logged, p.Failed}
		}),
		ByDay: wire.Map(r.ByDay, func(d policies.DayResult) backtestDayJSON { return backtestDayJSON(d) }),
		Examples: wire.Map(r.Examples, func(e policies.Example) backtestExampleJSON {
			return backtestExampleJSON{e.Run, wire.NullString(e.Step), e.Policy, e.Effect.String(), wire.Time(e.At)}
		}),
	}
}
