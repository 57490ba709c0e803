package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/telemetry"
	"github.com/pikarc/server/storage"
)

// call is one request on its way through the server.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	params  httprouter.Params
	route   route
	id      string // X-Request-Id
	started time.Time
	status  int
	written int
	from    netip.Addr // the caller's; zero when there is none
	who     principal
	metrics *telemetry.RouteMetrics

	cutOff     bool   // the answer cannot be finished: its connection is to end
	release    func() // the memory of a large body, when the call is over; nil for others
	isDecision bool
	decision   guard.Decision
}

// ctx ends when the caller goes away or the request times out.
func (c *call) ctx() context.Context { return c.r.Context() }

// answer returns the handler of a route: it gives the request an id, authenticates,
// calls, answers an error, and logs.
func (s *Server) answer(rt route) httprouter.Handle {
	metrics := s.metrics.Route(rt.method, rt.path)
	return func(w http.ResponseWriter, r *http.Request, params httprouter.Params) {
		c := &call{
			w: w, r: r, params: params, route: rt, id: requestID(r), started: time.Now(),
			from: clientAddress(r, s.TrustedProxies), metrics: metrics,
		}
		// Set first, so that every answer has it, errors and panics included.
		w.Header()["X-Request-Id"] = []string{c.id}
		var span *telemetry.Span
		if s.Tracing != nil {
			c.r, span = s.Tracing.Begin(c.r, rt.path, c.id)
		}
		if err := s.handle(c); err != nil {
			s.fail(c, err)
		}
		took := time.Since(c.started)
		metrics.Answered(c.status, took)
		if span != nil {
			var decision *guard.Decision
			if c.isDecision {
				decision = &c.decision
			}
			span.End(c.status, decision)
		}
		// Who called need not wait for the log; who is gone does not matter
		_ = http.NewResponseController(w).Flush()
		s.logAccess(c, took)
		// net/http then closes the connection, which is how a client learns that a body is not
		// whole.
		if c.cutOff {
			panic(http.ErrAbortHandler)
		}
	}
}

// counted keeps the call's decision, and counts it.
func (c *call) counted(d guard.Decision) {
	c.isDecision, c.decision = true, d
	c.metrics.Decided(d)
}

