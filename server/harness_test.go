package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/argon2"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
	"github.com/pikarc/server/storage/dbfile"
)

// The tests of this package speak HTTP over a real socket to a real server on
// a real file; call holds every answer against openapi.json.

const (
	// password is that of every account that the harness makes.
	password   = "correct horse battery staple"
	testSecret = "a secret of the tests, long enough to be taken"
	tokenTTL   = 24 * time.Hour
)

// cheapHash is what is stored for password: argon2id as always, but in the
// least memory that a stored hash may ask for, since the real cost is slow on purpose.
func cheapHash() string {
	salt := []byte("eight or more bytes")
	b64 := base64.RawStdEncoding.EncodeToString
	return "$argon2id$v=19$m=8,t=1,p=1$" + b64(salt) + "$" + b64(argon2.IDKey([]byte(password), salt, 1, 8, 1, 32))
}

// emptyDatabase is a migrated file, made once.
var emptyDatabase = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "pikarc-server-test")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "pikarc.db")
	if _, err := dbfile.Migrate(context.Background(), path, embed.Migrations()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// clock is what the server under test takes for the time. It stands still
// until a test moves it.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()).UTC() }
func (c *clock) set(t time.Time)         { c.ms.Store(t.UnixMilli()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// logBuffer collects what the server logs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is a running server, with its store and its clock.
type world struct {
	t      *testing.T
	clock  *clock
	store  *storage.Store
	secret auth.Secret
	server *server.Server
	path   string // of the database
	url    string
	base   string // below which the documented paths are served too
	client *http.Client
	logs   *logBuffer
	routes []server.TestRoute
	// expectBugs says that 500 answers are what the test is about.
	expectBugs bool
	accounts   *atomic.Int64
}

// newWorld starts a server at 2026-11-23T07:08:29.123Z; changes, if any, are
// made to its configuration before.
func newWorld(t *testing.T, changes ...func(*server.Config)) *world {
	t.Helper()
	return newWorldOn(t, storage.Options{}, changes...)
}

// newWorldOn is newWorld with options of the store.
func newWorldOn(t *testing.T, opts storage.Options, changes ...func(*server.Config)) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{}, accounts: &atomic.Int64{}, path: filepath.Join(t.TempDir(), "pikarc.db")}
	w.clock.set(time.Date(2026, 11, 23, 7, 8, 29, 123e6, time.UTC))
	database, err := emptyDatabase()
	w.must(err)
	w.must(os.WriteFile(w.path, database, 0o600))
	w.serve(testSecret, opts, changes...)
	return w
}

// another is a second process on the same database, with its own server secret.
func (w *world) another(secret string) *world {
	w.t.Helper()
	other := *w
	other.serve(secret, storage.Options{})
	return &other
}

func (w *world) serve(secret string, opts storage.Options, changes ...func(*server.Config)) {
	w.t.Helper()
	var err error
	w.secret, err = auth.LoadSecret(filepath.Dir(w.path), secret)
	w.must(err)
	opts.Migrations, opts.Secret, opts.Now = embed.Migrations(), w.secret, w.clock.now
	w.store, err = storage.Open(w.t.Context(), w.path, opts)
	w.must(err)
	store, t := w.store, w.t
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	plan, err := plans.ByID(plans.Basic)
	w.must(err)
	w.logs = &logBuffer{}
	cfg := server.Config{
		Version: "1.2.3-test", Secret: w.secret, TokenTTL: tokenTTL, OpenRegistration: true, DefaultPlan: plan,
		Dashboard: fstest.MapFS{
			"index.html":   {Data: []byte("<!doctype html><title>Pikarc</title>")},
			"assets/ui.js": {Data: []byte("export {}")},
		},
		Clients: fstest.MapFS{
			"pikarc-1.0.0-py3-none-any.whl": {Data: []byte("a wheel")}, "pikarc-1.0.0.tar.gz": {Data: []byte("its source")},
			"pikarc.tgz": {Data: []byte("for npm")},
		},
		Log: slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: w.clock.now,
	}
	for _, change := range changes {
		change(&cfg)
	}
	w.server, w.base = server.New(w.store, cfg), cfg.BasePath
	w.routes = w.server.TestRoutes()
	ts := httptest.NewServer(w.server.Handler())
	t.Cleanup(ts.Close)
	w.url, w.client = ts.URL, ts.Client()
	w.client.Transport.(*http.Transport).DisableCompression = true // answers are looked at as they were sent
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
}

// in is the same world for a subtest, so that what fails is its own.
func (w *world) in(t *testing.T) *world {
	sub := *w
	sub.t = t
	return &sub
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// account is a tenant with both its credentials; its password is password.
type account struct {
	email       string
	key, token  string
	admin       string // a key of that scope, of fixtures
	session     string // the id of the token's
	id          uuid.UUID
	workspaceID uuid.UUID
	workspace   storage.WorkspaceKey
}

// account makes a tenant on a plan, past the API.
func (w *world) account(plan plans.ID) account {
	w.t.Helper()
	email := fmt.Sprintf("someone-%d@example.com", w.accounts.Add(1))
	session := storage.NewSession{ID: auth.NewSessionID(), Agent: "a browser", Expires: w.tokens().Expiry()}
	a, ws, key, err := w.store.CreateAccount(w.t.Context(), storage.NewAccount{
		Email: email, PasswordHash: cheapHash(), Plan: plan, Session: &session,
	})
	w.must(err)
	return account{
		email: email, key: key.Full, token: w.token(a, session.ID), session: uuid.UUID(session.ID).String(),
		id: a.ID, workspaceID: ws.ID, workspace: ws.Key(),
	}
}

// keyOf makes another key of a tenant's, past the API.
func (w *world) keyOf(a account, scope storage.Scope) string {
	w.t.Helper()
	k, err := w.store.CreateKey(w.t.Context(), a.workspace, storage.NewKey{Label: string(scope), Scope: scope})
	w.must(err)
	return k.Full
}

func (w *world) tokens() *auth.Tokens { return auth.NewTokens(w.secret, tokenTTL, w.clock.now) }

// token signs an account in, past the API.
func (w *world) token(a storage.Account, session auth.SessionID) string {
	w.t.Helper()
	token, err := w.tokens().Issue(session, a.ID.String(), a.Workspace.String(), a.TokenVersion)
	w.must(err)
	return token
}

// response is an answer that has already been held against openapi.json.
type response struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   []byte
	read   any // the body, once get has read it
}

// call makes a request. The path goes out as it is, so the caller escapes it.
// An empty credential sends none. The body may be nil (none), a string or
// []byte (as it is) or anything else (as JSON). Headers are names and values
// in turn.
func (w *world) call(method, path, credential string, body any, headers ...string) *response {
	w.t.Helper()
	r, err := w.try(method, path, credential, body, headers...)
	w.must(err)
	return r
}

// try is call for other goroutines than the test's own.
func (w *world) try(method, path, credential string, body any, headers ...string) (*response, error) {
	w.t.Helper()
	sent, err := encodeBody(body)
	if err != nil {
		return nil, err
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(sent)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, reader)
	if err != nil {
		return nil, err
	}
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	answer, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	got, err := readAnswer(answer)
	if err != nil {
		return nil, err
	}
	r := &response{t: w.t, what: method + " " + path, status: answer.StatusCode, header: answer.Header, body: got}
	checkAnswer(w.t, w.routes, documented(req, w.base), sent, r)
	if r.status == http.StatusInternalServerError && !w.expectBugs {
		w.t.Errorf("%s is a bug of the server:\n%s", r.what, w.logs)
	}
	return r, nil
}

// documented is a request as the OpenAPI document has it: without the base path.
func documented(req *http.Request, base string) *http.Request {
	req = req.Clone(req.Context())
	if strings.HasPrefix(req.URL.EscapedPath(), base+"/") {
		req.URL.Path, req.URL.RawPath = strings.TrimPrefix(req.URL.Path, base), strings.TrimPrefix(req.URL.RawPath, base)
	}
	return req
}

// readAnswer reads all of an answer, of a stream the first event only.
func readAnswer(answer *http.Response) ([]byte, error) {
	if answer.Header.Get("Content-Type") == "text/event-stream" && answer.Request.Method != http.MethodHead {
		_, raw, err := readEvent(bufio.NewReader(answer.Body))
		return raw, err
	}
	return io.ReadAll(answer.Body)
}

func encodeBody(body any) ([]byte, error) {
	switch b := body.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(b), nil
	case []byte:
		return b, nil
	default:
		return json.Marshal(b)
	}
}

