// Package postgres starts a PostgreSQL server for tests: a real one, in a
// directory of its own, on a free port of the loopback. It ends with the process
// that started it.
package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Server is a running server.
type Server struct {
	dir  string
	port int
	as   *syscall.SysProcAttr
	bin  string
	cmd  *exec.Cmd    // nil while none runs
	gone chan error   // how cmd has ended
	made atomic.Int64 // databases
	log  bytes.Buffer

	settings []string
}

// Start makes an empty cluster and starts a server on it. What it loses when the
// machine stops is a test's, so it does not sync. Settings, such as
// "wal_level=replica", are added to those that all tests have, and win.
func Start(settings ...string) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, settings: settings}
	if s.dir, err = os.MkdirTemp("", "pikarc-postgres"); err != nil {
		return nil, err
	}
	if s.as, err = s.owner(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	init := s.command("initdb", "-D", s.data(), "-U", "pikarc", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if out, err := init.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), s.Stop())
	}
	if err := s.Run(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// binaries finds the newest of Debian's directories, or where else initdb is.
func binaries() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(dirs, func(a, b string) int { return version(a) - version(b) })
	if len(dirs) > 0 {
		return dirs[len(dirs)-1], nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("there is no PostgreSQL: install Debian's package postgresql, as `make test` does")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	return filepath.Dir(path), nil
}

// version is the major version in a path.
func version(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

// owner gives the directory to somebody who is not root, as whom a server would
// not run.
func (s *Server) owner() (*syscall.SysProcAttr, error) {
	as := new(syscall.SysProcAttr)
	if os.Getuid() != 0 {
		return as, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return as, os.Chown(s.dir, uid, gid)
	}
	return nil, errors.New("there is no user to run PostgreSQL as: it refuses to run as root")
}

// data is the data directory.
func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// command runs a program of PostgreSQL's as its user.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = s.dir, s.as
	return cmd
}

// Run starts the server, again after Kill, on the same port.
func (s *Server) Run() error {
	if s.port == 0 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s.port = l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return err
		}
	}
	s.log.Reset()
	args := []string{"-D", s.data(), "-k", s.dir, "-h", "127.0.0.1", "-p", strconv.Itoa(s.port)}
	for _, set := range append([]string{
		"fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0", "max_connections=300",
		"shared_buffers=64MB", "autovacuum=off", "log_min_messages=fatal",
	}, s.settings...) {
		args = append(args, "-c", set)
	}
	cmd := s.command("postgres", args...)
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if err := s.start(cmd); err != nil {
		return err
	}
	return s.wait()
}

// start starts the server, which ends with this process. The kernel has it end with the
// thread that made it, so that thread is kept for as long as the server runs: one of the
// runtime's may end before, when a test has locked it.
func (s *Server) start(cmd *exec.Cmd) error {
	as := *s.as
	as.Pdeathsig = syscall.SIGQUIT
	cmd.SysProcAttr = &as
	started, gone := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			gone <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.cmd, s.gone = cmd, gone
	return nil
}

// wait returns once the server answers.
func (s *Server) wait() (err error) {
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
		if err = s.tool("pg_isready", "-q"); err == nil {
			return nil
		}
	}
	return fmt.Errorf("PostgreSQL does not start: %w\n%s", err, s.log.String())
}

// URL is how a database of the server is reached.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://pikarc@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

// Create makes a database, a copy of another one to which nobody may be
// connected ("" for an empty one), and returns its name.
func (s *Server) Create(template string) (name string, err error) {
	if template == "" {
		template = "template0"
	}
	name = fmt.Sprintf("test_%d", s.made.Add(1))
	return name, s.tool("createdb", "-T", template, name)
}

// tool runs one of PostgreSQL's programs. A connection of this process would not
// do for callers in a bubble of synctest, where another one has opened it.
func (s *Server) tool(name string, args ...string) error {
	cmd := s.command(name, append([]string{"-h", s.dir, "-p", strconv.Itoa(s.port), "-U", "pikarc"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// Drop removes a database, whoever is connected to it.
func (s *Server) Drop(name string) error {
	return s.tool("dropdb", "--force", name)
}

// Kill ends the server at once, as a crash does.
func (s *Server) Kill() error {
	// SIGQUIT: the children are ended too, and nothing is written any more.
	err := s.cmd.Process.Signal(syscall.SIGQUIT)
	<-s.gone // it ends with an error, as it was told to
	s.cmd = nil
	return err
}

// Shutdown ends the server as its operator does: sessions are told, and all is written.
func (s *Server) Shutdown() error {
	err := s.cmd.Process.Signal(syscall.SIGINT)
	err = errors.Join(err, <-s.gone)
	s.cmd = nil
	return err
}

// Standby has the server come up as a standby when it is next run, or no longer.
func (s *Server) Standby(on bool) error {
	file := filepath.Join(s.data(), "standby.signal")
	if !on {
		return os.Remove(file)
	}
	return os.WriteFile(file, nil, 0o644) // read by somebody else, if this process is root
}

// Admit puts rules before those of pg_hba.conf. They hold when the server is next run.
func (s *Server) Admit(rules ...string) error {
	file := filepath.Join(s.data(), "pg_hba.conf")
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strings.Join(rules, "\n")+"\n"+string(old)), 0o644)
}

// Own gives a file to whoever the server runs as.
func (s *Server) Own(file string) error {
	if s.as.Credential == nil {
		return nil
	}
	return os.Chown(file, int(s.as.Credential.Uid), int(s.as.Credential.Gid))
}

// Stop ends the server and removes its files.
func (s *Server) Stop() error {
	var errs []error
	if s.cmd != nil {
		errs = append(errs, s.Kill())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}
