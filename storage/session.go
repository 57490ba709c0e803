package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// connection is one to the database: the writer's (conn.go), or a reader's.
type connection interface {
	// exec runs a statement and returns how many rows it changed.
	exec(ctx context.Context, query string, args []any) (changed int64, err error)
	// query calls each for every row of a query.
	query(ctx context.Context, query string, args []any, each func(scanner) error) error
}

// writing is the writer's connection. Tests stand between it and the store.
type writing interface {
	connection
	run(query string) error // a statement without parameters and rows
	reopen() error          // gives up the connection, with its transaction, for a new one
	close() error
}

// scanner is a row that can be read.
type scanner interface{ Scan(dest ...any) error }

// session is a reader's connection with the statements it has prepared. It is
// used by one goroutine at a time.
type session struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func newSession(ctx context.Context, db *sql.DB) (*session, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, stmts: make(map[string]*sql.Stmt)}
	query := func(query string, args []any, each func(scanner) error) error { return s.query(ctx, query, args, each) }
	if err := checkPragmas(query, true); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// checkPragmas reads back what a connection was opened with.
func checkPragmas(query func(string, []any, func(scanner) error) error, readOnly bool) error {
	for _, p := range pragmas(readOnly) {
		var got string
		if err := query("PRAGMA "+p[0], nil, func(row scanner) error { return row.Scan(&got) }); err != nil {
			return fmt.Errorf("read pragma %s: %w", p[0], err)
		}
		if !strings.EqualFold(got, p[1]) {
			return fmt.Errorf("pragma %s is %q, want %q", p[0], got, p[1])
		}
	}
	return nil
}

func (s *session) close() error {
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, s.conn.Close())...)
}

// prepare returns the statement for a query text, prepared once, whatever becomes of the caller.
func (s *session) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt, ok := s.stmts[query]; ok {
		return stmt, nil
	}
	stmt, err := s.conn.PrepareContext(context.WithoutCancel(ctx), query)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", firstWords(query), err)
	}
	s.stmts[query] = stmt
	return stmt, nil
}

func (s *session) exec(ctx context.Context, query string, args []any) (int64, error) {
	stmt, err := s.prepare(ctx, query)
	if err != nil {
		return 0, err
	}
	res, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (s *session) query(ctx context.Context, query string, args []any, each func(scanner) error) (err error) {
	stmt, err := s.prepare(ctx, query)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Tx is a transaction: on the writer the part of a batch that is one job's, on
// a reader a snapshot. Unexported functions take it; exported methods of Store own it.
type Tx struct {
	connection
	ctx    context.Context
	now    time.Time
	memory *memory  // the writer's; nil on a reader
	notes  *notes   // the writer's; nil on a reader
	undo   []func() // forgets what a job that fails has put into memory
}

// exec runs a statement and returns how many rows it changed.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	n, err := tx.connection.exec(tx.ctx, query, args)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", firstWords(query), err)
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
	if err := tx.query(tx.ctx, query, args, scan); err != nil {
		return fmt.Errorf("%s: %w", firstWords(query), err)
	}
	return nil
}