// handle turns a panic into an error, as any other bug.
func (s *Server) handle(c *call) (err error) {
	defer func() {
		// Also after a panic: the memory of a large body is shared by all calls.
		if c.release != nil {
			c.release()
		}
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	if c.r.ProtoMajor == 1 && s.isAmbiguous(c) {
		c.w.Header()["Connection"] = closing
	}
	s.secureHeaders(c)
	s.corsHeaders(c)
	if err := s.meet(c); err != nil {
		return err
	}
	if err := s.limitKey(c); err != nil {
		return err
	}
	// Only changes of the configuration are recorded with who made them. Agents' calls save
	// the context.
	if c.route.configures() {
		c.r = c.r.WithContext(storage.WithActor(c.ctx(), c.actor()))
	}
	err = c.route.handle(c)
	if v := (*request.ValidationError)(nil); c.who.ended != nil && errors.As(err, &v) {
		err = c.who.ended // a bad credential is reported before a bad body
	}
	// Recorded only now: the writer may have found that the key has ended.
	if c.who.cached && !keyEnded(err) {
		s.store.KeyUsed(c.who.key)
	}
	return err
}

// meet authenticates the caller. One who cannot has little time to send a body.
func (s *Server) meet(c *call) error {
	if c.route.needs == public {
		s.hurry(c)
		return s.limitAddress(c)
	}
	err := s.limitAddress(c)
	if err == nil {
		err = s.authenticate(c)
	}
	if err != nil {
		s.hurry(c) // net/http reads what is left of the body
		return err
	}
	c.connection().SetKnown()
	return nil
}

// requestID takes the caller's id if it is a plain token, else makes one. It is
// no secret, so math/rand will do.
func requestID(r *http.Request) string {
	const maxLength = 128
	id := r.Header.Get("X-Request-Id")
	sane := id != "" && len(id) <= maxLength
	for i := 0; sane && i < len(id); i++ {
		c := id[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		sane = letter || c == '-' || c == '_' || c == '.'
	}
	if sane {
		return id
	}
	var random uuid.UUID
	binary.LittleEndian.PutUint64(random[:], rand.Uint64())
	binary.LittleEndian.PutUint64(random[8:], rand.Uint64())
	random[6], random[8] = random[6]&0x0f|0x40, random[8]&0x3f|0x80 // version 4, variant 10
	return random.String()
}

// logAccess writes one line a request. It names the route, not the path:
// paths carry user ids.
func (s *Server) logAccess(c *call, took time.Duration) {
	level := slog.LevelInfo
	// That has its own line, once a minute
	if c.status >= http.StatusInternalServerError && c.status != http.StatusServiceUnavailable {
		level = slog.LevelWarn
	}
	if !s.Log.Enabled(c.ctx(), level) {
		return // before the line is put together
	}
	s.Log.LogAttrs(c.ctx(), level, "request",
		slog.String("method", c.r.Method),
		slog.String("route", c.route.path),
		slog.Int("status", c.status),
		slog.Int64("us", took.Microseconds()),
		slog.Int("bytes", c.written),
		slog.String("remote", c.remote()),
		slog.String("request_id", c.id))
}

// pathID reads a path parameter that is a UUID.
func (c *call) pathID(name string) (uuid.UUID, error) {
	return request.PathUUID(c.params.ByName(name), name)
}

// pathRest reads the rest of the path as one text. Its own slashes count, a
// last one that is not escaped does not: it makes no difference on any path.
func (c *call) pathRest(name string) (string, error) {
	const maxLength = 255
	prefix, _, _ := strings.Cut(c.route.path, "*")
	escaped, found := strings.CutPrefix(c.r.URL.EscapedPath(), prefix)
	if !found { // nothing follows the fixed part, or that itself was escaped
		rest := strings.TrimPrefix(c.params.ByName(name), "/")
		return request.PathText(strings.TrimSuffix(rest, "/"), name, maxLength)
	}
	escaped = strings.TrimSuffix(escaped, "/")
	text, err := url.PathUnescape(escaped)
	if err != nil {
		return "", request.Invalid([]any{"path", name}, "must be a well-formed path", escaped)
	}
	return request.PathText(text, name, maxLength)
}

// object reads the body, which must be a JSON object.
func (s *Server) object(c *call) (*request.Object, error) {
	return request.ReadObject(c.w, c.r, s.configLimit(c))
}

// optionalObject reads the body; none is an empty object.
func (s *Server) optionalObject(c *call) (*request.Object, error) {
	return request.ReadOptionalObject(c.w, c.r, s.configLimit(c))
}

// report reads the body of a call that agents make.
func (s *Server) report(c *call) (*request.Object, error) {
	return request.ReadReport(c.w, c.r, s.bodyLimit(c, s.MaxRunBody, "max-run-body"), s.MaxPayload,
		isReportField)
}

// configLimit is the limit of all other bodies.
func (s *Server) configLimit(c *call) request.Limit { return s.bodyLimit(c, s.MaxBody, "max-body") }

// bodyLimit limits a body's length. A large body also needs memory from s.bodies, which the call
// gives back when it ends.
func (s *Server) bodyLimit(c *call, bytes int64, setting string) request.Limit {
	return request.Limit{Bytes: bytes, Setting: setting, Hold: func(n int64) (err error) {
		c.release, err = s.bodies.hold(c.ctx(), c.who.workspace, n)
		return err
	}}
}

// isGone reports whether the caller hung up.
func (c *call) isGone(err error) bool {
	return errors.Is(err, context.Canceled) && c.ctx().Err() != nil
}
