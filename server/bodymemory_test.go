package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/storage"
)

func TestLargeBodiesWaitTheirTurnAndAreThenRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newBodyMemory(400, 100)
		first, err := m.hold(t.Context(), 1, 100)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(bodyPatience/2, first)
		second, err := m.hold(t.Context(), 1, 60) // once the first is over
		if err != nil {
			t.Fatal(err)
		}
		asked := time.Now()
		if _, err := m.hold(t.Context(), 1, 60); !errors.Is(err, request.ErrNoMemory) || time.Since(asked) != bodyPatience {
			t.Errorf("beyond a workspace's share: %v after %s", err, time.Since(asked))
		}
		for ws := range 3 { // the others' shares
			if _, err := m.hold(t.Context(), 2, 100); (err == nil) != (ws == 0) {
				t.Errorf("attempt %d of another workspace: %v", ws, err)
			}
		}
		second()
		if len(m.shares) != 1 || m.held.Load() != 100 || m.refused.Load() != 3 {
			t.Errorf("%d shares hold %d bytes, and %d were refused", len(m.shares), m.held.Load(), m.refused.Load())
		}
	})
}

func TestAllMemoryIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newBodyMemory(250, 100) // shares of 100 are more than a quarter: one body always fits
		for ws := range storage.WorkspaceKey(2) {
			if _, err := m.hold(t.Context(), ws, 100); err != nil {
				t.Errorf("workspace %d: %v", ws, err)
			}
		}
		if _, err := m.hold(t.Context(), 9, 100); !errors.Is(err, request.ErrNoMemory) {
			t.Errorf("beyond all memory: %v", err)
		}
		if len(m.shares) != 2 {
			t.Errorf("%d shares are kept", len(m.shares))
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := m.hold(gone, 9, 100); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller who is gone: %v", err)
		}
	})
}
