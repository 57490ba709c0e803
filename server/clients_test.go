package server_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pikarc/server/server"
)

// What a page of links names is there, wherever the server is shown and however the page was asked for.
func TestClientsAreServedFromTheirPageOfLinks(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "/tools/pikarc"} {
		w := newWorld(t, below(base))
		for _, at := range []string{"/clients", "/clients/"} {
			page := w.call("GET", base+at, "", nil, "Accept", "application/vnd.pypi.simple.v1+json, text/html; q=0.01").want(http.StatusOK)
			links := regexp.MustCompile(`href="([^"#]*)#sha256=[0-9a-f]{64}"`).FindAllStringSubmatch(string(page.body), -1)
			if len(links) != 3 || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
				t.Fatalf("below %q the page is %s", base, page.body)
			}
			for _, link := range links {
				if !strings.HasPrefix(link[1], base+"/clients/") {
					t.Errorf("below %q the page names %s", base, link[1])
				}
				w.call("GET", link[1], "", nil).want(http.StatusOK)
			}
			if csp := page.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
				t.Errorf("the page has the policy %q", csp)
			}
		}
	}
}

func TestAClientIsServedAsItIsAndOnceOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for file, want := range map[string][2]string{
		"pikarc-1.0.0-py3-none-any.whl": {"a wheel", "application/zip"}, "pikarc-1.0.0.tar.gz": {"its source", "application/gzip"},
		"pikarc.tgz": {"for npm", "application/gzip"},
	} {
		got := w.call("GET", "/clients/"+file, "", nil, "Accept-Encoding", "gzip").want(http.StatusOK)
		if string(got.body) != want[0] || got.header.Get("Content-Type") != want[1] || got.header.Get("Content-Encoding") != "" {
			t.Errorf("%s is %q, %v", file, got.body, got.header)
		}
		w.call("GET", "/clients/"+file, "", nil, "If-None-Match", got.header.Get("ETag")).want(http.StatusNotModified)
		if head := w.call("HEAD", "/clients/"+file, "", nil).want(http.StatusOK); len(head.body) != 0 {
			t.Errorf("HEAD has a body")
		}
	}
	list := w.call("GET", "/clients/", "", nil, "Accept", "application/json").want(http.StatusOK)
	if got := list.text("items.2.file"); got != "pikarc.tgz" {
		t.Errorf("the list is %s", list.body)
	}
	for _, path := range []string{"/clients/..%2Findex.html", "/clients/.gitkeep", "/clients/pikarc.tgz%00", "/clients/x/pikarc.tgz"} {
		w.call("GET", path, "", nil).want(http.StatusNotFound)
	}
}

func TestAServerWithoutClientsSaysHowToPackThem(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*server.Config){
		"none packed": func(cfg *server.Config) { cfg.Clients = fstest.MapFS{".gitkeep": {}} },
		"none given":  func(cfg *server.Config) { cfg.Clients = nil },
	} {
		w := newWorld(t, change)
		if page := w.call("GET", "/clients/", "", nil).want(http.StatusOK); !strings.Contains(string(page.body), "make build") {
			t.Errorf("%s: the page is %s", name, page.body)
		}
		if list := w.call("GET", "/clients/", "", nil, "Accept", "application/json").want(http.StatusOK); string(list.body) != `{"items":[]}` {
			t.Errorf("%s: the list is %s", name, list.body)
		}
		w.call("GET", "/clients/pikarc.tgz", "", nil).want(http.StatusNotFound)
	}
}
