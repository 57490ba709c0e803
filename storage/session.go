package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// session is one connection with the statements it has prepared. It is used
// by one goroutine at a time.
type session struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	write bool
}

func newSession(ctx context.Context, db *sql.DB, readOnly bool) (*session, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pragmas(readOnly) {
		var got string
		if err := conn.QueryRowContext(ctx, "PRAGMA "+p[0]).Scan(&got); err != nil {
			return nil, errors.Join(fmt.Errorf("read pragma %s: %w", p[0], err), conn.Close())
		}
		if !strings.EqualFold(got, p[1]) {
			return nil, errors.Join(fmt.Errorf("pragma %s is %q, want %q", p[0], got, p[1]), conn.Close())
		}
	}
	return &session{conn: conn, stmts: make(map[string]*sql.Stmt), write: !readOnly}, nil
}

func (s *session) close() error {
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, s.conn.Close())...)
}

// prepare returns the statement for a query text, prepared once. The texts
// are constants or built from a handful of constants, so the map stays small.
func (s *session) prepare(query string) (*sql.Stmt, error) {
	if stmt, ok := s.stmts[query]; ok {
		return stmt, nil
	}
	stmt, err := s.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", firstWords(query), err)
	}
	s.stmts[query] = stmt
	return stmt, nil
}

func (s *session) run(query string) error {
	stmt, err := s.prepare(query)
	if err != nil {
		return err
	}
	_, err = stmt.ExecContext(context.Background())
	return err
}

// begin takes the write lock at once on the writer; on a reader it only opens the snapshot.
func (s *session) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.write {
		return s.run("BEGIN IMMEDIATE")
	}
	return s.run("BEGIN")
}

func (s *session) commit() error   { return s.run("COMMIT") }
func (s *session) rollback() error { return s.run("ROLLBACK") }

// Tx is a transaction: on the writer the part of a batch that is one job's, on
// a reader a snapshot. Unexported functions take it; exported methods of Store own it.
type Tx struct {
	*session
	ctx   context.Context
	now   time.Time
	notes *notes // nil on a reader
}

// exec runs a statement and returns how many rows it changed.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	stmt, err := tx.prepare(query)
	if err != nil {
		return 0, err
	}
	res, err := stmt.ExecContext(tx.ctx, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", firstWords(query), err)
	}
	return res.RowsAffected()
}

// execOne is exec for a statement that must change a row: ErrNotFound when it did not.
func (tx *Tx) execOne(query string, args ...any) error {
	n, err := tx.exec(query, args...)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// get scans the only row of a query: ErrNotFound when there is none.
func (tx *Tx) get(query string, args []any, dest ...any) error {
	stmt, err := tx.prepare(query)
	if err != nil {
		return err
	}
	err = stmt.QueryRowContext(tx.ctx, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("%s: %w", firstWords(query), err)
	}
	return nil
}

// each calls scan for every row of a query.
func (tx *Tx) each(query string, args []any, scan func(*sql.Rows) error) (err error) {
	stmt, err := tx.prepare(query)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(tx.ctx, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", firstWords(query), err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("%s: %w", firstWords(query), err)
		}
	}
	return rows.Err()
}

// firstWords names a query in an error, without its values (there are none in
// the text) and without its length.
func firstWords(query string) string {
	words := strings.Fields(query)
	return strings.Join(words[:min(4, len(words))], " ")
}
