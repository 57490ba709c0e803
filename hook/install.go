package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Scopes are where an agent reads its settings: the user's for every project, the
// project's for everybody, and Claude Code's for the user in this project.
func Scopes(agent string) []string {
	if agent == "codex" {
		return []string{"user", "project"}
	}
	return []string{"user", "project", "local"}
}

// SettingsFile is where an agent reads its hooks.
func SettingsFile(agent, scope string, getenv func(string) string) (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the user's home directory: %w", err)
	}
	claude, codex := getenv("CLAUDE_CONFIG_DIR"), getenv("CODEX_HOME")
	// Both agents can be told to keep the user's settings elsewhere.
	if claude == "" {
		claude = filepath.Join(home, ".claude")
	}
	if codex == "" {
		codex = filepath.Join(home, ".codex")
	}
	files := map[string]string{
		"claude-code user": filepath.Join(
			claude,
			"settings.json",
		),
		"claude-code project": filepath.Join(".claude", "settings.json"),
		"claude-code local":   filepath.Join(".claude", "settings.local.json"),
		"codex user": filepath.Join(
			codex,
			"hooks.json",
		),
		"codex project": filepath.Join(".codex", "hooks.json"),
	}
	file := files[agent+" "+scope]
	if file == "" {
		return "", fmt.Errorf("--scope %q: choose %s", scope, strings.Join(Scopes(agent), " or "))
	}
	return file, nil
}

// Command is the line that an agent's settings have as their hook. The shell makes
// whatever else may happen, as a binary that is gone or was killed, a stopped call.
func Command(binary, agent, user string, stops bool) string {
	line := quote(binary) + " hook " + agent
	if user != "" {
		line += " --user " + quote(user)
	}
	// A shell's own failures (127 for a binary that is not there, 137 for one that was
	// killed) would let the call go on: agents take only 2 as a denial.
	if stops {
		line += " || { echo 'Pikarc has made no decision: the call was not executed.' >&2; " +
			"exit 2; }"
	}
	return line
}

// quote quotes a word for a POSIX shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// ours matches the commands of these hooks, also those of an earlier version or another place.
func ours(agent string) *regexp.Regexp {
	return regexp.MustCompile(`pikarc\S*["']?\s+hook\s+` + regexp.QuoteMeta(agent) + `\b`)
}

// group is an entry of the settings: hooks for the tools that match.
type group struct {
	Matcher *string           `json:"matcher,omitempty"`
	Hooks   []json.RawMessage `json:"hooks"`
}

// handler is one hook: a command and its time limit.
type handler struct {
	Type      string `json:"type"`
	Command   string `json:"command"`
	Timeout   int    `json:"timeout"` // seconds
	OnFailure string `json:"onFailure,omitempty"`
}

// wanted are the hooks of an agent, by event. A hook gives up before its timeout,
// after which an agent lets the call go on, unless it is told otherwise.
func wanted(binary, agent, user string) map[string]handler {
	before := handler{Type: "command", Command: Command(binary, agent, user, true), Timeout: 30}
	after := handler{Type: "command", Command: Command(binary, agent, user, false), Timeout: 30}
	events := map[string]handler{"PreToolUse": before, "PostToolUse": after, "SessionEnd": after}
	if agent == "claude-code" {
		before.OnFailure = "block" // since 2.1.295; earlier ones have the command's own end
		events["PreToolUse"], events["PostToolUseFailure"] = before, after
	}
	return events
}

