// Package hook answers the hooks of coding agents: it reads what an agent is about to do, asks the
// server, and answers in that agent's own form. It fails closed: whatever goes wrong, the call is
// stopped.
//
// Each event is a process of its own, so what one must know of another is kept in files.
//
//   - hook.go: one event
//   - session.go: an agent's session, which is a run
//   - calls.go: the calls of tools that are under way
//   - install.go: the agent's settings
//   - doctor.go: proving that an agent is guarded
package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pikarc/server/ask"
)

// Agents are the coding agents whose hooks are known.
func Agents() []string { return []string{"claude-code", "codex"} }

// Blocked is the exit code that stops a call. Others than it and 0 let the call go on.
const Blocked = 2

// maxEvent is the size of the largest event, in bytes: a tool's answer is in it.
const maxEvent = 256 << 20

// Options say for whom a hook asks.
type Options struct {
	Agent    string // one of Agents
	User     string // on whose behalf the agent acts
	StateDir string // where open sessions are kept
	Settings ask.Settings
	Timeout  time.Duration // of an answer
	Now      func() time.Time
}

// event is what an agent tells its hook. Claude Code and Codex use the same names.
type event struct {
	Name      string          `json:"hook_event_name"`
	Session   string          `json:"session_id"`
	Tool      string          `json:"tool_name"`
	ToolUse   string          `json:"tool_use_id"`
	ToolInput json.RawMessage `json:"tool_input"`
	Error     string          `json:"error"` // of a call that failed
	Interrupt bool            `json:"is_interrupt"`
}

// Run answers one event. An error goes with the exit code of the process: Blocked,
// unless it is too late to stop anything. Its text is for the model then.
func Run(ctx context.Context, o Options, stdin io.Reader, stdout io.Writer) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	e, err := readEvent(ctx, stdin)
	if err == nil {
		err = answer(ctx, o, e, stdout)
	}
	switch {
	case err == nil:
		return 0, nil
	// The call has been made. Exit code 1 only shows the error to the user.
	case slices.Contains([]string{"PostToolUse", "PostToolUseFailure", "SessionEnd"}, e.Name):
		return 1, err
	default:
		return Blocked, errors.New(ask.TroubleForModel(err))
	}
}

// answer handles one event: it asks the server about a call of a tool, or reports that one has
// ended, and writes what the agent expects.
func answer(ctx context.Context, o Options, e event, stdout io.Writer) error {
	if !slices.Contains(Agents(), o.Agent) {
		return fmt.Errorf("the hooks of %q are not known", o.Agent)
	}
	if e.Session == "" {
		return fmt.Errorf("the %s event names no session", e.Name)
	}
	c, err := ask.New(o.Settings, "hook/1")
	if err != nil {
		return err
	}
	s := openSession(o, c, e.Session)
	switch e.Name {
	case "PreToolUse":
		return before(ctx, s, e, stdout)
	case "PostToolUse":
		return s.settle(ctx, e, outcome{})
	case "PostToolUseFailure":
		failed := outcome{Failed: true, Error: e.Error}
		// The user has stopped the call, and the agent gives no reason of its own.
		if e.Interrupt {
			failed.Error = "cancelled"
		}
		return s.settle(ctx, e, failed)
	case "SessionEnd":
		return s.end(ctx)
	default:
		return nil // nothing is asked
	}
}

// readEvent reads the event from standard input. An agent that keeps it open must not keep the hook
// waiting for ever, so it ends with ctx.
func readEvent(ctx context.Context, stdin io.Reader) (e event, err error) {
	var content []byte
	read := make(chan error, 1)
	go func() { // reading cannot be broken off
		var err error
		// One byte more than is taken, so that a larger event is seen to be one.
		content, err = io.ReadAll(io.LimitReader(stdin, maxEvent+1))
		read <- err
	}()
	select {
	case err = <-read:
	case <-ctx.Done():
		return e, errors.New("the event did not come in time")
	}
	switch {
	case err != nil:
		return e, fmt.Errorf("read the event: %w", err)
	case len(content) > maxEvent:
		return e, errors.New("the event is too large to be looked at")
	}
	if err := json.Unmarshal(content, &e); err != nil {
		return e, fmt.Errorf("the event is no JSON: %w", err)
	}
	if e.Name == "" {
		return e, errors.New("the event has no hook_event_name")
	}
	return e, nil
}

// before asks whether a tool may be used. For ALLOW it says nothing: the agent's
// own permissions, and its questions to the user, stay as they are.
func before(ctx context.Context, s *session, e event, stdout io.Writer) error {
	if e.Tool == "" {
		return errors.New("the event names no tool")
	}
	d, err := s.ask(ctx, e)
	if err != nil || d.Allowed() {
		return err
	}
	denied := map[string]any{"hookSpecificOutput": map[string]any{
		"hookEventName":            "PreToolUse",
		"permissionDecision":       "deny",
		"permissionDecisionReason": d.ForModel(),
	}}
	if err := json.NewEncoder(stdout).Encode(denied); err != nil {
		return fmt.Errorf("answer the agent: %w", err)
	}
	return nil
}
