package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthTellsWhetherTheServerIsReady(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	addr := strings.TrimPrefix(p.url, "http://")
	if out := run(t, "health", "--addr", addr).ok(t).stdout; out != "ready\n" {
		t.Errorf("said %q", out)
	}
	anywhere := "0.0.0.0" + addr[strings.LastIndex(addr, ":"):] // what a container's server listens on
	invocation{args: []string{"health"}, settings: []string{"PIKARC_ADDR=" + anywhere}}.run(t).ok(t)
	run(t, "health", "--addr", addr, "--tls").fails(t, 1, "does not answer")
	p.stop(t)
	run(t, "health", "--addr", addr).fails(t, 1, "does not answer")
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	run(t, "health", "--addr", strings.TrimPrefix(other.URL, "http://")).fails(t, 1, "404 Not Found, which is not Pikarc")
	run(t, "health", "--addr", "a:b:c").fails(t, 2, "--addr")
}

// localhost may be either loopback address, and so may the server's.
func TestHealthFindsAServerOnEitherLoopback(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		p := serve(t, t.TempDir(), "--addr", host+":0")
		port := p.url[strings.LastIndex(p.url, ":"):]
		for _, addr := range []string{"localhost" + port, port, "0.0.0.0" + port, "[::]" + port, host + port} {
			run(t, "health", "--addr", addr).ok(t)
		}
	}
}

// The settings of the server are enough, and what is wrong without them is said.
func TestHealthKnowsFromTheServersSettingsThatItSpeaksTLS(t *testing.T) {
	t.Parallel()
	c := writeCertificate(t, t.TempDir(), 1)
	p, _ := serveTLS(t, t.TempDir(), c)
	settings := []string{"PIKARC_TLS_CERT=" + c.cert, "PIKARC_TLS_KEY=" + c.key, "PIKARC_ADDR=" + strings.TrimPrefix(p.url, "https://")}
	invocation{args: []string{"health"}, settings: settings}.run(t).ok(t)
	invocation{args: []string{"health"}, settings: settings[2:]}.run(t).fails(t, 1, "speaks TLS", "--tls")
}

func TestHealthOverTLS(t *testing.T) {
	t.Parallel()
	p, _ := serveTLS(t, t.TempDir(), writeCertificate(t, t.TempDir(), 1))
	run(t, "health", "--tls", "--addr", strings.TrimPrefix(p.url, "https://")).ok(t)
}
