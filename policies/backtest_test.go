package policies_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"pgregory.net/rapid"
)

// slowBacktest looks at all that went before, anew for each event: an evaluator
// that shares nothing with the real one but the windows' names.
type slowBacktest struct {
	all     []policies.Policy // in the order asked
	asked   []policies.Event  // of runs that were not denied
	allowed []policies.Event
	counted map[int][]bool // by policy: which of the allowed ones its limit counts
	denied  map[string]bool
	result  policies.Result
}

func (s *slowBacktest) add(e policies.Event) {
	if s.denied[e.Run] {
		s.result.NotSpent += e.Cost
		return
	}
	if e.Start {
		s.result.Runs++
	} else {
		s.result.Steps++
	}
	var matched []bool
	denier, reviewer, logs := -1, -1, 0
	for i, p := range s.all {
		matches := p.Enabled && slowApplies(p, &e.Facts) && slowMatch(p, &e.Facts)
		matched = append(matched, matches)
		if !matches || p.Limit != nil && s.used(i, e) < p.Limit.Amount {
			continue
		}
		switch {
		case p.Effect == policies.Deny && denier < 0:
			denier = i
		case p.Effect == policies.Review && reviewer < 0:
			reviewer = i
		case p.Effect == policies.Log:
			s.result.ByPolicy[i].Logged++
			logs = 1
		}
	}
	s.result.Logged += int64(logs)
	s.asked = append(s.asked, e)
	switch {
	case denier >= 0 && e.Start:
		s.denied[e.Run] = true
		s.result.DeniedRuns++
		s.result.ByPolicy[denier].DeniedRuns++
		return
	case denier >= 0:
		s.result.Denied++
		s.result.ByPolicy[denier].Denied++
		s.result.NotSpent += e.Cost
		return
	case reviewer >= 0:
		s.result.Reviewed++
		s.result.ByPolicy[reviewer].Reviewed++
	}
	s.allowed = append(s.allowed, e)
	for i := range s.all {
		s.counted[i] = append(s.counted[i], matched[i])
	}
}

func (s *slowBacktest) used(i int, e policies.Event) (sum int64) {
	l := s.all[i].Limit
	if l.Measure == policies.MeasureRepeats {
		var history []uint64
		for _, before := range s.asked {
			if before.Run == e.Run && !before.Start {
				history = append(history, before.Action)
			}
		}
		return slowRepeats(history, e.Action)
	}
	for n, before := range s.allowed {
		seen := before.At
		var amount int64
		switch l.Measure {
		case policies.MeasureCalls, policies.MeasureRuns:
			amount = 1
		case policies.MeasureUSD:
			seen, amount = before.BookedAt, int64(before.Cost)
		case policies.MeasureTokens:
			seen, amount = before.BookedAt, before.Tokens
		}
		if s.counted[i][n] && !seen.IsZero() && !seen.After(e.At) && slowScope(l, before) == slowScope(l, e) &&
			slowSameWindow(l, before.At, e.At) && (l.Window != policies.WindowRun || before.Run == e.Run) {
			sum += amount
		}
	}
	return sum
}

func slowScope(l *policies.Limit, e policies.Event) string {
	return map[string]string{
		"workspace": "", "user": e.User, "run": e.Run, "tool": e.Tool, "model": e.Model, "tag:k": e.Tags["k"],
	}[l.Per]
}

func slowSameWindow(l *policies.Limit, use, now time.Time) bool {
	if l.Window == policies.WindowRun || l.Window == policies.WindowTotal {
		return true
	}
	if l.Rolling {
		part := map[policies.Window]int64{
			policies.WindowMinute: 1, policies.WindowHour: 60, policies.WindowDay: 24 * 60, policies.WindowWeek: 168 * 60,
			policies.WindowMonth: 720 * 60,
		}[l.Window]
		return use.Unix()/part >= now.Unix()/part-60
	}
	if l.Window == policies.WindowWeek {
		y1, w1 := use.ISOWeek()
		y2, w2 := now.ISOWeek()
		return y1 == y2 && w1 == w2
	}
	layout := map[policies.Window]string{
		policies.WindowMinute: "2006-01-02 15:04", policies.WindowHour: "2006-01-02 15",
		policies.WindowDay: "2006-01-02", policies.WindowMonth: "2006-01",
	}[l.Window]
	return use.Format(layout) == now.Format(layout)
}

func TestABacktestIsWhatARecountSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(anyReplayedPolicy(), 1, 5).Draw(t, "policies")
		for i := range all {
			all[i].Name = fmt.Sprintf("p%d", i)
		}
		slices.SortStableFunc(all, func(a, b policies.Policy) int { return int(a.Priority - b.Priority) })
		set, err := policies.Compile(all)
		if err != nil {
			t.Fatal(err)
		}
		slow := &slowBacktest{all: all, counted: make(map[int][]bool), denied: make(map[string]bool)}
		for _, p := range all {
			slow.result.ByPolicy = append(slow.result.ByPolicy, policies.PolicyResult{Policy: p.Name})
		}
		fast := policies.NewBacktest(set, time.UTC, time.Monday, time.Time{})
		for _, e := range anyHistory(t) {
			slow.add(e)
			if err := fast.Add(t.Context(), &e); err != nil {
				t.Fatal(err)
			}
		}
		got := fast.Result()
		if diff := cmp.Diff(slow.result, got, cmpopts.IgnoreFields(policies.Result{}, "ByDay", "Examples"),
			cmpopts.IgnoreUnexported(policies.PolicyResult{})); diff != "" {
			t.Errorf("-recount +backtest\n%s", diff)
		}
		var days policies.DayResult
		for _, d := range got.ByDay {
			days.Steps, days.Denied, days.NotSpent = days.Steps+d.Steps, days.Denied+d.Denied, days.NotSpent+d.NotSpent
			days.DeniedRuns, days.Reviewed = days.DeniedRuns+d.DeniedRuns, days.Reviewed+d.Reviewed
		}
		want := policies.DayResult{
			Steps: got.Steps, DeniedRuns: got.DeniedRuns, Denied: got.Denied, Reviewed: got.Reviewed, NotSpent: got.NotSpent,
		}
		if diff := cmp.Diff(want, days); diff != "" {
			t.Errorf("the days do not add up: -whole +days\n%s", diff)
		}
	})
}

func anyReplayedPolicy() *rapid.Generator[policies.Policy] {
	return rapid.Custom(func(t *rapid.T) policies.Policy {
		p := policies.Policy{
			Enabled: true, Priority: rapid.Int64Range(0, 2).Draw(t, "priority"),
			Effect: rapid.SampledFrom([]policies.Effect{policies.Deny, policies.Review, policies.Log}).Draw(t, "effect"),
		}
		if rapid.Bool().Draw(t, "by tool") {
			p.Match.Tools = []string{rapid.SampledFrom([]string{"a", "b", "*"}).Draw(t, "tool")}
		}
		l := &policies.Limit{
			Measure: policies.Measure(rapid.IntRange(1, 5).Draw(t, "measure")),
			Per:     rapid.SampledFrom([]string{"workspace", "user", "run", "tool", "model", "tag:k"}).Draw(t, "per"),
			Window:  policies.Window(rapid.IntRange(1, 7).Draw(t, "window")),
			Amount:  rapid.Int64Range(1, 6).Draw(t, "amount"),
		}
		l.Rolling = l.Window != policies.WindowRun && l.Window != policies.WindowTotal && rapid.Bool().Draw(t, "rolling")
		if l.Measure == policies.MeasureUSD {
			l.Amount *= int64(plans.USD) / 2
		}
		p.Limit = l
		return p
	})
}

// anyHistory is of a few runs whose steps overlap, with gaps of seconds to weeks.
func anyHistory(t *rapid.T) []policies.Event {
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	started := make(map[string]bool)
	var all []policies.Event
	for i := range rapid.IntRange(1, 60).Draw(t, "events") {
		gap := rapid.SampledFrom([]int64{0, 1, 20, 60, 1500, 40_000, 500_000}).Draw(t, "gap")
		at = at.Add(time.Duration(rapid.Int64Range(0, gap).Draw(t, "seconds")) * time.Second)
		name := rapid.SampledFrom([]string{"r1", "r2", "r3", "r4"}).Draw(t, "run")
		e := policies.Event{At: at, Facts: policies.Facts{
			Run: name, User: "u" + name[1:], Tags: map[string]string{"k": "v" + string(name[1]&1+'0')},
		}}
		if !started[name] {
			started[name], e.Start = true, true
			all = append(all, e)
			continue
		}
		e.Step, e.Type = fmt.Sprint("s", i), "TOOL_CALL"
		e.Tool = rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "tool")
		if e.Tool == "" {
			e.Type, e.Model = "MODEL_CALL", "m"
		}
		e.Action = rapid.Uint64Range(1, 2).Draw(t, "action")
		if rapid.IntRange(0, 4).Draw(t, "reported") > 0 {
			e.Cost = plans.Money(rapid.Int64Range(0, 1_000_000_000).Draw(t, "cost"))
			e.Tokens = rapid.Int64Range(0, 3).Draw(t, "tokens")
			e.BookedAt = at.Add(time.Duration(rapid.Int64Range(0, 90).Draw(t, "took")) * time.Second)
		}
		all = append(all, e)
	}
	return all
}

