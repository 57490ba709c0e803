package pikarc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

type obj = map[string]any

var errBroken = errors.New("broken")

// part is one chunk of a stream, or what it breaks with.
type part struct {
	chunk obj
	err   error
}

func streamOf(parts ...part) func(context.Context) (Chunks[obj], error) {
	return func(context.Context) (Chunks[obj], error) {
		return ChunksOf(func(yield func(obj, error) bool) {
			for _, p := range parts {
				if !yield(p.chunk, p.err) {
					return
				}
			}
		}), nil
	}
}

var (
	text1 = part{chunk: obj{"choices": []any{obj{"delta": "so"}}, "usage": nil}}
	usage = part{chunk: obj{"choices": []any{}, "usage": obj{"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": obj{"cached_tokens": 3}}}}
	begin = part{chunk: obj{"type": "message_start", "message": obj{"usage": obj{"input_tokens": 4, "cache_read_input_tokens": 3, "output_tokens": 1}}}}
	delta = part{chunk: obj{"type": "message_delta", "usage": obj{"output_tokens": 5}}}
)

// A stream's step is settled once, with the usage that it says, or what came of it.
func TestAStreamIsSettledOnceHoweverItEnds(t *testing.T) {
	for _, c := range []struct {
		name   string
		parts  []part
		most   int // chunks read
		status string
		used   string
	}{
		{"to its end", []part{text1, text1, usage}, 9, "COMPLETED <nil>",
			`7 5 {"completion_tokens":5,"prompt_tokens":7,"prompt_tokens_details":{"cached_tokens":3}}`},
		{"Anthropic's", []part{begin, text1, delta}, 9, "COMPLETED <nil>",
			`7 5 {"cache_read_input_tokens":3,"input_tokens":4,"output_tokens":5}`},
		{"without usage", []part{text1}, 9, "COMPLETED <nil>", `<nil> <nil> null`},
		{"left early", []part{text1, text1, usage}, 1, "COMPLETED <nil>", `<nil> 1 null`},
		{"left with what it had said", []part{begin, text1, delta}, 2, "COMPLETED <nil>",
			`7 1 {"cache_read_input_tokens":3,"input_tokens":4,"output_tokens":1}`},
		{"broken", []part{text1, text1, {err: errBroken}}, 9, "FAILED broken", `<nil> 2 null`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, client := newBooks(t)
			var seen []obj
			err := client.Run(t.Context(), "ada", nil, func(ctx context.Context, run *Run) error {
				stream, err := ModelStream(ctx, run, "m", nil, streamOf(c.parts...))
				if err != nil {
					return err
				}
				defer stream.Close()
				for len(seen) < c.most && stream.Next() {
					seen = append(seen, stream.Current())
				}
				return stream.Err()
			})
			if broken := c.status == "FAILED broken"; errors.Is(err, errBroken) != broken || err != nil && !broken {
				t.Errorf("got %v", err)
			}
			if !slices.Equal(b.used, []string{c.used}) || b.steps["id1"] != c.status {
				t.Errorf("the step is %s with %q", b.steps["id1"], b.used)
			}
			if got := fmt.Sprint(seen[0]); got != fmt.Sprint(c.parts[0].chunk) {
				t.Errorf("a chunk became %s", got)
			}
			b.assertSettled(t)
		})
	}
}

func TestAStreamIsAnIterator(t *testing.T) {
	b, client := newBooks(t)
	var errs []error
	err := client.Run(t.Context(), "ada", nil, func(ctx context.Context, run *Run) error {
		for _, parts := range [][]part{{text1, text1}, {text1, {err: errBroken}}} {
			stream, err := ModelStream(ctx, run, "m", nil, streamOf(parts...))
			if err != nil {
				return err
			}
			for _, err := range stream.All() {
				errs = append(errs, err)
			}
		}
		return nil
	})
	if err != nil || !slices.Equal(errs, []error{nil, nil, nil, errBroken}) || len(b.used) != 2 {
		t.Errorf("%v, %v, %v", err, errs, b.used)
	}
}

// Whatever becomes of a stream, its step and its run end.
func TestAStreamThatIsNotReadToItsEnd(t *testing.T) {
	never := func(ctx context.Context) (Chunks[obj], error) {
		return ChunksOf(func(yield func(obj, error) bool) {
			if yield(text1.chunk, nil) {
				<-ctx.Done()
				yield(nil, ctx.Err())
			}
		}), nil
	}
	panics := func(context.Context) (Chunks[obj], error) {
		return ChunksOf(func(func(obj, error) bool) { panic("no") }), nil
	}
	for _, c := range []struct {
		name, step, run string
		fn              func(context.Context) (Chunks[obj], error)
		read            func(cancel func(), stream *Stream[obj])
	}{
		{"forgotten", "COMPLETED <nil>", "COMPLETED", streamOf(text1), func(func(), *Stream[obj]) {}},
		{"cancelled between chunks", "FAILED cancelled", "FAILED", never, func(cancel func(), s *Stream[obj]) {
			s.Next()
			cancel()
			s.Next()
		}},
		{"cancelled and closed", "FAILED cancelled", "FAILED", never, func(cancel func(), s *Stream[obj]) {
			s.Next()
			cancel()
			s.Close()
		}},
		{"panics", "FAILED panic", "FAILED", panics, func(_ func(), s *Stream[obj]) { s.Next() }},
		{"does not begin", "FAILED broken", "FAILED", func(context.Context) (Chunks[obj], error) { return nil, errBroken }, nil},
		{"does not begin, and panics", "FAILED panic", "FAILED", func(context.Context) (Chunks[obj], error) { panic("no") }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func() {
				if problem := recover(); problem != nil && problem != "no" {
					panic(problem)
				}
			}()
			b, client := newBooks(t)
			defer func() {
				if b.steps["id1"] != c.step || b.runs["id0"] != c.run || len(b.used) != 1 {
					t.Errorf("the step is %s, the run %s, %q", b.steps["id1"], b.runs["id0"], b.used)
				}
			}()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_ = client.Run(ctx, "ada", nil, func(ctx context.Context, run *Run) error {
				stream, err := ModelStream(ctx, run, "m", nil, c.fn)
				if err != nil {
					return err
				}
				c.read(cancel, stream)
				return ctx.Err()
			})
		})
	}
}

// raw is an answer as the libraries of OpenAI and Anthropic have them: with zeros for
// what was not there, beside the text that came.
type raw struct {
	Usage struct {
		PromptTokens int64 `json:"prompt_tokens"`
	} `json:"usage"`
	text string
}

func (r raw) RawJSON() string { return r.text }

func TestUsageIsReadFromWhatTheProviderSent(t *testing.T) {
	b, client := newBooks(t)
	err := client.Run(t.Context(), "ada", nil, func(ctx context.Context, run *Run) error {
		_, err := ModelCall(ctx, run, "m", nil, func(context.Context) (raw, error) { return raw{text: `{"id":"x"}`}, nil })
		if err != nil {
			return err
		}
		_, err = ModelCall(ctx, run, "m", nil, func(context.Context) (raw, error) {
			return raw{text: `{"model":"m-1","usage":{"prompt_tokens":7,"completion_tokens":5}}`}, nil
		})
		return err
	})
	want := []string{`<nil> <nil> null`, `7 5 {"completion_tokens":5,"prompt_tokens":7}`}
	if err != nil || !slices.Equal(b.used, want) {
		t.Errorf("%v, %q", err, b.used)
	}
}
