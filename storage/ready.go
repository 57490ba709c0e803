package storage

import (
	"context"
	"sync"
	"time"
)

// probeInterval bounds how often readiness checks may write.
const probeInterval = time.Second

// probe remembers the latest readiness check.
type probe struct {
	sync.Mutex
	at  time.Time
	err error
}

// Ready proves that the schema is the one this binary knows and that the
// writer commits; it asks at most once a second, and repeats the answer in
// between. ErrSchemaOld, ErrSchemaNewer, ErrBusy or ErrUnavailable otherwise.
func (s *Store) Ready(ctx context.Context) error {
	s.probe.Lock()
	defer s.probe.Unlock()
	if time.Since(s.probe.at) < probeInterval {
		return s.probe.err
	}
	err := s.checkReady(ctx)
	if ctx.Err() == nil { // a caller that went away says nothing about the store
		s.probe.at, s.probe.err = time.Now(), err
	}
	return err
}

func (s *Store) checkReady(ctx context.Context) error {
	version, err := readSchemaVersion(ctx, s.db)
	if err != nil {
		return classify(err)
	}
	if err := (Schema{Current: version, Newest: s.version}).Err(); err != nil {
		return err
	}
	return s.write(ctx, inMemory, probeWrite)
}

// probeWrite changes a row that nothing depends on.
func probeWrite(tx *Tx) error {
	_, err := tx.exec(`INSERT INTO probes (id, checked_at) VALUES (1, $1)
		ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at`, tx.now.UnixMilli())
	return err
}
