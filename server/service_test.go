package server_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage/dbfile"
)

func TestASaneRequestIDIsEchoedAndAnyOtherReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range []string{"abc", "A-b_c.9", strings.Repeat("x", 128)} {
		for _, path := range []string{"/health", "/v1/workspace", "/nowhere", "/"} {
			if got := w.call("GET", path, "", nil, "X-Request-Id", id).header.Get("X-Request-Id"); got != id {
				t.Errorf("GET %s: sent %s, got %s", path, id, got)
			}
		}
	}
	made := regexp.MustCompile(`^[0-9a-f-]{36}$`)
	seen := make(map[string]bool)
	for _, id := range []string{"", " ", "a b", "a/b", "é", `"x"`, "<script>", "a,b", strings.Repeat("x", 129)} {
		got := w.call("GET", "/health", "", nil, "X-Request-Id", id).header.Get("X-Request-Id")
		if !made.MatchString(got) || seen[got] {
			t.Errorf("sent %q, got %q", id, got)
		}
		seen[got] = true
	}
}

func TestANewerSchemaMakesARunningServerUnready(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	newer := fstest.MapFS{"00999_later.sql": {Data: []byte("-- +goose Up\nCREATE TABLE later (id INTEGER PRIMARY KEY) STRICT;\n")}}
	w.must(fs.WalkDir(embed.Migrations(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(embed.Migrations(), path)
		newer[path] = &fstest.MapFile{Data: data}
		return err
	}))
	_, err := dbfile.Migrate(t.Context(), w.path, newer)
	w.must(err)
	w.call("GET", "/health/ready", "", nil).wantDetail(http.StatusServiceUnavailable, "The database's schema does not fit this server's version.")
	w.call("GET", "/health", "", nil).want(http.StatusOK)
}

// This one waits as long as the server does for another process's lock: 5 s.
func TestALockedDatabaseMakesARunningServerUnready(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	db, err := sql.Open("sqlite", w.path)
	w.must(err)
	defer db.Close()
	lock, err := db.Conn(t.Context())
	w.must(err)
	defer lock.Close()
	_, err = lock.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	w.must(err)
	w.call("GET", "/v1/workspace", a.key, nil).want(http.StatusOK) // reading goes on
	w.call("GET", "/health/ready", "", nil).
		wantDetail(http.StatusServiceUnavailable, "The server cannot write durably now. Nothing was recorded; try again shortly.")
	_, err = lock.ExecContext(t.Context(), "ROLLBACK")
	w.must(err)
	w.start(a, "ada")
}

// brokenFiles is a bug in a handler.
type brokenFiles struct{}

func (brokenFiles) Open(string) (fs.File, error) { panic("open /etc/pikarc: SELECT secret") }

func TestAPanicIsA500AndTheServerLives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(cfg *server.Config) { cfg.Dashboard = brokenFiles{} })
	w.expectBugs = true
	for range 3 {
		r := w.call("GET", "/", "", nil, "X-Request-Id", "the-broken-one").want(http.StatusInternalServerError)
		if string(r.body) != `{"detail":"Internal Server Error"}` {
			t.Errorf("a panic answered %s", r.body)
		}
	}
	w.call("GET", "/health", "", nil).want(http.StatusOK)
	if log := w.logs.String(); !strings.Contains(log, "SELECT secret") || !strings.Contains(log, "the-broken-one") || !strings.Contains(log, "dashboard.go") {
		t.Errorf("the log does not say what broke, where, and for whom:\n%s", log)
	}
}

func TestLogsHoldNoSecretAndNoUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expectBugs = true
	a := w.account(plans.Scale)
	const user, guess = "ada-lovelace-1815", "a-guessed-password"
	run := w.start(a, user)
	unknownKey := "lg_00000000_" + strings.Repeat("5", 64)
	for _, credential := range []string{a.key, a.token, unknownKey, a.token + "x", ""} {
		w.call("PUT", "/v1/blocked-users/"+user, credential, `{"reason":"`+user+`","`+user+`":1}`)
		w.call("PUT", "/v1/blocked-users/"+user, credential, `{"reason":"`+user+`"}`)
		w.call("DELETE", "/v1/blocked-users/nobody-"+user, credential, nil)
		w.call("GET", "/v1/users?q="+user+"&key="+a.key, credential, nil)
		w.call("GET", "/v1/"+user+"/"+a.key, credential, nil)
		w.call("POST", "/v1/blocked-users/"+user, credential, nil)
		w.call("POST", "/v1/runs/"+run+"/end", credential, `{"status":"`+a.key+`"}`)
		w.call("PATCH", "/v1/workspace", credential, `{"`+a.key+`":1`)
		w.call("POST", "/v1/runs", credential, map[string]any{"user_id": user}, keyHeader, user, "X-Request-Id", "request-"+strings.Repeat("9", 5))
		w.call("GET", "/v1/api-keys", credential, nil)
	}
	login(w, a.email, password).want(http.StatusOK)
	login(w, a.email, guess).want(http.StatusUnauthorized)
	w.call("POST", "/v1/auth/register", "", map[string]string{"email": a.email, "password": guess}).want(http.StatusBadRequest)
	r := w.call("POST", "/v1/api-keys/regenerate", a.token, nil).want(http.StatusOK)
	broken := w.another(testSecret)
	broken.expectBugs = true
	broken.server.SetDecider(func(guard.Request, guard.State) guard.Decision { panic("the engine broke") })
	broken.call("POST", "/v1/runs", r.text("key"), map[string]string{"user_id": user}).want(http.StatusInternalServerError)

	log := w.logs.String() + broken.logs.String()
	for what, secret := range map[string]string{
		"the key": a.key, "the new key": r.text("key"), "an unknown key": unknownKey, "a token": a.token, "the password": password,
		"a guessed password": guess, "a user id": user, "an email": a.email,
	} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %s:\n%s", what, log)
		}
	}
	for _, wanted := range []string{"method=PUT route=/v1/blocked-users/*user_id status=200", "status=401", "status=422", "request_id=request-99999", "level=ERROR"} {
		if !strings.Contains(log, wanted) {
			t.Errorf("the log lacks %s:\n%s", wanted, log)
		}
	}
}

// logSignal closes a channel at the first record with a message.
type logSignal struct {
	slog.Handler
	message string
	once    *sync.Once
	seen    chan struct{}
}

func (logSignal) Enabled(context.Context, slog.Level) bool { return true }

func (l logSignal) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == l.message {
		l.once.Do(func() { close(l.seen) })
	}
	return l.Handler.Handle(ctx, r)
}

func TestAnEndingServerAnswersAllThatIsOpen(t *testing.T) {
	t.Parallel()
	const open = 200
	signal := logSignal{Handler: slog.DiscardHandler, message: "shutting down", once: &sync.Once{}, seen: make(chan struct{})}
	w := newWorld(t, func(cfg *server.Config) { cfg.Log = slog.New(signal) })
	a := w.account(plans.Basic)
	inside, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.server.SetDecider(func(guard.Request, guard.State) guard.Decision {
		once.Do(func() { close(inside) })
		<-release
		return guard.Decision{}
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(ctx, ln) }()

	var reading, answered sync.WaitGroup
	reading.Add(open)
	client := &http.Client{Transport: &http.Transport{MaxIdleConns: open}}
	defer client.CloseIdleConnections()
	statuses := make(chan int, open)
	for range open {
		answered.Go(func() {
			status, err := startWhenRead(t.Context(), client, "http://"+ln.Addr().String(), a.key, reading.Done)
			if err != nil {
				t.Errorf("a request that was open: %v", err)
			}
			statuses <- status
		})
	}
	reading.Wait() // the handlers of all requests are at work
	<-inside
	stop()
	<-signal.seen
	select {
	case err := <-served:
		t.Fatalf("Serve returned %v with %d requests open", err, open)
	default:
	}
	close(release)
	answered.Wait()
	for range open {
		if got := <-statuses; got != http.StatusCreated {
			t.Errorf("a request that was open got status %d", got)
		}
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("an ended server takes connections", conn.Close())
	}
	var started int
	w.must(w.query(`SELECT running_runs FROM workspaces`, &started))
	if started != open {
		t.Errorf("%d of %d runs were kept", started, open)
	}
}

// startWhenRead starts a run, and calls reading once the server reads its
// body: a server asks for the body of such a request only then.
func startWhenRead(ctx context.Context, client *http.Client, url, key string, reading func()) (status int, err error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got100Continue: reading})
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/v1/runs/", strings.NewReader(`{"user_id":"ada"}`))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Expect", "100-continue")
	answer, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, errors.Join(err, answer.Body.Close())
}

// query reads one value past the server.
func (w *world) query(query string, dest any) error {
	db, err := sql.Open("sqlite", w.path)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.QueryRowContext(w.t.Context(), query).Scan(dest)
}

func TestAnEmptyServerSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	has := func() any {
		return w.call("GET", "/v1/server", "", nil).want(http.StatusOK).get("has_accounts")
	}
	if got := has(); got != false {
		t.Errorf("before anybody has an account: %v", got)
	}
	w.account(plans.Basic)
	if got := has(); got != true {
		t.Errorf("after: %v", got)
	}
}
