// Package cli is the commands of the pikarc binary. Its files only read flags,
// wire the other packages together and print results.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/storage"
)

// version and commit are set by the linker.
var (
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
	fmt.Fprintln(stderr, "Error:", err)
	if wrong := (usageError{}); errors.As(err, &wrong) {
		if names := variablesUsed(cmd.Flags()); len(names) > 0 {
			fmt.Fprintln(stderr, "Set by the environment:", strings.Join(names, ", "))
		}
		fmt.Fprintf(stderr, "See: %s --help\n", cmd.CommandPath())
		return 2
	}
	return 1
}

func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

func newRoot(stdin *os.File) *cobra.Command {
	root := &cobra.Command{
		Use:           "pikarc",
		Short:         "Pikarc Server decides, before each call, what your AI agents may do and spend",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("unknown command %q", args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetContext(storage.WithActor(cmd.Context(), storage.Actor{Kind: storage.ActorCommand, Name: cmd.Name()}))
			return fromEnvironment(cmd.Flags())
		},
	}
	root.PersistentFlags().String("data-dir", "./pikarc-data", "where the database and the server secret are")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.AddCommand(newServe(), newMigrate(), newVerify(), newBackup(), newRestore(), newCreateUser(stdin), newRotateKey(), newSetPlan(),
		newDemo(), newHealth(), newVersion())
	return root
}

// fromEnvironment sets every flag that was not given from PIKARC_<FLAG>. An
// empty value sets nothing: compose files pass on what is unset as empty.
func fromEnvironment(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := "PIKARC_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value := os.Getenv(name); value != "" && !f.Changed && f.Name != "help" && err == nil {
			if setErr := flags.Set(f.Name, value); setErr != nil {
				err = usage(fmt.Errorf("environment variable %s: %w", name, setErr))
				return
			}
			f.Annotations = map[string][]string{fromEnvironmentMark: {name}}
		}
	})
	return err
}

// fromEnvironmentMark annotates a flag that an environment variable has set.
const fromEnvironmentMark = "from environment"

// variablesUsed names the environment variables that have set flags, so that
// who gave no such flag finds out where its wrong value came from.
func variablesUsed(flags *pflag.FlagSet) (names []string) {
	flags.VisitAll(func(f *pflag.Flag) { names = append(names, f.Annotations[fromEnvironmentMark]...) })
	return names
}

func noArgs(cmd *cobra.Command, args []string) error { return usage(cobra.NoArgs(cmd, args)) }

func dataDir(cmd *cobra.Command) string {
	dir, err := cmd.Flags().GetString("data-dir")
	if err != nil {
		panic(err) // the flag is defined above, on the root
	}
	return dir
}

func databasePath(dir string) string { return filepath.Join(dir, "pikarc.db") }

// open opens the data directory. Only serve and create-user, which may be the
// first to come, bring the schema up to date.
func open(ctx context.Context, dir string, migrate bool, heldRows int) (*storage.Store, auth.Secret, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, auth.Secret{}, fmt.Errorf("make the data directory: %w", err)
	}
	fromEnv, err := setting("PIKARC_SECRET")
	if err != nil {
		return nil, auth.Secret{}, err
	}
	secret, err := auth.LoadSecret(dir, fromEnv)
	if err != nil {
		return nil, auth.Secret{}, err
	}
	if migrate {
		if _, err := storage.Migrate(ctx, databasePath(dir), embed.Migrations()); err != nil {
			return nil, auth.Secret{}, err
		}
	}
	store, err := storage.Open(ctx, databasePath(dir), storage.Options{
		Migrations: embed.Migrations(), Secret: secret, Now: now, Held: heldRows,
	})
	return store, secret, err
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this binary and its parts",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "pikarc %s\ncommit %s\n%s\nSQLite %s\n",
				version, commit, runtime.Version(), storage.SQLiteVersion)
			return err
		},
	}
}

func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

func newMigrate() *cobra.Command {
	var status, noBackup bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema up to date",
		Long:  "Brings the database's schema up to date. Where there is something to do, a copy of the database is kept beside it.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return migrate(cmd.Context(), dataDir(cmd), status, noBackup, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&status, "status", false, "only say what is pending")
	cmd.Flags().BoolVar(&noBackup, "no-backup", false, "keep no copy of the database as it was")
	return cmd
}

func migrate(ctx context.Context, dir string, statusOnly, noBackup bool, stdout io.Writer) error {
	path := databasePath(dir)
	if statusOnly {
		st, err := storage.SchemaStatus(ctx, path, embed.Migrations())
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "schema version %d, newest %d, pending %d\n", st.Current, st.Newest, len(st.Pending))
		if errors.Is(st.Err(), storage.ErrSchemaNewer) {
			return st.Err()
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	var options []storage.MigrateOption
	if noBackup {
		options = append(options, storage.WithoutBackup)
	}
	applied, err := storage.Migrate(ctx, path, embed.Migrations(), options...)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "applied %d migrations; the schema is up to date\n", len(applied))
	return nil
}
