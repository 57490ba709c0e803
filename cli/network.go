package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pikarc/server/server"
)

// networkOptions say where the server is reached, by whom, and how much.
type networkOptions struct {
	addr, publicURL, registration        string
	trustedProxies, corsOrigins          []string
	ratePerAddress, ratePerKey, maxConns int
	tlsCert, tlsKey, tlsEmail, tlsACME   string
	tlsDomains                           []string
	redirectAddr                         string
}

// The addresses that a server with certificates of its own needs.
const (
	defaultAddr = "localhost:8000"
	httpsAddr   = ":443"
	httpAddr    = ":80"
)

func (o *networkOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.addr, "addr", defaultAddr, "address to listen on")
	f.StringVar(&o.publicURL, "public-url", "", "where people reach this server, such as https://agents.example.com; needed to sell plans")
	f.StringVar(&o.registration, "registration", "auto",
		"who may register in the dashboard: open (anyone), closed (nobody), or auto (open while only this machine can reach the address)")
	f.StringSliceVar(&o.trustedProxies, "trusted-proxies", nil, "networks of proxies whose X-Forwarded-For is believed, such as 127.0.0.1/32,10.0.0.0/8")
	f.StringSliceVar(&o.corsOrigins, "cors-origins", nil, "origins whose pages may read the API, such as https://app.example.com")
	f.IntVar(&o.ratePerAddress, "rate-per-address", 5000, "requests a second that an address may make, twice that at once; 0: no limit, as for this machine itself")
	f.IntVar(&o.ratePerKey, "rate-per-key", 10_000, "requests a second that an API key may make from other machines, twice that at once; 0: no limit")
	f.IntVar(&o.maxConns, "max-connections", 10_000, "connections that may be open at once; one more closes the one idle longest. 0: no limit")
	f.StringVar(&o.tlsCert, "tls-cert", "", "file of the TLS certificate, PEM; read again when it changes")
	f.StringVar(&o.tlsKey, "tls-key", "", "file of its key, PEM")
	f.StringSliceVar(&o.tlsDomains, "tls-domain", nil, "domains to get a certificate for from Let's Encrypt; the address is then :443 and :80 unless set")
	f.StringVar(&o.tlsEmail, "tls-email", "", "where Let's Encrypt may write to about the certificate")
	f.StringVar(&o.tlsACME, "tls-acme-url", "", "directory of another ACME certificate authority")
	f.StringVar(&o.redirectAddr, "http-redirect-addr", "", "address that sends plain HTTP to https")
}

// complete sets what follows from other options.
func (o *networkOptions) complete(f *pflag.FlagSet) {
	if len(o.tlsDomains) == 0 || f.Changed("addr") {
		return
	}
	o.addr = httpsAddr
	if !f.Changed("http-redirect-addr") {
		o.redirectAddr = httpAddr
	}
}

// configure checks the options and puts them into the server's.
func (o networkOptions) configure(cfg *server.Config) error {
	var err error
	if cfg.TrustedProxies, err = parseProxies(o.trustedProxies); err != nil {
		return err
	}
	for _, origin := range o.corsOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Scheme+"://"+u.Host != origin {
			return fmt.Errorf("--cors-origins %q: write an origin as browsers do, such as https://app.example.com", origin)
		}
	}
	for name, n := range map[string]int{"rate-per-address": o.ratePerAddress, "rate-per-key": o.ratePerKey, "max-connections": o.maxConns} {
		if n < 0 {
			return fmt.Errorf("--%s %d: must be 0 or more", name, n)
		}
	}
	switch {
	case !slices.Contains([]string{"auto", "open", "closed"}, o.registration):
		return fmt.Errorf("--registration %q: choose auto, open or closed", o.registration)
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return errors.New("--tls-cert and --tls-key belong together: give both")
	case o.tlsCert != "" && len(o.tlsDomains) > 0:
		return errors.New("--tls-cert and --tls-domain exclude each other: give one of them")
	case o.redirectAddr != "" && !o.tls():
		return errors.New("--http-redirect-addr needs --tls-cert or --tls-domain")
	}
	cfg.CORSOrigins, cfg.MaxConnections = o.corsOrigins, o.maxConns
	cfg.RatePerAddress, cfg.RatePerKey = o.ratePerAddress, o.ratePerKey
	cfg.LocalRegistration = o.registration == "auto"
	cfg.OpenRegistration = o.registration == "open" || o.registration == "auto" && o.private()
	return nil
}

func (o networkOptions) tls() bool { return o.tlsCert != "" || len(o.tlsDomains) > 0 }

// private tells whether only this machine can reach the server. A proxy that is
// trusted speaks for others, and a public URL is told to others.
func (o networkOptions) private() bool {
	public, err := url.Parse(o.publicURL)
	if err != nil || o.publicURL != "" && !isLocal(public.Hostname()) {
		return false
	}
	return isLoopback(o.addr) && len(o.trustedProxies) == 0 && len(o.tlsDomains) == 0
}

// isLoopback tells whether only this machine reaches an address.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && isLocal(host)
}

func isLocal(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// registrationSaid tells who may make an account, and why.
func (o networkOptions) registrationSaid(open bool) string {
	switch {
	case open && o.private():
		return "open: anyone on this machine may make an account"
	case open:
		return "open: anyone who can reach this address may make an account"
	case o.registration == "auto":
		return "closed, because others can reach this address; --registration open opens it, and create-user makes accounts"
	default:
		return "closed"
	}
}

func parseProxies(texts []string) (all []netip.Prefix, err error) {
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil {
				return nil, fmt.Errorf("--trusted-proxies %q: write a network as 10.0.0.0/8, or an address", text)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		all = append(all, prefix.Masked())
	}
	return all, nil
}

// encryption makes the server's TLS; nil when it speaks plain HTTP.
func (o networkOptions) encryption(dir string, log *slog.Logger) (*server.TLS, error) {
	switch {
	case o.tlsCert != "":
		return server.CertificateFiles(o.tlsCert, o.tlsKey, log)
	case len(o.tlsDomains) > 0:
		return server.ACME(o.tlsDomains, o.tlsEmail, o.tlsACME, filepath.Join(dir, "certificates")), nil
	default:
		return nil, nil
	}
}

// url is where the server says it is reached.
func (o networkOptions) url(ln net.Listener) string {
	scheme, at := "http://", publicAddr(o.addr, ln)
	if o.tls() {
		scheme = "https://"
	}
	if len(o.tlsDomains) > 0 {
		_, port, _ := net.SplitHostPort(at)
		at = strings.TrimSuffix(net.JoinHostPort(o.tlsDomains[0], port), ":443")
	}
	return scheme + at
}
