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

func (s *Server) ready(c *call) error {
	return c.ok(map[string]string{"status": "ready"}, s.store.Ready(c.ctx()))
}

func (s *Server) openAPI(c *call) error {
	c.body(http.StatusOK, jsonType, openAPIDocument)
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
	c.body(http.StatusOK, []string{mime.TypeByExtension(path.Ext(name))}, content)
	return nil
}
