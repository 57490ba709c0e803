package storage

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/guard"
)

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

// Who reads of damage is told the way back of this database, and of no other.
func TestDamageIsSaidWithTheWayBackOfItsEngine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	caller := w.caller(w.unlimitedWorkspace())
	damage, says, not := `UPDATE workspaces SET id = id + 1000`, "pikarc restore", "docs/ops/cluster.md"
	if w.url != "" { // SQLite's other connection enforces no foreign keys as it is
		damage, says, not = `SET LOCAL session_replication_role = replica; `+damage, not, says
	}
	w.elsewhere(damage)
	_, err := w.StartRun(t.Context(), caller, NewRun{UserID: "u"}, guard.Decide)
	w.probe.at = time.Time{}
	for name, err := range map[string]error{"a start": err, "ready": w.Ready(t.Context())} {
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrCorrupt) ||
			!strings.Contains(err.Error(), says) || strings.Contains(err.Error(), not) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
