//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/ledgercheck"
	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/proc"
)

// pikarcOnPostgres is our server with its ledger in a PostgreSQL that shares the
// machine, and syncs as it does by itself.
func pikarcOnPostgres() program {
	return program{
		prepare: func(ctx context.Context, s *suite) error {
			if len(s.accounts) > 0 {
				return nil // pikarc has made them
			}
			return preparePikarc(ctx, s)
		},
		contenders: []contender{
			{"pg-hot", "PostgreSQL: step decisions, one workspace, 64 runs", 64,
				onPostgres(1, hot)},
			{"pg-spread", "PostgreSQL: step decisions, 64 workspaces", 64, onPostgres(1, spread)},
			{"pg-life", "PostgreSQL: life of a run, decisions", 64, onPostgres(1, living)},
			{"pg-affine", "PostgreSQL, two nodes: one workspace, all calls to one of them", 64,
				onPostgres(2, hot)},
			{"pg-random", "PostgreSQL, two nodes: one workspace, calls to either", 64,
				overNodes(2, 2, hot)},
			{"pg-shared-4", "PostgreSQL, four nodes: 64 workspaces, each on one of them", 64,
				overNodes(4, 4, sharded())},
			{"pg-spread-2", "PostgreSQL, two nodes: 64 workspaces, calls to either", 64,
				overNodes(2, 2, spread)},
		},
	}
}

// postgresServer is PostgreSQL on a directory that goes with it.
type postgresServer struct {
	*proc.Process
	dir, bin string
	as       []string // what runs a program as somebody who is not root
}

// startPostgres starts a PostgreSQL server of its own, as the user postgres if the bench runs as
// root, which PostgreSQL refuses.
func startPostgres(ctx context.Context) (s *postgresServer, err error) {
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		return nil, errors.New("there is no PostgreSQL: apt-get install postgresql")
	}
	s = &postgresServer{bin: bins[len(bins)-1]}
	if s.dir, err = os.MkdirTemp("", "pikarc-bench-postgres-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(s.dir))
		}
	}()
	// setpriv is in util-linux, and unlike sudo needs no configuration.
	if os.Getuid() == 0 {
		s.as = []string{"setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"}
		if out, err := exec.CommandContext(ctx, "chown", "postgres:", s.dir).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
	}
	if err := s.run(ctx, "initdb", "-D", s.data(), "-U", "pikarc", "-A", "trust", "-E", "UTF8",
		"--locale=C", "--no-instructions"); err != nil {
		return nil, err
	}
	addr, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	args := append(s.command("postgres", "-D", s.data(), "-k", s.dir), "-h", host, "-p", port,
		"-c", "max_connections=200", "-c", "shared_buffers=256MB")
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, err
	}
	s.Process, err = proc.Start(ctx, proc.Command{
		Path: path, Args: args[1:], Log: filepath.Join(s.dir, "server.log"), Addr: addr,
	})
	if err != nil {
		return nil, err
	}
	// The address is open before the server takes connections, so pg_isready decides.
	const patience, pause = 30 * time.Second, 50 * time.Millisecond
	for began := time.Now(); ; time.Sleep(pause) {
		if err = s.run(ctx, "pg_isready", "-q", "-h", host, "-p", port); err == nil {
			return s, nil
		}
		if time.Since(began) > patience {
			s.Kill()
			return nil, err
		}
	}
}

// data is the server's data directory.
func (s *postgresServer) data() string { return filepath.Join(s.dir, "data") }

// command prefixes a program of PostgreSQL's with the switch to its user.
func (s *postgresServer) command(name string, args ...string) []string {
	return append(append(append([]string{}, s.as...), filepath.Join(s.bin, name)), args...)
}

