package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/auth/privatefile"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/prices"
)

// maxCatalogue is how large a catalogue may be, in bytes; the one in the binary has 180,000.
const maxCatalogue = 8 << 20

// cataloguePath is where a catalogue of the operator's own lies.
func cataloguePath(dir string) string { return filepath.Join(dir, "catalogue.txt") }

// loadCatalogue returns the catalogue of published prices: the one in the data directory, if there
// is one that is not older than the one in the binary.
func loadCatalogue(dir string) (*prices.Catalogue, error) {
	embedded, err := prices.ParseCatalogue(embed.Catalogue())
	if err != nil {
		return nil, fmt.Errorf("read the catalogue of prices: %w", err)
	}
	own, err := readCatalogue(cataloguePath(dir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return embedded, nil
	case err != nil:
		return nil, fmt.Errorf("%w; mend the file, or remove it to use the catalogue in the binary", err)
	// A new binary brings newer prices than the file that an operator once put there.
	case own.Older(embedded):
		return embedded, nil
	}
	return own, nil
}

// readCatalogue reads a catalogue, and stops at maxCatalogue: the file may be anything.
func readCatalogue(path string) (*prices.Catalogue, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCatalogue+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxCatalogue {
		return nil, fmt.Errorf("%s is larger than %d MiB: not a catalogue", path, maxCatalogue>>20)
	}
	c, err := prices.ParseCatalogue(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s is not a catalogue: %w", path, err)
	}
	return c, nil
}

// updateOptions are the flags of prices update.
type updateOptions struct {
	from   string
	accept []string
	yes    bool
}

// newUpdatePrices makes the command for prices that are newer than the release. The
// server downloads none by itself.
func newUpdatePrices() *cobra.Command {
	var o updateOptions
	cmd := &cobra.Command{
		Use:   "update --from FILE",
		Short: "Use another catalogue of published prices than the binary's",
		Long: "Uses another catalogue of published prices than the binary's: a newer one, or\n" +
			"your own. It shows what would change, and changes nothing without --yes. The\n" +
			"file is kept in the data directory. A server uses it from its next start, until\n" +
			"the file is removed or the binary's own catalogue is newer.\n\n" +
			"The format is that of embed/catalogue/catalogue.txt in the source, which `make\n" +
			"prices` writes. An older catalogue is refused. So are prices that fell to zero,\n" +
			"moved more than 3 ×, or are above $0.01 a token, unless --accept names the model.",
		Example: "  pikarc prices update --from catalogue.txt\n" +
			"  pikarc prices update --from catalogue.txt --accept openai/gpt-4o --yes",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return updatePrices(cmd.Context(), at, o, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "", "the catalogue (required)")
	f.StringArrayVar(&o.accept, "accept", nil, "take the prices of this `PROVIDER/MODEL`, however much they moved; may be repeated")
	f.BoolVar(&o.yes, "yes", false, "take it, and do not only show what would change")
	return cmd
}

// updatePrices compares a catalogue with the one in use, and installs it with --yes. Prices that
// look like mistakes stop it: a wrong one would be booked with every call.
func updatePrices(ctx context.Context, at ledgerLocation, o updateOptions, stdout io.Writer) error {
	if o.from == "" {
		return usage(errors.New("say which catalogue: --from FILE"))
	}
	// A mistyped --data-dir would otherwise get a catalogue that no server reads.
	if err := at.require(ctx); err != nil {
		return err
	}
	before, err := loadCatalogue(at.dir)
	if err != nil {
		return err
	}
	after, err := readCatalogue(o.from)
	if err != nil {
		return err
	}
	// An older catalogue is nearly always a file that was forgotten somewhere.
	if after.Older(before) {
		return fmt.Errorf("%s is older (%s) than the catalogue in use (%s)", o.from, after.Version(), before.Version())
	}
	changes := prices.Compare(before, after, now())
	if doubted := unacceptedWarnings(changes, o.accept); len(doubted) > 0 {
		return fmt.Errorf("nothing was changed: check these prices, and name each model that is "+
			"right with --accept:\n%s",
			strings.Join(doubted, "\n"))
	}
	if err := printChanges(stdout, before, after, changes); err != nil {
		return err
	}
	if !o.yes {
		_, err := fmt.Fprintln(stdout, "Nothing was changed: add --yes to use it.")
		return err
	}
	if err := installCatalogue(o.from, at.dir); err != nil {
		return fmt.Errorf("keep the catalogue: %w", err)
	}
	_, err = fmt.Fprintf(stdout, "Saved as %s. A running server uses it from its next start.\n",
		cataloguePath(at.dir))
	if at.inPostgres() {
		_, err = fmt.Fprintln(stdout, "Each node reads the file in its own data directory: copy "+
			"it to all of them.")
	}
	return err
}

// unacceptedWarnings lists the suspicious changes that --accept does not name.
func unacceptedWarnings(changes []prices.Change, accepted []string) (lines []string) {
	for _, c := range changes {
		// The prices of a service tier are listed as MODEL@TIER; --accept names the model.
		if model, _, _ := strings.Cut(c.Model, "@"); c.Doubt != "" && !slices.Contains(accepted, model) {
			lines = append(lines, fmt.Sprintf("  %s %s: %s → %s", c.Model, c.Doubt, cmp.Or(c.Before, "none"), c.After))
		}
	}
	return lines
}

// printChanges lists which prices differ.
func printChanges(w io.Writer, before, after *prices.Catalogue, changes []prices.Change) error {
	fmt.Fprintf(w, "from  %s\nto    %s\n%d prices differ (USD for a million tokens, or a call)\n", before.Version(), after.Version(), len(changes))
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range changes {
		fmt.Fprintf(out, "%s\t%s\t→ %s\n", c.Model, cmp.Or(c.Before, "none"), cmp.Or(c.After, "none"))
	}
	return out.Flush()
}

// installCatalogue copies the file into the data directory, atomically.
func installCatalogue(from, dir string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := privatefile.MkdirAll(dir); err != nil {
		return err
	}
	// A server that starts now reads the old catalogue or the new one, never half of it.
	f, err := privatefile.CreateTemp(dir, "catalogue-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), cataloguePath(dir))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return privatefile.SyncDir(dir)
}
