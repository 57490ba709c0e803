package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// meddling is a process that changes a workspace's rules on command.
type meddling struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

func startMeddling(t *testing.T, dir, email string) *meddling {
	t.Helper()
	cmd := exec.Command(meddler, dir, email)
	cmd.Env = environment()
	stderr := &transcript{}
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("meddle: %v\n%s", err, stderr)
		}
	})
	return &meddling{t, in, bufio.NewScanner(out)}
}

// do has the other process change something, and returns once that is committed.
func (m *meddling) do(format string, args ...any) string {
	m.t.Helper()
	line := fmt.Sprintf(format, args...)
	if _, err := io.WriteString(m.in, line+"\n"); err != nil {
		m.t.Fatal(err)
	}
	if !m.out.Scan() {
		m.t.Fatalf("no answer to %q: %v", line, m.out.Err())
	}
	said, ok := strings.CutPrefix(m.out.Text(), "ok")
	if !ok {
		m.t.Fatalf("%q: %s", line, m.out.Text())
	}
	return strings.TrimSpace(said)
}

// What another process, or the API, has changed holds for the very next
// decision, while the writer is as busy as it gets, and with everything that
// could be remembered freshly remembered.
func TestChangesHoldForTheVeryNextDecisionUnderFullLoad(t *testing.T) {
	const rounds = 100
	dir := t.TempDir()
	p, busy := roomy(t, dir)
	ann := createUser(t, dir, "bea@example.com", "enterprise")
	key, token := ann.APIKey, p.signIn(t, ann.Email)
	other := startMeddling(t, dir, "bea@example.com")

	stop := make(chan struct{})
	var load sync.WaitGroup
	var answered, unanswered atomic.Int64
	for range 8 {
		conn := p.dial(t)
		load.Go(func() {
			if err := hammer(conn, busy.APIKey, &answered, &unanswered); err != nil {
				t.Error(err)
			}
		})
		load.Go(func() { <-stop; _ = conn.Close() })
	}
	defer load.Wait()
	defer close(stop)

	run := p.start(t, key, "user")
	checked := 0
	step := func() (d decision) {
		t.Helper()
		checked++
		body := map[string]any{"type": "MODEL_CALL", "sequence": 1, "model": "gpt-4o"}
		p.call(t, "POST", "/v1/runs/"+run.ID+"/steps", key, body).want(t, http.StatusCreated).into(t, &d)
		return d
	}
	mustDecide := func(what, reason string) {
		t.Helper()
		if d := step(); d.Decision.Reason != reason {
			t.Fatalf("%s: %+v, want %q", what, d, reason)
		}
	}
	mustCost := func(price string) {
		t.Helper()
		var s struct {
			Cost float64 `json:"cost_usd"`
		}
		path := "/v1/runs/" + run.ID + "/steps/" + step().ID
		p.call(t, "PATCH", path, key, map[string]any{"prompt_tokens": 1}).want(t, http.StatusOK).into(t, &s)
		if got := fmt.Sprintf("%.6f", s.Cost); got != price {
			t.Fatalf("a token costs %s, want %s", got, price)
		}
	}
	for i := range rounds {
		if answered.Load() == 0 && i > 10 {
			t.Fatal("there is no load")
		}
		other.do("kill on")
		mustDecide("kill switch on, by another process", "KILL_SWITCH_ACTIVE")
		p.call(t, "POST", "/v1/workspace/kill-switch", token, map[string]any{"active": false}).want(t, http.StatusOK)
		mustDecide("kill switch off, by the API", "")
		other.do("block user")
		mustDecide("blocked, by another process", "USER_BLOCKED")
		p.call(t, "DELETE", "/v1/blocked-users/user", token, nil).want(t, http.StatusOK)
		mustDecide("unblocked, by the API", "")
		p.call(t, "PUT", "/v1/blocked-users/user", token, nil).want(t, http.StatusOK)
		mustDecide("blocked, by the API", "USER_BLOCKED")
		other.do("unblock user")
		mustDecide("unblocked, by another process", "")
		other.do("price 0.%06d", i+1)
		mustCost(fmt.Sprintf("0.%06d", i+1))

		p.call(t, "POST", "/v1/workspace/kill-switch", token, map[string]any{"active": true}).want(t, http.StatusOK)
		mustDecide("kill switch on, by the API", "KILL_SWITCH_ACTIVE")
		other.do("plan basic") // which has no kill switch
		mustDecide("plan, by another process", "")
		other.do("plan enterprise")

		old := key
		key = other.do("rotate again")
		checked++
		p.call(t, "POST", "/v1/runs/"+run.ID+"/heartbeat", old, nil).want(t, http.StatusUnauthorized)
		mustDecide("the new key", "")
	}
	t.Logf("%d decisions checked while %d others were answered", checked, answered.Load())
}
