package server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/server/live"
	"github.com/pikarc/server/storage"
)

func TestAStreamTellsWhatAnAgentDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.call("PUT", "/v1/model-pricing/gpt-4o", a.token, `{"input_cost_per_token":1,"output_cost_per_token":2}`).want(http.StatusOK)
	in := w.stream(a.token)

	run := w.call("POST", "/v1/runs/", a.key, `{"user_id":"ada","metadata":{"task":"Sort <b>"}}`).want(http.StatusCreated).text("id")
	if started := in.next("run.started"); started.text("id") != run || started.text("title") != "Sort <b>" || started.text("status") != "RUNNING" {
		t.Errorf("run.started says %s", started.body)
	}
	w.call("PATCH", w.step(a, run, "gpt-4o"), a.key, `{"status":"COMPLETED","prompt_tokens":3,"completion_tokens":2}`).want(http.StatusOK)
	spent := in.until("spend.changed", func(r *response) bool { return r.text("today.total_usd") == "7" })
	for place, want := range map[string]string{
		"today.total_tokens": "5", "today.run_count": "1", "today.denial_count": "0", "running_runs": "1",
		"runs.0.id": run, "runs.0.total_usd": "7", "runs.0.step_count": "1",
	} {
		if got := spent.text(place); got != want {
			t.Errorf("%s of spend.changed is %s, want %s", place, got, want)
		}
	}
	w.call("PATCH", "/v1/workspace", a.token, `{"daily_budget_usd":5}`).want(http.StatusOK)
	if got := in.next("config.changed").text("what"); got != "workspace" {
		t.Errorf("config.changed says %s", got)
	}
	step := w.call("POST", "/v1/runs/"+run+"/steps", a.key, `{"type":"TOOL_CALL","sequence":2}`).want(http.StatusCreated)
	denied := in.next("step.denied")
	for place, want := range map[string]string{
		"step_id": step.text("id"), "run.id": run, "run.blocked_step_count": "1", "decision.reason": "WORKSPACE_DAILY_BUDGET_EXCEEDED",
		"decision.limit": "5", "decision.used": "7", "decision.resets_at": "2026-11-24T00:00:00.000Z",
	} {
		if got := denied.text(place); got != want {
			t.Errorf("%s of step.denied is %s, want %s", place, got, want)
		}
	}
	w.call("POST", "/v1/runs/", a.key, `{"user_id":"bob"}`).want(http.StatusCreated)
	if refused := in.next("run.denied"); refused.text("user_id") != "bob" || refused.text("deny_reason") != "WORKSPACE_DAILY_BUDGET_EXCEEDED" {
		t.Errorf("run.denied says %s", refused.body)
	}
	w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"BLOCKED"}`).want(http.StatusOK)
	if ended := in.next("run.ended"); ended.text("id") != run || ended.text("status") != "BLOCKED" {
		t.Errorf("run.ended says %s", ended.body)
	}
	in.until("spend.changed", func(r *response) bool { return r.text("running_runs") == "0" && r.text("today.denial_count") == "2" })
}

func TestAStreamTellsEachPartOfTheConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	in := w.stream(a.token)
	for _, c := range []struct{ method, path, body, what string }{
		{"POST", "/v1/workspace/kill-switch", `{"active":true}`, "workspace"},
		{"PUT", "/v1/blocked-users/ada", ``, "users"},
		{"DELETE", "/v1/blocked-users/ada", ``, "users"},
		{"PUT", "/v1/model-pricing/gpt-4o", `{"input_cost_per_token":1,"output_cost_per_token":2}`, "prices"},
		{"POST", "/v1/api-keys/regenerate", ``, "api_key"},
	} {
		var body any
		if c.body != "" {
			body = c.body
		}
		w.call(c.method, c.path, a.token, body).want(http.StatusOK)
		if got := in.next("config.changed").text("what"); got != c.what {
			t.Errorf("%s %s changed %s, want %s", c.method, c.path, got, c.what)
		}
	}
	pro, err := plans.ByID(plans.Pro)
	w.must(err)
	_, err = w.store.SetPlan(t.Context(), a.workspace, pro)
	w.must(err)
	if got := in.next("config.changed").text("what"); got != "plan" {
		t.Errorf("a new plan changed %s", got)
	}
}

// What a stream tells can be read at once: it was committed before.
func TestAStreamSaysForHowLongNothingHadChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.clock.advance(3 * time.Second)
	for _, want := range []string{"3000", "3000"} { // opening one is no change
		w.call("GET", "/v1/usage/", a.token, "").want(http.StatusOK)
		if got := w.stream(a.token).hello.text("quiet_ms"); got != want {
			t.Errorf("quiet for %s ms, want %s", got, want)
		}
	}
	w.call("POST", "/v1/runs/", a.key, `{"user_id":"ada"}`).want(http.StatusCreated)
	w.clock.advance(time.Second)
	if got := w.stream(a.token).hello.text("quiet_ms"); got != "1000" {
		t.Errorf("a second after a run's start it was quiet for %s ms", got)
	}
}

func TestWhatIsToldIsCommitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Enterprise)
	most := int64(plans.MaxConcurrency)
	_, err := w.store.UpdateWorkspace(t.Context(), a.workspace, storage.WorkspaceChange{MaxConcurrentRuns: &most})
	w.must(err)
	in := w.stream(a.key)
	const agents, runs = 8, 12
	var group sync.WaitGroup
	for range agents {
		group.Go(func() {
			for range runs {
				if r, err := w.try("POST", "/v1/runs/", a.key, `{"user_id":"ada"}`); err != nil || r.status != http.StatusCreated {
					t.Errorf("start: %v", err)
				}
			}
		})
	}
	var told []string
	for len(told) < agents*runs {
		id := in.next("run.started").text("id")
		if slices.Contains(told, id) {
			t.Errorf("run %s is told twice", id)
		}
		w.call("GET", "/v1/runs/"+id, a.key, nil).want(http.StatusOK)
		told = append(told, id)
	}
	group.Wait()
}

func TestAWriteThatFailsTellsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	in := w.stream(a.key)
	// The job has noted its change when its answer's encoding panics, and is rolled back.
	failing := storage.NewRun{UserID: "rolled back", Idempotency: storage.Idempotency{
		Key: "k", Encode: func(storage.Answer) []byte { panic("no answer") },
	}}
	if _, err := w.store.StartRun(t.Context(), storage.Caller{Workspace: a.workspace}, failing, guard.Decide); err == nil {
		t.Fatal("the start did not fail")
	}
	w.call("PATCH", "/v1/workspace", a.token, `{"name":"x","max_concurrent_runs":0}`).want(http.StatusUnprocessableEntity)
	run := w.start(a, "ada")
	if started := in.next("run.started"); started.text("id") != run {
		t.Errorf("told is %s", started.body)
	}
}

func TestStreamsOfTenantsNeverMix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, silent := w.account(plans.Enterprise), w.account(plans.Enterprise), w.account(plans.Enterprise)
	most := int64(plans.MaxConcurrency)
	for _, one := range []account{a, b} {
		_, err := w.store.UpdateWorkspace(t.Context(), one.workspace, storage.WorkspaceChange{MaxConcurrentRuns: &most})
		w.must(err)
	}
	ofA, ofB, ofSilent := w.stream(a.token), w.stream(b.key), w.stream(silent.token)
	const runs = 30
	var group sync.WaitGroup
	for user, one := range map[string]account{"of-a": a, "of-b": b} {
		group.Go(func() {
			for range runs {
				if _, err := w.try("POST", "/v1/runs/", one.key, map[string]any{"user_id": user}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for user, in := range map[string]*watcher{"of-a": ofA, "of-b": ofB} {
		for range runs {
			if got := in.next("run.started").text("user_id"); got != user {
				t.Errorf("the stream of %s is told of %s", user, got)
			}
		}
	}
	group.Wait()
	ofSilent.cancel()
	if got := ofSilent.ended(); len(got) > 0 {
		t.Errorf("a workspace in which nothing happened was told %v", got)
	}
}

func TestSpendIsToldAtMostTwiceASecond(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	run := w.start(a, "ada")
	in := w.stream(a.token)
	started := time.Now()
	const steps = 300
	for range steps {
		w.step(a, run, "gpt-4o")
	}
	told := 0
	in.until("spend.changed", func(r *response) bool { told++; return r.text("runs.0.step_count") == fmt.Sprint(steps) })
	// However slow the machine is, there is half a second between two of them.
	if most := int(time.Since(started)/(500*time.Millisecond)) + 1; told > most {
		t.Errorf("spend.changed was told %d times in %s", told, time.Since(started))
	}
}

func TestAStreamEndsWithItsCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	byKey, byToken := w.stream(a.key), w.stream(a.token)
	w.call("POST", "/v1/api-keys/regenerate", a.token, nil).want(http.StatusOK)
	w.call("PUT", "/v1/blocked-users/after", a.token, nil).want(http.StatusOK)
	if got := byKey.ended(); slices.Contains(got, "config.changed") {
		t.Errorf("the old key was told %v", got)
	}
	byToken.until("config.changed", func(r *response) bool { return r.text("what") == "users" })
	fresh := w.call("POST", "/v1/auth/change-password", a.token, map[string]string{"current_password": password, "new_password": "new password"}).
		want(http.StatusOK).text("access_token")
	again := w.stream(fresh)
	byToken.ended()
	w.clock.advance(tokenTTL + time.Second)
	w.call("GET", "/v1/workspace", fresh, nil).wantDetail(http.StatusUnauthorized, "Token has expired")
	_, err := w.store.RotateKey(t.Context(), a.workspace, storage.Rotation{Label: "x"}) // has every credential of the workspace looked at
	w.must(err)
	again.ended()
}

// Other processes, the commands, change a workspace too.
func TestAStreamTellsWhatAnotherProcessChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.account(plans.Scale), w.account(plans.Scale)
	other := w.another(testSecret)
	byToken, byKey, ofB := w.stream(a.token), w.stream(a.key), w.stream(b.token)
	pro, err := plans.ByID(plans.Pro)
	w.must(err)
	_, err = other.store.SetPlan(t.Context(), a.workspace, pro)
	w.must(err)
	for name, in := range map[string]*watcher{"token": byToken, "key": byKey} {
		if got := in.next("config.changed").text("what"); got != "plan" {
			t.Errorf("by %s: another plan changed %s", name, got)
		}
	}
	_, err = other.store.RotateKey(t.Context(), a.workspace, storage.Rotation{Label: "x"})
	w.must(err)
	byKey.ended()
	if got := byToken.next("config.changed").text("what"); got != "api_key" {
		t.Errorf("another key changed %s", got)
	}
	ofB.cancel()
	if got := ofB.ended(); len(got) > 0 {
		t.Errorf("a workspace that nobody changed was told %v", got)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(cfg *server.Config) { cfg.Streams = live.Limits{PerWorkspace: 2, Total: 3} })
	a, b, c := w.account(plans.Basic), w.account(plans.Basic), w.account(plans.Basic)
	first := w.stream(a.key)
	w.stream(a.token)
	r := w.call("GET", "/v1/events", a.key, nil)
	r.wantDetail(http.StatusTooManyRequests, "Too many open event streams in this workspace. Close some and try again.")
	w.stream(b.key)
	w.call("GET", "/v1/events", c.key, nil).
		wantDetail(http.StatusServiceUnavailable, "The server has too many open event streams. Try again later.")
	first.cancel()
	first.ended()
	deadline := time.Now().Add(patience)
	for { // the server notices that the reader has gone
		answer, cancel, err := w.openStream(a.key)
		w.must(err)
		answer.Body.Close()
		cancel()
		if answer.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after one was closed, another stream is answered %d", answer.StatusCode)
		}
	}
}

func TestStreamsEndAtOnceWhenTheServerShutsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	cfg := w.server.Config
	cfg.Timeouts = server.Timeouts{Shutdown: time.Hour}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	second := server.New(w.store, cfg)
	go func() { served <- second.Serve(ctx, ln) }()
	there := *w
	there.url = "http://" + ln.Addr().String()
	in := there.stream(a.key)
	stop()
	in.ended()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("the server ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the server waits for a stream")
	}
	if err := second.Join(a.workspace); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("after the end another stream is answered %v", err)
	}
}

func TestWhatIsTooMuchToTellIsMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	in := w.stream(a.key)
	burst := make([]storage.Change, 300)
	for i := range burst {
		burst[i] = storage.Change{Workspace: a.workspace, Kind: storage.RunStarted, Run: int64(i + 1)}
	}
	w.server.Offer(burst)
	in.next("missed")
	run := w.start(a, "ada") // and then it goes on
	if got := in.next("run.started").text("id"); got != run {
		t.Errorf("told of %s", got)
	}
}

// The writer must never wait: what the hub has no place for is lost, and said to be.
func TestTheHubTakesAtOnceOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 100_000 { // nobody takes them
		w.server.Offer([]storage.Change{{Workspace: 1, Kind: storage.RunProgressed, Run: 1}})
	}
	a := w.account(plans.Scale)
	in := w.stream(a.key)
	flood := make([]storage.Change, 256)
	for i := range flood {
		flood[i] = storage.Change{Workspace: a.workspace, Kind: storage.RunProgressed, Run: int64(i)}
	}
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		for range 10_000 {
			w.server.Offer(flood)
		}
		for len(in.events) > 0 {
			if e, _ := in.any(); e.name == "missed" {
				return
			}
		}
	}
	t.Error("nothing is missed of a flood")
}
