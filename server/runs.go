package server

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const (
	// maxUserID is the length of a user's name, which the caller chooses.
	maxUserID = 255
	// maxPage is how many rows a page may have.
	maxPage = 200
	// pageLength is how many it has unless the caller asks.
	pageLength = 50
	// maxCursor is longer than any cursor.
	maxCursor = 512
)

// startRun answers POST /v1/runs/: may this user's agent begin? A denial answers 201 as well, with
// the run's id, status BLOCKED and the rule.
func (s *Server) startRun(c *call) error {
	o, err := s.report(c)
	if err != nil {
		return err
	}
	in := storage.NewRun{UserID: o.String("user_id", 1, maxUserID), Metadata: o.Payload("metadata")}
	key, keyErr := idempotencyKey(c)
	if err := request.Join(keyErr, o.Err()); err != nil {
		return err
	}
	repaired := o.Repaired()
	encode := wire.WithRepaired(wire.EncodeAnswer, repaired)
	in.Repairs, in.Idempotency = storage.RepairsOf(repaired), idempotency(key, o, encode)
	a, err := s.store.StartRun(c.ctx(), c.who.caller(), in, s.decide)
	if err != nil {
		return keyReused(err, key)
	}
	c.decided(a, encode, in.Repairs)
	return nil
}

// decided writes the answer to a start or a step: the first one's bytes when
// this call repeats it.
func (c *call) decided(a storage.Answer, encode func(storage.Answer) []byte, r storage.Repairs) {
	body := a.Replay
	// A repeated call was counted the first time.
	if body == nil {
		body = encode(a)
		c.counted(a.Decision)
		c.metrics.Repaired(r)
	} else {
		c.w.Header().Set("Idempotent-Replay", "true")
	}
	c.body(http.StatusCreated, jsonType, body)
}

// endRun answers POST /v1/runs/{id}/end. Ending a run twice with one status is no error, so an
// agent may repeat it.
func (s *Server) endRun(c *call) error {
	id, idErr := c.pathID("run_id")
	o, err := s.report(c)
	if err != nil {
		return request.Join(idErr, err)
	}
	status := storage.ParseRunStatus(o.Literal("status", "COMPLETED", "FAILED", "BLOCKED"))
	if err := request.Join(idErr, o.Err()); err != nil {
		return err
	}
	by := storage.EndedByDashboard
	if c.who.byKey() {
		by = storage.EndedByClient
	}
	end, err := s.store.EndRun(c.ctx(), c.who.caller(), id, status, by)
	if err != nil {
		return orNotFound(err, "Run not found")
	}
	repaired := o.Repaired()
	if repaired != nil {
		r := storage.RepairsOf(repaired)
		if err := s.store.RepairRun(c.ctx(), c.who.caller(), id, r); err != nil {
			return orNotFound(err, "Run not found")
		}
		c.metrics.Repaired(r)
	}
	b := wire.AppendID([]byte(`{"id":`), end.ID)
	b = append(append(b, `,"status":"`...), end.Status.String()...)
	b = wire.AppendTime(append(b, `","ended_at":`...), end.EndedAt)
	c.body(http.StatusOK, jsonType, wire.AppendRepaired(append(b, '}'), repaired))
	return nil
}

// heartbeatRun answers POST /v1/runs/{id}/heartbeat: may the run go on? It records no step, and
// keeps the run from being ended as idle.
func (s *Server) heartbeatRun(c *call) error {
	id, err := c.pathID("run_id")
	if err != nil {
		return err
	}
	a, err := s.store.Heartbeat(c.ctx(), c.who.caller(), id, s.decide)
	if err != nil {
		return orNotFound(err, "Run not found")
	}
	c.counted(a.Decision)
	c.body(http.StatusOK, jsonType, wire.EncodeAnswer(a))
	return nil
}

// page is a list with the cursor of what follows.
type page struct {
	Items any             `json:"items"`
	Next  wire.NullString `json:"next_cursor"`
}

