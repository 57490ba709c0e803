package server_test

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

func TestNoAnswerCanBeFramedSniffedOrKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.makeFixture(plans.Scale)
	for _, c := range samples(t, w.routes) {
		var body any
		if c.body != "" {
			body = f.fill(c.body)
		}
		r := w.call(c.method, f.fill(c.path), c.credential(f.account), body)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Strict-Transport-Security": "", "Set-Cookie": "",
			"Access-Control-Allow-Origin": "",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", r.what, name, got, want)
			}
		}
		if c.path[:4] == "/v1/" {
			wantNoPage(r)
		}
	}
	wantNoPage(w.call("GET", "/v1/nothing", "", nil))
	wantNoPage(w.call("DELETE", "/v1/runs/", "", nil))
}

// wantNoPage checks that an answer of the API can be neither framed nor kept.
func wantNoPage(r *response) {
	r.t.Helper()
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		if got := r.header.Get(name); got != want {
			r.t.Errorf("%s: %s is %q, want %q", r.what, name, got, want)
		}
	}
}

// ask sends a request as a browser does for a page of an origin.
func (w *world) ask(method, path, origin, wants string) http.Header {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, nil)
	w.must(err)
	req.Header.Set("Origin", origin)
	if wants != "" {
		req.Header.Set("Access-Control-Request-Method", wants)
	}
	answer, err := w.client.Do(req)
	w.must(err)
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	w.must(err)
	if preflight := answer.StatusCode == http.StatusNoContent; preflight != (method == "OPTIONS" && answer.Header.Get("Access-Control-Allow-Methods") != "") {
		w.t.Errorf("%s from %s answered %d", method, origin, answer.StatusCode)
	}
	return answer.Header
}

// A browser lets a page send what the server allows, and our client sends what it sends.
func TestANamedOriginMaySendWhatOurClientSends(t *testing.T) {
	t.Parallel()
	const app = "https://app.example.com"
	w := newWorld(t, func(cfg *server.Config) { cfg.CORSOrigins = []string{app} })
	allowed := w.ask("OPTIONS", "/v1/runs/", app, "POST").Get("Access-Control-Allow-Headers")
	source, err := os.ReadFile("../clients/typescript/src/transport.ts")
	w.must(err)
	_, set, _ := strings.Cut(string(source), "const headers")
	set, _, _ = strings.Cut(set, "fetch(")
	sent := regexp.MustCompile(`(?m)^    "?([a-z-]+)"?: |headers\["([a-z-]+)"\] =`).FindAllStringSubmatch(set, -1)
	if len(sent) < 4 {
		t.Fatalf("the client sends %q", sent)
	}
	for _, name := range sent {
		if !slices.Contains(strings.Split(strings.ToLower(allowed), ", "), name[1]+name[2]) {
			t.Errorf("%s is not among the headers that a page may send: %s", name[1]+name[2], allowed)
		}
	}
}

func TestOnlyNamedOriginsMayReadAnswers(t *testing.T) {
	t.Parallel()
	const app = "https://app.example.com"
	off, on := newWorld(t), newWorld(t, func(cfg *server.Config) { cfg.CORSOrigins = []string{app} })
	for _, path := range []string{"/v1/workspace", "/v1/blocked-users/a/b", "/health"} {
		for _, wants := range []string{"", "PUT"} {
			method := "GET"
			if wants != "" {
				method = "OPTIONS"
			}
			if got := on.ask(method, path, app, wants).Get("Access-Control-Allow-Origin"); got != app {
				t.Errorf("%s %s: the named origin gets %q", method, path, got)
			}
			for _, other := range []string{"https://evil.example", "null", app + ".evil.example", "http://app.example.com", "*"} {
				for name, values := range on.ask(method, path, other, wants) {
					if len(name) > 14 && name[:14] == "Access-Control" {
						t.Errorf("%s %s: %s gets %s %q", method, path, other, name, values)
					}
				}
			}
			if got := off.ask(method, path, app, wants).Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("%s %s: without a setting an origin gets %q", method, path, got)
			}
			if got := on.ask(method, path, app, wants).Get("Access-Control-Allow-Credentials"); got != "" {
				t.Errorf("%s %s allows credentials", method, path)
			}
		}
	}
}
