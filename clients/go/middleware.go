package pikarc

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// maxRequest is the size of the largest request to a provider that is looked at, in bytes.
const maxRequest = 256 << 20

var (
	// Paths without a model's name in the body that make one work all the same.
	works = regexp.MustCompile(`/(batches|threads/runs|threads/[^/]+/runs(/[^/]+/submit_tool_outputs)?|evals/[^/]+/runs` +
		`|graders/run|videos(/.*)?|images/[a-z]+|audio/(speech|transcriptions|translations)|realtime/.*)$`)
	// Paths with a model's name that cost nothing, and calls off.
	free = regexp.MustCompile(`/(count_tokens|input_tokens|moderations|cancel|archive|assistants(/[^/]+)?|agents(/[^/]+)?)$`)
)

// Middleware guards the clients of OpenAI's and Anthropic's libraries, within the run
// around the context of each call:
//
//	client := openai.NewClient(option.WithMiddleware(guard.Middleware))
//
// Every request that makes a model work is a call of its own, also one that the library
// tries again. Answers and streams are passed on untouched, and settled with what they say
// of their usage. A denial is returned as a *[BlockedError], and is not tried again.
func (c *Client) Middleware(req *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	if req.Method != http.MethodPost || free.MatchString(req.URL.Path) {
		return next(req)
	}
	body, err := takeBody(req)
	if err != nil {
		return refused(err)
	}
	asked, model := readRequest(req, body)
	// Calls without a model, such as lists of files, cost nothing and are not guarded.
	if model == "" {
		return next(req)
	}
	run, err := c.Current(req.Context())
	if err != nil {
		return refused(err)
	}
	var input any
	if asked != nil {
		input = json.RawMessage(body)
	}
	step, err := run.begin(req.Context(), modelCall(model), input, asked["stream"] == true)
	if err != nil {
		return refused(err)
	}
	defer func() { // of a panic alone: after it, nobody reads the answer
		if problem := recover(); problem != nil {
			step.Fail(errPanic)
			panic(problem)
		}
	}()
	// A provider reports a stream's usage only if it is asked to.
	unasked := askForUsage(req, asked)
	resp, err := next(req)
	switch {
	case err != nil:
		step.Fail(err)
	case resp.StatusCode >= http.StatusBadRequest:
		step.Fail(fmt.Errorf("the provider answers %s", resp.Status))
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"):
		resp.Body = &meteredStream{body: resp.Body, lines: bufio.NewReader(resp.Body), step: step, unasked: unasked}
	default:
		resp.Body = &meteredAnswer{body: resp.Body, step: step}
	}
	return resp, err
}

// refused is the end of a call that may not be made. The libraries try again where there is
// no response, and heed what a response says of that even beside an error.
func refused(err error) (*http.Response, error) {
	header := http.Header{"X-Should-Retry": {"false"}}
	return &http.Response{StatusCode: http.StatusForbidden, Header: header, Body: http.NoBody}, err
}

// takeBody reads a request's body, and leaves it to be sent.
func takeBody(req *http.Request) ([]byte, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxRequest+1))
	if err == nil {
		err = req.Body.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("pikarc: the request cannot be read, and is not sent: %w", err)
	}
	if len(body) > maxRequest {
		return nil, fmt.Errorf("pikarc: the request is larger than %d MiB, and is not sent", maxRequest>>20)
	}
	setBody(req, body)
	return body, nil
}

// setBody replaces a request's body so that it can be sent again after a redirect.
func setBody(req *http.Request, body []byte) {
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req.Body, _ = req.GetBody()
	req.ContentLength = int64(len(body))
}

// readRequest returns a request's members, if it has any, and the name of the model that it
// makes work, or "" where it makes none.
func readRequest(req *http.Request, body []byte) (asked map[string]any, model string) {
	kind, options, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if strings.HasPrefix(kind, "multipart/") {
		model = modelPart(multipart.NewReader(bytes.NewReader(body), options["boundary"]))
	} else if json.Unmarshal(body, &asked) == nil {
		model, _ = asked["model"].(string)
	}
	if _, named := asked["model"]; model == "" && (named || works.MatchString(req.URL.Path)) {
		model = strings.Trim(req.URL.Path, "/")
	}
	return asked, model
}