// want ends the test unless the status is this.
func (r *response) want(status int) *response {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s answered %d %s, want %d", r.what, r.status, shortBody(r.body), status)
	}
	return r
}

// wantDetail ends the test unless the answer is this error.
func (r *response) wantDetail(status int, detail string) *response {
	r.t.Helper()
	if got := r.want(status).text("detail"); got != detail {
		r.t.Fatalf("%s answered %q, want %q", r.what, got, detail)
	}
	return r
}

// get walks into the answer by names and indexes, "decision.reason" or
// "items.0.id", and ends the test when there is no such place. Numbers are json.Number.
func (r *response) get(path string) any {
	r.t.Helper()
	if r.read == nil {
		var err error
		if r.read, err = decodeJSON(r.body); err != nil {
			r.t.Fatalf("%s: %v", r.what, err)
		}
	}
	v := r.read
	for name := range strings.SplitSeq(path, ".") {
		next, ok := step(v, name)
		if !ok {
			r.t.Fatalf("%s answered %s, without %s", r.what, shortBody(r.body), path)
		}
		v = next
	}
	return v
}

func step(v any, name string) (any, bool) {
	switch v := v.(type) {
	case map[string]any:
		next, ok := v[name]
		return next, ok
	case []any:
		var i int
		if _, err := fmt.Sscan(name, &i); err != nil || i < 0 || i >= len(v) {
			return nil, false
		}
		return v[i], true
	default:
		return nil, false
	}
}

// text is get in words: a string as it is, anything else as JSON.
func (r *response) text(path string) string {
	r.t.Helper()
	v := r.get(path)
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// start starts a run that must be allowed, and returns its id.
func (w *world) start(a account, user string) string {
	w.t.Helper()
	r := w.call("POST", "/v1/runs/", a.key, map[string]any{"user_id": user}).want(http.StatusCreated)
	if r.text("decision.outcome") != "ALLOW" {
		w.t.Fatalf("the run of %s was denied: %s", user, r.body)
	}
	return r.text("id")
}

// step asks for a model call that must be allowed, and returns its path.
func (w *world) step(a account, run, model string) string {
	w.t.Helper()
	body := map[string]any{"type": "MODEL_CALL", "sequence": 1, "model": model}
	r := w.call("POST", "/v1/runs/"+run+"/steps", a.key, body).want(http.StatusCreated)
	if r.text("decision.outcome") != "ALLOW" {
		w.t.Fatalf("the step was denied: %s", r.body)
	}
	return "/v1/runs/" + run + "/steps/" + r.text("id")
}
