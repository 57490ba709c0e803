package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
)

// NewKey is what it takes to make a key.
type NewKey struct {
	Label     string
	Scope     Scope     // ScopeAgent when empty
	ExpiresAt time.Time // zero: never; rounded down to the millisecond

	first bool
}

// attributes are what the audit log says of a key.
func (k APIKey) attributes() attributes {
	f := attributes{"prefix": k.Prefix, "label": k.Label, "scope": k.Scope}
	if !k.ExpiresAt.IsZero() {
		f["expires_at"] = shownTime(k.ExpiresAt)
	}
	return f
}

// shownTime is a time as the API shows it.
func shownTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// recordKeyChange records that a workspace's keys have changed; ended says that
// a key is no longer active.
func recordKeyChange(tx *Tx, ws WorkspaceKey, ended bool) {
	tx.recordChange(Change{Workspace: ws, Kind: ConfigChanged, Part: PartAPIKey})
	if ended {
		tx.recordChange(Change{Workspace: ws, Kind: CredentialsChanged})
	}
}

// CreateKey makes a key beside those that there are. ErrTooManyKeys when
// MaxKeys are active.
func (s *Store) CreateKey(ctx context.Context, ws WorkspaceKey, in NewKey) (k APIKey, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		if k, err = s.insertKey(tx, ws, in); err != nil {
			return auditEvent{}, err
		}
		recordKeyChange(tx, ws, false)
		return auditEvent{ws: ws, action: ActionCreateKey, target: k.Prefix, after: k.attributes()}, limitKeys(tx, ws)
	})
	return k, err
}

// limitKeys fails when a workspace has come to have too many active keys.
func limitKeys(tx *Tx, ws WorkspaceKey) error {
	var active int64
	err := tx.get(`SELECT count(*) FROM api_keys
		WHERE workspace_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)`,
		[]any{ws, tx.now.UnixMilli()}, &active)
	if err == nil && active > MaxKeys {
		return ErrTooManyKeys
	}
	return err
}

// RenameKey gives a key another label, also one that has ended.
func (s *Store) RenameKey(ctx context.Context, ws WorkspaceKey, id uuid.UUID, label string) (k APIKey, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		stored, err := keyByID(tx, ws, id)
		if err != nil {
			return auditEvent{}, err
		}
		k = stored.APIKey
		event := auditEvent{ws: ws, action: ActionRenameKey, target: k.Prefix, before: attributes{"label": k.Label}, after: attributes{"label": label}}
		k.Label = label
		recordKeyChange(tx, ws, false)
		return event, tx.execOne(`UPDATE api_keys SET label = $2 WHERE id = $1`, stored.id, label)
	})
	return k, err
}

// RevokeKey ends a key, for the very next request; see KeyGrace for what it
// may still do. One that has ended already stays as it is.
func (s *Store) RevokeKey(ctx context.Context, ws WorkspaceKey, id uuid.UUID) (k APIKey, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		stored, err := keyByID(tx, ws, id)
		if err != nil {
			return auditEvent{}, err
		}
		k = stored.APIKey
		if !k.Active() {
			return auditEvent{ws: ws, action: ActionRevokeKey}, nil
		}
		k.Ended = ErrKeyRevoked
		recordKeyChange(tx, ws, true)
		return auditEvent{ws: ws, action: ActionRevokeKey, target: k.Prefix, before: k.attributes()},
			tx.execOne(`UPDATE api_keys SET revoked_at = $2, is_first = 0 WHERE id = $1`, stored.id, tx.now.UnixMilli())
	})
	return k, err
}

// Rotation says how to replace a workspace's first key.
type Rotation struct {
	Label   string
	Overlap time.Duration // for how long the old one goes on
}

// RotateKey replaces the workspace's first key. The old one ends for the very
// next request, or after the overlap; the new one is an agent's.
func (s *Store) RotateKey(ctx context.Context, ws WorkspaceKey, in Rotation) (k APIKey, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: ActionRotateKey}
		var id KeyID
		var prefix, label string
		err := tx.get(`UPDATE api_keys SET is_first = 0 WHERE workspace_id = $1 AND is_first = 1 RETURNING id, prefix, label`,
			[]any{ws}, &id, &prefix, &label)
		switch {
		case err == nil:
			event.before = attributes{"prefix": prefix, "label": label}
			if err := endAfter(tx, id, in.Overlap); err != nil {
				return event, err
			}
		case !errors.Is(err, ErrNotFound): // it may have been revoked
			return event, err
		}
		recordKeyChange(tx, ws, true)
		if k, err = s.insertKey(tx, ws, NewKey{Label: in.Label, first: true}); err != nil {
			return event, err
		}
		event.after = attributes{"prefix": k.Prefix, "label": in.Label}
		if event.before != nil && in.Overlap > 0 {
			event.after["overlap_seconds"] = int64(in.Overlap / time.Second)
		}
		return event, limitKeys(tx, ws)
	})
	return k, err
}

