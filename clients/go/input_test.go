package pikarc

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
)

type silent struct{}

func (*silent) MarshalJSON() ([]byte, error) { panic("no") }
func (*silent) Error() string                { panic("no") }
func (*silent) Tokens() (int64, int64)       { panic("no") }

type node struct{ Next, Other *node }

func ring() *node {
	n := &node{}
	n.Next, n.Other = n, n
	return n
}

func descriptions() map[string]any {
	itself := map[string]any{"a": 1}
	itself["itself"] = itself
	list := []any{1}
	list[0] = list
	return map[string]any{
		"nothing": nil, "function": func() {}, "channel in a map": map[string]any{"c": make(chan int)}, "NUL": "a\x00b",
		"no UTF-8": "\xff", "not a number": math.NaN(), "infinite": map[string]float64{"loss": math.Inf(1)},
		"a method that panics": &silent{}, "one within": map[string]any{"s": &silent{}, "ok": 1},
		"a ring": ring(), "a map of itself": itself, "a list of itself": list, "odd keys": map[any]any{1: 2, "a": 3, 1.5: 4},
	}
}

// Whatever it describes, an agent goes on: its call is made, its step is settled,
// and it gets what its function returned.
func TestAnAgentLivesWhateverItDescribes(t *testing.T) {
	for name, described := range descriptions() {
		t.Run(name, func(t *testing.T) {
			b, c := newBooks(t)
			err := c.Run(t.Context(), "ada", map[string]any{"m": described}, func(ctx context.Context, run *Run) error {
				if _, err := ModelCall(ctx, run, "m", described, func(context.Context) (any, error) { return described, nil }); err != nil {
					return err
				}
				_, err := ToolCall(ctx, run, "t", described, func(context.Context) (any, error) { return described, errors.New("a\x00b") })
				return err
			})
			if err == nil || err.Error() != "a\x00b" || len(b.steps) != 2 {
				t.Errorf("%v after %d steps", err, len(b.steps))
			}
			b.assertSettled(t)
		})
	}
}

func TestAToolResultOf50MB(t *testing.T) {
	b, c := newBooks(t)
	huge := strings.Repeat("x", 50_000_000)
	err := c.Run(t.Context(), "ada", nil, func(ctx context.Context, run *Run) error {
		got, err := ToolCall(ctx, run, "t", obj{"page": huge}, func(context.Context) (string, error) { return huge, nil })
		if got != huge {
			t.Error("it is not what came")
		}
		return err
	})
	if err != nil || b.steps["id1"] != "COMPLETED <nil>" || b.largest > 8<<20 {
		t.Errorf("%v, the step is %s, the largest request %d bytes", err, b.steps["id1"], b.largest)
	}
}

func TestOneBadPartCostsNoOther(t *testing.T) {
	if got := string(encode(map[string]any{"f": func() {}, "list": []any{1, math.NaN()}, "s": &silent{}})); got != `{"f":"(func())","list":[1,"NaN"],"s":{}}` {
		t.Error(got)
	}
}

// A step fails with whatever error, and the caller gets it as it is.
func TestAnErrorOfAnyText(t *testing.T) {
	for want, err := range map[string]error{
		"FAILED a\x00b": errors.New("a\x00b"), "FAILED (*pikarc.silent)": (*silent)(nil),
		"FAILED " + strings.Repeat("x", 10_000): errors.New(strings.Repeat("x", 1_000_000)),
	} {
		b, c := newBooks(t)
		got := c.Run(t.Context(), "ada", nil, func(ctx context.Context, run *Run) error {
			_, err := ToolCall(ctx, run, "t", nil, func(context.Context) (int, error) { return 0, err })
			return err
		})
		if got != err || b.steps["id1"] != want {
			t.Errorf("the step is %.100q", b.steps["id1"])
		}
	}
}

// A result that cannot say what it used loses nothing but that.
func TestUsageThatPanics(t *testing.T) {
	b, c := newBooks(t)
	err := c.Run(t.Context(), "ada", nil, func(ctx context.Context, run *Run) error {
		_, err := ModelCall(ctx, run, "m", nil, func(context.Context) (*silent, error) { return &silent{}, nil })
		return err
	})
	if err != nil || b.steps["id1"] != "COMPLETED <nil>" {
		t.Errorf("%v, %s", err, b.steps["id1"])
	}
}

func TestRetryAfterIsObeyedWithinABound(t *testing.T) {
	for said, want := range map[string]time.Duration{
		"7": 7 * time.Second, "0.5": time.Second / 2, "3600": longestWait, "inf": longestWait, "-1": 0, "nan": 0, "soon": 0, "": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {said}}); got != want {
			t.Errorf("%q is %v, want %v", said, got, want)
		}
	}
	date := time.Now().Add(10 * time.Second).UTC().Format(http.TimeFormat)
	if got := retryAfter(http.Header{"Retry-After": {date}}); got < 8*time.Second || got > 10*time.Second {
		t.Errorf("a date is %v", got)
	}
}
