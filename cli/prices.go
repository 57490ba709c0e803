package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

// newPrices groups what concerns prices of models. A workspace's own prices are set by
// the API.
func newPrices() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "prices",
		Short:   "Price steps of the past anew, or use another catalogue",
		Long:    "Prices steps of the past anew, or uses another catalogue of published prices.",
		Example: "  pikarc prices reprice --email you@example.com --dry-run",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newReprice(), newUpdatePrices())
	return cmd
}

// repriceOptions are the flags of reprice.
type repriceOptions struct {
	email, model, since, until string
	all, dryRun, json          bool
}

// newReprice is for calls that were booked without a price, or with one that was wrong.
func newReprice() *cobra.Command {
	var o repriceOptions
	cmd := &cobra.Command{
		Use:   "reprice --email EMAIL",
		Short: "Give steps of the past the price that their model has by now",
		Long: "Gives steps of the past the price that their model has by now, and books the difference on the days on which\n" +
			"they were booked: steps without a price, or with --all those that have one too. Prices with a date or hours are\n" +
			"those that held when the step was reported. A step whose model has no price keeps what it has.\n\n" +
			"It works beside a running server, which hardly notices it, and may be stopped at any time: called again, it does\n" +
			"the rest. What was done is in the audit log. --dry-run says what would change, and changes nothing.",
		Example: "  pikarc prices reprice --email you@example.com --dry-run\n" +
			"  pikarc prices reprice --email you@example.com --all --model gpt-4o --since 2026-11-01",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := o.repricing()
			if err != nil {
				return err
			}
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return reprice(cmd.Context(), at, o, in, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.email, "email", "", "the account's email (required)")
	f.StringVar(&o.model, "model", "", "only steps that name exactly this model")
	f.StringVar(&o.since, "since", "", "only what is booked on this UTC day or later, such as 2026-11-01")
	f.StringVar(&o.until, "until", "", "only what is booked on this UTC day or before")
	f.BoolVar(&o.all, "all", false, "also steps that have a price")
	f.BoolVar(&o.dryRun, "dry-run", false, "only say what would change")
	f.BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

// repricing checks the options and turns them into the store's.
func (o repriceOptions) repricing() (in storage.Repricing, err error) {
	in = storage.Repricing{Model: o.model, OnlyUnpriced: !o.all, DryRun: o.dryRun}
	if in.From, err = parseDate("--since", o.since); err != nil {
		return in, err
	}
	if in.To, err = parseDate("--until", o.until); err != nil {
		return in, err
	}
	if !in.To.IsZero() {
		// The flag names the last day; the store takes the day after it.
		in.To = in.To.AddDate(0, 0, 1)
	}
	if !in.From.IsZero() && !in.To.IsZero() && !in.From.Before(in.To) {
		return in, usage(fmt.Errorf("--since %s is after --until %s", o.since, o.until))
	}
	return in, nil
}

// parseDate reads a UTC day; the zero time for none.
func parseDate(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return t, usage(fmt.Errorf("%s %q: write a day as 2026-11-01", flag, text))
	}
	return t, nil
}

// reprice prices the past anew, and prints what was done also when it is stopped.
func reprice(ctx context.Context, at ledgerLocation, o repriceOptions, in storage.Repricing, stdout io.Writer) error {
	catalogue, err := loadCatalogue(at.dir)
	if err != nil {
		return err
	}
	// The store looks prices up in it, as the server does, with the operator's own first.
	opts := storage.Options{Catalogue: catalogue}
	return withWorkspaceOf(ctx, at, o.email, opts, func(store *storage.Store, w storage.Workspace) error {
		out, err := store.Reprice(ctx, w.Key(), in)
		// What is done by then stays done, and is worth printing.
		stopped := errors.Is(err, context.Canceled)
		if err != nil && !stopped {
			return err
		}
		if err := printRepriced(stdout, out, o); err != nil {
			return err
		}
		if stopped {
			return errors.New("stopped: what is listed is done; call it again for the rest")
		}
		return nil
	})
}

// printRepriced prints what has changed, in all and by day.
func printRepriced(w io.Writer, r storage.Repriced, o repriceOptions) error {
	if o.json {
		return printJSON(w, server.RepricedOf(r, o.dryRun))
	}
	verb := "priced anew"
	if o.dryRun {
		verb = "would be priced anew"
	}
	fmt.Fprintf(w, "%d steps %s: $%s before, $%s after, %s\n", r.Steps, verb, r.Before, r.After, signed(r.Difference()))
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, d := range r.Days {
		fmt.Fprintf(out, "%s\t%s\n", d.Date.Format(time.DateOnly), signed(d.Difference))
	}
	return out.Flush()
}

// signed is a difference with its sign.
func signed(m plans.Money) string {
	if m < 0 {
		return "-$" + (-m).String()
	}
	return "+$" + m.String()
}
