package e2e_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver for what an administrator does

	testpostgres "github.com/pikarc/server/testdata/postgres"
)

// administered is a PostgreSQL server of a test's own, with a database whose owner
// is nobody special.
type administered struct {
	*testpostgres.Server
	t     *testing.T
	admin *sql.DB
	url   string // of the database, as its owner
}

func newAdministered(t *testing.T) *administered {
	t.Helper()
	server, err := testpostgres.Start("wal_level=replica")
	a := &administered{Server: server, t: t}
	a.must(err)
	t.Cleanup(func() { a.must(server.Stop()) })
	a.must(server.Admit("host all node all scram-sha-256", "hostnossl all overtls all reject"))
	a.admin, err = sql.Open("pgx", server.URL("postgres"))
	a.must(err)
	t.Cleanup(func() { a.must(a.admin.Close()) })
	a.do("SELECT pg_reload_conf()", "CREATE ROLE node LOGIN PASSWORD '"+databasePassword+"'")
	return a
}

func (a *administered) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// do runs statements as an administrator does.
func (a *administered) do(statements ...string) {
	a.t.Helper()
	for _, s := range statements {
		_, err := a.admin.ExecContext(a.t.Context(), s)
		a.must(err)
	}
}

// create makes the database.
func (a *administered) create(options string) {
	a.t.Helper()
	a.do("CREATE DATABASE ledger OWNER node ENCODING 'UTF8' TEMPLATE template0 " + options)
	a.url = a.as("node", "ledger")
}

// as is how a user reaches a database.
func (a *administered) as(user, database string) string {
	return strings.Replace(a.URL(database), "pikarc@", user+":"+databasePassword+"@", 1)
}

// forNew changes what holds for new sessions, and ends those of the nodes.
func (a *administered) forNew(statement string) {
	a.t.Helper()
	a.do(statement, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'node'")
}

// restart ends the server as its operator does, and runs it again.
func (a *administered) restart(standby bool) {
	a.t.Helper()
	a.must(a.Shutdown())
	a.must(a.Standby(standby))
	a.must(a.Run())
}

// older passes connections on to the server, which then says that it is PostgreSQL 14.
func (a *administered) older(databaseURL string) string {
	a.t.Helper()
	var number int64
	row := a.admin.QueryRowContext(a.t.Context(), "SELECT current_setting('server_version_num')::bigint")
	a.must(row.Scan(&number))
	of := func(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	there, err := url.Parse(databaseURL)
	a.must(err)
	ln, err := (&net.ListenConfig{}).Listen(a.t.Context(), "tcp", "127.0.0.1:0")
	a.must(err)
	var open sync.WaitGroup
	pass := func(client net.Conn) {
		server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", there.Host)
		if err != nil {
			_ = client.Close()
			return
		}
		open.Go(func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		})
		buf := make([]byte, 64<<10)
		for err == nil {
			var n int
			n, err = server.Read(buf)
			_, _ = client.Write(bytes.Replace(buf[:n], of(number), of(140018), 1))
		}
		_ = client.Close()
	}
	open.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			open.Go(func() { pass(client) })
		}
	})
	a.t.Cleanup(func() { _ = ln.Close(); open.Wait() })
	through := *there
	through.Host = ln.Addr().String()
	return through.String()
}

// What keeps a node from using a server is said with what to do about it, by
// whatever needs the database.
func TestWhatKeepsANodeFromPostgresIsSaid(t *testing.T) {
	t.Parallel()
	a := newAdministered(t)
	a.create("")
	createUserOn(t, a.url, "me@example.com", "basic")
	a.do("CREATE ROLE overtls LOGIN", "CREATE ROLE crowded LOGIN CONNECTION LIMIT 0", "CREATE ROLE stranger LOGIN",
		"CREATE ROLE reader LOGIN", "ALTER ROLE reader SET default_transaction_read_only = on")
	refused := func(name, url string, words ...string) {
		t.Helper()
		for _, args := range [][]string{{"serve", "--addr", "127.0.0.1:0"}, {"verify"}} {
			out := onDatabase(url, args...).run(t)
			if out.code != 1 || strings.Contains(out.stdout, "serves") {
				t.Errorf("%s: pikarc %q ended with %d: %s", name, args, out.code, out.stdout)
			}
			for _, word := range append(words, "postgres://") {
				if !strings.Contains(out.stderr, word) {
					t.Errorf("%s: pikarc %q does not say %q: %s", name, args, word, out.stderr)
				}
			}
			if all := out.stdout + out.stderr; strings.Contains(all, databasePassword) || strings.Contains(all, "wrong-one") {
				t.Errorf("%s: pikarc %q tells the password: %s", name, args, all)
			}
		}
	}
	refused("a wrong password", strings.Replace(a.url, databasePassword, "wrong-one", 1), "check the user and the password", "pg_hba.conf")
	refused("TLS asked for", a.as("overtls", "ledger"), "sslmode=verify-full")
	refused("no connection left", a.as("crowded", "ledger"), "max_connections")
	refused("no privilege", a.as("stranger", "ledger"), "owner of the database")
	refused("read only", a.as("reader", "ledger"), "takes no writes", "name the primary")
	refused("no such database", a.as("node", "nothing"), "create it")
	refused("an older server", a.older(a.url), "older than PostgreSQL 15")
	a.restart(true)
	refused("a standby", a.url, "standby", "name the primary")
	p := spawnBinary(t, pikarc, []string{"PIKARC_DATABASE=" + a.url, sharedSecret}, "serve", "--addr", "127.0.0.1:0", "--wait", "60s")
	p.await(t, "waits", func() bool { return strings.Contains(p.stderr.String(), "waiting") })
	a.restart(false) // as one that is promoted
	p.await(t, "serves", func() bool { return strings.Contains(p.stdout.String(), "serves") })
	p.stop(t)
}

