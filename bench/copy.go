//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pikarc/server/bench/proc"
	"github.com/pikarc/server/bench/report"
)

// work is what a command has taken.
type work struct {
	Name     string  `json:"name"`
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpu_seconds"`            // of the command
	Postgres float64 `json:"cpu_seconds_postgresql"` // meanwhile
}

// runCopy copies a filled file to PostgreSQL and back, and verifies both sides by themselves. The
// copy compares all rows and verifies both sides too, so a difference would have failed it.
func runCopy(ctx context.Context, w *workDir, o options) (err error) {
	f := newSuite(w, o)
	if err := preparePikarc(ctx, f); err != nil {
		return err
	}
	s, err := f.size(ctx, o.copied)
	if err != nil {
		return err
	}
	server, err := startPostgres(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.end()) }()
	secret, err := os.ReadFile(filepath.Join(s.dir, "secret.key"))
	if err != nil {
		return err
	}
	env := append(proc.Environment(), "PIKARC_SECRET="+strings.TrimSpace(string(secret)))
	back := filepath.Join(f.tmp, "back")
	table := report.Table{Columns: []string{"", "s", "steps /s", "cpu s", "cpu s of PostgreSQL"}}
	var all []work
	for _, c := range []struct {
		name string
		args []string
	}{
		{"copy to PostgreSQL", []string{"copy", "--from", s.dir, "--to", server.url()}},
		{"verify on PostgreSQL", []string{"verify", "--database", server.url()}},
		{"copy back", []string{"copy", "--from", server.url(), "--to", back}},
		{"verify on SQLite", []string{"verify", "--data-dir", back}},
	} {
		say("%s", c.name)
		done, err := f.timed(ctx, server, env, c.args)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		done.Name = c.name
		all = append(all, done)
		table.Add(c.name, report.Number(done.Seconds), report.Number(float64(o.copied)/done.Seconds),
			report.Number(done.CPU), report.Number(done.Postgres))
	}
	goals := copyGoals(o.copied, all)
	fmt.Printf("%s steps: %s in the file\n\n", report.Number(float64(o.copied)),
		mebibytes(sizeOf(filepath.Join(s.dir, database))))
	if err := errors.Join(table.Write(os.Stdout), report.Goals(os.Stdout, goals)); err != nil {
		return err
	}
	return writeJSON(o.json, map[string]any{"machine": machine(), "steps": o.copied, "work": all,
		"goals": measuredOf(goals)})
}

// timed runs our binary to its end.
func (f *suite) timed(ctx context.Context, s *postgresServer, env, args []string) (done work, err error) {
	cmd := exec.CommandContext(ctx, f.binary("pikarc"), args...)
	cmd.Env = env
	before, err := s.FamilyCPU()
	if err != nil {
		return done, err
	}
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return done, fmt.Errorf("%w\n%s", err, out)
	}
	took := time.Since(began)
	after, err := s.FamilyCPU()
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return work{Seconds: took.Seconds(), CPU: cpu.Seconds(), Postgres: (after - before).Seconds()}, err
}

// copyGoals are of what copying takes: ten million steps in minutes.
func copyGoals(steps int64, all []work) (goals []report.Goal) {
	const million = 1e6
	for _, w := range all {
		if strings.HasPrefix(w.Name, "copy") {
			goals = append(goals, report.Goal{Name: w.Name + ", a million steps", Unit: " s",
				Value: w.Seconds / float64(steps) * million, Goal: 60, Floor: 120})
		}
	}
	return goals
}

// mebibytes is a size for people.
func mebibytes(bytes int64) string { return report.Number(float64(bytes)/(1<<20)) + " MiB" }
