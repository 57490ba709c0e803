package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestServeSaysWhereItServesAndEndsCleanlyOnASignal(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := serve(t, dir)
			var health struct{ Status, Version string }
			p.call(t, "GET", "/health", "", nil).want(t, http.StatusOK).into(t, &health)
			if health.Status != "ok" || health.Version != builtVersion {
				t.Errorf("health: %+v", health)
			}
			p.call(t, "GET", "/health/ready", "", nil).want(t, http.StatusOK)
			p.call(t, "GET", "/", "", nil).want(t, http.StatusOK)
			p.signal(t, s)
			if state := p.exit(t); state.ExitCode() != 0 {
				t.Errorf("ended with %v", state)
			}
			want := fmt.Sprintf("Pikarc %s serves %s\nDashboard: %s/   API: %s/v1/   Reference: %s/openapi.json\n"+
				"Registration: open: somebody on this machine may make the first account\nDatabase: %s (new)\n",
				builtVersion, p.url, p.url, p.url, p.url, filepath.Join(dir, "pikarc.db"))
			if p.stdout.String() != want {
				t.Errorf("stdout %q, want %q", &p.stdout, want)
			}
			if got := p.stderr.String(); !strings.Contains(got, "level=INFO") || !strings.Contains(got, "shutting down") {
				t.Errorf("the log on stderr is %q", got)
			}
		})
	}
}

func TestDataSurvivesACleanStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := createUser(t, dir, "ann@example.com", "basic")
	p := serve(t, dir)
	token, run := p.signIn(t, u.Email), p.start(t, u.APIKey, "someone")
	p.stop(t)
	if _, err := os.Stat(filepath.Join(dir, "pikarc.db-wal")); !os.IsNotExist(err) {
		t.Errorf("a clean stop leaves the WAL behind (%v): a copy of pikarc.db alone would lack it", err)
	}
	p = serve(t, dir)
	p.call(t, "GET", "/v1/runs/"+run.ID, u.APIKey, nil).want(t, http.StatusOK)
	p.call(t, "GET", "/v1/auth/me", token, nil).want(t, http.StatusOK)
}

func TestSecondSignalEndsTheServerAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := createUser(t, dir, "ann@example.com", "basic")
	p := serve(t, dir)
	p.openRequest(t, u.APIKey) // its body never comes
	p.signal(t, syscall.SIGTERM)
	p.await(t, "says that it ends", func() bool { return strings.Contains(p.stderr.String(), "shutting down") })
	if p.hasEnded() {
		t.Fatal("the server did not wait for the open request")
	}
	// Whoever presses Ctrl-C again, presses it again and again.
	err := eventually(func() bool {
		_ = p.cmd.Process.Signal(syscall.SIGINT)
		return p.hasEnded()
	})
	if err != nil {
		t.Fatal(err)
	}
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("ended by itself (%v), not by the second signal", p.cmd.ProcessState)
	}
}

// takenAddr is an address that somebody listens on until the end of the test.
func takenAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

func TestPortInUseIsSaidWithAWayOut(t *testing.T) {
	t.Parallel()
	addr := takenAddr(t)
	run(t, "serve", "--addr", addr, "--data-dir", t.TempDir()).fails(t, 1, addr+" is in use", "--addr")
}

func TestNothingIsSaidToServeUntilEveryAddressIsOpen(t *testing.T) {
	t.Parallel()
	addr := takenAddr(t)
	for _, flag := range []string{"--metrics-addr", "--debug-addr"} {
		out := run(t, "serve", "--addr", "127.0.0.1:0", flag, addr, "--data-dir", t.TempDir())
		out.fails(t, 1, addr+" is in use", flag)
		if out.stdout != "" {
			t.Errorf("%s is taken, and before that is said: %s", flag, out.stdout)
		}
	}
}

func TestASecondServerOnADirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, dir)
	run(t, "serve", "--addr", "127.0.0.1:0", "--data-dir", dir).fails(t, 1, "another `pikarc serve` uses this data directory")
	p.stop(t)
	serve(t, dir).stop(t)
}

func TestAddressThatCannotBeUsedIsSaid(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"1:2:3:x", "127.0.0.1:99999", "192.0.2.1:8000", "192.0.2.1"} {
		run(t, "serve", "--addr", addr, "--data-dir", t.TempDir()).fails(t, 1, addr)
	}
}

func TestServeRefusesWrongFlagValues(t *testing.T) {
	t.Parallel()
	for flag, says := range map[string]string{
		"--default-plan=gold":      "basic, pro, scale or enterprise",
		"--registration=perhaps":   "auto, open or closed",
		"--log-format=xml":         "text or json",
		"--log-level=loud":         "debug, info, warn or error",
		"--jwt-ttl=soon":           "soon",
		"--jwt-ttl=10s":            "a minute or more",
		"--jwt-ttl=-1h":            "a minute or more",
		"--max-body=1MB":           "1MB",
		"--max-body=10":            "1024 bytes or more",
		"--max-run-body=10":        "1024 bytes or more",
		"--max-payload=2000000000": "a gibibyte at most",
		"--backup-every=1s":        "a minute or more",
		"--backup-keep=0":          "1 or more",
		"--verify-every=1s":        "0 or a minute or more",
		"--open-step-timeout=1s":   "must be a minute or more",
		"--database-timeout=10ms":  "must be from 1s to 40s",
		"--database-timeout=1m":    "must be from 1s to 40s",
	} {
		dir := filepath.Join(t.TempDir(), "data")
		name, _, _ := strings.Cut(flag, "=")
		run(t, "serve", flag, "--addr", "127.0.0.1:0", "--data-dir", dir).fails(t, 2, name, says, "pikarc serve --help")
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("serve %s made the data directory (%v)", flag, err)
		}
	}
}

