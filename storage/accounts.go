package storage

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/plans"
)

// Account is a person who signs in.
type Account struct {
	ID    uuid.UUID
	Email string
	// The hash is a PHC string; TokenVersion is in each session token and raised by a new password,
	// which ends them all.
	PasswordHash string
	TokenVersion int64
	CreatedAt    time.Time
	Workspace    uuid.UUID
}

// NewAccount is what it takes to make one, with its workspace and first key.
type NewAccount struct {
	Email         string
	PasswordHash  string
	WorkspaceName string // empty: "My workspace"
	Plan          plans.ID
	First         bool        // it must be the first of all; ErrAccountExists when it is not
	Address       string      // from which it registers, as SignedIn takes it; "" when there is none
	Session       *NewSession // that registering begins; nil when there is none
}

// HasAccounts reports whether anybody has an account.
func (s *Store) HasAccounts(ctx context.Context) (has bool, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		has, err = hasAccounts(tx)
		return err
	})
	return has, err
}

// CreateAccount makes an account, its workspace and an API key. It returns
// ErrConflict when the email, folded, is taken.
func (s *Store) CreateAccount(ctx context.Context, in NewAccount) (a Account, w Workspace, k APIKey, err error) {
	if in.WorkspaceName == "" {
		in.WorkspaceName = "My workspace"
	}
	scope := noWorkspace
	if in.First {
		scope = wholeDatabase // so that there is only one
	}
	err = s.configure(ctx, scope, func(tx *Tx) (auditEvent, error) {
		plan, err := plans.ByID(in.Plan)
		if err != nil {
			return auditEvent{}, err
		}
		a = Account{
			ID: newID(tx.now), Email: in.Email, PasswordHash: in.PasswordHash, TokenVersion: 1,
			CreatedAt: tx.now.Truncate(time.Millisecond),
		}
		// Inside the transaction, because two people may register at once on a new server.
		if in.First {
			switch has, err := hasAccounts(tx); {
			case err != nil:
				return auditEvent{}, err
			case has:
				return auditEvent{}, ErrAccountExists
			}
		}
		accountID, err := insertAccount(tx, a)
		if err != nil {
			return auditEvent{}, err
		}
		if w, err = insertWorkspace(tx, accountID, in.WorkspaceName, plan); err != nil {
			return auditEvent{}, err
		}
		a.Workspace = w.ID
		tx.scope = w.key // of which nobody else can know yet
		// The network that an account registers from is one that it is known to sign in from.
		if in.Address != "" {
			if err := rememberAddress(tx, a.ID, in.Address); err != nil {
				return auditEvent{}, err
			}
		}
		if in.Session != nil {
			if err := recordSession(tx, accountID, a.TokenVersion, *in.Session); err != nil {
				return auditEvent{}, err
			}
		}
		k, err = s.insertKey(tx, w.key, NewKey{Label: DefaultKeyLabel, first: true})
		return auditEvent{ws: w.key, action: ActionRegister, target: a.Email, after: attributes{
			"email": a.Email, "workspace_name": w.Name, "plan": plan.ID, "api_key_prefix": k.Prefix,
		}}, err
	})
	return a, w, k, err
}

// insertAccount stores a new account and returns its internal id: ErrConflict if an account has
// this email. Two emails are the same if their keys are, see emailKey.
func insertAccount(tx *Tx, a Account) (int64, error) {
	var id int64
	err := tx.get(`INSERT INTO accounts (uuid, email, email_key, password_hash, token_version, created_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (email_key) DO NOTHING RETURNING id`,
		[]any{a.ID[:], a.Email, emailKey(a.Email), a.PasswordHash, a.TokenVersion, a.CreatedAt.UnixMilli()}, &id)
	if errors.Is(err, ErrNotFound) {
		return 0, ErrConflict
	}
	return id, err
}

