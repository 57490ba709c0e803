package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

func (a *actor) start() {
	in := NewRun{UserID: a.user()}
	if a.chance(30) {
		in.Metadata = fmt.Appendf(nil, `{"team":"ops","tags":{"agent":"a%d","env":"live"}}`, a.IntN(3))
	}
	var name string
	in.Idempotency, name = a.idempotency("start")
	caller := Caller{Workspace: a.at.ws}
	if a.chance(80) {
		caller.Key = KeyID(a.at.key.Load())
	}
	ans, err := a.StartRun(a.context(), caller, in, guard.Decide)
	if a.want(err, context.Canceled, ErrKeyReused, ErrKeyRevoked, ErrKeyExpired) && a.note(&a.runs, name, ans) && (ans.Decision.Allowed() || a.chance(5)) {
		a.at.mu.Lock()
		a.at.runs = append(a.at.runs, ans.ID)
		a.at.mu.Unlock()
	}
}

func (a *actor) step() {
	run, ok := recent(a, &a.at.runs)
	if !ok {
		return
	}
	in := NewStep{Type: StepType(1 + a.IntN(6)), Sequence: 1 + a.Int64N(5)}
	switch n := a.IntN(100); {
	case n < 40:
		in.Type = ModelCall
	case n < 65:
		in.Type = ToolCall
	}
	if a.chance(70) {
		in.Model = new(a.model())
	}
	if in.Type == ToolCall || a.chance(20) {
		in.ToolName = new("search")
	}
	if a.chance(30) {
		in.InputData = []byte(`{"q":"?"}`)
	}
	var name string
	in.Idempotency, name = a.idempotency(run)
	_, ended := a.ends.Load(run)
	ans, err := a.CreateStep(a.context(), Caller{Workspace: a.at.ws}, run, in, guard.Decide)
	if err == nil && ended && ans.Replay == nil && ans.Decision.Reason != guard.RunAlreadyEnded {
		a.t.Errorf("a step of an ended run: %+v", ans)
	}
	if a.want(err, context.Canceled, ErrKeyReused) && a.note(&a.steps, name, ans) && (ans.Decision.Allowed() || a.chance(5)) {
		a.at.mu.Lock()
		a.at.open = append(a.at.open, [2]uuid.UUID{run, ans.ID})
		a.at.mu.Unlock()
	}
}

// report sends anything from nothing to a whole report, for a step that may be
// open, reported, abandoned or blocked, once or twice.
func (a *actor) report() {
	step, ok := recent(a, &a.at.open)
	if !ok {
		return
	}
	var in StepUpdate
	if a.chance(70) {
		in.Status = StepCompleted + StepStatus(a.IntN(2))
	}
	most := []int64{1, 2_000, 100_000}[a.IntN(3)]
	if a.chance(1) {
		most = plans.MaxTokens
	}
	if a.chance(70) {
		in.PromptTokens = new(a.Int64N(most))
	}
	if a.chance(60) {
		in.CompletionTokens = new(a.Int64N(most))
	}
	if a.chance(30) {
		in.DurationMillis, in.Error = new(a.Int64N(5_000)), new("it broke")
	}
	if a.chance(30) {
		in.OutputData = []byte(`["!"]`)
	}
	if a.chance(20) {
		in.Model = new(a.model())
	}
	a.reportParts(&in, most)
	for range 1 + a.IntN(2) {
		s, err := a.UpdateStep(a.context(), Caller{Workspace: a.at.ws}, step[0], step[1], in)
		if !a.want(err, context.Canceled, ErrStepBlocked) {
			return
		}
		a.mustAnswer(in, s)
	}
}

// reportParts adds kinds of tokens, a service tier and a reported cost, of
// which the parts may be larger than their whole.
func (a *actor) reportParts(in *StepUpdate, most int64) {
	if a.chance(30) {
		return
	}
	for _, part := range []**int64{&in.CachedTokens, &in.CacheWriteTokens, &in.CacheWrite1hTokens, &in.ReasoningTokens} {
		if a.chance(50) {
			*part = new(a.Int64N(max(1, most/4)))
		}
	}
	if a.chance(30) {
		in.ServiceTier = ServiceTier(1 + a.IntN(5))
	}
	if a.chance(40) {
		in.ReportedCost = new(plans.Money(a.Int64N(int64(plans.USD))))
	}
	if a.chance(5) {
		in.UsageData = []byte(`{"tokens":"?"}`)
	}
}

