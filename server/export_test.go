package server

import (
	"context"
	"time"

	"github.com/pikarc/server/storage"
)

// TestRoute is a row of the route table, for tests that hold it against the OpenAPI document.
type TestRoute struct {
	Method string
	Path   string // httprouter's form
	Key    bool   // takes an API key
	Token  bool   // takes an account's token
}

// TestRoutes lists the whole API.
func (s *Server) TestRoutes() []TestRoute {
	return each(s.routes(), func(r route) TestRoute {
		return TestRoute{
			Method: r.method, Path: r.path,
			Key:   r.access == keyOnly || r.access == keyOrToken,
			Token: r.access == tokenOnly || r.access == keyOrToken,
		}
	})
}

// SetDecider puts any verdict in the place of guard.Decide. Call it before the first request.
func (s *Server) SetDecider(d storage.Decider) { s.decide = d }

// BackupDue, Backup, VerifyDue and Verify are the jobs that otherwise wait for their hour.
func (s *Server) BackupDue(now time.Time) bool     { return s.backupDue(now) }
func (s *Server) Backup(ctx context.Context) error { return s.backup(ctx) }
func (s *Server) VerifyDue() func(time.Time) bool  { return s.verifyDue() }
func (s *Server) Verify(ctx context.Context) error { return s.verify(ctx) }

// Flush sends what waits.
func (t *Tracing) Flush(ctx context.Context) error { return t.provider.ForceFlush(ctx) }
