package policies_test

import (
	"testing"
	"time"

	"github.com/pikarc/server/policies"
	"pgregory.net/rapid"
)

// zones are those of the contract, and some whose clocks do odd things: changes
// at midnight, of half an hour, over midnight, and a date that never was.
func zones(t testing.TB) []*time.Location {
	t.Helper()
	var all []*time.Location
	for _, name := range []string{
		"UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Asia/Kathmandu", "Australia/Lord_Howe",
		"America/Santiago", "America/Havana", "America/St_Johns", "Africa/Cairo", "Pacific/Apia", "Asia/Beirut",
	} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, zone)
	}
	return all
}

// slowWindow walks from minute to minute until another window begins. The
// walk starts where no window of that kind can have begun.
func slowWindow(w policies.Window, at time.Time, zone *time.Location, weekStart time.Weekday) (start, next time.Time) {
	back := map[policies.Window]time.Duration{
		policies.WindowHour: 3 * time.Hour, policies.WindowDay: 60 * time.Hour,
		policies.WindowWeek: 10 * 24 * time.Hour, policies.WindowMonth: 35 * 24 * time.Hour,
	}[w]
	t := at.Add(-back).Truncate(time.Minute).In(zone)
	latest := dateNumber(t) // the latest date that the clock has shown
	for {
		before := t
		t = t.Add(time.Minute)
		begins := false
		if w == policies.WindowHour {
			_, was := before.Zone()
			_, is := t.Zone()
			begins = t.Minute() == 0 || was != is
		} else if dateNumber(t) > latest {
			begins = beginsWindow(w, latest, dateNumber(t), weekStart)
			latest = dateNumber(t)
		}
		switch {
		case begins && t.After(at):
			return start, t
		case begins:
			start = t
		}
	}
}

// dateNumber counts days, whatever the zone.
func dateNumber(t time.Time) int64 {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86_400
}

// beginsWindow reports whether one of the dates that have come begins a window:
// all dates from the one after latest on, since a zone may leave one out.
func beginsWindow(w policies.Window, latest, now int64, weekStart time.Weekday) bool {
	for d := latest + 1; d <= now; d++ {
		date := time.Unix(d*86_400, 0).UTC()
		if w == policies.WindowDay || w == policies.WindowWeek && date.Weekday() == weekStart ||
			w == policies.WindowMonth && date.Day() == 1 {
			return true
		}
	}
	return false
}

func checkWindow(t interface{ Errorf(string, ...any) }, w policies.Window, at time.Time, zone *time.Location, weekStart time.Weekday) {
	l := policies.Limit{Window: w}
	first, current, next := l.Buckets(at, zone, weekStart)
	if !first.Equal(current) {
		t.Errorf("a window of the calendar has one slice, not from %v to %v", first, current)
	}
	start, end := slowWindow(w, at, zone, weekStart)
	if !current.Equal(start) || !next.Equal(end) {
		t.Errorf("%s of %v (weeks from %v)\n got %v to %v\nwant %v to %v", w, at.In(zone), weekStart,
			current.In(zone), next.In(zone), start, end)
	}
}

func TestCalendarWindowsAreThoseOfAWalk(t *testing.T) {
	all := zones(t)
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom(all).Draw(t, "zone")
		ms := rapid.Int64Range(1_262_304_000_000, 1_924_992_000_000).Draw(t, "at") // 2010 to 2031
		w := policies.Window(rapid.IntRange(int(policies.WindowHour), int(policies.WindowMonth)).Draw(t, "window"))
		checkWindow(t, w, time.UnixMilli(ms), zone, time.Weekday(rapid.IntRange(0, 6).Draw(t, "week start")))
	})
}

// Around each change of the clocks, every few minutes.
func TestCalendarWindowsAtEveryChangeOfTheClocks(t *testing.T) {
	for _, zone := range zones(t) {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		switch zone.String() {
		case "Pacific/Apia":
			at = time.Date(2011, 6, 1, 0, 0, 0, 0, time.UTC) // a date was left out
		case "America/St_Johns":
			at = time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC) // clocks went back over midnight
		}
		for range 2 {
			_, change := at.In(zone).ZoneBounds()
			if change.IsZero() || change.Sub(at) > 400*24*time.Hour {
				break
			}
			for off := -150 * time.Minute; off <= 150*time.Minute; off += 5 * time.Minute {
				checkWindow(t, policies.WindowHour, change.Add(off), zone, time.Monday)
				checkWindow(t, policies.WindowDay, change.Add(off), zone, time.Monday)
			}
			for off := -36 * time.Hour; off <= 36*time.Hour; off += 9 * time.Hour {
				checkWindow(t, policies.WindowWeek, change.Add(off), zone, time.Sunday)
			}
			checkWindow(t, policies.WindowMonth, change, zone, time.Sunday)
			at = change.Add(time.Hour)
		}
	}
}

