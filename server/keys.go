package server

import (
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// apiKeyJSON is the workspace's first key, which may be shown again.
type apiKeyJSON struct {
	ID        uuid.UUID       `json:"id"`
	Prefix    string          `json:"prefix"`
	Key       wire.NullString `json:"key"` // null when it cannot be shown
	Label     string          `json:"label"`
	IsActive  bool            `json:"is_active"`
	CreatedAt wire.Time       `json:"created_at"`
}

// apiKeyOf converts the workspace's first key.
func apiKeyOf(k storage.APIKey) apiKeyJSON {
	return apiKeyJSON{ID: k.ID, Prefix: k.Prefix, Key: wire.NullString(k.Full), Label: k.Label,
		IsActive: true, CreatedAt: wire.Time(k.CreatedAt)}
}

// NewKey is what a rotated key looks like, in the API and on the command line.
type NewKey struct {
	ID        uuid.UUID `json:"id"`
	Prefix    string    `json:"prefix"`
	Label     string    `json:"label"`
	Key       string    `json:"key"`
	CreatedAt wire.Time `json:"created_at"`
}

// NewKeyOf shows a key that was just made in the place of another.
func NewKeyOf(k storage.APIKey) NewKey {
	return NewKey{ID: k.ID, Prefix: k.Prefix, Label: k.Label, Key: k.Full,
		CreatedAt: wire.Time(k.CreatedAt)}
}

// CreatedKey is what a key made beside others looks like, in the API and on
// the command line: the only time that it is shown.
type CreatedKey struct {
	ID        uuid.UUID     `json:"id"`
	Prefix    string        `json:"prefix"`
	Label     string        `json:"label"`
	Scope     storage.Scope `json:"scope"`
	Key       string        `json:"key"`
	CreatedAt wire.Time     `json:"created_at"`
	ExpiresAt wire.Time     `json:"expires_at"` // null: never
}

// CreatedKeyOf shows a key that was just made.
func CreatedKeyOf(k storage.APIKey) CreatedKey {
	return CreatedKey{k.ID, k.Prefix, k.Label, k.Scope, k.Full, wire.Time(k.CreatedAt),
		wire.Time(k.ExpiresAt)}
}

// ListedKey is one of a workspace's keys, in the API's list and the command line's.
type ListedKey struct {
	keyJSON
	RunningRuns int64 `json:"running_runs"`
}

// keyJSON is a key without its secret.
type keyJSON struct {
	ID         uuid.UUID     `json:"id"`
	Prefix     string        `json:"prefix"`
	Label      string        `json:"label"`
	Scope      storage.Scope `json:"scope"`
	IsActive   bool          `json:"is_active"`
	CreatedAt  wire.Time     `json:"created_at"`
	ExpiresAt  wire.Time     `json:"expires_at"`
	LastUsedAt wire.Time     `json:"last_used_at"`
}

// keyOf converts a listed key, whose secret part nobody can see.
func keyOf(k storage.APIKey) keyJSON {
	return keyJSON{
		k.ID, k.Prefix, k.Label, k.Scope, k.Active(), wire.Time(k.CreatedAt),
		wire.Time(k.ExpiresAt), wire.Time(k.LastUsedAt),
	}
}

// ListedKeyOf shows a key of a list.
func ListedKeyOf(k storage.APIKey) ListedKey { return ListedKey{keyOf(k), k.RunningRuns} }

// readAPIKey answers GET /v1/api-keys/ with the workspace's first key. A person may see it in full
// again; a caller with a key may not.
func (s *Server) readAPIKey(c *call) error {
	k, err := s.store.APIKey(c.ctx(), c.who.workspace)
	if err != nil {
		return orNotFound(err, "No active API key")
	}
	if c.who.byKey() {
		k.Full = "" // an agent has its key; what leaks from it should not be shown again
	}
	c.json(http.StatusOK, apiKeyOf(k))
	return nil
}

// regenerateAPIKey answers POST /v1/api-keys/regenerate: a new key replaces the first one, which
// ends at once or after overlap_seconds.
func (s *Server) regenerateAPIKey(c *call) error {
	o, err := s.optionalObject(c)
	if err != nil {
		return err
	}
	label := o.OptionalString("label", 1, MaxName)
	overlap := o.OptionalInt("overlap_seconds", 0, int64(storage.MaxOverlap/time.Second))
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	in := storage.Rotation{Label: storage.DefaultKeyLabel}
	if label != nil {
		in.Label = *label
	}
	if overlap != nil {
		in.Overlap = time.Duration(*overlap) * time.Second
	}
	k, err := s.store.RotateKey(c.ctx(), c.who.workspace, in)
	if err != nil {
		return err
	}
	c.json(http.StatusOK, NewKeyOf(k))
	return nil
}

// listAPIKeys answers GET /v1/api-keys/all.
func (s *Server) listAPIKeys(c *call) error {
	q := request.ReadQuery(c.r)
	f := storage.KeyFilter{
		Active: q.Bool("active"),
		Limit:  q.Int("limit", pageLength, 1, maxPage),
		Cursor: q.String("cursor", maxCursor),
	}
	if err := q.Err(); err != nil {
		return err
	}
	keys, next, err := s.store.APIKeys(c.ctx(), c.who.workspace, f)
	return c.ok(page{wire.Map(keys, ListedKeyOf), wire.NullString(next)},
		badCursor(err, "cursor", f.Cursor))
}

// createAPIKey answers POST /v1/api-keys/ with a key beside the others. Only its hash is kept: it
// cannot be shown again.
func (s *Server) createAPIKey(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	in := storage.NewKey{
		Label:     o.String("label", 1, MaxName),
		Scope:     storage.Scope(o.OptionalLiteral("scope", storage.Scopes()...)),
		ExpiresAt: o.OptionalFuture("expires_at", s.Now()),
	}
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	k, err := s.store.CreateKey(c.ctx(), c.who.workspace, in)
	if err != nil {
		return err
	}
	c.json(http.StatusCreated, CreatedKeyOf(k))
	return nil
}

// renameAPIKey answers PATCH /v1/api-keys/{id}. Only the label can be changed.
func (s *Server) renameAPIKey(c *call) error {
	id, idErr := c.pathID("key_id")
	o, err := s.object(c)
	if err != nil {
		return request.Join(idErr, err)
	}
	label := o.String("label", 1, MaxName)
	o.RefuseUnknown()
	if err := request.Join(idErr, o.Err()); err != nil {
		return err
	}
	k, err := s.store.RenameKey(c.ctx(), c.who.workspace, id, label)
	return answerKey(c, k, err)
}

// revokeAPIKey answers DELETE /v1/api-keys/{id}. It holds for the very next request; the row stays,
// because runs refer to it.
func (s *Server) revokeAPIKey(c *call) error {
	id, err := c.pathID("key_id")
	if err != nil {
		return err
	}
	k, err := s.store.RevokeKey(c.ctx(), c.who.workspace, id)
	return answerKey(c, k, err)
}

// answerKey answers a key, or 404.
func answerKey(c *call, k storage.APIKey, err error) error {
	return c.ok(keyOf(k), orNotFound(err, "API key not found"))
}
