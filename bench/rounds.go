//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/pikarc/server/bench/report"
)

// runRounds measures every contender once a round, so that whatever disturbs
// the machine disturbs all of them.
func runRounds(ctx context.Context, w *workDir, o options) error {
	chosen, err := choose(contenders(), o.only)
	if err != nil {
		return err
	}
	f := newSuite(w, o)
	// Building and filling are not measured, and are done before the first round.
	if err := f.prepare(ctx, chosen); err != nil {
		return err
	}
	var samples []sample
	for round := range o.rounds {
		say("round %d of %d", round+1, o.rounds)
		measured, err := f.round(ctx, round, chosen)
		if err != nil {
			return errors.Join(err, tell(o, chosen, samples))
		}
		samples = append(samples, measured...)
	}
	return tell(o, chosen, samples)
}

// tell prints the rounds that are complete: a failure later on costs nobody their minutes.
func tell(o options, chosen []contender, samples []sample) error {
	if len(samples) == 0 {
		return nil
	}
	goals := goalsOf(samples)
	if err := printRounds(chosen, samples); err != nil {
		return err
	}
	if err := report.Goals(os.Stdout, goals); err != nil {
		return err
	}
	return writeJSON(o.json, map[string]any{"machine": machine(), "samples": samples,
		"goals": measuredOf(goals)})
}

// choose keeps the yardsticks and what is asked for.
func choose(all []contender, only []string) (chosen []contender, err error) {
	for _, name := range only {
		if !slices.ContainsFunc(all, func(c contender) bool { return c.name == name }) {
			return nil, fmt.Errorf("-only: there is no contender %q", name)
		}
	}
	for _, c := range all {
		if len(only) == 0 || slices.Contains(only, c.name) || isYardstick(c.name) {
			chosen = append(chosen, c)
		}
	}
	return chosen, nil
}

// yardstick names the bare contender that others are compared with.
func yardstick(conns int) string { return "bare-" + strconv.Itoa(conns) }

// isYardstick reports whether a contender is one.
func isYardstick(name string) bool { return name[:min(5, len(name))] == "bare-" }

// round measures each contender once, in an order that turns from round to round.
func (f *suite) round(ctx context.Context, round int, chosen []contender) ([]sample, error) {
	var samples []sample
	for i := range chosen {
		// No contender always follows the same one, whose dirty pages may still go to the disk.
		c := chosen[(i+round)%len(chosen)]
		dir := filepath.Join(f.tmp, "data")
		s, err := c.measure(ctx, f, dir, c.conns)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		s.Name, s.Round = c.name, round
		samples = append(samples, s)
	}
	// Ratios come last: the yardstick of the round may have been measured after a contender.
	for i := range samples {
		s := &samples[i]
		if bare := find(samples, yardstick(s.Connections), round); bare.PerSecond > 0 {
			s.Ratio = s.PerSecond / bare.PerSecond
		}
	}
	return samples, nil
}

// find is the zero sample when there is none.
func find(samples []sample, name string, round int) sample {
	i := slices.IndexFunc(samples, func(s sample) bool {
		return s.Name == name && s.Round == round
	})
	if i < 0 {
		return sample{}
	}
	return samples[i]
}

// printRounds prints a row for each contender.
func printRounds(chosen []contender, samples []sample) error {
	fmt.Printf("\nRatios are to the bare GET of the same round at as many connections; " +
		"everything else is a median.\n\n")
	t := report.Table{Columns: []string{
		"contender", "conns", "ratio min", "median", "max", "/s", "p50 ms", "p99 ms", "p99.9 ms",
		"cpu µs/call", "MiB", "WAL MiB", "bytes/step",
	}}
	for _, c := range chosen {
		mine := slices.DeleteFunc(slices.Clone(samples), func(s sample) bool {
			return s.Name != c.name
		})
		ratio := report.Summarize(report.Values(mine,
			func(s sample) float64 { return orNone(s.Ratio) }))
		median := func(f func(sample) float64) string {
			return report.Number(report.Median(mine, f))
		}
		t.Add(c.title, strconv.Itoa(c.conns), report.Number(ratio.Min), report.Number(ratio.Median),
			report.Number(ratio.Max),
			median(func(s sample) float64 { return s.PerSecond }),
			median(func(s sample) float64 { return s.P50 }),
			median(func(s sample) float64 { return s.P99 }),
			median(func(s sample) float64 { return s.P999 }),
			median(func(s sample) float64 { return s.CPU }),
			median(func(s sample) float64 { return float64(s.Memory) / (1 << 20) }),
			median(func(s sample) float64 { return orNone(float64(s.WAL) / (1 << 20)) }),
			median(func(s sample) float64 { return orNone(s.StepBytes) }))
	}
	return t.Write(os.Stdout)
}

// orNone writes what was not measured as such.
func orNone(v float64) float64 {
	if v == 0 {
		return math.NaN()
	}
	return v
}

