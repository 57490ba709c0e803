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
	"testing"
	"time"
)

// hold opens connections that say nothing, or only what is given, and keeps them open.
func (p *process) hold(t *testing.T, n int, says string) []net.Conn {
	t.Helper()
	held := make([]net.Conn, n)
	for i := range held {
		held[i] = p.dial(t)
		if _, err := io.WriteString(held[i], says); err != nil {
			t.Fatal(err)
		}
	}
	return held
}

func TestMoreConnectionsThanAllowedCloseTheOneThatWaitsLongest(t *testing.T) {
	t.Parallel()
	p, u := roomy(t, t.TempDir(), "--max-connections", "20")
	busy := p.openRequest(t, u.APIKey) // in the middle of a request
	stream := p.dial(t)                // of events: always in the middle of one
	fmt.Fprintf(stream, "GET /v1/events HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer %s\r\n\r\n", u.APIKey)
	events := bufio.NewScanner(stream)
	awaitLine(t, events, "event: hello")
	held := p.hold(t, 100, "")
	// A connection for each call: one that were kept open would be one of those that wait.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 30 {
		a, err := send(t.Context(), client, "POST", p.url+"/v1/runs/", u.APIKey, map[string]string{"user_id": "someone"})
		if err != nil {
			t.Fatal(err)
		}
		a.want(t, http.StatusCreated)
	}
	if _, err := held[0].Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the connection that said nothing for longest is still open (%v)", err)
	}
	if _, err := io.WriteString(busy, busy.body); err != nil {
		t.Fatal(err)
	}
	if status, _, err := readAnswer(busy.answer); status != http.StatusCreated {
		t.Errorf("a request that was under way was answered %d, %v", status, err)
	}
	awaitLine(t, events, "event: run.started") // the dashboard has missed nothing
}

// awaitLine reads on until a line comes.
func awaitLine(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	for lines.Scan() {
		if lines.Text() == want {
			return
		}
	}
	t.Fatalf("no %q came: %v", want, lines.Err())
}

func TestAConnectionTooManyIsClosedWhenAllAreBusy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := createUser(t, dir, "ann@example.com", "basic")
	p := serve(t, dir, "--max-connections", "3") // nothing has connected before
	var busy []request
	for range 3 {
		busy = append(busy, p.openRequest(t, u.APIKey))
	}
	one := p.dial(t)
	fmt.Fprint(one, "GET /health HTTP/1.1\r\nHost: pikarc\r\n\r\n")
	if status, unanswered, err := readAnswer(bufio.NewReader(one)); !unanswered || isTimeout(err) {
		t.Errorf("a fourth connection was answered %d, %v", status, err)
	}
	for _, r := range busy {
		if _, err := io.WriteString(r, r.body); err != nil {
			t.Fatal(err)
		}
		if status, _, err := readAnswer(r.answer); status != http.StatusCreated {
			t.Errorf("a request that was under way was answered %d, %v", status, err)
		}
	}
}

// Slow ones send a byte now and then, for as long as the test runs; how much
// they slow others down is measured by `make slow`, not here.
func TestSlowClientsHoldUpNobody(t *testing.T) {
	t.Parallel()
	p, u := roomy(t, t.TempDir())
	head := "POST /v1/runs/ HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer " + u.APIKey + "\r\nContent-Length: 100000\r\n"
	slow := append(p.hold(t, 100, head), p.hold(t, 100, head+"\r\n{\"user_id\": \"")...)
	done := make(chan struct{})
	var dribble sync.WaitGroup
	dribble.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-tick.C:
				_, _ = slow[i%len(slow)].Write([]byte("x")) // it may have been closed as too slow
			}
		}
	})
	for range 200 {
		if d := p.start(t, u.APIKey, "someone"); d.Decision.Outcome != "ALLOW" {
			t.Errorf("beside slow clients: %+v", d)
		}
	}
	close(done)
	dribble.Wait()
	if got := p.startedRuns(t, u.APIKey); got != 200 {
		t.Errorf("%d runs are recorded, 200 were answered", got)
	}
}

