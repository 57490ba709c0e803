package pikarc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	longestWait = 30 * time.Second // of Retry-After that is obeyed
	maxAnswer   = 8 << 20
)

// call is one logical request: all its attempts have one idempotency key.
type call struct {
	method, path string
	body         any
	key          string
	extra        time.Duration // beyond the timeout: for an answer that the server holds back
}

// do sends a request until it is answered. The error is an *APIError, at once for
// what another attempt cannot change and else after the last one, or the context's.
func (c *Client) do(ctx context.Context, r call, into any) error {
	var content []byte
	if r.body != nil {
		content = encode(r.body)
	}
	for attempt := 1; ; attempt++ {
		wait := mathrand.N(min(5*time.Second, 100*time.Millisecond<<min(attempt, 10)))
		retryAfter, problem := c.once(ctx, r, content, into)
		if problem == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		again := problem.Is(ErrUnavailable) || problem.Is(ErrRateLimited)
		if !again || attempt > c.maxRetries {
			return problem
		}
		if err := pause(ctx, max(wait, min(retryAfter, longestWait))); err != nil {
			return err
		}
	}
}

func (c *Client) once(ctx context.Context, r call, content []byte, into any) (retryAfter time.Duration, problem *APIError) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout+r.extra)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, c.baseURL+r.path, bytes.NewReader(content))
	if err != nil {
		return 0, unavailable("%s %s cannot be asked", r.method, r.path)
	}
	req.Header.Set("Authorization", "Bearer "+c.apiKey)
	req.Header.Set("Pikarc-Client", "go/"+Version+"; review")
	if content != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, c.connectionFailed(ctx)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, c.connectionFailed(ctx)
	}
	if resp.StatusCode >= 300 {
		seconds, _ := strconv.ParseFloat(resp.Header.Get("Retry-After"), 64)
		return time.Duration(seconds * float64(time.Second)), errorFor(resp.StatusCode, got, resp.Header.Get("X-Request-Id"))
	}
	if into == nil {
		into = &struct{}{}
	}
	if err := json.Unmarshal(got, into); err != nil {
		return 0, unavailable("the answer of %s is not Pikarc's: is something else at this address?", c.baseURL)
	}
	return 0, nil
}

func (c *Client) connectionFailed(ctx context.Context) *APIError {
	e := unavailable("%s cannot be reached, or broke off", c.baseURL)
	if ctx.Err() == context.DeadlineExceeded {
		e = unavailable("%s did not answer in time", c.baseURL)
	}
	e.Kind = ErrConnectionFailed
	return e
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// encode makes JSON of a body. What is no JSON becomes its text: describing a call never fails it.
func encode(body any) []byte {
	content, err := json.Marshal(body)
	if err == nil {
		return content
	}
	members, ok := body.(map[string]any)
	if !ok {
		content, _ = json.Marshal(fmt.Sprintf("%+v", body))
		return content
	}
	plain := make(map[string]any, len(members))
	for name, value := range members {
		plain[name] = json.RawMessage(encode(value))
	}
	content, _ = json.Marshal(plain)
	return content
}

// maxPayload is the size beyond which a payload is described instead of sent.
const maxPayload = 4 << 20

func payload(value any) any {
	if value == nil {
		return nil
	}
	content := encode(value)
	if len(content) <= maxPayload {
		return json.RawMessage(content)
	}
	return map[string]any{"omitted_bytes": len(content), "preview": string(content[:1000])}
}

func newKey() string { return rand.Text() }
