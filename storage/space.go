package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pikarc/server/storage/sqlite"
)

// SQLite reuses the pages of deleted rows, and its file never shrinks by
// itself. New databases have incremental auto-vacuum, so that upkeep can move
// the last pages into free ones and truncate the file. Older databases cannot
// shrink until a restore has rewritten the file (docs/ops/space.md).

// spaceReserve is the share of the pages in use that stays free: one part in
// spaceReserve. Pages that retention frees are soon needed again.
const spaceReserve = 16

// Space is how the database file is filled.
type Space struct {
	FileBytes int64
	FreeBytes int64 // in the file, used again for what is written next
	CanShrink bool  // upkeep gives free pages back to the disk
}

// Space reads how the file is filled.
func (s *Store) Space(ctx context.Context) (space Space, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		var pages, free, size, mode int64
		err := errors.Join(
			tx.get(`PRAGMA page_count`, nil, &pages), tx.get(`PRAGMA freelist_count`, nil, &free),
			tx.get(`PRAGMA page_size`, nil, &size), tx.get(`PRAGMA auto_vacuum`, nil, &mode))
		space = Space{FileBytes: pages * size, FreeBytes: free * size, CanShrink: mode == sqlite.AutoVacuumIncremental}
		return err
	})
	return space, err
}

// Shrink gives pages that are not needed soon back to the file system, as
// upkeep, and returns how many.
func (s *Store) Shrink(ctx context.Context) (pages int, err error) {
	space, err := s.Space(ctx)
	if err != nil || !space.CanShrink {
		return 0, err
	}
	for more := true; more; {
		err := s.runUpkeep(ctx, modeSQL, func(tx *Tx) (bool, error) {
			n, err := shrinkChunk(tx)
			pages, more = pages+n, n > 0
			return more, err
		})
		if err != nil {
			return pages, fmt.Errorf("shrink the file: %w", err)
		}
	}
	if pages == 0 {
		return 0, nil
	}
	// The file is cut when the last of the WAL is checkpointed.
	if err := s.truncateWAL(ctx); err != nil && !errors.Is(err, errBlockedByReader) {
		return pages, fmt.Errorf("shrink the file: %w", err)
	}
	return pages, nil
}

// shrinkChunk cuts some pages from the end of the file, moving what they hold,
// and returns how many; 0 when only the reserve is free.
func shrinkChunk(tx *Tx) (cut int, err error) {
	var pages, free int64
	err = errors.Join(tx.get(`PRAGMA page_count`, nil, &pages), tx.get(`PRAGMA freelist_count`, nil, &free))
	if err != nil || free <= (pages-free)/spaceReserve {
		return 0, err
	}
	err = tx.each(`PRAGMA incremental_vacuum(4)`, nil, func(scanner) error { return nil })
	if err != nil {
		return 0, err
	}
	var after int64
	err = tx.get(`PRAGMA page_count`, nil, &after)
	return int(pages - after), err
}

// Expiring is about what retention will delete soon.
type Expiring struct {
	Runs  int64
	Bytes int64 // estimated from the oldest runs
}

// Expiring estimates what retention will free of a workspace until a time.
func (s *Store) Expiring(ctx context.Context, ws WorkspaceKey, within time.Duration) (e Expiring, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		w, err := workspace(tx, ws)
		if err != nil {
			return err
		}
		e, err = expiring(tx, ws, tx.now.Add(within).AddDate(0, 0, -int(w.Plan.RetentionDays)))
		return err
	})
	return e, err
}

// expiring counts the runs that began before a time, and weighs the oldest of them.
func expiring(tx *Tx, ws WorkspaceKey, before time.Time) (e Expiring, err error) {
	const sample, stepBytes, runBytes = 100, 100, 300 // a row with its part of the indexes
	bound := idFloor(before)
	err = tx.get(`SELECT count(*) FROM runs WHERE workspace_id = $1 AND uuid < $2`, []any{ws, bound[:]}, &e.Runs)
	if err != nil || e.Runs == 0 {
		return e, err
	}
	var runs, bytes int64
	err = tx.get(`SELECT count(*), coalesce(sum(r.step_count * $4 + $5
			+ coalesce((SELECT octet_length(m.metadata) FROM run_metadata m WHERE m.run_id = r.id), 0)
			+ coalesce((SELECT sum(coalesce(octet_length(p.input_data), 0) + coalesce(octet_length(p.output_data), 0)
				+ coalesce(octet_length(p.error), 0)) FROM step_payloads p WHERE p.run_id = r.id), 0)), 0)
		FROM (SELECT id, step_count FROM runs WHERE workspace_id = $1 AND uuid < $2 ORDER BY uuid LIMIT $3) r`,
		[]any{ws, bound[:], sample, stepBytes, runBytes}, &runs, &bytes)
	e.Bytes = bytes / max(1, runs) * e.Runs
	return e, err
}

// AllExpiring is Expiring of all workspaces together.
func (s *Store) AllExpiring(ctx context.Context, within time.Duration) (all Expiring, err error) {
	workspaces, err := s.retentions(ctx)
	for _, w := range workspaces {
		e, readErr := s.Expiring(ctx, w.ws, within)
		if readErr != nil {
			return all, readErr
		}
		all.Runs, all.Bytes = all.Runs+e.Runs, all.Bytes+e.Bytes
	}
	return all, err
}