func TestDaysOfTwentyThreeAndTwentyFiveHours(t *testing.T) {
	for _, c := range []struct {
		zone, at string
		hours    float64
	}{
		{"Europe/Berlin", "2026-03-29T12:00:00Z", 23},
		{"Europe/Berlin", "2026-10-25T12:00:00Z", 25},
		{"America/New_York", "2026-03-08T12:00:00Z", 23},
		{"America/New_York", "2026-11-01T12:00:00Z", 25},
		{"Pacific/Auckland", "2026-04-04T18:00:00Z", 25},
		{"Pacific/Auckland", "2026-09-26T18:00:00Z", 23},
		{"Asia/Kathmandu", "2026-09-26T18:14:59Z", 24},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		l := policies.Limit{Window: policies.WindowDay}
		_, start, next := l.Buckets(at, zone, time.Monday)
		if got := next.Sub(start).Hours(); got != c.hours || start.After(at) || !next.After(at) {
			t.Errorf("%s in %s: %v to %v, %v hours", c.at, c.zone, start.In(zone), next.In(zone), got)
		}
	}
}

func TestMinutesAndEndlessWindows(t *testing.T) {
	at := time.Date(2026, 11, 30, 10, 20, 30, 456_000_000, time.UTC)
	zone, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	first, current, next := (&policies.Limit{Window: policies.WindowMinute}).Buckets(at, zone, time.Monday)
	if want := at.Truncate(time.Minute); !first.Equal(want) || !current.Equal(want) || !next.Equal(want.Add(time.Minute)) {
		t.Errorf("%v, %v, %v", first, current, next)
	}
	for _, w := range []policies.Window{policies.WindowRun, policies.WindowTotal} {
		first, current, next := (&policies.Limit{Window: w}).Buckets(at, zone, time.Monday)
		if epoch := time.Unix(0, 0); !first.Equal(epoch) || !current.Equal(epoch) || !next.IsZero() {
			t.Errorf("%s: %v, %v, %v", w, first, current, next)
		}
	}
}

// A use is seen for the whole window, and leaves it at most a sixtieth late.
func TestRollingWindowsForgetNothingEarly(t *testing.T) {
	length := map[policies.Window]time.Duration{
		policies.WindowMinute: time.Minute, policies.WindowHour: time.Hour, policies.WindowDay: 24 * time.Hour,
		policies.WindowWeek: 7 * 24 * time.Hour, policies.WindowMonth: 30 * 24 * time.Hour,
	}
	rapid.Check(t, func(t *rapid.T) {
		w := policies.Window(rapid.IntRange(int(policies.WindowMinute), int(policies.WindowMonth)).Draw(t, "window"))
		l := policies.Limit{Window: w, Rolling: true}
		window := length[w]
		slices := func(at time.Time) (first, current, next time.Time) { return l.Buckets(at, time.UTC, time.Monday) }

		use := time.UnixMilli(rapid.Int64Range(0, 1_924_992_000_000).Draw(t, "use")).UTC()
		later := time.Duration(rapid.Int64Range(0, int64(window*6/5)/1_000_000).Draw(t, "ms later")) * time.Millisecond
		_, slice, _ := slices(use)
		first, current, next := slices(use.Add(later))
		counted := !slice.Before(first) && !slice.After(current)
		if later < window && !counted {
			t.Errorf("%s: a use of %v ago has left", w, later)
		}
		if later >= window+window/60 && counted {
			t.Errorf("%s: a use of %v ago is still there", w, later)
		}
		if at := use.Add(later); !next.After(at) || next.Sub(at) > window/60 {
			t.Errorf("%s at %v: the next change is at %v", w, at, next)
		}
		if then, _, _ := slices(next.Add(-time.Millisecond)); !then.Equal(first) {
			t.Errorf("%s: a slice left before %v", w, next)
		}
		if then, _, _ := slices(next); then.Equal(first) {
			t.Errorf("%s: no slice left at %v", w, next)
		}
	})
}
