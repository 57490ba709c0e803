// Package cli is the commands of the pikarc binary. Its files read flags, wire the other packages
// together and print results; each command calls one function.
//
//   - root.go: Run, exit codes, version and migrate
//   - help.go and suggest.go: --help, and what a mistyped word was meant to be
//   - settings.go: PIKARC_… variables, each of which is a flag
//   - database.go, datadir.go and permission.go: where the ledger is, opening it, and why a file
//     cannot be opened
//   - serve.go, occupy.go, network.go, listen.go, notify.go, billing.go and plan.go: the server and
//     its flags
//   - loopbacks.go: listening on localhost
//   - health.go: asking a running server
//   - accounts.go, password.go and keys.go: accounts, passwords, API keys
//   - policies.go, prices.go and catalogue.go: policies from a file, re-pricing, published prices
//   - backup.go, copy.go and verify.go: backup and restore, moving to another engine, proving the
//     counters
//   - demo.go: a made-up workspace
//   - hook.go, mcp.go and doctor.go: the binary as a client, where an agent runs
//   - clock.go: the clock
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/storage"
	"github.com/pikarc/server/storage/dbfile"
)

// version and commit are set by the linker.
var (
	// Set by the linker.
	version = "dev"
	commit  = "unknown"
)

// usageError marks how a command was called as wrong: exit code 2.
type usageError struct{ error }

// Run executes a command line and returns its exit code: 0 done, 1 failed, 2 wrong usage.
func Run(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) int {
	root := newRoot(stdin)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	// A hook's exit code and message are a protocol with the agent; nothing may be added to them.
	if h := (hookError{}); errors.As(err, &h) {
		fmt.Fprintln(stderr, h.error)
		return h.code
	}
	// The command behind `pikarc mcp` has said itself what went wrong.
	if code := exitError(0); errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprintln(stderr, "Error:", err)
	if help := explainPermission(err, cmd); help != "" {
		fmt.Fprintln(stderr, help)
	}
	if wrong := (usageError{}); errors.As(err, &wrong) {
		// A wrong value may come from the environment, which --help does not show.
		if names := variablesUsed(cmd.Flags()); len(names) > 0 {
			fmt.Fprintln(stderr, "Set by the environment:", strings.Join(names, ", "))
		}
		fmt.Fprintf(stderr, "See: %s --help\n", cmd.CommandPath())
		return 2
	}
	return 1
}

// usage marks an error as a mistake in the command line, which exits with 2 and points to --help.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// newRoot makes the command tree. Cobra hands the context to the command that runs.
//
//nolint:contextcheck
func newRoot(stdin *os.File) *cobra.Command {
	root := &cobra.Command{
		Use:   "pikarc",
		Short: "Pikarc Server decides, before each call, what your AI agents may do and spend",
		Example: `  pikarc serve
  pikarc create-user --email you@example.com --plan scale
  pikarc demo`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		// Without a command there is nothing to do: the help says what there is.
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			// The audit log names the command that changed something.
			cmd.SetContext(storage.WithActor(cmd.Context(),
				storage.Actor{Kind: storage.ActorCommand, Name: cmd.Name()}))
			return readEnvironment(cmd)
		},
	}
	root.PersistentFlags().String("data-dir", defaultDataDir,
		"where the database and the server secret are")
	root.PersistentFlags().String(databaseFlag, "",
		"URL of a PostgreSQL database (postgres://…) that holds the ledger instead of SQLite's file. "+
			"One with a password belongs in PIKARC_DATABASE or PIKARC_DATABASE_FILE")
	// Cobra's own texts are replaced: ours guess what a mistyped flag was meant to be, and
	// show flags in groups.
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(printHelp)
	root.SetUsageFunc(printUsage)
	root.SetVersionTemplate(versions())
	root.AddCommand(newServe(), newMigrate(), newVerify(), newBackup(), newRestore(), newCopy(),
		newCreateUser(stdin), newAccounts(), newSetPassword(stdin),
		newSetPlan(), newKeys(), newCreateKey(), newRotateKey(), newRevokeKey(),
		newPolicies(stdin), newPrices(), newHook(stdin), newDoctor(), newMCP(stdin), newDemo(), newHealth(), newVersion())
	return root
}

