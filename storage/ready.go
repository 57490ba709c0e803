package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/pikarc/server/storage/dbfile"
)

// probeInterval bounds how often readiness checks may write.
const probeInterval = time.Second

// probeBytes is how much a readiness check writes: more pages than a run's start.
const probeBytes = 48 << 10

// CoreTables are the tables that every request reads. A server checks them
// before it starts on a file that is too large to be checked as a whole.
func CoreTables() []string { return []string{"accounts", "workspaces", "api_keys", "models"} }

// probe keeps the latest readiness check.
type probe struct {
	sync.Mutex
	at   time.Time
	err  error
	key  int64 // the latest API key that was looked at
	fill byte  // of what it writes: SQLite does not write what has not changed
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
	if s.corrupt.Load() {
		return errors.Join(ErrUnavailable, ErrCorrupt)
	}
	if err := s.readFrom(ctx, forLists, s.requireSchema); err != nil {
		return err
	}
	err := s.readFrom(ctx, forCredentials, func(tx *Tx) error { return errors.Join(s.requireSchema(tx), s.requireDecidable(tx)) })
	if err != nil {
		return s.markCorrupt(err)
	}
	return s.writeIn(ctx, noWorkspace, modeCached, func(tx *Tx) error {
		s.probe.fill++
		room := bytes.Repeat([]byte{s.probe.fill}, probeBytes)
		_, err := tx.exec(`INSERT INTO probes (id, checked_at, room) VALUES (1, $1, $2)
			ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at, room = excluded.room`, tx.now.UnixMilli(), room)
		return err
	})
}

// markCorrupt remembers, until a restart, that rows that decisions need cannot
// be read. After a restart the server refuses the file and says what to do.
func (s *Store) markCorrupt(err error) error {
	if err != nil && errors.Is(err, ErrCorrupt) {
		s.corrupt.Store(true)
	}
	return err
}

// requireDecidable reads what the look-up of a key and a decision read, of a
// few workspaces at a time and of all of them in the end.
func (s *Store) requireDecidable(tx *Tx) error {
	const few = 16
	var keys []WorkspaceKey
	latest := s.probe.key
	s.probe.key = 0 // from the beginning, unless there are more
	err := tx.each(`SELECT k.id, k.workspace_id, a.uuid FROM api_keys k
		LEFT JOIN workspaces w ON w.id = k.workspace_id LEFT JOIN accounts a ON a.id = w.account_id
		WHERE k.id > $1 ORDER BY k.id LIMIT $2`, []any{latest, few}, func(row scanner) error {
		var ws WorkspaceKey
		var account uuid.UUID
		if err := row.Scan(&latest, &ws, &account); err != nil {
			return err
		}
		if account == uuid.Nil {
			return missingRow("an API key's workspace or account")
		}
		if keys = append(keys, ws); len(keys) == few {
			s.probe.key = latest
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, ws := range keys {
		if _, err := loadWorkspace(tx, ws); err != nil {
			return fmt.Errorf("read workspace %d: %w", ws, err)
		}
		if _, err := loadDay(tx, dayKey{ws, dayOf(tx.now)}); err != nil {
			return fmt.Errorf("read the day of workspace %d: %w", ws, err)
		}
	}
	return nil
}

func (s *Store) requireSchema(tx *Tx) error {
	status := dbfile.Schema{Newest: s.version}
	err := tx.get(`SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`, nil, &status.Current)
	if err != nil {
		return err
	}
	return status.Err()
}

// writeProbe is a small write that changes nothing that matters.
func writeProbe(tx *Tx) error {
	_, err := tx.exec(`INSERT INTO probes (id, checked_at) VALUES (1, $1)
		ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at`, tx.now.UnixMilli())
	return err
}
