//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/ledgercheck"
	"github.com/pikarc/server/bench/load"
)

const (
	// workspaces is over how many the spread decisions go, runs how many the hot ones keep busy.
	workspaces = 64
	// runs is how many runs are open in the hot contenders.
	runs = 64
	// usersOfLife is for how many users runs are started.
	usersOfLife = 1000
)

// pikarc is our server.
func pikarc() program {
	return program{
		prepare: preparePikarc,
		contenders: []contender{
			{"hot-1", "step decisions, one workspace", 1, decisions(hot)},
			{"hot", "step decisions, one workspace, 64 runs", 64, decisions(hot)},
			{"hot-300", "the same, each with 300 bytes of input", 64, decisions(hotWith(300))},
			{"hot-1k", "the same, each with 1 KiB of input", 64, decisions(hotWith(1024))},
			{"spread", "step decisions, 64 workspaces", 64, decisions(spread)},
			{"streams-1000", "the same beside 1,000 event streams", 64, withStreams(1000, spread)},
			{"hot-2000", "step decisions, one workspace, 2,000 runs", 2000, decisions(hot)},
			{"overload", "the same, more than may wait, nobody rests when refused", 6000, overload},
			{"patched", "step and PATCH, one workspace, 64 runs", 64, decisions(patched)},
			{"life-1", "life of a run, decisions", 1, decisions(living)},
			{"life", "life of a run, decisions", 64, decisions(living)},
			{"life-256", "life of a run, decisions", 256, decisions(living)},
		},
	}
}

// preparePikarc builds our server, and makes the accounts of its template.
func preparePikarc(ctx context.Context, s *suite) (err error) {
	if err := s.build(ctx, "pikarc", pikarcRoot); err != nil {
		return err
	}
	say("making %d accounts", workspaces)
	s.accounts, err = s.makeAccounts(ctx, s.template, workspaces)
	return err
}

// scripts makes what each connection does; started is how many runs that took.
type scripts func(ctx context.Context, f *suite, host string, conns int) (list []load.Script,
	started int64, err error)

// sharded is spread, of which each host in turn gets workspaces of its own.
func sharded() scripts {
	next := 0
	return func(ctx context.Context, f *suite, host string, conns int) ([]load.Script, int64, error) {
		own := make([]account, conns)
		for i := range own {
			own[i] = f.accounts[(next+i)%workspaces]
		}
		next += conns
		return stepScripts(ctx, own, host, conns, conns, false)
	}
}

// hot asks for steps in one workspace: all of them change the same counters.
func hot(ctx context.Context, f *suite, host string, conns int) ([]load.Script, int64, error) {
	return stepScripts(ctx, f.accounts, host, conns, 1, false)
}

// hotWith is hot whose steps have payloads of so many bytes.
func hotWith(size int) scripts {
	return func(ctx context.Context, f *suite, host string, conns int) ([]load.Script, int64, error) {
		return stepScriptsWith(ctx, f.accounts, host, conns, 1, false, size)
	}
}

// spread asks for steps in many workspaces.
func spread(ctx context.Context, f *suite, host string, conns int) ([]load.Script, int64, error) {
	return stepScripts(ctx, f.accounts, host, conns, workspaces, false)
}

// patched also reports each step.
func patched(ctx context.Context, f *suite, host string, conns int) ([]load.Script, int64, error) {
	return stepScripts(ctx, f.accounts, host, conns, 1, true)
}

// stepScripts starts a run for each connection, in turn in each of some workspaces.
func stepScripts(
	ctx context.Context, accounts []account, host string, conns, among int, patched bool,
) (list []load.Script, started int64, err error) {
	return stepScriptsWith(ctx, accounts, host, conns, among, patched, 0)
}

// stepScriptsWith is stepScripts whose steps have payloads of so many bytes, or none.
func stepScriptsWith(
	ctx context.Context, accounts []account, host string, conns, among int, patched bool, size int,
) (list []load.Script, started int64, err error) {
	var payloads *agent.Payloads
	if size > 0 {
		payloads, err = agent.NewPayloads(filepath.Join(pikarcRoot, "docs"), size, 1)
		if err != nil {
			return nil, 0, err
		}
	}
	// At least as many runs are open as in the other contenders, so that one connection
	// decides in a workspace of the same size.
	for i := range max(conns, runs) {
		s := agent.Server{Host: host, Key: accounts[i%among].Key}
		run, err := startRun(ctx, s, fmt.Sprintf("user-%d", i))
		if err != nil {
			return nil, 0, err
		}
		if started++; i < conns {
			list = append(list, agent.StepsWith(s, run, patched, payloads))
		}
	}
	return list, started, nil
}

// living plays whole runs of changing users.
func living(_ context.Context, f *suite, host string, conns int) ([]load.Script, int64, error) {
	s := agent.Server{Host: host, Key: f.accounts[0].Key}
	// All scripts share the counter. The load calls them from one thread.
	n := 0
	user := func() string { n++; return fmt.Sprintf("user-%d", n%usersOfLife) }
	list := make([]load.Script, conns)
	for i := range list {
		list[i] = agent.Life(s, user)
	}
	return list, 0, nil
}

// decisions measures our server under scripts, and then checks its books.
func decisions(make scripts) func(context.Context, *suite, string, int) (sample, error) {
	return func(ctx context.Context, f *suite, dir string, conns int) (sample, error) {
		if err := copyDir(f.template, dir); err != nil {
			return sample{}, err
		}
		p, err := f.serve(ctx, dir)
		if err != nil {
			return sample{}, err
		}
		defer p.Kill()
		list, started, err := make(ctx, f, p.Addr, conns)
		if err != nil {
			return sample{}, err
		}
		s, r, err := measured(ctx, p, load.Options{Scripts: list, Warm: warm, For: f.window},
			agent.Start, agent.Step)
		if err != nil {
			return sample{}, err
		}
		file := filepath.Join(dir, database)
		if err := f.finish(p, file, &s); err != nil {
			return sample{}, err
		}
		answers := answersOf(r)
		s.StepBytes = float64(sizeOf(file)-sizeOf(filepath.Join(f.template,
			database))) / float64(answers.Steps)
		answers.Starts += started
		s.Booked = (*booked)(&answers)
		return s, errors.Join(ledgercheck.Verify(ctx, file, answers), f.verifyCounters(ctx, dir))
	}
}

// answersOf counts the answers that the ledger must show.
func answersOf(r *load.Result) ledgercheck.Answers {
	return ledgercheck.Answers{
		Starts: r.Answers[agent.Start], Steps: r.Answers[agent.Step],
		Patches: r.Answers[agent.Patch], Ends: r.Answers[agent.End],
	}
}