// readEnvironment sets the command's flags from the environment, and warns of
// what looks like a setting and is none. The server logs that itself, and a
// health check or a hook, which runs every few seconds, does not repeat it.
func readEnvironment(cmd *cobra.Command) error {
	known := settingNames(cmd.Root())
	if err := refuseQuotes(known, os.Environ()); err != nil {
		return err
	}
	switch cmd.Name() {
	case "serve", "health", "version", "claude-code", "codex", "help", "completion",
		cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
	default:
		for _, warning := range unknownSettings(known, os.Environ()) {
			cmd.PrintErrln("Warning:", warning)
		}
	}
	return fromEnvironment(cmd.Flags())
}

// noArgs allows no arguments.
func noArgs(cmd *cobra.Command, args []string) error { return usage(cobra.NoArgs(cmd, args)) }

// checkGivenSecret refuses a secret of the environment that cannot be used.
func checkGivenSecret() error {
	given, err := setting(serverSecret)
	if err == nil && given != "" {
		_, err = auth.LoadSecret("", given)
	}
	return err
}

// versions lists what a bug report should name.
func versions() string {
	return fmt.Sprintf("pikarc %s\ncommit %s\n%s\nSQLite %s\n", version, commit, runtime.Version(),
		storage.SQLiteVersion)
}

// newVersion prints the same as --version, for who expects a command.
func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this binary and its parts",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), versions())
			return err
		},
	}
}

// printJSON prints a value on one line.
func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// newMigrate is for operators who bring the schema up to date in a step of its own,
// before the new binary serves. serve migrates too.
func newMigrate() *cobra.Command {
	var o migrateOptions
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema up to date",
		Long: "Brings the database's schema up to date. Where there is something to do, a copy " +
			"of SQLite's file is kept beside it; PostgreSQL is backed up with its own tools. Where " +
			"there is no database yet, it makes one only with --init.",
		Example: `  pikarc migrate --status --data-dir /var/lib/pikarc
  pikarc migrate --no-backup`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return migrate(cmd.Context(), at, o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&o.status, "status", false, "only say what is pending")
	cmd.Flags().BoolVar(&o.noBackup, "no-backup", false, "keep no copy of the database as it was")
	cmd.Flags().BoolVar(&o.init, "init", false, initHelp)
	return cmd
}

// migrateOptions are the flags of migrate.
type migrateOptions struct{ status, noBackup, init bool }

// migrate applies the migrations that are missing, or with --status says which. A copy is made
// before, unless --no-backup says otherwise.
func migrate(ctx context.Context, at ledgerLocation, o migrateOptions, stdout io.Writer) error {
	if o.status {
		st, err := at.schema(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "schema version %d, newest %d, pending %d\n", st.Current, st.Newest,
			len(st.Pending))
		// A schema that is behind is what was asked about. One that is newer than the binary is
		// an error, because nothing that this binary does brings the two together.
		if errors.Is(st.Err(), storage.ErrSchemaNewer) {
			return st.Err()
		}
		return nil
	}
	isNew, err := at.requireOrInit(ctx, o.init)
	if err != nil {
		return err
	}
	var options []dbfile.MigrateOption
	if o.noBackup {
		options = append(options, dbfile.WithoutBackup)
	}
	applied, err := at.migrate(ctx, options...)
	if err != nil {
		return err
	}
	if isNew {
		fmt.Fprintf(stdout, "made a new database: %s\n", at)
	}
	fmt.Fprintf(stdout, "applied %d migrations; the schema is up to date\n", len(applied))
	return nil
}
