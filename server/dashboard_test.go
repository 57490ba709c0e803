package server_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/server"
)

const hostilePath = "/runs/%3Cscript%3E"

// dashboardFiles is a small built dashboard; only one file is precompressed.
func dashboardFiles() fstest.MapFS {
	file := func(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content)} }
	return fstest.MapFS{
		".gitkeep":               file(""),
		"index.html":             file("<!doctype html><title>Pikarc</title>"),
		"icon.svg":               file("<svg/>"),
		"assets/ui-1a2b.js":      file("export const plain = 1"),
		"assets/ui-1a2b.js.br":   file("brotli"),
		"assets/ui-1a2b.js.gz":   file("gzipped"),
		"assets/ui-1a2b.css":     file("body{}"),
		"assets/ui-1a2b.css.gz":  file("css gzipped"),
		"assets/download.gz":     file("a file of its own"),
		"assets/face-3c4d.woff2": file("font"),
	}
}

func withDashboard(cfg *server.Config) { cfg.Dashboard = dashboardFiles() }

func TestTheDashboardIsServedWithItsPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withDashboard)
	for path, contentType := range map[string]string{
		"/": "text/html; charset=utf-8", "/index.html": "text/html; charset=utf-8", "/icon.svg": "image/svg+xml",
		"/assets/ui-1a2b.js": "text/javascript; charset=utf-8", "/assets/ui-1a2b.css": "text/css; charset=utf-8",
		"/assets/face-3c4d.woff2": "font/woff2", "/assets/download.gz": "application/octet-stream",
	} {
		got := w.call("GET", path, "", nil, "Accept-Encoding", "identity").want(http.StatusOK)
		head := w.call("HEAD", path, "", nil, "Accept-Encoding", "identity").want(http.StatusOK)
		caching := "no-cache"
		if strings.HasPrefix(path, "/assets/") {
			caching = "public, max-age=31536000, immutable"
		}
		for _, r := range []*response{got, head} {
			for name, want := range map[string]string{
				"Content-Type":  contentType,
				"Cache-Control": caching,
				"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
					"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
				"X-Content-Type-Options":     "nosniff",
				"Referrer-Policy":            "no-referrer",
				"Permissions-Policy":         "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
				"Cross-Origin-Opener-Policy": "same-origin",
				"Content-Length":             got.header.Get("Content-Length"),
			} {
				if r.header.Get(name) != want {
					t.Errorf("%s: %s is %q, want %q", r.what, name, r.header.Get(name), want)
				}
			}
		}
		if len(got.body) == 0 || len(head.body) != 0 {
			t.Errorf("GET %s has %d bytes, HEAD %d", path, len(got.body), len(head.body))
		}
		w.call("POST", path, "", nil).wantDetail(http.StatusNotFound, "Not Found")
	}
}

func TestEachPageOfTheDashboardIsTheIndexAndNothingElseIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withDashboard)
	index := string(dashboardFiles()["index.html"].Data)
	for _, path := range []string{
		"/", "/sign-in", "/register", "/welcome", "/overview", "/runs", "/runs/" + unknownID, hostilePath, "/users", "/prices", "/limits", "/policies/large-refund", "/reviews", "/api-keys", "/notifications", "/audit",
		"/plan", "/account", "/docs", "/runs/", "/runs/" + unknownID + "/", "/overview/", "/runs?status=RUNNING",
	} {
		r := w.call("GET", path, "", nil).want(http.StatusOK)
		if string(r.body) != index || r.header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s answered %q, cached %q", path, r.body, r.header.Get("Cache-Control"))
		}
		w.call("PUT", path, "", nil).wantDetail(http.StatusNotFound, "Not Found")
	}
	for _, path := range []string{
		"/over", "/overview/x", "/runs/a/b", "/runs//", "//", "//overview", "/Overview", "/sign-in.html", "/v1/overview", "/.gitkeep", "/assets",
		"/assets/ui-1a2b.js.br", "/assets/ui-1a2b.js.gz", "/assets/ui-1a2b.js/", "/assets/../index.html", "/assets/%2e%2e/index.html",
	} {
		w.call("GET", path, "", nil).wantDetail(http.StatusNotFound, "Not Found")
	}
}