// What could be read as one request by a proxy and as two by the server must
// be refused, and the connection with it.
func TestRequestsThatTwoServersReadDifferentlyAreRefused(t *testing.T) {
	t.Parallel()
	p, u := roomy(t, t.TempDir())
	smuggled := "POST /v1/runs/ HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer " + u.APIKey + "\r\nContent-Length: 18\r\n\r\n{\"user_id\":\"evil\"}"
	// This one has a meaning: its chunks count, and the connection ends.
	conn := p.dial(t)
	fmt.Fprint(conn, "POST /v1/runs/ HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer "+u.APIKey+
		"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n{\"user_id\":\"ann\"}\r\n0\r\n\r\n"+smuggled)
	answers := bufio.NewReader(conn)
	if status, _, err := readAnswer(answers); status != http.StatusCreated {
		t.Errorf("a length beside chunks: answered %d, %v", status, err)
	}
	if more, _, err := readAnswer(answers); err == nil {
		t.Errorf("a length beside chunks: what followed was answered %d as a request of its own", more)
	}
	for name, head := range map[string]string{
		"length and chunks":        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"chunks and length":        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
		"two lengths":              "Content-Length: 0\r\nContent-Length: 150\r\n\r\n",
		"lengths in a list":        "Content-Length: 0, 150\r\n\r\n",
		"a signed length":          "Content-Length: +0\r\n\r\n",
		"a negative length":        "Content-Length: -1\r\n\r\n",
		"a length in hex":          "Content-Length: 0x0\r\n\r\n",
		"an unknown coding":        "Transfer-Encoding: xchunked\r\n\r\n",
		"two codings":              "Transfer-Encoding: chunked, identity\r\n\r\n",
		"a coding twice":           "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a vertical tab":           "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
		"space before the colon":   "Content-Length : 0\r\n\r\n",
		"a folded line":            "X-A: b\r\n c: d\r\nContent-Length: abc\r\n\r\n",
		"a chunk of broken length": "Transfer-Encoding: chunked\r\n\r\n0x\r\n\r\n",
		"a chunk without its end":  "Transfer-Encoding: chunked\r\n\r\n1\r\nAA0\r\n\r\n",
		"NUL in a value":           "X-A: b\x00c\r\nContent-Length: 0\r\n\r\n",
		"a bare CR":                "X-A: b\rContent-Length: 0\r\n\r\n",
	} {
		conn := p.dial(t)
		fmt.Fprint(conn, "POST /v1/runs/ HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer "+u.APIKey+"\r\n"+head+smuggled)
		answers := bufio.NewReader(conn)
		status, unanswered, err := readAnswer(answers)
		if !unanswered && (status < 400 || err != nil) {
			t.Errorf("%s: answered %d, %v", name, status, err)
		}
		if more, _, err := readAnswer(answers); err == nil {
			t.Errorf("%s: what followed was answered %d as a request of its own", name, more)
		}
	}
	if got := p.startedRuns(t, u.APIKey); got != 1 {
		t.Errorf("%d runs were started, of which one was asked for", got)
	}
}

func TestNothingSentComesBackAsAHeader(t *testing.T) {
	t.Parallel()
	p, _ := roomy(t, t.TempDir())
	for name, request := range map[string]string{
		"request id":       "GET /health HTTP/1.1\r\nHost: pikarc\r\nX-Request-Id: a%0d%0aEvil: 1\r\n\r\n",
		"origin":           "GET /health HTTP/1.1\r\nHost: pikarc\r\nOrigin: https://a%0d%0aEvil: 1\r\n\r\n",
		"path":             "GET /%0d%0aEvil:%201 HTTP/1.1\r\nHost: pikarc\r\n\r\n",
		"query":            "GET /v1/runs?cursor=%0d%0aEvil:%201 HTTP/1.1\r\nHost: pikarc\r\n\r\n",
		"host":             "GET /health HTTP/1.1\r\nHost: a%0d%0aEvil: 1\r\n\r\n",
		"method":           "GET%0d%0aEvil: /health HTTP/1.1\r\nHost: pikarc\r\n\r\n",
		"idempotency key":  "POST /v1/runs HTTP/1.1\r\nHost: pikarc\r\nIdempotency-Key: a%0d%0aEvil: 1\r\nContent-Length: 0\r\n\r\n",
		"credential":       "GET /v1/runs HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer a%0d%0aEvil: 1\r\n\r\n",
		"forwarded":        "GET /health HTTP/1.1\r\nHost: pikarc\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-For: Evil\r\n\r\n",
		"over the limit":   "GET /health HTTP/1.1\r\nHost: pikarc\r\nX-A: " + strings.Repeat("Evil", 50_000) + "\r\n\r\n",
		"too many headers": "GET /health HTTP/1.1\r\nHost: pikarc\r\n" + strings.Repeat("Evil: 1\r\n", 20_000) + "\r\n",
	} {
		conn := p.dial(t)
		_, _ = io.WriteString(conn, request) // the answer may come before all of it is sent
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			if strings.Contains(name, "over") || strings.Contains(name, "many") {
				continue // closed in the middle
			}
			t.Errorf("%s: %v", name, err)
			continue
		}
		for header, values := range resp.Header {
			if strings.Contains(strings.ToLower(header+strings.Join(values, " ")), "evil") {
				t.Errorf("%s: answered with %s %q", name, header, values)
			}
		}
	}
	p.call(t, "GET", "/health", "", nil).want(t, http.StatusOK)
}

