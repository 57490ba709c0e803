package mcp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// sessionHeader names a client's session in the streamable HTTP transport.
const sessionHeader = "Mcp-Session-Id"

// maxSessions is how many sessions are kept at once; the one that was silent longest gives way.
const maxSessions = 10_000

// Gateway stands before an MCP server that speaks streamable HTTP.
type Gateway struct {
	Options
	ctx      context.Context // of reports; never cancelled
	upstream *url.URL
	origins  []string // whose pages may call it
	proxy    *httputil.ReverseProxy

	mu       sync.Mutex
	sessions map[string]*kept
}

// kept is a session and when it was last used.
type kept struct {
	*session
	used time.Time
}

// NewGateway makes a gateway before an MCP server. origins are those of pages that may
// call it from a browser; none may unless named.
func NewGateway(
	ctx context.Context,
	o Options,
	upstream string,
	origins []string,
) (*Gateway, error) {
	u, err := url.Parse(upstream)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "" {
		return nil, fmt.Errorf(
			"--upstream %q: write the MCP server's address, as in https://example.com/mcp",
			upstream,
		)
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 50,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true, // bytes pass as they are
	}
	g := &Gateway{
		Options:  o,
		ctx:      context.WithoutCancel(ctx),
		upstream: u,
		origins:  origins,
		sessions: make(map[string]*kept),
	}
	g.proxy = &httputil.ReverseProxy{
		Rewrite:        g.rewrite,
		Transport:      transport,
		FlushInterval:  -1,
		ModifyResponse: g.watch,
		ErrorHandler:   g.unreachable,
	}
	return g, nil
}

// rewrite sends a request to the server's one address, whatever path it came to, so
// that there is no way around. Only the documents on authorization lie beside it.
func (g *Gateway) rewrite(r *httputil.ProxyRequest) {
	path, query := g.upstream.Path, r.In.URL.RawQuery
	if g.upstream.RawQuery != "" {
		query = strings.Trim(g.upstream.RawQuery+"&"+query, "&")
	}
	if isDocument(r.In) {
		path = r.In.URL.Path
	}
	r.Out.URL = &url.URL{
		Scheme:   g.upstream.Scheme,
		Host:     g.upstream.Host,
		Path:     path,
		RawQuery: query,
	}
	r.Out.Host = ""
	r.Out.Header.Del("Origin") // that was answered here
	r.Out.Header.Del("Accept-Encoding")
}

// isDocument reports whether a request reads a document about authorization, which is passed on
// unread.
func isDocument(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/.well-known/") &&
		!strings.Contains(r.URL.Path, "..")
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if why := g.foreign(r); why != "" {
		http.Error(w, why, http.StatusForbidden)
		return
	}
	switch {
	case r.Method == http.MethodPost:
		g.post(w, r)
	case r.Method == http.MethodDelete:
		g.proxy.ServeHTTP(w, r)
		if id := r.Header.Get(sessionHeader); id != "" {
			g.forget(id)
		}
	case slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, r.Method):
		g.proxy.ServeHTTP(w, r)
	default:
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	}
}

// foreign says why a request of a page that a browser shows is not served: a name
// that somebody has pointed at this machine, or a page of another origin.
func (g *Gateway) foreign(r *http.Request) string {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local != nil && isLoopback(local.String()) && !isLoopback(withPort(r.Host)) {
		return "This gateway is for this machine: call it by localhost or 127.0.0.1"
	}
	if origin := r.Header.Get("Origin"); origin != "" && !slices.Contains(g.origins, origin) {
		return "Pages of this origin may not call this gateway: name it with --allow-origins"
	}
	return ""
}

// withPort adds HTTP's port to a host that names none.
func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return host + ":80"
}

// isLoopback reports whether an address is one of this machine.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// pendingKey is the key of a context's pending calls.
type pendingKey struct{}

// pending is the guarded request whose answer is awaited on this connection.
type pending struct {
	session *session
	id, key string // the request's, and under which its session has it
}

