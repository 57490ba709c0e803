package storage

import (
	"bytes"
	"context"
	"sync"
	"time"
)

// probeInterval bounds how often readiness checks may write.
const probeInterval = time.Second

// probeBytes is how much a readiness check writes: more pages than a run's start.
const probeBytes = 48 << 10

// probe remembers the latest readiness check.
type probe struct {
	sync.Mutex
	at   time.Time
	err  error
	fill byte // of what it writes: SQLite does not write what has not changed
}

// Ready proves that the schema is the one this binary knows, that the writer
// commits, and that the disk has room for what a run's start writes; it asks at most once a second, and repeats the answer in
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
	for _, readers := range []*pool{s.readers, s.credentials} {
		if err := readers.read(ctx, s.requireSchema); err != nil {
			return err
		}
	}
	return s.write(ctx, inMemory, func(tx *Tx) error {
		s.probe.fill++
		room := bytes.Repeat([]byte{s.probe.fill}, probeBytes)
		_, err := tx.exec(`INSERT INTO probes (id, checked_at, room) VALUES (1, $1, $2)
			ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at, room = excluded.room`, tx.now.UnixMilli(), room)
		return err
	})
}

func (s *Store) requireSchema(tx *Tx) error {
	status := Schema{Newest: s.version}
	err := tx.get(`SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied = 1`, nil, &status.Current)
	if err != nil {
		return err
	}
	return status.Err()
}

// touchProbe is a small write that changes nothing that matters.
func touchProbe(tx *Tx) error {
	_, err := tx.exec(`INSERT INTO probes (id, checked_at) VALUES (1, $1)
		ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at`, tx.now.UnixMilli())
	return err
}
