package server

import (
	"time"

	"github.com/pikarc/server/storage"
)

// TestRoute is a row of the route table, for tests that hold it against the OpenAPI document.
type TestRoute struct {
	Method string
	Path   string // httprouter's form
	Key    bool   // takes an API key
	Token  bool   // takes an account's token
	Audit  bool   // may change the configuration
}

// TestRoutes lists the whole API.
func (s *Server) TestRoutes() []TestRoute {
	return each(s.routes(), func(r route) TestRoute {
		return TestRoute{
			Method: r.method, Path: r.path,
			Key:   r.access == keyOnly || r.access == keyOrToken || r.access == agentOrToken,
			Token: r.access == tokenOnly || r.access == keyOrToken || r.access == agentOrToken,
			Audit: r.configures(),
		}
	})
}

// SetDecider puts any verdict in the place of guard.Decide. Call it before the first request.
func (s *Server) SetDecider(d storage.Decider) { s.decide = d }

// HeldAfterFlood is how many subjects a limiter remembers after so many, and its bound.
func HeldAfterFlood(n int) (held, limit int) {
	l := newRateLimiter[int](1, time.Now)
	for i := range n {
		l.wait(i)
	}
	return l.bucket.Len(), limitedSubjects
}
