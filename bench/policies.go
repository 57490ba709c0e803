//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/fill"
	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/proc"
	"github.com/pikarc/server/bench/report"
)

// policyContender is hot-64 in a workspace that has policies; the first has none.
type policyContender struct {
	name, title string
	policies    []string // definitions
}

// policyContenders are the sets of policies that are compared. Limits are so high, and
// conditions so chosen, that every step is allowed: only the evaluation is measured.
func policyContenders() []policyContender {
	many := func(n int, definition string) (all []string) {
		for i := range n {
			all = append(all, strings.ReplaceAll(definition, "NUMBER", fmt.Sprint(i)))
		}
		return all
	}
	return []policyContender{
		{"without", "no policies", nil},
		{"none-100", "100 policies, none matches", many(100, `{"match":{"models":["other-NUMBER*"]},"effect":"deny"}`)},
		{"limits-3", "3 limits that count", []string{
			`{"limit":{"measure":"calls","per":"workspace","window":"day","amount":1000000000},"effect":"deny"}`,
			`{"limit":{"measure":"calls","per":"user","window":"hour","amount":1000000000},"effect":"deny"}`,
			`{"limit":{"measure":"tokens","per":"model","window":"week","amount":1000000000},"effect":"deny"}`,
		}},
		{"cel-20", "20 CEL conditions", many(20,
			`{"when":"input.?amount.orValue(0.0) > 100.0 + NUMBER.0 && model != 'other'","effect":"deny"}`)},
	}
}

