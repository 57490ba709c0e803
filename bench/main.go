//go:build linux

// Command bench measures Pikarc Server beside others, each as a real process
// on a fresh directory of this machine.
//
// Figures are given as ratios to a bare httprouter, measured in the same round:
// machines differ, and one machine differs from minute to minute.
//
// To add a contender of a program that is there (pikarc.go, pocketbase.go,
// bare.go), add a row to its table. To add a program, write one file beside
// these, with a function that returns it as a program value, and one line in
// programs (contenders.go). What it runs lies in a directory of its own, as
// pocketbase does, if it is not a binary that is installed.
//
// The packages: proc builds and watches processes, load sends requests over
// epoll, agent says which, ledgercheck compares the answers with the database, fill
// makes large databases, report prints tables.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// options are what the flags say.
type options struct {
	growth   bool
	copied   int64 // steps to copy to PostgreSQL and back
	crowd    bool
	slow     bool
	policies bool
	soak     time.Duration
	rounds   int
	window   time.Duration // measured, of each contender in each round
	only     []string
	json     string
	steps    []int64 // sizes of the file, for growth
}

// main runs what the flags choose.
func main() {
	// The contenders die with the thread that started them.
	runtime.LockOSThread()
	// The load is one thread; the other one is for what little happens beside.
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parse reads the flags; each mode has its own.
func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ExitOnError)
	f.BoolVar(&o.growth, "growth", false, "measure how figures change with the size of the file")
	f.Int64Var(&o.copied, "copy", 0, "copy a file of so many steps to PostgreSQL and back")
	f.BoolVar(&o.crowd, "crowd", false, "measure a million users and 100,000 open runs")
	f.BoolVar(&o.slow, "slow", false, "measure what slow clients do to others")
	f.BoolVar(&o.policies, "policies", false, "measure policies, reviews and notifications")
	f.DurationVar(&o.soak, "soak", 0, "keep a server busy for so long, and fail if it grows")
	f.IntVar(&o.rounds, "rounds", 5, "how often each contender is measured")
	seconds := f.Float64("seconds", 2.5, "how long each is measured in each round")
	only := f.String("only", "", "comma-separated contenders to measure; the yardsticks always are")
	sizes := f.String("steps", "0,1000000,5000000,10000000",
		"with -growth: steps in the file, ascending")
	f.StringVar(&o.json, "json", "", "file that gets every figure as JSON")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	o.window = time.Duration(*seconds * float64(time.Second))
	if o.rounds < 1 || o.window < 100*time.Millisecond || o.copied < 0 || f.NArg() > 0 {
		return o, fmt.Errorf("rounds must be 1 or more, seconds 0.1 or more, copy 0 or more, and "+
			"nothing else is taken: %v", args)
	}
	o.steps, err = parseSizes(*sizes)
	return o, err
}

// parseSizes parses a list of numbers of steps.
func parseSizes(list string) (sizes []int64, err error) {
	for text := range strings.SplitSeq(list, ",") {
		var n int64
		if _, err := fmt.Sscan(text, &n); err != nil {
			return nil, fmt.Errorf("-steps %q: %w", list, err)
		}
		if n < 0 || len(sizes) > 0 && n <= sizes[len(sizes)-1] {
			return nil, fmt.Errorf("-steps %q: sizes must ascend", list)
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

// run measures in a directory that is removed afterwards.
func run(ctx context.Context, o options) error {
	w, err := newWorkDir()
	if err != nil {
		return err
	}
	defer w.close()
	say("building the contenders")
	// One mode a run. Without any, all contenders are measured in rounds.
	if o.soak > 0 {
		return runSoak(ctx, w, o)
	}
	if o.crowd {
		return runCrowd(ctx, w, o)
	}
	if o.growth {
		return runGrowth(ctx, w, o)
	}
	if o.copied > 0 {
		return runCopy(ctx, w, o)
	}
	if o.slow {
		return runSlow(ctx, w, o)
	}
	if o.policies {
		return runPolicies(ctx, w, o)
	}
	return runRounds(ctx, w, o)
}

// say tells on stderr what goes on; results go to stdout.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
