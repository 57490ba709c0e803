package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

// networkOptions say where the server is reached, by whom, and how much.
type networkOptions struct {
	listenOptions
	basePath, publicURL, registration string
	trustedProxies, corsOrigins       []string
	ratePerAddress, ratePerKey        int
	maxConns, maxPerAddress           int
	tlsEmail, tlsACME                 string
	redirectAddr                      string
}

// flags defines the flags of serve about the network, in groups as --help shows them.
func (o *networkOptions) flags(cmd *cobra.Command) {
	flagGroup(cmd, "Where it is reached", o.placeFlags)
	flagGroup(cmd, "TLS", o.tlsFlags)
	flagGroup(cmd, "Who may reach it, and how much", o.limitFlags)
	choices(cmd, "registration", "auto", "open", "closed")
}

// placeFlags say where the server is reached.
func (o *networkOptions) placeFlags(f *pflag.FlagSet) {
	o.addrFlag(f)
	f.StringVar(&o.publicURL, "public-url", "",
		"where people reach this server, such as https://agents.example.com; needed to sell plans, "+
			"and for messages with links that approve and deny")
	f.StringVar(&o.basePath, "base-path", "",
		"path below which a proxy shows this server, such as /pikarc; the path of --public-url unless set")
}

// tlsFlags say how it speaks TLS.
func (o *networkOptions) tlsFlags(f *pflag.FlagSet) {
	o.certificateFlags(f)
	f.StringVar(&o.tlsEmail, "tls-email", "",
		"where Let's Encrypt may write to about the certificate")
	f.StringVar(&o.tlsACME, "tls-acme-url", "", "directory of another ACME certificate authority")
	f.StringVar(&o.redirectAddr, "http-redirect-addr", "", "address that sends plain HTTP to https")
}

// limitFlags say who may reach it, and how often.
func (o *networkOptions) limitFlags(f *pflag.FlagSet) {
	f.StringVar(&o.registration, "registration", "auto",
		"who may register in the dashboard: open (anyone), closed (nobody), or auto (somebody on this machine, for the first account)")
	f.StringSliceVar(&o.trustedProxies, "trusted-proxies", nil,
		"networks of proxies whose X-Forwarded-For is believed, such as 127.0.0.1/32,10.0.0.0/8")
	f.StringSliceVar(&o.corsOrigins, "cors-origins", nil,
		"origins whose pages may read the API, such as https://app.example.com")
	f.IntVar(&o.ratePerAddress, "rate-per-address", 5000,
		"requests a second that an address may make, twice that at once; 0: no limit, as for this machine itself")
	f.IntVar(&o.ratePerKey, "rate-per-key", 10_000,
		"requests a second that an API key may make from other machines, twice that at once; 0: no limit")
	f.IntVar(&o.maxConns, "max-connections", 10_000,
		"connections that may be open at once; one more closes the one idle longest. 0: no limit")
	f.IntVar(&o.maxPerAddress, "max-connections-per-address", 2_000,
		"of those, how many an address may have; this machine and --trusted-proxies may have any. 0: no limit")
}

// complete sets what follows from other options.
func (o *networkOptions) complete(f *pflag.FlagSet) {
	// With a certificate of its own, and no port named, the server has 443 and 80 to itself:
	// the second one redirects.
	host, chosen := o.completeAddr(f)
	if len(o.tlsDomains) > 0 && !chosen && !f.Changed("http-redirect-addr") {
		o.redirectAddr = net.JoinHostPort(host, httpPort)
	}
}

// completePlace makes the base path and the public URL agree: each may name the path.
func (o *networkOptions) completePlace() error {
	if err := checkPublicURL(o.publicURL); err != nil {
		return err
	}
	public, err := url.Parse(strings.TrimRight(o.publicURL, "/"))
	if err != nil {
		return fmt.Errorf("--public-url: %w", err)
	}
	// The path may be given by itself or with the public URL; given twice, both must agree.
	flag := "--base-path"
	if o.basePath = strings.Trim(o.basePath, "/"); o.basePath != "" {
		o.basePath = "/" + o.basePath
	} else {
		flag, o.basePath = "the path of --public-url", public.Path
	}
	if err := server.CheckBasePath(o.basePath); err != nil {
		return fmt.Errorf("%s: %q: %w", flag, o.basePath, err)
	}
	if o.publicURL == "" {
		return nil
	}
	if public.Path != "" && public.Path != o.basePath {
		return fmt.Errorf("--base-path %s is not the path of --public-url %s: leave one of them out", o.basePath, o.publicURL)
	}
	// From here on the public URL has the path, and no slash at its end.
	public.Path = o.basePath
	o.publicURL = public.String()
	return nil
}

