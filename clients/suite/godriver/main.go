// Command suitedriver carries the cases of the clients' suite out with the Go client, a line each.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	pikarc "github.com/pikarc/server/clients/go"
)

type question struct {
	BaseURL       string `json:"base_url"`
	APIKey        string `json:"api_key"`
	JournalDir    string `json:"journal_dir"`
	User          string
	Calls         []string
	Timeout       float64
	MaxRetries    int    `json:"max_retries"`
	OnUnavailable string `json:"on_unavailable"`
}

type answer struct {
	Called  int    `json:"called"`
	Error   string `json:"error"`
	Journal int    `json:"journal"`
	Reason  string `json:"reason,omitempty"`
}

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

func carryOut(q question) (a answer) {
	rule := pikarc.Closed
	if q.OnUnavailable == "open" {
		rule = pikarc.Open
	}
	client, err := pikarc.New(pikarc.WithAPIKey(q.APIKey), pikarc.WithBaseURL(q.BaseURL), pikarc.WithJournalDir(q.JournalDir),
		pikarc.WithTimeout(time.Duration(q.Timeout*float64(time.Second))), pikarc.WithMaxRetries(q.MaxRetries), pikarc.WithOnUnavailable(rule))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if len(q.Calls) == 0 {
		client.Flush(ctx)
	} else {
		a.see(client.Run(ctx, q.User, nil, func(ctx context.Context, run *pikarc.Run) error { return a.calls(ctx, run, q.Calls) }))
	}
	a.Journal = client.JournalLength()
	return a
}

func (a *answer) calls(ctx context.Context, run *pikarc.Run, calls []string) (err error) {
	for _, call := range calls {
		if call == "model" {
			_, err = pikarc.ModelCall(ctx, run, "suite-model", nil, func(context.Context) (map[string]any, error) {
				a.Called++
				return map[string]any{"usage": map[string]any{"prompt_tokens": 500, "completion_tokens": 100}}, nil
			})
		} else {
			_, err = pikarc.ToolCall(ctx, run, "suite-tool", nil, func(context.Context) (string, error) {
				a.Called++
				return "done", nil
			})
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