// modelPart returns the part of a form that names the model; "" if none does.
func modelPart(form *multipart.Reader) string {
	for {
		part, err := form.NextPart()
		if err != nil {
			return ""
		}
		if part.FormName() == "model" {
			name, _ := io.ReadAll(io.LimitReader(part, 1000))
			return string(name)
		}
	}
}

// askForUsage makes a stream of chat completions tell its usage, and reports whether it
// would not have.
func askForUsage(req *http.Request, asked map[string]any) bool {
	wishes, _ := asked["stream_options"].(map[string]any)
	if asked["stream"] != true || !strings.HasSuffix(req.URL.Path, "/completions") || wishes["include_usage"] == true {
		return false
	}
	var members map[string]json.RawMessage // numbers keep their digits
	body, err := io.ReadAll(req.Body)
	if err != nil || json.Unmarshal(body, &members) != nil {
		return false
	}
	more := map[string]any{"include_usage": true}
	for name, value := range wishes {
		if name != "include_usage" {
			more[name] = value
		}
	}
	members["stream_options"] = encode(more)
	setBody(req, encode(members))
	return true
}

// meteredAnswer passes an answer on, and settles its step when it has been read.
type meteredAnswer struct {
	body io.ReadCloser
	step *OpenStep
	seen bytes.Buffer
}

// Read passes the answer on and keeps a copy, in which the usage is found at the end.
func (a *meteredAnswer) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	if a.seen.Len() < maxRequest {
		a.seen.Write(p[:n])
	}
	switch {
	case err == io.EOF:
		a.complete()
	case err != nil:
		a.step.Fail(err)
	}
	return n, err
}

// Close reads no further, though a reader of JSON may leave a line break.
func (a *meteredAnswer) Close() error {
	a.complete()
	return a.body.Close()
}

// complete reports the step with the usage that the answer tells.
func (a *meteredAnswer) complete() {
	a.step.Complete(json.RawMessage(a.seen.Bytes()))
}

// meteredStream passes a stream of events on as they come, a line at a time, and settles its
// step at its end.
type meteredStream struct {
	body    io.ReadCloser
	lines   *bufio.Reader
	step    *OpenStep
	unasked bool   // the chunk with the usage alone is left out
	pending []byte // of a line, what has not been read
	err     error  // after it
}

// Read passes the stream on line by line, without waiting for events to be complete. An event that
// only we have asked for, the usage, is left out.
func (s *meteredStream) Read(p []byte) (int, error) {
	for len(s.pending) == 0 && s.err == nil {
		s.pending, s.err = s.lines.ReadBytes('\n')
		if data, ok := bytes.CutPrefix(s.pending, []byte("data:")); ok && s.see(bytes.TrimSpace(data)) {
			s.pending = nil
			_, s.err = s.lines.ReadBytes('\n') // the empty line after it
		}
		switch {
		case s.err == io.EOF:
			s.step.Complete(nil)
		case s.err != nil:
			s.step.Fail(s.err)
		}
	}
	n := copy(p, s.pending)
	s.pending = s.pending[n:]
	if n == 0 && len(p) > 0 {
		return 0, s.err
	}
	return n, nil
}

// see meters an event, and reports whether it is left out. Some readers go no further than
// an event that says that it is the last.
func (s *meteredStream) see(data []byte) (leftOut bool) {
	if string(data) == "[DONE]" {
		s.step.Complete(nil)
		return false
	}
	var event struct {
		Type    string
		Choices *[]json.RawMessage
		Usage   json.RawMessage
	}
	s.step.See(json.RawMessage(data))
	if json.Unmarshal(data, &event) != nil {
		return false
	}
	if slices.Contains([]string{"message_stop", "response.completed", "response.incomplete", "response.failed"}, event.Type) {
		s.step.Complete(nil)
	}
	hasUsage := len(event.Usage) > 0 && string(event.Usage) != "null"
	return s.unasked && hasUsage && event.Choices != nil && len(*event.Choices) == 0
}

// Close reports a stream that the caller has given up: its tokens were spent as well.
func (s *meteredStream) Close() error {
	defer s.step.leftOpen(s.step.ctx) // unless it has been settled
	return s.body.Close()
}
