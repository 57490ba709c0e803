package hook

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pikarc/server/ask"
)

// Check is one result of doctor, in words for people.
type Check struct {
	Name   string // what was looked at
	Detail string // what was found, and what to do if it is wrong
	Failed bool   // the agent is not guarded
}

// maxSkew is how far the clocks of agent and server may differ before it matters to anybody.
const maxSkew = 30 * time.Second

// CheckServer looks at whether the server can be asked with these settings.
func CheckServer(ctx context.Context, s ask.Settings, now func() time.Time) (checks []Check) {
	c, err := ask.New(s, "doctor/1")
	if err != nil {
		return []Check{{"settings", err.Error(), true}}
	}
	var health struct{ Version string }
	// It needs no key, so an error here is about the address, not the key. at is the server's
	// time, from the answer's Date header.
	at, err := c.Read(ctx, "/health", &health)
	if err != nil {
		return []Check{
			{"server", err.Error() + "; is it running, and is PIKARC_BASE_URL right?", true},
		}
	}
	checks = append(
		checks,
		Check{"server", fmt.Sprintf("%s answers, version %s", c.BaseURL(), health.Version), false},
	)
	// Days, months and limits begin by the server's clock. A wrong clock here is not dangerous,
	// only confusing: what people read beside each other has different times.
	skew := now().Sub(at).Round(time.Second)
	if skew.Abs() > maxSkew {
		checks = append(
			checks,
			Check{
				"clock",
				fmt.Sprintf(
					"this machine's clock is %s off the server's: "+
						"days and limits begin by the server's",
					skew,
				),
				false,
			},
		)
	} else {
		checks = append(checks, Check{"clock", "agrees with the server's", false})
	}
	var w struct {
		Name       string
		KillSwitch bool `json:"kill_switch"`
	}
	// Any call that needs the key would do. This one also says whose key it is, which is the
	// mistake that people make most: a key of another workspace.
	_, err = c.Read(ctx, "/v1/workspace/", &w)
	switch {
	case errors.Is(err, ask.ErrKey):
		return append(
			checks,
			Check{"key", err.Error() + ": take another from the dashboard's page API keys", true},
		)
	case err != nil:
		return append(checks, Check{"key", err.Error(), true})
	}
	checks = append(checks, Check{"key", "is accepted, for the workspace " + w.Name, false})
	if w.KillSwitch {
		return append(
			checks,
			Check{"kill switch", "is on: no agent is allowed anything until it is off", false},
		)
	}
	return append(checks, Check{"kill switch", "is off", false})
}

// CheckAgent proves that the agent's tools are stopped: it runs the command in the
// agent's settings as the agent would, on a call that the server denies.
func CheckAgent(ctx context.Context, o Options, files []string) (checks []Check) {
	found, env, bad := findHook(o.Agent, files)
	if bad != nil {
		return []Check{*bad}
	}
	checks = append(checks, Check{"settings", found.file + " has the hook", false})
	if user := userIn(found.command); user != "" {
		o.User = user
	}
	// A session of its own, so that the agent's real sessions are not touched.
	session := "pikarc-doctor-" + rand.Text()[:10]
	if err := makeDenied(ctx, o, session); err != nil {
		return append(checks, Check{"denial", "none could be made to try: " + err.Error(), true})
	}
	said := runAs(ctx, found.command, event{Session: session}, env)
	checks = append(checks, said.mustStop("denial", "a call that the server denies", true))
	// Nothing listens on the discard port of a machine of today.
	said = runAs(
		ctx,
		found.command,
		event{Session: session},
		append(env, "PIKARC_BASE_URL=http://127.0.0.1:9"),
	)
	checks = append(checks, said.mustStop("no server", "a call while the server is down", false))
	said = runAs(ctx, found.command, event{}, env)
	return append(checks, said.mustStop("no sense", "a call that cannot be understood", false))
}

// configured is a hook in an agent's settings.
type configured struct{ file, command string }

// findHook finds the first hook of ours that is asked about every tool.
func findHook(agent string, files []string) (found configured, env []string, bad *Check) {
	partly := ""
	for _, file := range files {
		content, err := ReadSettings(file)
		if err != nil {
			return found, nil, &Check{"settings", err.Error(), true}
		}
		if content == nil {
			continue
		}
		var s struct {
			Disabled bool `json:"disableAllHooks"`
			Env      map[string]string
			Hooks    map[string][]struct {
				Matcher string
				Hooks   []handler
			}
		}
		if err := json.Unmarshal(content, &s); err != nil {
			return found, nil, &Check{
				"settings",
				file + " cannot be read, so the agent skips it: " + err.Error(),
				true,
			}
		}
		if s.Disabled {
			return found, nil, &Check{
				"settings",
				file + " has disableAllHooks: nothing is guarded; remove it",
				true,
			}
		}
		// The agent gives these variables to its hooks, so the doctor must run the hook with them
		// too.
		for name, value := range s.Env {
			env = append(env, name+"="+value)
		}
		for _, g := range s.Hooks["PreToolUse"] {
			for _, h := range g.Hooks {
				switch {
				case !ours(agent).MatchString(h.Command):
				// A hook for some tools guards nothing else, and looks as if it did.
				case !slices.Contains([]string{"", "*", ".*"}, g.Matcher):
					partly = fmt.Sprintf(
						"the hook in %s is asked about %q alone: give it the matcher \"*\"",
						file,
						g.Matcher,
					)
				case found.command == "":
					found = configured{file, h.Command}
				}
			}
		}
	}
	if found.command != "" {
		return found, env, nil
	}
	if partly == "" {
		partly = fmt.Sprintf(
			"none of %s has the hook: run `pikarc hook install %s`",
			strings.Join(files, ", "),
			agent,
		)
	}
	return found, nil, &Check{"settings", partly, true}
}

