package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// seedVariable repeats a failed test's choices; which calls are under way at
// the kill remains the machine's choice.
const seedVariable = "CRASH_SEED"

// kills and startWithin are for make crash: more rounds, and a bound that a
// busy machine would not always keep.
var (
	kills       = flag.Int("kills", 20, "how often the server is killed")
	startWithin = flag.Duration("start-within", 0, "how long a start after a kill may take; 0 for any time")
)

func seededRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// killSoon kills a process at a random moment within the time given.
func (p *process) killSoon(random *rand.Rand, within time.Duration) {
	<-time.After(time.Duration(random.Int64N(int64(within))))
	p.kill()
}

// crew is agents on one data directory.
type crew struct {
	dir      string
	key      string
	token    string // of who configures
	random   *rand.Rand
	client   *http.Client
	answered atomic.Int64
	agents   []*agent
}

// newCrew makes a workspace where budgets, prices and blocked users make for
// decisions of several kinds.
func newCrew(t *testing.T, agents int) *crew {
	t.Helper()
	c := &crew{dir: t.TempDir(), random: seededRandom(t), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: agents}}}
	c.key = createUser(t, c.dir, "ann@example.com", "enterprise").APIKey
	p := serve(t, c.dir)
	c.token = p.signIn(t, "ann@example.com")
	for model, price := range map[string]string{"gpt-4o": "0.0000025", "mini": "0.00000015"} {
		p.call(t, "PUT", "/v1/model-pricing/"+model, c.token, map[string]string{
			"input_cost_per_token": price, "output_cost_per_token": price + "4",
		}).want(t, http.StatusOK)
	}
	p.call(t, "PUT", "/v1/model-pricing/tool:search", c.token, map[string]any{"cost_per_call": 0.0001}).want(t, http.StatusOK)
	c.setLimits(t, p, map[string]any{
		"user_daily_budget_usd": 0.003, "max_concurrent_runs": 100_000, "trust_reported_cost": true,
	})
	for i := range agents {
		a := &agent{
			name: fmt.Sprintf("agent%d", i), apiKey: c.key, client: c.client, answered: &c.answered,
			random: rand.New(rand.NewPCG(c.random.Uint64(), 0)), touched: map[*shownRun]bool{}, tally: map[string]int{},
		}
		p.call(t, "PUT", "/v1/blocked-users/"+a.banned(), c.token, nil).want(t, http.StatusOK)
		c.agents = append(c.agents, a)
	}
	p.stop(t)
	return c
}

func (c *crew) setLimits(t *testing.T, p *process, limits map[string]any) {
	t.Helper()
	p.call(t, "PATCH", "/v1/workspace/", c.token, limits).want(t, http.StatusOK)
}

// all lets every agent do something at once and ends the test when one complains.
func (c *crew) all(t *testing.T, do func(context.Context, *agent) error) {
	t.Helper()
	if err := errors.Join(c.begin(t, do)()...); err != nil {
		t.Fatal(err)
	}
}

// begin is all, without waiting; the function returned does.
func (c *crew) begin(t *testing.T, do func(context.Context, *agent) error) (wait func() []error) {
	faults := make([]error, len(c.agents))
	var group sync.WaitGroup
	for i, a := range c.agents {
		group.Go(func() { faults[i] = do(t.Context(), a) })
	}
	return func() []error { group.Wait(); return faults }
}

// workUntilKilled lets the agents work and kills the server somewhere in the middle.
func (c *crew) workUntilKilled(t *testing.T, p *process, round int) {
	t.Helper()
	for _, a := range c.agents {
		a.url, a.user = p.url, fmt.Sprintf("%s-%d", a.name, round)
	}
	enough := c.answered.Load() + 30 + c.random.Int64N(600)
	wait := c.begin(t, func(ctx context.Context, a *agent) error { return a.work(ctx) })
	// An agent that stops early has a complaint, which wait returns.
	err := eventually(func() bool { return c.answered.Load() >= enough || p.hasEnded() })
	if round%4 == 3 { // also while it ends cleanly
		p.signal(t, syscall.SIGTERM)
	}
	p.killSoon(c.random, 4*time.Millisecond)
	c.client.CloseIdleConnections()
	if err := errors.Join(append(wait(), err)...); err != nil {
		t.Fatal(err)
	}
}