// fullDisk makes the database on a disk of its own, where this process may mount
// one, and returns what fills that and what empties it. Elsewhere PostgreSQL is
// made to say what it says of a full disk.
func (a *administered) fullDisk() (fill, empty func()) {
	a.t.Helper()
	dir, err := os.MkdirTemp("", "pikarc-full-disk")
	a.must(err)
	a.t.Cleanup(func() { a.must(os.RemoveAll(dir)) })
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=64m,mode=755"); err != nil {
		a.t.Logf("no disk can be mounted (%v): a trigger says that it is full", err)
		a.create("")
		return a.fullByTrigger()
	}
	a.t.Cleanup(func() { a.must(syscall.Unmount(dir, syscall.MNT_DETACH)) })
	space, ballast := filepath.Join(dir, "space"), filepath.Join(dir, "ballast")
	a.must(os.Mkdir(space, 0o700))
	a.must(a.Own(space))
	a.do("CREATE TABLESPACE small LOCATION '" + space + "'")
	a.create("TABLESPACE small")
	fill = func() {
		f, err := os.Create(ballast)
		a.must(err)
		for _, piece := range []int{1 << 20, 1 << 10} {
			for err = nil; err == nil; {
				_, err = f.Write(make([]byte, piece))
			}
			if !errors.Is(err, syscall.ENOSPC) {
				a.must(err)
			}
		}
		a.must(f.Close())
	}
	return fill, func() { a.must(os.Remove(ballast)) }
}

func (a *administered) fullByTrigger() (fill, empty func()) {
	run := func(statements ...string) {
		a.t.Helper()
		db, err := sql.Open("pgx", a.URL("ledger"))
		a.must(err)
		for _, s := range statements {
			_, err := db.ExecContext(a.t.Context(), s)
			a.must(err)
		}
		a.must(db.Close())
	}
	fill = func() {
		run(`CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$`)
		for _, table := range []string{"runs", "probes"} {
			run("CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON " + table + " FOR EACH ROW EXECUTE FUNCTION disk_is_full()")
		}
	}
	return fill, func() { run("DROP FUNCTION disk_is_full CASCADE") }
}

