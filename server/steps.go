package server

import (
	"crypto/sha256"
	"errors"
	"net/http"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const (
	// maxExact is the largest integer that every JSON reader represents exactly: 2^53 - 1.
	maxExact = 1<<53 - 1
	// maxStepError is how many characters of an error are kept.
	maxStepError = 10_000
	// maxServiceTier is longer than any provider's word.
	maxServiceTier = 64
)

// createStep answers POST /v1/runs/{id}/steps: may the agent do this? Type and sequence are read
// strictly; what only describes the step is repaired.
func (s *Server) createStep(c *call) error {
	run, idErr := c.pathID("run_id")
	o, err := s.report(c)
	if err != nil {
		return request.Join(idErr, err)
	}
	in := storage.NewStep{
		Type:      storage.ParseStepType(o.Literal("type", storage.StepTypes()...)),
		Sequence:  o.Int("sequence", 1, maxExact),
		Model:     o.Name("model"),
		ToolName:  o.Name("tool_name"),
		InputData: o.Payload("input_data"),
	}
	key, keyErr := idempotencyKey(c)
	if err := request.Join(idErr, keyErr, o.Err()); err != nil {
		return err
	}
	repaired := o.Repaired()
	encode := wire.WithRepaired(wire.EncodeStepAnswer, repaired)
	in.Repairs, in.Idempotency = storage.RepairsOf(repaired), idempotency(key, o, encode)
	in.Waits = waitsForReviews(c)
	a, err := s.store.CreateStep(c.ctx(), c.who.caller(), run, in, s.decide)
	if err != nil {
		return keyReused(orNotFound(err, "Run not found"), key)
	}
	c.decided(a, encode, in.Repairs)
	return nil
}

// updateStep answers PATCH /v1/runs/{id}/steps/{id}: how the step ended and what it used. A report
// is kept as far as possible, since its tokens are spent whatever it looks like.
func (s *Server) updateStep(c *call) error {
	run, runErr := c.pathID("run_id")
	step, stepErr := c.pathID("step_id")
	o, err := s.report(c)
	if err != nil {
		return request.Join(runErr, stepErr, err)
	}
	in := storage.StepUpdate{
		Status: storage.ParseStepStatus(o.OptionalLiteral("status", "COMPLETED",
			"FAILED")),
		DurationMillis:   o.Duration("duration_ms", maxExact),
		PromptTokens:     o.Count("prompt_tokens", plans.MaxTokens),
		CompletionTokens: o.Count("completion_tokens", plans.MaxTokens),
		Model:            o.Name("model"),
		OutputData:       o.AnyPayload("output_data"),
		Error:            o.Text("error", maxStepError),
	}
	// Usage may come as counts, as the provider's usage object, or both; counts win.
	readUsage(o, &in)
	if err := request.Join(runErr, stepErr, o.Err()); err != nil {
		return err
	}
	repaired := o.Repaired()
	in.Repairs = storage.RepairsOf(repaired)
	out, err := s.store.UpdateStep(c.ctx(), c.who.caller(), run, step, in)
	if err != nil {
		return orNotFound(err, "Step not found")
	}
	// The store finds what only it can see, such as a model that changes after usage was booked
	// under another one.
	for _, name := range out.Repaired.Fields() {
		repaired = o.MarkRepaired(name)
	}
	in.Repairs |= out.Repaired
	c.metrics.Repaired(in.Repairs)
	s.metrics.Booking.Updated(out)
	c.body(http.StatusOK, jsonType, wire.AppendRepaired(wire.Step(out.Step).Append(make([]byte, 0,
		1024)), repaired))
	return nil
}

// readUsage reads what a step has used besides its two token counts, and the provider's own usage
// object, which fills in the fields that were not sent.
func readUsage(o *request.Object, in *storage.StepUpdate) {
	in.CachedTokens = o.Count("cached_tokens", plans.MaxTokens)
	in.CacheWriteTokens = o.Count("cache_write_tokens", plans.MaxTokens)
	in.CacheWrite1hTokens = o.Count("cache_write_1h_tokens", plans.MaxTokens)
	in.ReasoningTokens = o.Count("reasoning_tokens", plans.MaxTokens)
	if tier := o.Text("service_tier", maxServiceTier); tier != nil {
		if in.ServiceTier = storage.ParseServiceTier(*tier); in.ServiceTier == 0 {
			o.MarkRepaired("service_tier")
		}
	}
	in.ReportedCost = o.Cost("reported_cost_usd")
	raw := o.AnyPayload("usage")
	if raw == nil {
		return
	}
	usage, ok := prices.ReadUsage(raw)
	if !ok || len(usage.Unread) > 0 {
		// Kept as it came, so that people can see what was not understood.
		in.UsageData = raw
		o.MarkRepaired("usage")
	}
	if !ok {
		return
	}
	from := func(field **int64, n int64, said bool) {
		if *field == nil && said {
			*field = &n
		}
	}
	// Explicit fields win. If the provider reports a total, a part that it does not mention is 0.
	from(&in.PromptTokens, usage.Prompt, usage.HasPrompt)
	from(&in.CompletionTokens, usage.Completion, usage.HasCompletion)
	from(&in.CachedTokens, usage.Cached, usage.HasPrompt)
	from(&in.CacheWriteTokens, usage.CacheWrite, usage.HasPrompt)
	from(&in.CacheWrite1hTokens, usage.CacheWrite1h, usage.HasPrompt)
	from(&in.ReasoningTokens, usage.Reasoning, usage.HasCompletion)
	if in.ServiceTier == 0 {
		in.ServiceTier = storage.ParseServiceTier(usage.ServiceTier)
	}
	if in.ReportedCost == nil {
		in.ReportedCost = usage.ReportedCost
	}
}

// idempotency returns what the store keeps of a call with a key; the zero value without one.
func idempotency(
	key string, o *request.Object, encode func(storage.Answer) []byte,
) storage.Idempotency {
	if key == "" {
		return storage.Idempotency{}
	}
	return storage.Idempotency{Key: key, Fingerprint: sha256.Sum256(o.Raw()), Encode: encode}
}

// idempotencyKey reads the header: 1 to 255 printable ASCII characters, or absent.
func idempotencyKey(c *call) (string, error) {
	const maxLength = 255
	values, present := c.r.Header["Idempotency-Key"]
	if !present {
		return "", nil
	}
	key := values[len(values)-1]
	sane := key != "" && len(key) <= maxLength
	for i := range len(key) {
		sane = sane && key[i] >= ' ' && key[i] <= '~'
	}
	if !sane {
		return "", request.Invalid(keyLoc(), "must be 1 to 255 printable ASCII characters", key)
	}
	return key, nil
}

// keyLoc is where a problem of the idempotency key is.
func keyLoc() []any { return []any{"header", "Idempotency-Key"} }

// keyReused converts ErrKeyReused to a 422.
func keyReused(err error, key string) error {
	if errors.Is(err, storage.ErrKeyReused) {
		return request.Invalid(keyLoc(),
			"this key was used with another body within the last 24 hours", key)
	}
	return err
}

// badCursor converts ErrBadCursor to a 422.
func badCursor(err error, name, cursor string) error {
	if errors.Is(err, storage.ErrBadCursor) {
		return request.Invalid([]any{"query", name}, "not a cursor of this list", cursor)
	}
	return err
}

// isReportField reports whether agents' calls have a field of this name: one that decides, or one
// of those that storage.RepairOf knows.
func isReportField(key []byte) bool {
	switch string(key) {
	case "user_id", "type", "sequence", "status":
		return true
	default:
		return storage.RepairOf(string(key)) != storage.RepairedOther
	}
}
