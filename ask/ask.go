// Package ask is the client inside the binary: by it a hook or a gateway asks a
// Pikarc server whether a call may be made. What is no clear answer is an error,
// never an ALLOW.
package ask

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// DefaultBaseURL is where a server is on its own machine.
const DefaultBaseURL = "http://localhost:8000"

const (
	// attempts bounds how often a request is sent.
	attempts    = 3
	longestWait = 5 * time.Second // of Retry-After that is obeyed
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 1 << 20
	// MaxInput is the size of a call's input, in bytes, beyond which it is described
	// instead of sent.
	MaxInput = 4 << 20
)

var (
	// ErrKey is why a server refuses: the key is unknown, revoked or expired.
	ErrKey = errors.New("the server does not accept the API key")
	// ErrRefused is the answer that nothing was done. After any other error the server
	// may have done what it was asked, and says so when it is asked with the same key.
	ErrRefused = errors.New("the server refuses the request")
)

// Client asks one server with one key. It is safe for concurrent use.
type Client struct {
	key, base, name string
	http            *http.Client
}

// New makes a client; name is what it calls itself. The error names a setting
// that cannot be right, never the key.
func New(s Settings, name string) (*Client, error) {
	if s.BaseURL == "" {
		s.BaseURL = DefaultBaseURL
	}
	u, err := url.Parse(s.BaseURL)
	switch {
	case s.APIKey == "":
		return nil, errors.New("no API key: set PIKARC_API_KEY")
	case strings.ContainsFunc(s.APIKey, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New(
			"the API key holds a space, a line break or another character that no key has: " +
				"was it copied whole?",
		)
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.User != nil || u.RawQuery != "":
		return nil, fmt.Errorf(
			"PIKARC_BASE_URL must be the server's address alone, as in %s",
			DefaultBaseURL,
		)
	// Other clients want the address with /v1, so people copy it.
	case strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/v1"):
		return nil, errors.New("PIKARC_BASE_URL is the server's address: leave out /v1")
	}
	return &Client{
		key: s.APIKey, base: strings.TrimRight(s.BaseURL, "/"), name: name,
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				MaxIdleConnsPerHost: 50,
				IdleConnTimeout:     90 * time.Second,
			},
			// A redirect would carry the key to another address, or turn a POST into a GET.
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			},
		},
	}, nil
}

// BaseURL is the address of the server.
func (c *Client) BaseURL() string { return c.base }

// Start asks for a run. The same key again is answered the same. id is that of
// the run, whatever was decided.
func (c *Client) Start(
	ctx context.Context,
	user string,
	metadata map[string]string,
	key string,
) (id string, d Decision, err error) {
	return c.decide(ctx, "/v1/runs/", map[string]any{"user_id": user, "metadata": metadata}, key)
}

// Step is a call that is asked for.
type Step struct {
	Tool     string
	Input    json.RawMessage // of any size; nil for none
	Sequence int64           // where the run's page shows it, 1 or more
	Key      string          // the same key again is answered the same
}

// Step asks whether a run may make a call.
func (c *Client) Step(ctx context.Context, run string, s Step) (id string, d Decision, err error) {
	body := map[string]any{"type": "TOOL_CALL", "sequence": max(1, s.Sequence), "tool_name": s.Tool}
	switch {
	case len(s.Input) > MaxInput:
		body["input_data"] = map[string]any{
			"omitted_bytes": len(s.Input),
			"preview":       string(s.Input[:1000]),
		}
	case len(s.Input) > 0:
		body["input_data"] = s.Input
	}
	return c.decide(ctx, "/v1/runs/"+url.PathEscape(run)+"/steps", body, s.Key)
}

// decide asks for a start or a step, and returns its id and the decision. key is the idempotency
// key: an attempt that is repeated is not counted twice.
func (c *Client) decide(
	ctx context.Context,
	path string,
	body map[string]any,
	key string,
) (string, Decision, error) {
	var answer struct {
		ID       string
		Decision Decision
	}
	if err := c.send(ctx, "POST", path, body, key, &answer); err != nil {
		return "", Decision{}, err
	}
	if answer.ID == "" ||
		answer.Decision.Outcome != allow && answer.Decision.Outcome != deny &&
			answer.Decision.Outcome != review {
		return "", Decision{}, fmt.Errorf(
			"the answer of %s holds no decision: is something else at this address?",
			c.base,
		)
	}
	return answer.ID, answer.Decision, nil
}

