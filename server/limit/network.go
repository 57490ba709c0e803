package limit

import (
	"net/netip"
	"slices"
)

// PlainAddr is an address without what makes equal ones look different.
func PlainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// Contains reports whether an address is in one of the networks.
func Contains(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ClientNetwork is what one customer of a network has at least: an IPv4
// address, or a /64 of IPv6, in which whoever has one address has them all.
func ClientNetwork(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // cannot fail for these bits; of no address it is no prefix
	return p
}

// Subnet is what neighbouring clients share: a /24 of IPv4, or a /64 of IPv6.
func Subnet(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // cannot fail for these bits; of no address it is no prefix
	return p
}
