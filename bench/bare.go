//go:build linux

package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/proc"
)

// bareRouter is the baseline: ratios compare a contender with it at the same number of connections.
func bareRouter() program {
	return program{
		prepare: func(ctx context.Context, s *suite) error { return s.build(ctx, "bare", "bare") },
		contenders: []contender{
			{"bare-1", "bare httprouter GET", 1, bare()},
			{"bare-64", "bare httprouter GET", 64, bare()},
			{"bare-256", "bare httprouter GET", 256, bare()},
			{"synced-1", "the same that writes two pages and syncs them", 1, bare("synced")},
		},
	}
}

// bare measures the baseline, which also writes to a file if one is named.
func bare(file ...string) func(context.Context, *suite, string, int) (sample, error) {
	return func(ctx context.Context, f *suite, dir string, conns int) (sample, error) {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return sample{}, err
		}
		c := proc.Command{Path: f.binary("bare"), Log: filepath.Join(dir, "log")}
		for _, name := range file {
			c.Args = append(c.Args, filepath.Join(dir, name))
		}
		return measureBare(ctx, f, c, conns)
	}
}

// measureBare starts the program and measures one GET, for half a window.
func measureBare(ctx context.Context, f *suite, c proc.Command, conns int) (sample, error) {
	p, err := proc.Start(ctx, c)
	if err != nil {
		return sample{}, err
	}
	defer p.Kill()
	scripts := make([]load.Script, conns)
	for i := range scripts {
		scripts[i] = agent.Get(agent.Server{Host: p.Addr},
			"/v1/runs/01936f2e-8a3b-7c4d-9e5f-0123456789ab/steps", agent.Read)
	}
	s, _, err := measured(ctx, p, load.Options{Scripts: scripts, Warm: warm, For: f.window / 2},
		agent.Read)
	if err != nil {
		return sample{}, err
	}
	s.Memory, err = p.Memory()
	return s, err
}
