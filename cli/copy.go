package cli

import (
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

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/auth/privatefile"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/transfer"
)

// copyOptions are the flags of copy.
type copyOptions struct {
	from, to     string
	whileServing bool
}

// newCopy moves an installation between the two engines. Within one, backups or pg_dump
// do.
func newCopy() *cobra.Command {
	var o copyOptions
	cmd := &cobra.Command{
		Use:   "copy",
		Short: "Copy everything from a data directory to PostgreSQL, or back",
		Long: "Copies a whole database from a data directory to PostgreSQL, or the other way. " +
			"The source is only read.\n" +
			"The target must be empty. Rows are staged in it, and moved into place once all are " +
			"there, equal what was\n" +
			"read, and `pikarc verify` finds no difference on either side. If the copy is " +
			"interrupted, run it again and\n" +
			"it resumes. Running it again after it has finished changes nothing.\n\n" +
			"The server secret is not copied. It is read from PIKARC_SECRET, or from secret.key " +
			"in the data directory,\n" +
			"and must be the one that the source is served with. Serve the target with it too.",
		Example: `  pikarc copy --from /var/lib/pikarc --to postgres://pikarc@db.internal/pikarc
  pikarc copy --from postgres://pikarc@db.internal/pikarc --to ./pikarc-data`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Every command has these two flags, and here it would not be clear which side they
			// mean. From the environment they are no mistake: a container sets them for all
			// commands.
			for _, name := range []string{"data-dir", databaseFlag} {
				f := cmd.Flag(name)
				if f.Changed && len(f.Annotations[fromEnvironmentMark]) == 0 {
					return usage(fmt.Errorf("copy takes no --%s: say --from and --to", name))
				}
			}
			return runCopy(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "", "data directory, or URL of a database in PostgreSQL, to read")
	f.StringVar(&o.to, "to", "", "data directory, or URL of a database in PostgreSQL, to fill")
	f.BoolVar(&o.whileServing, "while-serving", false,
		"copy a snapshot of a source that is being served, as a rehearsal")
	return cmd
}

// runCopy copies a ledger to the other engine. The secret comes from the side that is a data
// directory, or from PIKARC_SECRET: what is sealed in the ledger could not be opened without it.
func runCopy(ctx context.Context, o copyOptions, stdout, stderr io.Writer) error {
	if o.from == "" || o.to == "" {
		return usage(errors.New("say what to copy with --from, and where to with --to"))
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	// The target's directory is made only if it is to hold the ledger.
	secret, dir, err := secretToCopy(o)
	if err != nil {
		return err
	}
	if dir == o.to {
		if err := privatefile.MkdirAll(dir); err != nil {
			return fmt.Errorf("make the data directory: %w", err)
		}
	}
	progress := &progressPrinter{out: stderr}
	report, err := transfer.Copy(ctx, copySource(o.from), copySource(o.to), transfer.Options{
		Secret: secret, SQLite: embed.Migrations(), Postgres: embed.PostgresMigrations(),
		WhileServing: o.whileServing, Progress: progress.print,
	})
	switch {
	case errors.Is(err, transfer.ErrSameEngine):
		return usage(fmt.Errorf("%w: `pikarc backup` and `pikarc restore` for a data directory, pg_dump for PostgreSQL", err))
	// A rehearsal tells how long the real copy will take, while the service goes on.
	case errors.Is(err, transfer.ErrServed) || errors.Is(err, dbfile.ErrServerRunning):
		return fmt.Errorf("%w (--while-serving copies a snapshot anyway, as a rehearsal)", err)
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; run it again to resume: %w", err)
	case err != nil:
		return err
	case report.AlreadyThere:
		fmt.Fprintf(stdout, "%s already has all %d rows of %s: nothing to do\n",
			report.To, report.Rows, report.From)
		return nil
	}
	fmt.Fprintf(stdout, "%d rows of %d tables are copied from %s to %s in %.1f s", report.Rows, report.Tables,
		report.From, report.To, report.Took.Seconds())
	if report.Resumed > 0 {
		fmt.Fprintf(stdout, ", %d of them earlier", report.Resumed)
	}
	_, err = fmt.Fprintf(stdout, "; %d checks on both sides: no difference\n%s\n", report.Checks, whichSecret(dir == o.to, dir))
	return err
}

// whichSecret says which secret to serve the copy with.
func whichSecret(back bool, dir string) string {
	switch {
	case back && auth.HasSecretFile(dir):
		return "Serve it with the secret.key that is in the directory."
	case auth.HasSecretFile(dir):
		return "Serve it with PIKARC_SECRET set to what is in " + absolute(filepath.Join(dir, "secret.key")) + ", on every node."
	default:
		return "Serve it with the same PIKARC_SECRET."
	}
}

// copySource returns the database file of a data directory, or the URL unchanged.
func copySource(name string) string {
	if isURL(name) {
		return name
	}
	return databasePath(name)
}

// isURL reports whether a name is a database's URL, and not a path.
func isURL(name string) bool { return strings.Contains(name, "://") }

// secretToCopy returns the secret of the environment or of the data directory, and
// never creates one.
func secretToCopy(o copyOptions) (secret auth.Secret, dir string, err error) {
	for _, name := range []string{o.to, o.from} {
		if !isURL(name) {
			dir = name
		}
	}
	fromEnv, err := setting(serverSecret)
	if err != nil {
		return secret, dir, err
	}
	if fromEnv == "" && !auth.HasSecretFile(dir) {
		return secret, dir, errors.New("the server secret is missing: set PIKARC_SECRET to the one that the source is served with")
	}
	secret, err = auth.LoadSecret(dir, fromEnv)
	return secret, dir, err
}

// progressPrinter prints how far a copy has come: at each new phase, and every two seconds.
type progressPrinter struct {
	out      io.Writer
	phase    transfer.Phase
	printed  time.Time
	firstRow int64
	began    time.Time
}

// print is called with each chunk; it prints rarely.
func (p *progressPrinter) print(s transfer.Progress) {
	const interval = 2 * time.Second
	now := time.Now()
	if s.Phase != p.phase {
		p.phase, p.printed, p.began, p.firstRow = s.Phase, now, now, s.Done
		// The other phases do not go row by row.
		if s.Phase != transfer.Copying && s.Phase != transfer.Comparing {
			fmt.Fprintln(p.out, s.Phase)
			return
		}
	} else if now.Sub(p.printed) < interval {
		return
	}
	p.printed = now
	rate := ""
	if took := now.Sub(p.began).Seconds(); took > 1 {
		rate = fmt.Sprintf(", %.0f a second", float64(s.Done-p.firstRow)/took)
	}
	fmt.Fprintf(p.out, "%s: %d of %d rows (%d %%)%s: %s\n", s.Phase, s.Done, s.Of, 100*s.Done/max(1, s.Of), rate, s.Table)
}
