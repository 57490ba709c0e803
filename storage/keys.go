package storage

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
)

// APIKey is a key of a workspace as it may be shown again.
type APIKey struct {
	ID         uuid.UUID
	Prefix     string
	Full       string // empty when it cannot be opened, as after a change of the server secret, and in lists
	Label      string
	Scope      Scope
	Ended      error // nil while it is active; else ErrKeyRevoked or ErrKeyExpired
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero: never
	LastUsedAt time.Time // to the minute; zero: never
	// RunningRuns is how many runs that the key started are RUNNING; only in lists.
	RunningRuns int64
}

// Active reports whether the key could be used when it was read.
func (k APIKey) Active() bool { return k.Ended == nil }

// Scope is what a key may do. It never changes.
type Scope string

// The scopes.
const (
	ScopeAgent Scope = "agent" // asks, reports and reads
	// ScopeRead reads everything and changes nothing.
	ScopeRead  Scope = "read"
	ScopeAdmin Scope = "admin" // as agent, and also writes configuration
)

// Scopes lists all of them.
func Scopes() []string { return []string{string(ScopeAgent), string(ScopeRead), string(ScopeAdmin)} }

const (
	// MaxKeys is how many active keys a workspace may have.
	MaxKeys = 100
	// MaxOverlap is how long a regenerated key may go on.
	MaxOverlap = 7 * 24 * time.Hour
	// KeyGrace is for how long after its end a key may still report on, and
	// end, the runs that it started: what was spent is not lost, and slots are
	// given back. Runs that are silent for as long are ended as idle anyway.
	KeyGrace = time.Hour
	// DefaultKeyLabel names a key whose maker gave no label.
	DefaultKeyLabel = "default"
)

// KeyID is the internal id of an API key.
type KeyID int64

// Caller is the workspace that a call is for. Key is the API key that said so,
// 0 when a session did: the writer checks inside the transaction that it is
// active, and answers ErrKeyRevoked or ErrKeyExpired if not. Runs keep it.
type Caller struct {
	Workspace WorkspaceKey
	Key       KeyID
}

// keyEnd is when a key ends.
type keyEnd struct{ revokedAt, expiresAt sql.NullInt64 } // milliseconds

// err is nil while the key is active, and otherwise says how it ended.
func (e keyEnd) err(now time.Time) error {
	switch {
	case e.revokedAt.Valid:
		return ErrKeyRevoked
	case e.expiresAt.Valid && now.UnixMilli() >= e.expiresAt.Int64:
		return ErrKeyExpired
	default:
		return nil
	}
}

// mayFinish reports whether a key that has ended may still report on its runs and end them.
func (e keyEnd) mayFinish(now time.Time) bool {
	ended := int64(math.MaxInt64)
	for _, end := range []sql.NullInt64{e.revokedAt, e.expiresAt} {
		if end.Valid {
			ended = min(ended, end.Int64)
		}
	}
	return now.UnixMilli()-ended < KeyGrace.Milliseconds()
}

// Credential is what a caller's proof is checked against.
type Credential struct {
	Workspace WorkspaceKey
	Account   uuid.UUID
	Key       KeyID
	Hash      []byte // of the API key
	Scope     Scope  // of the API key
	KeyEnded  error  // nil for an active API key; else ErrKeyRevoked or ErrKeyExpired
	MayFinish bool   // KeyEnded less than KeyGrace ago
	Version   int64  // of the account's tokens
	Ended     bool   // the session was signed out
}

