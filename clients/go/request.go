package pikarc

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	longestWait = 30 * time.Second // of Retry-After that is obeyed
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 8 << 20
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
		// At random, so that many agents do not all come back at one moment.
		wait := mathrand.N(min(5*time.Second, 100*time.Millisecond<<min(attempt, 10)))
		said, problem := c.once(ctx, r, content, into)
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
		if err := pause(ctx, max(wait, said)); err != nil {
			return err
		}
	}
}

// once sends a request once. wait is how long the server asks to wait before the next attempt; 0 if
// it does not say.
func (c *Client) once(ctx context.Context, r call, content []byte, into any) (wait time.Duration, problem *APIError) {
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
		return retryAfter(resp.Header), errorFor(resp.StatusCode, got, resp.Header.Get("X-Request-Id"))
	}
	if into == nil {
		into = &struct{}{}
	}
	if err := json.Unmarshal(got, into); err != nil {
		return 0, unavailable("the answer of %s is not Pikarc's: is something else at this address?", c.baseURL)
	}
	return 0, nil
}

// connectionFailed describes a request without an answer. It is not known whether the server got
// it.
func (c *Client) connectionFailed(ctx context.Context) *APIError {
	e := unavailable("%s cannot be reached, or broke off", c.baseURL)
	if ctx.Err() == context.DeadlineExceeded {
		e = unavailable("%s did not answer in time", c.baseURL)
	}
	e.Kind = ErrConnectionFailed
	return e
}

// retryAfter is how long the server asks to wait: in seconds or until a date, as far
// as that is obeyed.
func retryAfter(header http.Header) time.Duration {
	said := header.Get("Retry-After")
	if at, err := http.ParseTime(said); err == nil {
		return min(longestWait, time.Until(at))
	}
	seconds, err := strconv.ParseFloat(said, 64)
	if err != nil || !(seconds > 0) {
		return 0
	}
	return time.Duration(min(longestWait.Seconds(), seconds) * float64(time.Second))
}

// pause waits, unless the context ends before.
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
