package storage

import (
	"bytes"
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

// lastUses remembers when credentials were last used, until RecordKeyUse writes it. So the use of one
// costs a call two atomic reads, and the file a small write a minute for all of them together.
type lastUses[ID comparable] struct{ ids sync.Map } // ID to *lastUse

// lastUse counts in minutes since 1970.
type lastUse struct{ minute, written atomic.Int64 }

// millisPerMinute is how precisely last_used_at is kept: a credential's row is written once a minute
// at most.
const millisPerMinute = 60_000

// KeyUsed records that a call was made with a key, to the minute.
func (s *Store) KeyUsed(id KeyID) { s.keyUse.used(id, s.now()) }

// SessionUsed records that a call was made in a session, to the minute.
func (s *Store) SessionUsed(id auth.SessionID) { s.sessionUse.used(id, s.now()) }

// used records that one was used now.
func (u *lastUses[ID]) used(id ID, now time.Time) {
	found, known := u.ids.Load(id)
	if !known {
		found, _ = u.ids.LoadOrStore(id, &lastUse{})
	}
	use := found.(*lastUse)
	minute := now.UnixMilli() / millisPerMinute
	if use.minute.Load() < minute {
		use.minute.Store(minute) // two at once differ by a minute at most
	}
}

// last is when one was last used, as far as is remembered.
func (u *lastUses[ID]) last(id ID) time.Time {
	if found, known := u.ids.Load(id); known {
		return time.UnixMilli(found.(*lastUse).minute.Load() * millisPerMinute).UTC()
	}
	return time.Time{}
}

// useToWrite is a use that is to be written.
type useToWrite[ID comparable] struct {
	id     ID
	minute int64
	use    *lastUse
}

// pending lists what is to be written, and drops what was not used lately.
func (u *lastUses[ID]) pending(now time.Time) (list []useToWrite[ID]) {
	const remembered = 60 // minutes
	current := now.UnixMilli() / millisPerMinute
	u.ids.Range(func(id, value any) bool {
		use := value.(*lastUse)
		minute := use.minute.Load()
		switch {
		case minute != use.written.Load():
			list = append(list, useToWrite[ID]{id.(ID), minute, use})
		case minute < current-remembered:
			u.ids.CompareAndDelete(id, value)
		}
		return true
	})
	return list
}

// RecordKeyUse writes when keys and sessions were last used, and returns of how many. What it has not
// come to when it fails is written by the next call.
func (s *Store) RecordKeyUse(ctx context.Context) (recorded int, err error) {
	keys, err := recordUses(ctx, s, &s.keyUse, cmp.Compare[KeyID], func(tx *Tx, id KeyID, at int64) error {
		return tx.queue(`UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND coalesce(last_used_at, 0) < $2`, id, at)
	})
	if err != nil {
		return keys, fmt.Errorf("record when keys were used: %w", err)
	}
	compare := func(a, b auth.SessionID) int { return bytes.Compare(a[:], b[:]) }
	sessions, err := recordUses(ctx, s, &s.sessionUse, compare, func(tx *Tx, id auth.SessionID, at int64) error {
		return tx.queue(`UPDATE sessions SET used_at = $2 WHERE session = $1 AND used_at < $2`, id[:], at)
	})
	if err != nil {
		err = fmt.Errorf("record when sessions were used: %w", err)
	}
	return keys + sessions, err
}

// recordUses writes what is pending of one kind of credential.
func recordUses[ID comparable](
	ctx context.Context, s *Store, uses *lastUses[ID], compare func(a, b ID) int, write func(*Tx, ID, int64) error,
) (recorded int, err error) {
	list := uses.pending(s.now())
	// Several nodes write at the same minute: in one order they wait for each other.
	slices.SortFunc(list, func(a, b useToWrite[ID]) int { return compare(a.id, b.id) })
	for part := range slices.Chunk(list, upkeepChunk) {
		of := func(useToWrite[ID]) WorkspaceKey { return noWorkspace }
		err := runUpkeepEach(ctx, s, modeAside, part, of, func(tx *Tx, u useToWrite[ID]) error {
			return write(tx, u.id, u.minute*millisPerMinute)
		})
		if err != nil {
			return recorded, err
		}
		for _, u := range part {
			u.use.written.Store(u.minute)
		}
		recorded += len(part)
	}
	return recorded, nil
}

// NewSession is what is remembered of a session, so that its owner sees it.
type NewSession struct {
	ID      auth.SessionID
	Agent   string // what the browser or program says it is; "" where it says nothing
	Expires time.Time
}

// Session is a sign-in that has not ended.
type Session struct {
	NewSession
	CreatedAt, UsedAt time.Time // the second to the minute
}

// maxSessions is how many sessions are listed.
const maxSessions = 100

// recordSession remembers a session, or that it goes on with a new token.
func recordSession(tx *Tx, accountID, version int64, in NewSession) error {
	_, err := tx.exec(`INSERT INTO sessions (session, account_id, token_version, agent, created_at, used_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $5, $6) ON CONFLICT (session) DO UPDATE
			SET token_version = excluded.token_version, used_at = excluded.used_at, expires_at = excluded.expires_at`,
		in.ID[:], accountID, version, in.Agent, tx.now.UnixMilli(), in.Expires.UnixMilli())
	return err
}

// Sessions lists the sessions of an account that have not ended, the latest sign-in first, and
// returns how many there are: no more than maxSessions are listed. One that began before its sign-in
// was remembered is not known.
func (s *Store) Sessions(ctx context.Context, account uuid.UUID) (list []Session, count int64, err error) {
	const live = ` FROM accounts a JOIN sessions s ON s.account_id = a.id
		WHERE a.uuid = $1 AND s.token_version = a.token_version AND s.expires_at > $2
			AND NOT EXISTS (SELECT 1 FROM ended_sessions e WHERE e.session = s.session)`
	err = s.read(ctx, func(tx *Tx) error {
		now := tx.now.UnixMilli()
		if err := tx.get(`SELECT count(*)`+live, []any{account[:], now}, &count); err != nil {
			return err
		}
		return tx.each(`SELECT s.session, s.agent, s.created_at, s.used_at, s.expires_at`+live+`
			ORDER BY s.created_at DESC, s.session DESC LIMIT $3`, []any{account[:], now, maxSessions}, func(rows scanner) error {
			var session Session
			var id []byte
			var created, used, expires int64
			err := rows.Scan(&id, &session.Agent, &created, &used, &expires)
			if err != nil {
				return err
			}
			copy(session.ID[:], id)
			session.CreatedAt, session.Expires = time.UnixMilli(created).UTC(), time.UnixMilli(expires).UTC()
			session.UsedAt = time.UnixMilli(used).UTC()
			if remembered := s.sessionUse.last(session.ID); remembered.After(session.UsedAt) {
				session.UsedAt = remembered
			}
			list = append(list, session)
			return nil
		})
	})
	return list, count, err
}

// EndSession ends one session of an account, for the very next request. It is
// remembered until its token expires.
func (s *Store) EndSession(ctx context.Context, account uuid.UUID, session auth.SessionID, expires time.Time) error {
	ws, err := s.workspaceOf(ctx, account)
	if err != nil {
		return err
	}
	return s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event, accountID, err := sessionEvent(tx, account, ActionSignOut)
		if err != nil {
			return event, err
		}
		return event, endSession(tx, accountID, session, expires.UnixMilli())
	})
}

