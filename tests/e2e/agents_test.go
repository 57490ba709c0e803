package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/plans"
)

// Agents work with a server that gets killed, keep a book of all it has
// answered, and hold the next server to it.

// verdict is a decision in an answer; what is null is empty.
type verdict struct {
	Outcome, Reason string
	Limit, Used     json.Number
	ResetsAt        string `json:"resets_at"`
}

// shownStep is a step as a run's detail, or the answer to its PATCH, shows it.
type shownStep struct {
	ID, Type, Status string
	Sequence         int
	Model            string
	ToolName         string `json:"tool_name"`
	Decision         verdict
	PromptTokens     int64          `json:"prompt_tokens"`
	CompletionTokens int64          `json:"completion_tokens"`
	Cached           int64          `json:"cached_tokens"`
	Written          int64          `json:"cache_write_tokens"`
	Reasoning        int64          `json:"reasoning_tokens"`
	Tier             string         `json:"service_tier"`
	Reported         json.Number    `json:"reported_cost_usd"`
	PriceSource      string         `json:"price_source"`
	Cost             json.Number    `json:"cost_usd"`
	InputData        map[string]any `json:"input_data"`
	Error            string
	CompletedAt      string `json:"completed_at"`
}

// shownRun is a run as its detail shows it.
type shownRun struct {
	ID, Status       string
	UserID           string `json:"user_id"`
	DenyReason       string `json:"deny_reason"`
	EndedAt          string `json:"ended_at"`
	Decision         verdict
	StepCount        int         `json:"step_count"`
	BlockedStepCount int         `json:"blocked_step_count"`
	PromptTokens     int64       `json:"prompt_tokens"`
	CompletionTokens int64       `json:"completion_tokens"`
	Total            json.Number `json:"total_usd"`
	Steps            []shownStep
}

// settle brings what a run sums up in line with its steps.
func (r *shownRun) settle() error {
	var total plans.Money
	r.StepCount, r.BlockedStepCount, r.PromptTokens, r.CompletionTokens = len(r.Steps), 0, 0, 0
	for _, s := range r.Steps {
		r.PromptTokens += s.PromptTokens
		r.CompletionTokens += s.CompletionTokens
		if s.Status == "BLOCKED" {
			r.BlockedStepCount++
		}
		if s.Cost == "" {
			continue
		}
		cost, err := plans.ParseMoney(s.Cost.String())
		if err != nil {
			return fmt.Errorf("cost_usd of step %s: %w", s.ID, err)
		}
		total += cost
	}
	r.Total = json.Number(total.String())
	return nil
}

func (r *shownRun) addStep(s shownStep) error {
	r.Steps = append(r.Steps, s)
	slices.SortFunc(r.Steps, func(a, b shownStep) int { return cmp.Compare(a.ID, b.ID) })
	if s.Decision.Outcome == "DENY" && (s.Decision.Reason != "RUN_ALREADY_ENDED" || r.DenyReason == "") {
		r.DenyReason = s.Decision.Reason
	}
	return r.settle()
}

// end is what an answered end does to a run.
func (r *shownRun) end(status, at string) {
	if r.Status != "RUNNING" {
		return
	}
	r.Status, r.EndedAt = status, at
	for i := range r.Steps {
		if r.Steps[i].Status == "RUNNING" {
			r.Steps[i].Status = "ABANDONED"
		}
	}
}

func (r *shownRun) clone() *shownRun {
	c := *r
	c.Steps = slices.Clone(r.Steps)
	return &c
}

// pending is a call whose answer has not come: it may have been recorded or not.
type pending struct {
	method, path, key string // key is the Idempotency-Key, empty for none
	creates           bool   // a run or a step, so that it must not be repeated without a key
	body              map[string]any
	run               *shownRun // nil for a start
	// recorded makes of the run in the book what the call makes of it, as far
	// as what the server shows (seen) can be what was asked for.
	recorded func(book, seen *shownRun) error
}

// agent makes one call at a time.
type agent struct {
	name     string
	apiKey   string
	client   *http.Client
	random   *rand.Rand
	answered *atomic.Int64 // of all agents

	url     string
	user    string // a new one for each server
	calls   int    // makes keys and sequences unique
	book    []*shownRun
	touched map[*shownRun]bool // since the latest check
	lost    *pending
	replays []replay
	tally   map[string]int // kinds of unanswered calls, by what had become of them
}

// replay is a call with a key, and what it was answered.
type replay struct {
	call   pending
	answer []byte
}

// errDied says that the server ended before it answered.
var errDied = errors.New("the server died")

