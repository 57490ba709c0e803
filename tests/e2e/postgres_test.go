package e2e_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	testpostgres "github.com/pikarc/server/testdata/postgres"
)

// sharedPostgres is a server that these tests share, each with a database of its
// own. It starts with the first of them.
type sharedPostgres struct {
	once   sync.Once
	server *testpostgres.Server
	err    error
}

var postgres sharedPostgres

func (s *sharedPostgres) start(t *testing.T) *testpostgres.Server {
	t.Helper()
	s.once.Do(func() { s.server, s.err = testpostgres.Start() })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server
}

func (s *sharedPostgres) stop() {
	if s.server != nil {
		_ = s.server.Stop() // its directory is a temporary one
	}
}

const (
	// databasePassword is never asked for by the tests' server, and never to be read.
	databasePassword = "hunter2-of-the-database"
	sharedSecret     = "PIKARC_SECRET=a secret that all nodes of a test have"
)

// newDatabase makes an empty database, and returns its URL.
func newDatabase(t *testing.T) string {
	t.Helper()
	server := postgres.start(t)
	name, err := server.Create("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Drop(name); err != nil {
			t.Error(err)
		}
	})
	return strings.Replace(server.URL(name), "pikarc@", "pikarc:"+databasePassword+"@", 1)
}

// on runs commands against a database, as the node of the environment does.
func onDatabase(url string, args ...string) invocation {
	return invocation{args: args, settings: []string{"PIKARC_DATABASE=" + url, sharedSecret}}
}

// serveNode starts a node on a database.
func serveNode(t *testing.T, url string, args ...string) *process {
	t.Helper()
	return serveWith(t, []string{"PIKARC_DATABASE=" + url, sharedSecret},
		append([]string{"--addr", "127.0.0.1:0", "--data-dir", filepath.Join(t.TempDir(), "none")}, args...)...)
}

// createUserOn is createUser in PostgreSQL.
func createUserOn(t *testing.T, url, email, plan string) (u newUser) {
	t.Helper()
	create := onDatabase(url, "create-user", "--email", email, "--plan", plan, "--password-stdin", "--json", "--init")
	create.stdin = password + "\n"
	answer{body: []byte(create.run(t).ok(t).stdout)}.into(t, &u)
	return u
}

func TestEveryCommandWorksOnPostgres(t *testing.T) {
	t.Parallel()
	url, dir := newDatabase(t), t.TempDir()
	commands := func(args ...string) outcome {
		i := onDatabase(url, args...)
		i.stdin, i.dir = password+"\n", dir
		out := i.run(t)
		if strings.Contains(out.stdout+out.stderr, databasePassword) {
			t.Errorf("pikarc %q tells the password:\n%s%s", args, out.stdout, out.stderr)
		}
		return out
	}
	says := func(word string, args ...string) {
		t.Helper()
		if out := commands(args...).ok(t); !strings.Contains(out.stdout, word) {
			t.Errorf("pikarc %q says %s", args, out.stdout)
		}
	}
	me := []string{"--email", "me@example.com"}
	with := func(args ...string) []string { return append(args, me...) }

	// A command makes no tables where a mistyped URL leads.
	commands("accounts").fails(t, 1, "holds no tables of Pikarc", "--database")
	commands(with("create-user", "--password-stdin")...).fails(t, 1, "add --init")
	says("pending 1", "migrate", "--status")
	says("made a new database: postgres://", "migrate", "--init")
	says("applied 0 migrations", "migrate")
	says("pikarc serve --database", with("create-user", "--password-stdin")...)
	commands(with("create-user", "--password-stdin")...).fails(t, 1, "already registered")
	says("me@example.com", "accounts")
	says("-> scale", with("set-plan", "scale")...)
	says("lg_", with("create-key")...)
	says("lg_", with("rotate-key")...)
	says("revoked", with("keys")...)
	says("is set", with("set-password", "--password-stdin")...)
	says("policies", with("policies", "export")...)
	says("0 steps", with("prices", "reprice")...)
	says("0 differences, 0 repaired", "verify", "--repair")

	commands("backup", "x.db").fails(t, 2, "pg_dump", "pg_basebackup")
	commands("restore", "x.db").fails(t, 2, "pg_dump", "pg_basebackup")
	commands("serve", "--backup-dir", "x", "--addr", "127.0.0.1:0").fails(t, 2, "--backup-dir", "pg_dump")
	commands("demo", "--addr", "127.0.0.1:0").fails(t, 1, "the demo only fills a new database")
	if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
		t.Errorf("the commands have made %v (%v): with a secret given there is nothing to keep", made, err)
	}
}

