package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// nodes are two servers on one database, with an account.
type nodes struct {
	url  string
	user newUser
	both [2]*process
}

func twoNodes(t *testing.T, plan string) nodes {
	t.Helper()
	n := nodes{url: newDatabase(t)}
	n.user = createUserOn(t, n.url, "me@example.com", plan)
	for i := range n.both {
		n.both[i] = serveNode(t, n.url, "--node", fmt.Sprint("n", i))
	}
	return n
}

// balanced ends the nodes and verifies the books.
func (n nodes) balanced(t *testing.T) {
	t.Helper()
	for _, p := range n.both {
		if !p.hasEnded() {
			p.stop(t)
		}
	}
	onDatabase(n.url, "verify").run(t).ok(t)
}

// tell is send on a node, for other goroutines than the test's own.
func tell(p *process, method, path, key string, body any) (answer, error) {
	return send(context.Background(), http.DefaultClient, method, p.url+path, key, body)
}

func TestEachNodeNamesItself(t *testing.T) {
	t.Parallel()
	n := twoNodes(t, "basic")
	for i, p := range n.both {
		var got struct{ Node string }
		p.call(t, "GET", "/v1/server", "", nil).want(t, http.StatusOK).into(t, &got)
		if got.Node != fmt.Sprint("n", i) {
			t.Errorf("node %d says that it is %q", i, got.Node)
		}
		p.call(t, "GET", "/health/ready", "", nil).want(t, http.StatusOK)
	}
	n.balanced(t)
}

// Of one slot that is left exactly one start gets it, over all nodes.
func TestTwoNodesGiveTheLastSlotAwayOnce(t *testing.T) {
	t.Parallel()
	n := twoNodes(t, "scale")
	token := n.both[0].signIn(t, n.user.Email)
	n.both[0].call(t, "PATCH", "/v1/workspace/", token, map[string]any{"max_concurrent_runs": 1}).want(t, http.StatusOK)
	const starts = 200
	var allowed, denied atomic.Int64
	var group sync.WaitGroup
	for i := range starts {
		group.Go(func() {
			a, err := tell(n.both[i%2], "POST", "/v1/runs/", n.user.APIKey, map[string]string{"user_id": fmt.Sprint("u", i%7)})
			switch {
			case err != nil || a.status != http.StatusCreated:
				t.Errorf("start %d: %v %d %s", i, err, a.status, a.body)
			case strings.Contains(string(a.body), `"outcome":"ALLOW"`):
				allowed.Add(1)
			default:
				denied.Add(1)
			}
		})
	}
	group.Wait()
	if allowed.Load() != 1 || denied.Load() != starts-1 {
		t.Errorf("%d starts got the one slot, %d were denied", allowed.Load(), denied.Load())
	}
	n.balanced(t)
}

// What is changed on one node holds for the very next request of the other.
func TestAChangeOnOneNodeHoldsForTheOthersNextRequest(t *testing.T) {
	t.Parallel()
	n := twoNodes(t, "enterprise")
	here, there := n.both[0], n.both[1]
	token := here.signIn(t, n.user.Email)
	run := there.start(t, n.user.APIKey, "eve").ID
	step := func(p *process) (d decision) {
		p.call(t, "POST", "/v1/runs/"+run+"/steps", n.user.APIKey,
			map[string]any{"type": "MODEL_CALL", "model": "gpt-4o", "sequence": 1}).want(t, http.StatusCreated).into(t, &d)
		return d
	}
	for i := range 100 {
		for _, on := range []bool{true, false} {
			here.call(t, "POST", "/v1/workspace/kill-switch", token, map[string]any{"active": on}).want(t, http.StatusOK)
			if d := step(there); (d.Decision.Outcome == "ALLOW") == on {
				t.Fatalf("round %d: the kill switch is %v, and the other node says %+v", i, on, d.Decision)
			}
			here, there = there, here
		}
	}
	here.call(t, "PUT", "/v1/blocked-users/eve", token, map[string]any{}).want(t, http.StatusOK)
	if d := step(there); d.Decision.Reason != "USER_BLOCKED" {
		t.Errorf("a blocked user's step: %+v", d.Decision)
	}
	onDatabase(n.url, "rotate-key", "--email", n.user.Email).run(t).ok(t)
	there.call(t, "POST", "/v1/runs/", n.user.APIKey, map[string]string{"user_id": "ada"}).want(t, http.StatusUnauthorized)
	change := onDatabase(n.url, "set-password", "--email", n.user.Email, "--password-stdin")
	change.stdin = "another " + password + "\n"
	there.call(t, "GET", "/v1/workspace/", token, nil).want(t, http.StatusOK)
	change.run(t).ok(t)
	there.call(t, "GET", "/v1/workspace/", token, nil).want(t, http.StatusUnauthorized)
	n.balanced(t)
}

