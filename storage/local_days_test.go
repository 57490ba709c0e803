package storage

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// zone sets a workspace's zone.
func (w *world) zone(ws WorkspaceKey, name string) {
	w.t.Helper()
	_, err := w.UpdateWorkspace(w.t.Context(), ws, WorkspaceChange{Timezone: &name})
	w.must(err)
}

// usageOn reads the usage of all of a workspace, day by day.
func (w *world) usageOn(ws WorkspaceKey, group UsageGroup, from, to time.Time, zone *time.Location) UsageReport {
	w.t.Helper()
	r, err := w.UsageBy(w.t.Context(), ws, UsageQuery{Group: group, From: from, To: to, Zone: zone, ByDay: true, Limit: 100})
	w.must(err)
	return r
}

// A day of usage is one of the workspace's zone from the day on which it has one: what was used
// in its last UTC hour belongs to tomorrow where it is tomorrow already.
func TestUsageCountsTheDaysOfTheWorkspacesZone(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.burning()
	berlin, err := time.LoadLocation("Europe/Berlin")
	w.must(err)
	w.Advance(9 * time.Hour) // 21:00 UTC
	w.spends(ws, w.start(ws, "u").ID, 1)
	w.zone(ws, "Europe/Berlin") // from tomorrow, since something is counted today
	w.Advance(150 * time.Minute)
	w.spends(ws, w.start(ws, "u").ID, 2) // 00:30 in Berlin, but still a UTC day
	w.Advance(23 * time.Hour)
	late := w.start(ws, "u").ID
	step := w.spends(ws, late, 4) // 23:30 in Berlin
	w.Advance(time.Hour)
	w.spends(ws, w.start(ws, "u").ID, 8) // 00:30 in Berlin, 23:30 UTC
	w.Advance(time.Hour)
	w.patch(ws, late, step, 16, 0) // a correction counts on the day first booked
	first := time.Date(noon().Year(), noon().Month(), noon().Day(), 0, 0, 0, 0, berlin)
	for _, group := range []UsageGroup{ByModel, ByUser, ByTool} {
		r := w.usageOn(ws, group, first, first.AddDate(0, 0, 3), berlin)
		var days []int64
		for _, d := range r.All.Days {
			days = append(days, int64(d.Spend))
		}
		if !slices.Equal(days, []int64{3, 16, 8}) {
			t.Errorf("by %s: %v", group, days)
		}
	}
	if utc := w.day(ws, noon()).Spend + w.day(ws, noon().AddDate(0, 0, 1)).Spend; utc != 1+2+16+8 {
		t.Errorf("by UTC days, as budgets count: %d", utc)
	}
}

// usedByDate is what a test knows to have been used: what of which value on which date.
type usedByDate map[string]map[int64]UsageSums

func (u usedByDate) add(value string, date int64, s UsageSums) {
	if u[value] == nil {
		u[value] = map[int64]UsageSums{}
	}
	sums := u[value][date]
	sums.add(s)
	u[value][date] = sums
}

// localDays drives a workspace through days, zones and clock changes, and remembers what it did.
type localDayTest struct {
	*world
	ws     WorkspaceKey
	random *rand.Rand
	zone   *time.Location
	from   int64 // UTC day from which dates are counted; 0 for never
	by     map[UsageGroup]usedByDate
	open   []openStep
}

type openStep struct {
	run, step uuid.UUID
	user, tag string
	date      int64 // on which it was booked first; 0 for none
	spend     int64
}

func (l *localDayTest) today() int64 {
	if l.from == 0 || dayOf(l.Now()) < l.from {
		return dayOf(l.Now())
	}
	return dateIn(l.Now(), l.zone)
}

func (l *localDayTest) count(user, tag string, date int64, s UsageSums) {
	l.by["all"].add("", date, s)
	l.by[ByTag("agent")].add(tag, date, s)
	l.by[ByUser].add(user, date, UsageSums{Spend: s.Spend, Runs: s.Runs})
	if s.Runs == 0 && s.BlockedRuns == 0 {
		l.by[ByModel].add("a nano a token", date, s)
	}
}

