package server

import (
	"errors"
	"net"
	"net/http"
	"net/mail"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/limit"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// Password lengths, in characters.
const (
	// Lengths of a password, in characters.
	MinPassword = 8
	MaxPassword = 1024
)

// MaxName is how many characters the name of a workspace or a key may have.
const MaxName = 100

// maxEmail is the length of the longest address that SMTP can deliver to (RFC 5321).
const maxEmail = 254

// tokenJSON is an access token as OAuth 2.0 answers one, though there is no refresh token: a new
// sign-in replaces it.
type tokenJSON struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
}

// accountJSON is an account as its owner sees it.
type accountJSON struct {
	ID        uuid.UUID `json:"id"`
	Email     string    `json:"email"`
	CreatedAt wire.Time `json:"created_at"`
}

// issueToken signs the token of an account's session. The token's version is the account's: a new
// password raises it, and ends all sessions.
func (s *Server) issueToken(a storage.Account, session storage.NewSession) (tokenJSON, error) {
	token, err := s.tokens.IssueUntil(session.Expires, session.ID, a.ID.String(),
		a.Workspace.String(), a.TokenVersion)
	return tokenJSON{AccessToken: token, TokenType: "bearer",
		ExpiresIn: int64(s.tokens.Left(session.Expires) / time.Second)}, err
}

// readEmail reads a field that must look like an address.
func readEmail(o *request.Object, name string) (string, error) {
	email := o.String(name, 1, maxEmail)
	if err := o.Err(); err != nil {
		return "", nil // said once, with the other problems
	}
	return email, CheckEmail(email)
}

// CheckEmail refuses what is no plain address, with the error that a caller of the API would read.
func CheckEmail(email string) error {
	a, err := mail.ParseAddress(email)
	if err != nil || a.Address != email || utf8.RuneCountInString(email) > maxEmail {
		return request.Invalid([]any{"body", "email"}, "not a valid email address", email)
	}
	return nil
}

// register answers POST /v1/auth/register: it makes an account with its workspace and first API
// key. Unless registration is open, only the first account can be made, and only from this machine.
func (s *Server) register(c *call) error {
	open, err := s.mayRegister(c)
	if err != nil {
		return err
	}
	if !open {
		return errRegistrationClosed()
	}
	o, err := s.object(c)
	if err != nil {
		return err
	}
	email, emailErr := readEmail(o, "email")
	password := o.Secret("password", MinPassword, MaxPassword)
	name := o.OptionalString("workspace_name", 1, MaxName)
	o.RefuseUnknown()
	if err := request.Join(emailErr, o.Err()); err != nil {
		return err
	}
	// The hash is computed before the transaction: it takes tens of milliseconds on purpose, and
	// the writer must not wait for it.
	hash, err := s.hasher.Hash(c.ctx(), password)
	if err != nil {
		return err
	}
	session := s.newSession(c)
	// First makes the store check, within the transaction, that there is no account yet: two
	// callers may get this far at once.
	in := storage.NewAccount{Email: email, PasswordHash: hash, Plan: s.DefaultPlan.ID,
		Address: addressText(limit.ClientNetwork(c.from)), First: !s.OpenRegistration,
		Session: &session}
	if name != nil {
		in.WorkspaceName = *name
	}
	account, workspace, key, err := s.store.CreateAccount(c.ctx(), in)
	if errors.Is(err, storage.ErrConflict) {
		return badRequest("Email already registered")
	}
	if errors.Is(err, storage.ErrAccountExists) {
		return errRegistrationClosed()
	}
	if err != nil {
		return err
	}
	token, err := s.issueToken(account, session)
	if err != nil {
		return err
	}
	c.json(http.StatusCreated, struct {
		tokenJSON
		Account   accountJSON   `json:"account"`
		Workspace workspaceJSON `json:"workspace"`
		APIKey    apiKeyJSON    `json:"api_key"`
	}{
		tokenJSON: token,
		Account: accountJSON{ID: account.ID, Email: account.Email,
			CreatedAt: wire.Time(account.CreatedAt)},
		Workspace: workspaceOf(workspace),
		APIKey:    apiKeyOf(key),
	})
	return nil
}

// login answers POST /v1/auth/login with a token. An unknown email and a wrong password get the
// same answer, so that nobody can find out who has an account.
func (s *Server) login(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	email := o.String("email", 1, maxEmail)
	password := o.Secret("password", 1, MaxPassword)
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	account, found, err := s.accountByEmail(c, email)
	if err != nil {
		return err
	}
	address := addressText(limit.ClientNetwork(c.from))
	known, err := s.store.HasSignedInFrom(c.ctx(), account.ID, address)
	if err != nil {
		return err
	}
	// A client network from which this account has signed in before has failures of its own, so
	// that a stranger's guesses cannot lock the owner out.
	attempt, wait := s.logins.Begin(limit.Attempt{Account: email, Version: account.TokenVersion,
		Address: c.from, Known: known})
	if wait > 0 {
		return tooManyFailures(wait)
	}
	// Called for an unknown account too, so that both take as long.
	ok, err := s.checkPassword(c, account, found, password)
	var begun *storage.NewSession
	session := s.newSession(c)
	if ok {
		begun = &session
	}
	if err == nil {
		err = s.store.SignedIn(c.ctx(), account, address, begun)
	}
	if err != nil || ok {
		attempt.Cancel() // neither a broken server nor the right password counts as a failure
	}
	if err != nil {
		return err
	}
	if !ok {
		return unauthenticated("Incorrect email or password")
	}
	return c.ok(s.issueToken(account, session))
}

