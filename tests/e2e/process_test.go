// Package e2e_test runs the real binary as a process, over real sockets and with
// a data directory of its own, the way an operator does.
package e2e_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is when a test gives something up as lost, on a busy machine too.
	patience = 60 * time.Second

	builtVersion = "1.2.3-test"
	builtCommit  = "0123abc"

	password = "correct horse battery staple"
)

// The programs that the tests run; TestMain sets the paths, nothing changes them.
var (
	pikarc  string // the binary under test
	meddler string // testdata/meddle
)

func TestMain(m *testing.M) { os.Exit(withPrograms(m.Run)) }

// withPrograms builds the binary as it is released: without cgo, and so without the race detector.
func withPrograms(run func() int) int {
	if err := os.Chdir("../.."); err != nil { // paths below are those of the module
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "pikarc-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // some tests run it as somebody else
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	pikarc, meddler = filepath.Join(dir, "pikarc"), filepath.Join(dir, "meddle")
	for _, args := range [][]string{
		{"-ldflags", "-X github.com/pikarc/server/cli.version=" + builtVersion + " -X github.com/pikarc/server/cli.commit=" + builtCommit, "-o", pikarc, "."},
		{"-o", meddler, "./testdata/meddle"},
	} {
		build := exec.Command("go", append([]string{"build", "-buildvcs=false"}, args...)...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
	}
	defer postgres.stop()
	return run()
}

// environment is this process's, less what would change the binary's behaviour, plus settings.
func environment(settings ...string) []string {
	own := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "PIKARC_") })
	return append(own, settings...)
}

// outcome is what a command has said, and its exit code.
type outcome struct {
	stdout, stderr string
	code           int
}

// invocation is a command line with what surrounds it.
type invocation struct {
	args     []string
	stdin    string
	settings []string // NAME=value
	dir      string   // where it runs; this package's when empty
	binary   string   // pikarc when empty
}

// run runs a command to its end.
func run(t *testing.T, args ...string) outcome {
	t.Helper()
	return invocation{args: args}.run(t)
}

func (i invocation) run(t *testing.T) outcome {
	t.Helper()
	out, err := i.try(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try is run for other goroutines than the test's own.
func (i invocation) try(ctx context.Context) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, cmp.Or(i.binary, pikarc), i.args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(i.stdin), &stdout, &stderr
	cmd.Env, cmd.Dir = environment(i.settings...), i.dir
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return outcome{}, fmt.Errorf("pikarc %s: %w\n%s", strings.Join(i.args, " "), err, stderr.Bytes())
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}, nil
}

// ok ends the test unless the command has succeeded without a word on stderr.
func (o outcome) ok(t *testing.T) outcome {
	t.Helper()
	if o.code != 0 || o.stderr != "" {
		t.Fatalf("exit code %d, stderr %q; want success in silence", o.code, o.stderr)
	}
	return o
}

// fails ends the test unless the command has failed with this code, printed no
// result, and said all of this.
func (o outcome) fails(t *testing.T, code int, words ...string) outcome {
	t.Helper()
	if o.code != code || o.stdout != "" {
		t.Fatalf("exit code %d, stdout %q, stderr %q; want code %d and no result", o.code, o.stdout, o.stderr, code)
	}
	for _, word := range words {
		if !strings.Contains(o.stderr, word) {
			t.Fatalf("stderr %q does not mention %q", o.stderr, word)
		}
	}
	return o
}

// transcript collects what a process writes, while a test reads it.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// process is a server that runs.
type process struct {
	cmd            *exec.Cmd
	url            string // http://127.0.0.1:port
	stdout, stderr transcript
	ended          chan struct{} // closed when it has exited and all its output is here
}

// serve starts a server on a free port and waits until it says where it serves.
func serve(t *testing.T, dataDir string, args ...string) *process {
	t.Helper()
	return serveWith(t, nil, append([]string{"--addr", "127.0.0.1:0", "--data-dir", dataDir}, args...)...)
}

func serveWith(t *testing.T, settings []string, args ...string) *process {
	t.Helper()
	return serveBinary(t, pikarc, settings, args...)
}

