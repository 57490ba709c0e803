package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/storage/postgres"
)

// What may happen to PostgreSQL, to the network to it, and to a node. A process as
// it is released is put through the same in tests/e2e.

// cutter passes a client's connections on to PostgreSQL. Armed, it ends the next
// one that says COMMIT: before the server has heard it, after it has answered, at
// the last byte of its answer, or so that the server hears it late, when the other
// end is long gone. While it stalls, nothing comes through.
type cutter struct {
	net.Listener
	server string
	armed  atomic.Int32
	gate   sync.RWMutex  // held while it stalls
	late   chan struct{} // lets the server hear what was late, and then tells that it has
	open   sync.WaitGroup
}

const (
	cutBefore int32 = iota + 1
	cutAfter
	cutLastByte
	cutLate
)

func newCutter(t *testing.T, databaseURL string) (c *cutter, through string) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	c = &cutter{server: u.Host, late: make(chan struct{})}
	if c.Listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			client, err := c.Accept()
			if err != nil {
				return
			}
			c.open.Go(func() { c.pass(client) })
		}
	}()
	t.Cleanup(func() {
		_ = c.Close()
		c.open.Wait()
	})
	u.Host = c.Addr().String()
	return c, u.String()
}

func (c *cutter) pass(client net.Conn) {
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", c.server)
	if err != nil {
		_ = client.Close()
		return
	}
	var cut atomic.Int32
	end := func() { _ = errors.Join(client.Close(), server.Close()) }
	c.open.Go(func() {
		c.answer(client, server, &cut)
		if cut.Load() != cutLate {
			end()
		}
	})
	defer end()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil { // the end of a connection that was cut before is nothing that is sent
			return
		}
		when := c.armed.Swap(0)
		if when == cutBefore {
			return
		}
		cut.Store(when)
		if when == cutLate {
			_ = client.Close()
			<-c.late
			_, err := server.Write(buf[:n])
			_ = errors.Join(err, server.(*net.TCPConn).CloseWrite())
			_, _ = io.Copy(io.Discard, server) // it ends once the server has done what it was told
			c.late <- struct{}{}
			return
		}
		c.pause()
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// answer passes on what the server says.
func (c *cutter) answer(client, server net.Conn, cut *atomic.Int32) {
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		when := cut.Load()
		if err != nil || when == cutAfter {
			return
		}
		if when == cutLastByte {
			n--
		}
		c.pause()
		if _, err := client.Write(buf[:n]); err != nil || when == cutLastByte {
			return
		}
	}
}

// pause waits while the network stalls.
func (c *cutter) pause() {
	c.gate.RLock()
	//lint:ignore SA2001 to wait is all
	c.gate.RUnlock()
}

// A COMMIT whose answer is lost is neither done nor undone until one has looked. In
// most rounds it is the last byte of the answer that is.
func TestALostAnswerToACommitIsFoundOut(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	cut, through := newCutter(t, w.url)
	s := openStore(t, through, w.clock.Now)
	for i := range 100 {
		for _, when := range []int32{cutLastByte, cutBefore, cutAfter, cutLate}[:1+3*(i%5/4)] {
			name := fmt.Sprint(i, " ", when)
			// Every other batch has no round trip before the COMMIT.
			scope, insert := wholeDatabase, add
			if i%2 == 0 {
				scope, insert = ws, addQueued
			}
			for j := range 2 { // a new connection prepares first, also that nobody is asked
				w.must(s.writeIn(t.Context(), scope, modeBulkSQL, insert(fmt.Sprint(name, " warm ", j))))
			}
			err := s.writeIn(t.Context(), scope, modeBulkSQL, func(tx *Tx) error {
				err := insert(name)(tx)
				cut.armed.Store(when) // what is sent next is the COMMIT
				return err
			})
			if when == cutLate {
				cut.late <- struct{}{}
				<-cut.late
			}
			heard := when == cutAfter || when == cutLastByte
			switch n := w.rows(name); {
			case !heard && (!errors.Is(err, ErrUnavailable) || n != 0):
				t.Fatalf("%s, which the server has not heard: %v, %d rows", name, err, n)
			case heard && (err != nil || n != 1):
				t.Fatalf("%s, which the server has done: %v, %d rows", name, err, n)
			}
		}
	}
}

// addQueued is add of a row whose insertion nobody waits for.
func addQueued(name string) func(*Tx) error {
	return func(tx *Tx) error {
		return tx.queueOne(`INSERT INTO idempotency_keys (workspace_id, run_id, key, fingerprint, answer, created_at)
			VALUES (0, 0, $1, $2, $2, 0)`, name, []byte{})
	}
}