func TestWhatWasBeforeCountsAndIsNotTold(t *testing.T) {
	set, err := policies.Compile([]policies.Policy{{
		Name: "three", Enabled: true, Effect: policies.Deny,
		Limit: &policies.Limit{Measure: policies.MeasureCalls, Per: "user", Window: policies.WindowDay, Amount: 3},
	}})
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	since := day.Add(10 * time.Hour)
	if from := set.From(since, time.UTC, time.Monday); !from.Equal(day) {
		t.Errorf("events are wanted from %v", from)
	}
	b := policies.NewBacktest(set, time.UTC, time.Monday, since)
	for hour := 8; hour < 13; hour++ {
		e := &policies.Event{
			At: day.Add(time.Duration(hour) * time.Hour), Step: fmt.Sprint(hour), Cost: plans.USD,
			Facts: policies.Facts{Type: "TOOL_CALL", Run: "r", User: "u"},
		}
		if err := b.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	got := b.Result()
	want := policies.Result{
		Steps: 3, Denied: 2, NotSpent: 2 * plans.USD,
		ByPolicy: []policies.PolicyResult{{Policy: "three", Denied: 2}},
		ByDay:    []policies.DayResult{{Date: "2026-11-30", Steps: 3, Denied: 2, NotSpent: 2 * plans.USD}},
		Examples: []policies.Example{
			{Run: "r", Step: "11", Policy: "three", Effect: policies.Deny, At: day.Add(11 * time.Hour)},
			{Run: "r", Step: "12", Policy: "three", Effect: policies.Deny, At: day.Add(12 * time.Hour)},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(policies.PolicyResult{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// An expression that cannot be evaluated objects with its own effect.
func TestAnErringRuleObjectsWithItsEffect(t *testing.T) {
	for _, c := range []struct {
		effect                   policies.Effect
		denied, reviewed, logged int64
	}{
		{policies.Deny, 1, 0, 0},
		{policies.Review, 0, 1, 0},
		{policies.Log, 0, 0, 1},
	} {
		set, err := policies.Compile([]policies.Policy{{Name: "x", Enabled: true, Effect: c.effect, When: "input.nothing > 1"}})
		if err != nil {
			t.Fatal(err)
		}
		b := policies.NewBacktest(set, time.UTC, time.Monday, time.Time{})
		if err := b.Add(t.Context(), &policies.Event{Facts: *someFacts(), At: time.Unix(1, 0)}); err != nil {
			t.Fatal(err)
		}
		r := b.Result()
		if r.Denied != c.denied || r.Reviewed != c.reviewed || r.Logged != c.logged || r.Failed != 1 {
			t.Errorf("%s: %+v", c.effect, r)
		}
	}
}

func BenchmarkBacktest(b *testing.B) {
	all := append(policies.Ready(), hundred()...)
	set, err := policies.Compile(all)
	if err != nil {
		b.Fatal(err)
	}
	test := policies.NewBacktest(set, time.UTC, time.Monday, time.Time{})
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	input := []byte(`{"amount": 120.5, "currency": "USD", "reason": "the parcel never came"}`)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		at = at.Add(2 * time.Second)
		e := &policies.Event{At: at, Step: "s", Action: uint64(n % 7), Cost: 1_000_000, Tokens: 900, BookedAt: at.Add(time.Second),
			Facts: policies.Facts{Type: "TOOL_CALL", Tool: "refund_order", Run: fmt.Sprint("r", n/20), User: "acme/ann", Input: input}}
		if err := test.Add(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}
