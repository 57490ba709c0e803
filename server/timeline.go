package server

import (
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// outlineJSON has a column for each property of a step: thousands of objects
// with the same names would be read and kept several times as slowly.
type outlineJSON struct {
	IDs        []uuid.UUID       `json:"ids"`
	Sequences  []int64           `json:"sequences"`
	Types      []string          `json:"types"`
	Statuses   []string          `json:"statuses"`
	Models     []wire.NullString `json:"models"`
	Tools      []wire.NullString `json:"tool_names"`
	Created    []int64           `json:"created_ms"`
	Durations  []*int64          `json:"durations_ms"`
	Prompt     []int64           `json:"prompt_tokens"`
	Completion []int64           `json:"completion_tokens"`
	Costs      []*plans.Money    `json:"costs_usd"`
	Reasons    []wire.NullString `json:"deny_reasons"`
	Inputs     []wire.NullString `json:"inputs"`
	Next       wire.NullString   `json:"next_cursor"`
}

// outlineRun answers GET /v1/runs/{id}/outline: many steps in few bytes, one array for each field.
func (s *Server) outlineRun(c *call) error {
	id, idErr := c.pathID("run_id")
	q := request.ReadQuery(c.r)
	cursor := q.String("cursor", maxCursor)
	limit := q.Int("limit", storage.MaxOutline, 1, storage.MaxOutline)
	if err := request.Join(idErr, q.Err()); err != nil {
		return err
	}
	steps, next, err := s.store.Outline(c.ctx(), c.who.workspace, id, cursor, int(limit))
	if err != nil {
		return badCursor(orNotFound(err, "Run not found"), "cursor", cursor)
	}
	c.json(http.StatusOK, outlineOf(steps, next))
	return nil
}

// outlineOf turns steps into columns.
func outlineOf(steps []storage.StepOutline, next string) outlineJSON {
	return outlineJSON{
		IDs:       wire.Map(steps, func(o storage.StepOutline) uuid.UUID { return o.ID }),
		Sequences: wire.Map(steps, func(o storage.StepOutline) int64 { return o.Sequence }),
		Types:     wire.Map(steps, func(o storage.StepOutline) string { return o.Type.String() }),
		Statuses:  wire.Map(steps, func(o storage.StepOutline) string { return o.Status.String() }),
		Models:    wire.Map(steps, func(o storage.StepOutline) wire.NullString { return wire.NullString(o.Model) }),
		Tools:     wire.Map(steps, func(o storage.StepOutline) wire.NullString { return wire.NullString(o.ToolName) }),
		Created:   wire.Map(steps, func(o storage.StepOutline) int64 { return o.CreatedAt.UnixMilli() }),
		Durations: wire.Map(steps, func(o storage.StepOutline) *int64 { return o.Duration }),
		Prompt:    wire.Map(steps, func(o storage.StepOutline) int64 { return o.PromptTokens }),
		Completion: wire.Map(steps, func(o storage.StepOutline) int64 {
			return o.CompletionTokens
		}),
		Costs:   wire.Map(steps, func(o storage.StepOutline) *plans.Money { return o.Cost }),
		Reasons: wire.Map(steps, func(o storage.StepOutline) wire.NullString { return wire.NullString(o.Reason.String()) }),
		Inputs:  wire.Map(steps, func(o storage.StepOutline) wire.NullString { return wire.NullString(o.Input) }),
		Next:    wire.NullString(next),
	}
}

// maxLines is how many steps are asked for at once: what fits on two screens.
const maxLines = 100

// lineJSON is a step's texts in one line each.
type lineJSON struct {
	ID     uuid.UUID       `json:"step_id"`
	Input  wire.NullString `json:"input"`
	Output wire.NullString `json:"output"`
	Error  wire.NullString `json:"error"`
}

// readLines says in a line each what went in and came out of some steps.
func (s *Server) readLines(c *call) error {
	id, idErr := c.pathID("run_id")
	q := request.ReadQuery(c.r)
	const idLength = 36
	text := q.RequiredString("steps", maxLines*(idLength+1))
	var ids []uuid.UUID
	for word := range strings.SplitSeq(text, ",") {
		step, err := uuid.Parse(word)
		if err != nil || len(word) != idLength {
			// An empty list was refused already, as missing.
			if text != "" {
				q.Refuse("steps", text, "send at most 100 ids of steps, with commas between them")
			}
			break
		}
		ids = append(ids, step)
	}
	if err := request.Join(idErr, q.Err()); err != nil {
		return err
	}
	texts, err := s.store.StepTexts(c.ctx(), c.who.workspace, id, ids)
	if err != nil {
		return orNotFound(err, "Run not found")
	}
	c.json(http.StatusOK, struct {
		Items []lineJSON `json:"items"`
	}{wire.Map(texts, lineOf)})
	return nil
}

// lineOf shortens the texts of a step.
func lineOf(t storage.StepTexts) lineJSON {
	return lineJSON{
		t.ID, wire.NullString(wire.LineOf(t.Input)), wire.NullString(wire.LineOf(t.Output)),
		wire.NullString(wire.CutLine(t.Error)),
	}
}

// readStep answers GET /v1/runs/{id}/steps/{id} with everything about a step.
func (s *Server) readStep(c *call) error {
	id, idErr := c.pathID("run_id")
	step, stepErr := c.pathID("step_id")
	if err := request.Join(idErr, stepErr); err != nil {
		return err
	}
	found, err := s.store.Step(c.ctx(), c.who.workspace, id, step)
	if err != nil {
		return orNotFound(err, "Step not found")
	}
	c.json(http.StatusOK, stepOf(found))
	return nil
}

// runPartJSON is what a model or a tool has in a run.
type runPartJSON struct {
	Type       wire.NullString `json:"type"`
	Model      wire.NullString `json:"model"`
	Tool       wire.NullString `json:"tool_name"`
	Steps      int64           `json:"step_count"`
	Failed     int64           `json:"failed_step_count"`
	Denied     int64           `json:"blocked_step_count"`
	Prompt     int64           `json:"prompt_tokens"`
	Completion int64           `json:"completion_tokens"`
	Total      plans.Money     `json:"total_usd"`
	Unpriced   int64           `json:"unpriced_tokens"`
}

// runPartOf converts a part for the API.
func runPartOf(p storage.RunPart) runPartJSON {
	return runPartJSON{
		wire.NullString(typeOf(p.Type)), wire.NullString(p.Model), wire.NullString(p.ToolName), p.Steps, p.Failed, p.Denied,
		p.PromptTokens, p.CompletionTokens, p.Cost, p.UnpricedTokens,
	}
}

// typeOf is the word of a type; the rest together has none.
func typeOf(t storage.StepType) string {
	if t == 0 {
		return ""
	}
	return t.String()
}

// breakDownRun answers GET /v1/runs/{id}/breakdown: what the run spent, by model and tool.
func (s *Server) breakDownRun(c *call) error {
	id, err := c.pathID("run_id")
	if err != nil {
		return err
	}
	b, err := s.store.Breakdown(c.ctx(), c.who.workspace, id)
	if err != nil {
		return orNotFound(err, "Run not found")
	}
	var other *runPartJSON
	// Models and tools beyond the largest are one row, which is null where there are none.
	if b.Other.Steps > 0 {
		other = new(runPartOf(b.Other))
	}
	c.json(http.StatusOK, struct {
		Items   []runPartJSON `json:"items"`
		Other   *runPartJSON  `json:"other"`
		Denied  *uuid.UUID    `json:"first_denied_step_id"`
		Failed  *uuid.UUID    `json:"first_failed_step_id"`
		Dearest *uuid.UUID    `json:"most_expensive_step_id"`
	}{wire.Map(b.Parts, runPartOf), other, b.FirstDenied, b.FirstFailed, b.Dearest})
	return nil
}

// readNeighbours answers GET /v1/runs/{id}/neighbours: the runs that started just before and just
// after, null at the ends.
func (s *Server) readNeighbours(c *call) error {
	id, err := c.pathID("run_id")
	if err != nil {
		return err
	}
	n, err := s.store.Neighbours(c.ctx(), c.who.workspace, id)
	if err != nil {
		return orNotFound(err, "Run not found")
	}
	c.json(http.StatusOK, struct {
		Newer *uuid.UUID `json:"newer_run_id"`
		Older *uuid.UUID `json:"older_run_id"`
	}{n.Newer, n.Older})
	return nil
}
