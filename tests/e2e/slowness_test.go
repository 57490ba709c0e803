package e2e_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

const halfALogin = "POST /v1/auth/login HTTP/1.1\r\nHost: pikarc\r\nContent-Length: 100\r\n\r\n{"

func TestSlowBodiesOfStrangersShutNobodyOut(t *testing.T) {
	t.Parallel()
	p, u := roomy(t, t.TempDir(), "--max-connections", "20")
	p.hold(t, 40, halfALogin)
	p.hold(t, 40, strings.Replace(halfALogin, "/auth/login", "/runs", 1)) // refused, and its body is still to come
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	began := time.Now()
	for range 30 {
		a, err := send(t.Context(), client, "POST", p.url+"/v1/runs/", u.APIKey, map[string]string{"user_id": "someone"})
		if err != nil {
			t.Fatal(err)
		}
		a.want(t, http.StatusCreated)
	}
	if took := time.Since(began); took > 20*time.Second { // a slow body may take 30 s otherwise
		t.Errorf("30 calls beside slow bodies took %v", took)
	}
}

func TestAHalfRequestDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	p, _ := roomy(t, t.TempDir())
	p.hold(t, 3, halfALogin)
	p.hold(t, 3, "GET /health HTTP/1.1\r\nHost")
	p.hold(t, 3, "")
	p.hold(t, 3, strings.Repeat("GET /openapi.json HTTP/1.1\r\nHost: pikarc\r\n\r\n", 100)) // whose answers nobody reads
	p.call(t, "GET", "/health/ready", "", nil).want(t, http.StatusOK)
	began := time.Now()
	p.signal(t, syscall.SIGTERM)
	if state := p.exit(t); state.ExitCode() != 0 {
		t.Errorf("%v\n%s", state, &p.stderr)
	}
	if took := time.Since(began); took > 10*time.Second { // it was 20 s
		t.Errorf("the end took %v", took)
	}
}

func TestLocalhostIsBothLoopbacks(t *testing.T) {
	t.Parallel()
	p := serveWith(t, nil, "--addr", "localhost:0", "--data-dir", t.TempDir(), "--metrics-addr", "localhost:0")
	_, port, err := net.SplitHostPort(strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		resp, err := http.Get("http://" + net.JoinHostPort(loopback, port) + "/health")
		if err != nil {
			t.Errorf("%s: %v", loopback, err)
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s answered %d", loopback, resp.StatusCode)
		}
		taken := run(t, "serve", "--addr", net.JoinHostPort("localhost", port), "--data-dir", t.TempDir())
		taken.fails(t, 1, "is in use")
	}
	p.stop(t)
}
