package storage

import "testing"

// On a disk that is nearly full a page may still fit where a run's start does not.
func TestReadinessTakesAsMuchRoomAsAStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	wal := func() int64 { return w.Stats().WALBytes }
	before := wal()
	w.start(ws, "u")
	start := wal() - before
	for range 3 { // also when there is a row to rewrite
		w.probe.at = w.probe.at.Add(-2 * probeInterval)
		before = wal()
		w.must(w.Ready(t.Context()))
		if probe := wal() - before; probe < start || start == 0 {
			t.Errorf("a start wrote %d bytes, a readiness check %d", start, probe)
		}
	}
}
