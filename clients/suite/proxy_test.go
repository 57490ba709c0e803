package suite

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// fault is what happens to the requests that it matches.
type fault struct {
	Kind   string `json:"kind"`
	Method string `json:"method"`
	Path   string `json:"path"`  // the end of the path, without its query
	Times  int    `json:"times"` // 0: always
	Seen   int    `json:"-"`
}

// proxy stands between a client and the server, and injects faults.
type proxy struct {
	*httptest.Server
	target string

	mu     sync.Mutex
	faults []*fault
	asked  []string      // METHOD PATH of all requests that reached the proxy
	report func()        // before a report is passed on; may be nil
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
func (p *proxy) next(r *http.Request) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, r.Method+" "+r.URL.Path)
	for _, f := range p.faults {
		if f.Method == r.Method && strings.HasSuffix(strings.TrimSuffix(r.URL.Path, "/"), f.Path) && (f.Times == 0 || f.Seen < f.Times) {
			f.Seen++
			return f.Kind
		}
	}
	return ""
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
	switch kind := p.next(r); kind {
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
			w.Header().Set("Retry-After", "0")
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
