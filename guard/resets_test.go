package guard_test

import (
	"math"
	"testing"
	"time"

	"github.com/pikarc/server/guard"
	"pgregory.net/rapid"
)

// denyAt makes a decision in which only the rule of that reason objects.
func denyAt(t interface{ Fatalf(string, ...any) }, reason guard.Reason, at time.Time) guard.Decision {
	rule := contractRules()[reason-1]
	kind := guard.Step
	if rule.start {
		kind = guard.Start
	}
	state := calm()
	rule.violate(&state)
	d := guard.Decide(guard.Request{Kind: kind, At: at}, state)
	if d.Reason != reason {
		t.Fatalf("%s at %s, want %s", d.Reason, at, reason)
	}
	return d
}

func TestBudgetsResetAtUTCMidnightAndRunsOnTheFirst(t *testing.T) {
	for at, want := range map[string]struct{ day, month string }{
		"2026-11-23T07:08:29.123Z":       {"2026-11-24", "2026-12-01"},
		"2026-11-23T00:00:00Z":           {"2026-11-24", "2026-12-01"}, // midnight itself: the next one
		"2026-11-23T23:59:59.999Z":       {"2026-11-24", "2026-12-01"},
		"2026-11-23T23:59:59.999999999Z": {"2026-11-24", "2026-12-01"},
		"2026-11-30T23:59:59.999Z":       {"2026-12-01", "2026-12-01"},
		"2026-12-01T00:00:00Z":           {"2026-12-02", "2027-01-01"},
		"2026-12-31T23:59:59.999Z":       {"2027-01-01", "2027-01-01"},
		"2027-01-31T12:00:00Z":           {"2027-02-01", "2027-02-01"}, // there is no 31 February
		"2027-02-28T12:00:00Z":           {"2027-03-01", "2027-03-01"},
		"2028-02-28T12:00:00Z":           {"2028-02-29", "2028-03-01"},
		"2028-02-29T23:59:59.999Z":       {"2028-03-01", "2028-03-01"},
		"2100-02-28T12:00:00Z":           {"2100-03-01", "2100-03-01"},
		"2016-12-31T23:59:59Z":           {"2017-01-01", "2017-01-01"}, // before a leap second
		"1969-12-31T23:59:59.999Z":       {"1970-01-01", "1970-01-01"},
		"2027-01-01T10:00:00+14:00":      {"2027-01-01", "2027-01-01"}, // still 2026 in UTC
		"2026-12-31T13:00:00-12:00":      {"2027-01-02", "2027-02-01"}, // already 2027
		"2026-11-24T05:45:00+05:45":      {"2026-11-25", "2026-12-01"}, // midnight in UTC
		"2026-11-24T05:44:59.999+05:45":  {"2026-11-24", "2026-12-01"},
	} {
		parsed, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			t.Fatal(err)
		}
		for reason, day := range map[guard.Reason]string{
			guard.WorkspaceDailyBudgetExceeded: want.day,
			guard.UserDailyBudgetExceeded:      want.day,
			guard.MonthlyRunLimitExceeded:      want.month,
		} {
			got := denyAt(t, reason, parsed).ResetsAt
			if got.Format(time.RFC3339Nano) != day+"T00:00:00Z" || got.Location() != time.UTC {
				t.Errorf("%s at %s resets at %s, want %s", reason, at, got, day)
			}
		}
	}
}

func TestWhatDoesNotResetByItselfHasNoTime(t *testing.T) {
	for _, reason := range []guard.Reason{
		guard.RunAlreadyEnded, guard.KillSwitchActive, guard.UserBlocked, guard.MaxConcurrentRunsExceeded,
	} {
		if got := denyAt(t, reason, moment()).ResetsAt; !got.IsZero() {
			t.Errorf("%s resets at %s", reason, got)
		}
	}
	if got := guard.Decide(guard.Request{Kind: guard.Start, At: moment()}, calm()).ResetsAt; !got.IsZero() {
		t.Errorf("an ALLOW resets at %s", got)
	}
}

// Every time that the database can hold: an int64 of milliseconds.
func TestAResetIsTheFirstBoundaryAfterAt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		millis := rapid.OneOf(
			rapid.Int64Range(0, 4e12), rapid.Int64(),
			rapid.Int64Range(math.MinInt64, math.MinInt64+9), rapid.Int64Range(math.MaxInt64-9, math.MaxInt64),
			rapid.Map(rapid.Int64Range(-40_000, 40_000), func(day int64) int64 { return day * 86_400_000 }),
			rapid.Map(rapid.Int64Range(-40_000, 40_000), func(day int64) int64 { return day*86_400_000 - 1 }),
		).Draw(t, "milliseconds")
		zone := time.FixedZone("somewhere", rapid.IntRange(-14*3600, 14*3600).Draw(t, "offset"))
		at := time.UnixMilli(millis).In(zone)

		const day = 24 * 60 * 60
		for _, reason := range []guard.Reason{guard.WorkspaceDailyBudgetExceeded, guard.UserDailyBudgetExceeded} {
			got := denyAt(t, reason, at).ResetsAt
			if got.Unix()%day != 0 || got.Nanosecond() != 0 || !got.After(at) || got.Sub(at) > day*time.Second {
				t.Errorf("%s at %s resets at %s", reason, at.UTC(), got)
			}
		}

		got := denyAt(t, guard.MonthlyRunLimitExceeded, at).ResetsAt
		last := got.Add(-time.Nanosecond)
		sameMonth := last.Year() == at.UTC().Year() && last.Month() == at.UTC().Month()
		if got.Day() != 1 || got.Unix()%day != 0 || got.Nanosecond() != 0 || !got.After(at) || !sameMonth {
			t.Errorf("the month of %s resets at %s", at.UTC(), got)
		}
	})
}
