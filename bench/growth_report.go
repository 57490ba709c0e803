//go:build linux

package main

import (
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/pikarc/server/bench/report"
)

// printGrowth prints a row for each figure and a column for each size.
func printGrowth(sizes []int64, samples []growth) error {
	columns := []string{"medians"}
	for _, n := range sizes {
		columns = append(columns, report.Number(float64(n))+" steps")
	}
	fmt.Println()
	t := report.Table{Columns: columns}
	row := func(title string, f func(growth) float64) {
		cells := []string{title}
		for _, n := range sizes {
			cells = append(cells, report.Number(report.Median(ofSize(samples, n), f)))
		}
		t.Add(cells...)
	}
	row("hot decisions /s", func(g growth) float64 { return g.PerSecond })
	row("  against the smallest file", ratioToSmallest(sizes[0], samples))
	row("  p50 ms", func(g growth) float64 { return g.P50 })
	row("  p99 ms", func(g growth) float64 { return g.P99 })
	row("  p99.9 ms", func(g growth) float64 { return g.P999 })
	row("  /s while people read", func(g growth) float64 { return g.WhileReading.PerSecond })
	row("  p99 ms while people read", func(g growth) float64 { return g.WhileReading.P99 })
	row("start-up, s", func(g growth) float64 { return g.StartUp })
	row("resident, MiB", func(g growth) float64 { return float64(g.Memory) / (1 << 20) })
	row("WAL, MiB", func(g growth) float64 { return float64(g.WAL) / (1 << 20) })
	for _, name := range peopleCalls() {
		row(name+", p50 ms", func(g growth) float64 { return g.Alone[name].P50 })
		row("  p99 ms", func(g growth) float64 { return g.Alone[name].P99 })
		row("  p99 ms while deciding", func(g growth) float64 { return g.Busy[name].P99 })
	}
	return t.Write(os.Stdout)
}

// ofSize selects the samples of one size.
func ofSize(samples []growth, steps int64) []growth {
	return slices.DeleteFunc(slices.Clone(samples), func(g growth) bool { return g.Steps != steps })
}

// ratioToSmallest divides the decisions per second by what the smallest file did in the same round.
func ratioToSmallest(smallest int64, samples []growth) func(growth) float64 {
	return func(g growth) float64 {
		for _, other := range samples {
			if other.Round == g.Round && other.Steps == smallest {
				return g.PerSecond / other.PerSecond
			}
		}
		return math.NaN()
	}
}

// growthGoals are the promises that hold at the largest size.
func growthGoals(sizes []int64, samples []growth, e *expired) []report.Goal {
	largest := sizes[len(sizes)-1]
	// The promises are about large files; smaller ones show whether figures grow with the
	// size.
	mine := ofSize(samples, largest)
	// slowest is the p99 of the call that takes longest.
	slowest := func(f func(g growth, name string) timing) float64 {
		most := math.NaN()
		for _, name := range peopleCalls() {
			p99 := report.Median(mine, func(g growth) float64 { return f(g, name).P99 })
			if math.IsNaN(most) || p99 > most {
				most = p99
			}
		}
		return most
	}
	meanwhile := math.NaN()
	// Without history beyond the shorter plan there was nothing to delete: the goal is not
	// measured.
	if e != nil {
		meanwhile = e.Meanwhile.P99 / e.Before.P99
	}
	at := " at " + report.Number(float64(largest)) + " steps"
	return []report.Goal{
		{Name: "hot decisions" + at, Unit: " ×smallest",
			Value: report.Median(mine, ratioToSmallest(sizes[0], samples)), Goal: 0.97, Floor: 0.9,
			Higher: true},
		{Name: "p99 of the slowest call" + at, Unit: " ms",
			Value: slowest(func(g growth, name string) timing { return g.Alone[name] }), Goal: 20,
			Floor: 50},
		{Name: "the same while decisions run at full speed", Unit: " ms",
			Value: slowest(func(g growth, name string) timing { return g.Busy[name] }), Goal: 50,
			Floor: 50},
		{Name: "start-up" + at, Unit: " s", Value: report.Median(mine,
			func(g growth) float64 { return g.StartUp }), Goal: 0.3, Floor: 1},
		{Name: "p99 while a million steps are deleted", Unit: " ×before", Value: meanwhile,
			Goal: 1.5, Floor: 2.5},
	}
}