func serveBinary(t *testing.T, binary string, settings []string, args ...string) *process {
	t.Helper()
	p := spawnBinary(t, binary, settings, append([]string{"serve"}, args...)...)
	serves := regexp.MustCompile(`(?m)^Pikarc \S+ serves (http://\S+)\n`)
	p.await(t, "says where it serves", func() bool {
		found := serves.FindStringSubmatch(p.stdout.String())
		if found != nil {
			p.url = found[1]
		}
		return found != nil
	})
	return p
}

// spawn starts the binary and kills it at the end of the test if it still runs then.
func spawn(t *testing.T, settings []string, args ...string) *process {
	t.Helper()
	return spawnBinary(t, pikarc, settings, args...)
}

func spawnBinary(t *testing.T, binary string, settings []string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = &p.stdout, &p.stderr, environment(settings...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended is in ProcessState
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// await waits for a condition that the process brings about. A process that ends first never will.
func (p *process) await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	err := eventually(func() bool { return condition() || p.hasEnded() })
	if err != nil || !condition() {
		t.Fatalf("the server never %s (ended: %v)\nstdout: %s\nstderr: %s", what, p.hasEnded(), &p.stdout, &p.stderr)
	}
}

// eventually looks at a condition until it holds or patience is over.
func eventually(condition func() bool) error {
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	lost := time.After(patience)
	for !condition() {
		select {
		case <-look.C:
		case <-lost:
			return errors.New("it did not happen in time")
		}
	}
	return nil
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// exit waits for the end and returns how it came.
func (p *process) exit(t *testing.T) *os.ProcessState {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("the server does not end\nstderr: %s", &p.stderr)
	}
	return p.cmd.ProcessState
}

// stop ends the server cleanly, and the test if that does not work.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if state := p.exit(t); state.ExitCode() != 0 {
		t.Fatalf("%v after SIGTERM\nstderr: %s", state, &p.stderr)
	}
}

// kill ends the process at once, wherever it is, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// answer is an HTTP answer, whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call makes a request; an empty credential sends none, a nil body sends none.
func (p *process) call(t *testing.T, method, path, credential string, body any) answer {
	t.Helper()
	a, err := send(t.Context(), http.DefaultClient, method, p.url+path, credential, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// send makes a request and reads all of its answer. Headers are names and values in turn.
func send(ctx context.Context, client *http.Client, method, url, credential string, body any, headers ...string) (answer, error) {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return answer{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(content))
	if err != nil {
		return answer{}, err
	}
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, got}, err
}

// want ends the test unless the answer has this status.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("answered %d %s, want %d", a.status, a.body, status)
	}
	return a
}

// into reads the answer's JSON.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

// decision is what a start or a step answers, as far as these tests look.
type decision struct {
	ID       string
	Status   string
	Decision struct {
		Outcome, Reason string
		Limit, Used     json.Number
	}
}

// start asks for a run and returns what was decided.
func (p *process) start(t *testing.T, key, user string) (d decision) {
	t.Helper()
	p.call(t, "POST", "/v1/runs/", key, map[string]string{"user_id": user}).want(t, http.StatusCreated).into(t, &d)
	return d
}

// newUser is what create-user --json prints.
type newUser struct {
	AccountID   string `json:"account_id"`
	Email       string `json:"email"`
	WorkspaceID string `json:"workspace_id"`
	Plan        string `json:"plan"`
	APIKey      string `json:"api_key"`
}

// createUser makes an account with the password of these tests.
func createUser(t *testing.T, dataDir, email, plan string) newUser {
	t.Helper()
	out := invocation{
		args:  []string{"create-user", "--data-dir", dataDir, "--email", email, "--plan", plan, "--password-stdin", "--json", "--init"},
		stdin: password + "\n",
	}.run(t).ok(t)
	var u newUser
	answer{body: []byte(out.stdout)}.into(t, &u)
	return u
}

// signIn returns a token for an account that createUser has made.
func (p *process) signIn(t *testing.T, email string) string {
	t.Helper()
	var got struct {
		AccessToken string `json:"access_token"`
	}
	p.call(t, "POST", "/v1/auth/login", "", map[string]string{"email": email, "password": password}).
		want(t, http.StatusOK).into(t, &got)
	return got.AccessToken
}
