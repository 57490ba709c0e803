package cli

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
)

// listenOptions say where the server listens and whether it speaks TLS there.
// The health check reads the same, and so knows where to ask, and how.
type listenOptions struct {
	addr            string
	tlsCert, tlsKey string
	tlsDomains      []string
}

const (
	// defaultAddr is reachable from this machine alone: a server that the network reaches is a
	// decision.
	defaultAddr = "localhost:8000"
	// defaultPort is that of an address without one.
	defaultPort = "8000"
	// The ports of a server that gets its certificate by itself.
	httpsPort = "443"
	// httpPort redirects to HTTPS and answers ACME's challenges.
	httpPort = "80"
)

// addrFlag defines --addr.
func (o *listenOptions) addrFlag(f *pflag.FlagSet) {
	f.StringVar(&o.addr, "addr", defaultAddr,
		"address to listen on; without a port, such as 0.0.0.0, it is 8000, or 443 and 80 with --tls-domain")
}

// certificateFlags defines the flags that say which certificate is served.
func (o *listenOptions) certificateFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&o.tlsDomains, "tls-domain", nil,
		"domains to get a certificate for from Let's Encrypt; the address is then :443 and :80 unless set")
	f.StringVar(&o.tlsCert, "tls-cert", "",
		"file of the TLS certificate, PEM; read again when it changes")
	f.StringVar(&o.tlsKey, "tls-key", "", "file of its key, PEM")
}

// completeAddr adds the port to an address without one. chosen reports whether
// the operator has named the port.
func (o *listenOptions) completeAddr(f *pflag.FlagSet) (host string, chosen bool) {
	host, port, ok := splitAddr(o.addr)
	if !ok {
		return "", true // listening on it says what is wrong
	}
	if len(o.tlsDomains) > 0 && !f.Changed("addr") {
		host, port = "", "" // a name that others know is served to others
	}
	if chosen = port != ""; !chosen {
		port = defaultPort
		if len(o.tlsDomains) > 0 {
			port = httpsPort
		}
		o.addr = net.JoinHostPort(host, port)
	}
	return host, chosen
}

// splitAddr divides an address into host and port, either of which may be missing.
func splitAddr(addr string) (host, port string, ok bool) {
	if host, port, err := net.SplitHostPort(addr); err == nil {
		return host, port, true
	}
	// An IPv6 address has colons, with and without a port; only brackets tell them apart.
	bare := strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
	if _, err := netip.ParseAddr(bare); err == nil || !strings.ContainsAny(addr, ":[]") {
		return bare, "", true
	}
	return "", "", false
}

// checkCertificates refuses flags that exclude each other.
func (o listenOptions) checkCertificates() error {
	switch {
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return errors.New("--tls-cert and --tls-key belong together: give both")
	case o.tlsCert != "" && len(o.tlsDomains) > 0:
		return errors.New("--tls-cert and --tls-domain exclude each other: give one of them")
	default:
		return nil
	}
}

// tls reports whether the server speaks TLS.
func (o listenOptions) tls() bool { return o.tlsCert != "" || len(o.tlsDomains) > 0 }

// reachable are the addresses under which this machine reaches the server. A
// name such as localhost may mean either loopback address.
func (o listenOptions) reachable() ([]string, error) {
	host, port, err := net.SplitHostPort(o.addr)
	if err != nil {
		return nil, fmt.Errorf("--addr %q: %w", o.addr, err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || host == "localhost" || err == nil &&
		ip.IsUnspecified() {
		return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}, nil
	}
	return []string{o.addr}, nil
}
