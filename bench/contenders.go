//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/books"
	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/proc"
)

const (
	// workspaces is over how many the spread decisions go, runs how many the hot ones keep busy.
	workspaces = 64
	runs       = 64
	// usersOfLife is for how many users runs are started.
	usersOfLife = 1000
	warm        = 300 * time.Millisecond
)

// contender is one line of the table.
type contender struct {
	name  string
	title string
	conns int
	// measure runs the contender on a fresh directory, which is removed afterwards.
	measure func(ctx context.Context, f *field, dir string, conns int) (sample, error)
}

// contenders is the whole field. The bare ones are the yardsticks: what a
// ratio compares with, at the same number of connections.
func contenders() []contender {
	return []contender{
		{"bare-1", "bare httprouter GET", 1, bare()},
		{"bare-64", "bare httprouter GET", 64, bare()},
		{"bare-256", "bare httprouter GET", 256, bare()},
		{"synced-1", "the same that writes two pages and syncs them", 1, bare("synced")},
		{"hot-1", "step decisions, one workspace", 1, decisions(hot)},
		{"hot", "step decisions, one workspace, 64 runs", 64, decisions(hot)},
		{"spread", "step decisions, 64 workspaces", 64, decisions(spread)},
		{"streams-1000", "the same beside 1,000 event streams", 64, beside(1000, spread)},
		{"hot-2000", "step decisions, one workspace, 2,000 runs", 2000, decisions(hot)},
		{"overload", "the same, more than may wait, nobody rests when refused", 6000, overload},
		{"patched", "step and PATCH, one workspace, 64 runs", 64, decisions(patched)},
		{"life-1", "life of a run, decisions", 1, decisions(living)},
		{"life", "life of a run, decisions", 64, decisions(living)},
		{"life-256", "life of a run, decisions", 256, decisions(living)},
		{"pocketbase", "PocketBase, create a like record, signed in", 64, pocketBase()},
		{"pocketbase-durable", "the same, on disk when answered, as ours", 64, pocketBase("BENCH_DURABLE=1")},
		{"pocketbase-open", "PocketBase, create a like record, by anybody", 64, pocketBase("BENCH_OPEN=1")},
	}
}

// sample is what one contender did in one round.
type sample struct {
	Name        string     `json:"name"`
	Round       int        `json:"round"`
	Connections int        `json:"connections"`
	PerSecond   float64    `json:"per_second"`      // GETs, decisions or records
	Calls       float64    `json:"calls_a_second"`  // all of them
	Ratio       float64    `json:"ratio,omitempty"` // of PerSecond, to the yardstick's
	P50         float64    `json:"p50_ms"`
	P99         float64    `json:"p99_ms"`
	P999        float64    `json:"p999_ms"`
	Max         float64    `json:"max_ms"`
	CPU         float64    `json:"cpu_us_a_call"` // of the server, also while warming up
	Memory      int64      `json:"memory_bytes"`
	WAL         int64      `json:"wal_bytes,omitempty"`         // while it still ran
	StepBytes   float64    `json:"file_bytes_a_step,omitempty"` // by which the file grew, or bytes a record
	Seconds     float64    `json:"seconds"`                     // that were measured
	Answers     int64      `json:"answers_in_all"`              // also while warming up
	StartUp     float64    `json:"start_up_seconds,omitempty"`  // until ready
	Overload    *recovered `json:"overload,omitempty"`
	Booked      *booked    `json:"rows_and_answers,omitempty"` // equal, or the bench had failed
}

type booked struct{ Starts, Steps, Patches, Ends int64 }

// sampleOf sums up a load; kinds are those that count.
func sampleOf(conns int, r *load.Result, kinds ...int) sample {
	var all load.Histogram
	for _, k := range kinds {
		all.Merge(&r.Measured[k])
	}
	s := sample{Connections: conns, Seconds: r.Elapsed.Seconds(), PerSecond: float64(all.Count()) / r.Elapsed.Seconds()}
	s.P50, s.P99, s.P999 = millis(all.Quantile(0.5)), millis(all.Quantile(0.99)), millis(all.Quantile(0.999))
	s.Max = millis(all.Max())
	for k := range r.Measured {
		s.Calls += float64(r.Measured[k].Count()) / r.Elapsed.Seconds()
		s.Answers += r.Answers[k]
	}
	return s
}

