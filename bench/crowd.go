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
	"github.com/pikarc/server/bench/ledgercheck"
	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/proc"
	"github.com/pikarc/server/bench/report"
)

const (
	crowdUsers = 1_000_000 // each starts a run
	crowdRuns  = 99_900    // of which so many stay open: a workspace may have 100,000 at once
)

// crowd is a server with many users and open runs.
type crowd struct {
	server  agent.Server
	process *proc.Process
	users   int
	open    []string // runs
	answers ledgercheck.Answers
	table   report.Table
}

// runCrowd measures what the writer's memory costs and saves when there are
// many more users and runs than it holds.
func runCrowd(ctx context.Context, w *workDir, o options) error {
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
	c := &crowd{server: agent.Server{Host: p.Addr, Key: accounts[0].Key}, process: p}
	c.table.Columns = []string{"", "decisions /s", "p50 ms", "p99 ms", "cpu µs/call", "MiB"}
	if err := c.measureAll(ctx, max(o.window, 5*time.Second)); err != nil {
		return err
	}
	if err := p.Stop(); err != nil {
		return err
	}
	if err := errors.Join(ledgercheck.Verify(ctx, filepath.Join(dir, database), c.answers),
		w.verifyCounters(ctx, dir)); err != nil {
		return err
	}
	return c.table.Write(os.Stdout)
}

// measureAll first lets runs arrive, then measures decisions with few and with many of them open.
func (c *crowd) measureAll(ctx context.Context, window time.Duration) error {
	arriving := make([]load.Script, runs)
	for i := range arriving {
		arriving[i] = agent.Arrive(c.server, c.user, c.keep)
	}
	const forEver = time.Hour
	arrived := func() bool { return c.users >= crowdUsers && len(c.open) >= crowdRuns }
	// Until all users have come, however long that takes.
	err := c.measure(ctx, "a million users, each starting a run",
		load.Options{Scripts: arriving, For: forEver, Stop: arrived})
	if err != nil {
		return err
	}
	few, many := make([]load.Script, runs), make([]load.Script, runs)
	for i := range runs {
		// One connection stays with one run, whose row the writer keeps in memory.
		few[i] = agent.Steps(c.server, c.open[i], false)
		// Each step is of another run, which the writer mostly reads from the file first.
		many[i] = agent.Wander(c.server, c.open, rand.New(rand.NewPCG(1, uint64(i))).IntN)
	}
	return errors.Join(
		c.measure(ctx, "steps of 64 of them", load.Options{Scripts: few, Warm: warm, For: window}),
		c.measure(ctx, "steps of any of 99,900", load.Options{Scripts: many, Warm: warm,
			For: window}),
	)
}

// user names the next one.
func (c *crowd) user() string {
	c.users++
	return fmt.Sprintf("user-%07d", c.users)
}

// keep has every tenth run stay open.
func (c *crowd) keep(run string) bool {
	if c.users%(crowdUsers/crowdRuns) != 0 || len(c.open) == crowdRuns {
		return false
	}
	c.open = append(c.open, run)
	return true
}

// measure adds a row to the table.
func (c *crowd) measure(ctx context.Context, title string, o load.Options) error {
	say("%s", title)
	s, r, err := measured(ctx, c.process, o, agent.Start, agent.Step)
	if err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	c.answers = c.answers.Plus(answersOf(r))
	if s.Memory, err = c.process.Memory(); err != nil {
		return err
	}
	c.table.Add(title, report.Number(s.PerSecond), report.Number(s.P50), report.Number(s.P99),
		report.Number(s.CPU), report.Number(float64(s.Memory)/(1<<20)))
	return nil
}
