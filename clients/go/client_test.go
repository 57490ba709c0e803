package pikarc

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// books is a server at the process's edge, which knows a request by its idempotency key.
type books struct {
	mu      sync.Mutex
	byKey   map[string]string
	runs    map[string]string // statuses by id
	facts   map[string]any    // metadata of runs by id
	used    []string          // what the reports say of usage
	steps   map[string]string // statuses and errors by id
	seen    int
	largest int64                    // request, in bytes
	hook    func(n int, before bool) // called before and after the nth request is carried out
	down    bool
}

func (b *books) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.seen++
	b.largest = max(b.largest, r.ContentLength)
	n, hook := b.seen, b.hook
	b.mu.Unlock()
	if hook != nil {
		hook(n, true)
	}
	b.mu.Lock()
	down := b.down
	var body map[string]any
	_ = json.NewDecoder(r.Body).Decode(&body)
	id := ""
	if !down {
		id = b.carryOut(r, body)
	}
	b.mu.Unlock()
	if hook != nil {
		hook(n, false)
	}
	if down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintf(w, `{"id":%q,"status":"RUNNING","decision":{"outcome":"ALLOW"}}`, id)
}

func (b *books) carryOut(r *http.Request, body map[string]any) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // v1, runs, id, steps, id
	switch {
	case r.Method == "PATCH":
		b.steps[parts[4]] = fmt.Sprint(body["status"], " ", body["error"])
		usage, _ := json.Marshal(body["usage"])
		b.used = append(b.used, fmt.Sprint(body["prompt_tokens"], " ", body["completion_tokens"], " ", string(usage)))
	case strings.HasSuffix(r.URL.Path, "/end"):
		b.runs[parts[2]] = fmt.Sprint(body["status"])
	default:
		key := r.Header.Get("Idempotency-Key")
		if id := b.byKey[key]; id != "" {
			return id
		}
		id := fmt.Sprint("id", len(b.byKey))
		b.byKey[key] = id
		if len(parts) == 2 {
			b.runs[id] = "RUNNING"
			b.facts[id] = body["metadata"]
		} else {
			b.steps[id] = "RUNNING"
		}
		return id
	}
	return "x"
}

func emptyBooks() *books {
	return &books{byKey: map[string]string{}, runs: map[string]string{}, steps: map[string]string{}, facts: map[string]any{}}
}

func newBooks(t *testing.T, options ...Option) (*books, *Client) {
	t.Helper()
	b := emptyBooks()
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	options = append([]Option{
		WithAPIKey("lg_test"), WithBaseURL(server.URL), WithJournalDir(t.TempDir()), WithMaxRetries(0),
	}, options...)
	c, err := New(options...)
	if err != nil {
		t.Fatal(err)
	}
	return b, c
}

func agent(ctx context.Context, c *Client, called func()) error {
	return c.Run(ctx, "ada", nil, func(ctx context.Context, run *Run) error {
		for range 2 {
			_, err := ToolCall(ctx, run, "search", nil, func(ctx context.Context) (int, error) {
				called()
				return 1, ctx.Err()
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Cancelled at any request, before or after the server has carried it out, a run
// has ended and its steps are settled: nothing holds a place.
func TestCancelledAtAnyRequest(t *testing.T) {
	for n := 1; n <= 6; n++ {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("request %d, carried out %v", n, !before), func(t *testing.T) {
				b, c := newBooks(t)
				ctx, cancel := context.WithCancel(t.Context())
				b.hook = func(seen int, isBefore bool) {
					if seen == n && isBefore == before {
						cancel()
					}
				}
				err := agent(ctx, c, func() {})
				// The last two requests are of a run whose work is done.
				if n < 5 && !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
				b.assertSettled(t)
				if length := c.JournalLength(); length != 0 {
					t.Errorf("%d reports are kept", length)
				}
			})
		}
	}
}

func TestCancelledInACall(t *testing.T) {
	b, c := newBooks(t)
	ctx, cancel := context.WithCancel(t.Context())
	if err := agent(ctx, c, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	b.assertSettled(t)
	for _, step := range b.steps {
		if step != "FAILED cancelled" {
			t.Errorf("the step is %s", step)
		}
	}
}

func TestPanicInACall(t *testing.T) {
	b, c := newBooks(t)
	func() {
		defer func() { _ = recover() }()
		_ = agent(t.Context(), c, func() { panic("no") })
		t.Error("the panic is lost")
	}()
	b.assertSettled(t)
}

func (b *books) assertSettled(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for kind, statuses := range map[string]map[string]string{"run": b.runs, "step": b.steps} {
		for id, status := range statuses {
			if status == "RUNNING" {
				t.Errorf("%s %s is still running", kind, id)
			}
		}
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	b, c := newBooks(t)
	err := c.Run(t.Context(), "ada", nil, func(ctx context.Context, run *Run) error {
		var all sync.WaitGroup
		for range 1000 {
			all.Add(1)
			go func() {
				defer all.Done()
				_, err := ModelCall(ctx, run, "m", nil, func(context.Context) (int, error) { return 1, nil })
				if err != nil {
					t.Error(err)
				}
			}()
		}
		all.Wait()
		return nil
	})
	if err != nil || len(b.steps) != 1000 {
		t.Errorf("%d steps, %v", len(b.steps), err)
	}
	b.assertSettled(t)
}

var many = flag.Int("calls", 1_000, "after how many nothing may be left behind")

// clients/suite/run.sh load makes 100,000.
func TestManyCallsLeaveNothingBehind(t *testing.T) {
	b, c := newBooks(t)
	calls := func(n int) (heap uint64) {
		err := c.Run(t.Context(), "ada", nil, func(ctx context.Context, run *Run) error {
			for range n / 2 {
				if _, err := ModelCall(ctx, run, "m", nil, func(context.Context) (obj, error) { return usage.chunk, nil }); err != nil {
					return err
				}
				stream, err := ModelStream(ctx, run, "m", nil, streamOf(text1, usage))
				if err != nil {
					return err
				}
				for range stream.All() {
				}
				b.mu.Lock()
				clear(b.byKey) // which would grow here
				clear(b.steps)
				b.used = nil
				b.mu.Unlock()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, goroutines := calls(500), runtime.NumGoroutine()
	after := calls(*many)
	if after > before+1<<20 || runtime.NumGoroutine() > goroutines+5 {
		t.Errorf("the heap has grown from %d to %d bytes, goroutines from %d to %d", before, after, goroutines, runtime.NumGoroutine())
	}
}

func TestBadSettings(t *testing.T) {
	t.Setenv("PIKARC_API_KEY", "")
	for name, options := range map[string][]Option{
		"no key":         nil,
		"newline in key": {WithAPIKey("lg_secret\n")},
		"no scheme":      {WithAPIKey("lg_secret"), WithBaseURL("localhost:8000")},
		"with /v1":       {WithAPIKey("lg_secret"), WithBaseURL("http://localhost/v1/")},
		"password":       {WithAPIKey("lg_secret"), WithBaseURL("http://ann:secret@localhost")},
	} {
		if _, err := New(options...); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(WithAPIKey("lg_a"), WithBaseURL("http://localhost/base/path")); err != nil {
		t.Error(err)
	}
}
