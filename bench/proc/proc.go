//go:build linux

// Package proc builds the contenders and runs each as a process of its own.
package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// A large database is checked when a server starts.
	startTimeout = 60 * time.Second
	stopTimeout  = 60 * time.Second
)

// Build builds the Go program in a directory, static and stripped, as it is released.
func Build(ctx context.Context, dir, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags",
		"-s -w", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", dir, err, text)
	}
	return nil
}

// Environment is ours without the settings of a Pikarc Server that the shell may hold.
func Environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PIKARC_")
	})
}

// Command says how to run a contender.
type Command struct {
	Path  string
	Args  []string
	Env   []string // besides ours
	Log   string   // file that gets what it writes
	Addr  string   // where it listens; read from its output when empty
	Ready string   // path that answers 200 once it serves; the address alone tells it when empty
}

// Process is a contender that runs.
type Process struct {
	Addr    string        // host:port
	StartUp time.Duration // until it was ready

	cmd   *exec.Cmd
	log   string
	ended chan struct{}
	err   error // once ended
}

// Start runs a command until it is ready. The process dies with the thread
// that starts it, so the caller must have locked its goroutine to one.
func Start(ctx context.Context, c Command) (*Process, error) {
	log, err := os.Create(c.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own descriptor
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(Environment(), c.Env...)
	// A bench that is killed leaves no server behind. Ctrl-C reaches the bench alone, which
	// stops its servers itself.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{Addr: c.Addr, cmd: cmd, log: c.Log, ended: make(chan struct{})}
	go func() { p.err = cmd.Wait(); close(p.ended) }()
	if err := p.await(ctx, c.Ready, started); err != nil {
		p.Kill()
		return nil, fmt.Errorf("start %s: %w\n%s", c.Path, err, tail(c.Log))
	}
	return p, nil
}

// await asks until the process answers, some hundred times a second.
func (p *Process) await(ctx context.Context, path string, started time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ended:
			return fmt.Errorf("it ended by itself: %w", p.err)
		case <-tick.C:
		}
		if p.Addr == "" {
			p.Addr = addrIn(p.log)
		}
		if p.Addr != "" && answers(ctx, p.Addr, path) {
			p.StartUp = time.Since(started)
			return nil
		}
	}
}

// addrIn finds the first whole address that a log names.
func addrIn(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	found := regexp.MustCompile(`http://(127\.0\.0\.1:\d+)\s`).FindSubmatch(text)
	if found == nil {
		return ""
	}
	return string(found[1])
}

// answers reports whether the server answers a path; an empty path always does.
func answers(ctx context.Context, addr, path string) bool {
	if path == "" {
		return true
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close()) == nil && res.StatusCode == http.StatusOK
}

// FreeAddr is a loopback address that nobody listens on.
func FreeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// Memory is what the process holds in RAM now, in bytes.
func (p *Process) Memory() (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10,
				64)
			return kib << 10, err
		}
	}
	return 0, errors.New("the system does not tell VmRSS")
}

// CPU is how much processor time the process has used so far, to 10 ms.
func (p *Process) CPU() (time.Duration, error) {
	fields, err := stat(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	return fields.sum(userTicks, systemTicks)
}

// FamilyCPU returns the processor time of the process and its children, also of those that have
// ended.
func (p *Process) FamilyCPU() (all time.Duration, err error) {
	parent, err := stat(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	if all, err = parent.sum(userTicks, systemTicks, endedUserTicks, endedSystemTicks); err != nil {
		return 0, err
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range processes {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		fields, err := stat(pid)
		if err != nil || fields[parentPID] != strconv.Itoa(p.cmd.Process.Pid) {
			continue // it may have ended, and is then counted by the parent
		}
		own, err := fields.sum(userTicks, systemTicks)
		if err != nil {
			return 0, err
		}
		all += own
	}
	return all, nil
}

// stats are the fields of /proc/PID/stat after the command's name, which is the second.
type stats []string

// Where fields are in stats: proc(5) counts from 1.
const (
	parentPID        = 4 - 3
	userTicks        = 14 - 3
	systemTicks      = 15 - 3
	endedUserTicks   = 16 - 3
	endedSystemTicks = 17 - 3
)

// stat reads the figures of a process. Its name stands in parentheses before them, and
// may hold spaces.
func stat(pid int) (stats, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) <= endedSystemTicks {
		return nil, fmt.Errorf("the system tells no processor time: %q", text)
	}
	return fields, nil
}

// sum adds up some fields that count ticks.
func (s stats) sum(fields ...int) (all time.Duration, err error) {
	// USER_HZ, which is 100 on every architecture that this runs on.
	const tick = 10 * time.Millisecond
	for _, i := range fields {
		n, parseErr := strconv.ParseInt(s[i], 10, 64)
		all, err = all+time.Duration(n)*tick, errors.Join(err, parseErr)
	}
	return all, err
}

// Stop asks the process to end and waits until it has.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w\n%s", p.cmd.Path, err, tail(p.log))
	}
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("%s ended badly: %w\n%s", p.cmd.Path, p.err, tail(p.log))
		}
		return nil
	case <-time.After(stopTimeout):
		p.Kill()
		return fmt.Errorf("%s did not end within %v\n%s", p.cmd.Path, stopTimeout, tail(p.log))
	}
}

// Kill ends the process at once. It does nothing once it has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// tail is the end of a log, for an error's text.
func tail(path string) string {
	const most = 2000
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}
