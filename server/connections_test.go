package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

// crowd is a listener on a real socket whose clients seem to come from
// addresses that this machine does not have.
type crowd struct {
	net.Listener
	mu   sync.Mutex
	from map[string]string // by the client's own address
}

type stranger struct {
	net.Conn
	addr net.Addr
}

func (s stranger) RemoteAddr() net.Addr { return s.addr }

func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	addr := netip.MustParseAddr(c.from[conn.RemoteAddr().String()])
	return stranger{conn, net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 4711))}, nil
}

// dial connects as somebody at an address, and says something.
func (c *crowd) dial(t *testing.T, address, says string) net.Conn {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock() // so that it is known whose it is before it is accepted
	conn, err := net.Dial("tcp", c.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c.from[conn.LocalAddr().String()] = address
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, says); err != nil {
		t.Fatal(err)
	}
	return conn
}

// crowded is a server with limits of connections; ask makes a call from an address.
func crowded(t *testing.T, limits func(*server.Config)) (c *crowd, ask func(address string)) {
	t.Helper()
	w := newWorld(t)
	a := w.account(plans.Enterprise)
	cfg := server.Config{Secret: w.secret, Dashboard: fstest.MapFS{}, Log: slog.New(slog.DiscardHandler)}
	limits(&cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	c = &crowd{Listener: ln, from: make(map[string]string)}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.New(w.store, cfg).Serve(ctx, c) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c, func(address string) {
		t.Helper()
		conn := c.dial(t, address, "GET /v1/workspace HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer "+a.key+"\r\nConnection: close\r\n\r\n")
		if line, err := firstLine(conn); err != nil || !strings.Contains(line, " 200 ") {
			t.Errorf("a call from %s was answered %q, %v", address, line, err)
		}
	}
}

// wantClosed ends the test unless the server closes a connection.
func wantClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("a connection too many was left open")
	}
}

// wantOpen ends the test unless a connection that has sent nothing can be used.
func wantOpen(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: pikarc\r\nConnection: close\r\n\r\n"); err != nil {
		t.Error(err)
		return
	}
	if line, err := firstLine(conn); err != nil || !strings.Contains(line, " 200 ") {
		t.Errorf("a connection that should be open answered %q, %v", line, err)
	}
}

func TestAnAddressHasItsShareOfConnections(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		addresses []string
		bounded   bool
	}{
		"one address":               {[]string{"203.0.113.7"}, true},
		"a /64":                     {[]string{"2001:db8::1", "2001:db8::2"}, true},
		"neighbours":                {[]string{"203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4", "203.0.113.5"}, false},
		"this machine":              {[]string{"127.0.0.1"}, false},
		"this machine, by IPv6":     {[]string{"::1"}, false},
		"a proxy that is named":     {[]string{"10.0.0.1"}, false},
		"one that is not, but near": {[]string{"192.168.0.1"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const share = 4
			network, ask := crowded(t, func(cfg *server.Config) {
				cfg.MaxPerAddress, cfg.TrustedProxies = share, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
			})
			var held []net.Conn
			for i := range 3 * share {
				held = append(held, network.dial(t, c.addresses[i%len(c.addresses)], ""))
			}
			others := network.dial(t, "198.51.100.1", "")
			ask("198.51.100.2")
			for i, conn := range held {
				if c.bounded && i < 2*share { // the one that has waited longest makes room
					wantClosed(t, conn)
				} else {
					wantOpen(t, conn)
				}
			}
			wantOpen(t, others)
			ask(c.addresses[0])
		})
	}
}

// dialFrom connects as somebody at an address, and says something.
func (p *pipes) dialFrom(t *testing.T, address, says string) (net.Conn, *bufio.Reader) {
	t.Helper()
	ours, theirs := net.Pipe()
	p.incoming <- stranger{theirs, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 4711))}
	if says != "" {
		if _, err := io.WriteString(ours, says); err != nil {
			t.Error(err)
		}
	}
	// Who sleeps counts as settled to Wait, and a call may sleep for a moment
	// until a lock of SQLite's is free: jobs use the database too.
	time.Sleep(100 * time.Millisecond) // of the bubble's clock
	synctest.Wait()
	return ours, bufio.NewReader(ours)
}

func ended(conn *bufio.Reader) bool {
	_, err := conn.ReadByte()
	return err == io.EOF
}

func TestTheOldestRequestWithoutAKnownCallerMakesRoom(t *testing.T) {
	for name, limits := range map[string]func(*server.Config){
		"in all":     func(cfg *server.Config) { cfg.MaxConnections = 4 },
		"an address": func(cfg *server.Config) { cfg.MaxPerAddress = 4 },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, network *pipes, other patient) {
				const from = "203.0.113.7"
				login := "POST /v1/auth/login HTTP/1.1\r\nHost: pikarc\r\nContent-Length: 100\r\n\r\n{"
				start := fmt.Sprintf("POST /v1/runs HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer %s\r\nContent-Length: 15\r\n\r\n{", other.key)
				known, answer := network.dialFrom(t, from, start)
				_, first := network.dialFrom(t, from, login)
				_, second := network.dialFrom(t, from, login)
				network.dialFrom(t, from, start)
				for _, leaving := range []*bufio.Reader{first, second} {
					network.dialFrom(t, from, start)
					if !ended(leaving) {
						t.Error("a stranger with half a request was not closed in its turn")
					}
				}
				// All are known callers: the new one goes.
				if _, tooMany := network.dialFrom(t, from, ""); !ended(tooMany) {
					t.Error("a connection too many is open")
				}
				go func() { _, _ = io.WriteString(known, `"user_id":"u"}`) }()
				if line, err := answer.ReadString('\n'); err != nil || !strings.Contains(line, " 201 ") {
					t.Errorf("a known caller was answered %q, %v", line, err)
				}
			}, limits)
		})
	}
}

// A body that nobody waits for any more must not hold its connection either.
func TestABodyAfterARefusalHasLittleTime(t *testing.T) {
	t.Parallel()
	network, _ := crowded(t, func(cfg *server.Config) { cfg.Timeouts.PublicBody = 50 * time.Millisecond })
	const refused = " HTTP/1.1\r\nHost: pikarc\r\nContent-Length: 100\r\n\r\n{"
	for _, call := range []string{"POST /v1/runs", "PATCH /v1/workspace", "POST /nowhere", "DELETE /v1/auth/login", "POST /v1/auth/login"} {
		began := time.Now()
		if _, err := io.Copy(io.Discard, network.dial(t, "203.0.113.7", call+refused)); err != nil {
			t.Errorf("%s: %v", call, err)
		}
		if took := time.Since(began); took > 10*time.Second { // all of a request may take 30 s
			t.Errorf("%s was held for %v", call, took)
		}
	}
}
