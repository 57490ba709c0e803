package adapters_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"

	pikarc "github.com/pikarc/server/clients/go"
)

const model = "asked-model"

// clients are those of OpenAI and Anthropic, guarded unless guard is nil.
type clients struct {
	openai    openai.Client
	anthropic anthropic.Client
}

func newClients(p *provider, guard *pikarc.Client) *clients {
	o := []option.RequestOption{option.WithAPIKey("k"), option.WithBaseURL(p.URL)}
	a := []anthropicoption.RequestOption{anthropicoption.WithAPIKey("k"), anthropicoption.WithBaseURL(p.URL)}
	if guard != nil {
		o = append(o, option.WithMiddleware(guard.Middleware))
		a = append(a, anthropicoption.WithMiddleware(guard.Middleware))
	}
	return &clients{openai.NewClient(o...), anthropic.NewClient(a...)}
}

func chat(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("go")}}
}

func answer(model string) responses.ResponseNewParams {
	return responses.ResponseNewParams{Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("go")}}
}

func say(model string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: anthropic.Model(model), MaxTokens: 9,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("go"))},
	}
}

// stream is what all streams of the two libraries have.
type stream interface {
	Next() bool
	Err() error
	Close() error
}

var calls = map[string]func(context.Context, *clients) (any, error){
	"chat completions": func(ctx context.Context, c *clients) (any, error) {
		return c.openai.Chat.Completions.New(ctx, chat(model))
	},
	"responses": func(ctx context.Context, c *clients) (any, error) { return c.openai.Responses.New(ctx, answer(model)) },
	"messages":  func(ctx context.Context, c *clients) (any, error) { return c.anthropic.Messages.New(ctx, say(model)) },
}

var streaming = map[string]func(ctx context.Context, c *clients, model string) stream{
	"chat completions": func(ctx context.Context, c *clients, model string) stream {
		return c.openai.Chat.Completions.NewStreaming(ctx, chat(model))
	},
	"responses": func(ctx context.Context, c *clients, model string) stream {
		return c.openai.Responses.NewStreaming(ctx, answer(model))
	},
	"messages": func(ctx context.Context, c *clients, model string) stream {
		return c.anthropic.Messages.NewStreaming(ctx, say(model))
	},
}

// all reads a stream's chunks, as they came.
func all(s stream) (chunks []string, err error) {
	for s.Next() {
		current := reflect.ValueOf(s).MethodByName("Current").Call(nil)[0].Interface()
		chunks = append(chunks, current.(interface{ RawJSON() string }).RawJSON())
	}
	return chunks, s.Err()
}

// within runs an agent, and returns its steps and what it ended with.
func within(t *testing.T, s *server, guard *pikarc.Client, agent func(context.Context) error) ([]step, error) {
	t.Helper()
	var id string
	err := guard.Run(t.Context(), "ada", nil, func(ctx context.Context, run *pikarc.Run) error {
		id = run.ID()
		return agent(ctx)
	})
	return s.steps(t, id), err
}

var exact = []step{{Status: "COMPLETED", Model: "served-model", Prompt: 7, Completion: 5, Cached: 3, Reasoning: 2}}

func TestAnAnswerIsPassedOnAndBookedAsTheProviderCountedIt(t *testing.T) {
	s, p := serve(t), newProvider(t)
	guard := s.guard(t)
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			steps, err := within(t, s, guard, func(ctx context.Context) error {
				got, err := call(ctx, newClients(p, guard))
				if err == nil && !strings.Contains(got.(interface{ RawJSON() string }).RawJSON(), `"so"`) {
					t.Errorf("got %v", got)
				}
				return err
			})
			if err != nil || !slices.Equal(steps, exact) {
				t.Errorf("%v, %+v", err, steps)
			}
		})
	}
}

func TestAStreamIsPassedOnUntouchedAndBookedAsTheProviderCountedIt(t *testing.T) {
	s, p := serve(t), newProvider(t)
	guard := s.guard(t)
	for name, start := range streaming {
		t.Run(name, func(t *testing.T) {
			bare, err := all(start(t.Context(), newClients(p, nil), model))
			if err != nil || len(bare) < 2 {
				t.Fatalf("without a guard it has %q, %v", bare, err)
			}
			steps, err := within(t, s, guard, func(ctx context.Context) error {
				got, err := all(start(ctx, newClients(p, guard), model))
				if !slices.Equal(got, bare) {
					t.Errorf("got %q, want %q", got, bare)
				}
				return err
			})
			if err != nil || !slices.Equal(steps, exact) {
				t.Errorf("%v, %+v", err, steps)
			}
		})
	}
}

func TestAStreamThatIsLeftOrBreaksIsSettledWithWhatCame(t *testing.T) {
	s, p := serve(t), newProvider(t)
	guard := s.guard(t)
	for name, start := range streaming {
		t.Run(name, func(t *testing.T) {
			steps, err := within(t, s, guard, func(ctx context.Context) error {
				left := start(ctx, newClients(p, guard), model)
				left.Next()
				if err := left.Close(); err != nil {
					return err
				}
				if _, err := all(start(ctx, newClients(p, guard), "breaks")); err == nil {
					t.Error("it has not broken")
				}
				return nil
			})
			if err != nil || len(steps) != 2 || steps[0].Status != "COMPLETED" || steps[1].Status != "FAILED" {
				t.Fatalf("%v, %+v", err, steps)
			}
			for _, step := range steps {
				if step.Completion != 1 {
					t.Errorf("%+v", step)
				}
			}
		})
	}
}

