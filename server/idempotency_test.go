package server_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

const keyHeader = "Idempotency-Key"

// idempotentCalls are the two calls that take a key, each on a RUNNING run.
func idempotentCalls(run string) map[string][2]string {
	return map[string][2]string{
		"/v1/runs/":                  {`{"user_id":"ada"}`, `{"user_id":"ada" }`},
		"/v1/runs/" + run + "/steps": {`{"type":"INPUT","sequence":1}`, `{"type":"INPUT","sequence":2}`},
	}
}

func wantReplay(t *testing.T, first, again *response) {
	t.Helper()
	again.want(http.StatusCreated)
	if string(again.body) != string(first.body) || again.header.Get("Idempotent-Replay") != "true" {
		t.Errorf("%s: the repeated call answered %s (replay %q), the first %s", again.what, again.body, again.header.Get("Idempotent-Replay"), first.body)
	}
}

func wantFirst(t *testing.T, r *response) *response {
	t.Helper()
	if got := r.want(http.StatusCreated).header.Get("Idempotent-Replay"); got != "" {
		t.Errorf("%s: a first answer says that it is a replay: %q", r.what, got)
	}
	return r
}

func TestARepeatedKeyReplaysTheFirstAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	a.admin = w.keyOf(a, storage.ScopeAdmin)
	for path, bodies := range idempotentCalls(w.start(a, "ada")) {
		first := wantFirst(t, w.call("POST", path, a.key, bodies[0], keyHeader, "k 1"))
		w.call("POST", "/v1/workspace/kill-switch", a.admin, `{"active":true}`).want(http.StatusOK)
		w.clock.advance(23*time.Hour + 59*time.Minute)
		before := w.look(a)
		wantReplay(t, first, w.call("POST", otherForm(path), a.key, bodies[0], keyHeader, "k 1"))
		wantBody(t, w.call("POST", path, a.key, bodies[1], keyHeader, "k 1").want(http.StatusUnprocessableEntity),
			problems(problem("value_error", `["header","Idempotency-Key"]`,
				"Value error, this key was used with another body within the last 24 hours", `"k 1"`, "")))
		if got := changes(before, w.look(a)); got != "" {
			t.Errorf("%s: a repeated key changed %s", path, got)
		}
		// A denial is an answer too, and stays one when its cause is gone.
		denied := wantFirst(t, w.call("POST", path, a.key, bodies[0], keyHeader, "k2"))
		w.call("POST", "/v1/workspace/kill-switch", a.admin, `{"active":false}`).want(http.StatusOK)
		wantReplay(t, denied, w.call("POST", path, a.key, bodies[0], keyHeader, "k2"))
		if denied.text("decision.reason") != "KILL_SWITCH_ACTIVE" {
			t.Errorf("%s: under the kill switch: %s", path, denied.body)
		}
		w.clock.advance(time.Minute)
		fresh := wantFirst(t, w.call("POST", path, a.key, bodies[1], keyHeader, "k 1"))
		wantReplay(t, fresh, w.call("POST", path, a.key, bodies[1], keyHeader, "k 1"))
		if fresh.text("id") == first.text("id") {
			t.Errorf("%s: after a day the key still gives run %s", path, fresh.text("id"))
		}
	}
}

func TestAKeyCountsWithinItsWorkspaceOrRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.account(plans.Scale), w.account(plans.Scale)
	const body = `{"user_id":"ada","type":"INPUT","sequence":1}`
	ids := make(map[string]bool)
	for _, call := range []struct {
		a    account
		path string
	}{
		{a, "/v1/runs/"},
		{b, "/v1/runs/"},
		{a, "/v1/runs/" + w.start(a, "ada") + "/steps"},
		{a, "/v1/runs/" + w.start(a, "ada") + "/steps"},
		{b, "/v1/runs/" + w.start(b, "ada") + "/steps"},
	} {
		ids[wantFirst(t, w.call("POST", call.path, call.a.key, body, keyHeader, "same")).text("id")] = true
	}
	if len(ids) != 5 {
		t.Errorf("five calls made %d things", len(ids))
	}
}

func TestAKeyIsOfPrintableASCII(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	run := w.start(a, "ada")
	before := w.look(a)
	for path, bodies := range idempotentCalls(run) {
		for key, input := range map[string]string{
			"": `""`, strings.Repeat("k", 256): `"` + strings.Repeat("k", 256) + `"`, "clé": `"clé"`, "a\tb": `"a\tb"`, "\xff": `"\ufffd"`,
		} {
			r := w.call("POST", path, a.key, bodies[0], keyHeader, key).want(http.StatusUnprocessableEntity)
			wantBody(t, r, problems(problem("value_error", `["header","Idempotency-Key"]`,
				"Value error, must be 1 to 255 printable ASCII characters", input, "")))
		}
		r := w.call("POST", path, a.key, `{}`, keyHeader, "é").want(http.StatusUnprocessableEntity)
		if r.text("detail.0.loc.0") != "header" || r.text("detail.1.type") != "missing" {
			t.Errorf("%s: a bad key and a bad body: %s", path, r.body)
		}
	}
	if got := changes(before, w.look(a)); got != "" {
		t.Errorf("bad keys changed %s", got)
	}
	for path, bodies := range idempotentCalls(run) {
		for _, key := range []string{"~", strings.Repeat("k", 255), `"quoted" {}`} {
			wantReplay(t, wantFirst(t, w.call("POST", path, a.key, bodies[0], keyHeader, key)), w.call("POST", path, a.key, bodies[0], keyHeader, key))
		}
	}
}

func TestACallThatWasRefusedLeavesItsKeyFree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	for path, bodies := range idempotentCalls(w.start(a, "ada")) {
		w.call("POST", path, a.key, `{}`, keyHeader, "k").want(http.StatusUnprocessableEntity)
		w.call("POST", path, a.token, bodies[0], keyHeader, "k").want(http.StatusUnauthorized)
		wantFirst(t, w.call("POST", path, a.key, bodies[0], keyHeader, "k"))
	}
	w.call("POST", "/v1/runs/"+unknownID+"/steps", a.key, `{"type":"INPUT","sequence":1}`, keyHeader, "k").want(http.StatusNotFound)
	// Calls that repeat by themselves take no notice of the header.
	run := w.start(a, "ada")
	w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"FAILED"}`, keyHeader, "k").want(http.StatusOK)
	w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"COMPLETED"}`, keyHeader, "k").want(http.StatusBadRequest)
}

func TestParallelCallsWithOneKeyMakeOneRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	const parallel = 20
	answers := make(chan *response, parallel)
	var group sync.WaitGroup
	for range parallel {
		group.Go(func() {
			r, err := w.try("POST", "/v1/runs/", a.key, `{"user_id":"ada"}`, keyHeader, "k")
			if err != nil {
				t.Error(err)
				return
			}
			answers <- r
		})
	}
	group.Wait()
	close(answers)
	bodies, replays := make(map[string]int), 0
	for r := range answers {
		bodies[string(r.body)]++
		if r.header.Get("Idempotent-Replay") == "true" {
			replays++
		}
	}
	if len(bodies) != 1 || replays != parallel-1 {
		t.Errorf("%d calls had %d different answers, %d of them replays", parallel, len(bodies), replays)
	}
	if got := names(w.call("GET", "/v1/runs", a.key, nil), "user_id"); got != "ada" {
		t.Errorf("the runs are of %s", got)
	}
}