// goalsOf are the promises that a run of all contenders measures.
func goalsOf(samples []sample) []report.Goal {
	of := func(name string, f func(sample) float64) float64 {
		return report.Median(samples, func(s sample) float64 {
			if s.Name != name {
				return math.NaN()
			}
			return f(s)
		})
	}
	// against compares with another contender of the same round.
	against := func(other string, f func(a, b sample) float64) func(sample) float64 {
		return func(s sample) float64 {
			b := find(samples, other, s.Round)
			if b.Name == "" {
				return math.NaN()
			}
			return f(s, b)
		}
	}
	ratio := func(s sample) float64 { return s.Ratio }
	speed := func(a, b sample) float64 { return a.PerSecond / b.PerSecond }
	// Those that are like ordinary use. Thousands of connections take memory of their own.
	memory := math.Inf(-1)
	for _, name := range []string{"hot-1", "hot", "spread", "patched", "life-1", "life",
		"life-256"} {
		memory = max(memory,
			of(name, func(s sample) float64 { return float64(s.Memory) / (1 << 20) }))
	}
	return []report.Goal{
		{Name: "hot step decision, 64 connections", Unit: " ×bare", Value: of("hot", ratio),
			Goal: 0.30, Floor: 0.22, Higher: true},
		{Name: "the same with 300 bytes of input", Unit: " ×bare", Value: of("hot-300", ratio),
			Goal: 0.30, Floor: 0.27, Higher: true},
		{Name: "the same with 1 KiB of input", Unit: " ×bare", Value: of("hot-1k", ratio),
			Goal: 0.24, Floor: 0.20, Higher: true},
		{Name: "payloads of 300 bytes in the file, of those sent", Unit: " ×", Goal: 0.5, Floor: 0.6,
			Value: of("hot-300", against("hot", payloadBytes(300)))},
		{Name: "payloads of 1 KiB in the file, of those sent", Unit: " ×", Goal: 0.5, Floor: 0.6,
			Value: of("hot-1k", against("hot", payloadBytes(1024)))},
		{Name: "life of a run, 64 connections, decisions", Unit: " ×bare", Value: of("life", ratio),
			Goal: 0.15, Floor: 0.11, Higher: true},
		{Name: "p99 ÷ p50 of hot, 64 connections",
			Value: of("hot", func(s sample) float64 { return s.P99 / s.P50 }), Goal: 3, Floor: 5},
		{Name: "p50 of hot, one connection", Unit: " ×bare", Goal: 5, Floor: 7,
			Value: of("hot-1", against("bare-1", func(a,
				b sample) float64 {
				return a.P50 / b.P50
			}))},
		{Name: "p99 ÷ p50 of hot, 2,000 connections",
			Value: of("hot-2000", func(s sample) float64 { return s.P99 / s.P50 }), Goal: 5,
			Floor: 10},
		{Name: "p99 of 64 connections after an overload, of that before", Unit: " ×", Goal: 1.5,
			Floor: 3,
			Value: of("overload",
				func(s sample) float64 { return s.Overload.After / s.Overload.Before })},
		{Name: "decisions beside 1,000 streams, of those without", Unit: " ×", Goal: 0.95,
			Floor: 0.85, Higher: true,
			Value: of("streams-1000", against("spread", speed))},
		{Name: "PostgreSQL: hot, of that on SQLite", Unit: " ×", Goal: 0.40, Floor: 0.25,
			Higher: true, Value: of("pg-hot", against("hot", speed))},
		{Name: "PostgreSQL: 64 workspaces, of those on SQLite", Unit: " ×", Goal: 0.40, Floor: 0.25,
			Higher: true, Value: of("pg-spread", against("spread", speed))},
		{Name: "two nodes, one workspace: without affinity, of that with", Unit: " ×", Goal: 0.5,
			Floor: 0.3, Higher: true, Value: of("pg-random", against("pg-affine", speed))},
		{Name: "processor time a decision, four nodes, of that with one", Unit: " ×", Goal: 1.2,
			Floor: 2, Value: of("pg-shared-4", against("pg-spread", func(a, b sample) float64 { return a.CPU / b.CPU }))},
		{Name: "hot against PocketBase's create", Unit: " ×", Goal: 7, Floor: 5, Higher: true,
			Value: of("hot", against("pocketbase", speed))},
		{Name: "the same where anybody may create", Unit: " ×", Goal: 7, Floor: 5, Higher: true,
			Value: of("hot", against("pocketbase-open", speed))},
		{Name: "hot against a durable PocketBase's create", Unit: " ×", Goal: 7, Floor: 5,
			Higher: true,
			Value:  of("hot", against("pocketbase-durable", speed))},
		{Name: "file bytes a patched step", Value: of("patched",
			func(s sample) float64 { return s.StepBytes }), Goal: 120, Floor: 180},
		{Name: "resident memory, the most of ours", Unit: " MiB", Value: memory, Goal: 80,
			Floor: 150},
	}
}

// payloadBytes is by how much the file grew for a byte of a payload: what a step
// with one takes more than a step without.
func payloadBytes(size float64) func(with, without sample) float64 {
	return func(with, without sample) float64 { return (with.StepBytes - without.StepBytes) / size }
}

// measuredOf leaves out the goals that nothing was measured for: JSON has no NaN.
func measuredOf(goals []report.Goal) []report.Goal {
	return slices.DeleteFunc(slices.Clone(goals), func(g report.Goal) bool {
		return math.IsNaN(g.Value) || math.IsInf(g.Value, 0)
	})
}

// machine says where figures were made.
func machine() map[string]any {
	return map[string]any{
		"cores": runtime.NumCPU(), "go": runtime.Version(), "architecture": runtime.GOARCH,
		"at": time.Now().UTC().Format(time.RFC3339),
	}
}

// writeJSON writes the results for other tools; an empty path is nowhere.
func writeJSON(path string, v any) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
