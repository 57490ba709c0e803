package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/auth/privatefile"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/storage/dbfile"
)

// oneFile allows exactly one argument.
func oneFile(cmd *cobra.Command, args []string) error {
	return usage(cobra.ExactArgs(1)(cmd, args))
}

// newBackup is for backups that the operator schedules. A server makes its own with
// --backup-dir.
func newBackup() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the database to a file, also while the server runs",
		Long: "Writes one consistent copy of the database to FILE, checks it, and only then " +
			"gives it that name; an earlier\n" +
			"backup of that name is replaced. The server secret (secret.key) is not in it: keep " +
			"it apart from the backups.",
		Example: "  pikarc backup /backups/pikarc.db",
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return backup(cmd.Context(), at, args[0], cmd.OutOrStdout())
		},
	}
}

// backup copies the database beside a running server; dbfile.Backup checks the copy before it gets
// its name.
func backup(ctx context.Context, at ledgerLocation, file string, stdout io.Writer) error {
	if err := at.requireFile("backup"); err != nil {
		return err
	}
	bytes, err := dbfile.Backup(ctx, databasePath(at.dir), file)
	// A missing database gets the error that names the flag, whatever Backup says of it.
	if !hasDatabase(at.dir) {
		return at.errNone()
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s: %d bytes, checked\n", file, bytes)
	return err
}

// newRestore replaces the database as a whole, so nothing may have it open meanwhile.
func newRestore() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in the place of the database; the server must not run",
		Long: "Checks the backup and puts it in the place of the database. Refuses while " +
			"anything uses the database, and\n" +
			"without --force where there is one already; that one is kept under another name. " +
			"FILE stays as it is.\n" +
			"API keys and passwords of the backup work at once. Put its secret.key beside it, " +
			"or people must sign in anew\n" +
			"and stored keys cannot be shown.",
		Example: `  pikarc restore /backups/pikarc.db
  pikarc restore /backups/pikarc.db --force --data-dir /var/lib/pikarc`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return restore(cmd.Context(), at, args[0], force, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&force, "force", false,
		"replace an existing database, which is kept under another name")
	return cmd
}

// restore puts a backup in the database's place. An old database is kept under another name, which
// is printed.
func restore(ctx context.Context, at ledgerLocation, file string, force bool, stdout io.Writer) error {
	if err := at.requireFile("restore"); err != nil {
		return err
	}
	if err := privatefile.MkdirAll(at.dir); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	kept, err := dbfile.Restore(ctx, file, databasePath(at.dir), embed.Migrations(), force)
	if err != nil {
		return err
	}
	if kept != "" {
		fmt.Fprintf(stdout, "the old database is kept as %s\n", kept)
	}
	_, err = fmt.Fprintf(stdout, "%s is restored from %s\n", at, file)
	return err
}