// post passes messages on to the server, after the calls of tools in them were decided. A denied
// one is answered here and never reaches the server.
func (g *Gateway) post(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		answerJSON(
			w,
			http.StatusRequestEntityTooLarge,
			errorAnswer(
				nil,
				codeInvalid,
				fmt.Sprintf("The message is larger than %d bytes, or was cut off", maxMessage),
				"",
			),
		)
		return
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.TransferEncoding = nil
	// Everything that is not understood is refused here, and not passed on: the server might
	// understand it, and the call would be unguarded.
	m, err := parse(body)
	id := r.Header.Get(sessionHeader)
	switch {
	case r.Header.Get("Content-Encoding") != "":
		answerJSON(
			w,
			http.StatusUnsupportedMediaType,
			errorAnswer(
				nil,
				codeInvalid,
				"A compressed message is not passed on: its guard cannot read it",
				"",
			),
		)
	case err != nil:
		answerJSON(
			w,
			http.StatusBadRequest,
			errorAnswer(
				nil,
				codeParse,
				"The message is not passed on, because its guard cannot read it: "+err.Error(),
				"",
			),
		)
	case !m.isGuarded():
		if cancelled := m.cancels(); cancelled != "" && id != "" {
			g.session(id).cancelled(cancelled)
		}
		g.proxy.ServeHTTP(w, r)
	// A batch could hide a guarded call behind the answer of another one; without an id there is
	// nobody to refuse.
	case m.batch != nil || m.id == "":
		answerJSON(
			w,
			http.StatusBadRequest,
			errorAnswer(
				nil,
				codeInvalid,
				"A call in a batch, or without an id, is not passed on",
				"",
			),
		)
	default:
		g.call(w, r, m, id)
	}
}

// call asks for a call, and passes it on.
func (g *Gateway) call(w http.ResponseWriter, r *http.Request, m message, id string) {
	s, key := g.session(id), m.id
	if id == "" { // of any client: its id is not the only one of its kind
		key += fmt.Sprintf(" %p", r)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	c, fresh := s.begin(key, cancel)
	if !fresh {
		answerJSON(
			w,
			http.StatusBadRequest,
			errorAnswer(m.rawID, codeInvalid, "A request with this id is under way", ""),
		)
		return
	}
	// The client may cancel while a person decides; passes tells whether the call is still wanted.
	refusal := s.guard(ctx, m, c)
	wanted := s.passes(key, c)
	s.done()
	switch {
	case !wanted:
		answerJSON(
			w,
			http.StatusOK,
			errorAnswer(m.rawID, codeInvalid, "The request was cancelled", ""),
		)
	case refusal != nil:
		s.forget(key)
		answerJSON(w, http.StatusOK, refusal)
	default:
		defer g.ended(
			w,
			r,
			s,
			key,
			id == "",
		) // also where the proxy panics, because the client is gone
		p := &pending{session: s, id: m.id, key: key}
		g.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), pendingKey{}, p)))
	}
}

// ended settles a call whose connection has ended without an answer. Within a session
// it may still come on another one: that of a stream whose events are asked for again.
func (g *Gateway) ended(
	w http.ResponseWriter,
	r *http.Request,
	s *session,
	key string,
	alone bool,
) {
	gone := r.Context().Err() != nil
	kind, _, _ := mime.ParseMediaType(w.Header().Get("Content-Type"))
	switch {
	case alone && gone:
		s.close(key, true, "cancelled")
	case alone || !gone && kind != "text/event-stream":
		s.close(key, true, "there was no answer")
	}
}

// answerJSON sends an answer of the gateway's own.
func answerJSON(w http.ResponseWriter, status int, content []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(content) // the client may be gone
}

// unreachable answers 502 for a server that does not answer.
func (g *Gateway) unreachable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		g.Log.Warn("the MCP server cannot be reached", "error", err.Error())
	}
	answerJSON(
		w,
		http.StatusBadGateway,
		errorAnswer(nil, codeInvalid, "The MCP server cannot be reached", ""),
	)
}

