package pikarc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// post sends a request by the middleware, as the libraries of OpenAI and Anthropic do, to
// a provider that answers with this text.
func post(ctx context.Context, c *Client, url, kind, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", kind)
	resp, err := c.Middleware(req, http.DefaultClient.Do)
	if err != nil {
		if resp == nil || resp.Header.Get("X-Should-Retry") != "false" {
			err = fmt.Errorf("tried again: %w", err)
		}
		return "", err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(iotest.OneByteReader(resp.Body))
	return string(content), err
}

// echo is a provider that answers with what it is told to.
func echo(t *testing.T, kind string, status int, answer func(asked string) string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		fmt.Fprint(w, answer(string(asked)))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func form(t *testing.T, names ...string) (kind, body string) {
	t.Helper()
	var out bytes.Buffer
	w := multipart.NewWriter(&out)
	for _, name := range names {
		if err := w.WriteField(name, "whisper-1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), out.String()
}

// Only what makes a model work is asked for, whatever form it has.
func TestTheMiddlewareAsksForWhatMakesAModelWork(t *testing.T) {
	const isJSON = "application/json"
	sound, withModel := form(t, "file", "model")
	none, withoutModel := form(t, "file")
	for _, c := range []struct {
		path, kind, body string
		steps            int
	}{
		{"/v1/chat/completions", isJSON, `{"model":"m"}`, 1},
		{"/v1/embeddings", isJSON, `{"model":"m"}`, 1},
		{"/v1/images/generations", isJSON, `{}`, 1},
		{"/v1/images/generations", isJSON, `no JSON`, 1},
		{"/v1/chat/completions", isJSON, `{"model":7}`, 1},
		{"/v1/audio/transcriptions", sound, withModel, 1},
		{"/v1/audio/transcriptions", none, withoutModel, 1},
		{"/v1/files", none, withoutModel, 0},
		{"/v1/messages/count_tokens", isJSON, `{"model":"m"}`, 0},
		{"/v1/vector_stores", isJSON, `{"name":"m"}`, 0},
		{"/v1/vector_stores", isJSON, ``, 0},
	} {
		t.Run(c.path+" "+c.body[:min(20, len(c.body))], func(t *testing.T) {
			b, client := newBooks(t)
			url := echo(t, isJSON, 200, func(asked string) string {
				if asked != c.body {
					t.Errorf("it was sent as %q", asked)
				}
				return `{"usage":{"prompt_tokens":7,"completion_tokens":5}}` + "\n"
			})
			err := client.Run(t.Context(), "ada", nil, func(ctx context.Context, _ *Run) error {
				got, err := post(ctx, client, url+c.path, c.kind, c.body)
				if !strings.HasPrefix(got, `{"usage"`) {
					t.Errorf("got %q", got)
				}
				return err
			})
			want := slices.Repeat([]string{`7 5 {"completion_tokens":5,"prompt_tokens":7}`}, c.steps)
			if err != nil || len(b.steps) != c.steps || !slices.Equal(b.used, want) {
				t.Errorf("%v, %v, %q", err, b.steps, b.used)
			}
			b.assertSettled(t)
		})
	}
}

// A stream is passed on as it came, but for the usage that was not asked for.
func TestTheMiddlewareReadsAStream(t *testing.T) {
	const counted = `data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}` + "\r\n\r\n"
	const text = `data: {"choices":[{"delta":"so"}],"usage":null}` + "\n\n"
	for name, c := range map[string]struct{ body, answer, want, sent, step string }{
		"usage is asked for": {
			`{"model":"m","stream":true,"stream_options":{"x":1},"n":1.50}`, ": hello\n\n" + text + counted + "data: [DONE]\n\n", ": hello\n\n" + text + "data: [DONE]\n\n",
			`{"model":"m","n":1.50,"stream":true,"stream_options":{"include_usage":true,"x":1}}`, "7 5",
		},
		"usage was asked for": {
			`{"model":"m","stream":true,"stream_options":{"include_usage":true}}`, text + counted, text + counted,
			`{"model":"m","stream":true,"stream_options":{"include_usage":true}}`, "7 5",
		},
		"no usage, no line break": {`{"model":"m","stream":true}`, text + "data: x", text + "data: x", `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`, "<nil> <nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			b, client := newBooks(t)
			url := echo(t, "text/event-stream; charset=utf-8", 200, func(asked string) string {
				if asked != c.sent {
					t.Errorf("it was sent as %s", asked)
				}
				return c.answer
			})
			err := client.Run(t.Context(), "ada", nil, func(ctx context.Context, _ *Run) error {
				got, err := post(ctx, client, url+"/v1/chat/completions", "application/json", c.body)
				if got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
				return err
			})
			if err != nil || len(b.used) != 1 || !strings.HasPrefix(b.used[0], c.step) {
				t.Errorf("%v, %q", err, b.used)
			}
		})
	}
}

func TestTheMiddlewareSettlesWhatFails(t *testing.T) {
	b, client := newBooks(t)
	refusing := echo(t, "application/json", 429, func(string) string { return "{}" })
	err := client.Run(t.Context(), "ada", nil, func(ctx context.Context, _ *Run) error {
		got, err := post(ctx, client, refusing+"/v1/messages", "application/json", `{"model":"m"}`)
		if got != "{}" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err = post(ctx, client, "http://127.0.0.1:9/v1/messages", "application/json", `{"model":"m"}`); err == nil {
			t.Error("nobody listens there")
		}
		func() {
			defer func() { _ = recover() }()
			req, _ := http.NewRequestWithContext(ctx, "POST", refusing, strings.NewReader(`{"model":"m"}`))
			_, _ = client.Middleware(req, func(*http.Request) (*http.Response, error) { panic("no") })
		}()
		req, _ := http.NewRequestWithContext(ctx, "POST", refusing, iotest.ErrReader(errBroken))
		_, err = client.Middleware(req, http.DefaultClient.Do)
		return err
	})
	got := []string{b.steps["id1"], b.steps["id2"][:7], b.steps["id3"]}
	want := []string{"FAILED the provider answers 429 Too Many Requests", "FAILED ", "FAILED panic"}
	if !errors.Is(err, errBroken) || !slices.Equal(got, want) || len(b.steps) != 3 {
		t.Errorf("%v, %q", err, b.steps)
	}
	b.assertSettled(t)
}

// Outside of a run, and while the server cannot be asked, nothing reaches the provider.
func TestTheMiddlewareFailsClosed(t *testing.T) {
	b, client := newBooks(t)
	url := echo(t, "application/json", 200, func(string) string { t.Error("the provider was asked"); return "{}" })
	if _, err := post(t.Context(), client, url, "application/json", `{"model":"m"}`); !errors.Is(err, ErrNoRun) {
		t.Errorf("outside of a run it ends with %v", err)
	}
	err := client.Run(t.Context(), "ada", nil, func(ctx context.Context, _ *Run) error {
		b.mu.Lock()
		b.down = true
		b.mu.Unlock()
		_, err := post(ctx, client, url, "application/json", `{"model":"m"}`)
		return err
	})
	if !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "tried again") {
		t.Errorf("without a server it ends with %v", err)
	}
}
