package server

import (
	_ "embed"
	"net/http"
	"slices"
	"strings"

	"github.com/pikarc/server/server/clients"
)

//go:embed openapi.json
var openAPIDocument []byte

// health answers GET /health: the process runs. It asks nothing, so that a slow disk does not get
// the process restarted.
func (s *Server) health(c *call) error {
	c.json(http.StatusOK, map[string]string{"status": "ok", "version": s.Version})
	return nil
}

// describe tells what a page must know before anybody has signed in.
func (s *Server) describe(c *call) error {
	registration := "closed"
	open, err := s.mayRegister(c)
	if err != nil {
		return err
	}
	if open {
		registration = "open"
	}
	found, err := s.store.HasAccounts(c.ctx())
	return c.ok(struct {
		Version        string `json:"version"`
		Registration   string `json:"registration"`
		HasAccounts    bool   `json:"has_accounts"`
		BillingEnabled bool   `json:"billing_enabled"`
		Node           string `json:"node,omitempty"`
	}{s.Version, registration, found, s.billingEnabled(), s.Node}, err)
}

// ready answers GET /health/ready: decisions can be made and stored.
func (s *Server) ready(c *call) error {
	return c.ok(map[string]string{"status": "ready"}, s.store.Ready(c.ctx()))
}

// openAPI answers GET /openapi.json, from memory.
func (s *Server) openAPI(c *call) error {
	c.body(http.StatusOK, jsonType, s.document)
	return nil
}

// listClients answers with a page of links, which pip's --find-links reads too,
// or with JSON for who asks for just that.
func (s *Server) listClients(c *call) error {
	files, err := s.packages()
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Add("Vary", "Accept")
	if strings.Contains(c.r.Header.Get("Accept"), jsonType[0]) {
		return c.ok(map[string]any{"items": files}, nil)
	}
	page, err := clients.Page(files, s.BasePath)
	if err != nil {
		return err
	}
	pageHeaders(h)
	c.body(http.StatusOK, []string{contentTypes()[".html"]}, page)
	return nil
}

// readClient answers with a package of a client library.
func (s *Server) readClient(c *call) error {
	files, err := s.packages()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(files, func(f clients.File) bool {
		return f.Name == c.params.ByName("file")
	})
	if i < 0 {
		return notFound("This server has no such file: GET /clients/ lists those it has")
	}
	f, h := files[i], c.w.Header()
	h.Set("Cache-Control", "no-cache")
	h["Content-Type"] = []string{f.ContentType()}
	return c.file(f.Content, f.ETag())
}
