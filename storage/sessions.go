package storage

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
)

// TokenCredential finds the account and workspace that a session's token names,
// if they belong together, and whether the session has been ended.
func (s *Store) TokenCredential(ctx context.Context, account, workspace uuid.UUID, session auth.SessionID) (c Credential, err error) {
	err = s.readFrom(ctx, s.credentials, func(tx *Tx) error {
		var owned int64
		err := tx.get(`SELECT coalesce(w.id, 0), a.uuid, a.token_version, (SELECT count(*) FROM ended_sessions e WHERE e.session = $3),
				(SELECT count(*) FROM workspaces o WHERE o.account_id = a.id)
			FROM accounts a LEFT JOIN workspaces w ON w.account_id = a.id AND w.uuid = $2 WHERE a.uuid = $1`,
			[]any{account[:], workspace[:], session[:]}, &c.Workspace, &c.Account, &c.Version, &c.Ended, &owned)
		switch {
		case err != nil || c.Workspace != 0:
			return err
		case owned == 0:
			return missingRow("an account's workspace")
		default:
			return ErrNotFound
		}
	})
	return c, s.markCorrupt(err)
}

// EndSession ends one session of an account, for the very next request. It is
// remembered until its token expires.
func (s *Store) EndSession(ctx context.Context, account uuid.UUID, session auth.SessionID, expires time.Time) error {
	return s.configure(ctx, func(tx *Tx) (auditEvent, error) {
		event, accountID, err := sessionEvent(tx, account, ActionSignOut)
		if err != nil {
			return event, err
		}
		_, err = tx.exec(`INSERT INTO ended_sessions (session, account_id, expires_at) VALUES ($1, $2, $3)
			ON CONFLICT (session) DO NOTHING`, session[:], accountID, expires.UnixMilli())
		return event, err
	})
}

// EndAllSessions ends every session of an account, for the very next request.
func (s *Store) EndAllSessions(ctx context.Context, account uuid.UUID) error {
	return s.configure(ctx, func(tx *Tx) (auditEvent, error) {
		event, accountID, err := sessionEvent(tx, account, ActionSignOutEverywhere)
		if err != nil {
			return event, err
		}
		return event, tx.execOne(`UPDATE accounts SET token_version = token_version + 1 WHERE id = $1`, accountID)
	})
}

// SetPassword replaces an account's password hash, whatever it was, and ends
// all its sessions.
func (s *Store) SetPassword(ctx context.Context, account uuid.UUID, hash string) error {
	return s.configure(ctx, func(tx *Tx) (auditEvent, error) {
		event, accountID, err := sessionEvent(tx, account, ActionSetPassword)
		if err != nil {
			return event, err
		}
		return event, tx.execOne(`UPDATE accounts SET password_hash = $2, token_version = token_version + 1 WHERE id = $1`,
			accountID, hash)
	})
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

// expireSessions deletes ended sessions whose tokens have expired. It does so a
// day later, so that a clock that is set back revives none.
func (s *Store) expireSessions(ctx context.Context) error {
	for more := true; more; {
		err := s.runUpkeep(ctx, modeSQL, func(tx *Tx) (bool, error) {
			n, err := tx.exec(`DELETE FROM ended_sessions WHERE session IN
				(SELECT session FROM ended_sessions WHERE expires_at < $1 LIMIT $2)`,
				tx.now.AddDate(0, 0, -1).UnixMilli(), upkeepChunk)
			more = n == upkeepChunk
			return more, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	// addressMemory is how long an address from which an account signed in is remembered.
	addressMemory = 180 * 24 * time.Hour
	// addressesRemembered is how many an account has at most: the latest.
	addressesRemembered = 100
)

// SignedIn records that an account's password was shown, rightly or not, and
// from which address ("" when there is none). An account that does not exist
// leaves no entry, but takes a write as well, so that the time of the answer
// tells nothing.
func (s *Store) SignedIn(ctx context.Context, account Account, address string, ok bool) error {
	actor, action := actorOf(ctx), ActionSignInFailed
	if ok {
		actor, action = Actor{Kind: ActorAccount, Name: account.Email, Address: actor.Address}, ActionSignIn
	}
	return s.write(ctx, modeCached, func(tx *Tx) error {
		if account.ID == uuid.Nil {
			return writeProbe(tx)
		}
		if ok && address != "" {
			if err := rememberAddress(tx, account.ID, address); err != nil {
				return err
			}
		}
		return recordAccountEvent(tx, actor, account, action)
	})
}

// ChangePasswordFailed records that somebody who is signed in did not know the password.
func (s *Store) ChangePasswordFailed(ctx context.Context, account Account) error {
	return s.write(ctx, modeCached, func(tx *Tx) error {
		return recordAccountEvent(tx, actorOf(ctx), account, ActionChangePasswordFailed)
	})
}

// recordAccountEvent writes an entry about an account itself.
func recordAccountEvent(tx *Tx, actor Actor, account Account, action Action) error {
	var ws WorkspaceKey
	err := tx.get(`SELECT w.id FROM workspaces w JOIN accounts a ON a.id = w.account_id WHERE a.uuid = $1`,
		[]any{account.ID[:]}, &ws)
	if err != nil {
		return err
	}
	return recordAudit(tx, actor, auditEvent{ws: ws, action: action, target: account.Email, always: true})
}

// rememberAddress keeps the latest addresses of an account.
func rememberAddress(tx *Tx, account uuid.UUID, address string) error {
	var id int64
	if err := tx.get(`SELECT id FROM accounts WHERE uuid = $1`, []any{account[:]}, &id); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO sign_in_addresses (account_id, address, last_at) VALUES ($1, $2, $3)
		ON CONFLICT (account_id, address) DO UPDATE SET last_at = excluded.last_at`, id, address, tx.now.UnixMilli())
	if err != nil {
		return err
	}
	// One comes at a time, so one goes at a time.
	_, err = tx.exec(`DELETE FROM sign_in_addresses WHERE account_id = $1 AND (last_at < $2
		OR last_at = (SELECT MIN(last_at) FROM sign_in_addresses WHERE account_id = $1)
			AND (SELECT count(*) FROM sign_in_addresses WHERE account_id = $1) > $3)`,
		id, tx.now.Add(-addressMemory).UnixMilli(), addressesRemembered)
	return err
}

// HasSignedInFrom reports whether an account has signed in from an address.
func (s *Store) HasSignedInFrom(ctx context.Context, account uuid.UUID, address string) (has bool, err error) {
	var last int64
	err = s.read(ctx, func(tx *Tx) error {
		return tx.get(`SELECT s.last_at FROM sign_in_addresses s JOIN accounts a ON a.id = s.account_id
			WHERE a.uuid = $1 AND s.address = $2`, []any{account[:], address}, &last)
	})
	return err == nil && last >= s.now().Add(-addressMemory).UnixMilli(), ignoreNotFound(err)
}
