package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// listen opens an address. For localhost it listens on both loopback addresses,
// since a client may try either, or on the only one that the machine has.
func listen(ctx context.Context, flag, addr string) (net.Listener, error) {
	ln, err := listenOn(ctx, addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use: stop the server that runs there, or choose another "+
			"address with %s", addr, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: listen on %s: %w", flag, addr, err)
	}
	return ln, nil
}

// listenOn listens on an address. localhost is both loopback addresses, since some programs try
// only one of them; with port 0 both get the same free port.
func listenOn(ctx context.Context, addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host != "localhost" {
		return new(net.ListenConfig).Listen(ctx, "tcp", addr)
	}
	const attempts = 10 // at finding a port that is free on both
	for range attempts {
		var ln net.Listener
		if ln, err = listenOnLoopbacks(ctx, port); !errors.Is(err, syscall.EADDRINUSE) ||
			port != "0" {
			return ln, err
		}
	}
	return nil, err
}

// listenOnLoopbacks listens on 127.0.0.1 and ::1, or on the one that the machine has.
func listenOnLoopbacks(ctx context.Context, port string) (net.Listener, error) {
	first, err := new(net.ListenConfig).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", port))
	if isUnavailable(err) {
		return new(net.ListenConfig).Listen(ctx, "tcp6", net.JoinHostPort("::1", port))
	}
	if err != nil {
		return nil, err
	}
	// With port 0 the second listener must get the port that the first one was given.
	_, port, err = net.SplitHostPort(first.Addr().String())
	if err != nil {
		return nil, errors.Join(err, first.Close())
	}
	second, err := new(net.ListenConfig).Listen(ctx, "tcp6", net.JoinHostPort("::1", port))
	switch {
	// A machine without IPv6.
	case isUnavailable(err):
		return first, nil
	case err != nil:
		return nil, errors.Join(err, first.Close())
	}
	return newDualListener(first, second), nil
}

// isUnavailable reports whether the machine has no such address.
func isUnavailable(err error) bool {
	for _, missing := range []error{
		syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT,
	} {
		if errors.Is(err, missing) {
			return true
		}
	}
	return false
}

// dualListener accepts from two listeners. Its address is that of the first.
type dualListener struct {
	net.Listener
	second   net.Listener
	accepted chan acceptResult
	closed   chan struct{}
	once     sync.Once
}

// acceptResult is what one of the two listeners has accepted.
type acceptResult struct {
	conn net.Conn
	err  error
}

// newDualListener begins to accept from both at once.
func newDualListener(first, second net.Listener) net.Listener {
	p := &dualListener{Listener: first, second: second, accepted: make(chan acceptResult),
		closed: make(chan struct{})}
	// Each hands its connections over one at a time, so neither can crowd out the other.
	go p.acceptFrom(first)
	go p.acceptFrom(second)
	return p
}

// acceptFrom forwards connections and errors until the pair is closed.
func (p *dualListener) acceptFrom(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		select {
		case p.accepted <- acceptResult{conn, err}:
		case <-p.closed:
			if err == nil {
				_ = conn.Close() // nobody accepts it any more
			}
			return
		}
	}
}

// Accept waits for the next connection on either listener.
func (p *dualListener) Accept() (net.Conn, error) {
	select {
	case a := <-p.accepted:
		return a.conn, a.err
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close closes both listeners.
func (p *dualListener) Close() error {
	var err error
	p.once.Do(func() {
		close(p.closed)
		err = errors.Join(p.Listener.Close(), p.second.Close())
	})
	return err
}
