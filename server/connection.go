package server

import (
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/pikarc/server/server/limit"
)

// isAmbiguous reports whether a request may have had a Content-Length beside
// chunks. A proxy may have gone by the length, and then what follows is no
// request of its own, so the connection must end with this one. Net/http goes
// by the chunks and drops the length: hence the count of what came in. More
// names than requests with a length also means the name in some body, or twice
// in a header, or the next request's: then a connection ends needlessly.
//
// Below TLS nothing can be counted. Who speaks TLS to this server is its client,
// unless it is a proxy.
func (s *Server) isAmbiguous(c *call) bool {
	p := c.connection()
	if len(c.r.TransferEncoding) == 0 {
		if len(c.r.Header["Content-Length"]) > 0 {
			p.CountLength()
		}
		return false
	}
	switch {
	case p.Conn == nil:
		return true // nobody has counted
	case c.r.TLS != nil:
		return s.isProxied(c.r)
	default:
		return p.HidesLength()
	}
}

// isProxied reports whether a request comes from a named proxy, or says that
// it comes through one.
func (s *Server) isProxied(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err != nil || forwarded(r) || r.Header.Get("Via") != "" ||
		limit.Contains(s.TrustedProxies, limit.PlainAddr(peer.Addr()))
}

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

// Read calls done with the end of the body, which replaces the short deadline by that of the whole
// request.
func (b *hurriedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if err == io.EOF && b.done != nil {
		b.done()
		b.done = nil
	}
	return n, err
}