// measured loads a process and sums up what came of it.
func measured(ctx context.Context, p *proc.Process, o load.Options, kinds ...int) (sample, *load.Result, error) {
	o.Addr = p.Addr
	before, err := p.CPU()
	if err != nil {
		return sample{}, nil, err
	}
	r, err := load.Run(ctx, o)
	if err != nil {
		return sample{}, nil, err
	}
	after, err := p.CPU()
	s := sampleOf(len(o.Scripts), r, kinds...)
	s.CPU = float64((after - before).Microseconds()) / float64(s.Answers)
	return s, r, err
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// field is what all contenders of a run share.
type field struct {
	*workshop
	window   time.Duration
	template string // our directory with accounts and nothing else
	accounts []account
	peer     string // PocketBase's directory with its collection and no record
}

// prepare builds what the chosen contenders need.
func prepare(ctx context.Context, w *workshop, o options, chosen []contender) (*field, error) {
	f := &field{workshop: w, window: o.window, template: filepath.Join(w.tmp, "template"), peer: filepath.Join(w.tmp, "peer")}
	if err := errors.Join(w.build(ctx, "bare", "bare"), w.build(ctx, "pikarc", pikarcRoot)); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(chosen, func(c contender) bool { return strings.HasPrefix(c.name, "pocketbase") }) {
		if err := w.build(ctx, "pocketbase", "pocketbase"); err != nil {
			return nil, err
		}
		p, err := f.servePocketBase(ctx, f.peer)
		if err != nil {
			return nil, err
		}
		if err := p.Stop(); err != nil {
			return nil, err
		}
	}
	say("making %d accounts", workspaces)
	var err error
	f.accounts, err = w.makeAccounts(ctx, f.template, workspaces)
	return f, err
}

// bare measures the yardstick, which writes to a file if one is named.
func bare(file ...string) func(context.Context, *field, string, int) (sample, error) {
	return func(ctx context.Context, f *field, dir string, conns int) (sample, error) {
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

func measureBare(ctx context.Context, f *field, c proc.Command, conns int) (sample, error) {
	p, err := proc.Start(ctx, c)
	if err != nil {
		return sample{}, err
	}
	defer p.Kill()
	scripts := make([]load.Script, conns)
	for i := range scripts {
		scripts[i] = agent.Get(agent.Server{Host: p.Addr}, "/v1/runs/01936f2e-8a3b-7c4d-9e5f-0123456789ab/steps", agent.Read)
	}
	s, _, err := measured(ctx, p, load.Options{Scripts: scripts, Warm: warm, For: f.window / 2}, agent.Read)
	if err != nil {
		return sample{}, err
	}
	s.Memory, err = p.Memory()
	return s, err
}

// scripts makes what each connection does; started is how many runs that took.
type scripts func(ctx context.Context, f *field, host string, conns int) (list []load.Script, started int64, err error)

func hot(ctx context.Context, f *field, host string, conns int) ([]load.Script, int64, error) {
	return stepScripts(ctx, f.accounts, host, conns, 1, false)
}

func spread(ctx context.Context, f *field, host string, conns int) ([]load.Script, int64, error) {
	return stepScripts(ctx, f.accounts, host, conns, workspaces, false)
}

func patched(ctx context.Context, f *field, host string, conns int) ([]load.Script, int64, error) {
	return stepScripts(ctx, f.accounts, host, conns, 1, true)
}

// stepScripts starts a run for each connection, in turn in each of some workspaces.
func stepScripts(ctx context.Context, accounts []account, host string, conns, among int, patched bool) (list []load.Script, started int64, err error) {
	for i := range max(conns, runs) {
		s := agent.Server{Host: host, Key: accounts[i%among].Key}
		run, err := startRun(ctx, s, fmt.Sprintf("user-%d", i))
		if err != nil {
			return nil, 0, err
		}
		if started++; i < conns {
			list = append(list, agent.Steps(s, run, patched))
		}
	}
	return list, started, nil
}

func living(_ context.Context, f *field, host string, conns int) ([]load.Script, int64, error) {
	s := agent.Server{Host: host, Key: f.accounts[0].Key}
	n := 0
	user := func() string { n++; return fmt.Sprintf("user-%d", n%usersOfLife) }
	list := make([]load.Script, conns)
	for i := range list {
		list[i] = agent.Life(s, user)
	}
	return list, 0, nil
}

// decisions measures our server under scripts, and then checks its books.
func decisions(make scripts) func(context.Context, *field, string, int) (sample, error) {
	return func(ctx context.Context, f *field, dir string, conns int) (sample, error) {
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
		s, r, err := measured(ctx, p, load.Options{Scripts: list, Warm: warm, For: f.window}, agent.Start, agent.Step)
		if err != nil {
			return sample{}, err
		}
		file := filepath.Join(dir, database)
		if err := f.finish(p, file, &s); err != nil {
			return sample{}, err
		}
		answers := answersOf(r)
		s.StepBytes = float64(sizeOf(file)-sizeOf(filepath.Join(f.template, database))) / float64(answers.Steps)
		answers.Starts += started
		s.Booked = (*booked)(&answers)
		return s, errors.Join(books.Verify(ctx, file, answers), f.prove(ctx, dir))
	}
}

// finish reads what only a living process tells, and stops it.
func (f *field) finish(p *proc.Process, file string, s *sample) (err error) {
	if s.Memory, err = p.Memory(); err != nil {
		return err
	}
	s.WAL, s.StartUp = sizeOf(file+"-wal"), p.StartUp.Seconds()
	return p.Stop()
}

func answersOf(r *load.Result) books.Answers {
	return books.Answers{
		Starts: r.Answers[agent.Start], Steps: r.Answers[agent.Step],
		Patches: r.Answers[agent.Patch], Ends: r.Answers[agent.End],
	}
}

func (f *field) servePocketBase(ctx context.Context, dir string, env ...string) (*proc.Process, error) {
	addr, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return proc.Start(ctx, proc.Command{
		Path: f.binary("pocketbase"), Args: []string{"serve", "--http", addr, "--dir", dir}, Env: env,
		Log: filepath.Join(dir, "server.log"), Addr: addr, Ready: "/api/health",
	})
}

// pocketBase measures PocketBase with something in its environment.
func pocketBase(env ...string) func(context.Context, *field, string, int) (sample, error) {
	return func(ctx context.Context, f *field, dir string, conns int) (sample, error) {
		return measurePocketBase(ctx, f, dir, conns, env)
	}
}

func measurePocketBase(ctx context.Context, f *field, dir string, conns int, env []string) (sample, error) {
	if err := copyDir(f.peer, dir); err != nil {
		return sample{}, err
	}
	token, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		return sample{}, err
	}
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
	s, r, err := measured(ctx, p, load.Options{Scripts: list, Warm: warm, For: f.window}, agent.Record)
	if err != nil {
		return sample{}, err
	}
	file := filepath.Join(dir, "data.db")
	if err := f.finish(p, file, &s); err != nil {
		return sample{}, err
	}
	s.StepBytes = float64(sizeOf(file)-sizeOf(filepath.Join(f.peer, "data.db"))) / float64(r.Answers[agent.Record])
	return s, nil
}
