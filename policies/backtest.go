package policies

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"time"

	"github.com/pikarc/server/plans"
)

// Event is a step that was allowed when it was asked for, or the start of a run
// that was. Of its Facts the recorder knows the Type, Tool, Model, User, Run,
// Tags, Metadata and Input: a backtest works out the others.
type Event struct {
	Facts

	At       time.Time
	Step     string // its id; empty for a start
	Action   uint64 // a hash of what Repeats compares
	Cost     plans.Money
	Tokens   int64
	BookedAt time.Time // when its use was reported; zero where none was
}

// Backtest answers what policies would have said of what was recorded. It takes
// everything else as it happened: an agent that is denied a step goes on with
// its next one, and a person approves what is put to them.
type Backtest struct {
	set    *Set
	zone   *time.Location
	starts time.Weekday
	since  time.Time

	runs   map[string]*replayedRun
	limits []*counters // by rule; nil without a limit that counts
	place  map[*Rule]int
	// Costs that are not booked yet at the time of the event: they count from their report on.
	pending bookings
	result  Result
	days    map[string]*DayResult
	objects map[*Rule]*PolicyResult
}

// replayedRun is what expressions and repeats need to know of a run.
type replayedRun struct {
	startedAt time.Time
	steps     int64
	spent     plans.Money
	history   []uint64
	denied    bool // its start: nothing of it would have happened
}

// NewBacktest begins a backtest. Events before since are counted, so that limits
// stand where they would, and told in no result: see Set.From.
func NewBacktest(set *Set, zone *time.Location, weekStart time.Weekday, since time.Time) *Backtest {
	b := &Backtest{
		set: set, zone: zone, starts: weekStart, since: since,
		runs: make(map[string]*replayedRun), place: make(map[*Rule]int),
		days: make(map[string]*DayResult), objects: make(map[*Rule]*PolicyResult),
	}
	for i, r := range set.rules {
		b.place[r] = i
		var c *counters
		if r.Limit != nil && r.Limit.Measure != MeasureRepeats {
			c = &counters{limit: r.Limit, zone: zone, weekStart: weekStart, scopes: make(map[string]*counter)}
		}
		b.limits = append(b.limits, c)
		b.objects[r] = &PolicyResult{Policy: r.Name}
	}
	return b
}

// From is the time from which events must be added for limits to stand at since
// as they would have: where their windows begin, and at most a month before.
func (s *Set) From(since time.Time, zone *time.Location, weekStart time.Weekday) time.Time {
	const longest = 31 * 24 * time.Hour
	from := since
	for _, r := range s.rules {
		if r.Limit == nil {
			continue
		}
		if first, _, _ := r.Limit.Buckets(since, zone, weekStart); first.Before(from) {
			from = first
		}
	}
	if earliest := since.Add(-longest); from.Before(earliest) {
		return earliest
	}
	return from
}

// Add takes the next event, in the order of time. The only error is that of the
// context.
func (b *Backtest) Add(ctx context.Context, e *Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.book(e.At)
	run := b.run(e)
	if run.denied {
		b.tell(e, func(day *DayResult) {
			day.NotSpent += e.Cost
			b.result.NotSpent += e.Cost
		})
		return nil
	}
	f := &e.Facts
	f.Steps, f.Spent, f.StartedAt, f.Now, f.Repeats = run.steps, run.spent, run.startedAt, e.At, 0
	if !f.Start && b.set.repeats {
		f.Repeats = Repeats(run.history, e.Action)
	}
	verdict, counted := b.ask(ctx, e)
	b.record(e, verdict)
	switch {
	case verdict.denied == nil:
		b.count(e, run, counted)
	case f.Start:
		run.denied = true
	}
	if !f.Start {
		b.remember(e, run)
	}
	return nil
}

// remember counts a step of the run, denied or not.
func (b *Backtest) remember(e *Event, run *replayedRun) {
	run.steps++
	if !b.set.repeats {
		return
	}
	run.history = append(run.history, e.Action)
	if len(run.history) > 2*History {
		run.history = append(run.history[:0], run.history[len(run.history)-History:]...)
	}
}

// run returns the replayed run of an event, new if it is the first one.
func (b *Backtest) run(e *Event) *replayedRun {
	run := b.runs[e.Run]
	if run == nil {
		run = &replayedRun{startedAt: e.At}
		b.runs[e.Run] = run
	}
	return run
}

// verdict is what the policies say of one event.
type verdict struct {
	denied, reviewed *Rule
	logged, failed   []*Rule
}

// ask asks the rules in their order. It returns those as well whose limits
// would count the event.
func (b *Backtest) ask(ctx context.Context, e *Event) (v verdict, counted []*Rule) {
	for _, r := range b.set.Matching(&e.Facts) {
		objects, err := true, error(nil)
		if r.HasWhen() {
			objects, err = r.holds(ctx, &e.Facts)
		}
		switch {
		case err != nil:
			objects = true
			v.failed = append(v.failed, r)
		case objects && r.Limit != nil:
			counted = append(counted, r)
			objects = r.Limit.Reached(b.used(r, e))
		}
		switch {
		case !objects:
		case r.Effect == Log:
			v.logged = append(v.logged, r)
		case r.Effect == Review && v.reviewed == nil:
			v.reviewed = r
		case r.Effect == Deny && v.denied == nil:
			v.denied = r
		}
	}
	return v, counted
}

