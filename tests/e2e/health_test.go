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

func TestHealthOverTLS(t *testing.T) {
	t.Parallel()
	p, _ := serveTLS(t, t.TempDir(), writeCertificate(t, t.TempDir(), 1))
	run(t, "health", "--tls", "--addr", strings.TrimPrefix(p.url, "https://")).ok(t)
}
