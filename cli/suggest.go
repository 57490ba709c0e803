package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// closest finds the names that are a typing mistake away from a word: cobra's
// own measure, which it keeps for commands.
func closest(word string, names []string) []string {
	const mistakes = 2
	dictionary := &cobra.Command{SuggestionsMinimumDistance: mistakes}
	for _, name := range names {
		dictionary.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	return dictionary.SuggestionsFor(word)
}

// didYouMean asks, at the end of a sentence, whether one of these was meant; of
// none it is empty.
func didYouMean(names []string) string {
	const most = 3
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	// More than three are no help: then nothing is really near.
	if len(names) == 0 || len(names) > most {
		return ""
	}
	return fmt.Sprintf(". Did you mean %s?", strings.Join(names, " or "))
}

// unknownCommand is the error of a mistyped command, with the one that is spelled alike.
func unknownCommand(root *cobra.Command, word string) error {
	var names []string
	for _, cmd := range root.Commands() {
		names = append(names, cmd.Name())
	}
	return usage(fmt.Errorf("unknown command %q%s", word, didYouMean(closest(word, names))))
}

// flagError says of an unknown flag which one may have been meant.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return usage(err)
	}
	var names []string
	for _, flags := range []*pflag.FlagSet{cmd.Flags(), cmd.InheritedFlags()} {
		flags.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	}
	close := closest(unknown.GetSpecifiedName(), names)
	for i := range close {
		close[i] = "--" + close[i]
	}
	return usage(fmt.Errorf("%w%s", err, didYouMean(close)))
}
