package server

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
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
	client := plainAddr(peer.Addr())
	if len(proxies) == 0 || !trusted(proxies, client) {
		return client
	}
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(said) {
		hop, ok := forwardedAddr(strings.TrimSpace(text))
		if !ok {
			return client // the last that somebody we trust has vouched for
		}
		client = hop
		if !trusted(proxies, client) {
			return client
		}
	}
	return client
}

// forwarded tells whether a proxy says that it passes a request on.
func forwarded(r *http.Request) bool {
	return r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("X-Real-Ip") != "" || r.Header.Get("Forwarded") != ""
}

// forwardedAddr reads an entry of X-Forwarded-For; some proxies add the port.
func forwardedAddr(text string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return plainAddr(addr), true
	}
	peer, err := netip.ParseAddrPort(text)
	return plainAddr(peer.Addr()), err == nil
}

// plainAddr is an address without what makes equal ones look different.
func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func trusted(proxies []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// neighbourhood is what one customer of a network has at least: an IPv4
// address, or a /64 of IPv6, in which whoever has one address has them all.
func neighbourhood(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // cannot fail for these bits; of no address it is no prefix
	return p
}

// clientNetwork is what neighbours share: a /24 of IPv4, or a /64 of IPv6.
func clientNetwork(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // cannot fail for these bits; of no address it is no prefix
	return p
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