// configure checks the options and puts them into the server's.
func (o networkOptions) configure(cfg *server.Config) error {
	var err error
	if cfg.TrustedProxies, err = parseProxies(o.trustedProxies); err != nil {
		return err
	}
	for _, origin := range o.corsOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" ||
			// An origin is compared as text with what browsers send, so it must be written in just
			// that form.
			u.Scheme+"://"+u.Host != origin {
			return fmt.Errorf("--cors-origins %q: write an origin as browsers do, such as "+
				"https://app.example.com", origin)
		}
	}
	for name, n := range map[string]int{"rate-per-address": o.ratePerAddress,
		"rate-per-key": o.ratePerKey, "max-connections": o.maxConns,
		"max-connections-per-address": o.maxPerAddress} {
		if n < 0 {
			return fmt.Errorf("--%s %d: must be 0 or more", name, n)
		}
	}
	switch {
	case !slices.Contains([]string{"auto", "open", "closed"}, o.registration):
		return fmt.Errorf("--registration %q: choose auto, open or closed", o.registration)
	case o.redirectAddr != "" && !o.tls():
		return errors.New("--http-redirect-addr needs --tls-cert or --tls-domain")
	}
	if err := o.checkCertificates(); err != nil {
		return err
	}
	cfg.BasePath = o.basePath
	cfg.CORSOrigins, cfg.MaxConnections, cfg.MaxPerAddress = o.corsOrigins, o.maxConns, o.maxPerAddress
	cfg.RatePerAddress, cfg.RatePerKey = o.ratePerAddress, o.ratePerKey
	cfg.OpenRegistration = o.registration == "open"
	// auto lets the first account be made from this machine, if nobody else can reach the server
	// yet.
	cfg.LocalRegistration = o.registration == "auto" && o.private()
	return nil
}

// private reports whether only this machine can reach the server. A proxy that is
// trusted speaks for others, and a public URL is told to others.
func (o networkOptions) private() bool {
	public, err := url.Parse(o.publicURL)
	// An address that cannot be read is taken for one that others reach.
	if err != nil || o.publicURL != "" && !isLocal(public.Hostname()) {
		return false
	}
	return isLoopback(o.addr) && len(o.trustedProxies) == 0 && len(o.tlsDomains) == 0
}

// isLoopback reports whether only this machine reaches an address.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && isLocal(host)
}

// isLocal reports whether a host is this machine.
func isLocal(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// registrationSaid tells who may make an account, and why.
func (o networkOptions) registrationSaid(
	ctx context.Context, store *storage.Store,
) (string, error) {
	const ways = "--registration open opens it, and create-user makes accounts"
	switch {
	case o.registration == "open":
		return "open: anyone who can reach this address may make an account", nil
	case o.registration == "closed":
		return "closed", nil
	case !o.private():
		return "closed, because others can reach this address; " + ways, nil
	}
	// What is left is auto, on a server that only this machine reaches.
	has, err := store.HasAccounts(ctx)
	if has {
		return "closed, because there is an account; " + ways, err
	}
	return "open: somebody on this machine may make the first account", err
}

// parseProxies parses networks and single addresses.
func parseProxies(texts []string) (all []netip.Prefix, err error) {
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil {
				return nil, fmt.Errorf("--trusted-proxies %q: write a network as 10.0.0.0/8, or "+
					"an address", text)
			}
			// A single address is a network of one.
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
		return server.ACME(o.tlsDomains, o.tlsEmail, o.tlsACME,
			filepath.Join(dir, "certificates")), nil
	default:
		return nil, nil
	}
}

// placeFromEnvironment is where a server with the settings of this environment is
// reached, so that commands can say where to go next.
func placeFromEnvironment() string {
	var o networkOptions
	cmd := &cobra.Command{}
	o.flags(cmd)
	if err := fromEnvironment(cmd.Flags()); err != nil {
		return "http://" + defaultAddr
	}
	o.complete(cmd.Flags())
	addresses, err := o.reachable()
	if err = errors.Join(err, o.completePlace()); err != nil {
		return "http://" + defaultAddr
	}
	if o.publicURL != "" {
		return o.publicURL
	}
	if len(addresses) > 1 { // either loopback address
		_, port, _ := net.SplitHostPort(o.addr)
		addresses[0] = net.JoinHostPort("localhost", port)
	}
	return o.urlAt(addresses[0])
}

// url is where the server says it is reached.
func (o networkOptions) url(ln net.Listener) string { return o.urlAt(publicAddr(o.addr, ln)) }

// urlAt is the address that people open; a domain of a certificate replaces the listener's address.
func (o networkOptions) urlAt(at string) string {
	scheme := "http://"
	if o.tls() {
		scheme = "https://"
	}
	if len(o.tlsDomains) > 0 {
		_, port, _ := net.SplitHostPort(at)
		// Browsers leave the usual port out, and so do the addresses that are shown.
		at = strings.TrimSuffix(net.JoinHostPort(o.tlsDomains[0], port), ":443")
	}
	return scheme + at + o.basePath
}