func (l *localDayTest) act() {
	l.Advance(time.Duration(l.random.IntN(400)) * time.Minute)
	switch l.random.IntN(8) {
	case 0:
		zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Auckland", "Pacific/Kiritimati", "America/St_Johns"}
		name := zones[l.random.IntN(len(zones))]
		counted := l.number(`SELECT count(*) FROM workspace_days WHERE workspace_id = $1 AND day = $2`, l.ws, dayOf(l.Now()))
		l.world.zone(l.ws, name)
		l.zone, _ = time.LoadLocation(name)
		if l.from == 0 && name != "UTC" {
			l.from = dayOf(l.Now()) + counted
		}
	case 1: // a start that is refused
		l.must(func() error { _, err := l.BlockUser(l.t.Context(), l.ws, "blocked", nil); return err }())
		l.tagged(l.ws, "blocked", `{"agent":"a"}`)
		l.count("blocked", "a", l.today(), UsageSums{BlockedRuns: 1})
	case 2, 3: // a correction
		if len(l.open) == 0 {
			return
		}
		o := &l.open[l.random.IntN(len(l.open))]
		l.report(o)
	default:
		o := openStep{user: fmt.Sprint("acme/", l.random.IntN(3)), tag: fmt.Sprint(l.random.IntN(2))}
		o.run = l.tagged(l.ws, o.user, `{"agent":"`+o.tag+`"}`)
		o.step = l.createModelCall(l.ws, o.run, "a nano a token")
		l.count(o.user, o.tag, l.today(), UsageSums{Runs: 1})
		if l.random.IntN(3) > 0 {
			l.report(&o)
		}
		l.open = append(l.open, o)
	}
}

func (l *localDayTest) report(o *openStep) {
	spend := l.random.Int64N(1000) + 1
	if o.date == 0 {
		o.date = l.today()
	}
	l.patch(l.ws, o.run, o.step, spend, 0)
	l.count(o.user, o.tag, o.date, UsageSums{Spend: plans.Money(spend - o.spend), PromptTokens: spend - o.spend})
	o.spend = spend
}

// Whatever the zones and clocks, each date has what was used on it, the parts are the whole, and
// verify proves all of it.
func TestLocalDaysAddUpInEveryZone(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newVerifiedWorld(t)
			l := &localDayTest{world: w, ws: w.burning(), random: rand.New(rand.NewPCG(seed, 1)), zone: time.UTC}
			l.by = map[UsageGroup]usedByDate{"all": {}, ByModel: {}, ByUser: {}, ByTag("agent"): {}}
			start := []time.Time{noon(), noon(), time.Date(2027, 3, 12, 12, 0, 0, 0, time.UTC), time.Date(2027, 3, 26, 3, 0, 0, 0, time.UTC)}[seed]
			l.Advance(start.Sub(l.Now()))
			first := start.AddDate(0, 0, -3).Truncate(24 * time.Hour)
			for range 60 {
				l.act()
			}
			days := int(dayOf(l.Now())-dayOf(first)) + 3
			for group, want := range l.by {
				read := group
				if group == "all" {
					read = ByModel
				}
				r := w.usageOn(l.ws, read, first, first.AddDate(0, 0, days), nil)
				parts := r.Parts
				if group == "all" {
					parts = []UsagePart{r.All}
				}
				got := usedByDate{}
				for _, p := range parts {
					for i, sums := range p.Days {
						if group == "all" {
							sums.Runs, sums.BlockedRuns = want[p.Value][dayOf(first)+int64(i)].Runs, want[p.Value][dayOf(first)+int64(i)].BlockedRuns
						}
						if sums != (UsageSums{}) {
							got.add(p.Value, dayOf(first)+int64(i), sums)
						}
					}
				}
				for value, dates := range want {
					maps.DeleteFunc(dates, func(_ int64, s UsageSums) bool { return s == UsageSums{} })
					if len(dates) == 0 {
						delete(want, value)
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("by %s:\n%s", group, diff)
				}
			}
		})
	}
}

