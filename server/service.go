package server

import (
	_ "embed"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed openapi.json
var openAPIDocument []byte

func (s *Server) health(c *call) error {
	c.json(http.StatusOK, map[string]string{"status": "ok", "version": s.Version})
	return nil
}

// describe tells what a page must know before anybody has signed in.
func (s *Server) describe(c *call) error {
	registration := "closed"
	if s.OpenRegistration {
		registration = "open"
	}
	c.json(http.StatusOK, struct {
		Version        string `json:"version"`
		Registration   string `json:"registration"`
		BillingEnabled bool   `json:"billing_enabled"`
	}{s.Version, registration, s.billingEnabled()})
	return nil
}

func (s *Server) ready(c *call) error {
	return c.ok(map[string]string{"status": "ready"}, s.store.Ready(c.ctx()))
}

func (s *Server) openAPI(c *call) error {
	c.body(http.StatusOK, "application/json", openAPIDocument)
	return nil
}

// serveDashboard answers every path that is no call of the API: a file of the
// dashboard, or 404.
func (s *Server) serveDashboard(c *call) error {
	name := strings.Trim(c.r.URL.Path, "/")
	if name == "" {
		name = "index.html"
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead || !fs.ValidPath(name) {
		return notFound("Not Found")
	}
	content, err := fs.ReadFile(s.Dashboard, name)
	if err != nil { // no such file, or a directory
		return notFound("Not Found")
	}
	h := c.w.Header()
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	h.Set("Referrer-Policy", "no-referrer")
	c.body(http.StatusOK, mime.TypeByExtension(path.Ext(name)), content)
	return nil
}
