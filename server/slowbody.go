package server

import (
	"io"
	"net/http"
	"time"

	"github.com/pikarc/server/server/limit"
)

// connection is that of the call; one of its own where nobody has admitted any.
func (c *call) connection() *limit.Connection {
	if p := limit.ConnectionOf(c.ctx()); p != nil {
		return p
	}
	return new(limit.Connection)
}

// hurry gives a caller whom nobody knows little time for the body, and has the
// connection show that it is waited for.
func (s *Server) hurry(c *call) {
	if c.r.Body == nil || c.r.Body == http.NoBody {
		return
	}
	conn := http.NewResponseController(c.w)
	if conn.SetReadDeadline(time.Now().Add(s.Timeouts.PublicBody)) != nil {
		return // there is no connection that could be slow
	}
	p := c.connection()
	p.SetReading(true)
	c.r.Body = &hurriedBody{ReadCloser: c.r.Body, done: func() {
		p.SetReading(false)
		// net/http takes a deadline that passes while it watches for the end of
		// the connection as that end, so it must not pass during the answer.
		_ = conn.SetReadDeadline(c.started.Add(s.Timeouts.Read))
	}}
}

// hurriedBody calls done once, when it has been read to its end.
type hurriedBody struct {
	io.ReadCloser
	done func()
}

func (b *hurriedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if err == io.EOF && b.done != nil {
		b.done()
		b.done = nil
	}
	return n, err
}
