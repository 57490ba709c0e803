package demo

import (
	"container/heap"
	"context"
	"encoding/json"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

const (
	// days is how far back the history goes.
	days                        = 14
	piece                       = 500              // events a write
	quietBefore                 = 15 * time.Minute // no run starts so close to now: each is over by then
	killedDaysAgo, basicDaysAgo = 5, 12
	oddHour                     = 14 * time.Hour // of those days

	perHour = 22 // runs in the busiest hour of an ordinary day
)

// history plays scripts in the order of their times, each event when it is due.
type history struct {
	ws  storage.WorkspaceKey
	rng *rand.Rand
	now time.Time
	due events
	// made counts the events, to tell apart those of the same time.
	made int
}

// event is the next thing that happens in a run, or a block.
type event struct {
	at    time.Time
	order int // of events of the same time
	do    func(storage.Backfill, time.Time) error
}

// events is a heap by time; equal times keep the order in which they were planned.
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push is heap's.
func (e *events) Push(x any) { *e = append(*e, x.(event)) }

// Pop is heap's.
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// plan has do called at a time of the history. Events are run in the order of time, as live calls
// would be.
func (h *history) plan(at time.Time, do func(storage.Backfill, time.Time) error) {
	h.made++
	heap.Push(&h.due, event{at, h.made, do})
}

// newHistory plans the runs of each day, more on weekdays and by day, and the events of the
// workspace.
func newHistory(ws storage.WorkspaceKey, rng *rand.Rand, now time.Time) *history {
	h := &history{ws: ws, rng: rng, now: now.UTC().Truncate(time.Millisecond)}
	// The hour keeps a block of today in the past.
	for _, b := range blocks() {
		h.plan(h.now.AddDate(0, 0, -b.daysAgo).Add(-time.Hour), func(p storage.Backfill, at time.Time) error {
			return p.BlockUser(at, h.ws, b.user, &b.reason)
		})
	}
	midnight := h.now.Truncate(24 * time.Hour)
	for ago := days; ago >= 0; ago-- {
		h.planDay(midnight.AddDate(0, 0, -ago), ago)
	}
	return h
}

// planDay spreads a day's starts over its hours: people work from nine to six,
// and machines a little at night.
func (h *history) planDay(day time.Time, ago int) {
	pace := 0.7 + 0.6*h.rng.Float64()
	if weekday := day.Weekday(); weekday == time.Saturday || weekday == time.Sunday {
		pace *= 0.3
	}
	if ago == 4 || ago == 8 { // a campaign: whatever the weekday, the budget is not enough
		pace = 3
	}
	for hour := range 24 {
		// By the hour: a little at night, and most around noon.
		load := 0.08
		if hour >= 8 && hour < 18 {
			load = 1 - 0.12*float64(max(12-hour, hour-13, 0))
		}
		for range int(pace*load*perHour + h.rng.Float64()) {
			h.planRun(day.Add(time.Duration(hour)*time.Hour + time.Duration(h.rng.Int64N(int64(time.Hour)))))
		}
	}
	if ago == killedDaysAgo || ago == basicDaysAgo {
		for i := range 5 { // so that these are met on a Sunday too
			h.planRun(day.Add(oddHour + time.Duration(4+5*i)*time.Minute))
		}
	}
	if ago%5 == 2 { // somebody starts a whole batch at once
		burst := day.Add(10*time.Hour + time.Duration(h.rng.Int64N(int64(4*time.Hour))))
		for i := range concurrentRuns + 6 {
			h.planRun(burst.Add(time.Duration(i) * 300 * time.Millisecond))
		}
	}
}

// planRun plans a run of a random script. Runs that would still be open end before now: nobody goes
// on with them.
func (h *history) planRun(at time.Time) {
	// Drawn before anything is decided, so that the runs of other days do not depend on the
	// hour at which the demo is started.
	s := draw(h.rng)
	if at.Before(h.now.AddDate(0, 0, -days)) || at.After(h.now.Add(-quietBefore)) {
		return
	}
	// It would still be open now, with no agent behind it.
	if s.status == "" && at.After(h.now.Add(-2*storage.DefaultRunIdleTimeout)) {
		s.status = "FAILED"
	}
	h.plan(at.Truncate(time.Millisecond), func(p storage.Backfill, at time.Time) error { return h.start(p, at, s) })
}

// write plays everything that is due, a piece in each write.
func (h *history) write(ctx context.Context, store *storage.Store) error {
	for h.due.Len() > 0 {
		// Many events a write, because each write is a commit.
		err := store.WriteBackfill(ctx, func(p storage.Backfill) error {
			for n := 0; n < piece && h.due.Len() > 0; n++ {
				e := heap.Pop(&h.due).(event)
				if err := e.do(p, e.at); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// decide is the guard's decision, as things stood: twice in these weeks the
// workspace was not as it is now.
func (h *history) decide(req guard.Request, st guard.State) guard.Decision {
	since := func(days int) time.Duration {
		return req.At.Sub(h.now.Truncate(24*time.Hour).AddDate(0, 0, -days).Add(oddHour))
	}
	switch killed, basic := since(killedDaysAgo), since(basicDaysAgo); {
	case killed >= 0 && killed < 40*time.Minute: // an incident
		st.KillSwitch = true
	case basic >= 0 && basic < time.Hour: // the last hour before they upgraded
		basic := plans.All()[0]
		st.Plan, st.UserDailyBudget, st.RunsThisMonth = basic, plans.Budget{}, basic.MonthlyRuns
	}
	return guard.Decide(req, st)
}

// start starts a run; the rules may deny it, as they would a live one.
func (h *history) start(p storage.Backfill, at time.Time, s script) error {
	metadata, err := json.Marshal(s.metadata)
	if err != nil {
		return err
	}
	a, err := p.StartRun(at, h.ws, storage.NewRun{UserID: s.user, Metadata: metadata}, h.decide)
	if err != nil || !a.Decision.Allowed() {
		return err
	}
	h.plan(at.Add(s.steps[0].pause), func(p storage.Backfill, at time.Time) error { return h.ask(p, at, s, a.ID, 0) })
	return nil
}

// ask asks for a step, and plans what follows from the answer.
func (h *history) ask(p storage.Backfill, at time.Time, s script, run uuid.UUID, n int) error {
	step := s.steps[n]
	input, err := json.Marshal(step.input)
	if err != nil {
		return err
	}
	in := storage.NewStep{
		Type: storage.ParseStepType(step.kind), Sequence: int64(n + 1),
		Model: optional(step.model), ToolName: optional(step.tool), InputData: input,
	}
	a, err := p.CreateStep(at, h.ws, run, in, h.decide)
	switch {
	case err != nil:
		return err
	case a.Decision.Allowed():
		h.plan(at.Add(step.took), func(p storage.Backfill, at time.Time) error { return h.report(p, at, s, run, a.ID, n) })
	// Some agents go on after a denial, so that denials come in rows, as they do in life.
	case s.stubborn && n+1 < len(s.steps) && a.Decision.Reason != guard.RunAlreadyEnded:
		h.plan(at.Add(step.pause), func(p storage.Backfill, at time.Time) error { return h.ask(p, at, s, run, n+1) })
	case a.Decision.Reason != guard.RunAlreadyEnded:
		h.plan(at.Add(step.pause), func(p storage.Backfill, at time.Time) error {
			return p.EndRun(at, h.ws, run, storage.RunBlocked, storage.EndedByClient)
		})
	}
	return nil
}

// report reports how a step ended and what it used.
func (h *history) report(p storage.Backfill, at time.Time, s script, run, step uuid.UUID, n int) error {
	done := s.steps[n]
	took := done.took.Milliseconds()
	in := storage.StepUpdate{Status: storage.StepCompleted, DurationMillis: &took}
	if done.failure != "" {
		in.Status, in.Error = storage.StepFailed, &done.failure
	}
	if done.output != nil {
		output, err := json.Marshal(done.output)
		if err != nil {
			return err
		}
		in.OutputData = output
	}
	if done.model != "" {
		in.PromptTokens, in.CompletionTokens = &done.prompt, &done.completion
	}
	if err := p.UpdateStep(at, h.ws, run, step, in); err != nil {
		return err
	}
	switch next := n + 1; {
	case next < len(s.steps):
		h.plan(at.Add(done.pause), func(p storage.Backfill, at time.Time) error { return h.ask(p, at, s, run, next) })
	case s.status == "":
		h.plan(at.Add(storage.DefaultRunIdleTimeout), func(p storage.Backfill, at time.Time) error {
			return p.EndRun(at, h.ws, run, storage.RunFailed, storage.EndedByIdle)
		})
	default:
		h.plan(at.Add(done.pause), func(p storage.Backfill, at time.Time) error { return h.end(p, at, s, run) })
	}
	return nil
}

// end ends a run.
func (h *history) end(p storage.Backfill, at time.Time, s script, run uuid.UUID) error {
	if s.stubborn { // and has not noticed that it is over
		h.plan(at.Add(time.Second), func(p storage.Backfill, at time.Time) error { return h.ask(p, at, s, run, len(s.steps)-1) })
	}
	return p.EndRun(at, h.ws, run, storage.ParseRunStatus(s.status), storage.EndedByClient)
}

// optional returns nil for an empty text.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