// A price that is changed on one node is that of the very next report on the other.
func TestAPriceOfOneNodeHoldsForTheOthersNextReport(t *testing.T) {
	t.Parallel()
	n := twoNodes(t, "enterprise")
	here, there := n.both[0], n.both[1]
	token := here.signIn(t, n.user.Email)
	run := there.start(t, n.user.APIKey, "eve").ID
	for i := range 50 {
		price := fmt.Sprintf("0.%04d", i+1)
		here.call(t, "PUT", "/v1/model-pricing/gpt-4o", token,
			map[string]string{"input_cost_per_token": price, "output_cost_per_token": "0"}).want(t, http.StatusOK)
		var step decision
		steps := "/v1/runs/" + run + "/steps"
		there.call(t, "POST", steps, n.user.APIKey, map[string]any{"type": "MODEL_CALL", "model": "gpt-4o", "sequence": i + 1}).
			want(t, http.StatusCreated).into(t, &step)
		var done struct {
			Cost float64 `json:"cost_usd"`
		}
		there.call(t, "PATCH", steps+"/"+step.ID, n.user.APIKey,
			map[string]any{"status": "COMPLETED", "prompt_tokens": 100, "completion_tokens": 0}).want(t, http.StatusOK).into(t, &done)
		if math.Abs(done.Cost-float64(i+1)/100) > 1e-9 {
			t.Fatalf("round %d: the price is %s, and 100 tokens cost %v", i, price, done.Cost)
		}
		here, there = there, here
	}
	n.balanced(t)
}

// An agent waits on one node for a person who answers on the other.
func TestAVerdictOfOneNodeIsHeardOnTheOther(t *testing.T) {
	t.Parallel()
	n := twoNodes(t, "enterprise")
	here, there := n.both[0], n.both[1]
	token := here.signIn(t, n.user.Email)
	here.call(t, "PUT", "/v1/policies/refunds", token, map[string]any{"effect": "review"}).want(t, http.StatusOK)
	run := there.start(t, n.user.APIKey, "eve").ID
	for i, verdict := range []string{"approve", "deny"} {
		step, id := there.askPerson(t, n.user.APIKey, run)
		heard := make(chan review)
		go func() {
			var v review
			defer func() { heard <- v }()
			for range 10 { // a poll ends after its wait, whatever has come
				a, err := tell(there, "GET", "/v1/reviews/"+id+"?wait=20", n.user.APIKey, nil)
				if err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, &v) != nil || v.Status != "pending" {
					return
				}
			}
		}()
		began := time.Now()
		here.call(t, "POST", "/v1/reviews/"+id+"/"+verdict, token, map[string]string{"note": "seen"}).want(t, http.StatusOK)
		v := <-heard
		if want := []string{"approved", "denied"}[i]; v.Resolution != want {
			t.Errorf("%s: the other node says %+v", verdict, v)
		}
		t.Logf("%s: heard on the other node after %v", verdict, time.Since(began))
		var s struct{ Steps []struct{ ID, Status string } }
		there.call(t, "GET", "/v1/runs/"+run, n.user.APIKey, nil).want(t, http.StatusOK).into(t, &s)
		for _, listed := range s.Steps {
			if want := []string{"RUNNING", "BLOCKED"}[i]; listed.ID == step && listed.Status != want {
				t.Errorf("%s: the step is %s", verdict, listed.Status)
			}
		}
	}
	n.balanced(t)
}

