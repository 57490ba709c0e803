package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/policies"
)

const stepsPerRun = 100

// fill gives a workspace a history of this many steps, in one transaction: ended runs of 200 users
// over the last 30 days, with the matching counters.
func fill(b *testing.B, w *world, ws WorkspaceKey, steps int) {
	b.Helper()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	const perStep = 2_250_000 // nano-USD for 500 + 100 tokens
	now, runs := noon().UnixMilli(), steps/stepsPerRun
	err := w.write(b.Context(), modeBulkSQL, func(tx *Tx) error {
		for _, q := range []struct {
			text string
			args []any
		}{
			{`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
				INSERT INTO users (workspace_id, external_id, run_count, created_at) SELECT $1, 'user ' || i, 0, 0 FROM n`, []any{ws}},
			{`WITH RECURSIVE n (i, at) AS (SELECT 0, $3 UNION ALL SELECT i + 1, $3 - (i + 1) * 30 * 86400000 / $2 FROM n WHERE i < $2 - 1)
				INSERT INTO runs (uuid, workspace_id, user_id, status, started_at, ended_at, ended_by, last_call_at,
					step_count, blocked_step_count, prompt_tokens, completion_tokens, spend_nanos)
				SELECT unhex(printf('%012x7%03x8%015x', at, i % 4096, i)), $1,
					(SELECT id FROM users WHERE workspace_id = $1 AND external_id = 'user ' || (i % 200 + 1)),
					2, at, at + 1, 1, at, $4, 0, $4 * 500, $4 * 100, $4 * $5 FROM n ORDER BY at`,
				[]any{ws, runs, now, stepsPerRun, perStep}},
			{`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
				INSERT INTO steps (segment, run_id, uuid, sequence, type, status, created_at, model_id, completed_at, duration_ms,
					booked_day, prompt_tokens, completion_tokens, input_picos, output_picos, cost_nanos)
				SELECT 0, r.id, unhex(printf('%012x7%03x8%015x', r.started_at, n.i, r.id)), n.i, 1, 2, r.started_at, m.id, r.ended_at, 1,
					r.started_at / 86400000, 500, 100, m.input_picos, m.output_picos, $3
				FROM runs r CROSS JOIN n CROSS JOIN models m WHERE r.workspace_id = $1 AND m.workspace_id = $1`,
				[]any{ws, stepsPerRun, perStep}},
			{`INSERT INTO run_segments SELECT id, 0 FROM runs WHERE workspace_id = $1`, []any{ws}},
			{`INSERT INTO workspace_days (workspace_id, day, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count)
				SELECT $1, started_at / 86400000, sum(spend_nanos), sum(prompt_tokens), sum(completion_tokens), count(*), 0
				FROM runs WHERE workspace_id = $1 GROUP BY 2`, []any{ws}},
			{`INSERT INTO user_days (workspace_id, day, user_id, spend_nanos, run_count)
				SELECT $1, started_at / 86400000, user_id, sum(spend_nanos), count(*)
				FROM runs WHERE workspace_id = $1 GROUP BY 2, 3`, []any{ws}},
			{`INSERT INTO model_days (workspace_id, day, model_id, spend_nanos, prompt_tokens, completion_tokens, unpriced_tokens)
				SELECT $1, d.day, m.id, d.spend_nanos, d.prompt_tokens, d.completion_tokens, 0
				FROM workspace_days d JOIN models m ON m.workspace_id = $1 WHERE d.workspace_id = $1`, []any{ws}},
			{`UPDATE users SET last_seen_at = $2, run_count = (SELECT count(*) FROM runs r
				WHERE r.workspace_id = $1 AND r.user_id = users.id) WHERE workspace_id = $1`, []any{ws, now}},
		} {
			if _, err := tx.exec(q.text, q.args...); err != nil {
				return err
			}
		}
		return nil
	})
	w.must(err)
	var busy, frames, checkpointed int
	w.must(w.conn().QueryRowContext(b.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &checkpointed))
	u, err := w.Usage(b.Context(), ws)
	w.must(err)
	if n := w.number(`SELECT count(*) FROM steps`); n != int64(steps) || u.Last30Days.Runs < int64(runs)*9/10 || busy != 0 {
		b.Fatalf("the file has %d steps and %+v, checkpoint busy: %d", n, u.Last30Days, busy)
	}
}