// TestEveryAnswerOutlivesAKill is the promise on which everything stands: what
// was answered is there after a crash, exactly once, and the books are right.
func TestEveryAnswerOutlivesAKill(t *testing.T) {
	t.Parallel()
	const agents = 16
	c := newCrew(t, agents)
	p := serve(t, c.dir)
	var slowest time.Duration
	for round := range *kills {
		c.workUntilKilled(t, p, round)
		if round%5 == 4 { // and again before it is up
			spawn(t, nil, "serve", "--addr", "127.0.0.1:0", "--data-dir", c.dir).killSoon(c.random, 60*time.Millisecond)
		}
		began := time.Now()
		p = serve(t, c.dir)
		slowest = max(slowest, time.Since(began))
		p.call(t, "GET", "/health/ready", "", nil).want(t, http.StatusOK)
		for _, a := range c.agents {
			a.url = p.url
		}
		everything := round == *kills-1
		c.all(t, func(ctx context.Context, a *agent) error { return a.check(ctx, everything) })
		balanced(t, c.dir)
	}
	if *startWithin > 0 && slowest > *startWithin {
		t.Errorf("the slowest start took %v", slowest)
	}
	found := tally(c.agents)
	t.Logf("%d calls were answered, the slowest start took %v: %v", c.answered.Load(), slowest, found)
	for _, kind := range []string{
		"start ALLOW ", "start DENY USER_BLOCKED", "step ALLOW ", "step DENY RUN_ALREADY_ENDED", "step DENY USER_DAILY_BUDGET_EXCEEDED",
		"price source own", "price source reported", "cached", "paid tool call",
	} {
		if found[kind] == 0 {
			t.Errorf("no %s: this test proves less than it says", kind)
		}
	}
	c.checkRunsAndSlots(t, p)
	p.stop(t)
	balanced(t, c.dir)
}

// checkRunsAndSlots compares the counters that decide with the agents' books:
// no run too many or too few, no slot lost.
func (c *crew) checkRunsAndSlots(t *testing.T, p *process) {
	t.Helper()
	allowed := 0
	for _, a := range c.agents {
		for _, r := range a.book {
			if r.Decision.Outcome == "ALLOW" {
				allowed++
			}
		}
	}
	if got := p.startedRuns(t, c.key); got != allowed {
		t.Errorf("%d runs are counted, %d were allowed", got, allowed)
	}
	open := running(c.agents)
	listed, err := c.agents[0].list(t.Context(), "status=RUNNING")
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(open); !slices.Equal(open, slices.Sorted(slices.Values(listed))) {
		t.Errorf("%d runs are RUNNING, %d were left open: %v, %v", len(listed), len(open), listed, open)
	}
	if len(open) == 0 {
		t.Fatal("no run was left open: this test proves nothing about slots")
	}
	for _, id := range append(open, c.fill(t, p, len(open))...) {
		p.call(t, "POST", "/v1/runs/"+id+"/end", c.key, map[string]string{"status": "COMPLETED"}).want(t, http.StatusOK)
	}
	c.fill(t, p, 0)
}

// fill proves that exactly so many runs count as running: a few more slots take
// a few more runs, and no other.
func (c *crew) fill(t *testing.T, p *process, counted int) (ids []string) {
	t.Helper()
	const more = 5
	c.setLimits(t, p, map[string]any{"max_concurrent_runs": counted + more})
	for i := range more {
		d := p.start(t, c.key, "someone else")
		if d.Decision.Outcome != "ALLOW" {
			t.Fatalf("start %d with %d open runs of %d: %+v", i+1, counted, counted+more, d)
		}
		ids = append(ids, d.ID)
	}
	d := p.start(t, c.key, "someone else").Decision
	if d.Reason != "MAX_CONCURRENT_RUNS_EXCEEDED" || d.Used.String() != strconv.Itoa(counted+more) {
		t.Errorf("start %d with %d open runs of %d: %+v", more+1, counted, counted+more, d)
	}
	return ids
}

// balanced fails the test if the file is damaged or its books differ from its ledger.
func balanced(t *testing.T, dataDir string) {
	t.Helper()
	out := run(t, "verify", "--json", "--data-dir", dataDir)
	var report struct{ Checks, Found int }
	if err := json.Unmarshal([]byte(out.stdout), &report); err != nil || out.code != 0 || report.Found != 0 || report.Checks < 20 {
		t.Fatalf("the books are wrong (%v): exit code %d\n%s\n%s", err, out.code, out.stdout, out.stderr)
	}
}

// The first start makes the secret and the schema; a crash there must not leave half of either.
func TestKilledFirstStartDoesNotSpoilTheDirectory(t *testing.T) {
	t.Parallel()
	random := seededRandom(t)
	for range 10 {
		dir := filepath.Join(t.TempDir(), "data")
		spawn(t, nil, "serve", "--addr", "127.0.0.1:0", "--data-dir", dir).killSoon(random, 80*time.Millisecond)
		p := serve(t, dir)
		u := createUser(t, dir, "ann@example.com", "basic")
		p.start(t, u.APIKey, "someone")
		p.stop(t)
		balanced(t, dir)
	}
}
