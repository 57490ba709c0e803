package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/storage"
	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/verify"
)

// newVerify makes by hand the check that a server makes every day, unless told otherwise.
func newVerify() *cobra.Command {
	var repair, asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove that every counter is what the ledger says",
		Long: "Recomputes every counter and rollup from the ledger, checks that the rows fit " +
			"together and that the file is\n" +
			"sound, and lists each difference with what it should be. Works while the server " +
			"runs, on one snapshot.\n" +
			"Exit code 1 when differences are left.",
		Example: `  pikarc verify
  pikarc verify --repair --data-dir /var/lib/pikarc`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return runVerify(cmd.Context(), at, repair, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false,
		"set right what the ledger proves; decisions wait meanwhile")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// runVerify verifies the ledger, and fails if differences are left.
func runVerify(ctx context.Context, at ledgerLocation, repair, asJSON bool, stdout io.Writer) error {
	if err := at.require(ctx); err != nil {
		return err
	}
	report, err := at.verify(ctx, repair)
	if err != nil {
		return err
	}
	// Printed first, also when the command then fails.
	if err := printReport(stdout, report, asJSON); err != nil {
		return err
	}
	if report.Corrupt() {
		return dbfile.ErrDamagedFile // only a file is checked for that
	}
	// A repair that has mended all of them has succeeded.
	if left := report.Found - report.Repaired; left > 0 {
		return fmt.Errorf("%d differences are left: see docs/ops/verify.md", left)
	}
	return nil
}

// verify opens the ledger by itself, since a broken one may not open as a store.
func (at ledgerLocation) verify(ctx context.Context, repair bool) (verify.Report, error) {
	if at.inPostgres() {
		return storage.VerifyPostgres(ctx, at.url, embed.PostgresMigrations(),
			verify.Options{Repair: repair})
	}
	return verify.File(ctx, databasePath(at.dir),
		verify.Options{Migrations: embed.Migrations(), Repair: repair})
}

// printReport prints differences and how many checks were made.
func printReport(w io.Writer, r verify.Report, asJSON bool) error {
	if asJSON {
		return printJSON(w, map[string]any{
			"checks": r.Checks, "runs": r.Runs, "seconds": r.Took.Seconds(), "found": r.Found,
			"repaired":    r.Repaired,
			"differences": append([]verify.Difference{}, r.Differences...), // never null
		})
	}
	for _, d := range r.Differences {
		where, mark := d.Check, ""
		if d.Row != "" {
			where += ": " + d.Row
		}
		if d.Repaired {
			mark = " (repaired)"
		}
		if _, err := fmt.Fprintf(w, "%s: is %s, should be %s%s\n", where, d.Stored, d.ShouldBe,
			mark); err != nil {
			return err
		}
	}
	if more := r.Found - int64(len(r.Differences)); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
	_, err := fmt.Fprintf(w, "%d checks over %d runs in %.1f s: %d differences, %d repaired\n",
		r.Checks, r.Runs, r.Took.Seconds(), r.Found, r.Repaired)
	return err
}
