package server

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/pikarc/server/storage"
)

type apiKeyJSON struct {
	ID        uuid.UUID `json:"id"`
	Prefix    string    `json:"prefix"`
	Key       word      `json:"key"` // null when it cannot be shown
	Label     string    `json:"label"`
	IsActive  bool      `json:"is_active"`
	CreatedAt instant   `json:"created_at"`
}

func apiKeyOf(k storage.APIKey) apiKeyJSON {
	return apiKeyJSON{ID: k.ID, Prefix: k.Prefix, Key: word(k.Full), Label: k.Label, IsActive: true, CreatedAt: instant(k.CreatedAt)}
}

// NewKey is what a rotated key looks like, in the API and on the command line.
type NewKey struct {
	ID        uuid.UUID `json:"id"`
	Prefix    string    `json:"prefix"`
	Label     string    `json:"label"`
	Key       string    `json:"key"`
	CreatedAt instant   `json:"created_at"`
}

// NewKeyOf shows a key that was just made.
func NewKeyOf(k storage.APIKey) NewKey {
	return NewKey{ID: k.ID, Prefix: k.Prefix, Label: k.Label, Key: k.Full, CreatedAt: instant(k.CreatedAt)}
}

func (s *Server) readAPIKey(c *call) error {
	k, err := s.store.APIKey(c.ctx(), c.who.workspace)
	if err != nil {
		return orNotFound(err, "No active API key")
	}
	if c.who.byKey {
		k.Full = "" // an agent has its key; what leaks from it should not be shown again
	}
	c.json(http.StatusOK, apiKeyOf(k))
	return nil
}

func (s *Server) regenerateAPIKey(c *call) error {
	o, err := s.optionalObject(c)
	if err != nil {
		return err
	}
	label := o.OptionalString("label", 1, MaxName)
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	if label == nil {
		label = new(string)
		*label = storage.DefaultKeyLabel
	}
	k, err := s.store.RotateKey(c.ctx(), c.who.workspace, *label)
	if err != nil {
		return err
	}
	c.json(http.StatusOK, NewKeyOf(k))
	return nil
}
