package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateAnswers = flag.Bool("update-answers", false, "write testdata/answers.txt anew")

// What the API answers is a contract: to every call of its document, with every
// kind of credential and with bodies good and bad. A change that is meant is made
// with `go test ./tests/e2e -run TestTheAPIAnswersAsRecorded -args -update-answers`,
// and its diff is read.
func TestTheAPIAnswersAsRecorded(t *testing.T) {
	t.Parallel()
	r := newRecorder(t)
	for _, op := range r.operations() {
		r.token = r.p.signIn(t, recordedEmail)
		r.record(op)
	}
	file := filepath.Join("tests", "e2e", "testdata", "answers.txt")
	if *updateAnswers {
		if err := os.WriteFile(file, r.out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), r.out.String()); diff != "" {
		t.Errorf("the API answers otherwise than recorded (-recorded +now):\n%s", diff)
	}
}

// operation is a call of the API's document.
type operation struct {
	method, path string
	example      json.RawMessage // of its body, if it takes one
}

// recorder makes all calls to a server of its own, and writes down what it is answered.
type recorder struct {
	t     *testing.T
	p     *process
	token string // the owner's
	run   string // a run with a step, for each call another
	step  string
	out   bytes.Buffer
}

const recordedEmail = "ann@example.com"

func newRecorder(t *testing.T) *recorder {
	dir := t.TempDir()
	createUser(t, dir, recordedEmail, "enterprise")
	return &recorder{t: t, p: serve(t, dir)}
}

// operations reads the API's document, whose streams, files and own text are left out.
func (r *recorder) operations() (ops []operation) {
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	r.p.call(r.t, "GET", "/openapi.json", "", nil).want(r.t, http.StatusOK).into(r.t, &document)
	for _, path := range slices.Sorted(maps.Keys(document.Paths)) {
		if path == "/v1/events" || path == "/openapi.json" || strings.HasPrefix(path, "/clients/") {
			continue
		}
		for _, method := range slices.Sorted(maps.Keys(document.Paths[path])) {
			if slices.Contains([]string{"get", "post", "put", "patch", "delete"}, method) {
				ops = append(ops, operation{strings.ToUpper(method), path, r.example(document.Paths[path][method])})
			}
		}
	}
	if len(ops) < 30 {
		r.t.Fatalf("the document has %d operations", len(ops))
	}
	return ops
}

// example returns what the document shows as an operation's body, or nothing.
func (r *recorder) example(operation json.RawMessage) json.RawMessage {
	var o struct {
		RequestBody struct {
			Content map[string]struct {
				Example  json.RawMessage
				Examples map[string]struct{ Value json.RawMessage }
			}
		}
	}
	answer{body: operation}.into(r.t, &o)
	content := o.RequestBody.Content["application/json"]
	for _, name := range slices.Sorted(maps.Keys(content.Examples)) {
		if content.Example == nil {
			content.Example = content.Examples[name].Value
		}
	}
	return content.Example
}

// record makes an operation's calls, the one that should work last.
func (r *recorder) record(op operation) {
	fmt.Fprintf(&r.out, "=== %s %s\n", op.method, op.path)
	r.call(op.method, op.path, "nobody", "", "")
	r.call(op.method, op.path, "a stranger", "lg_00000000_"+strings.Repeat("0", 64), "")
	r.call(op.method, op.path, "a stranger", "no.such.token", "")
	r.call("TRACE", op.path, "nobody", "", "")
	bodies := []string{"", "{", "[]", `{"nonsense":1}`}
	if op.example != nil {
		var compact bytes.Buffer
		if err := json.Compact(&compact, op.example); err != nil {
			r.t.Fatal(err)
		}
		// The password stays what it is, so that the owner can sign in for the next call.
		kept := regexp.MustCompile(`"(current|new)_password":"[^"]*"`).ReplaceAllString(compact.String(), `"${1}_password":"`+password+`"`)
		bodies = append(bodies, kept)
	}
	if op.method == http.MethodGet {
		bodies = bodies[:1]
	}
	for _, who := range []string{"the agent", "the owner"} {
		for _, body := range bodies {
			if strings.HasPrefix(op.path, "/v1/auth/") { // the call before may have ended the session
				r.token = r.p.signIn(r.t, recordedEmail)
			}
			r.prepare()
			credential := r.credential(who)
			r.call(op.method, op.path, who, credential, body)
			if strings.Contains(op.path, "_id}") && body == bodies[len(bodies)-1] {
				r.call(op.method, strings.NewReplacer("{run_id}", "01890000-0000-7000-8000-000000000000").Replace(op.path), who, credential, body)
				r.call(op.method, strings.NewReplacer("{run_id}", "no-uuid").Replace(op.path), who, credential, body)
			}
		}
	}
}

