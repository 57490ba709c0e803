// Command ha runs a cluster on this machine and breaks it: three PostgreSQL
// servers under Patroni and etcd, two nodes of ours, HAProxy before both, with the
// files of docs/ops. It fails when a promise is broken.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// options are the flags; `make ha` runs with the defaults.
type options struct {
	pikarc, docs string
	rounds       int // of each kind of kill
	cuts         int
	keep         bool
}

func main() {
	var o options
	flag.StringVar(&o.pikarc, "pikarc", "../../pikarc", "the binary")
	flag.StringVar(&o.docs, "docs", "../../docs/ops", "where the configurations are")
	flag.IntVar(&o.rounds, "rounds", 10, "how often the primary is killed, and a node")
	flag.IntVar(&o.cuts, "cuts", 3, "how often the network between a node and the primary is cut")
	flag.BoolVar(&o.keep, "keep", false, "keep the directory with the logs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "make ha:", err)
		stop()
		os.Exit(1)
	}
	fmt.Println("every promise was kept")
}

// run starts the cluster, breaks it under load, and proves that nothing was lost. It
// proves that after a failed round too: what was lost says more than the round.
func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "pikarc-ha-")
	if err != nil {
		return err
	}
	defer func() {
		if o.keep {
			fmt.Println("the logs are in", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL is somebody else
		return err
	}
	pikarc, err := filepath.Abs(o.pikarc)
	if err != nil {
		return err
	}
	c, err := newCluster(dir, o.docs, pikarc)
	if err != nil {
		return err
	}
	defer c.end()
	began := time.Now()
	if err := c.start(ctx); err != nil {
		return err
	}
	say("the cluster is up after %.0f s", time.Since(began).Seconds())
	l := newLoad(c.url)
	if err := l.fill(ctx, c); err != nil {
		return err
	}
	t := trial{cluster: c, load: l, options: o}
	err = t.all(ctx)
	l.end()
	return errors.Join(err, t.prove(ctx))
}

// fill makes eight workspaces, puts two agents to work in each, and returns once
// decisions are answered. HAProxy sends all calls with one key to one node, so there are
// several keys: were they all with the node that is cut off, nobody would ask the other one.
func (l *load) fill(ctx context.Context, c *cluster) error {
	for i := range 8 {
		key, err := c.workspace(ctx, l, fmt.Sprintf("ann%d@example.com", i))
		if err != nil {
			return err
		}
		l.begin(ctx, key, 2)
	}
	_, err := l.nextAnswer(ctx, 10*time.Second)
	return err
}

// say prints a line of the report.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// afterNewPrimary is within which time decisions go on.
const afterNewPrimary = 10 * time.Second

// trial breaks a cluster under load.
type trial struct {
	*cluster
	load *load
	options
}

// What is broken. A call that is with a node when that is killed cannot be
// answered by it: HAProxy says 502, or ends the connection.
const (
	primaryKilled = "the primary is killed"
	nodeKilled    = "a node is killed"
	linkCut       = "the network is cut"
)

// all runs every kind of round, and stops at the first that fails: the cluster is not
// what the next one expects then.
func (t *trial) all(ctx context.Context) error {
	t.load.enter(primaryKilled)
	for round := range t.rounds {
		if err := t.killPrimary(ctx, round+1); err != nil {
			return fmt.Errorf("%s, round %d: %w", primaryKilled, round+1, err)
		}
	}
	t.load.enter(nodeKilled)
	for round := range t.rounds {
		if err := t.killNode(ctx, round+1); err != nil {
			return fmt.Errorf("%s, round %d: %w", nodeKilled, round+1, err)
		}
	}
	t.load.enter(linkCut)
	for round := range t.cuts {
		if err := t.cutLink(ctx, round+1); err != nil {
			return fmt.Errorf("%s, round %d: %w", linkCut, round+1, err)
		}
	}
	return nil
}

// killPrimary ends the primary and its Patroni at once, as the loss of its machine does.
func (t *trial) killPrimary(ctx context.Context, round int) error {
	// Without a synchronous standby nobody could take over, and the round would prove
	// nothing.
	if err := t.whole(ctx, 90*time.Second); err != nil {
		return err
	}
	if _, err := t.load.nextAnswer(ctx, afterNewPrimary); err != nil {
		return err
	}
	old, began := t.leader(), time.Now()
	if old == nil {
		return errors.New("there is no primary")
	}
	old.patroni.kill()
	killPostgres(old.data)
	var next *server
	err := eventually(ctx, 60*time.Second, "there is a new primary", func() bool {
		next = t.leader()
		return next != nil
	})
	if err != nil {
		return err
	}
	chosen := time.Since(began)
	took, err := t.load.nextAnswer(ctx, afterNewPrimary)
	if err != nil {
		return err
	}
	say("primary killed, round %d: %s after %s is primary in %.1f s, the next decision %.1f s later", round, next.name, old.name,
		chosen.Seconds(), took.Seconds())
	// The next round needs two standbys again.
	return t.startPatroni(old)
}

// killNode ends a node at once, and starts it again once the other node has answered.
func (t *trial) killNode(ctx context.Context, round int) error {
	n := t.nodes[round%len(t.nodes)]
	if err := eventually(ctx, 60*time.Second, "both nodes are in use", t.bothInUse); err != nil {
		return err
	}
	if _, err := t.load.nextAnswer(ctx, afterNewPrimary); err != nil {
		return err
	}
	n.run.kill()
	took, err := t.load.nextAnswer(ctx, afterNewPrimary)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := t.startNode(n); err != nil {
		return err
	}
	if err := eventually(ctx, 60*time.Second, n.name+" is ready again", n.ready); err != nil {
		return fmt.Errorf("%w\n%s", err, t.tail(n.name))
	}
	say("%s killed, round %d: the next decision in %.2f s, ready again %.1f s after its start", n.name, round, took.Seconds(),
		time.Since(began).Seconds())
	return nil
}

// cutLink cuts one node off the primary: the other one goes on.
func (t *trial) cutLink(ctx context.Context, round int) error {
	const out = 12 * time.Second
	n := t.nodes[round%len(t.nodes)]
	if err := eventually(ctx, 60*time.Second, "both nodes are in use", t.bothInUse); err != nil {
		return err
	}
	// Agents were with the other node alone while this one was out. Those who wait for the node
	// that is cut off ask nobody else, so some must be with the other one by then.
	other := t.nodes[(round+1)%len(t.nodes)]
	before, err := t.callsByNode()
	if err != nil {
		return err
	}
	const some = 20
	err = eventually(ctx, 30*time.Second, "agents ask "+other.name, func() bool {
		now, err := t.callsByNode()
		return err == nil && now[other.name] >= before[other.name]+some
	})
	if err != nil {
		return err
	}
	mend, began := n.link.cut(), time.Now()
	var longest time.Duration
	for time.Since(began) < out {
		took, err := t.load.nextAnswer(ctx, afterNewPrimary)
		if err != nil {
			mend()
			return err
		}
		longest = max(longest, took)
	}
	mend()
	mended := time.Now()
	if err := eventually(ctx, 60*time.Second, n.name+" is ready again", n.ready); err != nil {
		return err
	}
	say("%s cut off for %.0f s, round %d: the longest pause of all decisions %.2f s, ready again %.1f s after its end", n.name,
		out.Seconds(), round, longest.Seconds(), time.Since(mended).Seconds())
	return nil
}

// verified matches the last line of `pikarc verify`, if it has found nothing.
var verified = regexp.MustCompile(`checks over (\d+) runs in \S+ s: 0 differences`)

// prove compares all that was answered with what there is.
func (t *trial) prove(ctx context.Context) error {
	runs, steps, err := t.load.check(ctx)
	err = errors.Join(append(t.load.broken, err)...)
	for _, kind := range slices.Sorted(maps.Keys(t.load.refused)) {
		say("calls without an answer, %s: %d", kind, t.load.refused[kind])
	}
	say("%d runs with %d steps were answered; the slowest call took %.1f s", runs, steps, t.load.slowest.Seconds())
	out, verifyErr := t.command(ctx, "", "verify")
	if verifyErr != nil {
		return errors.Join(err, verifyErr)
	}
	fmt.Print(out)
	// Agents repeat each start until it is answered, so a run that no book has was made
	// twice.
	found := verified.FindStringSubmatch(out)
	if found == nil || found[1] != strconv.Itoa(runs) {
		err = errors.Join(err, fmt.Errorf("%d runs were answered, and the books have %v", runs, found))
	}
	return err
}