// A start counts the budget's UTC day whatever the zone: that is what its agents were told.
func TestBudgetsStayOnUTCDays(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.burning()
	w.zone(ws, "Asia/Kathmandu")
	budget := plans.Budget{Limit: 10, Set: true}
	_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{DailyBudget: &budget})
	w.must(err)
	w.spends(ws, w.start(ws, "u").ID, 10)
	w.Advance(7 * time.Hour) // past midnight in Kathmandu
	if a := w.start(ws, "u"); a.Decision.Reason != guard.WorkspaceDailyBudgetExceeded {
		t.Errorf("before midnight UTC: %+v", a.Decision)
	}
	w.Advance(5 * time.Hour)
	if a := w.start(ws, "u"); !a.Decision.Allowed() {
		t.Errorf("after: %+v", a.Decision)
	}
}

// An erasure takes a run's tags from the figures of both calendars.
func TestErasureTakesTagsFromLocalDays(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.burning()
	w.zone(ws, "Asia/Kathmandu")
	w.Advance(8 * time.Hour)
	w.spends(ws, w.tagged(ws, "gone", `{"agent":"theirs"}`), 5)
	w.erase(ws, "gone")
	if n := w.number(`SELECT count(*) FROM tag_days`); n != 0 {
		t.Errorf("%d rows of tags are left", n)
	}
}

// An hour is the sum of its quarters, also where the hours of a zone begin within those of UTC.
func TestSpendByHourOfAnyZone(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.burning()
	w.zone(ws, "Asia/Kathmandu") // UTC+5:45
	zone, err := time.LoadLocation("Asia/Kathmandu")
	w.must(err)
	run := w.start(ws, "u").ID
	for range 16 { // every ten minutes, from 17:45 there on
		w.spends(ws, run, 1)
		w.Advance(10 * time.Minute)
	}
	from := time.Date(noon().Year(), noon().Month(), noon().Day(), 0, 0, 0, 0, zone)
	for range 2 {
		hours, err := w.SpendByHour(t.Context(), ws, from, from.AddDate(0, 0, 1))
		w.must(err)
		want := make([]plans.Money, 24)
		want[17], want[18], want[19], want[20] = 2, 6, 6, 2
		if !slices.Equal(hours, want) {
			t.Errorf("%v, want %v", hours, want)
		}
		w.Advance(3 * time.Hour)
		if _, err := w.FoldMinutes(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if hours, err := w.SpendByHour(t.Context(), ws, from.AddDate(0, -1, 0), from.AddDate(0, -1, 1)); hours != nil || err != nil {
		t.Errorf("hours of a month ago: %v, %v", hours, err)
	}
}

// zoneCalls use what a workspace's zone asks of the database; see calls.
func zoneCalls(w *world, ws WorkspaceKey) []call {
	return []call{{"SpendByHour", func() error {
		w.zone(ws, "Asia/Kathmandu")
		w.Advance(24 * time.Hour)
		w.spends(ws, w.tagged(ws, "u", `{"agent":"a"}`), 5)
		zone, err := time.LoadLocation("Asia/Kathmandu")
		w.must(err)
		for _, group := range append(UsageGroups(), string(ByTag("agent"))) {
			for _, days := range []int{-3, 0} { // dates of both calendars, and of the zone's alone
				today := w.Now().In(zone)
				_, err := w.UsageBy(w.t.Context(), ws, UsageQuery{
					Group: UsageGroup(group), From: today.AddDate(0, 0, days), To: today.AddDate(0, 0, 1), Zone: zone, ByDay: true, Limit: 2,
				})
				w.must(err)
			}
		}
		hours, err := w.SpendByHour(w.t.Context(), ws, w.Now().Truncate(time.Hour), w.Now().Add(time.Hour))
		w.erase(ws, "u")
		return errors.Join(err, atLeastOne(len(hours)))
	}}}
}
