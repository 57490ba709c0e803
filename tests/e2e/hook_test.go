package e2e_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	hookRuns = flag.Int("hook-runs", 50, "how many hooks TestAHookIsQuick measures")
	hookP99  = flag.Duration(
		"hook-p99",
		time.Second,
		"how long the 99th of a hundred of them may take, on a busy machine",
	)
)

// coder is somebody with a coding agent: a home directory, a key, and maybe a server that runs.
type coder struct {
	p        *process
	user     newUser
	settings []string // of the agent's environment
	home     string
	dataDir  string
}

func newCoder(t *testing.T) *coder {
	t.Helper()
	c := &coder{home: t.TempDir(), dataDir: t.TempDir()}
	c.user = createUser(t, c.dataDir, "ann@example.com", "enterprise")
	c.p = serve(t, c.dataDir)
	c.settings = []string{
		"HOME=" + c.home,
		"XDG_CONFIG_HOME=",
		"XDG_STATE_HOME=",
		"LOCALAPPDATA=",
		"CLAUDE_CONFIG_DIR=",
		"CODEX_HOME=",
		"USER=ann",
		"PIKARC_API_KEY=" + c.user.APIKey,
		"PIKARC_BASE_URL=" + c.p.url,
	}
	return c
}

// toolEvent is what an agent tells a hook of one use of a tool.
func toolEvent(name, session, toolUse string, more ...string) string {
	event := map[string]any{
		"hook_event_name": name,
		"session_id":      session,
		"tool_name":       "Bash",
		"tool_use_id":     toolUse,
		"tool_input": map[string]string{
			"command": "rm -rf /",
		},
		"cwd":             "/",
		"transcript_path": nil,
		"permission_mode": "default",
	}
	for i := 0; i+1 < len(more); i += 2 {
		event[more[i]] = more[i+1]
	}
	content, err := json.Marshal(event)
	if err != nil {
		panic(err)
	}
	return string(content)
}

func (c *coder) hook(t *testing.T, agent, event string) outcome {
	t.Helper()
	return invocation{
		args:     []string{"hook", agent},
		stdin:    event,
		settings: c.settings,
		dir:      c.home,
	}.run(
		t,
	)
}

// wantDenied ends the test unless an agent would stop the call for a decision.
func (o outcome) wantDenied(t *testing.T, words string) {
	t.Helper()
	var got struct {
		HookSpecificOutput struct{ HookEventName, PermissionDecision, PermissionDecisionReason string }
	}
	answer{body: []byte(o.ok(t).stdout)}.into(t, &got)
	said := got.HookSpecificOutput
	if said.HookEventName != "PreToolUse" || said.PermissionDecision != "deny" ||
		!strings.Contains(said.PermissionDecisionReason, words) {
		t.Fatalf("the hook says %s, want a denial with %q", o.stdout, words)
	}
}

// steps are the statuses of the steps of all runs, by run, the newest first.
func (c *coder) steps(t *testing.T) (all []string) {
	t.Helper()
	var list struct{ Items []struct{ ID, Status string } }
	c.p.call(t, "GET", "/v1/runs/", c.user.APIKey, nil).want(t, http.StatusOK).into(t, &list)
	for _, run := range list.Items {
		var detail struct {
			UserID string `json:"user_id"`
			Steps  []struct {
				Status, Error string
				ToolName      string `json:"tool_name"`
			}
		}
		c.p.call(t, "GET", "/v1/runs/"+run.ID, c.user.APIKey, nil).
			want(t, http.StatusOK).
			into(t, &detail)
		line := run.Status + " of " + detail.UserID + ":"
		for _, s := range detail.Steps {
			line += strings.TrimRight(" "+s.ToolName+" "+s.Status+" "+s.Error, " ")
		}
		all = append(all, line)
	}
	return all
}

