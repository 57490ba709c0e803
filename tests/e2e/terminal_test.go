package e2e_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
)

// dialogue is create-user talking with a person at a terminal. Its result goes
// elsewhere, as in `pikarc create-user ... > key`.
type dialogue struct {
	cmd     *exec.Cmd
	stdout  bytes.Buffer
	screen  transcript  // what the person sees
	master  *os.File    // the person's end of the terminal
	resting *term.State // of the terminal while it echoes
	ended   chan struct{}
}

const passwordPrompt = "Password (8 characters or more): "

func talk(t *testing.T, dataDir string) *dialogue {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	d := &dialogue{master: master, ended: make(chan struct{})}
	if d.resting, err = term.GetState(int(master.Fd())); err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(pikarc, "create-user", "--init", "--data-dir", dataDir, "--email", "ann@example.com", "--json")
	d.cmd.Stdin, d.cmd.Stdout, d.cmd.Stderr, d.cmd.Env = tty, &d.stdout, tty, environment()
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := errors.Join(d.cmd.Start(), tty.Close()); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.ended)
		_, _ = io.Copy(&d.screen, master) // until the command has closed the terminal
		_ = d.cmd.Wait()                  // how it ended is in ProcessState
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.ended
		_ = master.Close()
	})
	return d
}

// reply waits for a prompt, and until the terminal no longer echoes, as a
// person does, then types a line.
func (d *dialogue) reply(t *testing.T, prompt, line string) {
	t.Helper()
	err := eventually(func() bool {
		state, err := term.GetState(int(d.master.Fd()))
		return err == nil && *state != *d.resting && strings.HasSuffix(d.screen.String(), prompt)
	})
	if err != nil {
		t.Fatalf("no silent prompt %q: %v; the screen shows %q", prompt, err, &d.screen)
	}
	if _, err := io.WriteString(d.master, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

func (d *dialogue) exitCode(t *testing.T) int {
	t.Helper()
	select {
	case <-d.ended:
	case <-time.After(patience):
		t.Fatalf("create-user does not end; the screen shows %q", &d.screen)
	}
	return d.cmd.ProcessState.ExitCode()
}

func TestCreateUserAsksTwiceOnATerminalAndShowsNothingTyped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := talk(t, dir)
	d.reply(t, passwordPrompt, password)
	d.reply(t, "Again: ", password)
	if code := d.exitCode(t); code != 0 {
		t.Fatalf("exit code %d; the screen shows %q", code, &d.screen)
	}
	if got, want := d.screen.String(), passwordPrompt+"\r\nAgain: \r\n"; got != want {
		t.Errorf("the screen shows %q, want %q", got, want)
	}
	key := onlyObject(t, d.stdout.String(), "account_id", "email", "workspace_id", "plan", "api_key")["api_key"]
	p := serve(t, dir)
	p.signIn(t, "ann@example.com") // the password is the one typed
	p.call(t, "GET", "/v1/workspace/", key, nil).want(t, http.StatusOK)
}

func TestPasswordsThatDifferOrAreTooShortMakeNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ first, second, says string }{
		"different": {password, password + "!", "nothing was changed"},
		"too short": {"seven77", "", "8 to 1024"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			d := talk(t, dir)
			d.reply(t, passwordPrompt, c.first)
			if c.second != "" {
				d.reply(t, "Again: ", c.second)
			}
			if code := d.exitCode(t); code != 1 || d.stdout.Len() > 0 {
				t.Errorf("exit code %d, stdout %q, want 1 and nothing", code, &d.stdout)
			}
			if !strings.Contains(d.screen.String(), c.says) {
				t.Errorf("the screen shows %q, without %q", &d.screen, c.says)
			}
			keepsQuiet(t, d.screen.String(), c.first)
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the data directory was made (%v)", err)
			}
		})
	}
}

// Nobody types a password for an account that cannot be made.
func TestCreateUserAsksNothingWhenTheEmailIsTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	createUser(t, dir, "Ann@example.com", "basic")
	d := talk(t, dir)
	if code := d.exitCode(t); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if screen := d.screen.String(); strings.Contains(screen, "Password") || !strings.Contains(screen, "already registered") {
		t.Errorf("the screen shows %q", screen)
	}
}
