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
	byKey     bool          // an API key; otherwise a token
	prefix    string        // of the key
	recalled  storage.KeyID // 0 when the key was looked up; else the store must make sure of it

	session auth.SessionID // of a token
	expires time.Time      // when the token does
}

// caller is the principal as the store's calls of agents take it.
func (p principal) caller() storage.Caller {
	return storage.Caller{Workspace: p.workspace, Key: p.recalled}
}

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
func (s *Server) identify(ctx context.Context, needs permissions, header string) (principal, error) {
	scheme, credential, _ := strings.Cut(header, " ")
	credential = strings.TrimSpace(credential)
	if !strings.EqualFold(scheme, "Bearer") || credential == "" {
		return principal{}, unauthenticated("Not authenticated")
	}
	if auth.LooksLikeAPIKey(credential) {
		if err := refuseKey(needs); err != nil {
			return principal{}, err
		}
		return s.checkKey(ctx, credential, needs.checkedByWriter())
	}
	if err := refuseSession(needs); err != nil {
		return principal{}, err
	}
	return s.checkToken(ctx, credential)
}

// checkKey looks a key up, or recalls it where the store makes sure of it later.
func (s *Server) checkKey(ctx context.Context, credential string, recall bool) (principal, error) {
	key, err := auth.ParseAPIKey(credential)
	if err != nil {
		return principal{}, invalidKey()
	}
	if recall {
		if found, ok := s.store.RecallKey(key.Prefix); ok && key.Matches(found.Hash) {
			return principal{
				workspace: found.Workspace, account: found.Account,
				byKey: true, prefix: key.Prefix, recalled: found.Key,
			}, nil
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
	}
	return principal{workspace: found.Workspace, account: found.Account, byKey: true, prefix: key.Prefix}, nil
}

func invalidKey() error { return unauthenticated("Invalid API key") }

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
	return principal{
		workspace: found.Workspace, account: found.Account,
		session: claims.Session, expires: claims.ExpiresAt,
	}, nil
}
