package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// Session is a reader's connection with the statements it has prepared. It is
// used by one goroutine at a time.
type Session struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

// openSession takes a connection out of database/sql for good, so that its prepared statements stay
// with it.
func openSession(ctx context.Context, db *sql.DB) (*Session, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	s := &Session{conn: conn, stmts: make(map[string]*sql.Stmt)}
	query := func(query string, args []any, each func(Row) error) error { return s.Query(ctx, query, args, each) }
	if err := checkPragmas(query, true); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// checkPragmas reads back what a connection was opened with.
func checkPragmas(query func(string, []any, func(Row) error) error, readOnly bool) error {
	for _, p := range Pragmas(readOnly) {
		var got string
		if err := query("PRAGMA "+p[0], nil, func(row Row) error { return row.Scan(&got) }); err != nil {
			return fmt.Errorf("read pragma %s: %w", p[0], err)
		}
		if !strings.EqualFold(got, p[1]) {
			return fmt.Errorf("pragma %s is %q, want %q", p[0], got, p[1])
		}
	}
	return nil
}

// close closes the statements, then the connection.
func (s *Session) close() error {
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, s.conn.Close())...)
}

// maxStatements is how many statements a session keeps. Searches put their
// queries together from what they are asked for, and so there are many.
const maxStatements = 300

// dropStatements closes all statements when they have become too many. Those
// that are needed are prepared again.
func (s *Session) dropStatements() error {
	if len(s.stmts) <= maxStatements {
		return nil
	}
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	clear(s.stmts)
	return errors.Join(errs...)
}

// prepare returns the statement for a query text, prepared once, whatever becomes of the caller.
func (s *Session) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt, ok := s.stmts[query]; ok {
		return stmt, nil
	}
	stmt, err := s.conn.PrepareContext(context.WithoutCancel(ctx), query)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", FirstWords(query), err)
	}
	s.stmts[query] = stmt
	return stmt, nil
}

// Exec runs a statement and returns how many rows it changed.
func (s *Session) Exec(ctx context.Context, query string, args []any) (int64, error) {
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

// Query calls each for every row.
func (s *Session) Query(ctx context.Context, query string, args []any, each func(Row) error) (err error) {
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