// work calls until the server dies, or answers what it must not.
func (a *agent) work(ctx context.Context) error {
	for {
		if err := a.act(ctx); errors.Is(err, errDied) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
}

func (a *agent) act(ctx context.Context) error {
	a.calls++
	open := a.some(func(r *shownRun) bool { return r.Status == "RUNNING" })
	chance := a.random.IntN(100)
	switch {
	case open == nil || chance < 12:
		return a.start(ctx)
	case chance < 55:
		return a.step(ctx, open)
	case chance < 60: // denied, and recorded, when the run has ended
		return a.step(ctx, a.some(func(*shownRun) bool { return true }))
	case chance < 85: // an ended run still takes late usage
		return a.report(ctx, a.some(func(r *shownRun) bool { return r.StepCount > r.BlockedStepCount }))
	case chance < 97:
		return a.end(ctx, open)
	default:
		_, err := a.do(ctx, pending{method: "POST", path: "/v1/runs/" + open.ID + "/heartbeat", run: open}, http.StatusOK)
		return err
	}
}

// some picks one of the latest runs that fit, or nil.
func (a *agent) some(fits func(*shownRun) bool) *shownRun {
	const latest = 12
	var found []*shownRun
	for _, r := range a.book[max(0, len(a.book)-latest):] {
		if fits(r) && r.StepCount < 100 {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found[a.random.IntN(len(found))]
}

// do makes a call and returns its answer. What is never answered is kept as lost.
func (a *agent) do(ctx context.Context, c pending, want int) (answer, error) {
	if c.run != nil {
		a.touched[c.run] = true
	}
	got, err := a.send(ctx, c)
	if err != nil {
		a.lost = &c
		return got, errors.Join(errDied, err)
	}
	if got.status != want {
		return got, fmt.Errorf("%s %s %v answered %d %s", c.method, c.path, c.body, got.status, got.body)
	}
	a.answered.Add(1)
	if c.key != "" {
		a.replays = append(a.replays, replay{c, got.body})
	}
	return got, nil
}

func (a *agent) send(ctx context.Context, c pending) (answer, error) {
	var headers []string
	if c.key != "" {
		headers = []string{"Idempotency-Key", c.key}
	}
	return send(ctx, a.client, c.method, a.url+c.path, a.apiKey, c.body, headers...)
}

// maybeKey is an Idempotency-Key for half of the calls.
func (a *agent) maybeKey() string {
	if a.random.IntN(2) == 0 {
		return ""
	}
	return fmt.Sprintf("%s-%d", a.name, a.calls)
}

func (a *agent) banned() string { return "banned-" + a.name }

func (a *agent) start(ctx context.Context) error {
	user := a.user
	if a.random.IntN(8) == 0 {
		user = a.banned()
	}
	got, err := a.do(ctx, pending{
		method: "POST", path: "/v1/runs/", key: a.maybeKey(), creates: true,
		body: map[string]any{"user_id": user, "metadata": map[string]any{"call": a.calls}},
	}, http.StatusCreated)
	if err != nil {
		return err
	}
	return a.enterStart(got.body, user)
}

// enterStart books what a start was answered.
func (a *agent) enterStart(body []byte, user string) error {
	r := &shownRun{UserID: user, Total: "0", Steps: []shownStep{}}
	if err := json.Unmarshal(body, r); err != nil {
		return err
	}
	if r.Decision.Outcome == "DENY" {
		r.DenyReason = r.Decision.Reason
	}
	a.enter(r)
	return nil
}

func (a *agent) enter(r *shownRun) {
	a.book = append(a.book, r)
	a.touched[r] = true
}

func (a *agent) step(ctx context.Context, run *shownRun) error {
	asked := shownStep{Sequence: a.calls, Type: "MODEL_CALL", Model: []string{"gpt-4o", "mini", "unpriced"}[a.random.IntN(3)]}
	body := map[string]any{"type": asked.Type, "sequence": asked.Sequence, "model": asked.Model}
	if a.random.IntN(4) == 0 {
		asked = shownStep{Sequence: a.calls, Type: "TOOL_CALL", ToolName: "search", InputData: map[string]any{"q": "whale"}}
		body = map[string]any{"type": asked.Type, "sequence": asked.Sequence, "tool_name": asked.ToolName, "input_data": asked.InputData}
	}
	got, err := a.do(ctx, pending{
		method: "POST", path: "/v1/runs/" + run.ID + "/steps", key: a.maybeKey(), creates: true, body: body, run: run,
		recorded: func(book, seen *shownRun) error {
			i := slices.IndexFunc(seen.Steps, func(s shownStep) bool { return s.Sequence == asked.Sequence })
			if i < 0 {
				return errors.New("no step has the sequence of the lost call")
			}
			s := asked
			s.ID, s.Status, s.Decision = seen.Steps[i].ID, seen.Steps[i].Status, seen.Steps[i].Decision
			return book.addStep(s)
		},
	}, http.StatusCreated)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(got.body, &asked); err != nil {
		return err
	}
	return run.addStep(asked)
}

// report patches a step, perhaps once more, and expects the step as asked.
func (a *agent) report(ctx context.Context, run *shownRun) error {
	if run == nil {
		return nil
	}
	i := a.random.IntN(len(run.Steps))
	id := run.Steps[i].ID
	if run.Steps[i].Status == "BLOCKED" {
		return nil
	}
	status := []string{"COMPLETED", "FAILED"}[a.random.IntN(2)]
	used, body := a.usage(run.Steps[i])
	body["status"], body["duration_ms"] = status, 7
	matches := func(s shownStep) error {
		got := shownStep{PromptTokens: s.PromptTokens, CompletionTokens: s.CompletionTokens, Cached: s.Cached, Written: s.Written, Reasoning: s.Reasoning}
		if diff := gocmp.Diff(used, got); diff != "" || s.ID != id || s.Status != status || s.Error != "" {
			return fmt.Errorf("step %s was to be %s with %v, and is %+v: %s", id, status, body, s, diff)
		}
		return nil
	}
	got, err := a.do(ctx, pending{
		method: "PATCH", path: "/v1/runs/" + run.ID + "/steps/" + id, run: run,
		body: body,
		recorded: func(book, seen *shownRun) error {
			if len(seen.Steps) != len(book.Steps) {
				return errors.New("the steps are other ones")
			}
			book.Steps[i] = seen.Steps[i]
			return errors.Join(matches(seen.Steps[i]), book.settle())
		},
	}, http.StatusOK)
	if err != nil {
		return err
	}
	var s shownStep
	if err := json.Unmarshal(got.body, &s); err != nil {
		return err
	}
	run.Steps[i] = s
	return errors.Join(matches(s), run.settle())
}

// usage is a report of one of the kinds that there are, and what it makes a step
// have used. Parts stay until they are reported anew, so that a step that has
// some is not reported by its wholes alone.
func (a *agent) usage(s shownStep) (used shownStep, body map[string]any) {
	used = shownStep{PromptTokens: a.random.Int64N(2000), CompletionTokens: a.random.Int64N(500)}
	prompt, completion := used.PromptTokens, used.CompletionTokens
	kind := a.random.IntN(4)
	if kind == 0 && s.Cached+s.Written+s.Reasoning > 0 {
		kind = 1
	}
	if kind > 1 {
		used.Cached, used.Reasoning = prompt/2, completion/3
	}
	switch kind {
	case 0: // wholes alone
		body = map[string]any{"prompt_tokens": prompt, "completion_tokens": completion}
	case 1: // OpenAI's, without parts
		body = map[string]any{"usage": map[string]any{"prompt_tokens": prompt, "completion_tokens": completion}}
	case 2: // Anthropic's, whose input excludes what was cached; reasoning is told beside it
		used.Written = prompt / 4
		body = map[string]any{"reasoning_tokens": used.Reasoning, "usage": map[string]any{
			"input_tokens": prompt - used.Cached - used.Written, "output_tokens": completion,
			"cache_read_input_tokens": used.Cached, "cache_creation_input_tokens": used.Written,
		}}
	default: // all fields
		body = map[string]any{
			"prompt_tokens": prompt, "completion_tokens": completion, "cached_tokens": used.Cached, "cache_write_tokens": 0,
			"cache_write_1h_tokens": 0, "reasoning_tokens": used.Reasoning,
			"service_tier": []string{"standard", "batch", "flex"}[a.random.IntN(3)], "reported_cost_usd": float64(a.random.IntN(50)) / 1e6,
		}
	}
	return used, body
}

func (a *agent) end(ctx context.Context, run *shownRun) error {
	status := []string{"COMPLETED", "FAILED", "BLOCKED"}[a.random.IntN(3)]
	got, err := a.do(ctx, pending{
		method: "POST", path: "/v1/runs/" + run.ID + "/end", run: run, body: map[string]any{"status": status},
		recorded: func(book, seen *shownRun) error {
			book.end(status, seen.EndedAt)
			return nil
		},
	}, http.StatusOK)
	if err != nil {
		return err
	}
	var ended shownRun
	if err := json.Unmarshal(got.body, &ended); err != nil {
		return err
	}
	run.end(ended.Status, ended.EndedAt)
	if ended.Status != status || ended.EndedAt == "" {
		return fmt.Errorf("end as %s answered %s", status, got.body)
	}
	return nil
}

// tally counts what the books of all agents hold, by kind.
func tally(agents []*agent) map[string]int {
	n := map[string]int{}
	for _, a := range agents {
		for kind, count := range a.tally {
			n[kind] += count
		}
		for _, r := range a.book {
			n["start "+r.Decision.Outcome+" "+r.Decision.Reason]++
			for _, s := range r.Steps {
				n["step "+s.Decision.Outcome+" "+s.Decision.Reason]++
				n["price source "+s.PriceSource]++
				if s.Cached > 0 && s.Written > 0 && s.Cost != "" {
					n["cached"]++
				}
				if s.Type == "TOOL_CALL" && s.Cost != "" {
					n["paid tool call"]++
				}
			}
		}
	}
	return n
}

// running are the ids of the runs that the books of all agents leave open.
func running(agents []*agent) (ids []string) {
	for _, a := range agents {
		for _, r := range a.book {
			if r.Status == "RUNNING" {
				ids = append(ids, r.ID)
			}
		}
	}
	return ids
}
