package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
)

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
	return s.write(ctx, inMemory, func(tx *Tx) error {
		if account.ID == uuid.Nil {
			return touchProbe(tx)
		}
		if ok && address != "" {
			if err := rememberAddress(tx, account.ID, address); err != nil {
				return err
			}
		}
		return recordOfAccount(tx, actor, account, action)
	})
}

// ChangePasswordFailed records that somebody who is signed in did not know the password.
func (s *Store) ChangePasswordFailed(ctx context.Context, account Account) error {
	return s.write(ctx, inMemory, func(tx *Tx) error {
		return recordOfAccount(tx, actorOf(ctx), account, ActionChangePasswordFailed)
	})
}

// recordOfAccount writes an entry about an account itself.
func recordOfAccount(tx *Tx, actor Actor, account Account, action Action) error {
	var ws WorkspaceKey
	err := tx.get(`SELECT w.id FROM workspaces w JOIN accounts a ON a.id = w.account_id WHERE a.uuid = $1`,
		[]any{account.ID[:]}, &ws)
	if err != nil {
		return err
	}
	return recordAudit(tx, actor, deed{ws: ws, action: action, target: account.Email, outcome: true})
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
