package server

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A disk that is full is not filled again every minute.
func TestFailedJobsBackOff(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	now, tries, fail := start, []time.Duration(nil), true
	u := &upkeep{Config: Config{Now: func() time.Time { return now }}}
	look := u.backingOff(func(time.Time) bool { return true }, func(context.Context) error {
		tries = append(tries, now.Sub(start)/time.Minute)
		if fail {
			return errors.New("no space left on device")
		}
		return nil
	})
	lookEach := func(minutes int) {
		tries, start = nil, now
		for range minutes {
			_, _ = look(t.Context())
			now = now.Add(time.Minute)
		}
	}
	lookEach(260)
	want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183, 243}
	if len(tries) != len(want) {
		t.Fatalf("tried after minutes %v, want %v", tries, want)
	}
	for i := range want {
		if tries[i] != want[i] {
			t.Fatalf("tried after minutes %v, want %v", tries, want)
		}
	}
	now = now.Add(-24 * time.Hour)
	if lookEach(1); len(tries) != 1 {
		t.Error("a clock that was set back keeps everybody waiting")
	}
	now, fail = now.Add(time.Hour), false
	if lookEach(3); len(tries) != 3 {
		t.Errorf("after a success: tried after minutes %v", tries)
	}
}
