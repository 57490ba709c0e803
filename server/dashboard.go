package server

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

// indexFile is the file that every page of the dashboard is served from.
const indexFile = "index.html"

// pages are the paths that the dashboard shows, so that a reload and a new
// tab work on each; a star is one segment, two are all that follows.
func pages() []string {
	return []string{
		"/", "/sign-in", "/register", "/welcome", "/overview", "/runs", "/runs/*", "/usage", "/users",
		"/users/**", "/prices", "/limits", "/policies/*", "/reviews",
		"/api-keys", "/notifications", "/audit", "/plan", "/account", "/docs",
	}
}

// contentTypes are those of the dashboard's files. They are listed here because
// package mime depends on the machine's tables.
func contentTypes() map[string]string {
	return map[string]string{
		".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
		".js":   "text/javascript; charset=utf-8",
		".json": "application/json", ".webmanifest": "application/manifest+json",
		".txt": "text/plain; charset=utf-8",
		".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon",
		".woff2": "font/woff2",
	}
}

// staticFile is a file with its precompressed forms.
type staticFile struct {
	contentType string
	immutable   bool         // its name has a hash of its content
	forms       []staticForm // the smallest first; the last is the file as it is
}

// staticForm is a file in one encoding.
type staticForm struct {
	encoding string // of Accept-Encoding; "" as it is
	content  []byte
	etag     string
}

// loadDashboard reads the dashboard's files, by the path under which each is
// served. What is compressed beside a file (.br, .gz) is a form of it and no
// file of its own. Pages are written for the base path.
func loadDashboard(files fs.FS, base string) (map[string]staticFile, error) {
	loaded := make(map[string]staticFile)
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(path.Base(name), ".") {
			return err
		}
		if isForm(files, name) {
			return nil
		}
		f := staticFile{contentType: contentTypes()[path.Ext(name)],
			immutable: strings.HasPrefix(name, "assets/")}
		if f.contentType == "" {
			f.contentType = "application/octet-stream"
		}
		if base != "" && path.Ext(name) == ".html" {
			f.forms, err = formsBelow(files, name, base)
		} else {
			f.forms, err = formsOf(files, name)
		}
		loaded["/"+name] = f
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the dashboard: %w", err)
	}
	return loaded, nil
}

// formsOf reads a file as it is, and as it was compressed when it was built.
func formsOf(files fs.FS, name string) (forms []staticForm, err error) {
	for _, form := range []struct{ encoding, ending string }{{"br", ".br"}, {"gzip", ".gz"},
		{"", ""}} {
		content, err := fs.ReadFile(files, name+form.ending)
		switch {
		case err == nil:
			forms = append(forms, newForm(form.encoding, content))
		case form.ending == "":
			return nil, err
		}
	}
	return forms, nil
}

// formsBelow writes a page for a base path, and compresses it anew.
func formsBelow(files fs.FS, name, base string) ([]staticForm, error) {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	content = inPage(content, base)
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return []staticForm{newForm("gzip", compressed.Bytes()), newForm("", content)}, nil
}

// newForm computes the ETag from the content: equal content has an equal tag, in whichever release.
func newForm(encoding string, content []byte) staticForm {
	sum := sha256.Sum256(content)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	return staticForm{encoding, content, etag}
}

// isForm reports whether a file is the compressed form of another.
func isForm(files fs.FS, name string) bool {
	ending := path.Ext(name)
	if ending != ".br" && ending != ".gz" {
		return false
	}
	_, err := fs.Stat(files, strings.TrimSuffix(name, ending))
	return err == nil
}

// serveDashboard answers every path that is no call of the API: a page or a
// file of the dashboard, or 404.
func (s *Server) serveDashboard(c *call) error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return notFound("Not Found")
	}
	name := c.r.URL.Path
	if isPage(name) {
		name = "/" + indexFile
	}
	files, err := s.dashboard()
	if err != nil {
		return err
	}
	f, found := files[name]
	if !found {
		return notFound("Not Found")
	}
	h := c.w.Header()
	pageHeaders(h)
	h.Set("Cache-Control", "no-cache")
	if f.immutable {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	form := f.choose(c.r.Header.Get("Accept-Encoding"))
	if len(f.forms) > 1 {
		h.Add("Vary", "Accept-Encoding")
	}
	if form.encoding != "" {
		h.Set("Content-Encoding", form.encoding)
	}
	h["Content-Type"] = []string{f.contentType}
	return c.file(form.content, form.etag)
}

// isPage compares a path with pages; a trailing slash makes no difference.
func isPage(name string) bool {
	return slices.ContainsFunc(pages(), func(page string) bool {
		if prefix, all := strings.CutSuffix(page, "**"); all {
			return strings.HasPrefix(name, prefix)
		}
		if prefix, one := strings.CutSuffix(page, "*"); one {
			segment, under := strings.CutPrefix(strings.TrimSuffix(name, "/"), prefix)
			return under && segment != "" && !strings.Contains(segment, "/")
		}
		return name == page || name == page+"/" && page != "/"
	})
}

// choose takes the smallest form that the caller accepts.
func (f staticFile) choose(accept string) staticForm {
	for _, form := range f.forms {
		if form.encoding == "" || accepts(accept, form.encoding) {
			return form
		}
	}
	return f.forms[len(f.forms)-1]
}

// accepts reads an Accept-Encoding header (RFC 9110, 12.5.3): what is named
// counts, else the star; a weight of 0 refuses.
func accepts(header, encoding string) bool {
	star := false
	for item := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(item), ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if name != encoding && name != "*" {
			continue
		}
		wanted := true
		if weight, weighted := strings.CutPrefix(strings.TrimSpace(params), "q="); weighted {
			q, err := strconv.ParseFloat(weight, 64)
			wanted = err == nil && q > 0
		}
		if name == encoding {
			return wanted
		}
		star = wanted
	}
	return star
}
