package notify

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// errForbiddenAddress reports that an endpoint's name resolves to an address that is not allowed.
var errForbiddenAddress = errors.New("is not a public address: the server sends there only with --webhook-private")

// reservedNetworks are those that netip has no predicate for and that an endpoint's URL must not
// reach: shared, reserved, or translating to IPv4 addresses that would need a check of their own.
func reservedNetworks() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
		netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
		netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"),
		netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
		netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"),
		netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("5f00::/16"),
		netip.MustParsePrefix("fec0::/10"),
	}
}

// checkAddress refuses an address that messages must not be sent to. With private, it refuses only
// addresses that belong to no single host.
func checkAddress(addr netip.Addr, private bool) error {
	addr = addr.Unmap()
	refused := !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() ||
		addr == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if !private && !refused {
		refused = addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast()
		for _, p := range reservedNetworks() {
			refused = refused || p.Contains(addr)
		}
	}
	if refused {
		return fmt.Errorf("%s %w", addr.WithZone(""), errForbiddenAddress)
	}
	return nil
}

// checkDialed returns a net.Dialer's Control function. It checks the address that is really dialed,
// after DNS: a name may resolve to another address than it did a moment ago.
func checkDialed(private bool) func(network, address string, c syscall.RawConn) error {
	return func(network, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || network != "tcp4" && network != "tcp6" {
			return fmt.Errorf("%s %w", network, errForbiddenAddress)
		}
		return checkAddress(to.Addr(), private)
	}
}

// newClient returns the client that sends to endpoints. It uses no proxy, because a proxy would
// dial in its place, past the check, and follows no redirects.
func newClient(private bool, timeout time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: timeout, Control: checkDialed(private)}
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:                  nil,
			DialContext:            dialer.DialContext,
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    timeout,
			MaxIdleConnsPerHost:    perEndpoint,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 32 << 10,
			DisableCompression:     true, // a small answer could become a large one
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
