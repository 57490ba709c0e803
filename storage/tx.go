package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/pikarc/server/storage/sqlite"
)

// conn is a connection to the database, the writer's or a reader's, inside a
// transaction.
type conn interface {
	// Exec runs a statement and returns how many rows it changed.
	Exec(ctx context.Context, query string, args []any) (changed int64, err error)
	// Query calls each for every row of a query.
	Query(ctx context.Context, query string, args []any, each func(scanner) error) error
}

// scanner is a row that can be read.
type scanner = sqlite.Row

// Tx is a transaction: on the writer the part of a batch that is one job's, on
// a reader a snapshot. Unexported functions take it; exported methods of Store own it.
type Tx struct {
	conn      conn
	ctx       context.Context
	now       time.Time
	cache     *cache     // the writer's; nil on a reader, or one of its own
	publisher *publisher // the writer's; nil on a reader
	undo      []func()   // drops from the cache what a failed job has put there
	reader    bool       // it can write nothing
	scope     WorkspaceKey
}

// exec runs a statement and returns how many rows it changed.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	n, err := tx.conn.Exec(tx.ctx, query, args)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", sqlite.FirstWords(query), err)
	}
	return n, nil
}

// execOne is exec for a statement that must change a row: ErrNotFound when it did not.
func (tx *Tx) execOne(query string, args ...any) error {
	n, err := tx.exec(query, args...)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// get scans the first row of a query: ErrNotFound when there is none.
func (tx *Tx) get(query string, args []any, dest ...any) error {
	found := false
	err := tx.each(query, args, func(row scanner) error {
		if found {
			return nil
		}
		found = true
		return row.Scan(dest...)
	})
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

// each calls scan for every row of a query.
func (tx *Tx) each(query string, args []any, scan func(scanner) error) error {
	if err := tx.conn.Query(tx.ctx, query, args, scan); err != nil {
		return fmt.Errorf("%s: %w", sqlite.FirstWords(query), err)
	}
	return nil
}
