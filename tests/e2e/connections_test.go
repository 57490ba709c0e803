package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// roomy starts a server with a workspace that may have many runs at once.
func roomy(t *testing.T, dir string, args ...string) (*process, newUser) {
	t.Helper()
	u := createUser(t, dir, "ann@example.com", "enterprise")
	p := serve(t, dir, args...)
	p.call(t, "PATCH", "/v1/workspace/", p.signIn(t, u.Email), map[string]any{"max_concurrent_runs": 100_000}).want(t, http.StatusOK)
	return p, u
}

// startedRuns counts the runs of all time, as the usage page does.
func (p *process) startedRuns(t *testing.T, key string) int {
	t.Helper()
	var usage struct {
		Month struct {
			Runs int `json:"run_count"`
		} `json:"last_30_days"`
	}
	p.call(t, "GET", "/v1/usage/", key, nil).want(t, http.StatusOK).into(t, &usage)
	return usage.Month.Runs
}

// dial opens a connection that lasts as long as the test, but no longer than patience.
func (p *process) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(p.url, "http://"), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// readAnswer reads one HTTP answer. unanswered says that the connection ended before its first byte.
func readAnswer(r *bufio.Reader) (status int, unanswered bool, err error) {
	if _, err := r.Peek(1); err != nil {
		return 0, true, err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body) // Content-Length tells when it is cut
	return resp.StatusCode, false, err
}

// request is one that the server is reading: it has asked for the body.
type request struct {
	net.Conn
	answer *bufio.Reader
	body   string
}

// openRequest sends the head of a run's start and waits until the server asks
// for the body, which proves that the handler runs.
func (p *process) openRequest(t *testing.T, key string) request {
	t.Helper()
	r := request{Conn: p.dial(t), body: `{"user_id":"someone"}`}
	r.answer = bufio.NewReader(r)
	fmt.Fprintf(r, "POST /v1/runs/ HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer %s\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", key, len(r.body))
	line, err := r.answer.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("answered %q, %v, instead of asking for the body", line, err)
	}
	if line, err = r.answer.ReadString('\n'); err != nil || line != "\r\n" {
		t.Fatalf("answered %q, %v, after asking for the body", line, err)
	}
	return r
}

func TestStopAnswersEveryRequestThatIsOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, u := roomy(t, dir)
	const requests = 200
	open := make([]request, requests)
	for i := range open {
		open[i] = p.openRequest(t, u.APIKey)
	}
	p.signal(t, syscall.SIGTERM)
	p.await(t, "refuses new connections", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	for i, r := range open {
		if _, err := io.WriteString(r, r.body); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	}
	for i, r := range open {
		status, _, err := readAnswer(r.answer)
		if status != http.StatusCreated || err != nil {
			t.Errorf("request %d was answered %d, %v", i, status, err)
		}
	}
	if state := p.exit(t); state.ExitCode() != 0 {
		t.Errorf("%v\n%s", state, &p.stderr)
	}
	if got := serve(t, dir).startedRuns(t, u.APIKey); got != requests {
		t.Errorf("%d runs are recorded, %d were answered", got, requests)
	}
}

// hammer starts runs, one after the other over one connection, until it gets no answer.
func hammer(conn net.Conn, key string, answered, unanswered *atomic.Int64) error {
	const body = `{"user_id":"someone"}`
	call := fmt.Sprintf("POST /v1/runs/ HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		key, len(body), body)
	answers := bufio.NewReader(conn)
	for {
		if _, err := io.WriteString(conn, call); err != nil {
			unanswered.Add(1)
			return nil
		}
		status, none, err := readAnswer(answers)
		switch {
		case none && !isTimeout(err):
			unanswered.Add(1)
			return nil
		case err != nil:
			return fmt.Errorf("an answer was cut: %w", err)
		case status != http.StatusCreated:
			return fmt.Errorf("answered %d", status)
		}
		answered.Add(1)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestStopUnderLoadCutsNoAnswer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, u := roomy(t, dir)
	const clients = 200
	var answered, unanswered atomic.Int64
	var group sync.WaitGroup
	for range clients {
		conn := p.dial(t)
		group.Go(func() {
			if err := hammer(conn, u.APIKey, &answered, &unanswered); err != nil {
				t.Error(err)
			}
		})
	}
	p.await(t, "answers under load", func() bool { return answered.Load() > 5*clients })
	p.stop(t)
	group.Wait()
	got := int64(serve(t, dir).startedRuns(t, u.APIKey))
	t.Logf("%d answered, %d not, %d recorded", answered.Load(), unanswered.Load(), got)
	if got < answered.Load() || got > answered.Load()+unanswered.Load() {
		t.Errorf("%d runs are recorded, but %d were answered and %d more sent", got, answered.Load(), unanswered.Load())
	}
}

// The Go runtime raises the soft limit of open files to the hard one, here and in the server.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	p, u := roomy(t, t.TempDir())
	const idle = 2000
	for i := range idle {
		conn := p.dial(t)
		if i%2 == 0 { // half of them never say a word
			continue
		}
		fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: pikarc\r\n\r\n")
		if status, _, err := readAnswer(bufio.NewReader(conn)); status != http.StatusOK || err != nil {
			t.Fatalf("connection %d was answered %d, %v", i, status, err)
		}
	}
	for range 50 {
		if d := p.start(t, u.APIKey, "someone"); d.Decision.Outcome != "ALLOW" {
			t.Fatalf("beside %d idle connections: %+v", idle, d)
		}
	}
}
