package demo

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// script is one run, as its agent plans it.
type script struct {
	user     string
	metadata map[string]any
	steps    []scriptStep
	status   string // COMPLETED or FAILED; "" when the agent crashes and never ends it
	stubborn bool   // asks again after a denial, and after its own end
}

// scriptStep is one step of a script.
type scriptStep struct {
	kind, model, tool  string // of the API
	input, output      any
	prompt, completion int64
	took               time.Duration
	failure            string // error text, of a step that fails
	pause              time.Duration
}

// draw makes up a script.
func draw(rng *rand.Rand) script {
	t := drawTrade(rng)
	// Everything is drawn from one source in a fixed order: the same seed makes the same
	// script.
	task := fmt.Sprintf(t.tasks[rng.IntN(len(t.tasks))], t.subjects[rng.IntN(len(t.subjects))])
	s := script{user: drawUser(rng), status: "COMPLETED", stubborn: rng.IntN(60) == 0}
	s.metadata = map[string]any{"agent": t.agent, "task": task, "version": fmt.Sprintf("1.%d.%d", rng.IntN(4), rng.IntN(9))}
	s.steps = append(s.steps, scriptStep{kind: "INPUT", input: map[string]any{"task": task}, took: 5 * time.Millisecond, pause: between(rng, 20, 90)})
	for _, m := range t.moves {
		for n := range 1 + rng.IntN(max(1, m.times)) {
			s.steps = append(s.steps, perform(rng, m, t, task, n))
		}
	}
	if rng.IntN(3) == 0 {
		s.steps = append(s.steps, scriptStep{kind: "OUTPUT", input: map[string]any{"format": "text"}, took: 3 * time.Millisecond})
	}
	switch n := rng.IntN(100); {
	case n < 5: // something breaks, and the run with it
		s.steps = s.steps[:1+rng.IntN(len(s.steps))]
		last := &s.steps[len(s.steps)-1]
		last.output, last.completion = nil, 0
		last.failure = []string{"upstream timed out after 30 s", "429 from the model's provider", "tool returned no JSON: unexpected end of input"}[rng.IntN(3)]
		s.status = "FAILED"
	// The agent crashes: its run stays open until the server ends it as idle.
	case n < 7:
		s.steps, s.status = s.steps[:1+rng.IntN(len(s.steps))], ""
	}
	return s
}

// drawTrade draws a trade by its weight.
func drawTrade(rng *rand.Rand) trade {
	all, sum := trades(), 0
	for _, t := range all {
		sum += t.weight
	}
	n := rng.IntN(sum)
	for _, t := range all {
		if n -= t.weight; n < 0 {
			return t
		}
	}
	return all[0]
}

// drawUser prefers the first of them: the square of an even draw leans to the front.
func drawUser(rng *rand.Rand) string {
	x, all := rng.Float64(), users()
	return all[int(x*x*float64(len(all)))]
}

// perform turns a move into a step with times, texts and usage.
func perform(rng *rand.Rand, m move, t trade, task string, n int) scriptStep {
	if m.tool != "" {
		return scriptStep{
			kind: "TOOL_CALL", tool: m.tool, took: between(rng, 90, 1400), pause: between(rng, 30, 400),
			input: map[string]any{"query": m.asks, "page": n + 1}, output: map[string]any{"result": m.says},
		}
	}
	a := scriptStep{
		kind: "MODEL_CALL", model: m.model, pause: between(rng, 30, 300),
		prompt: m.size/2 + rng.Int64N(m.size), completion: 60 + rng.Int64N(m.size/5+40),
		input: map[string]any{"messages": []map[string]string{
			{"role": "system", "content": "You are the agent " + t.agent + ". " + m.asks},
			{"role": "user", "content": task},
		}},
		output: map[string]any{"role": "assistant", "content": t.answers[rng.IntN(len(t.answers))]},
	}
	// An embedding has no completion.
	if strings.HasPrefix(m.model, "text-embedding") {
		a.completion, a.output = 0, map[string]any{"dimensions": 1536}
	}
	// Models write about a hundred tokens a second, after a third of a second.
	a.took = time.Duration(350+a.completion*9+rng.Int64N(900)) * time.Millisecond
	return a
}

// between draws a duration in milliseconds.
func between(rng *rand.Rand, from, to int64) time.Duration {
	return time.Duration(from+rng.Int64N(to-from)) * time.Millisecond
}