func TestAnOutageIsUnavailableAndOver(t *testing.T) {
	server, err := startPostgres()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}()
	s := openStore(t, server.URL(server.empty), noon)
	if err := s.write(t.Context(), modeBulkSQL, add("before")); err != nil {
		t.Fatal(err)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.write(t.Context(), modeBulkSQL, add("meanwhile")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a write: %v", err)
	}
	if _, err := s.KeyCredential(t.Context(), "00000000"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a read: %v", err)
	}
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	if err := s.write(t.Context(), modeBulkSQL, add("after")); err != nil {
		t.Errorf("a write afterwards: %v", err)
	}
	if _, err := s.KeyCredential(t.Context(), "00000000"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a read afterwards: %v", err)
	}
}

// A network that stalls is given up on, whatever was asked, and is nobody's mistake.
// What was asked meanwhile is done once or not at all.
func TestAStallOfTheNetworkIsUnavailableAndOver(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	caller := w.caller(ws)
	cut, through := newCutter(t, w.url)
	s := openStore(t, through, w.clock.Now, func(o *Options) { o.AnswerTimeout = 100 * time.Millisecond })
	start := func() (Answer, error) {
		return s.StartRun(context.Background(), caller, NewRun{UserID: "u"}, guard.Decide)
	}
	// A slow machine must not be taken for a network that stalls.
	patiently := func(what string, fn func() error) {
		t.Helper()
		var err error
		for range 100 {
			if err = fn(); !errors.Is(err, postgres.ErrNoAnswer) {
				break
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	startPatiently := func() error { _, err := start(); return err }
	patiently("a start", startPatiently)
	before := w.number(`SELECT count(*) FROM runs`)
	cut.gate.Lock()
	for range 2 { // with the connection that there was, and with a new one
		if _, err := start(); !errors.Is(err, ErrUnavailable) || !errors.Is(err, postgres.ErrNoAnswer) {
			t.Errorf("a start: %v", err)
		}
		for name, read := range map[string]func() error{
			"a list":  func() error { _, _, err := s.Runs(context.Background(), ws, RunFilter{}); return err },
			"a key":   func() error { _, err := s.KeyCredential(context.Background(), "00000000"); return err },
			"a probe": func() error { return s.Ready(context.Background()) },
		} {
			if err := read(); !errors.Is(err, ErrUnavailable) || !errors.Is(err, postgres.ErrNoAnswer) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	cut.gate.Unlock()
	patiently("a start", startPatiently)
	err := s.write(context.Background(), modeBulkSQL, func(*Tx) error { cut.gate.Lock(); return nil })
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("a COMMIT: %v", err)
	}
	cut.gate.Unlock()
	patiently("a start", startPatiently)
	w.mustVerify()
	if n := w.number(`SELECT count(*) FROM runs`); n <= before {
		t.Errorf("%d runs, and there were %d before", n, before)
	}
}

// There is one clock for all nodes, and it is the database's.
func TestANodesClockMayBeWrong(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	caller := w.caller(ws)
	near := func(what string, got, want time.Time) {
		t.Helper()
		if d := got.Sub(want).Abs(); d > time.Minute {
			t.Errorf("%s: %v instead of %v", what, got, want)
		}
	}
	for _, off := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		s := openStore(t, w.url, nil, func(o *Options) {
			o.machine = func() time.Time { return time.Now().Add(off) }
		})
		near("the time of a node", s.Time(), time.Now())
		a, err := s.StartRun(t.Context(), caller, NewRun{UserID: "u"}, guard.Decide)
		w.must(err)
		run, err := s.Run(t.Context(), ws, a.ID, "")
		w.must(err)
		near("the start of a run", run.StartedAt, time.Now())
	}
	// It may also be set while the node runs, and by then expects what it finds.
	var off atomic.Int64
	s := openStore(t, w.url, nil, func(o *Options) {
		o.machine = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
	})
	for i := range 3 * trusted {
		if i%trusted == trusted-1 {
			off.Add(int64(10 * time.Minute))
		}
		a, err := s.StartRun(t.Context(), caller, NewRun{UserID: "u"}, guard.Decide)
		w.must(err)
		run, err := s.Run(t.Context(), ws, a.ID, "")
		w.must(err)
		near("the start of a run after the clock was set", run.StartedAt, time.Now())
	}
	w.mustVerify()
}

// A VACUUM may take longer than a call may: an erasure that was given up would begin anew for ever.
func TestAnErasureOutlastsAVacuum(t *testing.T) {
	const patience = 300 * time.Millisecond
	w := newWorld(t, func(o *Options) { o.AnswerTimeout = patience })
	holder, err := w.conn().BeginTx(t.Context(), nil)
	w.must(err)
	_, err = holder.ExecContext(t.Context(), `LOCK TABLE users IN SHARE MODE`) // which keeps VACUUM waiting
	w.must(err)
	done := make(chan error, 1)
	go func() { done <- w.engine.scrub(context.Background(), nil) }()
	const waiting = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'VACUUM%'
		AND now() - query_start > interval '600 milliseconds'`
	for w.number(waiting) == 0 {
		select {
		case err := <-done:
			t.Fatalf("it ended while VACUUM was kept waiting: %v", err)
		default:
		}
	}
	w.must(holder.Rollback())
	w.must(<-done)
}
