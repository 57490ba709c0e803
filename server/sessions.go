package server

import "net/http"

// logout ends the session that asks, on every device that has its token.
func (s *Server) logout(c *call) error {
	return s.endSessions(c, func() error {
		return s.store.EndSession(c.ctx(), c.who.account, c.who.session, c.who.expires)
	})
}

// logoutEverywhere ends all sessions of the account.
func (s *Server) logoutEverywhere(c *call) error {
	return s.endSessions(c, func() error { return s.store.EndAllSessions(c.ctx(), c.who.account) })
}

func (s *Server) endSessions(c *call, end func() error) error {
	o, err := s.optionalObject(c)
	if err != nil {
		return err
	}
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	if err := end(); err != nil {
		return err
	}
	c.json(http.StatusOK, map[string]string{"status": "signed_out"})
	return nil
}
