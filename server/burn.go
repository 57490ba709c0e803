package server

import (
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const (
	// burnTimes is how many times the usual burns.
	burnTimes = 10
	// burnShare is the part of the daily budget that must go in an hour for it to
	// burn, and burnFloor the sum where there is no budget: less is never worth
	// waking anybody for.
	burnShare = 10
	// burnFloor is the spend of a minute below which nothing is called burning: a few cents are
	// often many times the usual.
	burnFloor = 1 * plans.USD
	// soon is within how much time the budget must be gone to burn where nothing is
	// known of what is usual.
	soon = time.Hour
)

// burnJSON is the spend of the last hour by minutes, and what it is compared with.
type burnJSON struct {
	At           wire.Time      `json:"at"`
	PerMinute    plans.Money    `json:"usd_per_minute"`
	Usual        *plans.Money   `json:"usual_usd_per_minute"`
	Burning      bool           `json:"burning"`
	BudgetGoneAt wire.Time      `json:"budget_gone_at"`
	Minutes      []minuteJSON   `json:"minutes"`
	Today        plans.Money    `json:"today_usd"`
	Yesterday    *plans.Money   `json:"yesterday_usd"`
	LastWeek     *plans.Money   `json:"last_week_usd"`
	Culprit      *culpritJSON   `json:"most_expensive"`
	Runs         []burningJSON  `json:"runs"`
	NearestUser  *userSpendJSON `json:"nearest_user"`
	AtBudget     int64          `json:"users_at_budget"`
	Stopped      *stoppedJSON   `json:"stopped"`
	Reviews      int64          `json:"reviews_waiting"`
}

// minuteJSON is a minute's spend, and the run that spent most of it.
type minuteJSON struct {
	At    wire.Time   `json:"at"`
	Spend plans.Money `json:"total_usd"`
	Run   *uuid.UUID  `json:"top_run_id"`
	Top   plans.Money `json:"top_run_usd"`
}

// burningJSON is a run with what it spends a minute, the most expensive first.
type burningJSON struct {
	Run       wire.Run    `json:"run"`
	PerMinute plans.Money `json:"usd_per_minute"`
	Doing     *doingJSON  `json:"latest_step"`
}

// doingJSON is the run's latest step.
type doingJSON struct {
	Type     string          `json:"type"`
	Model    wire.NullString `json:"model"`
	ToolName wire.NullString `json:"tool_name"`
	At       wire.Time       `json:"created_at"`
}

// culpritJSON is a run, or a user with several, that spends at least half.
type culpritJSON struct {
	UserID    string          `json:"user_id"`
	Run       *uuid.UUID      `json:"run_id"`
	Title     wire.NullString `json:"title"`
	Runs      int64           `json:"run_count"`
	PerMinute plans.Money     `json:"usd_per_minute"`
}

// userSpendJSON is what a user has spent today.
type userSpendJSON struct {
	UserID string      `json:"user_id"`
	Spend  plans.Money `json:"total_usd"`
}

// stoppedJSON tells who turned the kill switch on.
type stoppedJSON struct {
	Since  wire.Time       `json:"since"`
	By     wire.NullString `json:"by"`
	Reason wire.NullString `json:"reason"`
}

// readBurn answers GET /v1/usage/now. It reads counters by the minute, never steps.
func (s *Server) readBurn(c *call) error {
	b, err := s.store.Burn(c.ctx(), c.who.workspace)
	if err != nil {
		return err
	}
	out := burnJSON{
		At: wire.Time(b.At), PerMinute: b.PerMinute, Usual: b.Usual,
		Burning: burning(b), BudgetGoneAt: wire.Time(budgetGoneAt(b)),
		Today: b.Today, Yesterday: b.Yesterday, LastWeek: b.LastWeek, Culprit: culpritOf(b),
		Runs: wire.Map(b.Runs, burningOf), AtBudget: b.UsersAtBudget, Reviews: b.ReviewsWaiting,
	}
	first := b.At.Truncate(time.Minute).Add(-time.Duration(len(b.Minutes)-1) * time.Minute)
	for i, m := range b.Minutes {
		minute := minuteJSON{At: wire.Time(first.Add(time.Duration(i) * time.Minute)),
			Spend: m.Spend, Top: m.Top}
		if m.Run != uuid.Nil {
			minute.Run = &m.Run
		}
		out.Minutes = append(out.Minutes, minute)
	}
	if u := b.NearestUser; u != nil {
		out.NearestUser = &userSpendJSON{u.UserID, u.Spend}
	}
	if stop := b.Stop; stop != nil {
		out.Stopped = &stoppedJSON{wire.Time(stop.Since), wire.NullString(stop.Actor.Name),
			wire.NullString(stop.Reason)}
	}
	c.json(http.StatusOK, out)
	return nil
}

// burningOf converts a run for the API.
func burningOf(r storage.BurningRun) burningJSON {
	out := burningJSON{Run: wire.RunOf(r.Run), PerMinute: r.PerMinute}
	if d := r.Doing; d != nil {
		out.Doing = &doingJSON{d.Type.String(), wire.NullString(d.Model),
			wire.NullString(d.ToolName), wire.Time(d.At)}
	}
	return out
}

// burning reports whether money goes so much faster than usual that somebody
// should look: ten times the usual, and enough to matter within an hour. Where
// too few days are known, it is whether the budget would be gone in an hour.
func burning(b storage.Burn) bool {
	worth := burnFloor
	if b.Budget.Set {
		worth = b.Budget.Limit / burnShare
	}
	hour := b.PerMinute * 60
	if b.PerMinute <= 0 || hour < worth {
		return false
	}
	if b.Usual != nil {
		return b.PerMinute >= *b.Usual*burnTimes
	}
	gone := budgetGoneAt(b)
	return !gone.IsZero() && gone.Sub(b.At) <= soon
}

// budgetGoneAt is when the day's budget is spent at this rate; zero when it
// lasts until the day ends.
func budgetGoneAt(b storage.Burn) time.Time {
	midnight := b.At.UTC().Truncate(day).Add(day)
	if !b.Budget.Set || b.PerMinute <= 0 {
		return time.Time{}
	}
	left := max(0, b.Budget.Limit-b.Today)
	if seconds := float64(left) * 60 / float64(b.PerMinute); seconds < midnight.Sub(b.At).Seconds() {
		return b.At.Add(time.Duration(seconds * float64(time.Second)))
	}
	return time.Time{}
}

// culpritOf finds the one run that spends at least half of all, or else the one
// user who does with several.
func culpritOf(b storage.Burn) *culpritJSON {
	if b.PerMinute <= 0 || len(b.Runs) == 0 {
		return nil
	}
	if r := b.Runs[0]; r.PerMinute*2 >= b.PerMinute {
		return &culpritJSON{r.UserID, &r.ID, wire.NullString(r.Title), 1, r.PerMinute}
	}
	sums := map[string]*culpritJSON{}
	for _, r := range b.Runs {
		u := sums[r.UserID]
		if u == nil {
			u = &culpritJSON{UserID: r.UserID}
			sums[r.UserID] = u
		}
		u.Runs++
		u.PerMinute += r.PerMinute
	}
	for _, u := range sums {
		if u.PerMinute*2 > b.PerMinute {
			return u
		}
	}
	return nil
}

// maxHours is how much can be told by the hour: three days, with an hour that a zone's clocks go
// back.
const maxHours = 73 * time.Hour

// hourSpendJSON is what was spent in an hour.
type hourSpendJSON struct {
	At    wire.Time   `json:"at"`
	Spend plans.Money `json:"total_usd"`
}

// usageHoursJSON has nulls for hours that are no longer kept.
type usageHoursJSON struct {
	Hours  []hourSpendJSON `json:"hours"`
	Before []hourSpendJSON `json:"before"`
}

func (s *Server) hoursOf(c *call, in storage.UsageQuery) (*usageHoursJSON, error) {
	read := func(from, to time.Time) (out []hourSpendJSON, err error) {
		hours, err := s.store.SpendByHour(c.ctx(), c.who.workspace, from, to)
		for i, spend := range hours {
			out = append(out, hourSpendJSON{wire.Time(from.Add(time.Duration(i) * time.Hour)), spend})
		}
		return out, err
	}
	hours, err := read(in.From, in.To)
	if err != nil || in.BeforeFrom.IsZero() || in.BeforeTo.Sub(in.BeforeFrom) > maxHours {
		return &usageHoursJSON{Hours: hours}, err
	}
	before, err := read(in.BeforeFrom, in.BeforeTo)
	return &usageHoursJSON{hours, before}, err
}
