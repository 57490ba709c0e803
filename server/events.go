package server

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pikarc/server/server/wire"
)

const (
	framesAhead    = 16               // that a stream may be behind
	keepAliveEvery = 15 * time.Second // a comment for the proxies, and a look at the credential
	ignoredBody    = 64 << 10         // bytes
	frameTimeout   = 10 * time.Second // for the reader to take a frame
)

var eventStream = []string{"text/event-stream"}

// stream is a reader of events: its handler's end and the hub's.
type stream struct {
	prove  func(context.Context) error // whether its credential still holds
	frames chan []byte
	gone   chan struct{} // closed when it has ended
	once   sync.Once
	slow   atomic.Bool
	abort  func() // unblocks a write that the reader does not take
}

// end asks the handler to close the stream.
func (st *stream) end() { st.once.Do(func() { close(st.gone) }) }

// cut ends the stream of a reader who is too slow, in the middle of what it is being sent.
func (st *stream) cut() {
	st.slow.Store(true)
	st.end()
	st.abort()
}

func (st *stream) ended() bool {
	select {
	case <-st.gone:
		return true
	default:
		return false
	}
}

// watchEvents answers with Server-Sent Events until the reader goes, is too
// slow, its credential ends, or the server shuts down.
func (s *Server) watchEvents(c *call) error {
	// A body says nothing here, but while one is unread, net/http does not notice that the reader has gone.
	_, _ = io.CopyN(io.Discard, c.r.Body, ignoredBody)
	header := c.r.Header.Get("Authorization")
	prove := func(ctx context.Context) error {
		_, err := s.identify(ctx, c.route.needs, header)
		return err
	}
	if c.r.Method == http.MethodHead {
		c.body(http.StatusOK, eventStream, nil)
		return nil
	}
	conn := http.NewResponseController(c.w)
	abort := func() { _ = conn.SetWriteDeadline(time.Now().Add(-time.Second)) } // fails on a connection that is gone
	st, err := s.hub.join(c.ctx(), c.who.workspace, prove, abort)
	if err != nil {
		return err
	}
	defer s.hub.leave(c.who.workspace, st)
	at := s.Now()
	// Between here and authentication the credential may have ended untold.
	if err := prove(c.ctx()); err != nil {
		return err
	}
	h := c.w.Header()
	h["Content-Type"] = eventStream
	if c.r.ProtoMajor == 1 {
		h.Set("Connection", "close") // so that nothing else is ever sent on a connection that may be cut
	}
	h.Set("X-Accel-Buffering", "no")
	c.status = http.StatusOK
	c.w.WriteHeader(c.status)
	_ = conn.SetReadDeadline(time.Time{}) // the server's is for requests; a stream reads nothing
	var hello frames
	hello.add("hello", struct {
		At wire.Time `json:"at"`
	}{wire.Time(at)})
	if c.send(conn, hello) {
		c.pass(conn, st)
	}
	if st.slow.Load() {
		abort() // again: a frame that was taken at last may have lifted the deadline
	} else { // time to say that this is the end
		_ = conn.SetWriteDeadline(time.Now().Add(frameTimeout))
	}
	return nil
}

// pass sends what the hub gives until the stream ends.
func (c *call) pass(conn *http.ResponseController, st *stream) {
	keepAlive := time.NewTicker(keepAliveEvery)
	defer keepAlive.Stop()
	for {
		var frame []byte
		select {
		case <-st.gone:
			return
		case <-c.ctx().Done():
			return
		case frame = <-st.frames:
		case <-keepAlive.C:
			if st.prove(c.ctx()) != nil { // expired, above all: nothing is written when that happens
				return
			}
			frame = []byte(":\n\n")
		}
		if st.ended() || !c.send(conn, frame) {
			return
		}
	}
}

// send writes a frame, and tells whether the reader took it in time. The
// deadline replaces that which the server set for a whole answer. It is lifted
// after: HTTP/2 would end a stream at it in which nothing waits to be written.
func (c *call) send(conn *http.ResponseController, frame []byte) bool {
	if err := conn.SetWriteDeadline(time.Now().Add(frameTimeout)); err != nil {
		return false
	}
	n, err := c.w.Write(frame)
	c.written += n
	if err != nil || conn.Flush() != nil {
		return false
	}
	return conn.SetWriteDeadline(time.Time{}) == nil
}