func TestPrecompressedFilesAreChosenByWhatIsAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withDashboard)
	for _, c := range []struct{ path, accept, encoding, body string }{
		{"/assets/ui-1a2b.js", "identity", "", "export const plain = 1"},
		{"/assets/ui-1a2b.js", "gzip", "gzip", "gzipped"},
		{"/assets/ui-1a2b.js", "gzip, deflate, br, zstd", "br", "brotli"},
		{"/assets/ui-1a2b.js", "gzip;q=1.0, br;q=0.5", "br", "brotli"},
		{"/assets/ui-1a2b.js", "BR", "br", "brotli"},
		{"/assets/ui-1a2b.js", "br;q=0, gzip", "gzip", "gzipped"},
		{"/assets/ui-1a2b.js", "br;q=0, *", "gzip", "gzipped"},
		{"/assets/ui-1a2b.js", "*;q=0", "", "export const plain = 1"},
		{"/assets/ui-1a2b.js", "br;q=much", "", "export const plain = 1"},
		{"/assets/ui-1a2b.js", "brotli, gzipped", "", "export const plain = 1"},
		{"/assets/ui-1a2b.css", "br, gzip", "gzip", "css gzipped"},
		{"/assets/face-3c4d.woff2", "br, gzip", "", "font"},
	} {
		r := w.call("GET", c.path, "", nil, "Accept-Encoding", c.accept).want(http.StatusOK)
		if r.header.Get("Content-Encoding") != c.encoding || string(r.body) != c.body {
			t.Errorf("%s for %q is %q in %q", c.path, c.accept, r.body, r.header.Get("Content-Encoding"))
		}
		if varies, want := r.header.Get("Vary"), !strings.HasSuffix(c.path, ".woff2"); (varies == "Accept-Encoding") != want {
			t.Errorf("%s varies by %q", c.path, varies)
		}
	}
}

func TestAnUnchangedFileIsNotSentAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withDashboard)
	etag := w.call("GET", "/", "", nil).want(http.StatusOK).header.Get("ETag")
	for _, known := range []string{etag, `"other", ` + etag, "W/" + etag, "*"} {
		r := w.call("GET", "/overview", "", nil, "If-None-Match", known).want(http.StatusNotModified)
		if len(r.body) > 0 || r.header.Get("ETag") != etag || r.header.Get("Cache-Control") != "no-cache" {
			t.Errorf("for %q: %d bytes, headers %v", known, len(r.body), r.header)
		}
	}
	w.call("GET", "/", "", nil, "If-None-Match", `"other"`).want(http.StatusOK)
	plain := w.call("GET", "/assets/ui-1a2b.js", "", nil, "Accept-Encoding", "identity").header.Get("ETag")
	w.call("GET", "/assets/ui-1a2b.js", "", nil, "Accept-Encoding", "br", "If-None-Match", plain).want(http.StatusOK)
}

// A range is one of the form that is sent: with its encoding, and with its ETag.
func TestAPartOfAFileCanBeAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withDashboard)
	for _, c := range []struct{ path, accept, encoding, body, contentRange string }{
		{"/assets/ui-1a2b.js", "identity", "", "rt const", "bytes 4-11/22"},
		{"/assets/ui-1a2b.js", "br", "br", "li", "bytes 4-5/6"},
		{"/clients/pikarc.tgz", "identity", "", "npm", "bytes 4-6/7"},
	} {
		whole := w.call("GET", c.path, "", nil, "Accept-Encoding", c.accept).want(http.StatusOK)
		if accepts := whole.header.Get("Accept-Ranges"); accepts != "bytes" {
			t.Errorf("%s: Accept-Ranges is %q", c.path, accepts)
		}
		etag := whole.header.Get("ETag")
		r := w.call("GET", c.path, "", nil, "Accept-Encoding", c.accept, "Range", "bytes=4-11", "If-Range", etag)
		r.want(http.StatusPartialContent)
		if string(r.body) != c.body || r.header.Get("Content-Range") != c.contentRange ||
			r.header.Get("Content-Encoding") != c.encoding || r.header.Get("ETag") != etag {
			t.Errorf("%s: %q with %v", r.what, r.body, r.header)
		}
		r = w.call("GET", c.path, "", nil, "Accept-Encoding", c.accept, "Range", "bytes=4-11", "If-Range", `"old"`)
		if r.want(http.StatusOK); string(r.body) != string(whole.body) {
			t.Errorf("a range of another version: %q", r.body)
		}
		w.call("GET", c.path, "", nil, "If-Match", `"other"`).
			wantDetail(http.StatusPreconditionFailed, "The file is another one than If-Match names")
		w.call("GET", c.path, "", nil, "Accept-Encoding", c.accept, "Range", "bytes=99-").
			wantDetail(http.StatusRequestedRangeNotSatisfiable, "The file has no such range: it has "+
				strconv.Itoa(len(whole.body))+" bytes")
	}
}

// Whatever the binary carries, built or not, is served and needs no inline script or style.
func TestTheEmbeddedDashboardIsServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(cfg *server.Config) { cfg.Dashboard = embed.Dashboard() })
	body := string(w.call("GET", "/", "", nil).want(http.StatusOK).body)
	for _, inline := range []string{"<style", "style=", "onclick=", "<script>"} {
		if strings.Contains(body, inline) {
			t.Errorf("the page holds %s, which its policy forbids", inline)
		}
	}
	if !strings.Contains(body, "Pikarc") {
		t.Errorf("the page is %q", body)
	}
}
