package policies

import "time"

// bucketsPerWindow is the number of buckets of a rolling window.
const bucketsPerWindow = 60

// Buckets says which counters hold a limit's usage at a time: those of the buckets that begin from
// first to current. A calendar window is one bucket, so first is current. A rolling window has 60
// buckets: a use counts for at least the window's length, and at most a sixtieth longer.
//
// next is when usage falls without a new call: when the next window begins, or the oldest bucket
// leaves the window. It is zero for windows that never end, whose only bucket begins at the epoch.
// A rolling month has 30 days.
func (l *Limit) Buckets(at time.Time, zone *time.Location, weekStart time.Weekday,
) (first, current, next time.Time) {
	if l.Window == WindowRun || l.Window == WindowTotal {
		epoch := time.Unix(0, 0).UTC()
		return epoch, epoch, time.Time{}
	}
	if l.Rolling {
		slice := l.Window.length() / bucketsPerWindow
		current = truncate(at, slice)
		return current.Add(-bucketsPerWindow * slice), current, current.Add(slice)
	}
	switch l.Window {
	case WindowMinute, WindowHour:
		current, next = clockWindow(at.In(zone), l.Window.length())
	default:
		current, next = l.dateWindow(at.In(zone), weekStart)
	}
	return current, current, next
}

// length is that of a rolling window.
func (w Window) length() time.Duration {
	const day = 24 * time.Hour
	switch w {
	case WindowMinute:
		return time.Minute
	case WindowHour:
		return time.Hour
	case WindowDay:
		return day
	case WindowWeek:
		return 7 * day
	default:
		return 30 * day
	}
}

// truncate rounds down to a multiple of d since the epoch.
func truncate(at time.Time, d time.Duration) time.Time {
	ms := at.UnixMilli()
	over := ms % d.Milliseconds()
	if over < 0 {
		over += d.Milliseconds()
	}
	return time.UnixMilli(ms - over).UTC()
}

// clockWindow finds the minute or hour on the zone's clock. A change of the
// clocks within it ends it: the hour that comes twice is two windows.
func clockWindow(at time.Time, length time.Duration) (start, next time.Time) {
	_, offset := at.Zone()
	shift := time.Duration(offset) * time.Second
	start = truncate(at.Add(shift), length).Add(-shift)
	next = start.Add(length)
	from, until := at.ZoneBounds()
	if !from.IsZero() && from.After(start) && offsetAt(from.Add(-time.Second), at.Location()) != offset {
		start = from.UTC()
	}
	if !until.IsZero() && until.Before(next) && offsetAt(until, at.Location()) != offset {
		next = until.UTC()
	}
	return start, next
}

// offsetAt returns the zone's offset at a time, in seconds: it changes with daylight saving time.
func offsetAt(at time.Time, zone *time.Location) int {
	_, offset := at.In(zone).Zone()
	return offset
}

// dateWindow finds the day, week or month of the zone's calendar.
func (l *Limit) dateWindow(at time.Time, weekStart time.Weekday) (start, next time.Time) {
	year, month, day := at.Date()
	months, days := 0, 1
	switch l.Window {
	case WindowWeek:
		days = 7
		day -= (int(at.Weekday()) - int(weekStart) + 7) % 7
	case WindowMonth:
		months, days = 1, 0
		day = 1
	}
	for {
		start = StartOfDate(year, month, day, at.Location())
		month += time.Month(months)
		day += days
		next = StartOfDate(year, month, day, at.Location())
		// Clocks that went back over midnight show yesterday's date again; the
		// day that has begun goes on.
		if next.After(at) {
			return start, next
		}
	}
}

// StartOfDate is the first moment of a date in a zone, or of the date after
// where the zone leaves it out. It is not always midnight, and midnight may come
// twice.
func StartOfDate(year int, month time.Month, day int, zone *time.Location) time.Time {
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC) // as the zone's clock shows it
	const farthest = 36 * time.Hour                               // more than any offset from UTC
	at := midnight.Add(-farthest)
	for {
		local := at.In(zone)
		_, offset := local.Zone()
		from, until := local.ZoneBounds()
		start := midnight.Add(-time.Duration(offset) * time.Second)
		if start.Before(from) && !from.IsZero() {
			start = from
		}
		if until.IsZero() || start.Before(until) {
			return start.UTC()
		}
		at = until
	}
}
