package server

import (
	"testing"
	"time"
)

func TestOneKindOfTroubleIsLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	var l troubleLog
	start := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	logged, skipped := 0, 0
	for second := range 180 {
		for range 100 {
			due, before := l.due("full", start.Add(time.Duration(second)*time.Second))
			if due {
				logged, skipped = logged+1, skipped+before
			}
		}
	}
	if logged != 3 || skipped != 2*5999 {
		t.Errorf("%d lines in 3 minutes, which tell of %d others", logged, skipped)
	}
	if due, _ := l.due("busy", start); !due {
		t.Error("another kind of trouble is not logged")
	}
	if due, _ := l.due("full", start.Add(-time.Hour)); !due {
		t.Error("a clock that was set back keeps the log silent")
	}
}
