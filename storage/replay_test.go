package storage

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/policies"
)

// everything is a set that needs all there is.
func everything(t testing.TB) *policies.Set {
	set, err := policies.Compile([]policies.Policy{{
		Name: "all", Enabled: true, Effect: policies.Log, When: `has(input.a) || has(metadata.b) || has(tags.c)`,
	}, {
		Name: "loop", Enabled: true, Effect: policies.Log,
		Limit: &policies.Limit{Measure: policies.MeasureRepeats, Per: "run", Window: policies.WindowRun, Amount: 5},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// replayed writes the past of a workspace out, a line an event.
func (w *world) replayed(t testing.TB, ws WorkspaceKey, from, to time.Time, set *policies.Set) (lines []string) {
	began := noon().AddDate(0, 0, -3)
	err := w.Replay(t.Context(), ws, from, to, set, func(e *policies.Event) error {
		line := fmt.Sprintf("%v %s", e.At.Sub(began), e.User)
		if e.Start {
			line += " starts"
		} else {
			line += fmt.Sprintf(" %s tool=%s model=%s input=%.20s", e.Type, e.Tool, e.Model, e.Input)
		}
		if !e.BookedAt.IsZero() {
			line += fmt.Sprintf(" cost=%s tokens=%d booked=%v", e.Cost, e.Tokens, e.BookedAt.Sub(began))
		}
		if len(e.Tags) > 0 {
			line += fmt.Sprintf(" tags=%v metadata=%.20s", e.Tags, e.Metadata)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestThePastIsReplayedInTheOrderOfTime(t *testing.T) {
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 1_000_000, 1_000_000)
	began := noon().AddDate(0, 0, -3)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	model, tool, tokens := "gpt-4o", "search", int64(10)
	large := []byte(`{"a":"` + strings.Repeat("x", 2*largeReplayed) + `"}`)
	tags := []byte(`{"tags":{"agent":"b"}}`)
	never := func(guard.Request, guard.State) guard.Decision {
		return guard.Decision{Reason: guard.KillSwitchActive}
	}
	w.must(w.WriteBackfill(t.Context(), func(p Backfill) error {
		start := func(s int, ws WorkspaceKey, user string, decide Decider) uuid.UUID {
			a, err := p.StartRun(at(s), ws, NewRun{UserID: user, Metadata: tags}, decide)
			w.must(err)
			return a.ID
		}
		step := func(s int, ws WorkspaceKey, run uuid.UUID, in NewStep, decide Decider) uuid.UUID {
			a, err := p.CreateStep(at(s), ws, run, in, decide)
			w.must(err)
			return a.ID
		}
		// The later run is written first, so that segments and ids are not in the order of time.
		late := start(100, ws, "late", guard.Decide)
		step(110, ws, late, NewStep{Type: ToolCall, Sequence: 1, ToolName: &tool, InputData: large}, guard.Decide)
		early := start(0, ws, "early", guard.Decide)
		first := step(1, ws, early, NewStep{Type: ModelCall, Sequence: 1, Model: &model, InputData: []byte(`{"a":1}`)}, guard.Decide)
		step(2, ws, early, NewStep{Type: ToolCall, Sequence: 2, ToolName: &tool}, never)
		step(120, ws, early, NewStep{Type: ToolCall, Sequence: 3, ToolName: &tool}, guard.Decide)
		start(3, ws, "denied", never)
		step(5, other, start(4, other, "another", guard.Decide), NewStep{Type: ToolCall, Sequence: 1}, guard.Decide)
		return p.UpdateStep(at(50), ws, early, first, StepUpdate{Status: StepCompleted, PromptTokens: &tokens})
	}))
	const tagged = " tags=map[agent:b] metadata=" + `{"tags":{"agent":"b"`
	want := []string{
		"0s early starts" + tagged,
		`1s early MODEL_CALL tool= model=gpt-4o input={"a":1} cost=0.00001 tokens=10 booked=50s` + tagged,
		"1m40s late starts" + tagged,
		`1m50s late TOOL_CALL tool=search model= input={"a":"xxxxxxxxxxxxxx` + tagged,
		"2m0s early TOOL_CALL tool=search model= input=" + tagged,
	}
	if diff := cmp.Diff(want, w.replayed(t, ws, at(0), at(121), everything(t))); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff(want[2:4], w.replayed(t, ws, at(100), at(120), everything(t))); diff != "" {
		t.Errorf("a part: -want +got\n%s", diff)
	}
	nothing, err := policies.Compile(nil)
	w.must(err)
	bare := w.replayed(t, ws, at(0), at(121), nothing)
	if len(bare) != len(want) || strings.Contains(strings.Join(bare, ""), "xx") || strings.Contains(bare[0], "tags") {
		t.Errorf("policies that need nothing get %v", bare)
	}
	broken := errors.New("broken")
	err = w.Replay(t.Context(), ws, at(0), at(121), nothing, func(*policies.Event) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("a failure of the caller's: %v", err)
	}
}

// Steps of many segments, which overlap in time, come in order all the same.
func TestManySegmentsAreReplayedInOrder(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	began := noon().AddDate(0, 0, -3)
	const runs, steps = 3, 2 * segmentSteps
	w.must(w.WriteBackfill(t.Context(), func(p Backfill) error {
		for r := range runs { // run by run, each over the same hours
			run, err := p.StartRun(began.Add(time.Duration(r)*time.Millisecond), ws, NewRun{UserID: "u"}, guard.Decide)
			if err != nil {
				return err
			}
			for i := range steps {
				at := began.Add(time.Duration(i) * time.Second)
				if _, err := p.CreateStep(at.Add(time.Second), ws, run.ID, NewStep{Type: ToolCall, Sequence: 1}, guard.Decide); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	var last time.Time
	count := 0
	err := w.Replay(t.Context(), ws, began, noon(), everything(t), func(e *policies.Event) error {
		if e.At.Before(last) {
			t.Fatalf("%v after %v", e.At, last)
		}
		last = e.At
		count++
		return nil
	})
	if err != nil || count != runs*(steps+1) {
		t.Errorf("%d events, %v", count, err)
	}
}

// BenchmarkBacktest replays a million steps: -benchtime 1x, and not in a second.
func BenchmarkBacktest(b *testing.B) {
	const steps = 1_000_000
	w := newWorld(b)
	ws := w.unlimitedWorkspace()
	fill(b, w, ws, steps)
	// As they would lie had they been asked for one after another.
	_, err := w.otherProcess.ExecContext(b.Context(), `UPDATE steps SET segment = run_id / 5 + 1;
		UPDATE run_segments SET segment = run_id / 5 + 1`)
	w.must(err)
	set, err := policies.Compile(append(policies.Ready(), policies.Policy{
		Name: "calls", Enabled: true, Effect: policies.Deny, When: `run.spent_usd < usd(5)`,
		Limit: &policies.Limit{Measure: policies.MeasureTokens, Per: "user", Window: policies.WindowDay, Amount: 1_000_000},
	}))
	w.must(err)
	for b.Loop() {
		test := policies.NewBacktest(set, time.UTC, time.Monday, noon().AddDate(0, 0, -31))
		err := w.Replay(b.Context(), ws, noon().AddDate(0, 0, -31), noon().AddDate(0, 0, 1), set,
			func(e *policies.Event) error { return test.Add(b.Context(), e) })
		w.must(err)
		if r := test.Result(); r.Steps+r.Denied < steps*9/10 {
			b.Fatalf("%+v", r)
		}
	}
}
