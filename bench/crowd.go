//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/books"
	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/report"
)

const (
	crowdUsers = 1_000_000 // each starts a run
	crowdRuns  = 99_900    // of which so many stay open: a workspace may have 100,000 at once
)

// runCrowd measures what the writer's memory costs and saves when there are
// many more users and runs than it holds.
func runCrowd(ctx context.Context, w *workshop, o options) error {
	if err := w.build(ctx, "pikarc", pikarcRoot); err != nil {
		return err
	}
	dir := filepath.Join(w.tmp, "crowd")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	accounts, err := w.makeAccounts(ctx, dir, 1)
	if err != nil {
		return err
	}
	p, err := w.serve(ctx, dir)
	if err != nil {
		return err
	}
	defer p.Kill()
	server := agent.Server{Host: p.Addr, Key: accounts[0].Key}
	t := report.Table{Columns: []string{"", "decisions /s", "p50 ms", "p99 ms", "cpu µs/call", "MiB"}}
	var answers books.Answers
	measure := func(title string, o load.Options) error {
		say("%s", title)
		s, r, err := measured(ctx, p, o, agent.Start, agent.Step)
		if err != nil {
			return fmt.Errorf("%s: %w", title, err)
		}
		answers = answers.Plus(answersOf(r))
		if s.Memory, err = p.Memory(); err != nil {
			return err
		}
		t.Add(title, report.Number(s.PerSecond), report.Number(s.P50), report.Number(s.P99),
			report.Number(s.CPU), report.Number(float64(s.Memory)/(1<<20)))
		return nil
	}

	var open []string
	users := 0
	user := func() string { users++; return fmt.Sprintf("user-%07d", users) }
	keep := func(run string) bool {
		// The kept ones lie apart from each other.
		if users%(crowdUsers/crowdRuns) != 0 || len(open) == crowdRuns {
			return false
		}
		open = append(open, run)
		return true
	}
	arriving := make([]load.Script, runs)
	for i := range arriving {
		arriving[i] = agent.Arrive(server, user, keep)
	}
	const forEver = time.Hour
	err = measure("a million users, each starting a run", load.Options{
		Scripts: arriving, For: forEver, Stop: func() bool { return users >= crowdUsers && len(open) >= crowdRuns },
	})
	if err != nil {
		return err
	}
	few, many := make([]load.Script, runs), make([]load.Script, runs)
	for i := range runs {
		few[i] = agent.Steps(server, open[i], false)
		many[i] = agent.Wander(server, open, rand.New(rand.NewPCG(1, uint64(i))).IntN)
	}
	window := load.Options{Warm: warm, For: max(o.window, 5*time.Second)}
	window.Scripts = few
	if err := measure("steps of 64 of them", window); err != nil {
		return err
	}
	window.Scripts = many
	if err := measure("steps of any of 99,900", window); err != nil {
		return err
	}
	if err := p.Stop(); err != nil {
		return err
	}
	if err := errors.Join(books.Verify(ctx, filepath.Join(dir, database), answers), w.prove(ctx, dir)); err != nil {
		return err
	}
	return t.Write(os.Stdout)
}
