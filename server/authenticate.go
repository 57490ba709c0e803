package server

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/storage"
)

// principal is who makes a call, as its credential proves.
type principal struct {
	workspace storage.WorkspaceKey
	account   uuid.UUID
	key       storage.KeyID // of an API key; 0 for a token
	prefix    string        // of the key
	cached    bool          // the key was not looked up: the store has yet to check it
	ended     error         // of a key that may only finish what it began; else nil

	session auth.SessionID // of a token
	version int64          // the account's when the token was issued
	expires time.Time      // when the token does
}

// caller is the principal as the store's calls of agents take it.
func (p principal) caller() storage.Caller {
	return storage.Caller{Workspace: p.workspace, Key: p.key}
}

// byKey reports whether the credential is an API key, and otherwise a token.
func (p principal) byKey() bool { return p.key != 0 }

// authenticate checks the bearer credential against what the route asks for.
func (s *Server) authenticate(c *call) error {
	if c.route.needs == public {
		return nil
	}
	var err error
	c.who, err = s.identify(c.ctx(), c.route.needs, c.r.Header.Get("Authorization"))
	return err
}

// identify checks an Authorization header against what a route needs.
func (s *Server) identify(
	ctx context.Context, needs permissions, header string,
) (principal, error) {
	scheme, credential, _ := strings.Cut(header, " ")
	credential = strings.TrimSpace(credential)
	if !strings.EqualFold(scheme, "Bearer") || credential == "" {
		return principal{}, unauthenticated("Not authenticated")
	}
	if auth.LooksLikeAPIKey(credential) {
		if err := refuseKeys(needs); err != nil {
			return principal{}, err
		}
		return s.checkKey(ctx, credential, needs)
	}
	if err := refuseSession(needs); err != nil {
		return principal{}, err
	}
	return s.checkToken(ctx, credential)
}

// checkKey looks a key up, or recalls it where the store checks it later, and
// holds what it may do against what the call needs.
func (s *Server) checkKey(
	ctx context.Context, credential string, needs permissions,
) (principal, error) {
	key, err := auth.ParseAPIKey(credential)
	if err != nil {
		return principal{}, invalidKey()
	}
	if needs.checkedByWriter() {
		if found, ok := s.store.CachedKey(key.Prefix); ok && key.Matches(found.Hash) {
			return keyHolder(key, found, true), refuseScope(needs, found.Scope)
		}
	}
	found, err := s.store.KeyCredential(ctx, key.Prefix)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return principal{}, invalidKey()
	case err != nil:
		return principal{}, err
	case !key.Matches(found.Hash):
		return principal{}, invalidKey()
	case found.KeyEnded != nil && !(found.MayFinish && afterItsEnd.has(needs)):
		return principal{}, found.KeyEnded // as the store's writer would say
	}
	if err := refuseScope(needs, found.Scope); err != nil {
		return principal{}, err
	}
	s.store.KeyUsed(found.Key)
	who := keyHolder(key, found, false)
	who.ended = found.KeyEnded
	return who, nil
}

// keyHolder is the principal of an API key. cached tells that the key was found in the cache of
// credentials; the writer then checks once more that it has not ended.
func keyHolder(key auth.APIKey, found storage.Credential, cached bool) principal {
	return principal{workspace: found.Workspace, account: found.Account, key: found.Key,
		prefix: key.Prefix, cached: cached}
}

// invalidKey is the 401 of every key that does not authenticate, whatever is wrong with it.
func invalidKey() error { return unauthenticated("Invalid API key") }

// checkToken authenticates a dashboard's session token. Its signature is not enough: the session
// may have ended on the server, so the account is looked up as well.
func (s *Server) checkToken(ctx context.Context, credential string) (principal, error) {
	claims, err := s.tokens.Parse(credential)
	switch {
	case errors.Is(err, auth.ErrExpiredToken):
		return principal{}, unauthenticated("Token has expired")
	case errors.Is(err, auth.ErrInvalidToken):
		return principal{}, unauthenticated("Invalid token")
	case err != nil:
		return principal{}, err
	}
	account, accountErr := uuid.Parse(claims.Account)
	workspace, workspaceErr := uuid.Parse(claims.Workspace)
	if accountErr != nil || workspaceErr != nil {
		return principal{}, unauthenticated("Invalid token")
	}
	found, err := s.store.TokenCredential(ctx, account, workspace, claims.Session)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return principal{}, unauthenticated("Invalid token")
	case err != nil:
		return principal{}, err
	case found.Version != claims.Version || found.Ended:
		return principal{}, unauthenticated("Token is no longer valid")
	}
	s.store.SessionUsed(claims.Session)
	return principal{
		workspace: found.Workspace, account: found.Account,
		session: claims.Session, version: claims.Version, expires: claims.ExpiresAt,
	}, nil
}