// Report is how a call ended.
type Report struct {
	Failed bool
	Error  string
	Took   time.Duration // 0 when it is not known
}

// Report settles a step.
func (c *Client) Report(ctx context.Context, run, step string, r Report) error {
	body := map[string]any{"status": "COMPLETED"}
	if r.Failed {
		body["status"] = "FAILED"
		body["error"] = r.Error
	}
	if r.Took > 0 {
		body["duration_ms"] = r.Took.Milliseconds()
	}
	return c.send(
		ctx,
		"PATCH",
		"/v1/runs/"+url.PathEscape(run)+"/steps/"+url.PathEscape(step),
		body,
		"",
		nil,
	)
}

// End ends a run.
func (c *Client) End(ctx context.Context, run, status string) error {
	return c.send(
		ctx,
		"POST",
		"/v1/runs/"+url.PathEscape(run)+"/end",
		map[string]any{"status": status},
		"",
		nil,
	)
}

// Read reads what GET answers, and when the server has answered by its clock.
func (c *Client) Read(ctx context.Context, path string, into any) (at time.Time, err error) {
	header, err := c.sendOnce(ctx, "GET", path, nil, "", into)
	if err != nil {
		return time.Time{}, err
	}
	at, err = http.ParseTime(header.Get("Date"))
	if err != nil {
		return time.Time{}, fmt.Errorf("the answer of %s has no date: %w", c.base, err)
	}
	return at, nil
}

// refusal is an answer other than success.
type refusal struct {
	status int
	detail string
	header http.Header
}

// Error names the status and what the server said.
func (r *refusal) Error() string {
	return fmt.Sprintf("the server answers %d: %s", r.status, r.detail)
}

// Is matches ErrKey and ErrRefused, which tell callers whether asking again can help.
func (r *refusal) Is(target error) bool {
	return target == ErrKey && r.status == http.StatusUnauthorized ||
		target == ErrRefused && !r.mayPass()
}

// mayPass reports whether another attempt may be answered otherwise.
func (r *refusal) mayPass() bool {
	return r.status >= http.StatusInternalServerError ||
		r.status == http.StatusTooManyRequests || r.status == http.StatusRequestTimeout
}

// send makes a request, again while the trouble may pass and there is time: with
// one idempotency key, so that nothing is booked twice.
func (c *Client) send(
	ctx context.Context,
	method, path string,
	body any,
	key string,
	into any,
) error {
	for attempt := 1; ; attempt++ {
		_, err := c.sendOnce(ctx, method, path, body, key, into)
		if err == nil {
			return nil
		}
		// A refusal that another attempt cannot change is answered at once; the others are few and
		// soon, because an agent waits.
		wait := time.Duration(attempt) * 50 * time.Millisecond
		var refused *refusal
		if errors.As(err, &refused) {
			if !refused.mayPass() {
				return err
			}
			if seconds, _ := strconv.Atoi(refused.header.Get("Retry-After")); seconds > 0 {
				wait = min(time.Duration(seconds)*time.Second, longestWait)
			}
		}
		if attempt == attempts || !pause(ctx, wait) {
			return err
		}
	}
}

// sendOnce sends one request and decodes its answer.
func (c *Client) sendOnce(
	ctx context.Context,
	method, path string,
	body any,
	key string,
	into any,
) (http.Header, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	if body == nil {
		content = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Pikarc-Client", c.name)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, c.unreachable(ctx, err)
	case resp.StatusCode >= 300:
		return nil, newRefusal(resp, got)
	case into == nil:
		return resp.Header, nil
	case json.Unmarshal(got, into) != nil:
		return nil, fmt.Errorf(
			"the answer of %s is not Pikarc's: is something else at this address?",
			c.base,
		)
	}
	return resp.Header, nil
}

// newRefusal reads an answer's detail: a text, or the list of problems of a 422.
func newRefusal(resp *http.Response, body []byte) *refusal {
	var said struct{ Detail json.RawMessage }
	detail := http.StatusText(resp.StatusCode)
	if json.Unmarshal(body, &said) == nil && len(said.Detail) > 0 {
		detail = fmt.Sprintf("%.500s", said.Detail)
		var text string
		if json.Unmarshal(said.Detail, &text) == nil {
			detail = text
		}
	}
	return &refusal{resp.StatusCode, detail, resp.Header}
}

// unreachable says whether the server took too long or could not be reached.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s did not answer in time: %w", c.base, err)
	}
	return fmt.Errorf("%s cannot be reached: %w", c.base, err)
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
