// Command suitedriver carries the cases of the clients' suite out with the Go client, a line each.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	pikarc "github.com/pikarc/server/clients/go"
)

// question is a test of the suite: settings and the calls to make.
type question struct {
	BaseURL       string `json:"base_url"`
	APIKey        string `json:"api_key"`
	JournalDir    string `json:"journal_dir"`
	User          string
	Calls         []string
	Timeout       float64
	MaxRetries    int    `json:"max_retries"`
	OnUnavailable string `json:"on_unavailable"`
	Metadata      string
}

// obj is a JSON object.
type obj = map[string]any

// errOwn is the error of a guarded function; its NUL must not break the report.
var errOwn = errors.New("a\x00b")

// unsaid is an answer that cannot say what it used, where it is asked by its method.
type unsaid struct {
	Usage obj `json:"usage"`
}

// Tokens must never be called.
func (unsaid) Tokens() (prompt, completion int64) { panic("no tokens here") }

// results are what the guarded functions return, by the call's name. The others return nothing.
func results() map[string]any {
	return map[string]any{
		"model":            obj{"usage": obj{"prompt_tokens": 500, "completion_tokens": 100}},
		"extractor raises": unsaid{obj{"prompt_tokens": 500, "completion_tokens": 100}},
		"floats":           obj{"usage": obj{"prompt_tokens": 499.5, "completion_tokens": 100.0}},
		"50 MB":            strings.Repeat("x", 50_000_000),
	}
}

// answer is what came of it, for the suite to compare with the other clients.
type answer struct {
	Called  int    `json:"called"`
	Error   string `json:"error"`
	Journal int    `json:"journal"`
	Reason  string `json:"reason,omitempty"`
}

// main answers questions from standard input.
func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			panic(err)
		}
		content, err := json.Marshal(carryOut(q))
		if err != nil {
			panic(err)
		}
		fmt.Println(string(content))
	}
}

// carryOut makes a client and plays the calls.
func carryOut(q question) (a answer) {
	rule := pikarc.Closed
	if q.OnUnavailable == "open" {
		rule = pikarc.Open
	}
	client, err := pikarc.New(pikarc.WithAPIKey(q.APIKey), pikarc.WithBaseURL(q.BaseURL), pikarc.WithJournalDir(q.JournalDir),
		pikarc.WithTimeout(time.Duration(q.Timeout*float64(time.Second))), pikarc.WithMaxRetries(q.MaxRetries), pikarc.WithOnUnavailable(rule))
	if err != nil {
		return answer{Error: "setting"}
	}
	ctx := context.Background()
	// A case without calls is about what an earlier process has left in the journal.
	if len(q.Calls) == 0 {
		client.Flush(ctx)
	} else {
		var metadata obj
		if q.Metadata != "" {
			// What no JSON can say: the run must start all the same.
			metadata = obj{"made": func() {}, "not": math.NaN()}
			metadata["itself"] = metadata
		}
		a.see(client.Run(ctx, q.User, metadata, func(ctx context.Context, run *pikarc.Run) error { return a.calls(ctx, run, q.Calls) }))
	}
	a.Journal = client.JournalLength()
	return a
}

// calls makes the calls in order.
func (a *answer) calls(ctx context.Context, run *pikarc.Run, calls []string) (err error) {
	for _, call := range calls {
		result := results()[call]
		fn := func(context.Context) (any, error) {
			a.Called++
			if call == "NUL" {
				return nil, errOwn
			}
			return result, nil
		}
		switch call {
		case "50 MB":
			_, err = pikarc.ToolCall(ctx, run, "suite-tool", obj{"page": result}, fn)
		case "reviewed":
			_, err = pikarc.ToolCall(ctx, run, "suite-reviewed", nil, fn)
		case "tool", "NUL":
			_, err = pikarc.ToolCall(ctx, run, "suite-tool", nil, fn)
		default:
			_, err = pikarc.ModelCall(ctx, run, "suite-model", nil, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// see notes an error by the name that the suite has for its kind.
func (a *answer) see(err error) {
	var blocked *pikarc.BlockedError
	switch {
	case err == nil:
	case errors.As(err, &blocked):
		a.Error, a.Reason = "PikarcBlockedError", blocked.Reason
		if errors.Is(err, pikarc.ErrReviewDenied) {
			a.Error = "ReviewDenied"
		}
		if errors.Is(err, pikarc.ErrReviewExpired) {
			a.Error = "ReviewExpired"
		}
	case errors.Is(err, errOwn):
		a.Error = "its own"
	case errors.Is(err, pikarc.ErrNotFound):
		a.Error = "NotFound"
	case errors.Is(err, pikarc.ErrConnectionFailed):
		a.Error = "ConnectionFailed"
	case errors.Is(err, pikarc.ErrUnavailable):
		a.Error = "Unavailable"
	case errors.Is(err, pikarc.ErrRateLimited):
		a.Error = "RateLimited"
	case errors.Is(err, pikarc.ErrAuthentication):
		a.Error = "Authentication"
	default:
		a.Error = err.Error()
	}
}