// credential returns the token, or a fresh key: some calls end the old one.
func (r *recorder) credential(who string) string {
	if who == "the owner" {
		return r.token
	}
	var made struct{ Key string }
	r.p.call(r.t, "POST", "/v1/api-keys/regenerate", r.token, nil).want(r.t, http.StatusOK).into(r.t, &made)
	return made.Key
}

// prepare brings the workspace back to where each call finds it, with a run and a step to speak of.
func (r *recorder) prepare() {
	r.p.call(r.t, "POST", "/v1/workspace/kill-switch", r.token, map[string]any{"active": false}).want(r.t, http.StatusOK)
	r.p.call(r.t, "PATCH", "/v1/workspace/", r.token, map[string]any{
		"name": "Recorded", "daily_budget_usd": nil, "user_daily_budget_usd": nil, "max_concurrent_runs": 1000,
	}).want(r.t, http.StatusOK)
	key := r.credential("the agent")
	run := r.p.start(r.t, key, "recorded")
	var step decision
	r.p.call(r.t, "POST", "/v1/runs/"+run.ID+"/steps", key, map[string]any{"type": "MODEL_CALL", "sequence": 1, "model": "gpt-4o"}).
		want(r.t, http.StatusCreated).into(r.t, &step)
	r.run, r.step = run.ID, step.ID
}

func (r *recorder) call(method, path, who, credential, body string) {
	if r.run == "" {
		r.prepare()
	}
	path = strings.NewReplacer("{run_id}", r.run, "{step_id}", r.step, "{user_id}", "recorded", "{model}", "gpt-4o").Replace(path)
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.p.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	fmt.Fprintf(&r.out, "%s, %s %s\n  %d%s\n  %s\n", who, method, body, resp.StatusCode, recordedHeaders(resp.Header), same(got))
}

// recordedHeaders are those that say something of the answer.
func recordedHeaders(h http.Header) string {
	var b strings.Builder
	for _, name := range []string{"Content-Type", "Allow", "Www-Authenticate", "Cache-Control"} {
		if value := h.Get(name); value != "" {
			fmt.Fprintf(&b, " %s: %s;", name, value)
		}
	}
	return b.String()
}

// same replaces what differs from run to run.
func same(body []byte) string {
	text := string(body)
	for _, r := range []struct{ find, put string }{
		{`lg_[0-9a-f]{8}_[0-9a-f]{64}`, "<key>"},
		{`eyJ[\w-]+\.[\w-]+\.[\w-]+`, "<token>"},
		{`"prefix":"[0-9a-f]{8}"`, `"prefix":"<prefix>"`},
		{`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "<id>"},
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`, "<time>"},
		{`\d{4}-\d\d-\d\d`, "<day>"},
		{`"(duration_ms|step_count|\w*run_count|denial_count|(?:running|completed|failed|blocked)_count|monthly_runs|used|prompt_tokens|completion_tokens|total_tokens|total_usd|today_usd|last_30_days_usd)":[\d.]+`, `"$1":<n>`},
		{`whsec_[\w+/=]+`, "<secret>"},
		{`"created_ms":\[[\d,]*\]`, `"created_ms":[<ms>]`},
		{`"indexing":(true|false)`, `"indexing":<flag>`}, // the index is a second behind
		{`"(\w+_bytes|bytes|size)":\d+`, `"$1":<n>`},
		{`"created_ms":\[[\d,]+\]`, `"created_ms":[<ms>]`},
		{`whsec_[\w+/]+=*`, "<secret>"},
		{`erased-[0-9a-f]{16}`, "erased-<hex>"},
		{`"next_(steps_)?cursor":"[^"]+"`, `"next_${1}cursor":"<cursor>"`},
		{`"version":"[^"]+"`, `"version":"<version>"`},
		{`127\.0\.0\.1:\d+`, "<address>"},
	} {
		text = regexp.MustCompile(r.find).ReplaceAllString(text, r.put)
	}
	if most := 1500; len(text) > most { // lists differ by how much was recorded before
		text = text[:most] + "…"
	}
	return strings.TrimSpace(text)
}
