package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func (c *coder) command(t *testing.T, args ...string) outcome {
	t.Helper()
	return invocation{args: args, settings: c.settings, dir: c.home}.run(t)
}

// claudeSettings writes the user's settings of Claude Code.
func (c *coder) claudeSettings(t *testing.T, content string) {
	t.Helper()
	file := filepath.Join(c.home, ".claude", "settings.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDoctorProvesThatAnInstalledHookStopsCalls(t *testing.T) {
	t.Parallel()
	for _, agent := range []string{"claude-code", "codex"} {
		t.Run(agent, func(t *testing.T) {
			t.Parallel()
			c := newCoder(t)
			c.command(t, "doctor").ok(t)
			if out := c.command(
				t,
				"doctor",
				"--agent",
				agent,
			); out.code != 1 ||
				!strings.Contains(out.stdout, "hook install "+agent) {
				t.Errorf("without a hook doctor says %+v", out)
			}
			c.command(t, "hook", "install", agent, "--user", "o'neill").ok(t)
			// The agent is started elsewhere, without these variables.
			c.settings = append(c.settings, "PIKARC_API_KEY=", "PIKARC_BASE_URL=")
			out := c.command(t, "doctor", "--agent", agent).ok(t).stdout
			for _, line := range []string{"ok   denial", "The run has ended", "ok   no server", "ok   no sense", "ok   kill switch  is off"} {
				if !strings.Contains(out, line) {
					t.Errorf("doctor does not say %q:\n%s", line, out)
				}
			}
			if got := strings.Join(
				c.steps(t),
				"\n",
			); !strings.Contains(
				got,
				"COMPLETED of o'neill: PikarcDoctor BLOCKED",
			) {
				t.Errorf("the server has denied nothing: %s", got)
			}
		})
	}
}

// Each of these would let a call through, or never be asked.
func TestDoctorFindsAHookThatStopsNothing(t *testing.T) {
	t.Parallel()
	c := newCoder(t)
	hook := func(matcher, command string) string {
		return `{"hooks":{"PreToolUse":[{"matcher":"` + matcher + `","hooks":[{"type":"command","command":"` + command + `"}]}]}}`
	}
	for settings, want := range map[string]string{
		hook("*", pikarc+" hook claude-code || true"):                       "NOT stopped",
		hook("*", pikarc+"-that-is-gone hook claude-code"):                  "NOT stopped",
		hook("*", pikarc+" hook claude-code; exit 1"):                       "NOT stopped",
		hook("Bash", pikarc+" hook claude-code"):                            `asked about \"Bash\" alone`,
		hook("*", "echo"):                                                   "hook install claude-code",
		strings.Replace(hook("*", "x"), "{", `{"disableAllHooks":true,`, 1): "disableAllHooks",
		"{": "cannot be read",
	} {
		c.claudeSettings(t, settings)
		out := c.command(t, "doctor", "--agent", "claude-code")
		if out.code != 1 || !strings.Contains(out.stdout, "BAD") ||
			!strings.Contains(out.stdout, strings.ReplaceAll(want, `\"`, `"`)) {
			t.Errorf("for %s doctor says\n%s%s", settings, out.stdout, out.stderr)
		}
	}
}

func TestDoctorSaysWhatIsWrongWithTheServer(t *testing.T) {
	t.Parallel()
	c := newCoder(t)
	token := c.p.signIn(t, c.user.Email)
	c.p.call(t, "POST", "/v1/workspace/kill-switch", token, map[string]bool{"active": true}).
		want(t, http.StatusOK)
	if out := c.command(t, "doctor").
		ok(t).
		stdout; !strings.Contains(
		out,
		"kill switch  is on: no agent is allowed anything",
	) {
		t.Errorf("doctor says\n%s", out)
	}
	for setting, want := range map[string]string{
		"PIKARC_BASE_URL=http://127.0.0.1:9":                    "is it running",
		"PIKARC_API_KEY=lg_00000000_" + strings.Repeat("0", 64): "take another from the dashboard",
		"PIKARC_API_KEY=":                 "no API key",
		"PIKARC_BASE_URL=ftp://localhost": "the server's address alone",
		"PIKARC_BASE_URL=http://ann:secret-of-ann@localhost/pikarc/": "the server's address alone",
	} {
		out := invocation{args: []string{"doctor"}, settings: append(c.settings, setting)}.run(t)
		if out.code != 1 || !strings.Contains(out.stdout, want) ||
			strings.Contains(out.stdout+out.stderr, "secret-of-ann") {
			t.Errorf("with %s doctor says\n%s%s", setting, out.stdout, out.stderr)
		}
	}
	run(t, "doctor", "--agent", "nobody").fails(t, 2, "claude-code or codex")
}

// A hook is installed beside those of others, once, and can be taken out again.
func TestInstallingAHookKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	c := newCoder(t)
	const before = `{
  "permissions": {
    "allow": [
      "Bash(a && b)"
    ]
  },
  "hooks": {
    "Stop": [
      {
        "hooks": [
          {
            "type": "command",
            "command": "say done"
          }
        ]
      }
    ],
    "PreToolUse": [
      {
        "matcher": "Bash",
        "hooks": [
          {
            "type": "command",
            "command": "./check.sh"
          }
        ]
      }
    ]
  },
  "model": "opus"
}
`
	c.claudeSettings(t, before)
	file := filepath.Join(c.home, ".claude", "settings.json")
	read := func() string {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	printed := c.command(t, "hook", "install", "claude-code", "--print").ok(t).stdout
	if read() != before {
		t.Error("--print has changed the settings")
	}
	for range 2 {
		c.command(t, "hook", "install", "claude-code").ok(t)
		if got := read(); got != printed || strings.Count(got, "hook claude-code") != 4 ||
			!strings.Contains(got, `"onFailure": "block"`) {
			t.Errorf("the settings are\n%s\nwant\n%s", got, printed)
		}
	}
	c.command(t, "hook", "uninstall", "claude-code").ok(t)
	if got := read(); got != before {
		t.Errorf("without the hook again the settings are\n%s\nwant\n%s", got, before)
	}
	for _, broken := range []string{"{", "[]", `{"hooks":[]}`, `{"hooks":{"PreToolUse":{}}}`, `{"a":1} x`} {
		c.claudeSettings(t, broken)
		c.command(t, "hook", "install", "claude-code", "--print").fails(t, 1, "left as they are")
		if read() != broken {
			t.Errorf("%s is changed to %s", broken, read())
		}
	}
	c.command(t, "hook", "install", "claude-code", "--scope", "everybody").
		fails(t, 2, "user or project or local")
	c.command(t, "hook", "install", "nobody").fails(t, 2, "nobody")
	c.settings = append(c.settings, "PIKARC_API_KEY=")
	if err := os.Remove(filepath.Join(c.home, ".config", "pikarc", "agent.json")); err != nil {
		t.Fatal(err)
	}
	c.command(t, "hook", "install", "codex").fails(t, 1, "PIKARC_API_KEY")
}
