package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// validBasePath is a path that needs no escaping anywhere.
var validBasePath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

// CheckBasePath reports what is wrong with a path below which a proxy shows
// this server. "" is the root. A path that the server has itself is refused:
// requests are served with the base path and without it, and would be ambiguous.
func CheckBasePath(base string) error {
	if base == "" {
		return nil
	}
	if !validBasePath.MatchString(base) {
		return errors.New("write a path such as /pikarc, of letters, digits, dots and dashes, " +
			"without a slash at its end")
	}
	if first := firstSegment(base); slices.Contains(ownSegments(), first) {
		return fmt.Errorf("the server has a path /%s itself: choose another", first)
	}
	return nil
}

// ownSegments are the first segments of all paths of the API and the dashboard.
func ownSegments() []string {
	own := []string{"v1", "health", "openapi.json", "assets", "clients", "decide"}
	for _, page := range pages() {
		own = append(own, firstSegment(page))
	}
	return own
}

// firstSegment returns the part of a path up to its second slash, without slashes.
func firstSegment(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return first
}

// serveBelow serves what is asked for below the base path, and without it:
// one proxy strips the prefix that it serves, another passes it on.
func serveBelow(base string, next http.Handler) http.Handler {
	if base == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, below := cutBase(r.URL.Path, base)
		raw, rawBelow := "", true
		if r.URL.RawPath != "" {
			raw, rawBelow = cutBase(r.URL.RawPath, base)
		}
		if below && rawBelow {
			stripped := *r // as http.StripPrefix does: a handler may not change its request
			stripped.URL = new(url.URL)
			*stripped.URL = *r.URL
			stripped.URL.Path, stripped.URL.RawPath = path, raw
			r = &stripped
		}
		next.ServeHTTP(w, r)
	})
}

// cutBase returns what follows the base path, and whether the path is below it: /app is the base of
// /app/x, and not of /apple.
func cutBase(path, base string) (rest string, below bool) {
	rest, below = strings.CutPrefix(path, base)
	switch {
	case !below || rest != "" && rest[0] != '/':
		return path, false
	case rest == "":
		return "/", true
	default:
		return rest, true
	}
}

// inPage puts the base path before each attribute of a page that begins with a
// slash: addresses of this server, and what tells the dashboard where it lies.
func inPage(content []byte, base string) []byte {
	return []byte(strings.ReplaceAll(string(content), `="/`, `="`+base+`/`))
}

// inDocument names the base path as the server of the OpenAPI document.
func inDocument(document []byte, base string) []byte {
	if base == "" {
		return document
	}
	return []byte(strings.Replace(string(document), `"servers": [{"url": "/"`,
		`"servers": [{"url": "`+base+`"`, 1))
}
