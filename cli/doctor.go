package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/ask"
	"github.com/pikarc/server/hook"
)

// newDoctor runs where the agents run. health is the command for the server's machine.
func newDoctor() *cobra.Command {
	agent := ""
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check that agents on this machine are guarded",
		Long: "Checks that the server of PIKARC_BASE_URL answers, accepts the key, and has the " +
			"same time. With --agent it also checks that a coding agent's tool calls are really " +
			"stopped: it runs the command in the agent's settings, as the agent would, on a call " +
			"that the server denies, on one while the server is down, and on a malformed one. " +
			"Exits with 1 if anything is wrong.\n\n" +
			"The denial needs no change of settings: it is made in a run that has ended, which " +
			"stays in the history.",
		Example: "  pikarc doctor\n  pikarc doctor --agent claude-code",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return doctor(cmd.Context(), agent, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&agent, "agent", "",
		"prove that this agent is stopped: "+strings.Join(hook.Agents(), ", "))
	return cmd
}

// doctor checks the server, and then each agent whose settings have a hook. It fails if one of them
// is not guarded, so that scripts can use it.
func doctor(ctx context.Context, agent string, stdout io.Writer) error {
	if agent != "" && !slices.Contains(hook.Agents(), agent) {
		return usage(fmt.Errorf("--agent %q: choose %s", agent,
			strings.Join(hook.Agents(), " or ")))
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	settings, err := ask.FromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	checks := hook.CheckServer(ctx, settings, now)
	// An agent is looked at only behind a server that can be asked: everything else would fail for
	// that one reason.
	if agent != "" && !anyFailed(checks) {
		options, err := hookOptionsOf(agent, hookOptions{timeout: hookTimeout})
		if err != nil {
			return err
		}
		files, err := hook.SettingsFiles(agent, os.Getenv)
		if err != nil {
			return err
		}
		checks = append(checks, hook.CheckAgent(ctx, options, files)...)
	}
	for _, c := range checks {
		mark := "ok  "
		if c.Failed {
			mark = "BAD "
		}
		fmt.Fprintf(stdout, "%s %-12s %s\n", mark, c.Name, c.Detail)
	}
	if anyFailed(checks) {
		return errors.New("agents are not guarded as they should be: see what is BAD")
	}
	return nil
}

// anyFailed reports whether an agent is not guarded.
func anyFailed(checks []hook.Check) bool {
	return slices.ContainsFunc(checks, func(c hook.Check) bool { return c.Failed })
}