func TestADatabaseThatCannotBeUsedIsRefusedInWords(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	createUserOn(t, url, "me@example.com", "basic")
	for name, c := range map[string]struct {
		url   string
		code  int
		words []string
	}{
		"another scheme":     {"mysql://u:" + databasePassword + "@h/d", 2, []string{"begins with postgres://", "--data-dir"}},
		"a file":             {"pikarc-data/pikarc.db", 2, []string{"begins with postgres://"}},
		"malformed":          {"postgres://u:" + databasePassword + "/x@[::1/d", 2, []string{"cannot be read", "%2F"}},
		"names no database":  {"postgres://u:" + databasePassword + "@h", 2, []string{"names no database"}},
		"nobody listens":     {"postgres://u:" + databasePassword + "@127.0.0.1:1/d", 1, []string{"postgres://u@127.0.0.1:1/d", "refused"}},
		"another name":       {strings.Replace(url, "?", "x?", 1), 1, []string{"does not exist"}},
		"TLS, which is none": {strings.Replace(url, "sslmode=disable", "sslmode=require", 1), 1, []string{"TLS"}},
	} {
		for _, args := range [][]string{{"accounts"}, {"serve", "--addr", "127.0.0.1:0"}, {"migrate"}, {"verify"}} {
			out := onDatabase(c.url, args...).run(t).fails(t, c.code, c.words...)
			if strings.Contains(out.stderr, databasePassword) {
				t.Errorf("%s: pikarc %q tells the password: %s", name, args, out.stderr)
			}
		}
	}
}

// What one node has signed or sealed another must be able to read.
func TestANodeWithAnotherSecretIsRefused(t *testing.T) {
	t.Parallel()
	url, dir := newDatabase(t), t.TempDir()
	createUserOn(t, url, "me@example.com", "basic")
	other := invocation{args: []string{"serve", "--addr", "127.0.0.1:0", "--data-dir", dir}}
	for _, settings := range [][]string{nil, {"PIKARC_SECRET=a secret that no other node of the test has"}} {
		other.settings = append(settings, "PIKARC_DATABASE="+url)
		other.run(t).fails(t, 1, "the server secret is not the one", "PIKARC_SECRET", "secret.key", dir)
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
		t.Errorf("it has made %v (%v), which is of no use", made, err)
	}
}

