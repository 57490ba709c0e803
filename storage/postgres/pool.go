package postgres

import (
	"context"
	"errors"
	"fmt"
)

// ErrClosed says that a pool is closed.
var ErrClosed = errors.New("the pool of connections is closed")

// Pool is a fixed number of connections for reading. One that is lost is
// replaced by whoever takes it next.
type Pool struct {
	slots  chan *Conn
	closed chan struct{}
}

// NewPool makes a pool of n connections, which are opened when they are needed.
func NewPool(config Config, n int) *Pool {
	p := &Pool{slots: make(chan *Conn, n), closed: make(chan struct{})}
	for range n {
		p.slots <- &Conn{config: config}
	}
	return p
}

// Begin waits for a connection and begins a snapshot on it, which the caller must End.
func (p *Pool) Begin(ctx context.Context) (*Conn, error) {
	select {
	case <-p.closed:
		return nil, ErrClosed
	default:
	}
	select {
	case <-p.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	case c := <-p.slots:
		if err := c.begin(ctx); err != nil {
			_ = c.Close()
			p.slots <- c
			return nil, err
		}
		return c, nil
	}
}

// begin has a snapshot begin with the first query.
func (c *Conn) begin(ctx context.Context) error {
	if !c.Alive() {
		if err := c.Reopen(ctx); err != nil {
			return fmt.Errorf("begin to read: %w", err)
		}
	}
	return c.Queue("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", nil, false)
}

// End ends the snapshot and gives the connection back.
func (p *Pool) End(ctx context.Context, c *Conn) {
	begun := c.Pending() == 0
	c.Forget()
	if begun && !c.Broken() {
		if err := c.Run(context.WithoutCancel(ctx), "ROLLBACK"); err != nil {
			_ = c.Close()
		}
	}
	p.slots <- c
}

// Size is how many connections there are.
func (p *Pool) Size() int { return cap(p.slots) }

// Close waits for the reads under way, and refuses new ones meanwhile.
func (p *Pool) Close() error {
	close(p.closed)
	var errs []error
	for range cap(p.slots) {
		errs = append(errs, (<-p.slots).Close())
	}
	return errors.Join(errs...)
}
