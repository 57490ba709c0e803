// Package mcp is a gateway before an MCP server: it asks a Pikarc server before each tool call,
// each resource that is read and each prompt that is fetched, and passes everything else on as it
// is, byte for byte. It fails closed: what cannot be asked for, or understood, does not reach the
// server.
//
//   - guard.go: sessions, and asking about a call
//   - message.go: what must be read of JSON-RPC
//   - stdio.go: between a client's standard input and a server's process
//   - http.go: between a client and a server by streamable HTTP
package mcp

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pikarc/server/ask"
)

// Options say for whom a gateway asks.
type Options struct {
	Client  *ask.Client
	User    string        // on whose behalf calls are made
	Server  string        // what is guarded, for the runs' metadata
	Timeout time.Duration // of a question
	Log     *slog.Logger
	Now     func() time.Time
}

// grace is how long the last reports may take once a session is over.
const grace = 2 * time.Second

// session is a client's session with a server, which is one run. What has not
// been answered yet is in calls, by the request's id.
type session struct {
	Options
	ctx      context.Context // of reports, which outlive what they are about; never cancelled
	starting sync.Mutex      // held while a run is started, so that there is one
	run      string
	startKey string // of a start whose answer never came: the next one repeats it
	sequence int64

	mu      sync.Mutex
	closed  bool
	calls   map[string]*call
	asking  sync.WaitGroup // grows under mu, until closed
	reports sync.WaitGroup // the same
}

// call is a guarded request.
type call struct {
	cancel    context.CancelFunc // of the question; nil once it has been answered
	cancelled bool
	run, step string // "": it was not allowed
	at        time.Time
}

// newSession returns a session whose reports outlive the request that began it.
func newSession(ctx context.Context, o Options) *session {
	return &session{Options: o, ctx: context.WithoutCancel(ctx), calls: make(map[string]*call)}
}

// begin remembers a request, of which done must be called once it has been decided.
// It is false when one with its id is under way, or the session is over.
func (s *session) begin(id string, cancel context.CancelFunc) (c *call, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Answers are told apart by the id alone, so two at once could not be.
	if _, twice := s.calls[id]; twice || s.closed {
		return nil, false
	}
	c = &call{cancel: cancel}
	s.calls[id] = c
	s.asking.Add(1)
	return c, true
}

// done ends what asking began.
func (s *session) done() { s.asking.Done() }

// forget takes out a request that is not the server's.
func (s *session) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, id)
}

// ask asks for a call. With an error or a denial it was not allowed.
func (s *session) ask(
	ctx context.Context,
	c *call,
	tool string,
	input []byte,
) (d ask.Decision, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	for range 2 { // the run that is known may have ended
		var run string
		var sequence int64
		if run, sequence, d, err = s.running(ctx); err != nil || !d.Allowed() {
			return d, err
		}
		// Cancelled meanwhile: a step of which the server has never heard needs no settling.
		if err = ctx.Err(); err != nil {
			return d, err
		}
		c.at = s.Now()
		asked := ask.Step{Tool: tool, Input: input, Sequence: sequence, Key: rand.Text()}
		var step string
		step, d, err = s.Client.Step(ctx, run, asked)
		if err == nil && d.Allowed() {
			c.run, c.step = run, step
		}
		if err != nil {
			s.giveUp(run, asked, err)
			return d, err
		}
		if d.Reason != ask.RunEnded {
			return d, nil
		}
		s.ended(run)
	}
	return d, err
}

// running returns the session's run, which it starts at first use.
func (s *session) running(
	ctx context.Context,
) (run string, sequence int64, d ask.Decision, err error) {
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.run == "" {
		if d, err = s.start(ctx); err != nil || !d.Allowed() {
			return "", 0, d, err
		}
	}
	// Steps are numbered as they are asked for. Another run of the session goes on counting.
	s.sequence++
	return s.run, s.sequence, ask.Allowed(), nil
}

// start starts the run. Where its answer never comes the server may have started it
// all the same, and says so to the next one. starting is held.
func (s *session) start(ctx context.Context) (ask.Decision, error) {
	// Kept until there is an answer: asked again with it, the server says which run it has
	// started.
	if s.startKey == "" {
		s.startKey = rand.Text()
	}
	metadata := map[string]string{"agent": "mcp", "mcp_server": s.Server}
	run, d, err := s.Client.Start(ctx, s.User, metadata, s.startKey)
	if err == nil || errors.Is(err, ask.ErrRefused) {
		s.startKey = ""
	}
	if err == nil && d.Allowed() {
		s.run = run
	}
	return d, err
}