// tooManyFailures is the answer to a sign-in that must wait after too many wrong passwords.
func tooManyFailures(wait time.Duration) error {
	return retryLater(http.StatusTooManyRequests,
		"Too many failed attempts. Try again in "+seconds(wait)+" s.", seconds(wait))
}

// accountByEmail finds an account; one that does not exist is no error here.
func (s *Server) accountByEmail(
	c *call, email string,
) (account storage.Account, found bool, err error) {
	account, err = s.store.AccountByEmail(c.ctx(), email)
	if errors.Is(err, storage.ErrNotFound) {
		return storage.Account{}, false, nil
	}
	return account, err == nil, err
}

// checkPassword takes the same time whether or not the account exists.
func (s *Server) checkPassword(
	c *call, account storage.Account, found bool, password string,
) (bool, error) {
	if !found {
		return false, s.hasher.VerifyNone(c.ctx(), password)
	}
	return s.hasher.Verify(c.ctx(), account.PasswordHash, password)
}

// me answers GET /v1/auth/me: who is signed in, and in which workspace.
func (s *Server) me(c *call) error {
	account, err := s.store.Account(c.ctx(), c.who.account)
	if err != nil {
		return err
	}
	w, err := s.store.Workspace(c.ctx(), c.who.workspace)
	if err != nil {
		return err
	}
	type brief struct {
		ID   uuid.UUID `json:"id"`
		Name string    `json:"name"`
		Slug string    `json:"slug"`
		Plan plans.ID  `json:"plan"`
	}
	c.json(http.StatusOK, struct {
		accountJSON
		Workspace brief `json:"workspace"`
	}{
		accountJSON{ID: account.ID, Email: account.Email, CreatedAt: wire.Time(account.CreatedAt)},
		brief{w.ID, w.Name, w.Slug, w.Plan.ID},
	})
	return nil
}

// changePassword answers POST /v1/auth/change-password. It asks for the current password even
// though the caller is signed in, and answers a new token: the new password ends all earlier ones.
func (s *Server) changePassword(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	current := o.Secret("current_password", 1, MaxPassword)
	replacement := o.Secret("new_password", MinPassword, MaxPassword)
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	account, err := s.store.Account(c.ctx(), c.who.account)
	if err != nil {
		return err
	}
	wrong := badRequest("Current password is incorrect")
	if err := s.provePassword(c, account, current); err != nil {
		return err
	}
	hash, err := s.hasher.Hash(c.ctx(), replacement)
	if err != nil {
		return err
	}
	session := s.sameSession(c)
	account.TokenVersion, err = s.store.ChangePassword(c.ctx(), account.ID, account.PasswordHash,
		hash, session)
	if errors.Is(err, storage.ErrBadPassword) {
		return wrong
	}
	if err != nil {
		return err
	}
	return c.ok(s.issueToken(account, session))
}

// provePassword makes sure that who is signed in knows the password. Failures
// are counted for the account alone: only who holds one of its tokens can make them.
func (s *Server) provePassword(c *call, account storage.Account, password string) error {
	attempt, wait := s.logins.Begin(limit.Attempt{Account: account.ID.String(),
		Version: account.TokenVersion, Known: true})
	if wait > 0 {
		return tooManyFailures(wait)
	}
	ok, err := s.hasher.Verify(c.ctx(), account.PasswordHash, password)
	if err == nil && !ok {
		if err = s.store.ChangePasswordFailed(c.ctx(), account); err == nil {
			return badRequest("Current password is incorrect")
		}
	}
	attempt.Cancel()
	return err
}

// errRegistrationClosed is the 403 of a server that takes no new accounts.
func errRegistrationClosed() error { return forbidden("Registration is closed on this server") }

// mayRegister reports whether a caller may make an account. Registration that
// is open to this machine alone is so only for the first account.
func (s *Server) mayRegister(c *call) (bool, error) {
	if s.OpenRegistration || !s.LocalRegistration || !c.isLocal() || s.hasAccounts.Load() {
		return s.OpenRegistration, nil
	}
	has, err := s.store.HasAccounts(c.ctx())
	if has {
		s.hasAccounts.Store(true) // for good: none is ever deleted
	}
	return err == nil && !has, err
}

// isLocal reports whether somebody on this machine calls, and not somebody
// elsewhere through a proxy on it. A proxy that does not say so is told by the
// name under which it is called, or by HTTP/1.0, which no browser speaks.
func (c *call) isLocal() bool {
	host := c.r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(host)
	named := host == "localhost" || err == nil && addr.IsLoopback()
	return c.from.IsLoopback() && named && c.r.ProtoAtLeast(1, 1) && !throughProxy(c.r)
}

// throughProxy reports whether a header shows that a proxy passes a request on.
func throughProxy(r *http.Request) bool {
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Via"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return forwarded(r)
}