// A session is one run, in which each tool call is asked for, and settled once it has ended.
func TestAHookAsksBeforeAToolAndSettlesAfterIt(t *testing.T) {
	t.Parallel()
	for _, agent := range []string{"claude-code", "codex"} {
		t.Run(agent, func(t *testing.T) {
			t.Parallel()
			c := newCoder(t)
			for _, event := range []string{
				toolEvent("PreToolUse", "s", "1"), toolEvent("PostToolUse", "s", "1"),
				toolEvent("PreToolUse", "s", "2"), toolEvent("PostToolUseFailure", "s", "2", "error", "no such file"),
				toolEvent("PreToolUse", "s", "3"), toolEvent("Notification", "s", ""), toolEvent("PostToolUse", "s", "of another hook"),
			} {
				// Nothing is said for what is allowed, so that the agent still asks its user where it would.
				if out := c.hook(t, agent, event).ok(t); out.stdout != "" {
					t.Errorf("%s is answered %s", event, out.stdout)
				}
			}
			want := []string{"RUNNING of ann: Bash COMPLETED Bash FAILED no such file Bash RUNNING"}
			if got := c.steps(t); !slices.Equal(got, want) {
				t.Fatalf("the runs are %q, want %q", got, want)
			}
			c.hook(t, agent, toolEvent("SessionEnd", "s", "")).ok(t)
			c.hook(t, agent, toolEvent("PreToolUse", "s", "4")).ok(t) // it is taken up again
			c.hook(t, agent, toolEvent("SessionEnd", "s", "")).ok(t)
			c.hook(t, agent, toolEvent("PreToolUse", "s", "5")).ok(t)
			want = []string{
				"RUNNING of ann: Bash RUNNING", "COMPLETED of ann: Bash ABANDONED",
				"COMPLETED of ann: Bash COMPLETED Bash FAILED no such file Bash ABANDONED",
			}
			if got := c.steps(t); !slices.Equal(got, want) {
				t.Errorf("the runs are %q, want %q", got, want)
			}
		})
	}
}

func TestAHookStopsWhatIsDeniedAndNoLonger(t *testing.T) {
	t.Parallel()
	c := newCoder(t)
	token := c.p.signIn(t, c.user.Email)
	kill := func(active bool) {
		c.p.call(t, "POST", "/v1/workspace/kill-switch", token, map[string]bool{"active": active}).
			want(t, http.StatusOK)
	}
	kill(true)
	c.hook(t, "claude-code", toolEvent("PreToolUse", "new", "1")).
		wantDenied(t, "All agents of this workspace are stopped")
	kill(false)
	c.hook(t, "claude-code", toolEvent("PreToolUse", "new", "2")).ok(t)
	kill(true)
	c.hook(t, "codex", toolEvent("PreToolUse", "other", "1")).wantDenied(t, "stopped")
	c.hook(t, "claude-code", toolEvent("PreToolUse", "new", "3")).wantDenied(t, "stopped")
	c.hook(t, "claude-code", toolEvent("PostToolUse", "new", "3")).
		ok(t)
		// some agents tell it all the same
	kill(false)
	c.p.call(t, "POST", "/v1/blocked-users", token, map[string]string{"user_id": "ann"}).
		want(t, http.StatusOK)
	c.hook(t, "claude-code", toolEvent("PreToolUse", "new", "4")).
		wantDenied(t, "This user is blocked")
	c.p.call(t, "POST", "/v1/end-runs", token, map[string]int{"silent_for_seconds": 0}).
		want(t, http.StatusOK)
	c.p.call(t, "POST", "/v1/blocked-users/unblock", token, map[string]string{"user_id": "ann"}).
		want(t, http.StatusOK)
	if out := c.hook(t, "claude-code", toolEvent("PreToolUse", "new", "5")).
		ok(t); out.stdout != "" { // in a run of its own
		t.Errorf("after an idle run the hook says %s", out.stdout)
	}
}

