package mcp_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pikarc/server/ask"
	"github.com/pikarc/server/mcp"
)

// upstream is an MCP server that says what has reached it.
type upstream struct {
	mu   sync.Mutex
	seen []string
	// answer is what a call is answered, with its content type.
	kind, answer string
	hold         chan struct{} // when it is there, nothing more is sent until the client is gone
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.seen = append(u.seen, r.Method+" "+r.URL.RequestURI()+" "+string(body))
	u.mu.Unlock()
	w.Header().Set("Content-Type", u.kind)
	_, _ = io.WriteString(w, u.answer)
	if u.hold != nil {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			close(u.hold)
		case <-time.After(time.Minute):
		}
	}
}

func (u *upstream) reached() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return strings.Join(u.seen, "\n")
}

func newHTTPGateway(
	t *testing.T,
	j *judge,
	u *upstream,
	origins ...string,
) (*httptest.Server, *mcp.Gateway) {
	t.Helper()
	pikarc, behind := httptest.NewServer(j), httptest.NewServer(u)
	t.Cleanup(pikarc.Close)
	t.Cleanup(behind.Close)
	client, err := ask.New(ask.Settings{APIKey: "lg_test", BaseURL: pikarc.URL}, "mcp/1")
	if err != nil {
		t.Fatal(err)
	}
	o := mcp.Options{
		Client:  client,
		User:    "ann",
		Server:  "test",
		Timeout: time.Minute,
		Log:     slog.New(slog.DiscardHandler),
		Now:     time.Now,
	}
	g, err := mcp.NewGateway(t.Context(), o, behind.URL+"/secret/mcp?a=1", origins)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(g)
	t.Cleanup(front.Close)
	return front, g
}

// post sends a message; headers are names and values in turn.
func post(t *testing.T, url, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(got)
}

