package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// behindNginx puts nginx before a server, on a socket in a directory, and
// returns a client that reaches the server through it alone.
func behindNginx(t *testing.T, p *process, location string) *http.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "nginx") // a short path, as a socket's name must be
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "nginx.conf")
	server, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	const config = `daemon off; master_process off; pid %[1]s/pid; error_log stderr warn;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	upstream pikarc { server %[2]s; }
	server { listen unix:%[1]s/s; %[3]s }
}`
	if err := os.WriteFile(conf, fmt.Appendf(nil, config, dir, server.Host, location), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nginx", "-e", "stderr", "-p", dir, "-c", conf)
	return startProxy(t, cmd, dir, "apt-get install nginx-light")
}

// startProxy starts a proxy that listens on the socket "s" in a directory, which
// goes with it, and returns a client that reaches the server through it alone.
func startProxy(t *testing.T, cmd *exec.Cmd, dir, install string) *http.Client {
	t.Helper()
	socket, said := filepath.Join(dir, "s"), &transcript{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (on Debian: %s)", err, install)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		_ = cmd.Process.Kill()
		<-ended
		_ = os.RemoveAll(dir)
	})
	hasEnded := func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
	if err := eventually(func() bool { return listensOn(socket) || hasEnded() }); err != nil || !listensOn(socket) {
		t.Fatalf("%s: %v\n%s", cmd.Path, err, said)
	}
	return client
}

// listensOn reports whether somebody takes connections on a socket, whose file is
// there a moment before.
func listensOn(socket string) bool {
	conn, err := net.Dial("unix", socket)
	return err == nil && conn.Close() == nil
}

// blocks sends a call and returns whom it has blocked.
func blocks(t *testing.T, client *http.Client, method, path, key string, body any) string {
	t.Helper()
	a, err := send(t.Context(), client, method, "http://pikarc"+path, key, body)
	if err != nil {
		t.Fatal(err)
	}
	var user struct {
		ID string `json:"user_id"`
	}
	if err := json.Unmarshal(a.want(t, http.StatusOK).body, &user); err != nil {
		t.Fatal(err)
	}
	return user.ID
}

// A proxy with a path of its own in proxy_pass decodes, folds and encodes again
// what it forwards. A user named in the body is the one who is blocked.
func TestUsersNamedInABodyPassAProxyThatRewritesPaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	owner := createUser(t, dir, "ann@example.com", "enterprise")
	p := serve(t, dir, "--trusted-proxies", "127.0.0.1/32")
	token := p.signIn(t, "ann@example.com")
	ids := []string{"a/../b", "a//b", "a%2Fb", "%2e%2e", "/", "..", "ada@example.com", "日本/語", "a?b#c", " "}

	rewriting := behindNginx(t, p, "location / { proxy_pass http://pikarc/; proxy_set_header X-Forwarded-For 203.0.113.7; }")
	changed := 0
	for _, id := range ids {
		body := map[string]any{"user_id": id}
		if got := blocks(t, rewriting, "POST", "/v1/blocked-users", token, body); got != id {
			t.Errorf("blocked %q, want %q", got, id)
		}
		if d := p.start(t, owner.APIKey, id); d.Decision.Reason != "USER_BLOCKED" {
			t.Errorf("the start of %q: %+v", id, d)
		}
		if got := blocks(t, rewriting, "POST", "/v1/blocked-users/unblock", token, body); got != id {
			t.Errorf("unblocked %q, want %q", got, id)
		}
		a, err := send(t.Context(), rewriting, "PUT", "http://pikarc/v1/blocked-users/"+url.PathEscape(id), token, nil)
		if err != nil {
			t.Fatal(err)
		}
		var user struct {
			ID string `json:"user_id"`
		}
		if a.status != http.StatusOK || json.Unmarshal(a.body, &user) == nil && user.ID != id {
			changed++
		}
	}
	if changed < 2 {
		t.Errorf("of %d paths nginx changed %d: this is no proxy to prove anything with", len(ids), changed)
	}

	plain := behindNginx(t, p, "location / { proxy_pass http://pikarc; proxy_set_header X-Forwarded-For 203.0.113.7; }")
	for _, id := range ids {
		if got := blocks(t, plain, "PUT", "/v1/blocked-users/"+url.PathEscape(id), token, nil); got != id {
			t.Errorf("PUT with the path as it was sent blocked %q, want %q", got, id)
		}
	}
}
