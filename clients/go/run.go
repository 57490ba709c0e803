package pikarc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Run is a run, within [Client.Run]. It is safe for concurrent use.
type Run struct {
	client    *Client
	id        string // "": the server could not be asked, and the run goes on without it
	start     json.RawMessage
	key       string
	sequence  atomic.Int64
	calls     atomic.Int64 // guarded calls under way
	unguarded atomic.Bool  // whether a call was made without asking
}

// ID is the run's id; "" for one that the server could not be asked about.
func (r *Run) ID() string { return r.id }

type decision struct {
	Outcome, Reason, Message string
	PolicyName               string `json:"policy_name"`
	ReviewID                 string `json:"review_id"`
	ResetsAt                 string `json:"resets_at"`
	Limit, Used              json.Number
}

type decided struct {
	ID       string
	Decision decision
	ReviewID string `json:"review_id"`
}

// allow returns the id of the review to wait for, or "" for ALLOW. Anything else is not allowed.
func (d decided) allow(run string) (review string, err error) {
	if d.ID == "" {
		return "", unavailable("the server's answer holds no id")
	}
	switch d.Decision.Outcome {
	case "ALLOW":
		return "", nil
	case "REVIEW":
		if d.ReviewID == "" {
			d.ReviewID = d.Decision.ReviewID
		}
		if d.ReviewID == "" {
			return "", &BlockedError{Reason: "REVIEW_ERROR", RunID: run, StepID: d.ID}
		}
		return d.ReviewID, nil
	case "DENY":
		return "", &BlockedError{
			Reason: d.Decision.Reason, PolicyName: d.Decision.PolicyName, Message: d.Decision.Message,
			Limit: d.Decision.Limit, Used: d.Decision.Used, ResetsAt: d.Decision.ResetsAt, RunID: run, StepID: d.ID,
		}
	}
	return "", unavailable("the server's answer holds no decision")
}

// Run starts a run, calls body with it, and ends it: COMPLETED, FAILED where body
// returns an error or panics, BLOCKED where the error is a denial. It returns
// body's error, or a *[BlockedError] or an *[APIError] where it could not start.
func (c *Client) Run(ctx context.Context, userID string, metadata map[string]any, body func(context.Context, *Run) error) (err error) {
	start := map[string]any{"user_id": userID}
	if metadata != nil {
		start["metadata"] = payload(metadata)
	}
	run := &Run{client: c, start: encode(start), key: newKey()}
	var answer decided
	err = c.do(ctx, call{method: "POST", path: "/v1/runs/", body: run.start, key: run.key}, &answer)
	if err == nil {
		var review string
		if review, err = answer.allow(answer.ID); review != "" {
			err = &BlockedError{Reason: "REVIEW_ERROR", RunID: answer.ID}
		}
	}
	switch {
	case err == nil:
		run.id = answer.ID
		c.deliver(ctx)
	case ctx.Err() != nil: // the server may have started it, and would hold its place
		run.giveUp(ctx)
		return err
	case !errors.Is(err, ErrUnavailable) || !c.goesOn(err):
		return err
	}
	stop := run.keepAlive(ctx)
	defer stop()
	status := "FAILED" // also of a panic
	defer func() { run.end(ctx, status) }()
	err = body(ctx, run)
	var blocked *BlockedError
	switch {
	case err == nil:
		status = "COMPLETED"
	case errors.As(err, &blocked):
		status = "BLOCKED"
	}
	return err
}

// giveUp ends a run whose start was cancelled. The start is sent again with its
// key, to learn whether there is one.
func (r *Run) giveUp(ctx context.Context) {
	ctx, cancel := r.client.within(ctx)
	defer cancel()
	var answer decided
	err := r.client.do(ctx, call{method: "POST", path: "/v1/runs/", body: r.start, key: r.key}, &answer)
	switch {
	case err == nil && answer.Decision.Outcome == "ALLOW":
		r.id = answer.ID
		r.send(ctx, "POST", "/v1/runs/"+r.id+"/end", map[string]any{"status": "FAILED"})
	case err != nil && waits(err):
		e := r.named("end")
		e.Status = "FAILED"
		r.client.journal.append(e)
	}
}

// giveUpStep settles a step that was cancelled while it was asked for.
func (r *Run) giveUpStep(ctx context.Context, s step) {
	ctx, cancel := r.client.within(ctx)
	defer cancel()
	var answer decided
	err := r.client.do(ctx, call{method: "POST", path: "/v1/runs/" + r.id + "/steps", body: s.body, key: s.key}, &answer)
	if err == nil && answer.Decision.Outcome == "ALLOW" {
		s.id = answer.ID
		r.settle(ctx, s, map[string]any{"status": "FAILED", "error": "cancelled"})
	}
}

