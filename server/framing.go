package server

import (
	"net/http"
	"net/netip"

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
