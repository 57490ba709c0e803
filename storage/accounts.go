package storage

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// Account is a person who signs in.
type Account struct {
	ID           uuid.UUID
	Email        string
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
	First         bool   // it must be the first of all; ErrNotFirst when it is not
	Address       string // from which it registers, as SignedIn takes it; "" when there is none
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
	err = s.configure(ctx, func(tx *Tx) (auditEvent, error) {
		plan, err := plans.ByID(in.Plan)
		if err != nil {
			return auditEvent{}, err
		}
		a = Account{
			ID: newID(tx.now), Email: in.Email, PasswordHash: in.PasswordHash, TokenVersion: 1,
			CreatedAt: tx.now.Truncate(time.Millisecond),
		}
		if in.First {
			switch has, err := hasAccounts(tx); {
			case err != nil:
				return auditEvent{}, err
			case has:
				return auditEvent{}, ErrNotFirst
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
		if in.Address != "" {
			if err := rememberAddress(tx, a.ID, in.Address); err != nil {
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

func scanAccount(tx *Tx, query string, arg any) (a Account, err error) {
	var created int64
	err = tx.get(query, []any{arg}, &a.ID, &a.Email, &a.PasswordHash, &a.TokenVersion, &created, &a.Workspace)
	a.CreatedAt = time.UnixMilli(created).UTC()
	return a, err
}

// ChangePassword replaces the password hash and raises the token version,
// which ends every earlier token. ErrBadPassword when the hash that the caller
// verified is no longer the one stored.
func (s *Store) ChangePassword(ctx context.Context, account uuid.UUID, verified, replacement string) (version int64, err error) {
	err = s.configure(ctx, func(tx *Tx) (auditEvent, error) {
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
		err = tx.get(`SELECT id FROM workspaces WHERE account_id = $1`, []any{accountID}, &event.ws)
		tx.recordChange(Change{Workspace: event.ws, Kind: CredentialsChanged})
		return event, err
	})
	return version, err
}