// Install adds the hooks to an agent's settings, in the place of those that are there
// already. What else the settings hold stays, in its order. With uninstall it
// takes them away.
func Install(settings []byte, binary, agent, user string, uninstall bool) ([]byte, error) {
	top, err := readObject(settings)
	if err != nil {
		return nil, fmt.Errorf("the settings are no JSON object, and are left as they are: %w", err)
	}
	hooks, err := readObject(top.get("hooks"))
	if err != nil {
		return nil, fmt.Errorf(
			"the settings' hooks are no JSON object, and are left as they are: %w",
			err,
		)
	}
	// Uninstalling is installing nothing: what is ours is taken away first in both cases.
	add := wanted(binary, agent, user)
	if uninstall {
		add = nil
	}
	// All events are looked at, also those that are not ours by now: an older version may have
	// installed itself there.
	names := hooks.names()
	for _, name := range []string{"PreToolUse", "PostToolUse", "PostToolUseFailure", "SessionEnd"} {
		if _, is := add[name]; is && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		// First our own hooks are removed, whatever binary they name. Then one is added, so that
		// installing twice leaves one.
		groups, err := without(hooks.get(name), agent)
		if err != nil {
			return nil, fmt.Errorf(
				"the settings' hooks of %s are not as they should be, and are left as they are: %w",
				name,
				err,
			)
		}
		if h, is := add[name]; is {
			one, err := encode(h)
			if err != nil {
				return nil, err
			}
			g := group{Hooks: []json.RawMessage{one}}
			// Events about tools have a matcher, which must name all of them. The others have none.
			if strings.HasSuffix(name, "ToolUse") || strings.HasSuffix(name, "Failure") {
				g.Matcher = new("*")
			}
			added, err := encode(g)
			if err != nil {
				return nil, err
			}
			groups = append(groups, added)
		}
		if err := hooks.set(name, groups, len(groups) == 0); err != nil {
			return nil, err
		}
	}
	if err := top.set("hooks", hooks, len(hooks) == 0); err != nil {
		return nil, err
	}
	return top.indented()
}

// without returns an event's groups without our handlers. Those of others stay as they are written.
func without(event json.RawMessage, agent string) ([]json.RawMessage, error) {
	var groups []json.RawMessage
	if len(event) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(event, &groups); err != nil {
		return nil, err
	}
	kept := groups[:0]
	for _, raw := range groups {
		members, err := readObject(raw)
		if err != nil {
			return nil, err
		}
		var handlers []json.RawMessage
		if err := json.Unmarshal(members.get("hooks"), &handlers); err != nil {
			return nil, err
		}
		others := slices.DeleteFunc(slices.Clone(handlers), func(raw json.RawMessage) bool {
			var h handler
			// A handler that cannot be read as one is somebody else's.
			return json.Unmarshal(raw, &h) == nil && ours(agent).MatchString(h.Command)
		})
		// A group that held only our hook is dropped. In any other, the hooks of others stay as
		// they were written.
		if len(others) != len(handlers) {
			if len(others) == 0 {
				continue
			}
			if err := members.set("hooks", others, false); err != nil {
				return nil, err
			}
			if raw, err = encode(members); err != nil {
				return nil, err
			}
		}
		kept = append(kept, raw)
	}
	return kept, nil
}

// encode is json.Marshal that leaves < > & in commands as people read them.
func encode(v any) (json.RawMessage, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("write the settings: %w", err)
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// object is a JSON object whose members keep their order.
type object []member

// member is a member of a JSON object. The settings are the user's file: everything else in it
// keeps its order and its text.
type member struct {
	name  string
	value json.RawMessage
}

// readObject reads an object; nothing is an empty one.
func readObject(raw []byte) (o object, err error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil
	}
	if !json.Valid(raw) { // the decoder below sees the beginning only
		var v any
		return nil, json.Unmarshal(raw, &v)
	}
	// Token by token, because a map would lose the order of the members.
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(err, errors.New("it does not begin with {"))
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		// The value keeps its text: numbers and escapes are written back as they were.
		m := member{name: fmt.Sprint(name)}
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		o = append(o, m)
	}
	return o, nil
}

// get returns a member's value, nil if there is none.
func (o object) get(name string) json.RawMessage {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// names lists the members in their order.
func (o object) names() (names []string) {
	for _, m := range o {
		names = append(names, m.name)
	}
	return names
}

// set sets a member in its place, or as the last one; one that is empty is removed.
func (o *object) set(name string, v any, empty bool) error {
	value, err := encode(v)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(*o, func(m member) bool { return m.name == name })
	switch {
	case empty && i >= 0:
		*o = slices.Delete(*o, i, i+1)
	case empty:
	case i >= 0:
		(*o)[i].value = value
	default:
		*o = append(*o, member{name, value})
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			out.WriteByte(',')
		}
		name, err := encode(m.name)
		if err != nil {
			return nil, err
		}
		out.Write(name)
		out.WriteByte(':')
		out.Write(m.value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// indented writes the object as people indent settings.
func (o object) indented() ([]byte, error) {
	raw, err := o.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("write the settings: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// ReadSettings reads an agent's settings; none are empty.
func ReadSettings(file string) ([]byte, error) {
	content, err := os.ReadFile(file) // #nosec G304 -- of the user's own
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the agent's settings: %w", err)
	}
	return content, nil
}
