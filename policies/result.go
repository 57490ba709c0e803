package policies

import (
	"cmp"
	"slices"
	"time"

	"github.com/pikarc/server/plans"
)

// Result is what a backtest has found.
type Result struct {
	Runs, Steps int64 // that were asked about
	// DeniedRuns would not have started; their steps are in no other figure.
	DeniedRuns, Denied, Reviewed, Logged int64
	// Failed counts events of which an expression could not be evaluated.
	Failed int64
	// NotSpent is what denied steps cost, and all steps of denied runs.
	NotSpent plans.Money
	ByPolicy []PolicyResult // in the order asked
	ByDay    []DayResult    // those on which something was asked, the oldest first
	Examples []Example      // the first few of each policy
}

// PolicyResult is what one policy did. A step that several deny counts for the
// first of them.
type PolicyResult struct {
	Policy                                       string
	DeniedRuns, Denied, Reviewed, Logged, Failed int64

	examples int
}

// DayResult is what happened on one day of the workspace's zone.
type DayResult struct {
	Date                                string // YYYY-MM-DD
	Steps, DeniedRuns, Denied, Reviewed int64
	NotSpent                            plans.Money
}

// Example is one event that a policy objected to. Step is empty for a start.
type Example struct {
	Run, Step, Policy string
	Effect            Effect
	At                time.Time
}

const (
	examplesEach = 5 // of a policy
	// examplesMost bounds the examples of all policies together.
	examplesMost = 50
)

// Result sums up what was added.
func (b *Backtest) Result() Result {
	r := b.result
	r.Examples = slices.Clone(r.Examples)
	for _, rule := range b.set.rules {
		r.ByPolicy = append(r.ByPolicy, *b.objects[rule])
	}
	for _, day := range b.days {
		r.ByDay = append(r.ByDay, *day)
	}
	slices.SortFunc(r.ByDay, func(x, y DayResult) int { return cmp.Compare(x.Date, y.Date) })
	return r
}

// tell calls with the event's day, unless the event is of before the backtest.
func (b *Backtest) tell(e *Event, add func(*DayResult)) {
	if e.At.Before(b.since) {
		return
	}
	date := e.At.In(b.zone).Format(time.DateOnly)
	day := b.days[date]
	if day == nil {
		day = &DayResult{Date: date}
		b.days[date] = day
	}
	add(day)
}

// record counts one call with the verdict of the policies.
func (b *Backtest) record(e *Event, v verdict) {
	b.tell(e, func(day *DayResult) {
		if e.Start {
			b.result.Runs++
		} else {
			b.result.Steps++
			day.Steps++
		}
		for _, r := range v.failed {
			b.objects[r].Failed++
		}
		if len(v.failed) > 0 {
			b.result.Failed++
		}
		for _, r := range v.logged {
			b.objects[r].Logged++
			b.example(e, r)
		}
		if len(v.logged) > 0 {
			b.result.Logged++
		}
		b.recordObjection(e, v, day)
	})
}

// recordObjection counts who objected. Of several policies the one that decided counts, as it would
// have in the ledger.
func (b *Backtest) recordObjection(e *Event, v verdict, day *DayResult) {
	switch {
	case v.denied != nil && e.Start:
		b.result.DeniedRuns++
		day.DeniedRuns++
		b.objects[v.denied].DeniedRuns++
		b.example(e, v.denied)
	case v.denied != nil:
		b.result.Denied++
		day.Denied++
		b.objects[v.denied].Denied++
		b.result.NotSpent += e.Cost
		day.NotSpent += e.Cost
		b.example(e, v.denied)
	case v.reviewed != nil:
		b.result.Reviewed++
		day.Reviewed++
		b.objects[v.reviewed].Reviewed++
		b.example(e, v.reviewed)
	}
}

// example keeps the first calls to which each policy objects.
func (b *Backtest) example(e *Event, r *Rule) {
	of := b.objects[r]
	if of.examples == examplesEach || len(b.result.Examples) == examplesMost {
		return
	}
	of.examples++
	b.result.Examples = append(b.result.Examples,
		Example{Run: e.Run, Step: e.Step, Policy: r.Name, Effect: r.Effect, At: e.At})
}
