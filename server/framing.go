package server

import (
	"bytes"
	"net/http"
	"net/netip"
	"sync/atomic"
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
			p.lengths++
		}
		return false
	}
	switch {
	case p.Conn == nil:
		return true // nobody has counted
	case c.r.TLS != nil:
		return s.isProxied(c.r)
	default:
		return p.names.n.Load() > p.lengths
	}
}

// isProxied reports whether a request comes from a named proxy, or says that
// it comes through one.
func (s *Server) isProxied(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err != nil || forwarded(r) || r.Header.Get("Via") != "" || trusted(s.TrustedProxies, plainAddr(peer.Addr()))
}

// nameCounter counts how often "Content-Length:" occurs in what is read,
// wherever the reads split it. Only n is for more than one goroutine at once.
type nameCounter struct {
	n    atomic.Int64
	last [len(lengthName)]byte // read
}

const lengthName = "content-length"

func (l *nameCounter) count(read []byte) {
	for from := 0; ; {
		colon := bytes.IndexByte(read[from:], ':')
		if colon < 0 {
			break
		}
		if l.endsWithName(read[:from+colon]) {
			l.n.Add(1)
		}
		from += colon + 1
	}
	kept := max(0, len(l.last)-len(read))
	copy(l.last[:], l.last[len(l.last)-kept:])
	copy(l.last[kept:], read[max(0, len(read)-len(l.last)):])
}

// endsWithName looks also at what was read before.
func (l *nameCounter) endsWithName(read []byte) bool {
	if len(read) > 0 && read[len(read)-1]|0x20 != lengthName[len(lengthName)-1] {
		return false // nearly always
	}
	name := l.last
	kept := max(0, len(name)-len(read))
	copy(name[:], l.last[len(l.last)-kept:])
	copy(name[kept:], read[max(0, len(read)-len(name)):])
	return bytes.EqualFold(name[:], []byte(lengthName))
}