func TestADenialIsReturnedOnceAndNeverReachesTheProvider(t *testing.T) {
	s, p := serve(t), newProvider(t)
	guard := s.guard(t)
	deny := func(t *testing.T, call func(context.Context) error) {
		before := len(p.requests())
		steps, err := within(t, s, guard, func(ctx context.Context) error {
			s.killSwitch(t, true)
			defer s.killSwitch(t, false)
			return call(ctx)
		})
		var blocked *pikarc.BlockedError
		if !errors.As(err, &blocked) || blocked.Reason != "KILL_SWITCH_ACTIVE" {
			t.Errorf("it ends with %v", err)
		}
		if len(steps) != 1 || steps[0].Status != "BLOCKED" || len(p.requests()) != before {
			t.Errorf("%+v, the provider was asked %v", steps, p.requests()[before:])
		}
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			deny(t, func(ctx context.Context) error { _, err := call(ctx, newClients(p, guard)); return err })
		})
	}
	for name, start := range streaming {
		t.Run(name+", streamed", func(t *testing.T) {
			deny(t, func(ctx context.Context) error { _, err := all(start(ctx, newClients(p, guard), model)); return err })
		})
	}
}

func TestTroubleWithTheGuardStopsTheCall(t *testing.T) {
	s, p := serve(t), newProvider(t)
	down := s.guard(t, pikarc.WithBaseURL("http://127.0.0.1:9"), pikarc.WithMaxRetries(0))
	_, err := newClients(p, down).openai.Chat.Completions.New(t.Context(), chat(model))
	if !errors.Is(err, pikarc.ErrNoRun) {
		t.Errorf("outside of a run it ends with %v", err)
	}
	err = s.guard(t).Run(t.Context(), "ada", nil, func(ctx context.Context, _ *pikarc.Run) error {
		_, err := newClients(p, down).openai.Chat.Completions.New(ctx, chat(model))
		return err
	})
	if !errors.Is(err, pikarc.ErrNoRun) || len(p.requests()) > 0 {
		t.Errorf("it ends with %v, the provider was asked %v", err, p.requests())
	}
}

// What the library tries again is another call.
func TestEachAttemptIsACallOfItsOwn(t *testing.T) {
	s, p := serve(t), newProvider(t)
	guard := s.guard(t)
	p.fails = 1
	steps, err := within(t, s, guard, func(ctx context.Context) error {
		_, err := newClients(p, guard).anthropic.Messages.New(ctx, say(model))
		return err
	})
	if err != nil || len(steps) != 2 || steps[0].Status != "FAILED" || !slices.Equal(steps[1:], exact) {
		t.Errorf("%v, %+v", err, steps)
	}
}

func TestWhateverElseMakesAModelWorkIsAskedFor(t *testing.T) {
	s, p := serve(t), newProvider(t)
	guard := s.guard(t)
	steps, err := within(t, s, guard, func(ctx context.Context) error {
		c := newClients(p, guard)
		_, err := c.openai.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: model, Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("go")}})
		if err != nil {
			return err
		}
		file := openai.File(strings.NewReader("sound"), "a.wav", "audio/wav")
		if _, err = c.openai.Audio.Transcriptions.New(ctx, openai.AudioTranscriptionNewParams{Model: model, File: file}); err != nil {
			return err
		}
		if _, err = c.openai.Models.List(ctx); err != nil {
			return err
		}
		_, err = c.anthropic.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{Model: model, Messages: say(model).Messages})
		return err
	})
	want := []step{{Status: "COMPLETED", Model: "served-model", Prompt: 7}, {Status: "COMPLETED", Model: model, Prompt: 7, Completion: 5}}
	if err != nil || !slices.Equal(steps, want) {
		t.Errorf("%v, %+v", err, steps)
	}
}

// A stream that asks for its usage itself gets it, and its other wishes and numbers stay as they are.
func TestARequestIsSentAsItIs(t *testing.T) {
	s, p := serve(t), newProvider(t)
	guard := s.guard(t)
	asked := chat(model)
	asked.Seed = openai.Int(1<<60 + 1)
	own := chat(model)
	own.StreamOptions.IncludeUsage = openai.Bool(true)
	steps, err := within(t, s, guard, func(ctx context.Context) error {
		c := newClients(p, guard)
		if _, err := all(c.openai.Chat.Completions.NewStreaming(ctx, asked)); err != nil {
			return err
		}
		chunks, err := all(c.openai.Chat.Completions.NewStreaming(ctx, own))
		if last := chunks[len(chunks)-1]; !strings.Contains(last, "cached_tokens") {
			t.Errorf("the last chunk is %s", last)
		}
		return err
	})
	if err != nil || !slices.Equal(steps, append(exact, exact...)) {
		t.Errorf("%v, %+v", err, steps)
	}
	sent := p.requests()[0]
	options, _ := json.Marshal(sent["stream_options"])
	if string(options) != `{"include_usage":true}` || sent["messages"] == nil || sent["seed"] != float64(1<<60+1) {
		t.Errorf("it was sent as %v", sent)
	}
}
