package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// pool is a fixed number of sessions for reading. A session is known to be
// outside of any transaction while it is in the pool: one whose BEGIN or
// ROLLBACK failed may be inside, and is closed. Its place is then filled by
// whoever takes it next.
type pool struct {
	db     *sql.DB       // keeps no idle connections: a session that is closed is gone
	slots  chan *session // nil is a place without a session
	now    func() time.Time
	closed chan struct{}
}

// openPool opens n sessions at once, so that what is wrong with them is known at the start.
func openPool(ctx context.Context, db *sql.DB, now func() time.Time, n int) (*pool, error) {
	p := &pool{db: db, slots: make(chan *session, n), now: now, closed: make(chan struct{})}
	for range n {
		s, err := newSession(ctx, db)
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

// take waits for a session. It returns ErrClosed once the pool is closed.
func (p *pool) take(ctx context.Context) (*session, error) {
	select {
	case <-p.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	case s := <-p.slots:
		return p.opened(ctx, s)
	}
}

// opened opens a session where there is none in a place that was taken.
func (p *pool) opened(ctx context.Context, s *session) (*session, error) {
	if s != nil {
		return s, nil
	}
	s, err := newSession(context.WithoutCancel(ctx), p.db)
	if err != nil {
		p.slots <- nil
		return nil, errors.Join(ErrUnavailable, fmt.Errorf("open the database for reading: %w", err))
	}
	return s, nil
}

// read runs fn in a snapshot, once a session is free.
func (p *pool) read(ctx context.Context, fn func(*Tx) error) error {
	s, err := p.take(ctx)
	if err != nil {
		return err
	}
	return p.readOn(ctx, s, fn)
}

// readOn runs fn in a snapshot and gives the session back. The transaction
// begins and ends whatever becomes of the caller, whose context is fn's alone:
// SQLite may have obeyed a BEGIN of which the driver only says that it was
// cancelled.
func (p *pool) readOn(ctx context.Context, s *session, fn func(*Tx) error) (err error) {
	// Deferred, so that a panic of fn does not keep the session.
	defer func() { p.slots <- s }()
	always := context.WithoutCancel(ctx)
	if _, err := s.exec(always, "BEGIN", nil); err != nil {
		s, err = nil, errors.Join(err, s.close())
		return errors.Join(ErrUnavailable, fmt.Errorf("begin to read: %w", err))
	}
	defer func() {
		if _, endErr := s.exec(always, "ROLLBACK", nil); endErr != nil {
			err = errors.Join(err, ErrUnavailable, fmt.Errorf("end a read: %w", errors.Join(endErr, s.close())))
			s = nil
		}
	}()
	return classify(fn(&Tx{connection: s, ctx: ctx, now: p.now()}))
}

// close waits for the reads under way, and refuses new ones meanwhile.
func (p *pool) close() error {
	close(p.closed)
	var errs []error
	for range cap(p.slots) {
		if s := <-p.slots; s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}