// within returns the context of what is left to tell the server once a call is cancelled.
func (c *Client) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), c.grace)
}

// ModelCall asks whether a model may be called, calls fn, and reports what it
// used: by the shape of what fn returned, where that is a provider's answer, or by
// the methods of [Usage]. input is what is recorded as its input, or nil.
func ModelCall[T any](ctx context.Context, run *Run, model string, input any, fn func(context.Context) (T, error)) (T, error) {
	return guard(ctx, run, map[string]any{"type": "MODEL_CALL", "model": model}, input, fn, usageOf)
}

// ToolCall asks whether a tool may be called, calls fn, and reports that it was.
func ToolCall[T any](ctx context.Context, run *Run, tool string, input any, fn func(context.Context) (T, error)) (T, error) {
	return guard(ctx, run, map[string]any{"type": "TOOL_CALL", "tool_name": tool}, input, fn, func(any) map[string]any { return nil })
}

func guard[T any](
	ctx context.Context, run *Run, what map[string]any, input any,
	fn func(context.Context) (T, error), used func(any) map[string]any,
) (result T, err error) {
	s, err := run.ask(ctx, what, input)
	if err != nil {
		return result, err
	}
	started := time.Now()
	run.calls.Add(1)
	report := map[string]any{"status": "FAILED", "error": "panic"}
	defer func() { // also of a panic
		run.calls.Add(-1)
		report["duration_ms"] = time.Since(started).Milliseconds()
		run.settle(ctx, s, report)
	}()
	result, err = fn(ctx)
	switch {
	case err == nil:
		report = map[string]any{"status": "COMPLETED"}
		for name, value := range used(result) {
			report[name] = value
		}
	case ctx.Err() != nil:
		report["error"] = "cancelled"
	default:
		report["error"] = fmt.Sprintf("%.10000s", err.Error())
	}
	return result, err
}

// step is one that was asked for, or would have been.
type step struct {
	id   string // "": the server could not be asked, and the call goes on
	body json.RawMessage
	key  string
}

func (r *Run) ask(ctx context.Context, what map[string]any, input any) (step, error) {
	what["sequence"] = r.sequence.Add(1)
	if input != nil {
		what["input_data"] = payload(input)
	}
	s := step{body: encode(what), key: newKey()}
	if r.id == "" {
		r.unguarded.Store(true)
		return s, nil
	}
	var answer decided
	err := r.client.do(ctx, call{method: "POST", path: "/v1/runs/" + r.id + "/steps", body: s.body, key: s.key}, &answer)
	review := ""
	if err == nil {
		review, err = answer.allow(r.id)
	}
	switch {
	case err != nil && ctx.Err() != nil: // the server may have allowed it, and would take it for running
		r.giveUpStep(ctx, s)
		return s, err
	case errors.Is(err, ErrUnavailable) && r.client.goesOn(err):
		r.unguarded.Store(true)
		return s, nil
	case err != nil:
		return s, err
	}
	s.id = answer.ID
	if review != "" {
		return s, r.wait(ctx, answer, review)
	}
	return s, nil
}

// wait waits until a person has approved.
func (r *Run) wait(ctx context.Context, d decided, review string) error {
	blocked := &BlockedError{PolicyName: d.Decision.PolicyName, RunID: r.id, StepID: d.ID, ReviewID: review}
	if !r.client.onReview(review) {
		blocked.Reason, blocked.kind = "REVIEW_PENDING", ErrReviewPending
		return blocked
	}
	until := time.Now().Add(r.client.reviewTimeout)
	for time.Now().Before(until) {
		asked := time.Now()
		hold := max(time.Second, min(25*time.Second, time.Until(until)))
		var answer struct{ Status, Resolution, Note string }
		path := fmt.Sprintf("/v1/reviews/%s?wait=%d", review, int(hold.Seconds()))
		if err := r.client.do(ctx, call{method: "GET", path: path, extra: hold}, &answer); err != nil {
			return err
		}
		switch {
		case answer.Status == "approved":
			return nil
		case answer.Status == "denied" && (answer.Resolution == "" || answer.Resolution == "denied"):
			blocked.Reason, blocked.kind, blocked.Message = "REVIEW_DENIED", ErrReviewDenied, answer.Note
			return blocked
		case answer.Status == "denied":
			blocked.Reason, blocked.kind = "REVIEW_TIMEOUT", ErrReviewExpired
			return blocked
		}
		if time.Since(asked) < time.Second { // a server that does not hold its answer back
			if err := pause(ctx, 2*time.Second); err != nil {
				return err
			}
		}
	}
	blocked.Reason, blocked.kind = "REVIEW_TIMEOUT", ErrReviewExpired
	return blocked
}

