package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Pool is a fixed number of sessions for reading. A session in the pool is never inside a
// transaction: one whose BEGIN or ROLLBACK failed might be, so it is closed. Whoever takes its slot
// next opens a new session.
type Pool struct {
	db     *sql.DB
	slots  chan *Session // nil is a place without a session
	closed chan struct{}
}

// OpenReaders opens a database for pools, which all share it.
func OpenReaders(path string) (*sql.DB, error) {
	db, err := OpenDB(path, Pragmas(true)...)
	if err == nil {
		db.SetMaxIdleConns(-1) // a session keeps its connection, and nobody else needs one
	}
	return db, err
}

// NewPool opens n sessions at once, so that problems show at the start. The caller must close the
// pool even if there is an error.
func NewPool(ctx context.Context, db *sql.DB, n int) (*Pool, error) {
	p := &Pool{db: db, slots: make(chan *Session, n), closed: make(chan struct{})}
	for range n {
		s, err := openSession(ctx, db)
		if err != nil {
			for len(p.slots) < n {
				p.slots <- nil
			}
			return p, fmt.Errorf("open the database for reading: %w", err)
		}
		p.slots <- s
	}
	return p, nil
}

// Size is how many sessions there are.
func (p *Pool) Size() int { return cap(p.slots) }

// Queries lists the statements that the sessions have prepared. All sessions must be idle.
func (p *Pool) Queries() (all []string) {
	for range p.Size() {
		s := <-p.slots // idle ones queue up, so each comes by once
		if s != nil {
			all = slices.AppendSeq(all, maps.Keys(s.stmts))
		}
		p.slots <- s
	}
	return all
}

// Begin waits for a session and begins a snapshot on it, which the caller must End. It returns
// ErrClosed once the pool is closed. BEGIN ignores the caller's cancellation: SQLite may have
// executed a BEGIN that the driver reports as cancelled.
func (p *Pool) Begin(ctx context.Context) (*Session, error) {
	s, err := p.take(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.Exec(context.WithoutCancel(ctx), "BEGIN", nil); err != nil {
		err = errors.Join(err, s.close())
		p.slots <- nil
		return nil, errors.Join(ErrUnavailable, fmt.Errorf("begin to read: %w", err))
	}
	return s, nil
}

// End ends the snapshot and gives the session back.
func (p *Pool) End(ctx context.Context, s *Session) error {
	if _, err := s.Exec(context.WithoutCancel(ctx), "ROLLBACK", nil); err != nil {
		err = errors.Join(err, s.close())
		p.slots <- nil
		return errors.Join(ErrUnavailable, fmt.Errorf("end a read: %w", err))
	}
	if err := s.dropStatements(); err != nil {
		err = errors.Join(err, s.close())
		p.slots <- nil
		return err
	}
	p.slots <- s
	return nil
}

// take waits for a session.
func (p *Pool) take(ctx context.Context) (*Session, error) {
	select {
	case <-p.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	case s := <-p.slots:
		return p.ensureOpen(ctx, s)
	}
}

// ensureOpen returns s, or opens a session for a slot that has none.
func (p *Pool) ensureOpen(ctx context.Context, s *Session) (*Session, error) {
	if s != nil {
		return s, nil
	}
	s, err := openSession(context.WithoutCancel(ctx), p.db)
	if err != nil {
		p.slots <- nil
		return nil, errors.Join(ErrUnavailable, fmt.Errorf("open the database for reading: %w", err))
	}
	return s, nil
}

// Close refuses new reads and waits for those under way.
func (p *Pool) Close() error {
	close(p.closed)
	var errs []error
	for range cap(p.slots) {
		if s := <-p.slots; s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}