// used returns what is used of a rule's limit at the time of an event.
func (b *Backtest) used(r *Rule, e *Event) int64 {
	if c := b.limits[b.place[r]]; c != nil {
		return c.used(c.scope(&e.Facts), e.At)
	}
	return e.Repeats
}

// count books what an event that was let through uses: its place at once, and
// its cost when it was reported.
func (b *Backtest) count(e *Event, run *replayedRun, counted []*Rule) {
	later := booking{run: run, at: e.BookedAt, cost: e.Cost, tokens: e.Tokens}
	for _, r := range counted {
		c := b.limits[b.place[r]]
		if c == nil {
			continue
		}
		one := counting{c, c.scope(&e.Facts), c.slice(e.At)}
		switch r.Limit.Measure {
		case MeasureCalls, MeasureRuns:
			one.add(1)
		default:
			later.counts = append(later.counts, one)
		}
	}
	if !e.BookedAt.IsZero() {
		heap.Push(&b.pending, later)
	}
}

// book counts what was reported until then.
func (b *Backtest) book(until time.Time) {
	for len(b.pending) > 0 && !b.pending[0].at.After(until) {
		next, _ := heap.Pop(&b.pending).(booking)
		next.run.spent += next.cost
		for _, c := range next.counts {
			amount := next.tokens
			if c.limit.Measure == MeasureUSD {
				amount = int64(next.cost)
			}
			c.add(amount)
		}
	}
}

// counters are those of one limit, by scope.
type counters struct {
	limit     *Limit
	zone      *time.Location
	weekStart time.Weekday
	scopes    map[string]*counter

	first, current, next time.Time // of the window that was looked at last
}

// counter is the use of one scope by slices, the oldest first.
type counter struct{ slices []slice }

// slice is a bucket of a limit's window, by its start.
type slice struct {
	start int64 // Unix milliseconds
	used  int64
}

// window returns the first and the current bucket that count at a time, in milliseconds. Events
// come in the order of time, so it is computed anew only when a bucket ends.
func (c *counters) window(at time.Time) (first, current int64) {
	if c.current.IsZero() || at.Before(c.current) || !c.next.IsZero() && !at.Before(c.next) {
		c.first, c.current, c.next = c.limit.Buckets(at, c.zone, c.weekStart)
	}
	return c.first.UnixMilli(), c.current.UnixMilli()
}

// slice returns the bucket of a time.
func (c *counters) slice(at time.Time) int64 {
	_, current := c.window(at)
	return current
}

// scope is what the limit counts by. The window of a run is that run's alone.
func (c *counters) scope(f *Facts) string {
	if c.limit.Window == WindowRun && c.limit.Per != "run" {
		return f.Run + " " + c.limit.Scope(f)
	}
	return c.limit.Scope(f)
}

// used sums up the buckets that still count, and drops those that no longer do.
func (c *counters) used(scope string, at time.Time) (sum int64) {
	k := c.scopes[scope]
	if k == nil {
		return 0
	}
	first, current := c.window(at)
	for len(k.slices) > 0 && k.slices[0].start < first {
		k.slices = k.slices[1:]
	}
	for _, s := range k.slices {
		if s.start <= current {
			sum += s.used
		}
	}
	return sum
}

// add books a use in the slice in which it was asked for, however late its
// report comes.
func (c *counting) add(amount int64) {
	k := c.scopes[c.of]
	if k == nil {
		k = &counter{}
		c.scopes[c.of] = k
	}
	at, found := slices.BinarySearchFunc(k.slices, c.start, func(s slice, start int64) int {
		return cmp.Compare(s.start, start)
	})
	if !found {
		k.slices = slices.Insert(k.slices, at, slice{start: c.start})
	}
	k.slices[at].used += amount
}

// booking is what a step used, to be counted when it was reported.
type booking struct {
	run    *replayedRun
	at     time.Time
	cost   plans.Money
	tokens int64
	counts []counting
}

// counting is a counter of a limit, and the slice that is counted in.
type counting struct {
	*counters
	of    string
	start int64
}

// bookings is a heap by time.
type bookings []booking

// Len, Less and Swap make a heap by time: a cost counts from the moment that it was reported.
func (b bookings) Len() int           { return len(b) }
func (b bookings) Less(i, j int) bool { return b[i].at.Before(b[j].at) }
func (b bookings) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }

// Push implements heap.Interface.
func (b *bookings) Push(x any) {
	if one, ok := x.(booking); ok {
		*b = append(*b, one)
	}
}

// Pop implements heap.Interface.
func (b *bookings) Pop() any {
	last := len(*b) - 1
	one := (*b)[last]
	(*b)[last] = booking{}
	*b = (*b)[:last]
	return one
}
