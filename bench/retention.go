//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/ledgercheck"
	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/report"
)

const (
	// shorterPlan keeps history for shorterDays: moving workspaces to it makes
	// the rest of theirs expire.
	shorterPlan = "scale"
	// shorterDays is the retention of the plan that the workspaces are moved to.
	shorterDays = 90
	// expiring is how many steps are to expire, if there are as many.
	expiring = 1_000_000
	// retentionTimeout bounds the wait for all of them to be gone.
	retentionTimeout = 5 * time.Minute
)

// expired is how retention went.
type expired struct {
	Steps     int64   `json:"steps_deleted"`
	Seconds   float64 `json:"seconds"`
	Before    sample  `json:"decisions_before"`
	Meanwhile sample  `json:"decisions_meanwhile"`
}

// retention measures decisions before and while a million steps are deleted.
// The server looks for them when it starts.
func (f *suite) retention(ctx context.Context, s *size) (*expired, error) {
	file := filepath.Join(s.dir, database)
	emails, err := f.expire(ctx, s, file)
	if err != nil || len(emails) == 0 {
		return nil, err
	}
	say("measuring decisions before and while steps are deleted")
	out := &expired{}
	// Runs of the first workspace, which keeps its plan and its history.
	busy, err := f.startRuns(ctx, s)
	if err != nil {
		return nil, err
	}
	if out.Before, err = f.decideUntil(ctx, s, busy, f.window, nil); err != nil {
		return nil, err
	}
	for _, email := range emails {
		if _, err := f.pikarc(ctx, s.dir, "", "set-plan", "--email", email,
			shorterPlan); err != nil {
			return nil, err
		}
	}
	bound := time.Now().AddDate(0, 0, -shorterDays)
	if out.Steps, err = stepsBefore(ctx, file, emails, bound); err != nil {
		return nil, err
	}
	// Watched from outside, in the file itself: asking the server would be a load of its own.
	gone, stop := watch(ctx, file, emails, bound)
	started := time.Now()
	out.Meanwhile, err = f.decideUntil(ctx, s, busy, retentionTimeout, gone)
	out.Seconds = time.Since(started).Seconds()
	return out, errors.Join(err, stop())
}

// startRuns starts runs that stay open from one start of the server to the
// next, so that decisions can begin at once.
func (f *suite) startRuns(ctx context.Context, s *size) (busy []string, err error) {
	p, err := f.serve(ctx, s.dir)
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	for i := range runs {
		run, err := startRun(ctx, agent.Server{Host: p.Addr, Key: s.accounts[0].Key},
			fmt.Sprintf("user-%d", i))
		if err != nil {
			return nil, err
		}
		busy = append(busy, run)
		s.answers.Starts++
	}
	return busy, p.Stop()
}

// decideUntil measures hot decisions from the server's start on, until told to
// stop, which must be before so long.
func (f *suite) decideUntil(
	ctx context.Context, s *size, busy []string, most time.Duration, stop func() bool,
) (sample, error) {
	p, err := f.serve(ctx, s.dir)
	if err != nil {
		return sample{}, err
	}
	defer p.Kill()
	scripts := make([]load.Script, len(busy))
	for i, run := range busy {
		scripts[i] = agent.Steps(agent.Server{Host: p.Addr, Key: s.accounts[0].Key}, run, false)
	}
	r, err := load.Run(ctx, load.Options{Addr: p.Addr, Scripts: scripts, For: most, Stop: stop})
	if err != nil {
		return sample{}, err
	}
	// The time ran out before everything was deleted.
	if stop != nil && !stop() {
		return sample{}, fmt.Errorf("it was not over after %v", most)
	}
	out := sampleOf(runs, r, agent.Step)
	file := filepath.Join(s.dir, database)
	if err := f.finish(p, file, &out); err != nil {
		return out, err
	}
	s.answers = s.answers.Plus(answersOf(r))
	return out, s.verify(ctx, file)
}

// expire chooses the workspaces, never the first, whose older history makes a
// million steps.
func (f *suite) expire(ctx context.Context, s *size, file string) (emails []string, err error) {
	bound := time.Now().AddDate(0, 0, -shorterDays)
	var total int64
	for _, a := range s.accounts[1:] {
		if total >= expiring {
			break
		}
		steps, err := stepsBefore(ctx, file, []string{a.Email}, bound)
		if err != nil {
			return nil, err
		}
		if steps > 0 {
			total, emails = total+steps, append(emails, a.Email)
		}
	}
	return emails, nil
}

// stepsBefore counts the steps of runs that began before a time.
func stepsBefore(
	ctx context.Context, file string, emails []string, bound time.Time,
) (total int64, err error) {
	db, err := ledgercheck.Open(file)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, email := range emails {
		var steps int64
		err := db.QueryRowContext(ctx, `SELECT coalesce(sum(r.step_count), 0)
			FROM accounts a JOIN workspaces w ON w.account_id = a.id JOIN runs r ON r.workspace_id = w.id
			WHERE a.email = $1 AND r.started_at < $2`, email, bound.UnixMilli()).Scan(&steps)
		if err != nil {
			return 0, fmt.Errorf("count expired steps: %w", err)
		}
		total += steps
	}
	return total, nil
}

// watch looks into the file of the server that runs, some times a second, until
// nothing is left of what began before a time, or looking fails. It reads one
// row a look, so that it holds up neither decisions nor the WAL. stop says why
// it failed.
func watch(
	ctx context.Context, file string, emails []string, bound time.Time,
) (gone func() bool, stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var over atomic.Bool
	done := make(chan error, 1)
	go func() {
		// The file is closed before the server is: the last to close it folds the WAL.
		err := awaitNone(ctx, file, emails, bound)
		over.Store(true)
		done <- err
	}()
	return over.Load, func() error { cancel(); return <-done }
}

// awaitNone waits until no run is older than the bound.
func awaitNone(ctx context.Context, file string, emails []string, bound time.Time) (err error) {
	db, err := ledgercheck.OpenLive(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	const query = `SELECT EXISTS (SELECT 1 FROM accounts a JOIN workspaces w ON w.account_id = a.id
		JOIN runs r ON r.workspace_id = w.id WHERE a.email = $1 AND r.uuid < $2)`
	// Runs are found by their ids, which have an index with the workspace, and so a look is
	// cheap in a file of any size.
	var floor [16]byte // UUIDv7: the first 48 bits are the milliseconds
	for i, ms := 5, bound.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
		floor[i] = byte(ms)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for len(emails) > 0 {
		var left bool
		if err := db.QueryRowContext(ctx, query, emails[0], floor[:]).Scan(&left); err != nil {
			return fmt.Errorf("look for expired runs: %w", err)
		}
		if !left {
			emails = emails[1:]
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// printRetention prints how fast expired history was deleted.
func printRetention(e *expired) error {
	if e == nil {
		return nil
	}
	fmt.Printf("Deleting %s expired steps took %s s (%s a second) while decisions went on.\n\n",
		report.Number(float64(e.Steps)), report.Number(e.Seconds),
		report.Number(float64(e.Steps)/e.Seconds))
	t := report.Table{Columns: []string{"hot decisions", "/s", "p50 ms", "p99 ms", "p99.9 ms",
		"max ms", "WAL MiB"}}
	for _, row := range []struct {
		name string
		sample
	}{{"before", e.Before}, {"meanwhile", e.Meanwhile}} {
		t.Add(row.name, report.Number(row.PerSecond), report.Number(row.P50),
			report.Number(row.P99),
			report.Number(row.P999), report.Number(row.Max),
			report.Number(float64(row.WAL)/(1<<20)))
	}
	return t.Write(os.Stdout)
}
