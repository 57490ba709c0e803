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

// errForbiddenAddress says that an endpoint's name leads where no message may go.
var errForbiddenAddress = errors.New("is not a public address: the server sends there only with --webhook-private")

// forbidden are networks beyond those that netip has a word for, of which a
// stranger's URL must reach no host: shared, reserved, or leading to IPv4
// addresses that would have to be checked.
func forbidden() []netip.Prefix {
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

// checkAddress refuses an address to which no message may go. With private, it
// refuses only what is no host at all.
func checkAddress(addr netip.Addr, private bool) error {
	addr = addr.Unmap()
	refused := !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() ||
		addr == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if !private && !refused {
		refused = addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast()
		for _, p := range forbidden() {
			refused = refused || p.Contains(addr)
		}
	}
	if refused {
		return fmt.Errorf("%s %w", addr.WithZone(""), errForbiddenAddress)
	}
	return nil
}

// control checks the address that is really dialled, after names were looked
// up: a name may lead elsewhere than a moment ago.
func control(private bool) func(network, address string, c syscall.RawConn) error {
	return func(network, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || network != "tcp4" && network != "tcp6" {
			return fmt.Errorf("%s %w", network, errForbiddenAddress)
		}
		return checkAddress(to.Addr(), private)
	}
}

// newClient makes the client that sends to endpoints: through no proxy, which
// would dial in its place, and following no redirect.
func newClient(private bool, timeout time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: timeout, Control: control(private)}
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