// giveUp settles a step whose answer never came, because it was cancelled or the
// server too slow: asked again with its key, the server says whether there is one.
// Like settle it brings its own context.
//
//nolint:contextcheck
func (s *session) giveUp(run string, asked ask.Step, why error) {
	if errors.Is(why, ask.ErrRefused) {
		return
	}
	report := ask.Report{Failed: true, Error: "there was no decision in time"}
	if errors.Is(why, context.Canceled) {
		report.Error = "cancelled"
	}
	s.reports.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.Timeout)
		defer cancel()
		step, d, err := s.Client.Step(ctx, run, asked)
		if err == nil && d.Allowed() {
			err = s.Client.Report(ctx, run, step, report)
		}
		if err != nil {
			s.Log.Warn("a call that was given up could not be settled", "error", err.Error())
		}
	})
}

// ended forgets a run that has ended, so that the next call starts another.
func (s *session) ended(run string) {
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.run == run {
		s.run = ""
	}
}

// settle reports how a call ended, beside what goes on, and also after the
// request that ended it is gone: it brings its own context. mu is held.
//
//nolint:contextcheck
func (s *session) settle(c *call, failed bool, why string) {
	if c.step == "" {
		return
	}
	took := s.Now().Sub(c.at)
	s.reports.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.Timeout)
		defer cancel()
		if err := s.Client.Report(
			ctx,
			c.run,
			c.step,
			ask.Report{Failed: failed, Error: why, Took: took},
		); err != nil {
			s.Log.Warn("a call's end could not be reported", "error", err.Error())
		}
	})
}

// answered settles the call that a message answers, if it does.
func (s *session) answered(m message) {
	for _, one := range m.batch {
		s.answered(one)
	}
	if !m.isResponse() {
		return
	}
	failed, why := m.outcome()
	s.close(m.id, failed, why)
}

// close settles the server's call of this id, if there is one.
func (s *session) close(id string, failed bool, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// While a call is being asked for it is not the server's, and passes settles it.
	if c := s.calls[id]; c != nil && c.cancel == nil {
		delete(s.calls, id)
		s.settle(c, failed, why)
	}
}

// cancelled gives up a request: one that is asked for does not reach the server.
func (s *session) cancelled(id string) {
	s.mu.Lock()
	c := s.calls[id]
	if c != nil && c.cancel != nil {
		c.cancelled = true
		c.cancel()
	}
	s.mu.Unlock()
	s.close(id, true, "cancelled")
}

// passes reports whether a request that was decided is still wanted. From now on it
// is the server's.
func (s *session) passes(id string, c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.cancel = nil
	if c.cancelled {
		delete(s.calls, id)
		s.settle(c, true, "cancelled")
	}
	return !c.cancelled
}

// observed reports whether any call waits for its answer.
func (s *session) observed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls) > 0
}

// end settles what was never answered, and ends the run. Like settle it brings its own context.
//
//nolint:contextcheck
func (s *session) end(status, why string) {
	s.mu.Lock()
	s.closed = true
	for _, c := range s.calls {
		if c.cancel != nil {
			c.cancelled = true
			c.cancel()
		}
	}
	s.mu.Unlock()
	// Whoever asks right now still settles its call; from then on nobody adds one.
	s.asking.Wait()
	s.mu.Lock()
	for _, c := range s.calls {
		s.settle(c, true, why)
	}
	clear(s.calls)
	s.mu.Unlock()
	// Reports that are under way should arrive before the run's end, but a server that is away must
	// not keep the gateway from ending.
	done := make(chan struct{})
	go func() {
		s.reports.Wait()
		close(done)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	ctx, cancel := context.WithTimeout(s.ctx, grace)
	defer cancel()
	s.starting.Lock()
	// A start without an answer may have been recorded. Asked again under the same key, it answers
	// with the run, which can then be ended.
	if s.startKey != "" {
		_, _ = s.start(ctx) // what cannot be asked now cannot be ended either
	}
	run := s.run
	s.run = ""
	s.starting.Unlock()
	if run == "" {
		return
	}
	if err := s.Client.End(ctx, run, status); err != nil {
		s.Log.Warn(
			"the run could not be ended; the server ends it once it is idle",
			"error",
			err.Error(),
		)
	}
}

// guard decides about a request, and returns what to answer in the place of the
// server, or nil when the request may go on to it.
func (s *session) guard(ctx context.Context, m message, c *call) (refusal []byte) {
	tool, input, err := m.asked()
	if err != nil {
		return errorAnswer(
			m.rawID,
			codeInvalid,
			"This was not executed: its guard cannot read it: "+err.Error(),
			"",
		)
	}
	d, err := s.ask(ctx, c, tool, input)
	switch {
	case err != nil:
		s.Log.Warn("a call is stopped, because nobody could be asked", "error", err.Error())
		return m.refusal(ask.TroubleForModel(err), "UNAVAILABLE")
	case !d.Allowed():
		return m.refusal(d.ForModel(), d.Reason)
	}
	return nil
}