// mustAnswer holds an answer against what was reported. What the prices of all
// kinds of tokens make of it is checked by the books.
func (a *actor) mustAnswer(in StepUpdate, s StepUpdated) {
	kinds := s.Parts
	if kinds.Cached+kinds.CacheWrite > s.PromptTokens || kinds.CacheWrite1h > kinds.CacheWrite || kinds.Reasoning > s.CompletionTokens {
		if !s.Capped {
			a.t.Errorf("reported %+v, answered parts beyond their whole: %+v", in, s)
		}
	}
	if s.Capped {
		return // checked by the books
	}
	whole := func(said *int64, booked int64, field string) {
		if raised := s.Repaired&RepairOf(field) != 0; said != nil && booked != *said && !(raised && booked > *said) {
			a.t.Errorf("reported %d %s, answered %+v", *said, field, s)
		}
	}
	whole(in.PromptTokens, s.PromptTokens, "prompt_tokens")
	whole(in.CompletionTokens, s.CompletionTokens, "completion_tokens")
	var cost *plans.Money
	switch {
	case s.Price.Source == PriceReported:
		cost = kinds.ReportedCost
	case s.InputPrice != nil:
		plain, err := plans.Cost(s.PromptTokens, s.CompletionTokens, *s.InputPrice, *s.OutputPrice)
		a.want(err)
		cost = &plain
		if kinds.Cached+kinds.CacheWrite+kinds.Reasoning > 0 || strings.HasSuffix(s.Price.Name, "search") {
			cost = s.Cost // by kinds, or by the call
		}
	}
	if in.Status != 0 && s.Status != in.Status || (s.Cost == nil) != (cost == nil) || cost != nil && *s.Cost != *cost {
		a.t.Errorf("reported %+v, answered %+v, want the cost %v", in, s, cost)
	}
}

// end holds what every end of a run is answered against the first: only the
// server's own word, IDLE_TIMEOUT, is ever replaced, and that no client hears.
func (a *actor) end() {
	run, ok := recent(a, &a.at.runs)
	if !ok {
		return
	}
	status := RunStatus(2 + a.IntN(3))
	by := EndedByClient + EndedBy(a.IntN(2))
	end, err := a.EndRun(a.context(), Caller{Workspace: a.at.ws}, run, status, by)
	var ended *EndedError
	if errors.As(err, &ended) {
		if ended.Status == status || ended.Status == RunRunning {
			a.t.Errorf("end as %s: %v", status, err)
		}
		return
	}
	if !a.want(err, context.Canceled) {
		return
	}
	if first, _ := a.ends.LoadOrStore(run, end); first != end {
		a.t.Errorf("ended as %+v, and as %+v before", end, first)
	}
}

func (a *actor) heartbeat() {
	if run, ok := recent(a, &a.at.runs); ok {
		ans, err := a.Heartbeat(a.context(), Caller{Workspace: a.at.ws}, run, guard.Decide)
		if a.want(err, context.Canceled) && (ans.Decision.Reason == guard.RunAlreadyEnded) != (ans.Status != "RUNNING") {
			a.t.Errorf("heartbeat %+v", ans)
		}
	}
}

// trespass tries the runs and steps of one tenant with the key of another.
func (a *actor) trespass() {
	run, ok := recent(a, &a.at.runs)
	step, okStep := recent(a, &a.at.open)
	if !ok || !okStep {
		return
	}
	ctx, stranger := context.Background(), a.tenants[a.IntN(len(a.tenants))].ws
	if stranger == a.at.ws {
		return
	}
	_, stepErr := a.CreateStep(ctx, Caller{Workspace: stranger}, run, NewStep{Type: 1, Sequence: 1}, guard.Decide)
	_, reportErr := a.UpdateStep(ctx, Caller{Workspace: stranger}, step[0], step[1], StepUpdate{Status: StepFailed})
	_, endErr := a.EndRun(ctx, Caller{Workspace: stranger}, run, RunFailed, EndedByDashboard)
	_, readErr := a.Run(ctx, stranger, run, "")
	for _, err := range []error{stepErr, reportErr, endErr, readErr} {
		if !errors.Is(err, ErrNotFound) {
			a.t.Errorf("a stranger got %v", err)
		}
	}
}
