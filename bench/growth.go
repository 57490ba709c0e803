//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/fill"
	"github.com/pikarc/server/bench/ledgercheck"
	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/report"
)

// size is a file with so many steps, and the working copy of it that the
// server runs on. The copy grows by what is measured, a hundredth at most.
type size struct {
	steps    int64
	dir      string
	accounts []account
	lastRun  int64               // internal id of the last run that was filled in
	answers  ledgercheck.Answers // all that the server gave since
}

// kept says what a kept file holds; it lies beside it.
type kept struct {
	Accounts []account `json:"accounts"`
	At       time.Time `json:"at"`
}

// maxAge is how long a filled file is used: its history must not leave the
// last 365 days, and still have a today or nearly so.
const maxAge = 7 * 24 * time.Hour

// runGrowth fills files of several sizes and measures each in turn, round by round, so that a slow
// minute of the machine meets all of them.
func runGrowth(ctx context.Context, w *workDir, o options) error {
	f := newSuite(w, o)
	if err := f.prepareOurs(ctx); err != nil {
		return err
	}
	var sizes []*size
	for _, steps := range o.steps {
		s, err := f.size(ctx, steps)
		if err != nil {
			return fmt.Errorf("a file of %d steps: %w", steps, err)
		}
		sizes = append(sizes, s)
	}
	// what was filled in and copied must not go to the disk while something is measured
	syscall.Sync()
	var samples []growth
	for round := range o.rounds {
		say("round %d of %d", round+1, o.rounds)
		for i := range sizes {
			// Each round begins with another size, so that none always comes first.
			s := sizes[(i+round)%len(sizes)]
			g, err := f.grown(ctx, s, round)
			if err != nil {
				return fmt.Errorf("%d steps, round %d: %w", s.steps, round+1, err)
			}
			samples = append(samples, g)
		}
	}
	// Last, because it deletes a good part of the largest file.
	retention, err := f.retention(ctx, sizes[len(sizes)-1])
	if err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	goals := growthGoals(o.steps, samples, retention)
	err = errors.Join(printGrowth(o.steps, samples), printRetention(retention),
		report.Goals(os.Stdout, goals))
	if err != nil {
		return err
	}
	return writeJSON(o.json, map[string]any{
		"machine": machine(), "samples": samples, "retention": retention,
		"goals": measuredOf(goals),
	})
}

