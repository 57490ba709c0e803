package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documented are the settings of a proxy that docs/ops/proxies.md gives.
func documented(t *testing.T, proxy string) (blocks []string) {
	t.Helper()
	page, err := os.ReadFile("docs/ops/proxies.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile("(?s)```"+proxy+"\n(.*?)```").FindAllSubmatch(page, -1) {
		blocks = append(blocks, string(found[1]))
	}
	if len(blocks) != 3 {
		t.Fatalf("the page gives %d settings of %s", len(blocks), proxy)
	}
	return blocks
}

// behindCaddy is behindNginx with Caddy.
func behindCaddy(t *testing.T, p *process, site string) *http.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "caddy")
	if err != nil {
		t.Fatal(err)
	}
	socket, conf := filepath.Join(dir, "s"), filepath.Join(dir, "Caddyfile")
	site = strings.Replace(site, "example.com {", ":80 {\n\tbind unix/"+socket, 1)
	const global = "{\n\tadmin off\n\tauto_https off\n}\n"
	if err := os.WriteFile(conf, []byte(global+site), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("caddy", "run", "--config", conf, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	return startProxy(t, cmd, dir, "apt-get install caddy")
}

// Case 29, with the very settings of the documentation: at the root, with the
// prefix passed on, and with the prefix stripped.
func TestAllWorksBehindTheProxiesOfTheDocumentation(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]func(*testing.T, *process, string) *http.Client{"nginx": behindNginx, "caddy": behindCaddy} {
		for i, base := range []string{"", "/pikarc", "/pikarc"} {
			t.Run(fmt.Sprintf("%s %d", name, i+1), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				u := createUser(t, dir, "ann@example.com", "scale")
				p := serve(t, dir, "--base-path", base, "--trusted-proxies", "127.0.0.1")
				server, err := url.Parse(p.url)
				if err != nil {
					t.Fatal(err)
				}
				block := strings.ReplaceAll(documented(t, name)[i], "127.0.0.1:8000", server.Host)
				front := proxied{behind(t, p, block), "http://example.com" + base}
				front.hasPages(t)
				front.hasTheAPI(t, u)
				if base != "" {
					if a := front.call(t, "GET", "/../health", "", nil); a.status == http.StatusOK && strings.Contains(string(a.body), "version") {
						t.Errorf("the server is at the root too: this is no proxy of one path")
					}
				}
			})
		}
	}
}

// proxied is a server as it is reached through a proxy.
type proxied struct {
	client *http.Client
	url    string
}

func (f proxied) call(t *testing.T, method, path, credential string, body any, headers ...string) answer {
	t.Helper()
	a, err := send(t.Context(), f.client, method, f.url+path, credential, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// hasPages reads pages, and every file that they name.
func (f proxied) hasPages(t *testing.T) {
	t.Helper()
	for _, path := range []string{"", "/", "/overview", "/runs/01a2073c-1a43-7c31-9f0a-6a1f0b8e4d52"} {
		page := f.call(t, "GET", path, "", nil).want(t, http.StatusOK)
		named := regexp.MustCompile(`(?:href|src)="(/[^"]*)"`).FindAllStringSubmatch(string(page.body), -1)
		if len(named) == 0 || !strings.Contains(page.header.Get("Content-Security-Policy"), "script-src 'self'") {
			t.Fatalf("%q is %v\n%s", path, page.header, page.body)
		}
		for _, file := range named {
			below, ok := strings.CutPrefix("http://example.com"+file[1], f.url)
			if !ok {
				t.Errorf("%q names %s, which is not below %s", path, file[1], f.url)
				continue
			}
			kind := f.call(t, "GET", below, "", nil).want(t, http.StatusOK).header.Get("Content-Type")
			if strings.HasSuffix(below, ".js") && !strings.HasPrefix(kind, "text/javascript") || strings.HasSuffix(below, ".css") && !strings.HasPrefix(kind, "text/css") {
				t.Errorf("%s is %s", below, kind)
			}
		}
	}
}

func (f proxied) hasTheAPI(t *testing.T, u newUser) {
	t.Helper()
	var login struct {
		AccessToken string `json:"access_token"`
	}
	f.call(t, "POST", "/v1/auth/login", "", map[string]string{"email": u.Email, "password": password}).want(t, http.StatusOK).into(t, &login)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", f.url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+login.AccessToken)
	stream, err := f.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	events := bufio.NewScanner(stream.Body)
	awaitLine(t, events, "event: hello")
	var started decision
	f.call(t, "POST", "/v1/runs/", u.APIKey, map[string]string{"user_id": "ann"}).want(t, http.StatusCreated).into(t, &started)
	awaitLine(t, events, "event: run.started") // while the stream is open, and so not held back
	large := map[string]any{"type": "TOOL_CALL", "sequence": 1, "input_data": map[string]string{"text": strings.Repeat("x", 3<<20)}}
	f.call(t, "POST", "/v1/runs/"+started.ID+"/steps", u.APIKey, large).want(t, http.StatusCreated)
	var doc struct{ Servers []struct{ URL string } }
	f.call(t, "GET", "/openapi.json", "", nil).want(t, http.StatusOK).into(t, &doc)
	if at, err := url.Parse(f.url); err != nil || strings.TrimSuffix(doc.Servers[0].URL, "/") != at.Path {
		t.Errorf("the document names %v as its server, which is %s", doc.Servers, f.url)
	}
}