// liveRuns starts 64 runs, each of a user of its own.
func liveRuns(w *world, ws WorkspaceKey) (live []uuid.UUID) {
	for i := range 64 {
		live = append(live, w.start(ws, fmt.Sprintf("user %d", i+1)).ID)
	}
	return live
}

// decideSteps creates steps from 64 callers at once, each for a run of its own.
func decideSteps(b *testing.B, w *world, ws WorkspaceKey, live []uuid.UUID) {
	b.Helper()
	model, callers := "gpt-4o", atomic.Int64{}
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		run := live[callers.Add(1)%int64(len(live))]
		for pb.Next() {
			a, err := w.CreateStep(b.Context(), Caller{Workspace: ws}, run, NewStep{Type: 1, Sequence: 1, Model: &model}, guard.Decide)
			if err != nil || !a.Decision.Allowed() {
				b.Errorf("%+v, %v", a, err)
				return
			}
		}
	})
}

// BenchmarkStepDecision creates steps from 64 callers at once, each for a live
// run of its own. The decision must cost the same whatever the file holds.
func BenchmarkStepDecision(b *testing.B) {
	for _, steps := range []int{1_000, 1_000_000} {
		w := newWorld(b)
		ws := w.unlimitedWorkspace()
		fill(b, w, ws, steps)
		live := liveRuns(w, ws)
		b.Run(fmt.Sprintf("steps=%d", steps), func(b *testing.B) {
			decideSteps(b, w, ws, live)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}

// BenchmarkStepWithInput is BenchmarkStepDecision with inputs, each of its own.
func BenchmarkStepWithInput(b *testing.B) {
	for _, size := range []int{0, 300, 1024} {
		w := newWorld(b)
		ws := w.unlimitedWorkspace()
		live := liveRuns(w, ws)
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			model, callers := "gpt-4o", atomic.Int64{}
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				caller := callers.Add(1)
				run := live[caller%int64(len(live))]
				for n := int64(0); pb.Next(); n++ {
					in := NewStep{Type: 1, Sequence: 1, Model: &model, InputData: inputOf(size, caller<<32+n)}
					if _, err := w.CreateStep(b.Context(), Caller{Workspace: ws}, run, in, guard.Decide); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}

// inputOf is an object of so many bytes, of words; nil for none.
func inputOf(size int, seed int64) []byte {
	if size == 0 {
		return nil
	}
	words := [...]string{"order", "where", "the", "parcel", "since", "customer", "refund", "Tuesday", "address", "is", "not", "and", "please", "invoice"}
	text := []byte(`{"messages":[{"role":"user","content":"`)
	for random := uint64(seed); len(text) < size-5; {
		random = random*6364136223846793005 + 1442695040888963407
		text = append(append(text, words[random>>33%uint64(len(words))]...), ' ')
	}
	return append(text, `"}]}`...)
}

// BenchmarkStepDecisionBesideConfiguration is BenchmarkStepDecision for runs of
// 400 users, while four callers keep changing another workspace's configuration.
func BenchmarkStepDecisionBesideConfiguration(b *testing.B) {
	w := newWorld(b)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	var live []uuid.UUID
	for i := range 400 {
		live = append(live, w.start(ws, fmt.Sprintf("user %d", i)).ID)
	}
	var writers sync.WaitGroup
	ctx, stop := context.WithCancel(b.Context())
	for i := range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				if _, err := w.BlockUser(ctx, other, fmt.Sprint(i), nil); err != nil && ctx.Err() == nil {
					b.Error(err)
				}
			}
		})
	}
	model, next := "gpt-4o", atomic.Int64{}
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			run := live[next.Add(1)%int64(len(live))]
			a, err := w.CreateStep(ctx, Caller{Workspace: ws}, run, NewStep{Type: 1, Sequence: 1, Model: &model}, guard.Decide)
			if err != nil || !a.Decision.Allowed() {
				b.Errorf("%+v, %v", a, err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
	stop()
	writers.Wait()
}

// BenchmarkUsage reads the usage page of a workspace with a million steps.
func BenchmarkUsage(b *testing.B) {
	w := newWorld(b)
	ws := w.unlimitedWorkspace()
	fill(b, w, ws, 1_000_000)
	b.Run("steps=1000000", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.Usage(b.Context(), ws); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReport creates steps and reports their usage, from 64 callers at once: what one model
// call costs the server. B/step is the growth of the file per step.
func BenchmarkReport(b *testing.B) {
	w := newWorld(b)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	var live []uuid.UUID
	for i := range 64 {
		live = append(live, w.start(ws, fmt.Sprintf("user %d", i+1)).ID)
	}
	before := w.checkpointedSize(b)
	model, callers := "gpt-4o", atomic.Int64{}
	prompt, completion, took := int64(500), int64(100), int64(2_550)
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		run := live[callers.Add(1)%int64(len(live))]
		for pb.Next() {
			a, err := w.CreateStep(b.Context(), Caller{Workspace: ws}, run, NewStep{Type: 1, Sequence: 1, Model: &model}, guard.Decide)
			if err != nil || !a.Decision.Allowed() {
				b.Errorf("%+v, %v", a, err)
				return
			}
			s, err := w.UpdateStep(b.Context(), Caller{Workspace: ws}, run, a.ID, StepUpdate{
				Status: StepCompleted, DurationMillis: &took, PromptTokens: &prompt, CompletionTokens: &completion,
			})
			if err != nil || s.Cost == nil {
				b.Errorf("%+v, %v", s, err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
	b.ReportMetric(float64(w.checkpointedSize(b)-before)/float64(b.N), "B/step")
}

// checkpointedSize returns the size of the database in bytes, after a checkpoint.
func (w *world) checkpointedSize(b *testing.B) (size int64) {
	var busy, frames, checkpointed int
	w.must(w.conn().QueryRowContext(b.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &checkpointed))
	w.must(w.conn().QueryRowContext(b.Context(), `SELECT page_count * page_size FROM pragma_page_count, pragma_page_size`).Scan(&size))
	return size
}

// BenchmarkReprice re-prices a million steps, alone and beside 8 callers that create steps. It
// reports how long it takes, and how much it slows the callers down.
func BenchmarkReprice(b *testing.B) {
	for _, callers := range []int{0, 8} {
		b.Run(fmt.Sprint(callers, " callers"), func(b *testing.B) {
			w := newWorld(b)
			ws := w.unlimitedWorkspace()
			const steps = 1_000_000
			fill(b, w, ws, steps)
			w.price(ws, "gpt-4o", 5_000_000, 20_000_000)
			live := newCallers(b, w, ws, callers)
			before := live.during(func() { time.Sleep(2 * time.Second) })
			var out Repriced
			meanwhile := live.during(func() { out = w.reprice(ws, Repricing{}) })
			if out.Steps < steps {
				b.Fatalf("%d steps were re-priced", out.Steps)
			}
			b.ReportMetric(meanwhile.took.Seconds(), "s/reprice")
			if callers > 0 {
				b.ReportMetric(before.p99().Seconds()*1e3, "ms-p99-before")
				b.ReportMetric(meanwhile.p99().Seconds()*1e3, "ms-p99-meanwhile")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// callers create steps concurrently, each of them one step after another.
type callers struct {
	b    *testing.B
	w    *world
	ws   WorkspaceKey
	runs []uuid.UUID
}

// timings holds how long an interval took, and how long each call in it took.
type timings struct {
	took time.Duration
	each []time.Duration
}

func (c timings) p99() time.Duration {
	slices.Sort(c.each)
	return c.each[len(c.each)*99/100]
}

func newCallers(b *testing.B, w *world, ws WorkspaceKey, n int) *callers {
	c := &callers{b: b, w: w, ws: ws}
	for i := range n {
		c.runs = append(c.runs, w.start(ws, fmt.Sprint("caller ", i)).ID)
	}
	return c
}

// during runs fn while the callers create steps, and returns the timings of both.
func (c *callers) during(fn func()) (all timings) {
	var over atomic.Bool
	var wait sync.WaitGroup
	var mu sync.Mutex
	model := "gpt-4o"
	for _, run := range c.runs {
		wait.Go(func() {
			var mine []time.Duration
			for !over.Load() {
				began := time.Now()
				_, err := c.w.CreateStep(context.Background(), Caller{Workspace: c.ws}, run, NewStep{Type: ModelCall, Sequence: 1, Model: &model}, guard.Decide)
				if err != nil {
					c.b.Error(err)
					return
				}
				mine = append(mine, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			all.each = append(all.each, mine...)
		})
	}
	began := time.Now()
	fn()
	all.took = time.Since(began)
	over.Store(true)
	wait.Wait()
	return all
}

// BenchmarkStepWithPolicies is BenchmarkStepDecision in a workspace with policies of which none
// objects.
func BenchmarkStepWithPolicies(b *testing.B) {
	for _, c := range []struct {
		name        string
		n           int
		definitions []string
	}{
		{"none", 0, nil},
		{"limits=3", 1, []string{
			`{"limit":{"measure":"calls","per":"workspace","window":"day","amount":1000000000},"effect":"deny"}`,
			`{"limit":{"measure":"calls","per":"user","window":"hour","amount":1000000000},"effect":"deny"}`,
			`{"limit":{"measure":"tokens","per":"model","window":"week","amount":1000000000},"effect":"deny"}`,
		}},
		{"conditions=20", 20, []string{`{"when":"input.?amount.orValue(0.0) > 100.0 && model != 'other'","effect":"deny"}`}},
	} {
		w := newWorld(b)
		ws := w.unlimitedWorkspace()
		for i := range c.n {
			for k, definition := range c.definitions {
				p, err := policies.Parse(fmt.Sprintf("p%d-%d", i, k), []byte(definition))
				w.must(err)
				_, err = w.SavePolicy(b.Context(), ws, p)
				w.must(err)
			}
		}
		live := liveRuns(w, ws)
		b.Run(c.name, func(b *testing.B) {
			decideSteps(b, w, ws, live)
		})
	}
}

// BenchmarkPageOfPayloads reads a page of steps whose reports share blocks, in no order of theirs.
func BenchmarkPageOfPayloads(b *testing.B) {
	w := newWorld(b)
	ws := w.unlimitedWorkspace()
	const steps, blocks = 480, 96
	run, text := w.start(ws, "u").ID, strings.Repeat("some words of an answer, ", 12)
	ids, asked := make([]uuid.UUID, steps), make([]func() error, steps)
	for i := range ids {
		asked[i] = w.taking(ws, run, fmt.Appendf(nil, `{"n":%d,"said":"%s"}`, i, text), &ids[i])
	}
	for part := range slices.Chunk(asked, 40) {
		w.together(part...)
	}
	for block := range blocks {
		var all []func() error
		for i := block; i < steps; i += blocks {
			all = append(all, w.reporting(ws, run, ids[i], StepUpdate{OutputData: fmt.Appendf(nil, `"%d %s"`, i, text)}))
		}
		w.together(all...)
	}
	for b.Loop() {
		if d := w.detail(ws, run); len(d.Steps) != steps || d.Steps[steps-1].OutputData == nil {
			b.Fatalf("%d steps", len(d.Steps))
		}
	}
}