// watch looks for the answers of calls in what the server sends, while that passes on.
func (g *Gateway) watch(resp *http.Response) error {
	p, _ := resp.Request.Context().Value(pendingKey{}).(*pending)
	id := resp.Request.Header.Get(sessionHeader)
	if p == nil && id == "" || resp.StatusCode >= 300 || resp.StatusCode == http.StatusAccepted {
		return nil
	}
	if p == nil {
		p = &pending{session: g.session(id)}
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch kind {
	case "application/json":
		resp.Body = &watched{ReadCloser: resp.Body, whole: true, found: p.found}
	case "text/event-stream":
		resp.Body = &watched{ReadCloser: resp.Body, found: p.found}
	}
	return nil
}

// found is told each message of an answer.
func (p *pending) found(raw []byte) {
	m, err := parse(raw)
	if err != nil {
		return
	}
	// Without a session, the request's key has more than the id in it.
	if p.key != "" && m.isResponse() && m.id == p.id {
		m.id = p.key
	}
	p.session.answered(m)
}

// watched is an answer's body whose messages are looked at as they are read: all of
// it, or the data of each of its events.
type watched struct {
	io.ReadCloser
	whole bool
	found func([]byte)
	line  []byte // what of the current line has come
	data  []byte // of the current event
	over  bool   // too much to be looked at
}

// Read implements io.Reader.
func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.see(p[:n])
	if errors.Is(err, io.EOF) && b.whole && !b.over {
		b.found(b.data)
	}
	return n, err
}

// see keeps what is needed of the server's answer: whole JSON, or the lines of an event stream. It
// never holds the answer up, and gives up on one that is too large.
func (b *watched) see(part []byte) {
	// Beyond that, in bytes, the answer still passes on; only how the call ended stays
	// unknown.
	const most = 256 << 20
	if b.over = b.over || len(b.data)+len(b.line)+len(part) > most; b.over {
		b.data, b.line = nil, nil
		return
	}
	if b.whole {
		b.data = append(b.data, part...)
		return
	}
	for len(part) > 0 {
		n, piece, _ := bufio.ScanLines(part, false)
		if n == 0 {
			b.line = append(b.line, part...)
			return
		}
		line := append(b.line, piece...)
		b.line, part = b.line[:0], part[n:]
		line = bytes.TrimSuffix(line, []byte("\r"))
		value, is := bytes.CutPrefix(line, []byte("data:"))
		switch {
		case is:
			b.data = append(append(b.data, bytes.TrimPrefix(value, []byte(" "))...), '\n')
		case len(line) == 0 && len(b.data) > 0:
			b.found(b.data)
			b.data = b.data[:0]
		}
	}
}

// session finds a client's session, or makes it.
func (g *Gateway) session(id string) *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := g.sessions[id]
	if k == nil {
		// Clients may leave without a word, so sessions would gather for ever.
		if len(g.sessions) >= maxSessions {
			g.dropOldest()
		}
		k = &kept{session: newSession(g.ctx, g.Options)}
		g.sessions[id] = k
	}
	k.used = g.Now()
	return k.session
}

// dropOldest ends the session that was used longest ago, when there are too many.
func (g *Gateway) dropOldest() {
	oldest, first := "", true
	for id, k := range g.sessions {
		if first || k.used.Before(g.sessions[oldest].used) {
			oldest, first = id, false
		}
	}
	// Beside what goes on: it waits for reports, and mu is held here.
	go g.sessions[oldest].end("COMPLETED", "the session was given up")
	delete(g.sessions, oldest)
}

// forget ends a session that its client has ended.
func (g *Gateway) forget(id string) {
	g.mu.Lock()
	k := g.sessions[id]
	delete(g.sessions, id)
	g.mu.Unlock()
	if k != nil {
		k.end("COMPLETED", "the session has ended")
	}
}

// Close ends all sessions.
func (g *Gateway) Close() {
	g.mu.Lock()
	left := g.sessions
	g.sessions = make(map[string]*kept)
	g.mu.Unlock()
	var all sync.WaitGroup
	for _, k := range left {
		all.Go(func() { k.end("COMPLETED", "the gateway has ended") })
	}
	all.Wait()
}

// Serve serves a gateway until the context ends.
func (g *Gateway) Serve(ctx context.Context, ln net.Listener) error {
	hs := &http.Server{
		Handler:           g,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		IdleTimeout:       2 * time.Minute,
	}
	served := make(chan error, 1)
	go func() { served <- hs.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the gateway: %w", err)
	case <-ctx.Done():
	}
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if hs.Shutdown(short) != nil { // streams never finish by themselves
		_ = hs.Close()
	}
	g.Close()
	return nil
}