// KeyCredential finds the API key with a prefix, whether or not it is active.
func (s *Store) KeyCredential(ctx context.Context, prefix string) (c Credential, err error) {
	err = s.readFrom(ctx, forCredentials, func(tx *Tx) error {
		var end keyEnd
		err := tx.get(`SELECT k.id, k.workspace_id, a.uuid, k.hash, k.scope, k.revoked_at, k.expires_at FROM api_keys k
			LEFT JOIN workspaces w ON w.id = k.workspace_id LEFT JOIN accounts a ON a.id = w.account_id
			WHERE k.prefix = $1`, []any{prefix}, &c.Key, &c.Workspace, &c.Account, &c.Hash, &c.Scope, &end.revokedAt, &end.expiresAt)
		c.KeyEnded = end.err(tx.now)
		c.MayFinish = c.KeyEnded != nil && end.mayFinish(tx.now)
		if err == nil && c.Account == uuid.Nil {
			err = missingRow("an API key's workspace or account")
		}
		return err
	})
	err = s.markCorrupt(err)
	if err == nil && c.KeyEnded == nil {
		s.cachedKeys.Add(prefix, c)
	}
	return c, err
}

// CachedKey is KeyCredential from a cache: it knows the keys that were active
// when last looked up. Only calls that name the key to the writer, as their
// Caller, may rely on it, and a key that it does not know may still be active.
func (s *Store) CachedKey(prefix string) (Credential, bool) { return s.cachedKeys.Get(prefix) }

// InvalidateKey has the next call with that key looked up.
func (s *Store) InvalidateKey(prefix string) { s.cachedKeys.Remove(prefix) }

// selectKey reads what scanKey scans.
const selectKey = `SELECT id, uuid, prefix, label, scope, created_at, revoked_at, expires_at, last_used_at FROM api_keys
	WHERE workspace_id = $1`

// storedKey is a row of api_keys, without its secrets.
type storedKey struct {
	APIKey
	id  KeyID
	end keyEnd
}

// scanKey scans a key, and more columns after it. Whether it has ended depends on now.
func scanKey(now time.Time, scan func(...any) error, more ...any) (k storedKey, err error) {
	var created int64
	var used sql.NullInt64
	err = scan(append([]any{
		&k.id, &k.ID, &k.Prefix, &k.Label, &k.Scope, &created, &k.end.revokedAt, &k.end.expiresAt, &used,
	}, more...)...)
	k.CreatedAt, k.ExpiresAt, k.LastUsedAt = time.UnixMilli(created).UTC(), timeOf(k.end.expiresAt), timeOf(used)
	k.Ended = k.end.err(now)
	return k, err
}

// keyByID reads a key of a workspace.
func keyByID(tx *Tx, ws WorkspaceKey, id uuid.UUID) (storedKey, error) {
	return scanKey(tx.now, func(dest ...any) error { return tx.get(selectKey+` AND uuid = $2`, []any{ws, id[:]}, dest...) })
}

// APIKey returns the workspace's first key: the one that regenerating replaces.
func (s *Store) APIKey(ctx context.Context, ws WorkspaceKey) (k APIKey, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		var id KeyID
		err := tx.get(`SELECT id FROM api_keys WHERE workspace_id = $1 AND is_first = 1 AND revoked_at IS NULL`, []any{ws}, &id)
		if err != nil {
			return err
		}
		var sealed []byte
		if err := tx.get(`SELECT sealed FROM api_keys WHERE id = $1`, []any{id}, &sealed); err != nil {
			return err
		}
		stored, err := scanKey(tx.now, func(dest ...any) error { return tx.get(selectKey+` AND id = $2`, []any{ws, id}, dest...) })
		k = stored.APIKey
		// Not an error: the key still works, it just cannot be shown.
		k.Full, _ = s.secret.Open(sealed, k.ID.String())
		return err
	})
	return k, err
}

// KeyFilter narrows a list of keys; zero values ask for all.
type KeyFilter struct {
	Active *bool
	Limit  int64
	Cursor string
}

