//go:build linux

package main

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/proc"
)

// warm is how long a contender runs before it is measured.
const warm = 300 * time.Millisecond

// program is something that is measured, in a file of its own. To add one, write
// a function that returns it and name it in programs.
type program struct {
	// prepare builds it and makes what its contenders share, once; s.binary,
	// s.build and s.tmp are there for it. It is not called for a program of
	// which no contender is chosen.
	prepare    func(ctx context.Context, s *suite) error
	contenders []contender
}

// contender is one line of the table: a program under one kind of load.
type contender struct {
	name  string
	title string
	conns int
	// measure starts the program on a directory that is not there yet, loads it
	// from so many connections, and stops it. The directory is removed afterwards.
	measure func(ctx context.Context, s *suite, dir string, conns int) (sample, error)
}

// programs are all that is measured, in the order of the table.
func programs() []program {
	return []program{
		bareRouter(),
		pikarc(),
		pikarcOnPostgres(),
		pocketBase(),
	}
}

// contenders are those of all programs.
func contenders() (all []contender) {
	for _, p := range programs() {
		all = append(all, p.contenders...)
	}
	return all
}

// sample is what one contender did in one round.
type sample struct {
	Name        string  `json:"name"`
	Round       int     `json:"round"`
	Connections int     `json:"connections"`
	PerSecond   float64 `json:"per_second"`      // GETs, decisions or records
	Calls       float64 `json:"calls_a_second"`  // all of them
	Ratio       float64 `json:"ratio,omitempty"` // of PerSecond, to the yardstick's
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	P999        float64 `json:"p999_ms"`
	Max         float64 `json:"max_ms"`
	CPU         float64 `json:"cpu_us_a_call"` // of the server and its PostgreSQL, also while warming up
	Memory      int64   `json:"memory_bytes"`
	WAL         int64   `json:"wal_bytes,omitempty"` // while it still ran
	// by which the file grew, or bytes a record
	StepBytes float64    `json:"file_bytes_a_step,omitempty"`
	Seconds   float64    `json:"seconds"`                    // that were measured
	Answers   int64      `json:"answers_in_all"`             // also while warming up
	StartUp   float64    `json:"start_up_seconds,omitempty"` // until ready
	Overload  *recovered `json:"overload,omitempty"`
	Booked    *booked    `json:"rows_and_answers,omitempty"` // equal, or the bench had failed
}

// booked counts the calls that a round was answered.
type booked struct{ Starts, Steps, Patches, Ends int64 }

// sampleOf sums up a load; kinds are those that count.
func sampleOf(conns int, r *load.Result, kinds ...int) sample {
	var all load.Histogram
	for _, k := range kinds {
		all.Merge(&r.Measured[k])
	}
	s := sample{Connections: conns, Seconds: r.Elapsed.Seconds(),
		PerSecond: float64(all.Count()) / r.Elapsed.Seconds()}
	s.P50, s.P99, s.P999 = millis(all.Quantile(0.5)), millis(all.Quantile(0.99)), millis(all.Quantile(0.999))
	s.Max = millis(all.Max())
	for k := range r.Measured {
		s.Calls += float64(r.Measured[k].Count()) / r.Elapsed.Seconds()
		s.Answers += r.Answers[k]
	}
	return s
}

// measured loads a process and sums up what came of it.
func measured(
	ctx context.Context, p *proc.Process, o load.Options, kinds ...int,
) (sample, *load.Result, error) {
	// Processor time is read before and after, so it also has what warming up cost; it is
	// divided by all answers, those of that while included.
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

// millis converts to milliseconds with decimals.
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// suite is what all contenders of a run share.
type suite struct {
	*workDir
	window   time.Duration
	template string // our directory with accounts and nothing else
	accounts []account
	peer     string // PocketBase's directory with its collection and no record
}

// newSuite prepares nothing yet: programs are built when their contenders are chosen.
func newSuite(w *workDir, o options) *suite {
	return &suite{
		workDir: w, window: o.window,
		template: filepath.Join(w.tmp, "template"), peer: filepath.Join(w.tmp, "peer"),
	}
}

// prepare prepares the programs of the chosen contenders.
func (s *suite) prepare(ctx context.Context, chosen []contender) error {
	for _, p := range programs() {
		isChosen := func(c contender) bool {
			// By name, since a contender holds a function and cannot be compared.
			return slices.ContainsFunc(p.contenders, func(own contender) bool {
				return own.name == c.name
			})
		}
		if !slices.ContainsFunc(chosen, isChosen) {
			continue
		}
		if err := p.prepare(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// finish reads what only a living process tells, and stops it.
func (*suite) finish(p *proc.Process, file string, s *sample) (err error) {
	if s.Memory, err = p.Memory(); err != nil {
		return err
	}
	s.WAL, s.StartUp = sizeOf(file+"-wal"), p.StartUp.Seconds()
	return p.Stop()
}

// prepareOurs prepares our server and the yardstick.
func (s *suite) prepareOurs(ctx context.Context) error {
	return s.prepare(ctx, slices.Concat(bareRouter().contenders, pikarc().contenders))
}
