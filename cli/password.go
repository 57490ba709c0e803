package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/storage"
)

// newSetPassword is for the operator: the server sends no mail about forgotten passwords.
func newSetPassword(stdin *os.File) *cobra.Command {
	var email string
	var fromStdin bool
	cmd := &cobra.Command{
		Use:   "set-password --email EMAIL",
		Short: "Set a forgotten password; ends the account's sessions and lifts its lockouts",
		Long: "Sets an account's password without asking for the old one, ends all of its " +
			"sessions, and forgets its failed sign-ins. API keys stay as they are. It works " +
			"beside a running server, whose very next request knows.",
		Example: `  pikarc set-password --email you@example.com
  pikarc set-password --email you@example.com --password-stdin < password`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ask := func() (string, error) {
				return readPassword(stdin, cmd.ErrOrStderr(), fromStdin)
			}
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return setPassword(cmd.Context(), at, email, ask, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&email, "email", "", "the account's email (required)")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false,
		"read the password from standard input")
	return cmd
}

// setPassword sets a password without the old one. Who can run it can read the database, so it asks
// for nothing else.
func setPassword(
	ctx context.Context, at ledgerLocation, email string, ask func() (string, error), stdout io.Writer,
) error {
	if email == "" {
		return usage(errors.New("--email is required"))
	}
	return withStore(ctx, at, func(store *storage.Store) error {
		// Before the password is asked for: a mistyped email should not cost typing it.
		account, err := store.AccountByEmail(ctx, email)
		if err != nil {
			return orNoAccount(err, email)
		}
		password, err := ask()
		if err != nil {
			return err
		}
		hash, err := auth.NewHasher(1).Hash(ctx, password)
		if err != nil {
			return err
		}
		if err := store.SetPassword(ctx, account.ID, hash); err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout,
			"The password of %s is set. All sessions have ended: sign in with it.\n", account.Email)
		return err
	})
}

// newAccounts lists all accounts, because other commands name one by its email.
func newAccounts() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "accounts",
		Short: "List the accounts with their workspaces and plans",
		Example: `  pikarc accounts
  pikarc accounts --json --data-dir /var/lib/pikarc`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return listAccounts(cmd.Context(), at, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// listAccounts prints the accounts; names of workspaces are quoted, because people chose them.
func listAccounts(ctx context.Context, at ledgerLocation, asJSON bool, stdout io.Writer) error {
	return withStore(ctx, at, func(store *storage.Store) error {
		all, err := store.Accounts(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(stdout, accountsJSON(all))
		}
		table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "EMAIL\tWORKSPACE\tPLAN\tSINCE")
		for _, a := range all {
			fmt.Fprintf(table, "%s\t%q\t%s\t%s\n", a.Email, a.WorkspaceName, a.Plan,
				a.CreatedAt.Format(time.DateOnly))
		}
		return table.Flush()
	})
}

// accountsJSON has the names that create-user --json has.
func accountsJSON(all []storage.AccountSummary) []map[string]any {
	out := make([]map[string]any, 0, len(all))
	for _, a := range all {
		out = append(out, map[string]any{
			"account_id": a.ID, "email": a.Email, "created_at": a.CreatedAt.Format(time.RFC3339),
			"workspace_id": a.Workspace, "workspace_name": a.WorkspaceName, "plan": a.Plan,
		})
	}
	return out
}
