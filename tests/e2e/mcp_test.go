package e2e_test

import (
	"strings"
	"testing"
)

func TestTheGatewayNeedsOneServerAndAKey(t *testing.T) {
	t.Parallel()
	c := newCoder(t)
	c.command(t, "mcp").fails(t, 2, "a command after --, or --upstream")
	c.command(t, "mcp", "--upstream", "http://localhost/mcp", "--", "cat").fails(t, 2, "either")
	c.command(t, "mcp", "cat").fails(t, 2, "write -- before the command")
	c.command(t, "mcp", "--upstream", "localhost").fails(t, 2, "--upstream")
	c.command(t, "mcp", "--", "/no/such/command").
		fails(t, 1, "start the MCP server", "/no/such/command")
	c.settings = append(c.settings, "PIKARC_API_KEY=")
	c.command(t, "mcp", "--", "cat").fails(t, 1, "set PIKARC_API_KEY")
}

func TestTheGatewayEndsAsItsCommandDoes(t *testing.T) {
	t.Parallel()
	c := newCoder(t)
	if out := c.command(
		t,
		"mcp",
		"--",
		"sh",
		"-c",
		"echo said; exit 7",
	); out.code != 7 || out.stdout != "said\n" ||
		out.stderr != "" {
		t.Errorf("it ends with %+v", out)
	}
	if out := c.command(t, "mcp", "--", "sh", "-c", "kill -9 $$"); out.code != 128+9 {
		t.Errorf("it ends with %+v", out)
	}
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"a":1}}}` + "\n"
	out := invocation{
		args:     []string{"mcp", "--user", "o'neill", "--", "cat"},
		stdin:    call,
		settings: c.settings,
	}.run(t).
		ok(t)
	if out.stdout != call {
		t.Errorf("cat says %q", out.stdout)
	}
	if got := strings.Join(
		c.steps(t),
		"\n",
	); got != "COMPLETED of o'neill: read FAILED the session has ended" {
		t.Errorf("the runs are %s", got)
	}
}