// size makes a working copy of a file with so many steps, which it fills
// unless an earlier run has left it.
func (f *suite) size(ctx context.Context, steps int64) (*size, error) {
	version, err := schemaAndFilling()
	if err != nil {
		return nil, err
	}
	from := filepath.Join(f.kept, fmt.Sprintf("%d-%s", steps, version))
	k, err := readKept(from)
	// Any error means that there is no such file, or none that can be used: it is filled
	// anew.
	if err != nil || time.Since(k.At) > maxAge {
		if k, err = f.fill(ctx, from, steps); err != nil {
			return nil, err
		}
	}
	s := &size{steps: steps, dir: filepath.Join(f.tmp, strconv.FormatInt(steps, 10)),
		accounts: k.Accounts}
	if err := copyDir(from, s.dir); err != nil {
		return nil, err
	}
	db, err := ledgercheck.Open(filepath.Join(s.dir, database))
	if err != nil {
		return nil, err
	}
	err = db.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM runs`).Scan(&s.lastRun)
	return s, errors.Join(err, db.Close())
}

// schemaAndFilling changes with the migrations and with the scripts that fill.
func schemaAndFilling() (string, error) {
	names, err := filepath.Glob(filepath.Join(pikarcRoot, "embed", "migrations", "*.sql"))
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	// A file that was filled by other scripts, or for another schema, has another name.
	sum.Write(fill.Version())
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:6]), nil
}

// keptFile names the accounts of a filled file that is kept for later runs.
const keptFile = "kept.json"

// readKept reads it.
func readKept(dir string) (k kept, err error) {
	text, err := os.ReadFile(filepath.Join(dir, keptFile))
	if err != nil {
		return k, err
	}
	return k, json.Unmarshal(text, &k)
}

// fill makes a file and keeps it in place of those of the same size.
func (f *suite) fill(ctx context.Context, dir string, steps int64) (k kept, err error) {
	say("filling in %s steps, once", report.Number(float64(steps)))
	old, err := filepath.Glob(filepath.Join(f.kept, strconv.FormatInt(steps, 10)+"-*"))
	if err != nil {
		return k, err
	}
	for _, path := range old {
		if err := os.RemoveAll(path); err != nil {
			return k, err
		}
	}
	tmp := filepath.Join(f.tmp, "filling")
	if err := copyDir(f.template, tmp); err != nil {
		return k, err
	}
	// The history ends now, and begins fill.Days before.
	k = kept{Accounts: f.accounts, At: time.Now()}
	if err := fill.Fill(ctx, filepath.Join(tmp, database), steps, k.At); err != nil {
		return k, err
	}
	text, err := json.Marshal(k)
	if err != nil {
		return k, err
	}
	if err := os.WriteFile(filepath.Join(tmp, keptFile), text, 0o600); err != nil {
		return k, err
	}
	// Renamed when it is whole: a filling that was interrupted leaves nothing that looks
	// kept.
	return k, os.Rename(tmp, dir)
}

// growth is what one size did in one round.
type growth struct {
	sample
	Steps int64             `json:"steps_before"`
	Alone map[string]timing `json:"calls_alone"`
	Busy  map[string]timing `json:"calls_while_deciding"`
	// WhileReading are the decisions of that while.
	WhileReading sample `json:"decisions_while_reading"`
}

// timing is how long a call took.
type timing struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

// grown measures a size: start-up, decisions, calls of people alone, and calls
// while decisions go on. Then it looks whether every answer was booked.
func (f *suite) grown(ctx context.Context, s *size, round int) (growth, error) {
	p, err := f.serve(ctx, s.dir)
	if err != nil {
		return growth{}, err
	}
	defer p.Kill()
	server := agent.Server{Host: p.Addr, Key: s.accounts[0].Key}
	deciding, started, err := stepScripts(ctx, s.accounts, p.Addr, runs, 1, false)
	if err != nil {
		return growth{}, err
	}
	paths, err := people(ctx, server)
	if err != nil {
		return growth{}, err
	}
	reading := agent.Cycle(server, paths, agent.List)
	measure := func(scripts ...load.Script) (*load.Result, error) {
		r, err := load.Run(ctx, load.Options{Addr: p.Addr, Scripts: scripts, Warm: warm,
			For: f.window})
		if err == nil {
			s.answers = s.answers.Plus(answersOf(r))
		}
		return r, err
	}
	// Calls of people alone, decisions alone, then both: what each costs the other is the
	// difference.
	alone, err := measure(reading)
	if err != nil {
		return growth{}, err
	}
	decided, err := measure(deciding...)
	if err != nil {
		return growth{}, err
	}
	both, err := measure(append(deciding, reading)...)
	if err != nil {
		return growth{}, err
	}
	g := growth{sample: sampleOf(runs, decided, agent.Step), Steps: s.steps, Alone: timings(alone),
		Busy: timings(both)}
	g.WhileReading = sampleOf(runs, both, agent.Step)
	g.Name, g.Round = "hot", round
	file := filepath.Join(s.dir, database)
	if err := f.finish(p, file, &g.sample); err != nil {
		return g, err
	}
	// The runs that the steps are in were started before the load, and are in the file as
	// well.
	s.answers.Starts += started
	return g, s.verify(ctx, file)
}

// newRunsRight are the checks of the books that stay fast in a large file:
// those of runs above an id.
func newRunsRight(lastRun int64) string {
	return fmt.Sprintf(`
SELECT 'runs', id, step_count, (SELECT count(*) FROM run_steps s WHERE s.run_id = r.id) AS recomputed
FROM runs r WHERE id > %d AND step_count <> recomputed;
SELECT 'workspaces.running_runs', id, running_runs, (SELECT count(*) FROM runs r WHERE r.workspace_id = w.id AND r.status = 1) AS recomputed
FROM workspaces w WHERE running_runs <> recomputed;`, lastRun)
}

// verify compares the rows of new runs with the answers and the counters.
func (s *size) verify(ctx context.Context, file string) (err error) {
	db, err := ledgercheck.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	got, err := ledgercheck.Count(ctx, db, s.lastRun)
	if err != nil {
		return err
	}
	if got != s.answers {
		return fmt.Errorf("the file has %+v, answered were %+v", got, s.answers)
	}
	return ledgercheck.Check(ctx, db, newRunsRight(s.lastRun))
}

// peopleCalls names what people look at, in the order of people's paths.
func peopleCalls() []string {
	return []string{
		"newest 50 runs", "newest 200 runs", "200 runs, completed", "50 runs of a user",
		"200 runs, half a year ago",
		"run detail", "200 users", "users by name", "usage", "usage of 365 days",
	}
}

// people are the paths that they call, in a workspace with 0.3 of all history
// and at least one run.
func people(ctx context.Context, s agent.Server) ([]string, error) {
	ago := time.Now().AddDate(0, 0, -fill.Days/2).UTC().Format("2006-01-02T15:04:05Z")
	var list struct{ Items []struct{ ID string } }
	old := "/v1/runs/?limit=200&until=" + ago
	if err := call(ctx, s, "GET", old, "", &list); err != nil {
		return nil, err
	}
	if len(list.Items) == 0 { // an empty file, so the run comes from this round
		if err := call(ctx, s, "GET", "/v1/runs/", "", &list); err != nil {
			return nil, err
		}
	}
	run := list.Items[0].ID
	return []string{
		"/v1/runs/", "/v1/runs/?limit=200", "/v1/runs/?status=COMPLETED&limit=200",
		"/v1/runs/?user_id=user-7", old,
		"/v1/runs/" + run, "/v1/users/?limit=200", "/v1/users/?q=99", "/v1/usage/",
		"/v1/usage/daily?days=365",
	}, nil
}

// timings are the latencies of the calls that people make in the dashboard.
func timings(r *load.Result) map[string]timing {
	all := map[string]timing{}
	for i, name := range peopleCalls() {
		h := &r.Measured[agent.List+i]
		all[name] = timing{h.Count(), millis(h.Quantile(0.5)), millis(h.Quantile(0.99)),
			millis(h.Max())}
	}
	return all
}
