package pikarc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Run is a run, within [Client.Run]. It is safe for concurrent use.
type Run struct {
	client *Client
	id     string // "": the server could not be asked, and the run goes on without it
	// The body and key of the start: if the server was away, it is told of the run later.
	start     json.RawMessage
	key       string
	parent    *Run // the run around it, of whichever client
	sequence  atomic.Int64
	unguarded atomic.Bool // whether a call was made without asking
	ended     atomic.Bool

	mu   sync.Mutex
	open map[*OpenStep]struct{} // guarded calls under way
}

// ID is the run's id; "" for one that the server could not be asked about.
func (r *Run) ID() string { return r.id }

// allow returns the id of the review to wait for, or "" for ALLOW. Anything else is
// not allowed. id is that of the run or step that was decided about, review its review's.
func (r *Run) allow(id string, d decision, review string) (string, error) {
	if id == "" {
		return "", unavailable("the server's answer holds no id")
	}
	blocked := &BlockedError{RunID: r.id, StepID: id, PolicyName: d.PolicyName}
	if r.id == "" {
		blocked.RunID, blocked.StepID = id, ""
	}
	switch d.Outcome {
	case "ALLOW":
		return "", nil
	case "REVIEW":
		if review == "" {
			review = d.ReviewID
		}
		if review == "" {
			blocked.Reason = "REVIEW_ERROR"
			return "", blocked
		}
		return review, nil
	case "DENY":
		blocked.Reason, blocked.Message = d.Reason, d.Message
		blocked.Limit, blocked.Used, blocked.ResetsAt = d.Limit, d.Used, d.ResetsAt
		return "", blocked
	}
	return "", unavailable("the server's answer holds no decision")
}

// Run starts a run, calls body with it, and ends it: COMPLETED, FAILED where body
// returns an error or panics, BLOCKED where the error is a denial. It returns
// body's error, or a *[BlockedError] or an *[APIError] where it could not start.
// One within another, by its context, carries the other's id in its metadata, as
// parent_run_id.
func (c *Client) Run(ctx context.Context, userID string, metadata map[string]any, body func(context.Context, *Run) error) (err error) {
	if outer := c.enclosing(ctx); outer != nil && outer.id != "" {
		metadata = withParent(metadata, outer.id)
	}
	start := startRunRequest{UserID: userID}
	if metadata != nil {
		start.Metadata = payload(metadata)
	}
	run := &Run{client: c, start: encode(start), key: newKey(), open: make(map[*OpenStep]struct{})}
	// A run inside another one is a run of its own that names it.
	run.parent, _ = ctx.Value(runKey{}).(*Run)
	var answer startedRun
	err = c.do(ctx, call{method: "POST", path: "/v1/runs/", body: run.start, key: run.key}, &answer)
	if err == nil {
		var review string
		if review, err = run.allow(answer.ID, answer.Decision, ""); review != "" {
			err = &BlockedError{Reason: "REVIEW_ERROR", RunID: answer.ID}
		}
	}
	switch {
	case err == nil:
		run.id = answer.ID
		c.deliver(ctx, false)
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
	err = body(context.WithValue(ctx, runKey{}, run), run)
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
	var answer startedRun
	err := r.client.do(ctx, call{method: "POST", path: "/v1/runs/", body: r.start, key: r.key}, &answer)
	switch {
	case err == nil && answer.Decision.Outcome == "ALLOW":
		r.id = answer.ID
		r.send(ctx, "POST", "/v1/runs/"+r.id+"/end", endRunRequest{Status: "FAILED"})
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
	var answer createdStep
	err := r.client.do(ctx, call{method: "POST", path: "/v1/runs/" + r.id + "/steps", body: s.body, key: s.key}, &answer)
	if err == nil && answer.Decision.Outcome == "ALLOW" {
		s.id = answer.ID
		r.settle(ctx, s, updateStepRequest{Status: "FAILED", Error: "cancelled"})
	}
}

// within returns the context of what is left to tell the server once a call is cancelled.
func (c *Client) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), c.grace)
}

// step is one that was asked for, or would have been.
type step struct {
	id   string // "": the server could not be asked, and the call goes on
	body json.RawMessage
	key  string
}

// ask asks for a step. If the server cannot be asked and calls may go on unguarded, the step has no
// id, and is told to the server later.
func (r *Run) ask(ctx context.Context, what createStepRequest, input any) (step, error) {
	what.Sequence, what.InputData = r.sequence.Add(1), payload(input)
	s := step{body: encode(what), key: newKey()}
	if r.id == "" {
		r.unguarded.Store(true)
		return s, nil
	}
	var answer createdStep
	err := r.client.do(ctx, call{method: "POST", path: "/v1/runs/" + r.id + "/steps", body: s.body, key: s.key}, &answer)
	review := ""
	if err == nil {
		review, err = r.allow(answer.ID, answer.Decision, answer.ReviewID)
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
	if review == "" {
		return s, nil
	}
	err = r.wait(ctx, answer, review)
	if err != nil && ctx.Err() != nil {
		r.settle(ctx, s, updateStepRequest{Status: "FAILED", Error: "cancelled"})
	}
	return s, err
}

// wait waits until a person has approved.
func (r *Run) wait(ctx context.Context, d createdStep, review string) error {
	blocked := &BlockedError{PolicyName: d.Decision.PolicyName, RunID: r.id, StepID: d.ID, ReviewID: review}
	if !r.client.onReview(review) {
		blocked.Reason, blocked.kind = "REVIEW_PENDING", ErrReviewPending
		return blocked
	}
	until := time.Now().Add(r.client.reviewTimeout)
	for time.Now().Before(until) {
		asked := time.Now()
		// The server holds its answer until somebody decides; proxies cut longer waits off.
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

// settle reports how a step ended, at once or by the journal.
func (r *Run) settle(ctx context.Context, s step, report updateStepRequest) {
	if s.id != "" {
		r.send(ctx, "PATCH", "/v1/runs/"+r.id+"/steps/"+s.id, report)
		return
	}
	e := r.named("step")
	e.Step, e.StepKey, e.Report = s.body, s.key, &report
	r.client.journal.append(e)
}

// end ends the run and all steps that are under way. Reports in the journal must arrive before the
// end, so the end waits behind them there.
func (r *Run) end(ctx context.Context, status string) {
	for _, step := range r.underWay() {
		step.leftOpen(ctx)
	}
	r.ended.Store(true)
	c := r.client
	if r.unguarded.Load() { // told before the end, after which the server takes no step
		c.deliver(ctx, false)
	}
	if r.id == "" || r.unguarded.Load() && c.journal.maybePending() {
		e := r.named("end")
		e.Status = status
		c.journal.append(e)
		return
	}
	r.send(ctx, "POST", "/v1/runs/"+r.id+"/end", endRunRequest{Status: status})
}

// named begins a report: it names the run by its id, or by the request that starts it, which is
// sent again.
func (r *Run) named(kind string) entry {
	e := entry{Kind: kind, RunID: r.id, At: time.Now()}
	if r.id == "" {
		e.Start, e.Key = r.start, r.key
	}
	return e
}

// send sends a report, also for a call that was cancelled, and keeps what cannot be delivered.
func (r *Run) send(ctx context.Context, method, path string, body any) {
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

// goesOn reports whether a call may go on although the server cannot be asked, as the client's
// settings say.
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
			if r.id != "" && len(r.underWay()) > 0 {
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