// hasAccounts reports whether anybody has registered yet. The internal accounts, whose ids are not
// positive, do not count.
func hasAccounts(tx *Tx) (bool, error) {
	var id int64
	err := tx.get(`SELECT id FROM accounts WHERE id > 0 ORDER BY id LIMIT 1`, nil, &id)
	return err == nil, ignoreNotFound(err)
}

// AccountSummary is an account as the operator sees it in a list.
type AccountSummary struct {
	Account
	WorkspaceName string
	Plan          plans.ID
}

// Accounts lists all accounts, oldest first.
func (s *Store) Accounts(ctx context.Context) (all []AccountSummary, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT a.uuid, a.email, a.created_at, w.uuid, w.name, w.plan
			FROM accounts a JOIN workspaces w ON w.account_id = a.id ORDER BY a.id`, nil, func(rows scanner) error {
			var a AccountSummary
			var created int64
			err := rows.Scan(&a.ID, &a.Email, &created, &a.Workspace, &a.WorkspaceName, &a.Plan)
			a.CreatedAt = time.UnixMilli(created).UTC()
			all = append(all, a)
			return err
		})
	})
	return all, err
}

// emailKey is what makes two emails the same one.
func emailKey(email string) string { return strings.ToLower(email) }

// selectAccount reads what scanAccount scans. An account has exactly one workspace.
const selectAccount = `SELECT a.uuid, a.email, a.password_hash, a.token_version, a.created_at, w.uuid
	FROM accounts a JOIN workspaces w ON w.account_id = a.id WHERE `

// AccountByEmail finds an account, whatever the letters' case.
func (s *Store) AccountByEmail(ctx context.Context, email string) (a Account, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		a, err = scanAccount(tx, selectAccount+`a.email_key = $1`, emailKey(email))
		return err
	})
	return a, err
}

// Account finds an account by its id.
func (s *Store) Account(ctx context.Context, id uuid.UUID) (a Account, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		a, err = scanAccount(tx, selectAccount+`a.uuid = $1`, id[:])
		return err
	})
	return a, err
}

// scanAccount reads the account of a query that begins with selectAccount: ErrNotFound if there is
// none.
func scanAccount(tx *Tx, query string, arg any) (a Account, err error) {
	var created int64
	err = tx.get(query, []any{arg}, &a.ID, &a.Email, &a.PasswordHash, &a.TokenVersion, &created, &a.Workspace)
	a.CreatedAt = time.UnixMilli(created).UTC()
	return a, err
}

// ChangePassword replaces the password hash and raises the token version,
// which ends every earlier token; the session goes on with a new one. ErrBadPassword when the hash
// that the caller verified is no longer the one stored.
func (s *Store) ChangePassword(ctx context.Context, account uuid.UUID, verified, replacement string, session NewSession,
) (version int64, err error) {
	ws, err := s.workspaceOf(ctx, account)
	if errors.Is(err, ErrNotFound) {
		err = ErrBadPassword
	}
	if err != nil {
		return 0, err
	}
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		var accountID int64
		var event auditEvent
		err := tx.get(`UPDATE accounts SET password_hash = $3, token_version = token_version + 1
			WHERE uuid = $1 AND password_hash = $2 RETURNING id, email, token_version`,
			[]any{account[:], verified, replacement}, &accountID, &event.target, &version)
		if errors.Is(err, ErrNotFound) {
			return event, ErrBadPassword
		}
		if err != nil {
			return event, err
		}
		event.action, event.always = ActionChangePassword, true
		if err = tx.get(`SELECT id FROM workspaces WHERE account_id = $1`, []any{accountID}, &event.ws); err != nil {
			return event, err
		}
		tx.recordChange(Change{Workspace: event.ws, Kind: CredentialsChanged})
		return event, recordSession(tx, accountID, version, session)
	})
	return version, err
}

// TokenCredential finds the account and workspace that a session's token names,
// if they belong together, and whether the session has been ended.
func (s *Store) TokenCredential(ctx context.Context, account, workspace uuid.UUID, session auth.SessionID) (c Credential, err error) {
	err = s.readFrom(ctx, forCredentials, func(tx *Tx) error {
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

// SetPassword replaces an account's password hash, whatever it was, and ends
// all its sessions.
func (s *Store) SetPassword(ctx context.Context, account uuid.UUID, hash string) error {
	ws, err := s.workspaceOf(ctx, account)
	if err != nil {
		return err
	}
	return s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event, accountID, err := sessionEvent(tx, account, ActionSetPassword)
		if err != nil {
			return event, err
		}
		return event, tx.execOne(`UPDATE accounts SET password_hash = $2, token_version = token_version + 1 WHERE id = $1`,
			accountID, hash)
	})
}

// workspaceOf finds an account's workspace, of which there is never another one.
func (s *Store) workspaceOf(ctx context.Context, account uuid.UUID) (ws WorkspaceKey, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		return tx.get(`SELECT w.id FROM workspaces w JOIN accounts a ON a.id = w.account_id WHERE a.uuid = $1`,
			[]any{account[:]}, &ws)
	})
	return ws, err
}

const (
	// addressMemory is how long an address from which an account signed in is remembered.
	addressMemory = 180 * 24 * time.Hour
	// addressesRemembered is how many an account has at most: the latest.
	addressesRemembered = 100
)

// SignedIn records that an account's password was shown, rightly or not, and
// from which address ("" when there is none). It begins a session, which is nil where the password
// was wrong. An account that does not exist leaves no entry, but takes a write as well, so that the
// time of the answer tells nothing.
func (s *Store) SignedIn(ctx context.Context, account Account, address string, session *NewSession) error {
	actor, action := actorOf(ctx), ActionSignInFailed
	if session != nil {
		actor, action = Actor{Kind: ActorAccount, Name: account.Email, Address: actor.Address}, ActionSignIn
	}
	ws, err := s.workspaceOf(ctx, account.ID)
	if account.ID == uuid.Nil && errors.Is(err, ErrNotFound) {
		ws, err = noWorkspace, nil
	}
	if err != nil {
		return err
	}
	return s.writeIn(ctx, ws, modeCached, func(tx *Tx) error {
		if account.ID == uuid.Nil {
			return writeProbe(tx)
		}
		if session != nil && address != "" {
			if err := rememberAddress(tx, account.ID, address); err != nil {
				return err
			}
		}
		if session != nil {
			id, err := accountID(tx, account.ID)
			if err == nil {
				err = recordSession(tx, id, account.TokenVersion, *session)
			}
			if err != nil {
				return err
			}
		}
		return recordAccountEvent(tx, actor, account, action)
	})
}

// ChangePasswordFailed records that somebody who is signed in did not know the password.
func (s *Store) ChangePasswordFailed(ctx context.Context, account Account) error {
	ws, err := s.workspaceOf(ctx, account.ID)
	if err != nil {
		return err
	}
	return s.writeIn(ctx, ws, modeCached, func(tx *Tx) error {
		return recordAccountEvent(tx, actorOf(ctx), account, ActionChangePasswordFailed)
	})
}

// recordAccountEvent writes an entry about an account itself.
func recordAccountEvent(tx *Tx, actor Actor, account Account, action Action) error {
	return recordAudit(tx, actor, auditEvent{ws: tx.scope, action: action, target: account.Email, always: true})
}

// accountID is the internal id of an account.
func accountID(tx *Tx, account uuid.UUID) (id int64, err error) {
	err = tx.get(`SELECT id FROM accounts WHERE uuid = $1`, []any{account[:]}, &id)
	return id, err
}

// rememberAddress keeps the latest addresses of an account.
func rememberAddress(tx *Tx, account uuid.UUID, address string) error {
	id, err := accountID(tx, account)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO sign_in_addresses (account_id, address, last_at) VALUES ($1, $2, $3)
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
