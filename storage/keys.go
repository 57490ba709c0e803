package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
)

// APIKey is a workspace's key as it may be shown again.
type APIKey struct {
	ID        uuid.UUID
	Prefix    string
	Full      string // empty when it cannot be opened, as after a change of the server secret
	Label     string
	CreatedAt time.Time
}

// DefaultKeyLabel names a key whose maker gave no label.
const DefaultKeyLabel = "default"

// KeyID is the internal id of an API key.
type KeyID int64

// Caller is the workspace that an agent's call is for. Key is the API key that
// said so, if it was recalled and not looked up (see RecallKey): the writer
// then makes sure, inside the transaction, that it is still the active one, and
// answers ErrKeyRevoked if not.
type Caller struct {
	Workspace WorkspaceKey
	Key       KeyID
}

// Credential is what a caller's proof is checked against.
type Credential struct {
	Workspace WorkspaceKey
	Account   uuid.UUID
	Key       KeyID
	Hash      []byte // of the API key
	Version   int64  // of the account's tokens
	Ended     bool   // the session was signed out
}

// KeyCredential finds the active API key with a prefix.
func (s *Store) KeyCredential(ctx context.Context, prefix string) (c Credential, err error) {
	err = s.credentials.read(ctx, func(tx *Tx) error {
		return tx.get(`SELECT k.id, k.workspace_id, a.uuid, k.hash FROM api_keys k
			LEFT JOIN workspaces w ON w.id = k.workspace_id LEFT JOIN accounts a ON a.id = w.account_id
			WHERE k.prefix = $1 AND k.revoked_at IS NULL`, []any{prefix}, &c.Key, &c.Workspace, &c.Account, &c.Hash)
	})
	if err == nil && c.Account == uuid.Nil {
		err = isMissing("an API key's workspace or account")
	}
	err = s.noticeDamage(err)
	if err == nil {
		s.recalled.Add(prefix, c)
	}
	return c, err
}

// RecallKey is KeyCredential from memory: it knows the keys that were active
// when last looked up. Only calls that name the key to the writer, as their
// Caller, may rely on it, and a key that it does not know may still be active.
func (s *Store) RecallKey(prefix string) (Credential, bool) { return s.recalled.Get(prefix) }

// ForgetKey has the next call with that key looked up.
func (s *Store) ForgetKey(prefix string) { s.recalled.Remove(prefix) }

// APIKey returns the active key.
func (s *Store) APIKey(ctx context.Context, ws WorkspaceKey) (k APIKey, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		var sealed []byte
		var created int64
		err := tx.get(`SELECT uuid, prefix, sealed, label, created_at FROM api_keys
			WHERE workspace_id = $1 AND revoked_at IS NULL`, []any{ws}, &k.ID, &k.Prefix, &sealed, &k.Label, &created)
		if err != nil {
			return err
		}
		k.CreatedAt = time.UnixMilli(created).UTC()
		// Not an error: the key still works, it just cannot be shown.
		k.Full, _ = s.secret.Open(sealed, k.ID.String())
		return nil
	})
	return k, err
}

// RotateKey makes a new key and ends the old one, for the very next request.
func (s *Store) RotateKey(ctx context.Context, ws WorkspaceKey, label string) (k APIKey, err error) {
	err = s.configure(ctx, func(tx *Tx) (deed, error) {
		done := deed{ws: ws, action: ActionRotateKey}
		var prefix, oldLabel string
		err := tx.get(`UPDATE api_keys SET revoked_at = $2 WHERE workspace_id = $1 AND revoked_at IS NULL
			RETURNING prefix, label`, []any{ws, tx.now.UnixMilli()}, &prefix, &oldLabel)
		switch {
		case err == nil:
			done.was = facts{"prefix": prefix, "label": oldLabel}
		case !errors.Is(err, ErrNotFound): // there may be no active key
			return done, err
		}
		tx.note(Change{Workspace: ws, Kind: ConfigChanged, Part: PartAPIKey})
		tx.note(Change{Workspace: ws, Kind: CredentialsChanged})
		k, err = s.insertKey(tx, ws, label)
		done.became = facts{"prefix": k.Prefix, "label": label}
		return done, err
	})
	return k, err
}

// insertKey makes a key with a prefix that no other key has: of 2^32 prefixes
// some are taken in a large installation, so it tries again.
func (s *Store) insertKey(tx *Tx, ws WorkspaceKey, label string) (APIKey, error) {
	const attempts = 8
	for range attempts {
		full := auth.NewAPIKey()
		k := APIKey{
			ID: newID(tx.now), Prefix: full.Prefix, Full: full.Reveal(), Label: label,
			CreatedAt: tx.now.Truncate(time.Millisecond),
		}
		sealed, err := s.secret.Seal(k.Full, k.ID.String())
		if err != nil {
			return APIKey{}, fmt.Errorf("seal the API key: %w", err)
		}
		hash := full.Hash()
		err = tx.execOne(`INSERT INTO api_keys (uuid, workspace_id, prefix, hash, sealed, label, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (prefix) DO NOTHING`,
			k.ID[:], ws, k.Prefix, hash[:], sealed, label, k.CreatedAt.UnixMilli())
		if !errors.Is(err, ErrNotFound) {
			return k, err
		}
	}
	return APIKey{}, errors.New("no free API key prefix found")
}
