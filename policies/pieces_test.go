package policies

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

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
		if got, want := pieces.Start(pieces.Number(at)), StartOfDate(year, month, day, zone); !got.Equal(want) {
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
		n := pieces.Number(at)
		if start := pieces.Start(n); start.After(at) || pieces.Number(start) != n {
			t.Fatalf("%s lies in piece %d, which begins at %s", at, n, start)
		}
		if length == 7*24*time.Hour && pieces.Start(n).In(zone).Weekday() != time.Monday {
			t.Fatalf("a week begins on a %s", pieces.Start(n).In(zone).Weekday())
		}
	})
}

func TestThePiecesOfAWindowAreFew(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for window, want := range map[time.Duration]time.Duration{
		time.Hour:                 time.Minute,
		24 * time.Hour:            15 * time.Minute,
		7 * 24 * time.Hour:        2 * time.Hour,
		100 * 24 * time.Hour:      24 * time.Hour,
		101 * 24 * time.Hour:      48 * time.Hour,
		50 * 365 * 24 * time.Hour: 364 * 24 * time.Hour,
	} {
		if got := AtMost(100, time.UTC, from, from.Add(window)).Length; got != want {
			t.Errorf("%s has pieces of %s, want %s", window, got, want)
		}
	}
}

func TestAWindowHasNoMorePiecesThanAskedFor(t *testing.T) {
	t.Parallel()
	names := []string{"UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"}
	rapid.Check(t, func(t *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(names).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		from := time.UnixMilli(rapid.Int64Range(1.2e12, 1.8e12).Draw(t, "from"))
		until := from.Add(time.Duration(rapid.Int64Range(0, 20*365*24*60).Draw(t, "minutes")) * time.Minute)
		most := rapid.Int64Range(1, 1000).Draw(t, "most")
		pieces := AtMost(most, zone, from, until)
		if got := pieces.Number(until.Add(-time.Millisecond)) - pieces.Number(from) + 1; got > most {
			t.Fatalf("%d pieces of %s, want %d at most", got, pieces.Length, most)
		}
	})
}

func TestTheHourThatComesTwiceHasPiecesOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]time.Time{
		"Europe/Berlin":    time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC), // 03:00 becomes 02:00
		"America/St_Johns": time.Date(2026, 11, 1, 4, 30, 0, 0, time.UTC),
	} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, length := range []time.Duration{time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour} {
			pieces := NewPieces(length, zone, back.Add(-6*time.Hour), back.Add(6*time.Hour))
			for at := back.Add(-6 * time.Hour); at.Before(back.Add(6 * time.Hour)); at = at.Add(length) {
				if got := pieces.Start(pieces.Number(at)); !got.Equal(at) {
					t.Errorf("%s: the piece of %s at %s begins at %s", name, length, at, got)
				}
			}
		}
	}
}
