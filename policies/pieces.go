package policies

import (
	"math"
	"time"
)

// Pieces divide time into equal lengths by the clocks of a zone: a piece of a
// day is a date there, be it 23 hours long or 25. Pieces have numbers, which
// grow with the time.
type Pieces struct {
	Length    time.Duration
	Stretches []Stretch // without gaps, the last has no end
}

// Stretch is a time in which a zone's clocks are ahead of UTC by the same. All
// are milliseconds.
type Stretch struct{ From, Until, Ahead int64 }

// AtMost divides a window of time into so many pieces at most, of the shortest
// length that people think in.
func AtMost(most int64, zone *time.Location, from, until time.Time) Pieces {
	const day = 24 * 60
	for _, length := range []int64{1, 5, 15, 30, 60, 120, 180, 360, 720, day, 2 * day, 7 * day, 28 * day} {
		p := NewPieces(time.Duration(length)*time.Minute, zone, from, until)
		if p.Count(from, until) <= most {
			return p
		}
	}
	// Years of whole weeks, of which one is long enough at last.
	for length := 364 * day * time.Minute; ; length *= 2 {
		p := NewPieces(length, zone, from, until)
		if p.Count(from, until) <= most {
			return p
		}
	}
}

// NewPieces divides a window of time. Those of whole weeks begin on Mondays.
func NewPieces(length time.Duration, zone *time.Location, from, until time.Time) Pieces {
	p := newPieces(length, zone, from, until)
	if length > time.Hour {
		return p
	}
	// Where the clocks are set by whole pieces, as by an hour, all pieces are of
	// one length: those of an hour that comes twice are not the same.
	millis, last := length.Milliseconds(), p.Stretches[len(p.Stretches)-1]
	for _, s := range p.Stretches {
		if (s.Ahead-last.Ahead)%millis != 0 {
			return p
		}
	}
	p.Stretches = []Stretch{{math.MinInt64, math.MaxInt64, last.Ahead}}
	return p
}

func newPieces(length time.Duration, zone *time.Location, from, until time.Time) Pieces {
	p := Pieces{Length: length}
	var shift int64 // 1970-01-01 was a Thursday
	if length%(7*24*time.Hour) == 0 {
		shift = 3 * 24 * time.Hour.Milliseconds()
	}
	// The piece that the window begins in may have begun before the clocks were set.
	for at := from.Add(-length - 24*time.Hour).In(zone); ; {
		start, end := at.ZoneBounds()
		_, ahead := at.Zone()
		s := Stretch{math.MinInt64, math.MaxInt64, int64(ahead)*1000 + shift}
		if !start.IsZero() {
			s.From = start.UnixMilli()
		}
		if end.IsZero() || !end.Before(until) {
			p.Stretches = append(p.Stretches, s)
			return p
		}
		s.Until = end.UnixMilli()
		p.Stretches = append(p.Stretches, s)
		at = end
	}
}

// Number is the piece that an instant is in.
func (p Pieces) Number(at time.Time) int64 {
	ms, last := at.UnixMilli(), len(p.Stretches)-1
	for _, s := range p.Stretches[:last] {
		if ms < s.Until {
			return floorDiv(ms+s.Ahead, p.Length.Milliseconds())
		}
	}
	return floorDiv(ms+p.Stretches[last].Ahead, p.Length.Milliseconds())
}

// floorDiv rounds down: before 1970 too, pieces are as long as later ones.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// Count is in how many pieces a window lies.
func (p Pieces) Count(from, until time.Time) int64 {
	last := until.Add(-time.Millisecond)
	if last.Before(from) {
		last = from
	}
	return p.Number(last) - p.Number(from) + 1
}

// Start is when the piece of a number begins.
func (p Pieces) Start(n int64) time.Time {
	length := p.Length.Milliseconds()
	for _, s := range p.Stretches {
		from := max(s.From, n*length-s.Ahead)
		if from < min(s.Until, (n+1)*length-s.Ahead) {
			return time.UnixMilli(from).UTC()
		}
	}
	return time.UnixMilli(n * length).UTC() // before the first stretch: in no window
}
