package server

import (
	"container/ring"
	"net"
	"net/http"
	"sync"
)

// connections keeps the number of open connections at its limit. When one
// more comes, the one that has waited longest for its next request makes room
// for it, so that clients who hold connections and send nothing lock nobody
// out. If every connection is in the middle of a request, the new one goes.
//
// It hears of each request twice, so a place is made once a connection, and
// only linked and unlinked from then on.
type connections struct {
	limit   int // 0: none
	mu      sync.Mutex
	open    map[net.Conn]*ring.Ring // alone while a request is under way
	waiting *ring.Ring              // before the longest waiting connection, after the latest
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, open: make(map[net.Conn]*ring.Ring), waiting: ring.New(1)}
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
	if state == http.StateNew {
		return c.admit(conn)
	}
	place := c.open[conn]
	if place == nil {
		return nil // one that had to go
	}
	place.Prev().Unlink(1)
	switch state {
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	case http.StateIdle:
		c.waiting.Prev().Link(place)
	}
	return nil
}

// admit gives a new connection its place, and returns who must go for it: nil
// when there is room, and the new one when nobody waits.
func (c *connections) admit(conn net.Conn) (leaving net.Conn) {
	if len(c.open) >= c.limit {
		if c.waiting.Next() == c.waiting {
			return conn
		}
		leaving = c.waiting.Unlink(1).Value.(net.Conn)
		delete(c.open, leaving)
	}
	place := ring.New(1)
	place.Value = conn
	c.open[conn] = place
	c.waiting.Prev().Link(place) // what has just come waits for its first request
	return leaving
}