func TestTrickyPathsReachNoFileAndNoOtherCall(t *testing.T) {
	t.Parallel()
	p, u := roomy(t, t.TempDir())
	for _, path := range []string{
		"/../pikarc.db", "/..%2fpikarc.db", "/%2e%2e/secret.key", "/....//secret.key", "/assets/../../secret.key", "/..\\secret.key", "/%5c..%5csecret.key",
		"//etc/passwd", "/%00", "/index.html%00.js", "/./index.html", "/C:/secret.key", "/v1/../health", "/v1/runs/../usage", "/v1/./usage",
		"/v1/blocked-users/../usage", "/v1/model-pricing/../../secret.key", "/v1/runs/%2e%2e/usage", "/v1//usage", "/V1/usage",
		"http://evil.example/v1/usage/x", "/v1/usage;x=1",
	} {
		conn := p.dial(t)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", path, u.APIKey)
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(answer), "\r\n")
		if !strings.Contains(line, " 404 ") && !strings.Contains(line, " 405 ") && !strings.Contains(line, " 400 ") && !strings.Contains(line, " 422 ") {
			t.Errorf("%s was answered %s", path, line)
		}
		if strings.Contains(string(answer), "SQLite format") || strings.Contains(line, " 30") {
			t.Errorf("%s was answered %s", path, answer)
		}
	}
}

func TestJSONBombsAreRefusedCheaply(t *testing.T) {
	t.Parallel()
	p, u := roomy(t, t.TempDir())
	const mega = 1 << 20
	for name, bomb := range map[string]struct {
		body   string
		status int
	}{
		"deep lists":         {`{"user_id":"u","metadata":` + strings.Repeat("[", mega/2), http.StatusUnprocessableEntity},
		"deep objects":       {`{"user_id":"u","metadata":` + strings.Repeat(`{"a":`, mega/6), http.StatusUnprocessableEntity},
		"closed and deep":    {`{"user_id":"u","metadata":{"a":` + strings.Repeat("[", mega/4) + strings.Repeat("]", mega/4) + `}}`, http.StatusCreated},
		"a long number":      {`{"user_id":"u","metadata":{"a":1` + strings.Repeat("0", mega/2) + `}}`, http.StatusCreated},
		"a huge exponent":    {`{"user_id":"u","metadata":{"a":1e999999999}}`, http.StatusCreated},
		"many names":         {`{"user_id":"u",` + manyNames(20_000) + `}`, http.StatusCreated},
		"many names before":  {`{` + manyNames(20_000) + `,"user_id":"u"}`, http.StatusCreated},
		"one name often":     {`{` + strings.Repeat(`"user_id":"u",`, 50_000) + `"user_id":"u"}`, http.StatusCreated},
		"many escapes":       {`{"user_id":"` + strings.Repeat(`\u0061`, 100_000) + `"}`, http.StatusUnprocessableEntity},
		"over the limit":     {`{"user_id":"` + strings.Repeat("a", 16*mega) + `"}`, http.StatusRequestEntityTooLarge},
		"one string":         {`"` + strings.Repeat("a", mega/2) + `"`, http.StatusUnprocessableEntity},
		"not even JSON":      {strings.Repeat("\x00", mega/2), http.StatusUnprocessableEntity},
		"an unclosed string": {`{"user_id":"` + strings.Repeat("a", mega/2), http.StatusUnprocessableEntity},
	} {
		for range 3 {
			req, err := http.NewRequestWithContext(t.Context(), "POST", p.url+"/v1/runs/", strings.NewReader(bomb.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+u.APIKey)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != bomb.status || err != nil || len(body) > 16<<10 {
				t.Errorf("%s: answered %d with %d bytes, %v, want %d", name, resp.StatusCode, len(body), err, bomb.status)
			}
		}
	}
	p.call(t, "GET", "/health/ready", "", nil).want(t, http.StatusOK)
}

func manyNames(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"n%d":%d`, i, i)
	}
	return strings.Join(names, ",")
}

// Clients that do not know a body's length send chunks, each on a connection
// that they want to keep.
func TestChunksKeepTheirConnection(t *testing.T) {
	t.Parallel()
	p, u := roomy(t, t.TempDir())
	conn := p.dial(t)
	answers := bufio.NewReader(conn)
	const body = `{"user_id":"ann"}`
	head := "POST /v1/runs/ HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer " + u.APIKey + "\r\n"
	chunked := head + "Transfer-Encoding: chunked\r\n\r\n11\r\n" + body + "\r\n0\r\n\r\n"
	for i, request := range []string{chunked, chunked, head + "content-length: 17\r\n\r\n" + body, chunked, chunked} {
		fmt.Fprint(conn, request)
		if status, _, err := readAnswer(answers); status != http.StatusCreated || err != nil {
			t.Fatalf("request %d on one connection: answered %d, %v", i, status, err)
		}
	}
	fmt.Fprint(conn, head+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n"+body+"\r\n0\r\n\r\n")
	if status, _, err := readAnswer(answers); status != http.StatusCreated || err != nil {
		t.Errorf("a length beside chunks: answered %d, %v", status, err)
	}
	if _, err := answers.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("a length beside chunks: the connection goes on (%v)", err)
	}
}
