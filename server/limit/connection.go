package limit

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Connection is an open connection, with what closing the idle ones and making room must know.
type Connection struct {
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
func (p *Connection) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	p.names.count(b[:n])
	return n, err
}

// Write counts, so that a client who does not read can be told from one who does.
func (p *Connection) Write(b []byte) (int, error) {
	p.writes.Add(1)
	n, err := p.Conn.Write(b)
	p.writes.Add(1)
	return n, err
}

// CloseWrite is asked for by net/http, so that an early answer reaches a client who still sends.
func (p *Connection) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// accepted finds the connection below TLS; nil when it was never admitted.
func accepted(conn net.Conn) *Connection {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	p, _ := conn.(*Connection)
	return p
}

// connectionKey finds a request's connection in its context.
type connectionKey struct{}

// WithConnection is for http.Server.ConnContext.
func WithConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, accepted(conn))
}

// ConnectionOf finds what WithConnection has put into a context; nil for nothing.
func ConnectionOf(ctx context.Context) *Connection {
	p, _ := ctx.Value(connectionKey{}).(*Connection)
	return p
}

// SetKnown marks the request under way as that of a known caller.
func (p *Connection) SetKnown() { p.known.Store(true) }

// SetReading marks whether a body is being read whose sender nobody knows.
func (p *Connection) SetReading(reading bool) { p.reading.Store(reading) }

// CountLength counts a request that had a Content-Length. Only the request's
// handler may call it, and HidesLength.
func (p *Connection) CountLength() { p.lengths++ }

// HidesLength reports whether more such headers came in than requests showed.
func (p *Connection) HidesLength() bool { return p.names.n.Load() > p.lengths }

// stallTimeout is how long a client who keeps a stop waiting may make no progress.
const stallTimeout = 250 * time.Millisecond

// CloseIdle closes, until the context ends, connections that keep a server from
// stopping and do nothing: those that have sent no request, those whose body does not
// come and whose caller nobody knows, and those that do not read their answer.
func (c *Connections) CloseIdle(ctx context.Context) {
	look := time.NewTicker(stallTimeout)
	defer look.Stop()
	written := make(map[*Connection]uint64)
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
func (c *Connections) idlers(written map[*Connection]uint64) (all []*Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := c.all.waiting.Next(); at != c.all.waiting; at = at.Next() {
		all = append(all, at.Value.(*Connection))
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
