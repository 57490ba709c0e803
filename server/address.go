package server

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/pikarc/server/server/limit"
)

// clientAddress is where a request comes from. What a trusted proxy says in
// X-Forwarded-For is believed, from the right: each proxy appends whom it
// speaks with, so the first address that is no proxy of ours is the client, and
// all before it is the client's own invention. Zero when there is no address.
func clientAddress(r *http.Request, proxies []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := limit.PlainAddr(peer.Addr())
	if len(proxies) == 0 || !limit.Contains(proxies, client) {
		return client
	}
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(said) {
		hop, ok := forwardedAddr(strings.TrimSpace(text))
		if !ok {
			return client // the last that somebody we trust has vouched for
		}
		client = hop
		if !limit.Contains(proxies, client) {
			return client
		}
	}
	return client
}

// forwarded reports whether a proxy says that it passes a request on.
func forwarded(r *http.Request) bool {
	return r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("X-Real-Ip") != "" ||
		r.Header.Get("Forwarded") != ""
}

// forwardedAddr reads an entry of X-Forwarded-For; some proxies add the port.
func forwardedAddr(text string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return limit.PlainAddr(addr), true
	}
	peer, err := netip.ParseAddrPort(text)
	return limit.PlainAddr(peer.Addr()), err == nil
}

// addressText is "" for no address.
func addressText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// remote is the caller's address in words, "" when there is none.
func (c *call) remote() string {
	if !c.from.IsValid() {
		return ""
	}
	return c.from.String()
}
