package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// atNodes puts the addresses of nodes into a configuration of docs/ops.
func atNodes(t *testing.T, config string, nodes []*process) string {
	t.Helper()
	for i, n := range nodes {
		at, err := url.Parse(n.url)
		if err != nil {
			t.Fatal(err)
		}
		documented := fmt.Sprintf("10.0.0.%d:8000", 11+i)
		if !strings.Contains(config, documented) {
			t.Fatalf("the configuration has no %s", documented)
		}
		config = strings.ReplaceAll(config, documented, at.Host)
	}
	return config
}

// behindDocumentedHAProxy puts the frontend of docs/ops/haproxy.cfg before nodes.
// `make ha` runs the whole of it.
func behindDocumentedHAProxy(t *testing.T, nodes []*process) *http.Client {
	t.Helper()
	text, err := os.ReadFile("docs/ops/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "haproxy") // a short path, as a socket's name must be
	if err != nil {
		t.Fatal(err)
	}
	config, file := atNodes(t, string(text), nodes), filepath.Join(dir, "haproxy.cfg")
	for _, pair := range [][2]string{
		{"bind :8000", "bind unix@" + filepath.Join(dir, "s")},
		{"bind 127.0.0.1:5000", "bind unix@" + filepath.Join(dir, "p")},
	} {
		if !strings.Contains(config, pair[0]) {
			t.Fatalf("haproxy.cfg has no %q", pair[0])
		}
		config = strings.Replace(config, pair[0], pair[1], 1)
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "haproxy", "-c", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("haproxy -c: %v\n%s", err, out)
	}
	return startProxy(t, exec.Command("haproxy", "-db", "-f", file), dir, "apt-get install haproxy")
}

// behindDocumentedNginx does so with the nginx of docs/ops/cluster.md.
func behindDocumentedNginx(t *testing.T, nodes []*process) *http.Client {
	t.Helper()
	page, err := os.ReadFile("docs/ops/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```nginx\n(.*?)```").FindSubmatch(page)
	if found == nil {
		t.Fatal("cluster.md gives no settings of nginx")
	}
	dir, err := os.MkdirTemp("", "nginx")
	if err != nil {
		t.Fatal(err)
	}
	config := atNodes(t, string(found[1]), nodes)
	config = strings.Replace(config, "listen 80;", "listen unix:"+filepath.Join(dir, "s")+";", 1)
	const around = `daemon off; master_process off; pid %[1]s/pid; error_log stderr warn;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	%[2]s
}`
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, around, dir, config), 0o600); err != nil {
		t.Fatal(err)
	}
	return startProxy(t, exec.Command("nginx", "-e", "stderr", "-p", dir, "-c", file), dir, "apt-get install nginx-light")
}

// With the files of docs/ops a key stays with its node, several keys have several
// nodes, and when a node dies the other one answers.
func TestNodesStandBehindTheProxiesOfTheDocumentation(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]func(*testing.T, []*process) *http.Client{
		"haproxy": behindDocumentedHAProxy, "nginx": behindDocumentedNginx,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := newDatabase(t)
			var keys []string
			for i := range 8 {
				keys = append(keys, createUserOn(t, url, fmt.Sprintf("ann%d@example.com", i), "basic").APIKey)
			}
			nodes := []*process{serveNode(t, url, "--node", "one"), serveNode(t, url, "--node", "two")}
			client := behind(t, nodes)
			nodeOf := func(key string) (node string) {
				err := eventually(func() bool {
					a, err := send(t.Context(), client, "GET", "http://pikarc/v1/server", key, nil)
					var server struct{ Node string }
					if err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, &server) != nil {
						return false // the proxy has yet to find out where the nodes are
					}
					node = server.Node
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
				return node
			}
			at := make(map[string][]string)
			for _, key := range keys {
				node := nodeOf(key)
				at[node] = append(at[node], key)
				for range 5 {
					if again := nodeOf(key); again != node {
						t.Errorf("a key comes to %q, and then to %q", node, again)
					}
				}
			}
			if len(at["one"]) == 0 || len(at["two"]) == 0 {
				t.Fatalf("the keys are spread like this: %d and %d", len(at["one"]), len(at["two"]))
			}
			nodes[0].kill()
			for _, key := range keys {
				if node := nodeOf(key); node != "two" {
					t.Errorf("after the end of its node a key comes to %q", node)
				}
			}
		})
	}
}

// The compose file fits the files beside it, and sets nothing that is no setting.
func TestTheComposeFileOfAClusterFits(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/ops/compose-cluster.yml")
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := os.ReadFile("docs/ops/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"node1", "node2"} {
		at := regexp.MustCompile(`server ` + service + ` (\S+):8000`).FindSubmatch(proxy)
		if at == nil || net.ParseIP(string(at[1])) == nil {
			t.Fatalf("haproxy.cfg has no %s", service)
		}
		if !regexp.MustCompile(`(?s)\n  ` + service + `:.*?ipv4_address: ` + regexp.QuoteMeta(string(at[1])) + `\}`).Match(text) {
			t.Errorf("%s is not at %s, where haproxy.cfg looks for it", service, at[1])
		}
	}
	// What the nodes are given is what a server takes, as it says itself.
	var settings []string
	for _, found := range regexp.MustCompile(`(?m)^      (PIKARC_\w+): (.*)$`).FindAllSubmatch(text, -1) {
		value := string(found[2])
		switch string(found[1]) {
		case "PIKARC_DATABASE":
			value = newDatabase(t)
		case "PIKARC_SECRET":
			value = "a secret of the test of a compose file"
		}
		settings = append(settings, string(found[1])+"="+value)
	}
	if len(settings) < 4 {
		t.Fatalf("the compose file sets %v", settings)
	}
	p := serveWith(t, settings, "--wait", "60s", "--addr", "127.0.0.1:0", "--data-dir", filepath.Join(t.TempDir(), "none"))
	if strings.Contains(p.stderr.String(), "no such setting") {
		t.Errorf("serve warns: %s", p.stderr.String())
	}
	p.stop(t)
}
