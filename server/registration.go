package server

import (
	"net"
	"net/http"
	"net/netip"
)

func errRegistrationClosed() error { return forbidden("Registration is closed on this server") }

// mayRegister reports whether a caller may make an account. Registration that
// is open to this machine alone is so only for the first account.
func (s *Server) mayRegister(c *call) (bool, error) {
	if s.OpenRegistration || !s.LocalRegistration || !c.isLocal() || s.hasAccounts.Load() {
		return s.OpenRegistration, nil
	}
	has, err := s.store.HasAccounts(c.ctx())
	if has {
		s.hasAccounts.Store(true) // for good: none is ever deleted
	}
	return err == nil && !has, err
}

// isLocal reports whether somebody on this machine calls, and not somebody
// elsewhere through a proxy on it. A proxy that does not say so is told by the
// name under which it is called, or by HTTP/1.0, which no browser speaks.
func (c *call) isLocal() bool {
	host := c.r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(host)
	named := host == "localhost" || err == nil && addr.IsLoopback()
	return c.from.IsLoopback() && named && c.r.ProtoAtLeast(1, 1) && !throughProxy(c.r)
}

// throughProxy reports whether a header shows that a proxy passes a request on.
func throughProxy(r *http.Request) bool {
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Via"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return forwarded(r)
}
