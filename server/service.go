package server

import (
	_ "embed"
	"net/http"
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
	}{s.Version, registration, found, s.billingEnabled()}, err)
}

func (s *Server) ready(c *call) error {
	return c.ok(map[string]string{"status": "ready"}, s.store.Ready(c.ctx()))
}

func (s *Server) openAPI(c *call) error {
	c.body(http.StatusOK, jsonType, s.document)
	return nil
}
