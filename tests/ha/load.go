package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// load is agents that work all the time, and note what they were answered.
type load struct {
	url    string
	client *http.Client

	answered  atomic.Int64 // decisions
	mu        sync.Mutex
	phase     string
	refused   map[string]int // answers that were none, by their kind
	broken    []error        // promises
	slowest   time.Duration  // call, with an answer or without
	books     []*book
	group     sync.WaitGroup
	stopping  chan struct{}
	callLimit time.Duration
}

// book is what one agent was answered.
type book struct {
	key  string // of the API
	name string
	runs []*bookedRun
}

// bookedRun is a run as its agent knows it. A step has 0 tokens until its PATCH is
// answered: by then the server may have booked it, or not.
type bookedRun struct {
	id     string
	steps  map[string]int64 // prompt tokens that a PATCH was answered for, by the step
	ended  bool
	denied bool
}

// newLoad makes a load without agents. A call has less time than HAProxy gives it, so
// that an agent itself finds out which calls got no answer.
func newLoad(url string) *load {
	const limit = 85 * time.Second // HAProxy's is 90
	return &load{
		url: url, refused: make(map[string]int), stopping: make(chan struct{}), callLimit: limit,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: limit},
	}
}

// begin has so many agents work with a key.
func (l *load) begin(ctx context.Context, key string, agents int) {
	for i := range agents {
		// Only its own agent writes to a book while the load goes on; check reads them after end.
		b := &book{key: key, name: fmt.Sprint("agent", len(l.books), "-", i)}
		l.books = append(l.books, b)
		l.group.Go(func() {
			for n := 0; !l.stopped(); n++ {
				if err := l.run(ctx, b, n); err != nil {
					l.complain(fmt.Errorf("%s: %w", b.name, err))
					return
				}
			}
		})
	}
}

// stopped reports whether the agents should start no other run.
func (l *load) stopped() bool {
	select {
	case <-l.stopping:
		return true
	default:
		return false
	}
}

// end lets the agents finish the run that they are at.
func (l *load) end() {
	close(l.stopping)
	l.group.Wait()
}

// complain records a broken promise. The trial goes on: prove reports all of them at the
// end.
func (l *load) complain(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = append(l.broken, err)
}

// run is a run with a few steps. Each call is repeated until it is answered, with
// the same Idempotency-Key: so it is made once, or a promise is broken.
func (l *load) run(ctx context.Context, b *book, n int) error {
	unique := fmt.Sprint(b.name, "-", n)
	var started struct {
		ID       string
		Decision struct{ Outcome, Reason string }
	}
	err := l.insist(ctx, b, "POST", "/v1/runs/", unique, map[string]any{"user_id": b.name}, http.StatusCreated, &started)
	if err != nil {
		return err
	}
	r := &bookedRun{id: started.ID, steps: make(map[string]int64), denied: started.Decision.Outcome != "ALLOW"}
	b.runs = append(b.runs, r)
	if r.denied {
		return fmt.Errorf("run %s is denied: %s", r.id, started.Decision.Reason)
	}
	const steps = 4
	for i := range steps {
		var step struct {
			ID       string
			Decision struct{ Outcome, Reason string }
		}
		err := l.insist(ctx, b, "POST", "/v1/runs/"+r.id+"/steps", unique+"-"+strconv.Itoa(i),
			map[string]any{"type": "MODEL_CALL", "sequence": i + 1, "model": "gpt-4o-mini"}, http.StatusCreated, &step)
		if err != nil {
			return err
		}
		if step.Decision.Outcome != "ALLOW" {
			return fmt.Errorf("step %s is denied: %s", step.ID, step.Decision.Reason)
		}
		if _, twice := r.steps[step.ID]; twice {
			return fmt.Errorf("two calls were answered with step %s", step.ID)
		}
		tokens := int64(100 + n%50 + i)
		// Booked before it is reported: a PATCH that gets no answer may still have been made.
		r.steps[step.ID] = 0
		err = l.insist(ctx, b, "PATCH", "/v1/runs/"+r.id+"/steps/"+step.ID, "",
			map[string]any{"status": "COMPLETED", "prompt_tokens": tokens, "completion_tokens": 10}, http.StatusOK, nil)
		if err != nil {
			return err
		}
		r.steps[step.ID] = tokens
	}
	err = l.insist(ctx, b, "POST", "/v1/runs/"+r.id+"/end", "", map[string]any{"status": "COMPLETED"}, http.StatusOK, nil)
	r.ended = err == nil
	return err
}

