package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

// createUserOptions are the flags of create-user.
type createUserOptions struct {
	email, workspace, plan string
	passwordStdin, json    bool
	init                   bool
}

// newCreateUser is how the first account is made on a server that is closed to
// registration, and how scripts make accounts.
func newCreateUser(stdin *os.File) *cobra.Command {
	var o createUserOptions
	cmd := &cobra.Command{
		Use:   "create-user --email EMAIL",
		Short: "Make an account with its workspace and API key",
		Long: "Makes an account with its workspace and API key, and prints the key. Asks for " +
			"the password twice, or reads it from standard input with --password-stdin.\n\n" +
			"It works beside a running server. Where there is no database yet, it makes one " +
			"only with --init: a mistyped --data-dir would otherwise be a new server.",
		Example: `  pikarc create-user --email you@example.com --plan scale
  pikarc create-user --email you@example.com --data-dir /var/lib/pikarc
  pikarc create-user --email bot@example.com --password-stdin --json --init < password`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return createUser(cmd.Context(), at, o, stdin, cmd.OutOrStdout(),
				cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.email, "email", "", "the account's email (required)")
	f.StringVar(&o.workspace, "workspace", "My workspace", "the workspace's name")
	f.StringVar(&o.plan, "plan", "", plans.List()+"; the server's --default-plan unless set")
	f.BoolVar(&o.passwordStdin, "password-stdin", false, "read the password from standard input")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.BoolVar(&o.init, "init", false, initHelp)
	choices(cmd, "plan", planNames()...)
	return cmd
}

// account checks the options and converts them to the store's.
func (o createUserOptions) account() (storage.NewAccount, error) {
	if server.CheckEmail(o.email) != nil {
		return storage.NewAccount{}, usage(fmt.Errorf("--email %q is not a valid email address",
			o.email))
	}
	if n := utf8.RuneCountInString(o.workspace); n < 1 || n > server.MaxName {
		return storage.NewAccount{}, usage(fmt.Errorf("--workspace must have 1 to %d characters",
			server.MaxName))
	}
	p, err := defaultPlanHere()
	if o.plan != "" {
		p, err = defaultPlan("--plan", o.plan, false)
	}
	if err != nil {
		return storage.NewAccount{}, err
	}
	return storage.NewAccount{Email: o.email, WorkspaceName: o.workspace, Plan: p.ID}, nil
}

// createUser makes an account. An email that is taken is refused before the password is asked for,
// and again by the store, in case somebody was quicker.
func createUser(
	ctx context.Context, at ledgerLocation, o createUserOptions, stdin *os.File, stdout, stderr io.Writer,
) (err error) {
	in, err := o.account()
	if err != nil {
		return err
	}
	// made reports that the ledger is yet to be made: open makes it, further down.
	made, err := at.requireOrInit(ctx, o.init)
	if err != nil {
		return err
	}
	if !made {
		if err := requireFreeEmail(ctx, at, in.Email); err != nil {
			return err
		}
	}
	password, err := readPassword(stdin, stderr, o.passwordStdin)
	if err != nil {
		return err
	}
	// Nothing is written before all input is there and valid.
	if in.PasswordHash, err = auth.NewHasher(1).Hash(ctx, password); err != nil {
		return err
	}
	store, _, err := at.open(ctx, true, storage.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	account, workspace, key, err := store.CreateAccount(ctx, in)
	// Somebody has registered the email while the password was typed.
	if errors.Is(err, storage.ErrConflict) {
		return errRegistered(in.Email)
	}
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(stdout, map[string]any{
			"account_id": account.ID, "email": account.Email, "workspace_id": workspace.ID,
			"plan": workspace.Plan.ID, "api_key": key.Full,
		})
	}
	// A new database has no accounts, so no email is taken in it.
	if made {
		fmt.Fprintf(stdout, "Database   %s (new)\n", at)
	}
	_, err = fmt.Fprintf(stdout, "Account    %s\nWorkspace  %s (%s plan)\nAPI key    %s\n\n"+
		"Next:\n"+
		"  pikarc serve%s   unless the server runs\n"+
		"  %s/   sign in with the email and the password\n"+
		"  Agents send the API key with each call. Keep it as you keep a password.\n",
		account.Email, workspace.Name, workspace.Plan.ID, key.Full, at.flags(),
		placeFromEnvironment())
	return err
}

// requireFreeEmail finds out before a password is asked for.
func requireFreeEmail(ctx context.Context, at ledgerLocation, email string) (err error) {
	store, _, err := at.open(ctx, true, storage.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	switch _, err := store.WorkspaceByEmail(ctx, email); {
	case err == nil:
		return errRegistered(email)
	case errors.Is(err, storage.ErrNotFound):
		return nil
	default:
		return err
	}
}

// errRegistered is the error of an email that has an account.
func errRegistered(email string) error {
	return fmt.Errorf("%s is already registered; nothing was made", email)
}

// readPassword reads a line of standard input, or asks on a terminal.
func readPassword(stdin *os.File, stderr io.Writer, fromStdin bool) (password string, err error) {
	switch {
	case fromStdin:
		password, err = bufio.NewReader(stdin).ReadString('\n')
		// A file without a newline at its end, as printf writes it.
		if errors.Is(err, io.EOF) {
			err = nil
		}
		// Only the end of the line goes: spaces may be part of a password.
		password = strings.TrimRight(password, "\r\n")
	case term.IsTerminal(int(stdin.Fd())):
		password, err = askPassword(stdin, stderr)
	default:
		err = usage(errors.New("standard input is no terminal: pipe the password in with " +
			"--password-stdin"))
	}
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return password, checkPassword(password)
}

// checkPassword applies the limits of the API. It counts characters, not bytes.
func checkPassword(password string) error {
	if n := utf8.RuneCountInString(password); n < server.MinPassword || n > server.MaxPassword {
		return fmt.Errorf("a password has %d to %d characters; nothing was changed",
			server.MinPassword, server.MaxPassword)
	}
	return nil
}

// askPassword asks twice, without showing what is typed.
func askPassword(terminal *os.File, stderr io.Writer) (string, error) {
	ask := func(prompt string) (string, error) {
		fmt.Fprint(stderr, prompt)
		typed, err := term.ReadPassword(int(terminal.Fd()))
		// The terminal has not shown the line break that was typed.
		fmt.Fprintln(stderr)
		return string(typed), err
	}
	first, err := ask(fmt.Sprintf("Password (%d characters or more): ", server.MinPassword))
	if err != nil || checkPassword(first) != nil {
		return first, err // the caller says what is wrong; nobody types it again
	}
	second, err := ask("Again: ")
	if err == nil && first != second {
		err = errors.New("the two differ; nothing was changed")
	}
	return first, err
}

// withStore runs fn on the store of an existing database.
func withStore(ctx context.Context, at ledgerLocation, fn func(*storage.Store) error) error {
	return withStoreOf(ctx, at, storage.Options{}, fn)
}

// withStoreOf opens the store with options, calls fn, and closes it. The database must be there
// already: a command never makes one by a mistyped --data-dir.
func withStoreOf(ctx context.Context, at ledgerLocation, opts storage.Options, fn func(*storage.Store) error) (err error) {
	if err := at.require(ctx); err != nil {
		return err
	}
	store, _, err := at.open(ctx, false, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return fn(store)
}

// withWorkspace runs fn on the workspace of an existing account.
func withWorkspace(
	ctx context.Context, at ledgerLocation, email string, fn func(*storage.Store, storage.Workspace) error,
) error {
	return withWorkspaceOf(ctx, at, email, storage.Options{}, fn)
}

// withWorkspaceOf is withStoreOf for a command about the workspace of one account.
func withWorkspaceOf(
	ctx context.Context, at ledgerLocation, email string, opts storage.Options, fn func(*storage.Store, storage.Workspace) error,
) error {
	if email == "" {
		return usage(errors.New("--email is required"))
	}
	return withStoreOf(ctx, at, opts, func(store *storage.Store) error {
		w, err := store.WorkspaceByEmail(ctx, email)
		if err != nil {
			return orNoAccount(err, email)
		}
		return fn(store, w)
	})
}

// orNoAccount turns ErrNotFound into a sentence about the email.
func orNoAccount(err error, email string) error {
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("no account with the email %s: `pikarc accounts` lists them", email)
	}
	return err
}

// newSetPlan is the operator's way to a plan, for servers that sell none and for
// exceptions.
func newSetPlan() *cobra.Command {
	var email string
	cmd := &cobra.Command{
		Use:   "set-plan --email EMAIL PLAN",
		Short: "Move a workspace to another plan; what the plan lacks is reset",
		Long: "Moves a workspace to another plan; what the plan lacks is reset. PLAN is " +
			plans.List() + ". " +
			"It holds for the very next request of a running server.",
		Example:   "  pikarc set-plan --email you@example.com enterprise",
		ValidArgs: planNames(),
		Args: func(cmd *cobra.Command, args []string) error {
			return usage(cobra.ExactArgs(1)(cmd, args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return setPlan(cmd.Context(), at, email, args[0], cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&email, "email", "", "the account's email (required)")
	return cmd
}

// setPlan moves a workspace to a plan, as an operator: no payment is asked for, and the next change
// of a subscription may move it again.
func setPlan(ctx context.Context, at ledgerLocation, email, planID string, stdout io.Writer) error {
	plan, err := plans.ByID(plans.ID(planID))
	if err != nil {
		return usage(err)
	}
	return withWorkspace(ctx, at, email, func(store *storage.Store, w storage.Workspace) error {
		after, err := store.SetPlan(ctx, w.Key(), plan)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "%s: %s -> %s\n", after.Name, w.Plan.ID, after.Plan.ID)
		return err
	})
}
