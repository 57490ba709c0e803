package server

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestChunksThroughAProxyAreAmbiguousBelowTLS(t *testing.T) {
	t.Parallel()
	s := &Server{Config: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}
	for name, test := range map[string]struct {
		from, header string
		proxied      bool
	}{
		"a client":          {"203.0.113.7:1", "X-Other", false},
		"a named proxy":     {"192.0.2.1:1", "X-Other", true},
		"an unnamed proxy":  {"203.0.113.7:1", "X-Forwarded-For", true},
		"one that says via": {"203.0.113.7:1", "Via", true},
		"nobody":            {"", "X-Other", true},
	} {
		r := &http.Request{RemoteAddr: test.from, Header: http.Header{test.header: {"1"}}}
		if got := s.isProxied(r); got != test.proxied {
			t.Errorf("%s: %v, want %v", name, got, test.proxied)
		}
	}
}
