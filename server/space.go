package server

import (
	"time"
)

// expiringWithin is how far ahead one is told what retention will delete.
const expiringWithin = 24 * time.Hour

type fileJSON struct {
	Bytes     int64 `json:"bytes"`
	FreeBytes int64 `json:"free_bytes"`
	LogBytes  int64 `json:"log_bytes"`
	CanShrink bool  `json:"can_shrink"`
}

type spaceJSON struct {
	File     *fileJSON    `json:"file"`
	Expiring expiringJSON `json:"expiring"`
}

type expiringJSON struct {
	WithinHours int64 `json:"within_hours"`
	Runs        int64 `json:"runs"`
	Bytes       int64 `json:"bytes"`
}

// readSpace tells what retention will free of the caller's workspace and, where
// no plans are sold and tenants so are the operator's own, how full the file is.
func (s *Server) readSpace(c *call) error {
	e, err := s.store.Expiring(c.ctx(), c.who.workspace, expiringWithin)
	if err != nil {
		return err
	}
	answer := spaceJSON{Expiring: expiringJSON{int64(expiringWithin / time.Hour), e.Runs, e.Bytes}}
	if !s.billingEnabled() {
		space, err := s.store.Space(c.ctx())
		if err != nil {
			return err
		}
		answer.File = &fileJSON{space.FileBytes, space.FreeBytes, s.store.Stats().WALBytes,
			space.CanShrink}
	}
	return c.ok(answer, nil)
}
