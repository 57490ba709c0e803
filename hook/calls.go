package hook

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pikarc/server/ask"
)

// Grace is how long a hook that has no decision may go on, to settle what the server
// may have allowed.
const Grace = 2 * time.Second

// outcome is how a call ended.
type outcome struct {
	Failed bool
	Error  string
}

// open is a call that was asked for, or allowed. Its file is there before the server is
// asked, because the server may allow what the hook never hears of: asked again with its
// key, it says whether it did.
type open struct {
	Run, Step string
	Question  *ask.Step `json:",omitempty"` // nil once it has been answered
	Until     time.Time // when nobody waits for the answer any more
	At        time.Time
	Ended     *outcome `json:",omitempty"` // set where its end could not be reported
	Took      time.Duration
}

// askIn asks for a call in a run, and keeps what was allowed, so that its end can be
// reported. What cannot be kept is not executed.
func (s *session) askIn(ctx context.Context, run string, e event) (d ask.Decision, err error) {
	at, file := s.Now(), s.stepFile(e)
	question := ask.Step{
		Tool: e.Tool, Input: e.ToolInput, Sequence: since(run, at), Key: rand.Text(),
	}
	// Written before the question is sent: a hook that is killed now leaves a file with the
	// question and its key, and the next hook finds out by them what became of it.
	o := open{Run: run, Question: &question, Until: at.Add(s.Timeout + Grace), At: at}
	if err := writeFile(file, o); err != nil {
		return d, err
	}
	o.Step, d, err = s.client.Step(ctx, run, question)
	if err == nil && d.Allowed() {
		o.Question = nil
		if err = writeFile(file, o); err == nil {
			return d, nil
		}
		// Allowed, but its end could never be reported: the call is stopped instead.
		o.Ended = &outcome{Failed: true, Error: "not executed: the hook cannot keep its state"}
	}
	// The server may have allowed it and the answer was lost. What it has refused needs no
	// end.
	if err != nil && !errors.Is(err, ask.ErrRefused) {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), Grace)
		defer cancel()
		if s.report(grace, o) != nil {
			return d, err // the next hook of the session tries again
		}
	}
	return d, errors.Join(err, remove(file))
}

// settle reports how a call ended. What cannot be reported is kept for a later hook.
func (s *session) settle(ctx context.Context, e event, end outcome) error {
	file := s.stepFile(e)
	var o open
	err := readFile(file, &o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was denied, or another hook has stopped it
	}
	if err != nil {
		return err
	}
	// The time that the agent took: from the question to now.
	o.Ended, o.Took = &end, s.Now().Sub(o.At)
	if err := s.report(ctx, o); err != nil {
		return errors.Join(
			fmt.Errorf("the call has ended, which is reported later: %w", err),
			writeFile(file, o),
		)
	}
	return errors.Join(remove(file), s.settleLeft(ctx, false))
}

// settleLeft reports what earlier hooks could not. At the session's end nothing is kept.
func (s *session) settleLeft(ctx context.Context, atEnd bool) error {
	files, err := filepath.Glob(s.files + "-*.json")
	if err != nil {
		return fmt.Errorf("list the session's calls: %w", err)
	}
	for _, file := range files {
		var o open
		if err := readFile(file, &o); err != nil {
			continue // removed by a hook that runs beside this one
		}
		// Until then the hook that has asked may still be waiting for its answer.
		isLeft := o.Ended != nil || o.Question != nil && (atEnd || s.Now().After(o.Until))
		if isLeft {
			if err := s.report(ctx, o); err != nil {
				return err
			}
		}
		// A call without an end, in a session that is over, is left to the server, which settles
		// it: nobody here knows how it went.
		if isLeft || atEnd {
			if err := remove(file); err != nil {
				return err
			}
		}
	}
	return nil
}

// report tells the server how a call ended; one without an answer was not made.
func (s *session) report(ctx context.Context, o open) error {
	if o.Question != nil {
		step, d, err := s.client.Step(ctx, o.Run, *o.Question)
		switch {
		// A question that the server does not take has left nothing open there.
		case errors.Is(err, ask.ErrRefused):
			return nil
		case err != nil:
			return err
		case !d.Allowed():
			return nil
		}
		o.Step, o.Ended = step, &outcome{Failed: true, Error: "there was no decision in time"}
	}
	return s.client.Report(
		ctx,
		o.Run,
		o.Step,
		ask.Report{Failed: o.Ended.Failed, Error: o.Ended.Error, Took: o.Took},
	)
}

// stepFile is the file of a call. Agents of old name it by what it does alone.
func (s *session) stepFile(e event) string {
	name := e.ToolUse
	if name == "" {
		name = e.Tool + "\n" + string(e.ToolInput)
	}
	// A name of fixed length, whatever the agent calls it: it becomes part of a file's name.
	sum := sha256.Sum256([]byte(name))
	return s.files + "-" + hex.EncodeToString(sum[:8]) + ".json"
}

// remove deletes a call's file; that it is gone already is no error.
func remove(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget a call: %w", err)
	}
	return nil
}
