package mcp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxMessage is the size of the largest message of a client, in bytes.
const maxMessage = 64 << 20

// patience is how long a server that was asked to end may take, twice: for the end
// of its input, and for a signal.
const patience = 5 * time.Second

// relay is a gateway between the standard streams of a client and of a server.
type relay struct {
	*session
	asks     context.Context // of questions; cancelled once the server has ended
	toServer lines
	toClient lines
}

// lines writes whole lines, one at a time.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

// write writes one line; several goroutines write to the client.
func (l *lines) write(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.w.Write(line)
	return err
}

// Stdio runs an MCP server's command and stands between it and a client. It returns
// the command's exit code once that has ended, by itself, because the client
// has, or because the context has. The command gets none of this server's keys.
func Stdio(
	ctx context.Context,
	o Options,
	command []string,
	stdin io.Reader,
	stdout io.Writer,
	stderr io.Writer,
) (int, error) {
	// The context asks for an end; the command is given time for it, and not killed at once.
	cmd := exec.CommandContext(
		context.WithoutCancel(ctx),
		command[0],
		command[1:]...) // #nosec G204 -- what the user guards
	cmd.Stderr, cmd.Env = stderr, withoutKeys(os.Environ())
	input, err := cmd.StdinPipe()
	if err != nil {
		return 1, fmt.Errorf("start the MCP server: %w", err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return 1, fmt.Errorf("start the MCP server: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("start the MCP server: %w", err)
	}
	// Not ctx itself: a signal asks the command to end, and its last calls are still decided.
	asks, stopAsking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAsking()
	r := &relay{
		session:  newSession(ctx, o),
		asks:     asks,
		toServer: lines{w: input},
		toClient: lines{w: stdout},
	}
	clientGone := make(chan struct{})
	go func() {
		defer close(clientGone)
		r.fromClient(stdin)
		r.asking.Wait() // what was sent before its end is done
		_ = input.Close()
	}()
	stopped := make(chan struct{})
	ending := make(chan struct{})
	go func() {
		defer close(ending)
		select {
		case <-stopped:
			return
		case <-clientGone:
			if within(stopped, patience) {
				return
			}
		case <-ctx.Done():
		}
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if !within(stopped, patience) {
			_ = cmd.Process.Kill()
		}
	}()
	// It returns once the command has closed its output, which is nearly always its end.
	r.fromServer(output)
	err = cmd.Wait()
	close(stopped)
	<-ending
	stopAsking()
	return r.finish(err, ctx.Err() != nil)
}

// within reports whether done is closed in time.
func within(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// finish ends the run, and tells the exit code.
func (r *relay) finish(err error, asked bool) (int, error) {
	var exit *exec.ExitError
	// A command that a signal of ours has ended did what it was told.
	if err == nil || asked {
		r.end("COMPLETED", "the session has ended")
		return 0, nil
	}
	r.end("FAILED", "the MCP server has ended")
	if !errors.As(err, &exit) {
		return 1, fmt.Errorf("run the MCP server: %w", err)
	}
	const killed = 128 // and the signal's number, as shells have it
	if status, is := exit.Sys().(syscall.WaitStatus); is && status.Signaled() {
		return killed + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// fromClient reads the client's messages until it has no more.
func (r *relay) fromClient(stdin io.Reader) {
	in := bufio.NewReaderSize(stdin, 64<<10)
	for {
		line, err := readLine(in, maxMessage)
		if len(bytes.TrimSpace(line)) > 0 {
			r.fromClientOne(line)
		}
		if errors.Is(err, errTooLong) {
			_ = r.toClient.write(
				append(
					errorAnswer(
						nil,
						codeInvalid,
						fmt.Sprintf("the message is larger than %d bytes", maxMessage),
						"",
					),
					'\n',
				),
			)
			continue
		}
		if err != nil {
			return
		}
	}
}

// fromClientOne handles one message from the client. What cannot be understood is refused: it might
// be a call that the server understands.
func (r *relay) fromClientOne(line []byte) {
	m, err := parseLine(line)
	switch {
	case err != nil:
		r.answer(
			errorAnswer(
				nil,
				codeParse,
				"The message is not passed on, because its guard cannot read it: "+err.Error(),
				"",
			),
		)
	case !m.isGuarded():
		if id := m.cancels(); id != "" {
			r.cancelled(id)
		}
		_ = r.toServer.write(line) // a server that is gone says so by its end
	case m.batch != nil:
		r.answer(
			errorAnswer(
				nil,
				codeInvalid,
				"Calls in a batch are not passed on: send each by itself",
				"",
			),
		)
	case m.id == "":
		r.answer(errorAnswer(nil, codeInvalid, "A call without an id is not passed on", ""))
	default:
		r.guardOne(m, line)
	}
}

// guardOne asks for a call, which may outlive who sent it: it asks under the relay's own context.
//
//nolint:contextcheck
func (r *relay) guardOne(m message, line []byte) {
	ctx, cancel := context.WithCancel(r.asks)
	c, fresh := r.begin(m.id, cancel)
	if !fresh {
		cancel()
		r.answer(errorAnswer(m.rawID, codeInvalid, "A request with this id is under way", ""))
		return
	}
	go func() {
		defer r.done()
		defer cancel()
		refusal := r.guard(ctx, m, c)
		r.toServer.mu.Lock()
		defer r.toServer.mu.Unlock() // so that what cancels it comes after it
		wanted := r.passes(m.id, c)
		switch {
		case !wanted: // whoever cancels does not wait for an answer
		case refusal != nil:
			r.forget(m.id)
			r.answer(refusal)
		default:
			_, _ = r.toServer.w.Write(line)
		}
	}()
}

// answer sends a message to the client.
func (r *relay) answer(message []byte) { _ = r.toClient.write(append(message, '\n')) }

// fromServer passes the server's lines on, and looks for the answers of calls in them.
func (r *relay) fromServer(output io.Reader) {
	out := bufio.NewReaderSize(output, 64<<10)
	for {
		line, err := out.ReadBytes('\n')
		if len(line) > 0 {
			// Nobody waits: then the line need not be understood, and costs no parsing.
			if r.observed() {
				if m, err := parse(line); err == nil {
					r.answered(m)
				}
			}
			if r.toClient.write(line) != nil {
				_, _ = io.Copy(io.Discard, out) // the client is gone: let the server end
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// errTooLong ends the reading of a line that would not fit into memory.
var errTooLong = errors.New("the line is too long")

// readLine reads a line with its end. One that is too long is read to its end and not kept.
func readLine(in *bufio.Reader, most int) (line []byte, err error) {
	for {
		// The slice is the reader's own buffer, so it is copied before the next read.
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > most {
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			return nil, errors.Join(errTooLong, err)
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// withoutKeys is an environment for what is guarded: it may not act for its guard.
func withoutKeys(environment []string) (rest []string) {
	for _, variable := range environment {
		if name, _, _ := strings.Cut(
			variable,
			"=",
		); name != "PIKARC_API_KEY" &&
			name != "PIKARC_ADMIN_KEY" {
			rest = append(rest, variable)
		}
	}
	return rest
}