// Many workers on one workspace, over both nodes: no answer is wrong, and the
// counters are what the ledger says.
func TestManyWorkersOnOneWorkspaceOverTwoNodesLeaveTheBooksClean(t *testing.T) {
	t.Parallel()
	n := twoNodes(t, "enterprise")
	token := n.both[0].signIn(t, n.user.Email)
	n.both[0].call(t, "PATCH", "/v1/workspace/", token, map[string]any{"max_concurrent_runs": 1000}).want(t, http.StatusOK)
	const workers, rounds = 64, 6
	var booked atomic.Int64
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() {
			key := n.user.APIKey
			do := func(at int, method, path string, body any, want int, into any) bool {
				a, err := tell(n.both[at%2], method, path, key, body)
				if err != nil || a.status != want {
					t.Errorf("worker %d: %s %s: %v %d %s", i, method, path, err, a.status, a.body)
					return false
				}
				if into != nil {
					a.into(t, into)
				}
				return true
			}
			var run, step decision
			if !do(i, "POST", "/v1/runs/", map[string]string{"user_id": fmt.Sprint("u", i%9)}, http.StatusCreated, &run) {
				return
			}
			for r := range rounds {
				at := i + r
				if !do(at, "POST", "/v1/runs/"+run.ID+"/steps", map[string]any{
					"type": "MODEL_CALL", "model": "gpt-4o", "sequence": r + 1,
				}, http.StatusCreated, &step) || !do(at+1, "PATCH", "/v1/runs/"+run.ID+"/steps/"+step.ID, map[string]any{
					"status": "COMPLETED", "prompt_tokens": 10, "completion_tokens": 5,
				}, http.StatusOK, nil) {
					return
				}
				booked.Add(15)
			}
			do(i, "POST", "/v1/runs/"+run.ID+"/end", map[string]string{"status": "COMPLETED"}, http.StatusOK, nil)
		})
	}
	group.Wait()
	var usage struct {
		Today struct {
			Tokens int64 `json:"total_tokens"`
		}
	}
	n.both[1].call(t, "GET", "/v1/usage/", token, nil).want(t, http.StatusOK).into(t, &usage)
	if usage.Today.Tokens != booked.Load() {
		t.Errorf("%d tokens were reported, and the workspace has %d", booked.Load(), usage.Today.Tokens)
	}
	n.balanced(t)
}

// One node does the upkeep, and when it dies the other takes over.
func TestTheOtherNodeTakesOverTheUpkeepOfOneThatDies(t *testing.T) {
	t.Parallel()
	const says = "this node does the upkeep now"
	n := twoNodes(t, "basic")
	on := func(p *process) bool { return strings.Contains(p.stderr.String(), says) }
	if err := eventually(func() bool { return on(n.both[0]) || on(n.both[1]) }); err != nil {
		t.Fatal("no node does the upkeep")
	}
	doer, other := n.both[0], n.both[1]
	if on(other) {
		doer, other = other, doer
	}
	if on(other) {
		t.Fatal("both nodes do the upkeep")
	}
	doer.kill()
	died := time.Now()
	other.await(t, "takes over the upkeep", func() bool { return on(other) })
	t.Logf("the other node took over within %v", time.Since(died))
	n.balanced(t)
}

// A page that is open on one node learns what another has done.
func TestAPageOfOneNodeLearnsWhatAnotherHasDone(t *testing.T) {
	t.Parallel()
	n := twoNodes(t, "basic")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.both[0].url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.user.APIKey)
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	await := func(words ...string) {
		t.Helper()
		for lines.Scan() {
			for _, word := range words {
				if strings.Contains(lines.Text(), word) {
					words = words[1:]
				}
				break
			}
			if len(words) == 0 {
				return
			}
		}
		t.Fatalf("the stream ended without %q: %v", words, lines.Err())
	}
	await("hello")
	n.both[1].start(t, n.user.APIKey, "ada")
	await(`"running_runs":1`, "event: missed")
	onDatabase(n.url, "set-plan", "--email", n.user.Email, "scale").run(t).ok(t)
	await(`{"what":"plan"}`)
	n.both[1].start(t, n.user.APIKey, "bob")
	await(`"running_runs":2`)
	onDatabase(n.url, "rotate-key", "--email", n.user.Email).run(t).ok(t)
	for lines.Scan() { // until it ends, with its credential
	}
	_ = stream.Body.Close()
	n.balanced(t)
}
