package server

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// connection is an open one, and what stopping and making room must know of it.
type connection struct {
	net.Conn
	network netip.Prefix // not valid when it counts for none
	places  []place

	known   atomic.Bool   // the request under way has a known caller
	reading atomic.Bool   // a body whose sender nobody knows
	writes  atomic.Uint64 // odd while something is being written

	names   nameCounter // of what comes in
	lengths int64       // requests that had a Content-Length; for the handler alone
}

// Read counts the names of headers that net/http keeps from its handlers.
func (p *connection) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	p.names.count(b[:n])
	return n, err
}

// Write counts, so that a client who does not read can be told from one who does.
func (p *connection) Write(b []byte) (int, error) {
	p.writes.Add(1)
	n, err := p.Conn.Write(b)
	p.writes.Add(1)
	return n, err
}

// CloseWrite is asked for by net/http, so that an early answer reaches a client who still sends.
func (p *connection) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// accepted finds the connection below TLS; nil when it was never admitted.
func accepted(conn net.Conn) *connection {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	p, _ := conn.(*connection)
	return p
}

// connectionKey finds a request's connection in its context.
type connectionKey struct{}

// withConnection is for http.Server.ConnContext.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, accepted(conn))
}

// connection is that of the call; one of its own where nobody has admitted any.
func (c *call) connection() *connection {
	if p, _ := c.ctx().Value(connectionKey{}).(*connection); p != nil {
		return p
	}
	return new(connection)
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
	p.reading.Store(true)
	c.r.Body = &hurriedBody{ReadCloser: c.r.Body, done: func() {
		p.reading.Store(false)
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

// cutPatience is how long a client who keeps a stop waiting may make no progress.
const cutPatience = 250 * time.Millisecond

// cutIdlers closes, until the context ends, connections that keep a server from
// stopping and do nothing: those that have sent no request, those whose body does not
// come and whose caller nobody knows, and those that do not read their answer.
func (c *connections) cutIdlers(ctx context.Context) {
	look := time.NewTicker(cutPatience)
	defer look.Stop()
	written := make(map[*connection]uint64)
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			for _, p := range c.idlers(written) {
				_ = p.Close() // it may have gone by itself
			}
		}
	}
}

// idlers lists them; written holds what each had written at the last look.
func (c *connections) idlers(written map[*connection]uint64) (all []*connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := c.all.waiting.Next(); at != c.all.waiting; at = at.Next() {
		all = append(all, at.Value.(*connection))
	}
	for p := range c.open {
		writes := p.writes.Load()
		before, seen := written[p]
		stuck := seen && before == writes && writes%2 == 1
		written[p] = writes
		if stuck || p.reading.Load() && !p.known.Load() {
			all = append(all, p)
		}
	}
	return all
}
