package pikarc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestFunctionsAreGuardedWithinTheRunAroundThem(t *testing.T) {
	b, c := newBooks(t)
	others, other := newBooks(t)
	other, err := other.WithOptions(WithAPIKey("lg_other"))
	if err != nil {
		t.Fatal(err)
	}
	add := Tool(c, "add", func(_ context.Context, n int) (int, error) { return n + 1, nil })
	ask := Model(c, "m", func(context.Context, string) (obj, error) { return usage.chunk, nil })
	if _, err := add(t.Context(), 1); !errors.Is(err, ErrNoRun) {
		t.Errorf("outside of a run: %v", err)
	}
	var kept context.Context
	err = c.Run(t.Context(), "ada", nil, func(ctx context.Context, run *Run) error {
		kept = ctx
		if got, err := add(ctx, 1); got != 2 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
		return other.Run(ctx, "bob", nil, func(ctx context.Context, _ *Run) error {
			_, err := ask(ctx, "who?")
			return err
		})
	})
	if err != nil || len(b.steps) != 2 || len(others.steps) != 0 {
		t.Errorf("%v, %v, %v", err, b.steps, others.steps)
	}
	if _, err := add(kept, 1); !errors.Is(err, ErrNoRun) || len(b.steps) != 2 {
		t.Errorf("after its run: %v", err)
	}
}

func TestARunInsideAnotherCarriesItsID(t *testing.T) {
	b, c := newBooks(t)
	nothing := func(context.Context, *Run) error { return nil }
	given := map[string]any{"a": 1}
	err := c.Run(t.Context(), "ada", nil, func(ctx context.Context, outer *Run) error {
		return errors.Join(c.Run(ctx, "ada", nil, nothing), c.Run(ctx, "ada", given, nothing))
	})
	got := fmt.Sprint(b.facts["id0"], b.facts["id1"], b.facts["id2"], given)
	if want := "<nil> map[parent_run_id:id0] map[a:1 parent_run_id:id0] map[a:1]"; err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
}

func TestOptionsOfACall(t *testing.T) {
	b, c := newBooks(t)
	quick, err := c.WithOptions(WithOnUnavailable(Open), WithTimeout(time.Second))
	if err != nil || quick.journal != c.journal || quick.http != c.http {
		t.Fatal("the journal or the connections are others", err)
	}
	b.down = true
	nothing := func(context.Context, *Run) error { return nil }
	if err := quick.Run(t.Context(), "ada", nil, nothing); err != nil {
		t.Error(err)
	}
	if err := c.Run(t.Context(), "ada", nil, nothing); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := c.WithOptions(WithTimeout(-1)); err == nil {
		t.Error("a wrong setting is taken")
	}
	if other, err := c.WithOptions(WithAPIKey("lg_other")); err != nil || other.journal.owner == c.journal.owner {
		t.Error("reports of another key are kept together", err)
	}
}

func TestAStepThatAnotherEnds(t *testing.T) {
	b, c := newBooks(t)
	err := c.Run(t.Context(), "ada", nil, func(ctx context.Context, run *Run) error {
		one, err := run.BeginModelCall(ctx, "m", nil)
		if err != nil {
			return err
		}
		one.Complete(usage.chunk)
		one.Fail(errBroken)
		two, err := run.BeginToolCall(ctx, "t", nil)
		if err != nil {
			return err
		}
		two.Fail(errBroken)
		_, err = run.BeginToolCall(ctx, "forgotten", nil)
		return err
	})
	got := fmt.Sprint(b.steps["id1"], "; ", b.steps["id2"], "; ", b.steps["id3"])
	if want := "COMPLETED <nil>; FAILED broken; FAILED " + ErrNotReported.Error(); err != nil || got != want || len(b.used) != 3 {
		t.Errorf("%s, %v", got, err)
	}
}

// A call that is cancelled while a person is asked for is settled.
func TestCancelledWhileAPersonIsAskedFor(t *testing.T) {
	b := emptyBooks()
	ctx, cancel := context.WithCancel(t.Context())
	mux := http.NewServeMux()
	mux.Handle("/", b)
	mux.HandleFunc("POST /v1/runs/{id}/steps", func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.steps["s"] = "RUNNING"
		fmt.Fprint(w, `{"id":"s","decision":{"outcome":"REVIEW"},"review_id":"r"}`)
	})
	mux.HandleFunc("GET /v1/reviews/r", func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	c, err := New(WithAPIKey("lg_test"), WithBaseURL(server.URL), WithJournalDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if err := agent(ctx, c, func() { t.Error("called") }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if b.steps["s"] != "FAILED cancelled" || b.runs["id0"] != "FAILED" {
		t.Errorf("the step is %s, the run %s", b.steps["s"], b.runs["id0"])
	}
}
