package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

const (
	// agents is how many run at once.
	agents  = 4
	backOff = 2 * time.Second // after a call that failed
)

// Agents calls a server as agents do, until the context ends; it returns when
// all of them have stopped. url has no slash at its end.
func Agents(ctx context.Context, url, key string, seed uint64) {
	var group sync.WaitGroup
	for i := range agents {
		a := &agent{
			url: url, key: key, rng: rand.New(rand.NewPCG(seed, uint64(1+i))),
			client: &http.Client{Timeout: 30 * time.Second},
		}
		group.Go(func() { a.work(ctx) })
	}
	group.Wait()
}

// agent calls the server as a client library would.
type agent struct {
	url, key string
	rng      *rand.Rand
	client   *http.Client
}

// work does one run after another.
func (a *agent) work(ctx context.Context) {
	// The first pause is short, so that something moves as soon as the dashboard is open.
	for pause := between(a.rng, 0, 3000); sleep(ctx, pause); pause = between(a.rng, 1000, 40_000) {
		if err := a.run(ctx, draw(a.rng)); err != nil && !sleep(ctx, backOff) {
			return
		}
	}
}

// answer is what a start or a step is answered.
type answer struct {
	ID       string `json:"id"`
	Decision struct {
		Outcome string `json:"outcome"`
	} `json:"decision"`
}

// run plays a script: it starts a run, asks for each step, reports it, and ends the run.
func (a *agent) run(ctx context.Context, s script) error {
	var run answer
	err := a.call(ctx, http.MethodPost, "/v1/runs/", map[string]any{"user_id": s.user, "metadata": s.metadata}, &run)
	// A denied start is part of the picture, and no error.
	if err != nil || run.Decision.Outcome != "ALLOW" {
		return err
	}
	status := s.status
	for n, step := range s.steps {
		allowed, err := a.step(ctx, run.ID, n, step)
		if err != nil {
			return err
		}
		if !allowed {
			status = "BLOCKED"
			break
		}
	}
	if status == "" { // it crashes here
		return nil
	}
	return a.call(ctx, http.MethodPost, "/v1/runs/"+run.ID+"/end", map[string]any{"status": status}, nil)
}

// step asks, takes its time, and reports.
func (a *agent) step(ctx context.Context, run string, n int, s scriptStep) (allowed bool, err error) {
	in := map[string]any{"type": s.kind, "sequence": n + 1, "input_data": s.input}
	if s.model != "" {
		in["model"] = s.model
	}
	if s.tool != "" {
		in["tool_name"] = s.tool
	}
	var asked answer
	if err := a.call(ctx, http.MethodPost, "/v1/runs/"+run+"/steps", in, &asked); err != nil || asked.Decision.Outcome != "ALLOW" {
		return false, err
	}
	if !sleep(ctx, s.took) {
		return false, ctx.Err()
	}
	out := map[string]any{"status": "COMPLETED", "duration_ms": s.took.Milliseconds()}
	if s.output != nil {
		out["output_data"] = s.output
	}
	// A failed step still reports what it has used up to then.
	if s.failure != "" {
		out["status"], out["error"] = "FAILED", s.failure
	}
	if s.model != "" {
		out["prompt_tokens"], out["completion_tokens"] = s.prompt, s.completion
	}
	if err := a.call(ctx, http.MethodPatch, "/v1/runs/"+run+"/steps/"+asked.ID, out, nil); err != nil {
		return false, err
	}
	if !sleep(ctx, s.pause) {
		return false, ctx.Err()
	}
	return true, nil
}

// call sends a request and decodes the answer.
func (a *agent) call(ctx context.Context, method, path string, body, into any) error {
	sent, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(sent))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+a.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s was answered %s", method, res.Status)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(got, into)
}

// sleep reports whether the time passed; it did not when the context ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
