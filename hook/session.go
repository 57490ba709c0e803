package hook

import (
	"context"
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

// kept is what is known of a session. Starting is set while it is not known whether the
// server has started the run.
type kept struct {
	Run        string
	Generation int
	Starting   bool
}

// runsAsked is in how many runs a call is asked for, if they have ended.
const runsAsked = 2

// openSession returns the state of an agent's session. Each hook is a process of its own, so what
// they share is in files.
func openSession(o Options, c *ask.Client, id string) *session {
	// Another server, or another key, has other runs.
	sum := sha256.Sum256(
		[]byte(strings.Join([]string{o.Agent, c.BaseURL(), o.Settings.APIKey, o.User, id}, "\n")),
	)
	return &session{o, c, id, filepath.Join(o.StateDir, "sessions", hex.EncodeToString(sum[:16]))}
}

// read reads the session's state, zero if it has none yet.
func (s *session) read() (k kept, err error) {
	err = readFile(s.files+".json", &k)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, nil
	}
	return k, err
}

// write replaces the session's state.
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
		// The run may have ended meanwhile: by its idle limit, or in the dashboard.
		d, err = s.askIn(ctx, k.Run, e)
		if err != nil || d.Reason != ask.RunEnded {
			return d, err
		}
		k = kept{Generation: k.Generation + 1}
		if err := s.write(k); err != nil {
			return d, err
		}
	}
	return d, nil
}

// start starts the session's run, or gets to know it.
func (s *session) start(ctx context.Context, k kept) (kept, ask.Decision, error) {
	s.removeOld()
	// Written first: a hook that is killed while it starts the run leaves word that there may
	// be one, and end asks for it with the same key.
	k.Starting = true
	if err := s.write(k); err != nil {
		return k, ask.Decision{}, err
	}
	key := fmt.Sprintf("hook-%s-%d", filepath.Base(s.files), k.Generation)
	metadata := map[string]string{"agent": s.Agent, "session_id": s.id}
	run, d, err := s.client.Start(ctx, s.User, metadata, key)
	if err != nil {
		return k, d, err
	}
	k = kept{Run: run, Generation: k.Generation}
	if !d.Allowed() { // the same key would be answered the same, whatever has changed
		k = kept{Generation: k.Generation + 1}
	}
	return k, d, s.write(k)
}

// end reports what is left and ends the run. The server settles what never ended.
func (s *session) end(ctx context.Context) error {
	k, err := s.read()
	if err == nil && k.Starting {
		k, _, err = s.start(ctx, k)
	}
	if err != nil || k.Run == "" {
		return err
	}
	if err := s.settleLeft(ctx, true); err != nil {
		return err
	}
	if err := s.client.End(ctx, k.Run, "COMPLETED"); err != nil {
		return err
	}
	return s.write(kept{Generation: k.Generation + 1}) // a session may be taken up again
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
	// From 1, because the API takes no other sequence; the clocks of agent and server may
	// differ.
	return min(max(1, at.UnixMilli()-started), 1<<31-1)
}

// readFile decodes a file.
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

// writeFile replaces a file in one step: another hook may read it at any time.
func writeFile(name string, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the session's state: %w", err)
	}
	return ask.WriteFile(name, content)
}
