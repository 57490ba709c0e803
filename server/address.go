package server

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/pikarc/server/server/limit"
)

// clientAddress returns the client's address. X-Forwarded-For of a trusted proxy is
// read from the right: each proxy appends its peer, so the first address that is
// not a trusted proxy is the client, and anything before it may be forged. Zero
// when there is no address.
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
			return client // the last that a trusted proxy has added
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