func TestTheDatabaseMayStandInAFile(t *testing.T) {
	t.Parallel()
	url, dir := newDatabase(t), t.TempDir()
	createUserOn(t, url, "me@example.com", "basic")
	file := filepath.Join(dir, "url")
	if err := os.WriteFile(file, []byte(url+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := func(args ...string) invocation {
		return invocation{args: args, settings: []string{
			"PIKARC_DATABASE_FILE=" + file, "PIKARC_DATABASE=postgres://127.0.0.1:1/none", sharedSecret,
		}}
	}
	if out := in("accounts").run(t).ok(t).stdout; !strings.Contains(out, "me@example.com") {
		t.Errorf("by the file: %s", out)
	}
	in("accounts", "--database", "postgres://u@127.0.0.1:1/flag").run(t).fails(t, 1, "/flag")
	help := in("serve", "--help").run(t).ok(t).stdout
	if strings.Contains(help, databasePassword) || !strings.Contains(help, "--database") {
		t.Errorf("the help says\n%s", help)
	}
}

// Who has both is told which one is used.
func TestAFileBesideADatabaseIsNamedAsUnused(t *testing.T) {
	t.Parallel()
	url, dir := newDatabase(t), t.TempDir()
	createUser(t, dir, "file@example.com", "basic")
	createUserOn(t, url, "database@example.com", "basic")
	out := onDatabase(url, "accounts", "--data-dir", dir).run(t)
	if !strings.Contains(out.stdout, "database@example.com") || strings.Contains(out.stdout, "file@example.com") {
		t.Errorf("it lists %s", out.stdout)
	}
	if !strings.Contains(out.stderr, "Warning: the database is postgres://") || !strings.Contains(out.stderr, "pikarc.db is not used") {
		t.Errorf("it warns: %s", out.stderr)
	}
	p := serveNode(t, url, "--data-dir", dir)
	if !strings.Contains(p.stderr.String(), "pikarc.db is not used") {
		t.Errorf("serve logs %s", p.stderr.String())
	}
	p.stop(t)
}

// A proxy that has not found the primary yet ends connections, whichever of them.
func TestANodeWaitsForADatabaseThatComesAndGoes(t *testing.T) {
	t.Parallel()
	target, err := url.Parse(newDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	server := target.Host
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 0; ; n++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			if n%2 == 1 && n < 12 {
				_ = client.Close()
				continue
			}
			go relay(client, server)
		}
	}()
	target.Host = l.Addr().String()
	serveNode(t, target.String(), "--wait", "60s").stop(t)
}

// relay passes bytes on, both ways, until one side ends.
func relay(client net.Conn, address string) {
	server, err := net.Dial("tcp", address)
	if err != nil {
		_ = client.Close()
		return
	}
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = errors.Join(to.Close(), from.Close())
	}
	go pass(server, client)
	pass(client, server)
}

func TestAServerOnPostgresServesAll(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	p := serveNode(t, url, "--registration", "open", "--metrics-addr", "127.0.0.1:0")
	if !strings.Contains(p.stdout.String(), "Database: postgres://") || !strings.Contains(p.stdout.String(), "(new)") {
		t.Errorf("it says %s", p.stdout.String())
	}
	var made struct {
		AccessToken string `json:"access_token"`
		APIKey      struct {
			Key string `json:"key"`
		} `json:"api_key"`
	}
	p.call(t, "POST", "/v1/auth/register", "", map[string]string{
		"email": "me@example.com", "password": password, "workspace_name": "W",
	}).want(t, http.StatusCreated).into(t, &made)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+made.AccessToken)
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	run := p.start(t, made.APIKey.Key, "ada")
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() && !strings.Contains(lines.Text(), run.ID) {
	}
	if lines.Err() != nil {
		t.Error(lines.Err())
	}
	for _, path := range []string{
		"/", "/health/ready", "/v1/server", "/openapi.json", "/v1/runs/", "/v1/users/", "/v1/run-totals", "/v1/run-filters", "/v1/usage/",
		"/v1/usage/now", "/v1/usage/daily", "/v1/workspace/", "/v1/policies/", "/v1/reviews/", "/v1/endpoints/", "/v1/audit/",
		"/v1/model-pricing/", "/v1/storage", "/v1/api-keys/all", "/v1/saved-views/",
	} {
		p.call(t, "GET", path, made.AccessToken, nil).want(t, http.StatusOK)
	}
	if all := p.stdout.String() + p.stderr.String(); strings.Contains(all, databasePassword) {
		t.Errorf("it tells the password: %s", all)
	}
	p.stop(t)
	if out := onDatabase(url, "verify").run(t).ok(t).stdout; !strings.Contains(out, "over 1 runs") {
		t.Errorf("the books: %s", out)
	}
}