// logged reads stderr as JSON lines, each with what every log line has.
func logged(t *testing.T, stderr string) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(stderr) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v in the line %q", err, line)
		}
		for _, name := range []string{"time", "level", "msg"} {
			if _, ok := entry[name].(string); !ok {
				t.Fatalf("no %s in the line %s", name, line)
			}
		}
		lines = append(lines, entry)
	}
	return lines
}

func TestJSONLogHasOneObjectALine(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir(), "--log-format", "json", "--log-level", "debug")
	p.call(t, "GET", "/health", "", nil).want(t, http.StatusOK)
	p.call(t, "GET", "/v1/workspace/", "", nil).want(t, http.StatusUnauthorized)
	speakNonsense(t, p) // what net/http itself logs must be JSON too
	p.stop(t)
	statuses := map[float64]bool{}
	for _, line := range logged(t, p.stderr.String()) {
		if line["msg"] == "request" {
			statuses[line["status"].(float64)] = true
		}
	}
	if !statuses[http.StatusOK] || !statuses[http.StatusUnauthorized] {
		t.Errorf("the access log has the statuses %v", statuses)
	}
}

// speakNonsense sends what is not HTTP and waits for the end of the connection.
func speakNonsense(t *testing.T, p *process) {
	t.Helper()
	conn := p.dial(t)
	fmt.Fprint(conn, "\x16\x03\x01 hello\r\n\r\n")
	line, _ := bufio.NewReader(conn).ReadString('\n')
	if !strings.HasPrefix(line, "HTTP/1.1 400 ") {
		t.Errorf("nonsense was answered %q", line)
	}
}

func TestLogLevelDecidesWhatIsLogged(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir(), "--log-level", "warn")
	p.call(t, "GET", "/health", "", nil).want(t, http.StatusOK)
	p.stop(t)
	if got := p.stderr.String(); got != "" {
		t.Errorf("logged %q at level warn", got)
	}
}

// secretFormats are the credentials that a log must never hold: whole keys and tokens.
var secretFormats = regexp.MustCompile(`lg_[0-9a-f]{8}_[0-9a-f]{8}|eyJ[A-Za-z0-9_-]+\.eyJ`)

func TestNoSecretReachesTheLog(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef-the-servers-own-secret"
	dir := t.TempDir()
	for _, format := range []string{"text", "json"} {
		p := serveWith(t, []string{"PIKARC_SECRET=" + secret},
			"--addr", "127.0.0.1:0", "--data-dir", dir, "--log-format", format, "--log-level", "debug", "--registration", "open")
		var registered struct {
			AccessToken string `json:"access_token"`
			APIKey      struct{ Key string }
		}
		email := format + "@example.com"
		p.call(t, "POST", "/v1/auth/register", "", map[string]string{"email": email, "password": password}).
			want(t, http.StatusCreated).into(t, &registered)
		token := p.signIn(t, email)
		var shown struct{ Key string }
		p.call(t, "GET", "/v1/api-keys/", token, nil).want(t, http.StatusOK).into(t, &shown)
		p.start(t, shown.Key, "someone")
		p.call(t, "POST", "/v1/auth/login", "", map[string]string{"email": email, "password": "wrong " + password}).
			want(t, http.StatusUnauthorized)
		p.call(t, "POST", "/v1/auth/register", "", map[string]any{"email": email, "password": 7, "pasword": password}).
			want(t, http.StatusUnprocessableEntity)
		p.call(t, "GET", "/v1/workspace/", shown.Key+"0", nil).want(t, http.StatusUnauthorized)
		p.call(t, "GET", "/v1/workspace/?key="+shown.Key, token+"0", nil).want(t, http.StatusUnauthorized)
		p.call(t, "GET", "/"+shown.Key, "", nil).want(t, http.StatusNotFound)
		p.stop(t)
		if !strings.Contains(p.stderr.String(), "/v1/auth/login") {
			t.Fatalf("the log lacks the requests: %s", &p.stderr)
		}
		for _, said := range []string{p.stderr.String(), p.stdout.String()} {
			keepsQuiet(t, said, secret, password, shown.Key, token, registered.AccessToken)
			if found := secretFormats.FindString(said); found != "" {
				t.Errorf("%q in the output", found)
			}
		}
	}
}

func TestOnlyTheOwnerCanReadTheDataDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "data")
	// The mask lets everything through: the modes must be the server's own.
	cmd := exec.Command("sh", "-c", `umask 000 && exec "$0" create-user --init --data-dir "$1" --email ann@example.com --password-stdin`, pikarc, dir)
	cmd.Stdin, cmd.Env = strings.NewReader(password), environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := serve(t, dir)
	p.call(t, "GET", "/health/ready", "", nil).want(t, http.StatusOK) // a write, so that the WAL is there
	want := map[string]fs.FileMode{
		".": fs.ModeDir | 0o700, "secret.key": 0o600, "pikarc.db": 0o600, "pikarc.db-wal": 0o600, "pikarc.db-shm": 0o600,
		"pikarc.db.lock": 0o600, "pikarc.db.server.lock": 0o600,
	}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode() != want[path] {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want[path])
		}
		delete(want, path)
		return nil
	})
	if err != nil || len(want) > 0 {
		t.Errorf("missing: %v (%v)", want, err)
	}
}
