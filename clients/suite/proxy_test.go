package suite

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fault is what happens to the requests that it matches.
type fault struct {
	Kind   string `json:"kind"`
	Method string `json:"method"`
	Path   string `json:"path"`  // the end of the path, without its query
	Times  int    `json:"times"` // 0: always
	// RetryAfter, in seconds, is what a 503 or 429 tells, to be obeyed.
	RetryAfter int `json:"retry_after"`
	// Seconds of silence of a request that is late, until it is passed on.
	Seconds float64 `json:"seconds"`

	seen  int
	told  time.Time       // when RetryAfter was told
	waits []time.Duration // until the same was asked again
}

// matches reports whether a request is one that the fault happens to.
func (f *fault) matches(r *http.Request) bool {
	return f.Method == r.Method && strings.HasSuffix(strings.TrimSuffix(r.URL.Path, "/"), f.Path)
}

// proxy stands between a client and the server, and injects faults.
type proxy struct {
	*httptest.Server
	target string

	mu     sync.Mutex
	faults []*fault
	asked  []string      // METHOD PATH of all requests that reached the proxy
	report func()        // before a report is passed on; may be nil
	die    func()        // kills the server
	silent chan struct{} // closed to end all silences
}

func newProxy(t *testing.T, target string) *proxy {
	p := &proxy{target: target, silent: make(chan struct{})}
	p.Server = httptest.NewServer(p)
	t.Cleanup(func() {
		close(p.silent)
		p.Close()
	})
	return p
}

func (p *proxy) set(faults []*fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.asked = faults, nil
}

// onReport sets what happens before the next report is passed on.
func (p *proxy) onReport(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report = do
}

// next returns the fault for a request, if any is left.
func (p *proxy) next(r *http.Request) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, r.Method+" "+r.URL.Path)
	for _, f := range p.faults {
		if !f.matches(r) {
			continue
		}
		if !f.told.IsZero() {
			f.waits = append(f.waits, time.Since(f.told))
			f.told = time.Time{}
		}
		if f.Times == 0 || f.seen < f.Times {
			f.seen++
			if f.RetryAfter > 0 {
				f.told = time.Now()
			}
			return *f
		}
	}
	return fault{}
}

// checkWaits checks that each Retry-After was obeyed, by the proxy's clock.
func (p *proxy) checkWaits(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		if f.RetryAfter == 0 {
			continue
		}
		if least := time.Duration(f.RetryAfter) * time.Second; len(f.waits) != f.Times || slices.Min(f.waits) < least {
			t.Errorf("%s %s was asked again after %v, want %v at least", f.Method, f.Path, f.waits, least)
		}
	}
}

// refuse refuses all new connections, and accept ends that.
func (p *proxy) refuse() {
	p.Listener.Close()
	p.Config.SetKeepAlivesEnabled(false) // ends those that are idle, and others after their answer
}

func (p *proxy) accept(t *testing.T) {
	p.Config.SetKeepAlivesEnabled(true)
	if conn, err := net.Dial("tcp", p.Listener.Addr().String()); err == nil {
		conn.Close()
		return // it has accepted all the time
	}
	listener, err := net.Listen("tcp", p.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p.Listener = listener
	go p.Config.Serve(listener)
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if r.Method == http.MethodPatch {
		p.mu.Lock()
		do := p.report
		p.report = nil
		p.mu.Unlock()
		if do != nil {
			do()
		}
	}
	f := p.next(r)
	switch kind := f.Kind; kind {
	case "then refuse":
		p.refuse()
		p.forward(w, r, body, -1)
	case "then die":
		answer := httptest.NewRecorder()
		p.forward(answer, r, body, -1)
		p.die()
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
	case "late":
		late := time.NewTimer(time.Duration(f.Seconds * float64(time.Second)))
		defer late.Stop()
		select {
		case <-late.C:
			p.forward(w, r, body, -1)
		case <-r.Context().Done():
		}
	case "":
		p.forward(w, r, body, -1)
	case "reset before":
		reset(w)
	case "reset after":
		p.forward(httptest.NewRecorder(), r, body, -1)
		reset(w)
	case "half an answer":
		p.forward(w, r, body, 2)
	case "silence":
		select {
		case <-p.silent:
		case <-r.Context().Done():
		}
	case "500", "503", "429", "401":
		w.Header().Set("Content-Type", "application/json")
		if kind == "503" || kind == "429" {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		w.WriteHeader(map[string]int{"500": 500, "503": 503, "429": 429, "401": 401}[kind])
		io.WriteString(w, `{"detail":"injected"}`)
	case "garbage":
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html>Welcome to nginx!</html>")
	default:
		panic("no such fault: " + kind)
	}
}

// forward asks the server and passes its answer on, or only the first part of it.
func (p *proxy) forward(w http.ResponseWriter, r *http.Request, body []byte, part int) {
	target, err := url.Parse(p.target)
	if err != nil {
		panic(err)
	}
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI, out.Host = "http", target.Host, "", ""
	out.Body = io.NopCloser(bytes.NewReader(body))
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		reset(w)
		return
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		reset(w)
		return
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	if part >= 0 {
		w.Write(got[:min(part, len(got))])
		reset(w)
		return
	}
	w.Write(got)
}

// reset breaks the connection off.
func reset(w http.ResponseWriter) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	if flusher, ok := w.(http.Flusher); ok && w.Header().Get("Content-Type") != "" {
		flusher.Flush()
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}