// makeDenied ends the runs that a hook will take for the session's, so that the server
// denies what is asked in it. It needs no more than an agent's key, and changes no setting.
func makeDenied(ctx context.Context, o Options, id string) error {
	c, err := ask.New(o.Settings, "doctor/1")
	if err != nil {
		return err
	}
	s := openSession(o, c, id)
	// A hook asks in so many runs before it gives up, so as many are ended beforehand.
	k := kept{}
	for range runsAsked {
		next, d, err := s.start(ctx, k)
		if err != nil {
			return err
		}
		if d.Allowed() {
			if err := c.End(ctx, next.Run, "COMPLETED"); err != nil {
				return err
			}
		}
		k = kept{Generation: k.Generation + 1}
	}
	return s.write(kept{}) // the hook begins with the first
}

// ran is what became of a command.
type ran struct {
	code           int
	stdout, stderr string
	took           time.Duration
	err            error
}

// runAs runs a hook's command as an agent does: by the shell, with an event about to use a tool.
// Without a session it is no event at all.
func runAs(ctx context.Context, command string, e event, env []string) (r ran) {
	cwd, err := os.Getwd()
	if err != nil {
		return ran{err: err}
	}
	input := []byte("{")
	if e.Session != "" {
		input, err = json.Marshal(map[string]any{
			"hook_event_name": "PreToolUse",
			"session_id":      e.Session,
			"transcript_path": "",
			"cwd":             cwd,
			"permission_mode": "default",
			"tool_name":       "PikarcDoctor",
			"tool_use_id":     rand.Text(),
			"tool_input":      map[string]string{"command": "true"},
		})
		if err != nil {
			return ran{err: err}
		}
	}
	// Through a shell, as agents run hooks: the command is a line of the settings with quotes.
	cmd := exec.CommandContext(
		ctx,
		shell(),
		"-c",
		command,
	) // #nosec G204 -- what the user's own settings say
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = bytes.NewReader(
		input,
	), &stdout, &stderr, append(
		os.Environ(),
		env...)
	started := time.Now()
	err = cmd.Run()
	r = ran{stdout: stdout.String(), stderr: stderr.String(), took: time.Since(started)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
	} else {
		r.err = err
	}
	return r
}

// shell is what agents run their hooks with: on Windows, Git's.
func shell() string {
	if runtime.GOOS == "windows" {
		return "bash"
	}
	return "sh"
}

// stopped reports whether an agent would stop the call, and what it would tell its model.
func (r ran) stopped() (reason string, is bool) {
	var answer struct {
		HookSpecificOutput struct{ PermissionDecision, PermissionDecisionReason string }
	}
	switch {
	case r.err != nil:
		return "", false
	// The exit code alone would do; but a model that is told nothing tries again.
	case r.code == Blocked && strings.TrimSpace(r.stderr) != "":
		return strings.TrimSpace(r.stderr), true
	case r.code == 0 && json.Unmarshal([]byte(r.stdout), &answer) == nil &&
		answer.HookSpecificOutput.PermissionDecision == "deny":
		return answer.HookSpecificOutput.PermissionDecisionReason, true
	}
	return "", false
}

// mustStop checks that the hook stopped the call, and by a decision of the server if byDecision.
func (r ran) mustStop(what, which string, byDecision bool) Check {
	reason, is := r.stopped()
	if byDecision && is && r.code != 0 { // stopped, but for want of a decision
		return Check{
			what,
			fmt.Sprintf("%s is stopped, but the hook cannot ask: %s", which, firstLine(reason)),
			true,
		}
	}
	if is {
		return Check{
			what,
			fmt.Sprintf(
				"%s is stopped, after %s: %s",
				which,
				r.took.Round(time.Millisecond),
				firstLine(reason),
			),
			false,
		}
	}
	said := fmt.Sprintf("exit code %d, %q", r.code, firstLine(r.stdout+r.stderr))
	if r.err != nil {
		said = r.err.Error()
	}
	return Check{
		what,
		fmt.Sprintf("%s is NOT stopped (%s): install the hook again", which, said),
		true,
	}
}

// firstLine returns a text's first line.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// SettingsFiles are all where an agent may read its hooks.
func SettingsFiles(agent string, getenv func(string) string) (files []string, err error) {
	for _, scope := range Scopes(agent) {
		file, err := SettingsFile(agent, scope, getenv)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	// What an administrator sets for all users of a machine, as Claude Code's manual has it.
	managed := map[string]string{
		"linux":   "/etc/claude-code",
		"darwin":  "/Library/Application Support/ClaudeCode",
		"windows": `C:\Program Files\ClaudeCode`,
	}[runtime.GOOS]
	if agent == "claude-code" && managed != "" {
		files = append(files, filepath.Join(managed, "managed-settings.json"))
	}
	return files, nil
}

// userIn finds the user that a hook's command names.
func userIn(command string) string {
	// The inverse of quote.
	found := regexp.MustCompile(`--user '((?:[^']|'\\'')*)'`).FindStringSubmatch(command)
	if found == nil {
		return ""
	}
	return strings.ReplaceAll(found[1], `'\''`, "'")
}