// run runs such a program to its end.
func (s *postgresServer) run(ctx context.Context, name string, args ...string) error {
	all := s.command(name, args...)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// url is that of the database that is always there.
func (s *postgresServer) url() string {
	return "postgres://pikarc@" + s.Addr + "/postgres?sslmode=disable"
}

// end kills the server and removes its data.
func (s *postgresServer) end() error {
	s.Kill()
	return os.RemoveAll(s.dir)
}

// onPostgres measures so many nodes, all calls to the first.
func onPostgres(nodes int, begin scripts) func(context.Context, *suite, string, int) (sample, error) {
	return overNodes(nodes, 1, begin)
}

// overNodes measures so many nodes, of which some are called in equal parts. The
// accounts come by pikarc copy, and the books go back by it to be checked.
func overNodes(
	nodes, called int, begin scripts,
) func(context.Context, *suite, string, int) (sample, error) {
	return func(ctx context.Context, f *suite, dir string, conns int) (s sample, err error) {
		if err := copyDir(f.template, dir); err != nil {
			return s, err
		}
		server, err := startPostgres(ctx)
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, server.end()) }()
		if err := f.copyLedger(ctx, dir, dir, server.url()); err != nil {
			return s, err
		}
		var all []*proc.Process
		defer func() {
			for _, p := range all {
				p.Kill()
			}
		}()
		for i := range nodes {
			p, err := f.serveNode(ctx, dir, server.url(), i)
			if err != nil {
				return s, err
			}
			all = append(all, p)
		}
		// PostgreSQL does its work in a process for each connection, so all of them count.
		before, err := server.FamilyCPU()
		if err != nil {
			return s, err
		}
		s, answers, err := f.measureNodes(ctx, all[:called], conns, begin)
		if err != nil {
			return s, err
		}
		after, err := server.FamilyCPU()
		if err != nil {
			return s, err
		}
		s.CPU += float64((after - before).Microseconds()) / float64(s.Answers)
		for _, p := range all {
			if err := p.Stop(); err != nil {
				return s, err
			}
		}
		// They have ended: nothing is left to kill.
		all = nil
		back := filepath.Join(dir, "back")
		if err := f.copyLedger(ctx, dir, server.url(), back); err != nil {
			return s, err
		}
		s.Booked = (*booked)(&answers)
		return s, ledgercheck.Verify(ctx, filepath.Join(back, database), answers)
	}
}

// copyLedger copies a ledger, under the secret of a directory.
func (f *suite) copyLedger(ctx context.Context, secretOf, from, to string) error {
	secret, err := os.ReadFile(filepath.Join(secretOf, "secret.key"))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, f.binary("pikarc"), "copy", "--from", from, "--to", to)
	cmd.Env = append(proc.Environment(), "PIKARC_SECRET="+strings.TrimSpace(string(secret)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pikarc copy: %w\n%s", err, out)
	}
	return nil
}

// serveNode starts a node on a shared database.
func (f *suite) serveNode(ctx context.Context, dir, url string, i int) (*proc.Process, error) {
	return proc.Start(ctx, proc.Command{
		Path: f.binary("pikarc"),
		Args: []string{"serve", "--data-dir", dir, "--database", url, "--addr", "127.0.0.1:0"},
		Log:  filepath.Join(dir, fmt.Sprintf("node%d.log", i)), Ready: "/health/ready",
	})
}

// outcome is what the load of one node has come to.
type outcome struct {
	sample sample
	result *load.Result
	err    error
}

// measureNodes loads nodes side by side, each with its part of the connections.
func (f *suite) measureNodes(
	ctx context.Context, nodes []*proc.Process, conns int, begin scripts,
) (s sample, answers ledgercheck.Answers, err error) {
	lists := make([][]load.Script, len(nodes))
	for i, p := range nodes {
		var started int64
		if lists[i], started, err = begin(ctx, f, p.Addr, conns/len(nodes)); err != nil {
			return s, answers, err
		}
		answers.Starts += started
	}
	outcomes := make([]outcome, len(nodes))
	var all sync.WaitGroup
	for i, p := range nodes {
		all.Go(func() {
			o := &outcomes[i]
			o.sample, o.result, o.err = measured(ctx, p,
				load.Options{Scripts: lists[i], Warm: warm, For: f.window}, agent.Start, agent.Step)
		})
	}
	all.Wait()
	for _, o := range outcomes {
		if o.err != nil {
			return s, answers, o.err
		}
		s = joined(s, o.sample)
		answers = answers.Plus(answersOf(o.result))
	}
	return s, answers, nil
}

// joined sums up two nodes: of times it keeps the longer ones.
func joined(a, b sample) sample {
	sum := b
	sum.Connections, sum.Answers = a.Connections+b.Connections, a.Answers+b.Answers
	sum.PerSecond, sum.Calls = a.PerSecond+b.PerSecond, a.Calls+b.Calls
	sum.P50, sum.P99 = max(a.P50, b.P50), max(a.P99, b.P99)
	sum.P999, sum.Max = max(a.P999, b.P999), max(a.Max, b.Max)
	// A mean over calls: the busier node weighs more.
	sum.CPU = (a.CPU*float64(a.Answers) + b.CPU*float64(b.Answers)) / float64(sum.Answers)
	return sum
}
