package server

import (
	"context"
	"io"
	"net/http"
)

const ignoredBody = 64 << 10 // bytes

// eventStream is the content type of server-sent events, as a header value that every stream
// shares.
var eventStream = []string{"text/event-stream"}

// watchEvents answers with Server-Sent Events until the reader goes, is too
// slow, its credential ends, or the server shuts down.
func (s *Server) watchEvents(c *call) error {
	// A body says nothing here, but while one is unread, net/http does not notice that
	// the reader has gone.
	_, _ = io.CopyN(io.Discard, c.r.Body, ignoredBody)
	header := c.r.Header.Get("Authorization")
	authorize := func(ctx context.Context) error {
		_, err := s.identify(ctx, c.route.needs, header)
		return err
	}
	if c.r.Method == http.MethodHead {
		c.body(http.StatusOK, eventStream, nil)
		return nil
	}
	conn := http.NewResponseController(c.w)
	st, err := s.hub.Join(c.ctx(), c.who.workspace, authorize, conn)
	if err != nil {
		return err
	}
	defer s.hub.Leave(c.who.workspace, st)
	at := s.Now()
	// Between here and authentication the credential may have ended, and nobody was
	// watching for it.
	if err := authorize(c.ctx()); err != nil {
		return err
	}
	// What is committed from here on is published. Without an answer, nobody knows what was
	// before.
	quiet, err := s.store.Quiet(c.ctx())
	if err != nil {
		quiet = 0
	}
	h := c.w.Header()
	h["Content-Type"] = eventStream
	if c.r.ProtoMajor == 1 {
		// So that nothing else is ever sent on a connection that may be cut
		h.Set("Connection", "close")
	}
	h.Set("X-Accel-Buffering", "no")
	c.status = http.StatusOK
	c.w.WriteHeader(c.status)
	c.written = st.Serve(c.ctx(), c.w, at, quiet)
	return nil
}