// listRuns answers GET /v1/runs/: a page of runs by filter and order.
func (s *Server) listRuns(c *call) error {
	q := request.ReadQuery(c.r)
	f := runFilter(q)
	f.Limit, f.Cursor = q.Int("limit", pageLength, 1, maxPage), q.String("cursor", maxCursor)
	sort := q.Literal("sort", "newest", "last_call", "oldest", "cost", "duration", "steps", "tokens")
	f.ByLastCall, f.Order = sort == "last_call", runOrder(sort)
	others := f.UserID != "" || f.Denied || f.Reason != guard.None || !f.Since.IsZero() ||
		!f.Until.IsZero() || f.IsSearch()
	if f.ByLastCall && (f.Status != storage.RunRunning || others) {
		q.Refuse("sort", "last_call", "last_call needs status=RUNNING, and no other filter")
	}
	if err := q.Err(); err != nil {
		return err
	}
	runs, next, err := s.store.Runs(c.ctx(), c.who.workspace, f)
	return c.ok(page{wire.Map(runs, wire.RunOf), wire.NullString(next)},
		badCursor(err, "cursor", f.Cursor))
}

// readRun answers GET /v1/runs/{id}: the run and a page of its steps.
func (s *Server) readRun(c *call) error {
	id, idErr := c.pathID("run_id")
	q := request.ReadQuery(c.r)
	cursor := q.String("steps_cursor", maxCursor)
	limit := q.Int("steps_limit", storage.MaxSteps, 0, storage.MaxSteps)
	if err := request.Join(idErr, q.Err()); err != nil {
		return err
	}
	d, err := s.store.RunWithSteps(c.ctx(), c.who.workspace, id, cursor, int(limit))
	if err != nil {
		return badCursor(orNotFound(err, "Run not found"), "steps_cursor", cursor)
	}
	c.json(http.StatusOK, struct {
		wire.Run
		Key       *runKeyJSON     `json:"api_key"`
		Metadata  json.RawMessage `json:"metadata"`
		Decision  json.RawMessage `json:"decision"`
		Denied    *deniedJSON     `json:"latest_denial"`
		Repaired  []string        `json:"repaired,omitempty"`
		Steps     []wire.Step     `json:"steps"`
		NextSteps wire.NullString `json:"next_steps_cursor"`
	}{
		wire.RunOf(d.Run), (*runKeyJSON)(d.Key), d.Metadata,
		wire.AppendDecision(nil, d.Decision, true), deniedOf(d.Denied), d.Repairs.Fields(),
		wire.Map(d.Steps, stepOf), wire.NullString(d.NextSteps),
	})
	return nil
}

// deniedJSON is a step that a rule objected to.
type deniedJSON struct {
	ID       uuid.UUID       `json:"step_id"`
	Sequence int64           `json:"sequence"`
	Decision json.RawMessage `json:"decision"`
}

// deniedOf converts the step that was denied last; nil for none.
func deniedOf(s *storage.DeniedStep) *deniedJSON {
	if s == nil {
		return nil
	}
	return &deniedJSON{s.ID, s.Sequence, wire.AppendDecision(nil, s.Decision, true)}
}

// runKeyJSON is the key that started a run.
type runKeyJSON struct {
	ID     uuid.UUID `json:"id"`
	Prefix string    `json:"prefix"`
	Label  string    `json:"label"`
}

// stepOf converts a step for the API.
func stepOf(s storage.Step) wire.Step { return wire.Step(s) }

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
	// Neither would end all runs of the workspace, which nobody means by an empty body.
	if (in.IDs == nil) == (silent == nil) {
		return request.Invalid([]any{"body"}, "send run_ids or silent_for_seconds, and not both",
			json.RawMessage(o.Raw()))
	}
	if silent != nil {
		in.SilentSince = s.Now().Add(-time.Duration(*silent) * time.Second)
	}
	// A run that somebody else has to end was not completed.
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