// insist repeats a call until it is answered as it should be. Anything else than
// an answer or a refusal that says so is a broken promise.
func (l *load) insist(ctx context.Context, b *book, method, path, unique string, body any, want int, into any) error {
	for {
		began := time.Now()
		status, text, err := l.call(ctx, b.key, method, path, unique, body)
		l.noteDuration(time.Since(began))
		switch {
		case err == nil && status == want:
			if method == "POST" {
				l.answered.Add(1)
			}
			if into == nil {
				return nil
			}
			return json.Unmarshal(text, into)
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			l.refuse("no answer: " + kindOf(err))
		case status == http.StatusServiceUnavailable, status == http.StatusBadGateway, status == http.StatusGatewayTimeout:
			l.refuse(strconv.Itoa(status))
		case method == "POST" && bytes.HasSuffix([]byte(path), []byte("/end")) && status == http.StatusConflict:
			return nil // the call before has ended it, and its answer was lost
		default:
			return fmt.Errorf("%s %s: %d %s", method, path, status, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// kindOf says why there was no answer, in few words: the report counts calls by them.
func kindOf(err error) string {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "timeout"
	}
	return "connection lost"
}

// refuse counts a call that was not answered. A 503 is allowed at any time: it tells the
// agent to try again. Anything else is allowed only while nodes are killed.
func (l *load) refuse(kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[l.phase+": "+kind]++
	if kind != "503" && l.phase != nodeKilled {
		l.broken = append(l.broken, fmt.Errorf("%s: a call got neither an answer nor a 503: %s", l.phase, kind))
	}
}

// enter says what is broken from now on.
func (l *load) enter(phase string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase = phase
}

// noteDuration keeps the longest call: the report names it, and no promise is about it.
func (l *load) noteDuration(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest = max(l.slowest, d)
}

// call makes one call, once. key is an API key or a session's token; unique is the
// Idempotency-Key, "" for none. err means that there was no answer.
func (l *load) call(ctx context.Context, key, method, path, unique string, body any) (status int, text []byte, err error) {
	var sent io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		sent = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, l.url+path, sent)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	if unique != "" {
		req.Header.Set("Idempotency-Key", unique)
	}
	answer, err := l.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

// nextAnswer waits for a decision that is answered from now on.
func (l *load) nextAnswer(ctx context.Context, within time.Duration) (time.Duration, error) {
	before, began := l.answered.Load(), time.Now()
	err := eventually(ctx, within, "a decision is answered", func() bool { return l.answered.Load() > before })
	return time.Since(began), err
}

// check compares what a server shows with what was answered.
func (l *load) check(ctx context.Context) (runs, steps int, err error) {
	var faults []error
	for _, b := range l.books {
		for _, r := range b.runs {
			runs, steps = runs+1, steps+len(r.steps)
			if err := l.checkRun(ctx, b, r); err != nil {
				faults = append(faults, fmt.Errorf("%s, run %s: %w", b.name, r.id, err))
			}
		}
	}
	// What is lost is often lost for all agents at once; ten lines are enough to find out
	// why.
	if len(faults) > 10 {
		faults = append(faults[:10], fmt.Errorf("and %d more", len(faults)-10))
	}
	return runs, steps, errors.Join(faults...)
}

// checkRun checks that a run has exactly the steps that were answered, each once, with
// the tokens that were reported for it, and that its total is their sum.
func (l *load) checkRun(ctx context.Context, b *book, r *bookedRun) error {
	status, text, err := l.call(ctx, b.key, "GET", "/v1/runs/"+r.id, "", nil)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("it was answered, and now is %d %s: %w", status, text, err)
	}
	var shown struct {
		Status string
		Prompt int64 `json:"prompt_tokens"`
		Steps  []struct {
			ID     string
			Prompt int64 `json:"prompt_tokens"`
		}
	}
	if err := json.Unmarshal(text, &shown); err != nil {
		return err
	}
	var total int64
	var seen []string
	for _, s := range shown.Steps {
		seen = append(seen, s.ID)
		if tokens, ok := r.steps[s.ID]; !ok || tokens != 0 && tokens != s.Prompt {
			return fmt.Errorf("step %s has %d tokens; %d were answered (known: %v)", s.ID, s.Prompt, tokens, ok)
		}
		total += s.Prompt
	}
	slices.Sort(seen)
	if len(slices.Compact(seen)) != len(r.steps) {
		return fmt.Errorf("it shows %d steps, and %d were answered", len(seen), len(r.steps))
	}
	if shown.Prompt != total || r.ended && shown.Status != "COMPLETED" {
		return fmt.Errorf("it is %s with %d tokens, and its steps have %d", shown.Status, shown.Prompt, total)
	}
	return nil
}
