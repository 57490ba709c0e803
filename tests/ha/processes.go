package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program that runs, and ends with this one.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   *os.File
	ended chan struct{}
}

// launcher starts programs, and ends all of them.
type launcher struct {
	dir string // of logs
	mu  sync.Mutex
	all []*process
}

// start starts a program, as somebody else where as is given.
func (l *launcher) start(name string, as *syscall.Credential, env []string, args ...string) (*process, error) {
	// A program that is started again writes on in its old log.
	log, err := os.OpenFile(filepath.Join(l.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, log: log, ended: make(chan struct{}), cmd: exec.Command(args[0], args[1:]...)}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, l.dir
	p.cmd.Env = append(os.Environ(), env...)
	// In a process group of its own, which kill ends as a whole, and which Ctrl-C of this
	// program does not reach.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	go func() {
		_ = p.cmd.Wait() // how it ends is told by the log
		_ = log.Close()
		close(p.ended)
	}()
	l.mu.Lock()
	l.all = append(l.all, p)
	l.mu.Unlock()
	return p, nil
}

// kill ends a program and what it has started, at once.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

// killAll ends all programs. Those that have ended already are no error.
func (l *launcher) killAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.all {
		p.kill()
	}
}

// tail is the end of a program's log.
func (l *launcher) tail(name string) string {
	text, err := os.ReadFile(filepath.Join(l.dir, name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-1500):])
}

// killPostgres ends the server of a data directory with all its children, as the
// loss of its machine does: nobody sends a last word.
func killPostgres(data string) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGSTOP) // so that it starts no others
	children := childrenOf(pid)
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
}

// childrenOf lists the processes that a process has started, from Linux's /proc.
func childrenOf(parent int) (children []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		// The program's name stands in parentheses before the fields, and may hold spaces.
		_, rest, _ := bytes.Cut(text, []byte(") "))
		fields := strings.Fields(string(rest)) // state, parent …
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			if err == nil {
				children = append(children, pid)
			}
		}
	}
	return children
}

// somebody is the user as whom PostgreSQL runs, which refuses to be root.
func somebody() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// freePort is one that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// eventually asks until the answer is yes.
func eventually(ctx context.Context, within time.Duration, what string, is func() bool) error {
	for began := time.Now(); ; {
		if is() {
			return nil
		}
		if time.Since(began) > within {
			return fmt.Errorf("after %v it is still not so that %s", within, what)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