// APIKeys lists a workspace's keys, also those of the past, newest first, and
// the cursor of the next page ("" at the end).
func (s *Store) APIKeys(ctx context.Context, ws WorkspaceKey, f KeyFilter) (keys []APIKey, next string, err error) {
	below := int64(math.MaxInt64)
	if f.Cursor != "" {
		key, err := parseCursor(listKeys, int64(ws), f.Cursor, 8)
		if err != nil {
			return nil, "", err
		}
		below = int64(binary.BigEndian.Uint64(key))
	}
	err = s.read(ctx, func(tx *Tx) error {
		query, args := selectKey+` AND id < $2`, []any{ws, below, f.Limit + 1}
		// A key ends by being revoked or by its date; neither is a status that is stored.
		if f.Active != nil {
			args = append(args, tx.now.UnixMilli())
			if *f.Active {
				query += ` AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4)`
			} else {
				query += ` AND (revoked_at IS NOT NULL OR expires_at <= $4)`
			}
		}
		var stored []storedKey
		err := tx.each(query+` ORDER BY id DESC LIMIT $3`, args, func(rows scanner) error {
			k, err := scanKey(tx.now, rows.Scan)
			stored = append(stored, k)
			return err
		})
		if err != nil {
			return err
		}
		if int64(len(stored)) > f.Limit {
			stored = stored[:f.Limit]
			last := binary.BigEndian.AppendUint64(nil, uint64(stored[f.Limit-1].id))
			next = cursor(listKeys, int64(ws), last)
		}
		keys, err = s.withUse(tx, ws, stored)
		return err
	})
	return keys, next, err
}

// withUse adds what a list says of keys beyond their rows.
func (s *Store) withUse(tx *Tx, ws WorkspaceKey, stored []storedKey) ([]APIKey, error) {
	running := make(map[KeyID]int64)
	err := tx.each(`SELECT key_id, count(*) FROM runs WHERE status = $2 AND workspace_id = $1 AND key_id IS NOT NULL GROUP BY key_id`,
		[]any{ws, int64(RunRunning)}, func(rows scanner) error {
			var id KeyID
			var n int64
			err := rows.Scan(&id, &n)
			running[id] = n
			return err
		})
	keys := make([]APIKey, len(stored))
	for i, k := range stored {
		k.RunningRuns = running[k.id]
		if used := s.keyUse.last(k.id); used.After(k.LastUsedAt) {
			k.LastUsedAt = used
		}
		keys[i] = k.APIKey
	}
	return slices.Clip(keys), err
}

// checkKey returns when the caller's key ends, and an error when it has ended.
// A caller without a key passes.
func (c Caller) checkKey(tx *Tx) (keyEnd, error) {
	if c.Key == 0 {
		return keyEnd{}, nil
	}
	k, err := tx.cache.keys.get(tx, idKey{c.Workspace, int64(c.Key)})
	if errors.Is(err, ErrNotFound) {
		return keyEnd{}, ErrKeyRevoked
	}
	if err != nil {
		return keyEnd{}, err
	}
	return k.end, k.end.err(tx.now)
}

// authorize loads the caller's workspace; the caller's key must be active.
func authorize(tx *Tx, c Caller) (*cachedWorkspace, error) {
	if _, err := c.checkKey(tx); err != nil {
		return nil, err
	}
	return tx.cache.workspaces.get(tx, c.Workspace)
}

// authorizeReport loads a run that the caller reports on or ends, and its
// workspace. A key that has ended may still do so for KeyGrace, with the runs
// that it started.
func authorizeReport(tx *Tx, c Caller, id uuid.UUID) (*cachedWorkspace, *cachedRun, error) {
	end, ended := c.checkKey(tx)
	if ended != nil && !end.mayFinish(tx.now) {
		return nil, nil, ended
	}
	ws, err := tx.cache.workspaces.get(tx, c.Workspace)
	if err != nil {
		return nil, nil, err
	}
	r, err := tx.cache.runs.get(tx, runKey{ws.key, id})
	if ended != nil && (errors.Is(err, ErrNotFound) || err == nil && r.keyID != c.Key) {
		return nil, nil, ended
	}
	return ws, r, err
}
