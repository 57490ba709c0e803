package server_test

import (
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

func below(base string) func(*server.Config) {
	return func(cfg *server.Config) { cfg.BasePath = base }
}

// A proxy that strips its prefix asks for /v1, one that does not for /pikarc/v1.
func TestBelowABasePathEveryCallAnswersWithThePrefixAndWithoutIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, below("/tools/pikarc"))
	for _, prefix := range []string{"", "/tools/pikarc"} {
		w.call("GET", prefix+"/health", "", nil).want(http.StatusOK)
		w.call("GET", prefix+"/v1/runs", "", nil).wantDetail(http.StatusUnauthorized, "Not authenticated")
		w.call("GET", prefix+"/v1/runs/", "", nil).wantDetail(http.StatusUnauthorized, "Not authenticated")
		w.call("GET", prefix+"/v1/nothing", "", nil).wantDetail(http.StatusNotFound, "Not Found")
		w.call("PUT", prefix+"/health", "", nil).wantDetail(http.StatusMethodNotAllowed, "Method Not Allowed")
		if got := w.call("GET", prefix+"/v1/server", "", nil).want(http.StatusOK); got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%q: the API's answer may be kept: %v", prefix, got.header)
		}
	}
	for _, path := range []string{
		"/tools/pikarcs/health", "/tools", "/tools/health", "/tools/pikarc/tools/pikarc/health", "/tools/pikarc//health", "/%74ools/pikarc/health",
	} {
		w.call("GET", path, "", nil).wantDetail(http.StatusNotFound, "Not Found")
	}
}

// The rest of a path is an id as it was sent, whatever stands before.
func TestBelowABasePathIdsInPathsStayExact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, below("/pikarc"))
	a := w.account(plans.Scale)
	for path, want := range map[string]string{
		"/pikarc/v1/blocked-users/a%2Fb": "a/b", "/v1/blocked-users/a%2Fc": "a/c",
		"/pikarc/v1/blocked-users/pikarc/v1": "pikarc/v1", "/pikarc/v1/blocked-users/a%20d/": "a d",
	} {
		user := w.call("PUT", path, a.token, nil).want(http.StatusOK).text("user_id")
		if user != want {
			t.Errorf("%s blocked %q, want %q", path, user, want)
		}
	}
}

func TestPagesBelowABasePathNameTheirFilesBelowIt(t *testing.T) {
	t.Parallel()
	page := `<!doctype html><meta name="base-path" content="/" /><title>Pikarc</title>` +
		`<link rel="icon" href="/assets/icon.svg"><a href="#top" title="a/b">a = "/" b</a><script src="/assets/ui.js"></script>`
	want := `<!doctype html><meta name="base-path" content="/pikarc/" /><title>Pikarc</title>` +
		`<link rel="icon" href="/pikarc/assets/icon.svg"><a href="#top" title="a/b">a = "/" b</a><script src="/pikarc/assets/ui.js"></script>`
	w := newWorld(t, below("/pikarc"), func(cfg *server.Config) {
		cfg.Dashboard = fstest.MapFS{
			"index.html": {Data: []byte(page)}, "index.html.br": {Data: []byte("of the other page")},
			"index.html.gz": {Data: []byte("of the other page")}, "assets/ui.js": {Data: []byte(`export const a="/b"`)},
		}
	})
	for _, path := range []string{"/pikarc", "/pikarc/", "/pikarc/overview", "/pikarc/runs/" + unknownID, "/pikarc/index.html", "/", "/overview"} {
		got := w.call("GET", path, "", nil, "Accept-Encoding", "identity").want(http.StatusOK)
		if string(got.body) != want {
			t.Errorf("%s is\n%s\nwant\n%s", path, got.body, want)
		}
		if csp := got.header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'self'") {
			t.Errorf("%s has the policy %q", path, csp)
		}
	}
	packed := w.call("GET", "/pikarc/", "", nil, "Accept-Encoding", "br, gzip").want(http.StatusOK)
	if packed.header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("the page is encoded as %q", packed.header.Get("Content-Encoding"))
	}
	unpack, err := gzip.NewReader(strings.NewReader(string(packed.body)))
	if err != nil {
		t.Fatal(err)
	}
	if content, err := io.ReadAll(unpack); err != nil || string(content) != want {
		t.Errorf("compressed it is %q, %v", content, err)
	}
	script := w.call("GET", "/pikarc/assets/ui.js", "", nil).want(http.StatusOK)
	if string(script.body) != `export const a="/b"` || !strings.Contains(script.header.Get("Cache-Control"), "immutable") {
		t.Errorf("the script is %q, cached %q", script.body, script.header.Get("Cache-Control"))
	}
}

// Whichever dashboard the binary carries, and the page that stands for it.
func TestEveryFileThatTheEmbeddedPagesNameIsThereBelowABasePath(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]fs.FS{"embedded": embed.Dashboard(), "placeholder": os.DirFS("../embed/placeholder")} {
		w := newWorld(t, below("/pikarc"), func(cfg *server.Config) { cfg.Dashboard = files })
		page := string(w.call("GET", "/pikarc/", "", nil, "Accept-Encoding", "identity").want(http.StatusOK).body)
		named := regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(page, -1)
		if len(named) < 2 {
			t.Errorf("the %s page names %d files: %s", name, len(named), page)
		}
		for _, address := range named {
			if strings.HasPrefix(address[1], "data:") {
				continue
			}
			if !strings.HasPrefix(address[1], "/pikarc/") {
				t.Errorf("the %s page names %s", name, address[1])
			}
			w.call("GET", address[1], "", nil).want(http.StatusOK)
		}
	}
}

func TestTheDocumentNamesTheBasePathAsItsServer(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]string{"": "/", "/pikarc": "/pikarc"} {
		w := newWorld(t, below(base))
		if got := w.call("GET", base+"/openapi.json", "", nil).want(http.StatusOK).text("servers.0.url"); got != want {
			t.Errorf("below %q the document names %q", base, got)
		}
	}
}

func TestABasePathThatIsNoneOrIsTakenIsRefused(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", "/pikarc", "/a/b.c/d_e~f-1", "/tools/v1"} {
		if err := server.CheckBasePath(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	bad := []string{"/", "pikarc", "/pikarc/", "//a", "/a//b", "/a b", "/a%20b", "/ä", "/..", "/a/..", "/.", `/a"b`, "/a?b", "/a#b", "/assets", "/assets/x"}
	for _, rt := range newWorld(t).server.TestRoutes() {
		bad = append(bad, "/"+strings.Split(rt.Path, "/")[1])
	}
	bad = append(bad, "/runs", "/users/x", "/sign-in", "/docs")
	for _, base := range bad {
		if server.CheckBasePath(base) == nil {
			t.Errorf("%q is taken", base)
		}
	}
}
