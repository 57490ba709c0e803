//go:build linux

// Package load keeps connections busy and measures how long each answer took.
//
// One thread serves them all with epoll, like wrk does, because the machine
// that is measured has two cores and the load shares them: nothing is
// allocated and no goroutine is woken for a request.
package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// Kinds is how many kinds of request can be told apart.
const Kinds = 16

// Script is what one connection sends: requests one after another, each after
// the answer to the one before.
type Script interface {
	// Next appends the whole next request to buf, and says of which kind it is.
	Next(buf []byte) (request []byte, kind int)
	// Answer takes the answer; an error ends the whole load. The body is only
	// valid during the call.
	Answer(status int, body []byte) error
}

// Options of a load. It ends at the first of: the time, the count, the stop.
type Options struct {
	Addr    string
	Scripts []Script      // one connection each
	Warm    time.Duration // before what is measured
	For     time.Duration // measured
	Count   int64         // answers in all, also while warming up; no bound when 0
	Stop    func() bool   // asked between answers, may be nil
}

// Result is what a load measured.
type Result struct {
	Elapsed  time.Duration // what was measured, without the warming up
	Measured [Kinds]Histogram
	Answers  [Kinds]int64 // all of them: also while warming up, and after the time was over
}

// drainTimeout bounds the wait for the answers that are still out at the end.
const drainTimeout = 15 * time.Second

// Run connects, sends until the load ends, and waits for every answer, so that
// what the server has booked can be compared with what was answered. The
// result counts what came until an error.
func Run(ctx context.Context, o Options) (result *Result, err error) {
	addr, err := sockaddr(o.Addr)
	if err != nil {
		return nil, err
	}
	l := &loop{Options: o, ctx: ctx, conns: make([]conn, len(o.Scripts)), result: &Result{}}
	if l.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	defer func() { err = errors.Join(err, l.close()) }()
	for i := range l.conns {
		if err := l.open(i, addr); err != nil {
			return nil, fmt.Errorf("connect to %s: %w", o.Addr, err)
		}
	}
	return l.result, l.run()
}

// sockaddr resolves an IPv4 address once, before the load.
func sockaddr(addr string) (*syscall.SockaddrInet4, error) {
	tcp, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, err
	}
	sa := &syscall.SockaddrInet4{Port: tcp.Port}
	copy(sa.Addr[:], tcp.IP.To4())
	return sa, nil
}

// conn is a connection: at most one request is out.
type conn struct {
	fd     int
	script Script
	kind   int
	sent   time.Duration // since the loop's start
	out    []byte
	in     []byte // a buffer; the first have bytes are read
	have   int
}

// loop sends the load of all connections from one thread, by epoll, so that the load itself costs
// little of the two cores.
type loop struct {
	Options
	ctx     context.Context
	epoll   int
	conns   []conn
	start   time.Time
	waiting int // connections that wait for an answer
	total   int64
	result  *Result
}

// open connects without blocking, and registers the connection.
func (l *loop) open(i int, addr *syscall.SockaddrInet4) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	const buffer = 4096
	l.conns[i] = conn{fd: fd, script: l.Scripts[i], in: make([]byte, buffer),
		out: make([]byte, 0, buffer)}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return err
	}
	// Connecting may wait; only reads and writes are non-blocking.
	if err := syscall.Connect(fd, addr); err != nil {
		return err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	return syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd,
		&syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)})
}

// close closes all connections.
func (l *loop) close() error {
	errs := []error{syscall.Close(l.epoll)}
	for _, c := range l.conns {
		if c.fd != 0 {
			errs = append(errs, syscall.Close(c.fd))
		}
	}
	return errors.Join(errs...)
}

// run is the loop. Time is read once for each answer.
func (l *loop) run() error {
	l.start = time.Now()
	for i := range l.conns {
		if err := l.send(&l.conns[i], time.Since(l.start)); err != nil {
			return err
		}
	}
	events := make([]syscall.EpollEvent, 256)
	end := l.Warm + l.For
	for l.waiting > 0 {
		const tick = 50 // ms
		n, err := syscall.EpollWait(l.epoll, events, tick)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		now := time.Since(l.start)
		// No request is sent from now on. What is out is still waited for.
		if end > now && l.stopped() {
			end = now
		}
		if now > end+drainTimeout {
			return fmt.Errorf("%d requests got no answer within %v", l.waiting, drainTimeout)
		}
		for _, ev := range events[:max(n, 0)] {
			if err := l.receive(&l.conns[ev.Fd], end); err != nil {
				return err
			}
		}
	}
	l.result.Elapsed = max(0, min(end, time.Since(l.start))-l.Warm)
	return l.ctx.Err()
}

// stopped reports whether enough was sent, or somebody wants an end.
func (l *loop) stopped() bool {
	return l.Count > 0 && l.total >= l.Count || l.ctx.Err() != nil || l.Stop != nil && l.Stop()
}

// receive reads what came on a connection; when the answer is whole it counts
// it, and sends the next request unless the end has come.
func (l *loop) receive(c *conn, end time.Duration) error {
	n, err := syscall.Read(c.fd, c.in[c.have:])
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return errors.New("the server closed a connection")
	}
	c.have += n
	status, body, size, err := parseAnswer(c.in[:c.have])
	if err != nil {
		return err
	}
	if size == 0 {
		if c.have == len(c.in) {
			c.in = append(c.in, make([]byte, len(c.in))...)
		}
		return nil
	}
	if size != c.have {
		return fmt.Errorf("%d bytes follow an answer", c.have-size)
	}
	c.have = 0
	l.waiting--
	now := time.Since(l.start)
	l.count(c, now, end)
	if err := c.script.Answer(status, body); err != nil {
		return err
	}
	if now >= end || l.Count > 0 && l.total >= l.Count {
		return nil
	}
	return l.send(c, now)
}

// count adds an answer to the result; those of the warm-up are only counted, not measured.
func (l *loop) count(c *conn, now, end time.Duration) {
	l.total++
	l.result.Answers[c.kind]++
	if now >= l.Warm && now < end {
		l.result.Measured[c.kind].Add(now - c.sent)
	}
}

// send writes a request in one piece: it is far smaller than a socket's buffer.
func (l *loop) send(c *conn, now time.Duration) error {
	c.out, c.kind = c.script.Next(c.out[:0])
	c.sent = now
	n, err := syscall.Write(c.fd, c.out)
	if err != nil || n != len(c.out) {
		return fmt.Errorf("wrote %d of %d bytes: %w", n, len(c.out), err)
	}
	l.waiting++
	return nil
}
