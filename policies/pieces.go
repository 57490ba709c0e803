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

// PieceLength is the shortest length that people think in of which a window has
// so many pieces at most.
func PieceLength(window time.Duration, most int64) time.Duration {
	const day = 24 * 60
	minutes := []int64{
		1, 5, 15, 30, 60, 120, 180, 360, 720, day, 2 * day, 7 * day, 28 * day, 364 * day,
	}
	for _, length := range minutes {
		if int64(window/time.Minute) <= length*most {
			return time.Duration(length) * time.Minute
		}
	}
	return time.Duration(minutes[len(minutes)-1]) * time.Minute
}

// NewPieces divides a window of time. Those of whole weeks begin on Mondays.
func NewPieces(length time.Duration, zone *time.Location, from, until time.Time) Pieces {
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
