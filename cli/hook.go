package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/ask"
	"github.com/pikarc/server/hook"
)

// hookError is the end of a hook: what its agent is told, and the exit code.
type hookError struct {
	error
	code int
}

// hookTimeout is how long a hook waits for an answer, unless it is told otherwise.
const hookTimeout = 5 * time.Second

// hookOptions are the flags of a hook.
type hookOptions struct {
	user    string
	timeout time.Duration
}

// newHook groups the hooks, one a coding agent, and the commands that install them.
func newHook(stdin *os.File) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hook",
		Short: "Guard a coding agent: answer its hooks, or install them",
		Long: "Answers the hooks of a coding agent (" + strings.Join(hook.Agents(), ", ") +
			"): each tool call is asked for, and a denied one " +
			"is not executed. Whatever goes wrong, exit code 2 stops the call: no server, no " +
			"answer in time, a key that is not accepted, an event that cannot be read, a " +
			"signal.\n\n" +
			"The key and the server's address are in PIKARC_API_KEY and PIKARC_BASE_URL; " +
			"`pikarc hook install` keeps both for agents that are started elsewhere.",
		Example: `  pikarc hook install claude-code
  pikarc doctor --agent claude-code
  pikarc hook uninstall claude-code`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, agent := range hook.Agents() {
		cmd.AddCommand(newHookOf(agent, stdin))
	}
	cmd.AddCommand(newHookInstall("install", "Add the hook to an agent's settings", false),
		newHookInstall("uninstall", "Take the hook out of an agent's settings", true))
	return cmd
}

// newHookOf makes the command that the agent runs before and after each of its tool
// calls, and at the end of a session.
func newHookOf(agent string, stdin io.Reader) *cobra.Command {
	var o hookOptions
	cmd := &cobra.Command{
		Use:     agent,
		Short:   "Answer a hook of " + agent + ": reads the event from standard input",
		Example: "  pikarc hook " + agent + " < event.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return answerHook(cmd.Context(), agent, o, stdin, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&o.user, "user", "",
		"on whose behalf the agent acts; who is signed in on this machine unless given")
	cmd.Flags().DurationVar(&o.timeout, "timeout", hookTimeout,
		"how long to wait for an answer before the call is stopped")
	return cmd
}

// answerHook answers one event within the time limit. It always ends with a decision: an agent
// takes a hook that was broken off as consent, so a signal blocks the call.
func answerHook(
	ctx context.Context, agent string, o hookOptions, stdin io.Reader, stdout io.Writer,
) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	type end struct {
		code int
		err  error
	}
	// With room for one: after a signal nobody receives.
	ended := make(chan end, 1)
	go func() { // what it does with files cannot be broken off
		options, err := hookOptionsOf(agent, o)
		if err != nil {
			ended <- end{hook.Blocked, errors.New(ask.TroubleForModel(err))}
			return
		}
		code, err := hook.Run(ctx, options, stdin, stdout)
		ended <- end{code, err}
	}()
	select {
	case e := <-ended:
		if e.err == nil {
			return nil
		}
		return hookError{e.err, e.code}
	case <-ctx.Done():
		return hookError{errors.New(ask.TroubleForModel(errors.New("it was broken off before " +
			"there was a decision"))), hook.Blocked}
	}
}

// hookOptionsOf adds what the environment says: the server, the key and where state is kept.
func hookOptionsOf(agent string, o hookOptions) (hook.Options, error) {
	settings, err := ask.FromEnvironment(os.Getenv)
	if err != nil {
		return hook.Options{}, err
	}
	state, err := ask.StateDir(os.Getenv)
	if err != nil {
		return hook.Options{}, err
	}
	// USERNAME is what Windows sets. Budgets and blocks are by this name.
	user := cmp.Or(o.user, os.Getenv("USER"), os.Getenv("USERNAME"), "unknown")
	return hook.Options{Agent: agent, User: user, StateDir: state, Settings: settings,
		Timeout: o.timeout, Now: now}, nil
}

// installOptions are the flags of install and uninstall.
type installOptions struct {
	scope, user          string
	printOnly, uninstall bool
}

// newHookInstall makes install and uninstall, which differ in what they leave in the
// settings.
func newHookInstall(name, short string, uninstall bool) *cobra.Command {
	o := installOptions{uninstall: uninstall}
	cmd := &cobra.Command{
		Use:   name + " AGENT",
		Short: short,
		Long: short + ", and leaves everything else there as it is. AGENT is " +
			strings.Join(hook.Agents(), " or ") + ". " +
			"Doing it twice does it once.\n\n" +
			"PIKARC_API_KEY and PIKARC_BASE_URL are kept, as they are now, in a file that only " +
			"you can read: the key should be one of scope agent, which may not change what " +
			"guards it.",
		Example: "  pikarc hook " + name + " claude-code\n  pikarc hook " + name +
			" claude-code --scope project --print",
		Args: func(cmd *cobra.Command, args []string) error {
			return usage(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)(cmd, args))
		},
		ValidArgs: hook.Agents(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return installHook(args[0], o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&o.scope, "scope", "user",
		"whose settings: user, project, or local (the user's in this project)")
	cmd.Flags().BoolVar(&o.printOnly, "print", false, "only print what the settings would be")
	if !uninstall {
		cmd.Flags().StringVar(&o.user, "user", "",
			"on whose behalf the agent acts; who is signed in on the machine unless given")
	}
	return cmd
}

// installHook adds the hook to an agent's settings, or takes it out, or prints what they would be.
func installHook(agent string, o installOptions, stdout io.Writer) error {
	file, err := hook.SettingsFile(agent, o.scope, os.Getenv)
	if err != nil {
		return usage(err)
	}
	// The settings get the whole path: an agent's hooks may run with another PATH.
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	before, err := hook.ReadSettings(file)
	if err != nil {
		return err
	}
	// With slashes on Windows too, because agents run hooks with a POSIX shell.
	after, err := hook.Install(before, filepath.ToSlash(binary), agent, o.user, o.uninstall)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if o.printOnly {
		_, err := stdout.Write(after)
		return err
	}
	if !o.uninstall {
		// First the key, then the hook: a hook without a key would block every call.
		if err := keepSettings(stdout); err != nil {
			return err
		}
	}
	if err := ask.WriteFile(file, after); err != nil {
		return err
	}
	if o.uninstall {
		fmt.Fprintf(stdout, "%s has the hook no more: %s is not guarded by it\n", file, agent)
		return nil
	}
	fmt.Fprintf(stdout, "%s has the hook\n", file)
	// Until then it skips the hook, and nothing is guarded.
	if agent == "codex" {
		fmt.Fprintln(stdout, "Codex runs a hook once you have trusted it: open /hooks there.")
	}
	fmt.Fprintf(stdout, "Prove that calls are stopped: pikarc doctor --agent %s\n", agent)
	return nil
}

// keepSettings keeps the key and the address of this environment, and refuses what cannot work.
func keepSettings(stdout io.Writer) error {
	settings, err := ask.FromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	// New checks the settings and asks nothing; the client itself is not needed.
	if _, err := ask.New(settings, "hook/1"); err != nil {
		return err
	}
	file, err := ask.Keep(settings)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s keeps the key and the server's address\n", file)
	return nil
}