// runPolicies measures what policies, reviews and notifications cost.
func runPolicies(ctx context.Context, w *workDir, o options) error {
	f := newSuite(w, o)
	if err := f.build(ctx, "pikarc", pikarcRoot); err != nil {
		return err
	}
	var err error
	if f.accounts, err = f.makeAccounts(ctx, f.template, 2); err != nil {
		return err
	}
	all := policyContenders()
	samples := make(map[string][]sample)
	for round := range o.rounds {
		say("round %d of %d", round+1, o.rounds)
		for i := range all {
			c := all[(i+round)%len(all)]
			s, err := f.withPolicies(ctx, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			samples[c.name] = append(samples[c.name], s)
		}
	}
	t := report.Table{Columns: []string{"64 runs of one workspace", "ratio", "decisions/s", "p50 ms", "p99 ms", "p99 ratio", "goal"}}
	goals := map[string]string{"none-100": "ratio >= 0.95", "limits-3": "ratio >= 0.85", "cel-20": "p99 <= 2 x"}
	for _, c := range all {
		// Both have one sample a round, in the order of the rounds.
		mine, base := samples[c.name], samples["without"]
		var ratios, slower []float64
		for i := range mine {
			ratios = append(ratios, mine[i].PerSecond/base[i].PerSecond)
			slower = append(slower, mine[i].P99/base[i].P99)
		}
		median := func(f func(sample) float64) string { return report.Number(report.Median(mine, f)) }
		t.Add(c.title, report.Number(report.Summarize(ratios).Median), median(func(s sample) float64 { return s.PerSecond }),
			median(func(s sample) float64 { return s.P50 }), median(func(s sample) float64 { return s.P99 }),
			report.Number(report.Summarize(slower).Median), goals[c.name])
	}
	if err := t.Write(os.Stdout); err != nil {
		return err
	}
	return f.printSingleMeasurements(ctx)
}

// withPolicies measures decisions in a workspace with the contender's policies.
func (f *suite) withPolicies(ctx context.Context, c policyContender) (s sample, err error) {
	dir := filepath.Join(f.tmp, "data")
	defer os.RemoveAll(dir)
	if err := copyDir(f.template, dir); err != nil {
		return s, err
	}
	p, err := f.serve(ctx, dir)
	if err != nil {
		return s, err
	}
	defer p.Kill()
	admin := agent.Server{Host: p.Addr, Key: f.accounts[0].Admin}
	for i, definition := range c.policies {
		if err := call(ctx, admin, "PUT", fmt.Sprintf("/v1/policies/p%d", i), definition, nil); err != nil {
			return s, err
		}
	}
	list, _, err := hot(ctx, f, p.Addr, 64)
	if err != nil {
		return s, err
	}
	s, _, err = measured(ctx, p, load.Options{Scripts: list, Warm: warm, For: f.window}, agent.Start, agent.Step)
	return s, errors.Join(err, p.Stop(), f.verifyCounters(ctx, dir))
}

// printSingleMeasurements prints what is measured once, not in rounds.
func (f *suite) printSingleMeasurements(ctx context.Context) error {
	t := report.Table{Columns: []string{"", "measured", "goal"}}
	for _, one := range []struct {
		title, goal string
		measure     func(context.Context) (string, error)
	}{
		{"backtest of 1,000,000 steps by 8 policies", "10 s", f.backtest},
		{"notifications to 4 webhooks", "", f.notifications},
		{"from approval to the agent's start, ?wait=25 (our clients), p50", "", func(ctx context.Context) (string, error) {
			return f.approvals(ctx, 100, "?wait=25", 0)
		}},
		{"the same, a poll every 2 s (0.1.2), p50", "", func(ctx context.Context) (string, error) {
			return f.approvals(ctx, 100, "", 2*time.Second)
		}},
	} {
		say("%s", one.title)
		value, err := one.measure(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", one.title, err)
		}
		t.Add(one.title, value, one.goal)
	}
	fmt.Println()
	return t.Write(os.Stdout)
}

// backtestSteps is so many that one of two workspaces has a million.
const backtestSteps = 1_430_000

// backtest measures one call that decides a year of steps anew. Its policies have
// limits, conditions and patterns of several kinds.
func (f *suite) backtest(ctx context.Context) (string, error) {
	dir := filepath.Join(f.tmp, "backtest")
	defer os.RemoveAll(dir)
	if err := copyDir(f.template, dir); err != nil {
		return "", err
	}
	if err := fill.Fill(ctx, filepath.Join(dir, database), backtestSteps, time.Now()); err != nil {
		return "", err
	}
	p, err := f.serve(ctx, dir)
	if err != nil {
		return "", err
	}
	defer p.Kill()
	body := `{"since":%q,"until":%q,"policies":[
		{"name":"a","effect":"deny","limit":{"measure":"usd","per":"user","window":"day","amount":1}},
		{"name":"b","effect":"deny","limit":{"measure":"calls","per":"workspace","window":"hour","rolling":true,"amount":500}},
		{"name":"c","effect":"log","limit":{"measure":"repeats","per":"run","window":"run","amount":5}},
		{"name":"d","effect":"deny","limit":{"measure":"tokens","per":"model","window":"week","amount":1000000}},
		{"name":"e","effect":"review","match":{"tools":["sea*"]},"when":"input.?amount.orValue(0) > 100"},
		{"name":"f","effect":"deny","when":"run.spent_usd > usd(2) && now.getHours('Europe/Berlin') >= 22"},
		{"name":"g","effect":"deny","limit":{"measure":"usd","per":"run","window":"run","amount":2}},
		{"name":"h","effect":"deny","match":{"models":["none*"]}}]}`
	since, until := time.Now().AddDate(-1, 0, -1).UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339)
	var result struct{ Steps int64 }
	began := time.Now()
	err = call(ctx, agent.Server{Host: p.Addr, Key: f.accounts[1].Admin}, "POST", "/v1/policies/backtest", fmt.Sprintf(body, since, until), &result)
	took := time.Since(began)
	return fmt.Sprintf("%.1f s (%d steps)", took.Seconds(), result.Steps), errors.Join(err, p.Stop())
}

// reviewing serves a workspace in which a person is asked about every step.
func (f *suite) reviewing(ctx context.Context, dir string, flags ...string) (p *proc.Process, key, person agent.Server, err error) {
	if err := copyDir(f.template, dir); err != nil {
		return nil, key, person, err
	}
	if p, err = f.serve(ctx, dir, flags...); err != nil {
		return nil, key, person, err
	}
	a := f.accounts[0]
	key = agent.Server{Host: p.Addr, Key: a.Key}
	var signedIn struct {
		Token string `json:"access_token"`
	}
	err = call(ctx, key, "POST", "/v1/auth/login", fmt.Sprintf(`{"email":%q,"password":"correct horse"}`, a.Email), &signedIn)
	person = agent.Server{Host: p.Addr, Key: signedIn.Token}
	return p, key, person, errors.Join(err,
		call(ctx, person, "PATCH", "/v1/workspace/", `{"reviews":"all_clients"}`, nil),
		call(ctx, person, "PUT", "/v1/policies/ask", `{"effect":"review"}`, nil))
}

