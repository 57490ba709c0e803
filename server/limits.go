package server

import (
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/pikarc/server/server/limit"
)

// limitAddress turns away an address that asks for too much. This machine is
// not limited: an agent beside its server may ask as fast as it can.
func (s *Server) limitAddress(c *call) error {
	if !c.from.IsValid() {
		return nil
	}
	s.hintAtUnnamedProxy(c)
	if c.from.IsLoopback() || c.route.path == reviewPath {
		return nil // an agent that waits for a person dies of a 429
	}
	return tooMany(s.addresses.Wait(limit.ClientNetwork(c.from)), "this address")
}

// hintAtUnnamedProxy says in the log, once, that a proxy forwards whose word is
// not taken: all its clients then share its address, and whatever is counted by address.
func (s *Server) hintAtUnnamedProxy(c *call) {
	near := c.from.IsLoopback() || c.from.IsPrivate()
	if !near || !forwarded(c.r) {
		return
	}
	if peer, err := netip.ParseAddrPort(c.r.RemoteAddr); err != nil ||
		limit.Contains(s.TrustedProxies, limit.PlainAddr(peer.Addr())) {
		return
	}
	s.hintAtProxy.Do(func() {
		s.Log.Warn("a proxy seems to stand before this server: name it with --trusted-proxies, "+
			"or all its clients look like one",
			"address", c.remote())
	})
}

// limitKey turns away an API key that asks for too much. It is asked after the
// key has proven right, so that nobody can use up another's share.
func (s *Server) limitKey(c *call) error {
	if !c.who.byKey() || c.from.IsLoopback() || c.route.path == reviewPath {
		return nil
	}
	return tooMany(s.keys.Wait(c.who.prefix), "this API key")
}

// tooMany is the 429 of a rate limit; nil if there is nothing to wait for.
func tooMany(wait time.Duration, whose string) error {
	if wait <= 0 {
		return nil
	}
	return retryLater(http.StatusTooManyRequests,
		"Too many requests from "+whose+". Nothing was recorded; slow down.", seconds(wait))
}

// The limiters of a server.
type limiters struct {
	addresses *limit.Rate[netip.Prefix]
	keys      *limit.Rate[string]
}

// seconds writes a wait for Retry-After, rounded up.
func seconds(wait time.Duration) string {
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}