const (
	allowedCall = ` {"jsonrpc":"2.0", "id":1,"method":"tools/call","params":{"name":"yes"}}` + "\n"
	deniedCall  = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"no"}}`
)

func TestTheHTTPGatewayPassesBytesToOneAddress(t *testing.T) {
	t.Parallel()
	u := &upstream{
		kind:   "text/event-stream",
		answer: ": hello\r\n\r\nid: 7\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\ndata:\"id\":1.0,\"result\":{\"isError\":true}}\n\n",
	}
	j := &judge{}
	front, g := newHTTPGateway(t, j, u)
	if _, got := post(t, front.URL+"/any/path?b=2", allowedCall); got != u.answer {
		t.Errorf("the answer is %q", got)
	}
	if got, want := u.reached(), "POST /secret/mcp?a=1&b=2 "+allowedCall; got != want {
		t.Errorf("what reaches the server is %q, want %q", got, want)
	}
	g.Close()
	if asked, ends := j.seen(); asked != "yes" ||
		ends != "FAILED the tool answers with an error, COMPLETED" {
		t.Errorf("asked for %s; told of %s", asked, ends)
	}
}

func TestTheHTTPGatewayStopsWhatIsNotAllowed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body    string
		headers []string
		status  int
		says    string
	}{
		"denied":            {deniedCall, nil, http.StatusOK, `"isError":true`},
		"two methods":       {`{"method":"tools/call","id":1,"method":"ping"}`, nil, http.StatusBadRequest, "is there twice"},
		"a batch":           {"[" + deniedCall + "]", nil, http.StatusBadRequest, "batch"},
		"no JSON":           {"tools/call", nil, http.StatusBadRequest, "no JSON"},
		"nothing":           {"", nil, http.StatusBadRequest, "no JSON"},
		"compressed":        {deniedCall, []string{"Content-Encoding", "gzip"}, http.StatusUnsupportedMediaType, "compressed"},
		"a page's call":     {allowedCall, []string{"Origin", "https://evil.example"}, http.StatusForbidden, "--allow-origins"},
		"a name of another": {allowedCall, []string{"Host", "evil.example:80"}, http.StatusForbidden, "for this machine"},
		"another name":      {allowedCall, []string{"Host", "localhost.evil.example"}, http.StatusForbidden, "for this machine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := &upstream{kind: "application/json", answer: "{}"}
			front, _ := newHTTPGateway(t, &judge{}, u, "https://good.example")
			status, got := post(t, front.URL, c.body, c.headers...)
			if status != c.status || !strings.Contains(got, c.says) || u.reached() != "" {
				t.Errorf("answered %d %s; %q has reached the server", status, got, u.reached())
			}
		})
	}
	u := &upstream{kind: "application/json", answer: `{"jsonrpc":"2.0","id":1,"result":{}}`}
	front, _ := newHTTPGateway(t, &judge{}, u, "https://good.example")
	if status, got := post(
		t,
		front.URL,
		allowedCall,
		"Origin",
		"https://good.example",
		"Host",
		"localhost:1",
	); status != http.StatusOK {
		t.Errorf("an origin that was named is answered %d %s", status, got)
	}
}

// Clients without a session use the same ids.
func TestEqualIdsOfTwoClientsAreTwoCalls(t *testing.T) {
	t.Parallel()
	u := &upstream{kind: "application/json", answer: `{"jsonrpc":"2.0","id":1,"result":{}}`}
	j := &judge{hold: make(chan struct{}), asking: make(chan struct{}, 2)}
	front, g := newHTTPGateway(t, j, u)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, got := post(t, front.URL, allowedCall); got != u.answer {
				t.Errorf("the answer is %s", got)
			}
		})
	}
	<-j.asking
	<-j.asking
	close(j.hold)
	both.Wait()
	g.Close()
	if _, ends := j.seen(); ends != "COMPLETED, COMPLETED, COMPLETED" {
		t.Errorf("the ends are %s", ends)
	}
}

func TestACallWhoseClientIsGoneIsSettled(t *testing.T) {
	t.Parallel()
	u := &upstream{kind: "text/event-stream", answer: "data: {}\n\n", hold: make(chan struct{})}
	j := &judge{}
	front, g := newHTTPGateway(t, j, u)
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", front.URL, strings.NewReader(allowedCall))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	<-u.hold // the server is told
	resp.Body.Close()
	front.Close() // waits for what is served
	g.Close()
	if _, ends := j.seen(); ends != "FAILED cancelled, COMPLETED" {
		t.Errorf("the ends are %s", ends)
	}
}

func TestAServerThatIsGoneIsSaid(t *testing.T) {
	t.Parallel()
	j := &judge{}
	pikarc := httptest.NewServer(j)
	t.Cleanup(pikarc.Close)
	client, err := ask.New(ask.Settings{APIKey: "lg_test", BaseURL: pikarc.URL}, "mcp/1")
	if err != nil {
		t.Fatal(err)
	}
	g, err := mcp.NewGateway(
		t.Context(),
		mcp.Options{
			Client:  client,
			Timeout: time.Minute,
			Log:     slog.New(slog.DiscardHandler),
			Now:     time.Now,
		},
		"http://127.0.0.1:9/mcp",
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(g)
	t.Cleanup(front.Close)
	status, got := post(t, front.URL, allowedCall, "Mcp-Session-Id", "s")
	g.Close()
	if _, ends := j.seen(); status != http.StatusBadGateway ||
		!strings.Contains(got, "cannot be reached") ||
		ends != "FAILED there was no answer, COMPLETED" {
		t.Errorf("answered %d %s; the ends are %s", status, got, ends)
	}
	for _, bad := range []string{"", "localhost", "ftp://localhost/mcp", "http://localhost/#x"} {
		if _, err := mcp.NewGateway(t.Context(), mcp.Options{}, bad, nil); err == nil {
			t.Errorf("%q is taken for an address", bad)
		}
	}
}