// Whatever happens to the server while a node serves, its answers are 503 with a
// word for the operator, /health/ready tells the truth, and all goes on as soon as
// it is over. Nothing is lost, and nothing is booked twice.
func TestANodeOutlivesWhatHappensToPostgres(t *testing.T) {
	t.Parallel()
	a := newAdministered(t)
	fill, empty := a.fullDisk()
	u := createUserOn(t, a.url, "me@example.com", "enterprise")
	p := serveNode(t, a.url)
	p.call(t, "PATCH", "/v1/workspace/", p.signIn(t, u.Email), map[string]int{"max_concurrent_runs": 100_000}).want(t, http.StatusOK)
	p.stop(t)
	locked := func() (free func()) {
		db, err := sql.Open("pgx", a.URL("ledger"))
		a.must(err)
		tx, err := db.BeginTx(t.Context(), nil)
		a.must(err)
		_, err = tx.ExecContext(t.Context(), "LOCK TABLE ledger_version IN ACCESS EXCLUSIVE MODE")
		a.must(err)
		return func() { a.must(errors.Join(tx.Rollback(), db.Close())) }
	}
	var free func()
	allowed := 0
	for _, fault := range []struct {
		name        string
		happen, end func()
		word        string
	}{
		{"killed", func() { a.must(a.Kill()) }, func() { a.must(a.Run()) }, "connect"},
		{"stopped", func() { a.must(a.Shutdown()) }, func() { a.must(a.Run()) }, "connect"},
		{"a standby", func() { a.restart(true) }, func() { a.restart(false) }, "takes no writes"},
		{"out of connections", func() { a.forNew("ALTER ROLE node CONNECTION LIMIT 0") },
			func() { a.do("ALTER ROLE node CONNECTION LIMIT -1") }, "max_connections"},
		{"another password", func() { a.forNew("ALTER ROLE node PASSWORD 'another'") },
			func() { a.do("ALTER ROLE node PASSWORD '" + databasePassword + "'") }, "check the user and the password"},
		{"statement_timeout", func() { a.forNew("ALTER ROLE node SET statement_timeout = '50ms'"); free = locked() },
			func() { free(); a.forNew("ALTER ROLE node RESET statement_timeout") }, "raise statement_timeout"},
		{"a full disk", fill, empty, "no space left on the PostgreSQL server"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			p := serveNode(t, a.url, "--log-level", "warn") // of the same trouble it would log but once a minute
			if status := p.tryStart(t, u.APIKey); status != http.StatusCreated {
				t.Fatalf("before, a start is answered %d", status)
			}
			allowed++
			fault.happen()
			status := http.StatusCreated
			for most := 2000; status == http.StatusCreated && most > 0; most-- { // a disk has some room in its pages
				if status = p.tryStart(t, u.APIKey); status == http.StatusCreated {
					allowed++
				}
			}
			if status != http.StatusServiceUnavailable {
				t.Errorf("a start is answered %d", status)
			}
			p.await(t, "says that it is not ready", func() bool {
				return p.call(t, "GET", "/health/ready", "", nil).status == http.StatusServiceUnavailable
			})
			p.call(t, "GET", "/health", "", nil).want(t, http.StatusOK)
			if said := p.stderr.String(); !strings.Contains(said, fault.word) || strings.Contains(said, databasePassword) {
				t.Errorf("it does not log %q, or logs the password: %s", fault.word, said)
			}
			fault.end()
			p.recovers(t, u.APIKey)
			allowed++
			if got := p.startedRuns(t, u.APIKey); got != allowed {
				t.Errorf("%d runs are counted, %d were allowed", got, allowed)
			}
			p.stop(t)
		})
	}
	if out := onDatabase(a.url, "verify").run(t).ok(t).stdout; !strings.Contains(out, fmt.Sprintf("over %d runs", allowed)) {
		t.Errorf("%d runs were allowed; the books: %s", allowed, out)
	}
}

// A test that ends a thread of the runtime's must not end the server that others share.
func TestThePostgresOfTestsOutlivesTheThreadThatAskedForIt(t *testing.T) {
	t.Parallel()
	var server *testpostgres.Server
	var err error
	done := make(chan struct{})
	var start func()
	start = func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if syscall.Gettid() == syscall.Getpid() {
			go start() // the first thread alone never ends: another one it is
			<-done
			return
		}
		defer close(done)
		server, err = testpostgres.Start()
	}
	go start()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5 { // the thread ends a moment later
		if _, err := server.Create(""); err != nil {
			t.Fatalf("database %d: %v", n, err)
		}
	}
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
}

// Without --database-timeout a call waits for PostgreSQL for half a minute, with it for as long as
// it says. A file that another process has locked is waited for as long as always.
func TestTheDatabaseTimeoutIsOfPostgresAlone(t *testing.T) {
	t.Parallel()
	const limit, byDefault, ofFiles = time.Second, 30 * time.Second, 5 * time.Second
	url, dir := newDatabase(t), t.TempDir()
	for _, c := range []struct {
		name, driver, source string
		lock                 []string
		user                 newUser
		node                 *process
		least, most          time.Duration
	}{
		{"PostgreSQL", "pgx", url, []string{"BEGIN", "LOCK TABLE ledger_version IN ACCESS EXCLUSIVE MODE"},
			createUserOn(t, url, "me@example.com", "enterprise"), serveNode(t, url, "--database-timeout", limit.String()),
			limit / 2, byDefault / 2},
		{"SQLite", "sqlite", filepath.Join(dir, "pikarc.db"), []string{"BEGIN IMMEDIATE"},
			createUser(t, dir, "me@example.com", "enterprise"), serve(t, dir, "--database-timeout", limit.String()),
			ofFiles * 3 / 4, byDefault},
	} {
		t.Run(c.name, func(t *testing.T) {
			if status := c.node.tryStart(t, c.user.APIKey); status != http.StatusCreated {
				t.Fatalf("before, a start is answered %d", status)
			}
			db, err := sql.Open(c.driver, c.source)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			other, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, statement := range c.lock {
				if _, err := other.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			status := c.node.tryStart(t, c.user.APIKey)
			took := time.Since(began)
			if status != http.StatusServiceUnavailable || took < c.least || took > c.most {
				t.Errorf("while another process holds the lock, a start is answered %d after %v", status, took)
			}
			if _, err := other.ExecContext(t.Context(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			c.node.recovers(t, c.user.APIKey)
		})
	}
}
