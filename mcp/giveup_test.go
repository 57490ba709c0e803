package mcp_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fakeServer is a stand-in for the Pikarc server. It executes each idempotency key once, and holds
// back its first answer to a path with this ending until it is released.
type fakeServer struct {
	slow     string // ending of the path whose first answer is held back
	asked    chan struct{}
	released chan struct{}

	mu    sync.Mutex
	late  bool
	byKey map[string]string
	open  map[string]string // statuses by id
}

func newFakeServer(slow string) *fakeServer {
	return &fakeServer{
		slow: slow, asked: make(chan struct{}), released: make(chan struct{}),
		byKey: make(map[string]string), open: make(map[string]string),
	}
}

func (l *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct{ Status, Error string }
	_ = json.NewDecoder(r.Body).Decode(&body)
	path := strings.Trim(r.URL.Path, "/")
	l.mu.Lock()
	id := l.handle(path, r.Header.Get("Idempotency-Key"), body.Status+" "+body.Error)
	wait := strings.HasSuffix(path, l.slow) && !l.late
	l.late = l.late || wait
	l.mu.Unlock()
	if wait { // the work is done, but the caller does not hear of it yet
		close(l.asked)
		<-l.released
	}
	fmt.Fprintf(w, `{"id":%q,"decision":{"outcome":"ALLOW"}}`, id)
}

func (l *fakeServer) handle(path, key, status string) string {
	parts := strings.Split(path, "/")
	switch {
	case path != "v1/runs" && parts[len(parts)-1] != "steps": // a report or an end
		l.open[strings.TrimSuffix(parts[len(parts)-1], "end")+parts[2]] = strings.TrimSpace(status)
		return parts[2]
	case l.byKey[key] == "":
		l.byKey[key] = fmt.Sprint("id", len(l.byKey))
		name := l.byKey[key]
		if path != "v1/runs" {
			name += parts[2]
		}
		l.open[name] = "RUNNING"
	}
	return l.byKey[key]
}

func (l *fakeServer) statuses() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, status := range l.open {
		all = append(all, status)
	}
	slices.Sort(all)
	return all
}

// A request that is cancelled while the server records it leaves nothing running: neither its step,
// nor a run that it was the first to use.
func TestACancelledCallLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	for slow, want := range map[string][]string{
		"steps": {"COMPLETED", "FAILED cancelled"},
		"runs":  {"COMPLETED"},
	} {
		t.Run(slow, func(t *testing.T) {
			t.Parallel()
			l := newFakeServer(slow)
			g := newGateway(t, l, "cat")
			g.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"yes"}}` + "\n")
			<-l.asked
			g.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}` + "\n")
			if got := g.read(); !strings.Contains(got, "cancelled") {
				t.Fatalf("got %s", got)
			}
			g.finish()
			close(l.released)
			if got := l.statuses(); !slices.Equal(got, want) {
				t.Errorf("the server has %q, want %q", got, want)
			}
		})
	}
}

// A run whose start was never answered is not started twice.
func TestARunIsStartedOnceWhateverIsCancelled(t *testing.T) {
	t.Parallel()
	l := newFakeServer("runs")
	g := newGateway(t, l, "cat")
	g.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"yes"}}` + "\n")
	<-l.asked
	g.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}` + "\n")
	g.read()
	close(l.released)
	g.write(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"yes"}}` + "\n")
	g.read()
	g.finish()
	want := []string{"COMPLETED", "FAILED the session has ended"}
	if got := l.statuses(); !slices.Equal(got, want) {
		t.Errorf("the server has %q, want %q", got, want)
	}
}