// notifications measures how fast messages go out to webhooks that answer at once: from
// the first event to the last message.
func (f *suite) notifications(ctx context.Context) (string, error) {
	const events, endpoints = 2000, 4
	var received atomic.Int64
	all := make(chan struct{})
	sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if received.Add(1) == events*endpoints {
			close(all)
		}
	}))
	defer sink.Close()
	dir := filepath.Join(f.tmp, "notifications")
	defer os.RemoveAll(dir)
	p, key, person, err := f.reviewing(ctx, dir, "--webhook-private")
	if err != nil {
		return "", err
	}
	defer p.Kill()
	for range endpoints {
		body := fmt.Sprintf(`{"kind":"webhook","url":%q,"events":["review.requested"]}`, sink.URL)
		if err := call(ctx, person, "POST", "/v1/endpoints/", body, nil); err != nil {
			return "", err
		}
	}
	run, err := startRun(ctx, key, "user")
	if err != nil {
		return "", err
	}
	began := time.Now()
	err = inParallel(16, events, func(i int) error { return ask(ctx, key, run, i+1, nil) })
	if err != nil {
		return "", err
	}
	select {
	case <-all:
	case <-time.After(2 * time.Minute):
		return "", fmt.Errorf("%d of %d messages came", received.Load(), events*endpoints)
	}
	return report.Number(events*endpoints/time.Since(began).Seconds()) + "/s", p.Stop()
}

// ask asks for a step that a person must decide.
func ask(ctx context.Context, key agent.Server, run string, sequence int, into any) error {
	body := fmt.Sprintf(`{"type":"TOOL_CALL","sequence":%d,"tool_name":"refund"}`, sequence)
	return call(ctx, key, "POST", "/v1/runs/"+run+"/steps", body, into)
}

// inParallel calls do n times, from so many workers at once. A worker stops at its first error.
func inParallel(workers, n int, do func(i int) error) error {
	var group sync.WaitGroup
	errs := make([]error, workers)
	for worker := range workers {
		group.Go(func() {
			for i := worker; i < n && errs[worker] == nil; i += workers {
				errs[worker] = do(i)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// approvals measures from when a person approves to when an agent that waits has heard of it.
func (f *suite) approvals(ctx context.Context, n int, query string, pause time.Duration) (string, error) {
	dir := filepath.Join(f.tmp, "approvals")
	defer os.RemoveAll(dir)
	p, key, person, err := f.reviewing(ctx, dir)
	if err != nil {
		return "", err
	}
	defer p.Kill()
	run, err := startRun(ctx, key, "user")
	if err != nil {
		return "", err
	}
	took := make([]float64, n)
	err = inParallel(10, n, func(i int) error {
		var asked struct {
			Review string `json:"review_id"`
		}
		if err := ask(ctx, key, run, i+1, &asked); err != nil {
			return err
		}
		heard := make(chan error, 1)
		go func() { heard <- awaitApproval(ctx, key, asked.Review, query, pause) }()
		time.Sleep(100*time.Millisecond + time.Duration(rand.Int64N(int64(pause)+1)))
		began := time.Now()
		if err := call(ctx, person, "POST", "/v1/reviews/"+asked.Review+"/approve", "", nil); err != nil {
			return err
		}
		err := <-heard
		took[i] = millis(time.Since(began))
		return err
	})
	slices.Sort(took)
	return report.Number(took[n/2]) + " ms", errors.Join(err, p.Stop())
}

// awaitApproval polls a review as a client does: at once, or after a pause.
func awaitApproval(ctx context.Context, key agent.Server, review, query string, pause time.Duration) error {
	for {
		time.Sleep(pause)
		var v struct{ Status string }
		if err := call(ctx, key, "GET", "/v1/reviews/"+review+query, "", &v); err != nil {
			return err
		}
		switch v.Status {
		case "approved":
			return nil
		case "denied":
			return errors.New("an approved review is denied")
		}
	}
}