// EndAllSessions ends every session of an account, for the very next request.
func (s *Store) EndAllSessions(ctx context.Context, account uuid.UUID) error {
	ws, err := s.workspaceOf(ctx, account)
	if err != nil {
		return err
	}
	return s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event, accountID, err := sessionEvent(tx, account, ActionSignOutEverywhere)
		if err != nil {
			return event, err
		}
		return event, tx.execOne(`UPDATE accounts SET token_version = token_version + 1 WHERE id = $1`, accountID)
	})
}

// EndOtherSessions ends every session of an account but one, which goes on with
// a token of the version that is returned. ErrNotFound if the session, whose
// token is of a version, has ended itself.
func (s *Store) EndOtherSessions(ctx context.Context, account uuid.UUID, of int64, session NewSession) (version int64, err error) {
	ws, err := s.workspaceOf(ctx, account)
	if err != nil {
		return 0, err
	}
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event, accountID, err := sessionEvent(tx, account, ActionEndOtherSessions)
		if err != nil {
			return event, err
		}
		err = tx.get(`UPDATE accounts SET token_version = token_version + 1 WHERE id = $1 AND token_version = $2
				AND NOT EXISTS (SELECT 1 FROM ended_sessions e WHERE e.session = $3) RETURNING token_version`,
			[]any{accountID, of, session.ID[:]}, &version)
		if err != nil {
			return event, err
		}
		return event, recordSession(tx, accountID, version, session)
	})
	return version, err
}