func (r *Run) settle(ctx context.Context, s step, report map[string]any) {
	if s.id != "" {
		r.send(ctx, "PATCH", "/v1/runs/"+r.id+"/steps/"+s.id, report)
		return
	}
	e := r.named("step")
	e.Step, e.StepKey, e.Report = s.body, s.key, report
	r.client.journal.append(e)
}

func (r *Run) end(ctx context.Context, status string) {
	c := r.client
	if r.unguarded.Load() { // told before the end, after which the server takes no step
		c.deliver(ctx)
	}
	if r.id == "" || r.unguarded.Load() && c.journal.mayHold() {
		e := r.named("end")
		e.Status = status
		c.journal.append(e)
		return
	}
	r.send(ctx, "POST", "/v1/runs/"+r.id+"/end", map[string]any{"status": status})
}

// named begins a report: it names the run by its id, or by the request that starts it, which is sent again.
func (r *Run) named(kind string) entry {
	e := entry{Kind: kind, RunID: r.id, At: time.Now()}
	if r.id == "" {
		e.Start, e.Key = r.start, r.key
	}
	return e
}

// send sends a report, also for a call that was cancelled, and keeps what cannot be delivered.
func (r *Run) send(ctx context.Context, method, path string, body map[string]any) {
	c := r.client
	err := ctx.Err()
	if err == nil {
		err = c.do(ctx, call{method: method, path: path, body: body}, nil)
	}
	if err != nil && ctx.Err() != nil { // cancelled before it, or in the middle of it
		ctx, cancel := c.within(ctx)
		defer cancel()
		err = c.do(ctx, call{method: method, path: path, body: body}, nil)
	}
	switch {
	case err == nil:
	case waits(err):
		c.journal.append(entry{Kind: "request", Method: method, Path: path, Body: encode(body), At: time.Now()})
	default:
		slog.Error("pikarc: the server does not take a report", "err", err)
	}
}

// waits reports whether a report is worth another try later.
func waits(err error) bool {
	var api *APIError
	return !errors.As(err, &api) || api.Is(ErrUnavailable) || api.Is(ErrRateLimited) || api.Is(ErrAuthentication)
}

func (c *Client) goesOn(err error) bool {
	if !c.onUnavailable(err) {
		return false
	}
	slog.Warn("pikarc: the server cannot be asked; the call goes on unguarded", "err", err)
	return true
}

// keepAlive gives signs of life while a guarded call is under way.
func (r *Run) keepAlive(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(ctx, r.client.heartbeat) == nil {
			if r.id != "" && r.calls.Load() > 0 {
				// What it answers counts at the next step.
				_ = r.client.do(ctx, call{method: "POST", path: "/v1/runs/" + r.id + "/heartbeat"}, nil)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// deliver delivers kept reports, and returns how many. One that fails stays for the next time.
func (c *Client) deliver(ctx context.Context) (count int) {
	if !c.journal.mayHold() {
		return 0
	}
	c.journal.drain(func(entries []entry) []entry {
		for i, e := range entries {
			err := c.deliverOne(ctx, e)
			switch {
			case err == nil:
				count++
			case waits(err):
				return entries[i:]
			default:
				slog.Error("pikarc: the server does not take a kept report, which is dropped", "err", err)
			}
		}
		return nil
	})
	return count
}

// deliverOne delivers one report. Requests are repeated with their first keys: what has reached the server is no double.
func (c *Client) deliverOne(ctx context.Context, e entry) error {
	if e.Kind == "request" {
		return c.do(ctx, call{method: e.Method, path: e.Path, body: e.Body}, nil)
	}
	if e.RunID == "" {
		var answer decided
		if err := c.do(ctx, call{method: "POST", path: "/v1/runs/", body: e.Start, key: e.Key}, &answer); err != nil {
			return err
		}
		e.RunID = answer.ID
	}
	if e.Kind == "end" {
		return c.do(ctx, call{method: "POST", path: "/v1/runs/" + e.RunID + "/end", body: map[string]any{"status": e.Status}}, nil)
	}
	var answer decided
	err := c.do(ctx, call{method: "POST", path: "/v1/runs/" + e.RunID + "/steps", body: e.Step, key: e.StepKey}, &answer)
	if err != nil {
		return err
	}
	e.Report["output_data"] = map[string]any{"unguarded": true} // where the run's page shows it
	err = c.do(ctx, call{method: "PATCH", path: "/v1/runs/" + e.RunID + "/steps/" + answer.ID, body: e.Report}, nil)
	if errors.Is(err, ErrBadRequest) { // denied afterwards: the server books nothing on what it denied
		slog.Error("pikarc: a call was made while the server could not be asked, and would have been denied", "err", err)
		return nil
	}
	return err
}
