package server

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/storage"
)

// maxSilence is a year, in seconds.
const maxSilence = 365 * 24 * 60 * 60

// endRuns ends many runs at once: those named, or all that have been silent
// for so long.
func (s *Server) endRuns(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	in := storage.EndsOfRuns{
		IDs: o.OptionalIDs("run_ids", storage.MaxEnds),
		Status: storage.ParseRunStatus(o.OptionalLiteral("status", "COMPLETED", "FAILED",
			"BLOCKED")),
		By: storage.EndedByDashboard,
	}
	silent := o.OptionalInt("silent_for_seconds", 0, maxSilence)
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	if (in.IDs == nil) == (silent == nil) {
		return request.Invalid([]any{"body"}, "send run_ids or silent_for_seconds, and not both",
			json.RawMessage(o.Raw()))
	}
	if silent != nil {
		in.SilentSince = s.Now().Add(-time.Duration(*silent) * time.Second)
	}
	if in.Status == 0 {
		in.Status = storage.RunFailed
	}
	if c.who.byKey() {
		in.By = storage.EndedByClient
	}
	ended, more, err := s.store.EndRuns(c.ctx(), c.who.workspace, in)
	if ended == nil {
		ended = []uuid.UUID{}
	}
	return c.ok(struct {
		Ended []uuid.UUID `json:"ended_run_ids"`
		More  bool        `json:"more"`
	}{ended, more}, err)
}
