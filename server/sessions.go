package server

import (
	"errors"
	"net/http"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// newSession is a session that begins with a call.
func (s *Server) newSession(c *call) storage.NewSession {
	return storage.NewSession{ID: auth.NewSessionID(), Agent: agentOf(c.r),
		Expires: s.tokens.Expiry()}
}

// sameSession is the session that makes a call, which goes on with a new token.
func (s *Server) sameSession(c *call) storage.NewSession {
	session := s.newSession(c)
	session.ID = c.who.session
	return session
}

// agentOf is what the caller's browser or program says it is: at most 200 characters of one line.
func agentOf(r *http.Request) string {
	const most = 200
	printable := func(char rune) rune {
		if unicode.IsPrint(char) {
			return char
		}
		return -1
	}
	agent := []rune(strings.Map(printable, strings.ToValidUTF8(r.UserAgent(), "")))
	return strings.TrimSpace(string(agent[:min(len(agent), most)]))
}

// sessionJSON is a session as its owner sees it.
type sessionJSON struct {
	ID         uuid.UUID `json:"id"`
	Agent      *string   `json:"agent"`
	CreatedAt  wire.Time `json:"created_at"`
	LastUsedAt wire.Time `json:"last_used_at"`
	ExpiresAt  wire.Time `json:"expires_at"`
	Current    bool      `json:"current"`
}

// listSessions answers GET /v1/auth/sessions: where the account is signed in.
func (s *Server) listSessions(c *call) error {
	list, count, err := s.store.Sessions(c.ctx(), c.who.account)
	if err != nil {
		return err
	}
	items := make([]sessionJSON, len(list))
	for i, session := range list {
		items[i] = sessionJSON{
			ID: uuid.UUID(session.ID), CreatedAt: wire.Time(session.CreatedAt),
			LastUsedAt: wire.Time(session.UsedAt), ExpiresAt: wire.Time(session.Expires),
			Current: session.ID == c.who.session,
		}
		if session.Agent != "" {
			items[i].Agent = &session.Agent
		}
	}
	c.json(http.StatusOK, struct {
		Items []sessionJSON `json:"items"`
		Total int64         `json:"total"`
	}{items, count})
	return nil
}

// endSession answers DELETE /v1/auth/sessions/{session_id}: it ends one session, of which the list
// has the id.
func (s *Server) endSession(c *call) error {
	id, err := c.pathID("session_id")
	if err != nil {
		return err
	}
	err = s.store.EndListedSession(c.ctx(), c.who.account, auth.SessionID(id))
	return c.signedOut(orNotFound(err, "Session not found"))
}

// logoutOthers answers POST /v1/auth/logout-others: it ends all sessions but the one that asks, which
// goes on with the token of the answer, and no longer than it would have: only a password begins anew.
func (s *Server) logoutOthers(c *call) error {
	if err := s.emptyBody(c); err != nil {
		return err
	}
	account, err := s.store.Account(c.ctx(), c.who.account)
	if err != nil {
		return err
	}
	session := s.sameSession(c)
	session.Expires = c.who.expires
	account.TokenVersion, err = s.store.EndOtherSessions(c.ctx(), account.ID, c.who.version, session)
	if errors.Is(err, storage.ErrNotFound) { // it has ended since the call began
		return unauthenticated("Token is no longer valid")
	}
	if err != nil {
		return err
	}
	return c.ok(s.issueToken(account, session))
}

// logout ends the session that asks, on every device that has its token.
func (s *Server) logout(c *call) error {
	if err := s.emptyBody(c); err != nil {
		return err
	}
	return c.signedOut(s.store.EndSession(c.ctx(), c.who.account, c.who.session, c.who.expires))
}

// logoutEverywhere ends all sessions of the account.
func (s *Server) logoutEverywhere(c *call) error {
	if err := s.emptyBody(c); err != nil {
		return err
	}
	return c.signedOut(s.store.EndAllSessions(c.ctx(), c.who.account))
}

// emptyBody reads the body of a call that takes none of any meaning.
func (s *Server) emptyBody(c *call) error {
	o, err := s.optionalObject(c)
	if err != nil {
		return err
	}
	o.RefuseUnknown()
	return o.Err()
}

// signedOut answers that sessions have ended.
func (c *call) signedOut(err error) error {
	return c.ok(map[string]string{"status": "signed_out"}, err)
}
