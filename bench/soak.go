//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/ledgercheck"
	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/proc"
)

const (
	// The load comes in bursts at full speed, so that the queue is really full
	// at times and the file does not outgrow the disk.
	burst = 2 * time.Second
	// pause is between two looks at the metrics.
	pause = 4 * time.Second
	// soakLives and soakReaders are the connections of a burst.
	soakLives, soakReaders = 48, 4
	// chores is how many bursts lie between two backups and verifications.
	chores = 20
)

// boundedFigure is a figure of the server that must not grow.
type boundedFigure struct {
	metric string
	title  string
	unit   float64
	slack  float64 // growth below this is noise of the machine
}

// boundedFigures are the metrics that must not grow, and by how much they may.
func boundedFigures() []boundedFigure {
	const mib = 1 << 20
	return []boundedFigure{
		{"process_resident_memory_bytes", "memory, MiB", mib, 24 * mib},
		{"go_memstats_heap_inuse_bytes", "Go heap, MiB", mib, 16 * mib},
		{"go_goroutines", "goroutines", 1, 16},
		{"process_open_fds", "open files", 1, 8},
		{"pikarc_database_wal_bytes", "WAL, MiB", mib, 64 * mib},
	}
}

// runSoak keeps a server busy for a long time, with backups and verifications
// meanwhile, and fails if anything grows that should not, or if the books do
// not hold what was answered.
func runSoak(ctx context.Context, w *workDir, o options) (err error) {
	if err := w.build(ctx, "pikarc", pikarcRoot); err != nil {
		return err
	}
	s := &soak{workDir: w, dir: filepath.Join(w.tmp, "soak")}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return err
	}
	if s.accounts, err = w.makeAccounts(ctx, s.dir, 4); err != nil {
		return err
	}
	// Metrics have an address of their own, so that scraping waits behind none of the load.
	if s.metrics, err = proc.FreeAddr(); err != nil {
		return err
	}
	p, err := w.serve(ctx, s.dir, "--metrics-addr", s.metrics, "--log-level", "warn")
	if err != nil {
		return err
	}
	defer p.Kill()
	for began, bursts := time.Now(), 1; time.Since(began) < o.soak; bursts++ {
		if err := s.round(ctx, p.Addr, bursts); err != nil {
			return fmt.Errorf("after %v: %w", time.Since(began).Round(time.Second), err)
		}
	}
	if err := p.Stop(); err != nil {
		return err
	}
	return errors.Join(s.report(), ledgercheck.Verify(ctx, filepath.Join(s.dir, database), s.answers),
		w.verifyCounters(ctx, s.dir))
}

// soak is what a soak has come to.
type soak struct {
	*workDir
	dir      string
	metrics  string // address
	accounts []account
	answers  ledgercheck.Answers
	samples  []map[string]float64
}

// round is a burst, a rest and a look.
func (s *soak) round(ctx context.Context, addr string, n int) error {
	scripts := make([]load.Script, 0, soakLives+soakReaders)
	for i := range soakLives {
		seen := 0
		// Users come scattered, so that caches meet old and new ones.
		user := func() string { seen++; return fmt.Sprintf("user-%d", (i*7919+seen*31)%2000) }
		scripts = append(scripts, agent.Life(agent.Server{Host: addr,
			Key: s.accounts[i%len(s.accounts)].Key}, user))
	}
	for i := range soakReaders {
		paths := []string{"/v1/runs/", "/v1/usage/", "/v1/users/?limit=20",
			"/v1/usage/daily?days=30", "/v1/workspace/"}
		scripts = append(scripts, agent.Cycle(agent.Server{Host: addr,
			Key: s.accounts[i%len(s.accounts)].Key}, paths, agent.List))
	}
	r, err := load.Run(ctx, load.Options{Addr: addr, Scripts: scripts, For: burst})
	if err != nil {
		return err
	}
	s.answers = s.answers.Plus(answersOf(r))
	// Between bursts, since both read the whole file; beside the server, as an operator
	// would.
	if n%chores == 0 {
		if err := s.verifyCounters(ctx, s.dir); err != nil {
			return err
		}
		if _, err := s.pikarc(ctx, s.dir, "", "backup",
			filepath.Join(s.dir, "copy.db")); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
	}
	// After the pause: what a burst has left is freed by then, and only what is kept counts.
	sample, err := scrape(ctx, s.metrics)
	s.samples = append(s.samples, sample)
	if n%chores == 1 {
		say("%d steps; %s", s.answers.Steps, describeSample(sample))
	}
	return err
}

// describeSample writes the figures on one line.
func describeSample(sample map[string]float64) string {
	var words []string
	for _, f := range boundedFigures() {
		words = append(words, fmt.Sprintf("%s %.0f", f.title, sample[f.metric]/f.unit))
	}
	return strings.Join(words, "; ")
}

// scrape reads the metrics that have no labels.
func scrape(ctx context.Context, addr string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	all := map[string]float64{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		// Comments do not parse. A name with labels is a key that nobody asks for.
		if f, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = f
		}
	}
	return all, lines.Err()
}

// report compares the last third of what follows the warming up (a sixth) with
// its first third, and fails where it is higher.
func (s *soak) report() error {
	steady := s.samples[len(s.samples)/6:]
	// Compared by their medians: one sample may fall into a collection of garbage or a
	// checkpoint.
	third := len(steady) / 3
	if third == 0 {
		return errors.New("too short to compare anything")
	}
	fmt.Printf("\n%d runs, %d steps; figures of the first and the last third after warming up\n\n",
		s.answers.Starts, s.answers.Steps)
	var grown []error
	for _, f := range boundedFigures() {
		before, after := middle(steady[:third], f.metric), middle(steady[len(steady)-third:],
			f.metric)
		fmt.Printf("%-14s %10.1f %10.1f\n", f.title, before/f.unit, after/f.unit)
		if after > before*1.1+f.slack {
			grown = append(grown, fmt.Errorf("%s grew from %.1f to %.1f", f.title, before/f.unit,
				after/f.unit))
		}
	}
	return errors.Join(grown...)
}

// middle is a figure's median.
func middle(samples []map[string]float64, metric string) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, s[metric])
	}
	slices.Sort(values)
	return values[len(values)/2]
}