// EndListedSession ends a session of an account that Sessions lists; ErrNotFound if it lists none
// with that id.
func (s *Store) EndListedSession(ctx context.Context, account uuid.UUID, session auth.SessionID) error {
	ws, err := s.workspaceOf(ctx, account)
	if err != nil {
		return err
	}
	return s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event, accountID, err := sessionEvent(tx, account, ActionEndSession)
		if err != nil {
			return event, err
		}
		var agent string
		var expires int64
		err = tx.get(`SELECT s.agent, s.expires_at FROM sessions s JOIN accounts a ON a.id = s.account_id
			WHERE s.session = $1 AND s.account_id = $2 AND s.token_version = a.token_version AND s.expires_at > $3
				AND NOT EXISTS (SELECT 1 FROM ended_sessions e WHERE e.session = s.session)`,
			[]any{session[:], accountID, tx.now.UnixMilli()}, &agent, &expires)
		if err != nil {
			return event, err
		}
		if agent != "" {
			event.before = attributes{"agent": agent}
		}
		return event, endSession(tx, accountID, session, expires)
	})
}

// endSession remembers that a session has ended until its token expires.
func endSession(tx *Tx, accountID int64, session auth.SessionID, expires int64) error {
	_, err := tx.exec(`INSERT INTO ended_sessions (session, account_id, expires_at) VALUES ($1, $2, $3)
		ON CONFLICT (session) DO NOTHING`, session[:], accountID, expires)
	return err
}

// sessionEvent prepares the audit event of a change that ends sessions.
func sessionEvent(tx *Tx, account uuid.UUID, action Action) (event auditEvent, accountID int64, err error) {
	event = auditEvent{action: action, always: true}
	err = tx.get(`SELECT a.id, a.email, w.id FROM accounts a JOIN workspaces w ON w.account_id = a.id WHERE a.uuid = $1`,
		[]any{account[:]}, &accountID, &event.target, &event.ws)
	if err == nil {
		tx.recordChange(Change{Workspace: event.ws, Kind: CredentialsChanged})
	}
	return event, accountID, err
}

// expireSessions deletes sessions whose tokens have expired. It does so a day later, so that a clock
// that is set back revives none that has ended.
func (s *Store) expireSessions(ctx context.Context) error {
	for more := true; more; {
		err := s.runUpkeep(ctx, noWorkspace, modeAside, func(tx *Tx) (bool, error) {
			before := tx.now.AddDate(0, 0, -1).UnixMilli()
			ended, err := tx.exec(`DELETE FROM ended_sessions WHERE session IN
				(SELECT session FROM ended_sessions WHERE expires_at < $1 LIMIT $2)`, before, upkeepChunk)
			if err != nil {
				return false, err
			}
			expired, err := tx.exec(`DELETE FROM sessions WHERE session IN
				(SELECT session FROM sessions WHERE expires_at < $1 LIMIT $2)`, before, upkeepChunk)
			more = ended == upkeepChunk || expired == upkeepChunk
			return more, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
