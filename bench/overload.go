//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/ledgercheck"
	"github.com/pikarc/server/bench/load"
)

// afterwards is how long decisions are measured once an overload is over.
const afterwards = time.Second

// recovered compares the decisions of 64 connections before an overload with
// those of 64 that connect once it is over.
type recovered struct {
	Refused int64   `json:"refused"` // answers 503 during the overload
	Before  float64 `json:"p99_before_ms"`
	After   float64 `json:"p99_after_ms"`
}

// overload measures decisions asked for by more connections than writes may
// wait, none of which rests after a refusal. Then it looks whether the server
// is as good as before.
func overload(ctx context.Context, f *suite, dir string, conns int) (s sample, err error) {
	if err := copyDir(f.template, dir); err != nil {
		return s, err
	}
	p, err := f.serve(ctx, dir)
	if err != nil {
		return s, err
	}
	defer p.Kill()
	scripts, started, err := hot(ctx, f, p.Addr, conns)
	if err != nil {
		return s, err
	}
	var answers ledgercheck.Answers
	// A new load of 64 connections, before and after: the p99 of decisions.
	few := func() (float64, error) {
		few, r, err := measured(ctx, p, load.Options{Scripts: scripts[:runs], For: afterwards},
			agent.Step)
		if err == nil {
			answers = answers.Plus(answersOf(r))
		}
		return few.P99, err
	}
	var told recovered
	if told.Before, err = few(); err != nil {
		return s, err
	}
	// Insist counts refusals as answers, and asks again at once.
	crowd := make([]load.Script, conns)
	for i := range crowd {
		crowd[i] = agent.Insist(scripts[i], &told.Refused)
	}
	s, r, err := measured(ctx, p, load.Options{Scripts: crowd, Warm: warm, For: f.window},
		agent.Step)
	if err != nil {
		return s, err
	}
	// Of the steps that were answered, those that were refused are in no book.
	taken := answersOf(r)
	taken.Steps -= told.Refused
	answers = answers.Plus(taken)
	s.PerSecond *= float64(taken.Steps) / float64(taken.Steps+told.Refused)
	s.Overload = &told
	// A faster server would need a larger crowd. The figure must not go on being reported as
	// one of an overload.
	if told.Refused == 0 {
		return s, fmt.Errorf("%d connections are no overload: nothing was refused", conns)
	}
	if told.After, err = few(); err != nil {
		return s, err
	}
	file := filepath.Join(dir, database)
	if err := f.finish(p, file, &s); err != nil {
		return s, err
	}
	answers.Starts += started
	s.Booked = (*booked)(&answers)
	return s, errors.Join(ledgercheck.Verify(ctx, file, answers), f.verifyCounters(ctx, dir))
}
