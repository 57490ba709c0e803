package pikarc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// The kinds of trouble, for errors.Is. The guarded function was not called.
var (
	ErrBadRequest       = errors.New("bad request")           // 400
	ErrAuthentication   = errors.New("authentication")        // 401
	ErrPlan             = errors.New("not in the plan")       // 403
	ErrNotFound         = errors.New("not found")             // 404
	ErrInvalidRequest   = errors.New("invalid request")       // 422, 413 and other refusals
	ErrRateLimited      = errors.New("rate limited")          // 429, after all attempts
	ErrUnavailable      = errors.New("unavailable")           // no decision, after all attempts
	ErrConnectionFailed = errors.New("the connection failed") // no whole answer; it is ErrUnavailable too

	// Outcomes of a review, each with the step that it was about.
	ErrReviewDenied  = errors.New("a person has refused it")
	ErrReviewExpired = errors.New("nobody has decided in time")
	ErrReviewPending = errors.New("a person must approve it")
)

// APIError says that the server could not be asked, or did not accept what it was asked.
type APIError struct {
	Kind      error           // one of the above
	Status    int             // of HTTP; 0 where there was no answer
	Detail    json.RawMessage // what the server says
	RequestID string          // the server's name for the request, to be found in its log
	text      string
}

// Error implements error. It repeats neither the key nor the request's body.
func (e *APIError) Error() string { return "pikarc: " + e.text }

// Is reports whether the error is of a kind.
func (e *APIError) Is(target error) bool {
	return e.Kind == target || e.Kind == ErrConnectionFailed && target == ErrUnavailable
}

// errorFor converts an answer of the API to an error. Its kind follows from the status, its text
// from the body's detail.
func errorFor(status int, body []byte, requestID string) *APIError {
	e := &APIError{Status: status, RequestID: requestID}
	switch {
	case status == http.StatusBadRequest:
		e.Kind = ErrBadRequest
	case status == http.StatusUnauthorized:
		e.Kind = ErrAuthentication
	case status == http.StatusForbidden:
		e.Kind = ErrPlan
	case status == http.StatusNotFound:
		e.Kind = ErrNotFound
	case status == http.StatusTooManyRequests:
		e.Kind = ErrRateLimited
	case status >= 500 || status == http.StatusRequestTimeout:
		e.Kind = ErrUnavailable
	default:
		e.Kind = ErrInvalidRequest
	}
	var said struct{ Detail json.RawMessage }
	if json.Unmarshal(body, &said) == nil {
		e.Detail = said.Detail
	}
	e.text = fmt.Sprintf("the server answers %d: %.500s", status, e.Detail)
	return e
}

// unavailable returns an error for a server that cannot be asked.
func unavailable(format string, args ...any) *APIError {
	return &APIError{Kind: ErrUnavailable, text: fmt.Sprintf(format, args...)}
}

// BlockedError says that the server does not allow an action; the guarded
// function was not called. The zero values of the last members mean that the
// rule has none.
type BlockedError struct {
	Reason     string // the server's code, as USER_BLOCKED
	PolicyName string
	Message    string      // the policy's own words, or the reviewer's
	Limit      json.Number // of the rule that objected, in USD or in runs
	Used       json.Number
	ResetsAt   string // RFC 3339
	RunID      string
	StepID     string
	ReviewID   string
	kind       error
}

// Error implements error.
func (e *BlockedError) Error() string {
	if e.PolicyName != "" {
		return fmt.Sprintf("pikarc: not allowed: %s (policy: %s)", e.Reason, e.PolicyName)
	}
	return "pikarc: not allowed: " + e.Reason
}

// Unwrap returns ErrReviewDenied, ErrReviewExpired, ErrReviewPending, or nil.
func (e *BlockedError) Unwrap() error { return e.kind }

// Rule names what objected: the policy, or the server's code.
func (e *BlockedError) Rule() string {
	if e.PolicyName != "" {
		return e.PolicyName
	}
	return e.Reason
}

// Explain is a sentence for people, with the limit and when it resets.
func (e *BlockedError) Explain() string {
	text := e.Message
	if text == "" {
		text = sentence(e.Reason)
	}
	if e.Limit != "" && e.Used != "" {
		text += fmt.Sprintf(" The limit is %s, %s are used.", e.Limit, e.Used)
	}
	if e.ResetsAt != "" {
		text += fmt.Sprintf(" It resets at %s.", e.ResetsAt)
	}
	return text
}

// ForModel is a sentence for a model that asked for the call, so that it does not try again at
// once.
func (e *BlockedError) ForModel() string {
	return "This call was not executed: it is not allowed. " + e.Explain() + " Do not repeat it; go on without it or stop."
}

// sentence explains a reason to the person whose agent was stopped. It must be worded like the
// other clients' and ask/decision.go.
func sentence(reason string) string {
	switch reason {
	case "KILL_SWITCH_ACTIVE":
		return "All agents of this workspace are stopped."
	case "USER_BLOCKED":
		return "This user is blocked."
	case "WORKSPACE_DAILY_BUDGET_EXCEEDED":
		return "Today's budget of this workspace is spent."
	case "USER_DAILY_BUDGET_EXCEEDED":
		return "Today's budget of this user is spent."
	case "MONTHLY_RUN_LIMIT_EXCEEDED":
		return "This month's runs are used up."
	case "MAX_CONCURRENT_RUNS_EXCEEDED":
		return "As many runs as are allowed at a time are running."
	case "MODEL_NOT_PRICED":
		return "The model has no price, and unpriced models are not allowed."
	case "RUN_ALREADY_ENDED":
		return "The run has ended."
	case "POLICY_DENIED":
		return "A policy does not allow this."
	case "POLICY_LIMIT_EXCEEDED":
		return "A policy's limit is reached."
	case "REVIEW_NOT_SUPPORTED":
		return "A person must approve this, and cannot be asked from here."
	case "REVIEW_EXPIRED":
		return "Nobody has decided about this in time."
	case "REVIEW_CANCELLED":
		return "The question about this was cancelled."
	case "REVIEW_DENIED":
		return "A person has refused this."
	case "REVIEW_TIMEOUT":
		return "Nobody has decided about this in time."
	}
	return fmt.Sprintf("It is not allowed (%s).", reason)
}