// endAfter ends a key now or, with an overlap, later.
func endAfter(tx *Tx, id KeyID, overlap time.Duration) error {
	if overlap > 0 {
		_, err := tx.exec(`UPDATE api_keys SET expires_at = $2 WHERE id = $1 AND revoked_at IS NULL`, id, tx.now.Add(overlap).UnixMilli())
		return err
	}
	_, err := tx.exec(`UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL`, id, tx.now.UnixMilli())
	return err
}

// insertKey makes a key with a prefix that no other key has: of 2^32 prefixes
// some are taken in a large installation, so it tries again.
func (s *Store) insertKey(tx *Tx, ws WorkspaceKey, in NewKey) (APIKey, error) {
	const attempts = 8
	if in.Scope == "" {
		in.Scope = ScopeAgent
	}
	for range attempts {
		full := auth.NewAPIKey()
		k := APIKey{
			ID: newID(tx.now), Prefix: full.Prefix, Full: full.Reveal(), Label: in.Label, Scope: in.Scope,
			CreatedAt: tx.now.Truncate(time.Millisecond), ExpiresAt: in.ExpiresAt.Truncate(time.Millisecond).UTC(),
		}
		sealed, err := s.secret.Seal(k.Full, k.ID.String())
		if err != nil {
			return APIKey{}, fmt.Errorf("seal the API key: %w", err)
		}
		hash := full.Hash()
		err = tx.execOne(`INSERT INTO api_keys (uuid, workspace_id, prefix, hash, sealed, label, created_at, scope, expires_at, is_first)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (prefix) DO NOTHING`,
			k.ID[:], ws, k.Prefix, hash[:], sealed, in.Label, k.CreatedAt.UnixMilli(), string(in.Scope), nullMillis(k.ExpiresAt), boolInt(in.first))
		if !errors.Is(err, ErrNotFound) {
			return k, err
		}
	}
	return APIKey{}, errors.New("no free API key prefix found")
}

// keyUse remembers when keys were last used, until RecordKeyUse writes it. So
// the use of a key costs a call two atomic reads, and the file a small write a
// minute for all keys together.
type keyUse struct{ keys sync.Map } // KeyID to *lastUse

// lastUse counts in minutes since 1970.
type lastUse struct{ minute, written atomic.Int64 }

// millisPerMinute is how precisely last_used_at is kept: a key's row is written once a minute at
// most.
const millisPerMinute = 60_000

// KeyUsed records that a call was made with a key, to the minute.
func (s *Store) KeyUsed(id KeyID) {
	found, known := s.keyUse.keys.Load(id)
	if !known {
		found, _ = s.keyUse.keys.LoadOrStore(id, &lastUse{})
	}
	use := found.(*lastUse)
	minute := s.now().UnixMilli() / millisPerMinute
	if use.minute.Load() < minute {
		use.minute.Store(minute) // two at once differ by a minute at most
	}
}

// last is when a key was last used, as far as is remembered.
func (u *keyUse) last(id KeyID) time.Time {
	if found, known := u.keys.Load(id); known {
		return time.UnixMilli(found.(*lastUse).minute.Load() * millisPerMinute).UTC()
	}
	return time.Time{}
}

// keyUsed is a key's use that is to be written.
type keyUsed struct {
	id     KeyID
	minute int64
	use    *lastUse
}

// pending lists what is to be written, and drops keys that were not used lately.
func (u *keyUse) pending(now time.Time) (list []keyUsed) {
	const remembered = 60 // minutes
	current := now.UnixMilli() / millisPerMinute
	u.keys.Range(func(key, value any) bool {
		use := value.(*lastUse)
		minute := use.minute.Load()
		switch {
		case minute != use.written.Load():
			list = append(list, keyUsed{key.(KeyID), minute, use})
		case minute < current-remembered:
			u.keys.CompareAndDelete(key, value)
		}
		return true
	})
	return list
}

// RecordKeyUse writes when keys were last used, and returns of how many. What
// it has not come to when it fails is written by the next call.
func (s *Store) RecordKeyUse(ctx context.Context) (recorded int, err error) {
	list := s.keyUse.pending(s.now())
	// Several nodes write at the same minute: in one order they wait for each other.
	slices.SortFunc(list, func(a, b keyUsed) int { return cmp.Compare(a.id, b.id) })
	for part := range slices.Chunk(list, upkeepChunk) {
		of := func(keyUsed) WorkspaceKey { return noWorkspace }
		err := runUpkeepEach(ctx, s, modeAside, part, of, func(tx *Tx, k keyUsed) error {
			return tx.queue(`UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND coalesce(last_used_at, 0) < $2`,
				k.id, k.minute*millisPerMinute)
		})
		if err != nil {
			return recorded, fmt.Errorf("record when keys were used: %w", err)
		}
		for _, k := range part {
			k.use.written.Store(k.minute)
		}
		recorded += len(part)
	}
	return recorded, nil
}
