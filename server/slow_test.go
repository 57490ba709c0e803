package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

// These tests run in a bubble, where time passes at once when everybody waits:
// they see the timeouts that a real server has, exactly. The network is
// net.Pipe, which has deadlines and no buffer that hides who waits.

// pipes is a listener; its connections come from dial.
type pipes struct {
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
	stops    [2]time.Duration // how long the server takes to stop, at least and at most; not looked at when zero
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.incoming <- theirs
	return ours
}

// patient is a client that calls as usual while others are slow.
type patient struct {
	*http.Client
	key   string
	token string // lasts a minute
}

// start starts a run, without waiting for anybody slow.
func (p patient) start(t *testing.T) {
	t.Helper()
	p.startOver(t, "http")
}

func (p patient) startOver(t *testing.T, scheme string) {
	t.Helper()
	began := time.Now()
	req, err := http.NewRequestWithContext(t.Context(), "POST", scheme+"://pikarc/v1/runs/", strings.NewReader(`{"user_id":"someone"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	resp, err := p.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusCreated {
		t.Errorf("a normal call was answered %d, %v", resp.StatusCode, err)
	}
	if waited := time.Since(began); waited > 0 {
		t.Errorf("a normal call waited %v", waited)
	}
}

// inBubble runs a test beside a server with its default timeouts.
func inBubble(t *testing.T, test func(t *testing.T, network *pipes, other patient), changes ...func(*server.Config)) {
	t.Helper()
	database, err := emptyDatabase() // made out here, where other tests share it
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "pikarc.db")
		if err := os.WriteFile(path, database, 0o600); err != nil {
			t.Fatal(err)
		}
		secret, err := auth.LoadSecret(dir, testSecret)
		if err != nil {
			t.Fatal(err)
		}
		store, err := storage.Open(t.Context(), path, storage.Options{Migrations: embed.Migrations(), Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		account, _, key, err := store.CreateAccount(t.Context(), storage.NewAccount{Email: "ann@example.com", PasswordHash: "none", Plan: plans.Basic})
		if err != nil {
			t.Fatal(err)
		}
		token, err := auth.NewTokens(secret, time.Minute, time.Now).Issue(auth.NewSessionID(), account.ID.String(), account.Workspace.String(), account.TokenVersion)
		if err != nil {
			t.Fatal(err)
		}
		network := &pipes{incoming: make(chan net.Conn), closed: make(chan struct{})}
		client := &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return network.dial(), nil },
		}}
		cfg := server.Config{Secret: secret, Dashboard: fstest.MapFS{}, Log: slog.New(slog.DiscardHandler)}
		for _, change := range changes {
			change(&cfg)
		}
		s := server.New(store, cfg)
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- s.Serve(ctx, network) }()
		test(t, network, patient{client, key.Full, token})
		client.CloseIdleConnections()
		began := time.Now()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); network.stops[1] > 0 && (took < network.stops[0] || took > network.stops[1]) {
			t.Errorf("it took %v to stop, want %v to %v", took, network.stops[0], network.stops[1])
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// drip writes a byte a second until it is cut off, and returns after how long.
func drip(conn net.Conn, text string) time.Duration {
	began := time.Now()
	for i := range len(text) {
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			break
		}
		time.Sleep(time.Second)
	}
	return time.Since(began)
}

func TestSlowSenderIsCutOffAndKeepsNobodyWaiting(t *testing.T) {
	const enough = 200
	for name, c := range map[string]struct {
		head, dripped string
		within        time.Duration
	}{
		"header": {dripped: "GET /health HTTP/1.1\r\nHost: pikarc\r\nX-Padding: " + strings.Repeat("x", enough), within: 10 * time.Second},
		"body": {
			head:    "POST /v1/auth/login HTTP/1.1\r\nHost: pikarc\r\nContent-Length: 1000\r\n\r\n",
			dripped: `{"email":"` + strings.Repeat("x", enough), within: 5 * time.Second,
		},
		"body with a key": {
			head:    "POST /v1/runs/ HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer KEY\r\nContent-Length: 1000\r\n\r\n",
			dripped: `{"user_id":"` + strings.Repeat("x", enough), within: 30 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, network *pipes, other patient) {
				var group sync.WaitGroup
				answers := make([]bytes.Buffer, 50)
				for i := range answers {
					conn := network.dial()
					group.Go(func() { _, _ = answers[i].ReadFrom(conn) }) // until the server hangs up
					group.Go(func() {
						if _, err := io.WriteString(conn, strings.ReplaceAll(c.head, "KEY", other.key)); err != nil {
							t.Error(err)
						}
						took := drip(conn, c.dripped)
						_ = conn.Close()
						if took < c.within || took > c.within+time.Second {
							t.Errorf("cut off after %v, want %v", took, c.within)
						}
					})
				}
				for range 12 {
					other.start(t)
					time.Sleep(time.Second)
				}
				group.Wait()
				other.start(t)
				for i := range answers {
					if !strings.HasPrefix(answers[i].String(), "HTTP/1.1 400 ") {
						t.Errorf("answered %q before the end", &answers[i])
					}
				}
			})
		})
	}
}

func TestSlowReaderIsCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, network *pipes, other patient) {
		conn := network.dial()
		defer conn.Close()
		began := time.Now()
		if _, err := io.WriteString(conn, "GET /openapi.json HTTP/1.1\r\nHost: pikarc\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		other.start(t)
		read := 0
		for one := make([]byte, 1); ; read++ {
			if _, err := conn.Read(one); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("cut off after %v and %d bytes, want a minute", took, read)
		}
	})
}

func TestSilentConnectionIsClosed(t *testing.T) {
	for name, c := range map[string]struct {
		call   string
		within time.Duration
	}{
		"never asked": {within: 10 * time.Second},
		"kept alive":  {call: "GET /health HTTP/1.1\r\nHost: pikarc\r\n\r\n", within: 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, network *pipes, other patient) {
				conn := network.dial()
				defer conn.Close()
				began := time.Now()
				var got bytes.Buffer
				var group sync.WaitGroup
				group.Go(func() { _, _ = got.ReadFrom(conn) })
				if _, err := fmt.Fprint(conn, c.call); err != nil {
					t.Fatal(err)
				}
				group.Wait()
				if took := time.Since(began); took != c.within {
					t.Errorf("closed after %v, want %v", took, c.within)
				}
				if answered := strings.HasPrefix(got.String(), "HTTP/1.1 200 OK\r\n"); answered != (c.call != "") {
					t.Errorf("answered %q", &got)
				}
				other.start(t)
			})
		})
	}
}
