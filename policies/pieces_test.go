package policies

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// numberOf is the piece that an instant is in, as storage's SQL computes it.
func (p Pieces) numberOf(at time.Time) int64 {
	ms := at.UnixMilli()
	for _, s := range p.Stretches {
		if ms < s.Until {
			return (ms + s.Ahead) / p.Length.Milliseconds()
		}
	}
	panic("the last stretch ends")
}

func TestPiecesOfADayAreTheDatesOfTheZone(t *testing.T) {
	t.Parallel()
	names := []string{"UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Africa/Cairo", "Pacific/Apia"}
	rapid.Check(t, func(t *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(names).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		from := time.UnixMilli(rapid.Int64Range(1.2e12, 1.8e12).Draw(t, "from"))
		until := from.Add(time.Duration(rapid.Int64Range(1, 1000).Draw(t, "days")) * 24 * time.Hour)
		at := from.Add(time.Duration(rapid.Int64Range(0, int64(until.Sub(from))).Draw(t, "at")))
		pieces := NewPieces(24*time.Hour, zone, from, until)
		year, month, day := at.In(zone).Date()
		if got, want := pieces.Start(pieces.numberOf(at)), StartOfDate(year, month, day, zone); !got.Equal(want) {
			t.Fatalf("%s is in the piece that begins at %s, want %s", at.In(zone), got.In(zone), want)
		}
	})
}

func TestPiecesFollowOneAnother(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		length := time.Duration(rapid.SampledFrom([]int{1, 15, 60, 360, 1440, 10_080}).Draw(t, "minutes")) * time.Minute
		from := time.UnixMilli(rapid.Int64Range(1.7e12, 1.8e12).Draw(t, "from"))
		pieces := NewPieces(length, zone, from, from.Add(400*24*time.Hour))
		at := from.Add(time.Duration(rapid.Int64Range(0, int64(399*24*time.Hour)).Draw(t, "at")))
		n := pieces.numberOf(at)
		if start := pieces.Start(n); start.After(at) || pieces.numberOf(start) != n {
			t.Fatalf("%s lies in piece %d, which begins at %s", at, n, start)
		}
		if length == 7*24*time.Hour && pieces.Start(n).In(zone).Weekday() != time.Monday {
			t.Fatalf("a week begins on a %s", pieces.Start(n).In(zone).Weekday())
		}
	})
}

func TestThePiecesOfAWindowAreFew(t *testing.T) {
	t.Parallel()
	for window, want := range map[time.Duration]time.Duration{
		time.Hour:                 time.Minute,
		24 * time.Hour:            15 * time.Minute,
		7 * 24 * time.Hour:        2 * time.Hour,
		100 * 24 * time.Hour:      24 * time.Hour,
		101 * 24 * time.Hour:      48 * time.Hour,
		50 * 365 * 24 * time.Hour: 364 * 24 * time.Hour,
	} {
		if got := PieceLength(window, 100); got != want {
			t.Errorf("%s has pieces of %s, want %s", window, got, want)
		}
	}
}
