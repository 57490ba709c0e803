package hook

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pikarc/server/ask"
)

// session is an agent's session, which is one run. Each hook is a process of its
// own, and several run at once: what they must know of each other is in files.
//
// The run is started with a key made of the session and its generation, so that
// hooks which come first at the same time get the same run. A run that was denied or
// has ended is followed by one of the next generation.
type session struct {
	Options
	client *ask.Client
	id     string
	files  string // the beginning of the names of its files
}

// kept is what is known of a session.
type kept struct {
	Run        string
	Generation int
}

// runsAsked is in how many runs a call is asked for, if they have ended.
const runsAsked = 2

// outcome is how a call ended.
type outcome struct {
	Failed bool
	Error  string
}

// open is a call that was allowed. Ended is set where its end could not be reported.
type open struct {
	Run, Step string
	At        time.Time
	Ended     *outcome
	Took      time.Duration
}

func openSession(o Options, c *ask.Client, id string) *session {
	// Another server, or another key, has other runs.
	sum := sha256.Sum256(
		[]byte(strings.Join([]string{o.Agent, c.BaseURL(), o.Settings.APIKey, o.User, id}, "\n")),
	)
	return &session{o, c, id, filepath.Join(o.StateDir, "sessions", hex.EncodeToString(sum[:16]))}
}

func (s *session) read() (k kept, err error) {
	err = readFile(s.files+".json", &k)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, nil
	}
	return k, err
}

func (s *session) write(k kept) error { return writeFile(s.files+".json", k) }

// ask asks whether a tool may be used, in the session's run, and keeps what was allowed.
func (s *session) ask(ctx context.Context, e event) (d ask.Decision, err error) {
	k, err := s.read()
	if err != nil {
		return d, err
	}
	for range runsAsked { // the run that is known may have ended
		if k.Run == "" {
			if k, d, err = s.start(ctx, k); err != nil || !d.Allowed() {
				return d, err
			}
		}
		var step string
		asked := s.Now()
		step, d, err = s.client.Step(
			ctx,
			k.Run,
			ask.Step{
				Tool: e.Tool, Input: e.ToolInput, Sequence: since(k.Run, asked), Key: rand.Text(),
			},
		)
		switch {
		case err != nil:
			return d, err
		case d.Allowed():
			return d, s.keepOpen(ctx, e, open{Run: k.Run, Step: step, At: asked})
		case d.Reason != ask.RunEnded:
			return d, nil
		}
		k = kept{Generation: k.Generation + 1}
		if err := s.write(k); err != nil {
			return d, err
		}
	}
	return d, nil
}

// keepOpen keeps what was allowed, so that its end can be reported. What cannot be
// kept is not executed.
func (s *session) keepOpen(ctx context.Context, e event, o open) error {
	err := writeFile(s.stepFile(e), o)
	if err != nil {
		o.Ended = &outcome{Failed: true, Error: "not executed: the hook cannot keep its state"}
		err = errors.Join(err, s.report(ctx, o))
	}
	return err
}

// start starts the session's run, or gets to know it.
func (s *session) start(ctx context.Context, k kept) (kept, ask.Decision, error) {
	s.removeOld()
	key := fmt.Sprintf("hook-%s-%d", filepath.Base(s.files), k.Generation)
	metadata := map[string]string{"agent": s.Agent, "session_id": s.id}
	run, d, err := s.client.Start(ctx, s.User, metadata, key)
	if err != nil {
		return k, d, err
	}
	k.Run = run
	if !d.Allowed() { // the same key would be answered the same, whatever has changed
		k = kept{Generation: k.Generation + 1}
	}
	return k, d, s.write(k)
}

// settle reports how a call ended. What cannot be reported is kept for the session's end.
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
	o.Ended, o.Took = &end, s.Now().Sub(o.At)
	if err := s.report(ctx, o); err != nil {
		return errors.Join(
			fmt.Errorf("the call has ended, which is reported later: %w", err),
			writeFile(file, o),
		)
	}
	return os.Remove(file)
}

func (s *session) report(ctx context.Context, o open) error {
	return s.client.Report(
		ctx,
		o.Run,
		o.Step,
		ask.Report{Failed: o.Ended.Failed, Error: o.Ended.Error, Took: o.Took},
	)
}

// end reports what is left and ends the run. The server settles what never ended.
func (s *session) end(ctx context.Context) error {
	k, err := s.read()
	if err != nil || k.Run == "" {
		return err
	}
	steps, err := filepath.Glob(s.files + "-*.json")
	if err != nil {
		return fmt.Errorf("list the session's calls: %w", err)
	}
	for _, file := range steps {
		var o open
		if err := readFile(file, &o); err != nil {
			continue // removed by a hook that runs beside this one
		}
		if o.Ended != nil {
			if err := s.report(ctx, o); err != nil {
				return err
			}
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget a call: %w", err)
		}
	}
	if err := s.client.End(ctx, k.Run, "COMPLETED"); err != nil {
		return err
	}
	return s.write(kept{Generation: k.Generation + 1}) // a session may be taken up again
}

// stepFile is the file of a call. Agents of old name it by what it does alone.
func (s *session) stepFile(e event) string {
	name := e.ToolUse
	if name == "" {
		name = e.Tool + "\n" + string(e.ToolInput)
	}
	sum := sha256.Sum256([]byte(name))
	return s.files + "-" + hex.EncodeToString(sum[:8]) + ".json"
}

// removeOld removes the files of sessions that nobody will take up again.
func (s *session) removeOld() {
	const old = 30 * 24 * time.Hour
	entries, _ := os.ReadDir(filepath.Dir(s.files)) // there may be none yet
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && s.Now().Sub(info.ModTime()) > old {
			_ = os.Remove(
				filepath.Join(filepath.Dir(s.files), entry.Name()),
			) // another hook may have removed it
		}
	}
}

// since orders a run's steps by when they were asked for, without a counter that
// processes would share: in milliseconds since its start, which is in its id (UUIDv7).
func since(run string, at time.Time) int64 {
	const millisecondsBegin = 12 // digits of the id without its dashes
	digits := strings.ReplaceAll(run, "-", "")
	if len(digits) < millisecondsBegin {
		return 1
	}
	raw, err := hex.DecodeString(digits[:millisecondsBegin])
	if err != nil {
		return 1
	}
	var started int64
	for _, b := range raw {
		started = started<<8 | int64(b)
	}
	return min(max(1, at.UnixMilli()-started), 1<<31-1)
}

func readFile(name string, into any) error {
	content, err := os.ReadFile(name) // #nosec G304 -- of the user's own
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("the session's file %s is damaged: remove it", name)
	}
	return nil
}

func writeFile(name string, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the session's state: %w", err)
	}
	return ask.WriteFile(name, content)
}
