//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/proc"
)

// pocketBase is the peer whose create is most like a decision of ours.
func pocketBase() program {
	return program{
		prepare: preparePocketBase,
		contenders: []contender{
			{"pocketbase", "PocketBase, create a like record, signed in", 64, creates()},
			{"pocketbase-durable", "the same, on disk when answered, as ours", 64,
				creates("BENCH_DURABLE=1")},
			{"pocketbase-open", "PocketBase, create a like record, by anybody", 64,
				creates("BENCH_OPEN=1")},
		},
	}
}

// preparePocketBase builds it, and lets it make its directory.
func preparePocketBase(ctx context.Context, s *suite) error {
	if err := s.build(ctx, "pocketbase", "pocketbase"); err != nil {
		return err
	}
	p, err := s.servePocketBase(ctx, s.peer)
	if err != nil {
		return err
	}
	return p.Stop()
}

// servePocketBase starts the peer on a free port.
func (f *suite) servePocketBase(
	ctx context.Context, dir string, env ...string,
) (*proc.Process, error) {
	addr, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return proc.Start(ctx, proc.Command{
		Path: f.binary("pocketbase"), Args: []string{"serve", "--http", addr, "--dir", dir},
		Env: env,
		Log: filepath.Join(dir, "server.log"), Addr: addr, Ready: "/api/health",
	})
}

// creates measures PocketBase with something in its environment.
func creates(env ...string) func(context.Context, *suite, string, int) (sample, error) {
	return func(ctx context.Context, f *suite, dir string, conns int) (sample, error) {
		return measurePocketBase(ctx, f, dir, conns, env)
	}
}

// measurePocketBase measures creating records, each of which is a commit.
func measurePocketBase(
	ctx context.Context, f *suite, dir string, conns int, env []string,
) (sample, error) {
	if err := copyDir(f.peer, dir); err != nil {
		return sample{}, err
	}
	token, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		return sample{}, err
	}
	// Making its directory has left the token of a user there.
	server := agent.Server{Key: string(token)}
	if slices.Contains(env, "BENCH_OPEN=1") {
		server.Key = ""
	}
	p, err := f.servePocketBase(ctx, dir, env...)
	if err != nil {
		return sample{}, err
	}
	defer p.Kill()
	server.Host = p.Addr
	list := make([]load.Script, conns)
	for i := range list {
		list[i] = agent.Records(server, fmt.Sprintf("01936f2e-8a3b-7c4d-9e5f-%012d", i))
	}
	s, r, err := measured(ctx, p, load.Options{Scripts: list, Warm: warm, For: f.window},
		agent.Record)
	if err != nil {
		return sample{}, err
	}
	file := filepath.Join(dir, "data.db")
	if err := f.finish(p, file, &s); err != nil {
		return sample{}, err
	}
	// The template's own bytes are taken off; what is left is what the records take.
	s.StepBytes = float64(sizeOf(file)-sizeOf(filepath.Join(f.peer,
		"data.db"))) / float64(r.Answers[agent.Record])
	return s, nil
}
