package postgres

import (
	"context"
	"fmt"
	"time"
)

// How often the lock is tried, and how the session that holds it is checked.
const (
	lockPollInterval = 500 * time.Millisecond // between two attempts or checks
	sessionTimeout   = 5 * time.Second        // how long the holder's own session may not answer
)

// WhileLocked calls fn whenever this session holds an advisory lock of the
// database, until ctx ends. fn's context ends when the session is lost, since
// the server then releases the lock; fn must return then. lost is called with
// the error of each session that ends.
func WhileLocked(ctx context.Context, config Config, lock int64, fn func(context.Context), onLost func(error)) {
	c := &Conn{config: config}
	defer func() { _ = c.Close() }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		held, err := c.tryLock(ctx, lock)
		if held {
			err = c.runWhileAlive(ctx, fn)
		}
		if err != nil {
			_ = c.Close()
			if ctx.Err() == nil {
				onLost(err)
			}
		}
		timer.Reset(lockPollInterval)
	}
}

// tryLock tries to take the lock, and connects first if there is no connection.
func (c *Conn) tryLock(ctx context.Context, lock int64) (held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	if c.Broken() {
		if err := c.Reopen(ctx); err != nil {
			return false, err
		}
		if err := Check(ctx, c); err != nil {
			return false, err
		}
	}
	err = c.Query(ctx, `SELECT pg_try_advisory_lock($1)`, []any{lock}, func(row Row) error { return row.Scan(&held) })
	return held, err
}

// runWhileAlive runs fn until it returns, the session stops answering, or ctx ends.
func (c *Conn) runWhileAlive(ctx context.Context, fn func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); fn(ctx) }()
	defer func() { cancel(); <-done }()
	ticker := time.NewTicker(lockPollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		ping, cancelPing := context.WithTimeout(ctx, sessionTimeout)
		err := c.Run(ping, "SELECT 1")
		cancelPing()
		if err != nil {
			return fmt.Errorf("the session that holds the lock is lost: %w", err)
		}
	}
}
