package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/storage"
)

const (
	// bodyPatience is how long a large body waits for memory: agents that all
	// send one at once are served in turn, well within a client's own timeout.
	bodyPatience = 5 * time.Second
	// bodyShares is how many workspaces it takes to use up all of the memory.
	bodyShares = 4
)

// bodyMemory bounds the memory of large bodies while they are served, whatever
// the number of connections. A workspace may use a share of it, so that it never
// keeps another's bodies out; callers without a workspace have one share together.
// A body that waits holds no more than a small one.
type bodyMemory struct {
	all     *semaphore.Weighted
	share   int64
	held    atomic.Int64 // bytes
	refused atomic.Int64

	mu     sync.Mutex
	shares map[storage.WorkspaceKey]*bodyShare
}

// bodyShare is what one workspace may take of the memory, and how many of its requests use it now.
type bodyShare struct {
	memory *semaphore.Weighted
	users  int
}

// newBodyMemory makes room for one body of the largest size at least.
func newBodyMemory(size, largest int64) *bodyMemory {
	size = max(size, largest)
	return &bodyMemory{
		all: semaphore.NewWeighted(size), share: max(size/bodyShares, largest),
		shares: make(map[storage.WorkspaceKey]*bodyShare),
	}
}

// hold takes memory for a workspace, and waits for it a while. The error is
// request.ErrNoMemory, or the context's.
func (m *bodyMemory) hold(
	ctx context.Context, ws storage.WorkspaceKey, bytes int64,
) (release func(), err error) {
	patience, cancel := context.WithTimeout(ctx, bodyPatience)
	defer cancel()
	own := m.enter(ws)
	if err := own.memory.Acquire(patience, bytes); err != nil {
		m.leave(ws)
		return nil, m.refuse(ctx)
	}
	if err := m.all.Acquire(patience, bytes); err != nil {
		own.memory.Release(bytes)
		m.leave(ws)
		return nil, m.refuse(ctx)
	}
	m.held.Add(bytes)
	return func() {
		m.held.Add(-bytes)
		m.all.Release(bytes)
		own.memory.Release(bytes)
		m.leave(ws)
	}, nil
}

// refuse counts a body that found no room in time.
func (m *bodyMemory) refuse(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err // the caller is gone
	}
	m.refused.Add(1)
	return request.ErrNoMemory
}

// enter finds or makes the workspace's share. A share lives only while requests use it, so the map
// does not grow with the number of workspaces.
func (m *bodyMemory) enter(ws storage.WorkspaceKey) *bodyShare {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := m.shares[ws]
	if own == nil {
		own = &bodyShare{memory: semaphore.NewWeighted(m.share)}
		m.shares[ws] = own
	}
	own.users++
	return own
}

// leave drops the share with its last request.
func (m *bodyMemory) leave(ws storage.WorkspaceKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := m.shares[ws]
	if own.users--; own.users == 0 {
		delete(m.shares, ws)
	}
}
