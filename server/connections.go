package server

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// connections keeps the number of open connections at its limit. When one
// more comes, the one that has waited longest for its next request makes room
// for it, so that clients who hold connections and send nothing lock nobody
// out. If every connection is in the middle of a request, the new one goes.
type connections struct {
	limit   int // 0: none
	mu      sync.Mutex
	open    map[net.Conn]*list.Element // nil while a request is under way
	waiting *list.List                 // of net.Conn, the longest waiting first
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, open: make(map[net.Conn]*list.Element), waiting: list.New()}
}

// note is for http.Server.ConnState.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	if c.limit <= 0 {
		return
	}
	if leaving := c.move(conn, state); leaving != nil {
		_ = leaving.Close() // it may have gone by itself
	}
}

// move notes a connection's state, and returns the one that must go for it, if any.
func (c *connections) move(conn net.Conn, state http.ConnState) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.open[conn]; at != nil {
		c.waiting.Remove(at)
	}
	switch state {
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	case http.StateActive:
		c.open[conn] = nil
	case http.StateNew:
		leaving := c.full(conn)
		if leaving != conn {
			c.open[conn] = c.waiting.PushBack(conn)
		}
		return leaving
	case http.StateIdle:
		c.open[conn] = c.waiting.PushBack(conn)
	}
	return nil
}

// full returns who must leave before one more connection; nil when there is room.
func (c *connections) full(one net.Conn) net.Conn {
	if len(c.open) < c.limit {
		return nil
	}
	first := c.waiting.Front()
	if first == nil {
		return one
	}
	longest := c.waiting.Remove(first).(net.Conn)
	delete(c.open, longest) // its StateClosed comes later, and changes nothing
	return longest
}