// Agents let a call go on when a hook ends with anything but 2.
func TestAHookThatCannotDecideStopsTheCall(t *testing.T) {
	t.Parallel()
	c := newCoder(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	event := toolEvent("PreToolUse", "s", "1")
	notADirectory := filepath.Join(c.home, "file")
	if err := os.WriteFile(notADirectory, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := "lg_00000000_" + strings.Repeat("0", 64)
	for name, i := range map[string]invocation{
		"server down":       {stdin: event, settings: []string{"PIKARC_BASE_URL=http://127.0.0.1:9"}},
		"time-out":          {stdin: event, settings: []string{"PIKARC_BASE_URL=http://" + silent.Addr().String(), "PIKARC_TIMEOUT=200ms"}},
		"not Pikarc":        {stdin: event, settings: []string{"PIKARC_BASE_URL=" + c.p.url + "/health"}},
		"a wrong address":   {stdin: event, settings: []string{"PIKARC_BASE_URL=localhost"}},
		"broken JSON":       {stdin: event[:20]},
		"no JSON":           {stdin: "run it"},
		"nothing":           {},
		"no event":          {stdin: `{"session_id":"s","tool_name":"Bash"}`},
		"an unnamed tool":   {stdin: toolEvent("PreToolUse", "s", "1", "tool_name", "")},
		"no session":        {stdin: toolEvent("PreToolUse", "", "1")},
		"an unknown agent":  {args: []string{"hook", "nobody"}, stdin: event},
		"an unknown flag":   {args: []string{"hook", "claude-code", "--nonsense"}, stdin: event},
		"an unknown key":    {stdin: event, settings: []string{"PIKARC_API_KEY=" + stranger}},
		"no key":            {stdin: event, settings: []string{"PIKARC_API_KEY="}},
		"nowhere for state": {stdin: event, settings: []string{"PIKARC_JOURNAL_DIR=" + notADirectory}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if i.args == nil {
				i.args = []string{"hook", "claude-code"}
			}
			i.settings = append(slices.Clone(c.settings), i.settings...)
			out := i.run(t).fails(t, 2)
			if strings.TrimSpace(out.stderr) == "" || strings.Contains(out.stderr, stranger) {
				t.Errorf("the model is told %q", out.stderr)
			}
		})
	}
}

func TestAHookWithARevokedKeyStopsTheCall(t *testing.T) {
	t.Parallel()
	c := newCoder(t)
	c.hook(t, "claude-code", toolEvent("PreToolUse", "s", "1")).ok(t)
	run(t, "rotate-key", "--data-dir", c.dataDir, "--email", c.user.Email).ok(t)
	c.hook(t, "claude-code", toolEvent("PreToolUse", "s", "2")).
		fails(t, 2, "not executed", "API key")
	c.p.stop(t)
	c.hook(t, "claude-code", toolEvent("PreToolUse", "s", "3")).fails(t, 2, "cannot be reached")
}

func TestAHookThatIsEndedStopsTheCall(t *testing.T) {
	t.Parallel()
	c := newCoder(t)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		asked, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(pikarc, "hook", "claude-code")
		cmd.Stdin = strings.NewReader(toolEvent("PreToolUse", "s", "1"))
		cmd.Env = environment(
			append(c.settings, "PIKARC_BASE_URL=http://"+asked.Addr().String())...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		conn, err := asked.Accept() // from now on it waits
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 2 {
			t.Errorf("after %v the exit code is %d", s, code)
		}
		conn.Close()
		asked.Close()
	}
}

// An agent that never finishes what it has to tell is stopped too.
func TestAHookThatIsNotToldStopsTheCall(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(pikarc, "hook", "claude-code", "--timeout", "200ms")
	cmd.Env = environment(newCoder(t).settings...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(stdin, toolEvent("PreToolUse", "s", "1")[:20])
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(stderr.String(), "in time") {
		t.Errorf("the exit code is %d, the model is told %q", code, stderr.String())
	}
}

// The first calls of a session come at the same time, each with a process of its own.
func TestHooksThatComeAtOnceShareOneRun(t *testing.T) {
	t.Parallel()
	c := newCoder(t)
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			i := invocation{
				args:     []string{"hook", "claude-code"},
				stdin:    toolEvent("PreToolUse", "s", fmt.Sprint(i)),
				settings: c.settings,
			}
			if out, err := i.try(t.Context()); err != nil || out.code != 0 {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
	all.Wait()
	if got := c.steps(t); len(got) != 1 || strings.Count(got[0], "Bash RUNNING") != 12 {
		t.Errorf("the runs are %q", got)
	}
}

// What could not be reported is told at the session's end.
func TestAHookReportsLaterWhatItCannotReport(t *testing.T) {
	t.Parallel()
	c := newCoder(t)
	c.hook(t, "claude-code", toolEvent("PreToolUse", "s", "1")).ok(t)
	addr := strings.TrimPrefix(c.p.url, "http://")
	c.p.stop(t)
	c.hook(t, "claude-code", toolEvent("PostToolUse", "s", "1")).
		fails(t, 1, "reported later")
		// too late to stop anything
	c.p = serveWith(t, nil, "--addr", addr, "--data-dir", c.dataDir)
	c.hook(t, "claude-code", toolEvent("SessionEnd", "s", "")).ok(t)
	if got, want := c.steps(
		t,
	), []string{
		"COMPLETED of ann: Bash COMPLETED",
	}; !slices.Equal(
		got,
		want,
	) {
		t.Errorf("the runs are %q, want %q", got, want)
	}
}

// stalling stands before the server and passes everything on, but holds back the first
// answers to a path of this end, until the test is over.
func stalling(t *testing.T, server, end string, answers int) (address string) {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	var held atomic.Int32
	over := make(chan struct{})
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {}
	proxy.ModifyResponse = func(r *http.Response) error {
		if strings.HasSuffix(strings.TrimRight(r.Request.URL.Path, "/"), end) &&
			int(held.Add(1)) <= answers {
			<-over
		}
		return nil
	}
	stall := httptest.NewServer(proxy)
	t.Cleanup(stall.Close)
	t.Cleanup(func() { close(over) })
	return stall.URL
}

// What the server has allowed and the hook never heard of was not executed, and does not
// stay open: the hook settles it before it ends, or the session's next one does.
func TestAHookSettlesWhatItHasNoDecisionAbout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end     string
		answers int
		next    string // the event after the one that was not answered
		want    []string
	}{
		"at once": {"/steps", 1, "", []string{
			"RUNNING of ann: Bash FAILED there was no decision in time",
		}},
		"at the session's end": {"/steps", 2, "SessionEnd", []string{
			"COMPLETED of ann: Bash FAILED there was no decision in time",
		}},
		"after the next call": {"/steps", 2, "PreToolUse", []string{
			"RUNNING of ann: Bash FAILED there was no decision in time Bash COMPLETED",
		}},
		"a run":           {"/runs", 1, "SessionEnd", []string{"COMPLETED of ann:"}},
		"a run, taken up": {"/runs", 1, "PreToolUse", []string{"RUNNING of ann: Bash COMPLETED"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			coder := newCoder(t)
			coder.settings = append(coder.settings, "PIKARC_TIMEOUT=300ms")
			coder.settings = append(coder.settings,
				"PIKARC_BASE_URL="+stalling(t, coder.p.url, c.end, c.answers))
			coder.hook(t, "claude-code", toolEvent("PreToolUse", "s", "1")).fails(t, 2, "in time")
			switch c.next {
			case "SessionEnd":
				coder.hook(t, "claude-code", toolEvent("SessionEnd", "s", "")).ok(t)
			case "PreToolUse":
				coder.hook(t, "claude-code", toolEvent("PreToolUse", "s", "2")).ok(t)
				coder.hook(t, "claude-code", toolEvent("PostToolUse", "s", "2")).ok(t)
			}
			if got := coder.steps(t); !slices.Equal(got, c.want) {
				t.Errorf("the runs are %q, want %q", got, c.want)
			}
		})
	}
}

// make hook-bench measures a thousand, and holds them to 30 ms.
func TestAHookIsQuick(t *testing.T) {
	c := newCoder(t)
	took := make([]time.Duration, *hookRuns)
	for i := range took {
		event := toolEvent("PreToolUse", "s", fmt.Sprint(i))
		started := time.Now()
		c.hook(t, "claude-code", event).ok(t)
		took[i] = time.Since(started)
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	t.Logf("%d hooks: p50 %v, p99 %v", len(took), p50, p99)
	if p99 > *hookP99 {
		t.Errorf("p99 is %v, want %v at most", p99, *hookP99)
	}
}
