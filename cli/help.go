package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pikarc/server/plans"
)

// helpWidth is how many columns a page of help has at most.
const helpWidth = 100

// groupMark annotates a flag with the title under which help lists it.
const groupMark = "group"

// flagGroup defines flags of a command that help lists together, in this order.
func flagGroup(cmd *cobra.Command, title string, define func(*pflag.FlagSet)) {
	flags := pflag.NewFlagSet(title, pflag.ContinueOnError)
	flags.SortFlags = false
	define(flags)
	flags.VisitAll(func(f *pflag.Flag) { annotate(f, groupMark, title) })
	cmd.Flags().SortFlags = false
	cmd.Flags().AddFlagSet(flags)
}

// printHelp says what a command does and how it is called.
func printHelp(cmd *cobra.Command, _ []string) {
	about := cmd.Long
	if about == "" {
		about = cmd.Short + "."
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n%s", wrap(about), cmd.UsageString())
}

// wrap breaks paragraphs, which blank lines divide, into lines.
func wrap(text string) string {
	var b strings.Builder
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			b.WriteString("\n\n")
		}
		if strings.HasPrefix(paragraph, " ") || strings.HasPrefix(paragraph, "\t") {
			b.WriteString(paragraph) // code
			continue
		}
		column := 0
		for word := range strings.FieldsSeq(paragraph) {
			length := utf8.RuneCountInString(word)
			switch {
			case column == 0:
			case column+1+length > helpWidth:
				b.WriteByte('\n')
				column = 0
			default:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += length
		}
	}
	return b.String()
}

// printUsage is the second half of a command's help, below what it does.
func printUsage(cmd *cobra.Command) error {
	w := cmd.OutOrStderr()
	fmt.Fprintf(w, "Usage:\n  %s\n", cmd.UseLine())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s COMMAND --help\n\nCommands:\n", cmd.CommandPath())
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(w, "  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", strings.TrimRight(cmd.Example, "\n"))
	}
	for _, group := range groups(cmd.LocalFlags()) {
		printFlags(w, group.Name(), group)
	}
	printFlags(w, "Flags of every command", cmd.InheritedFlags())
	return nil
}

// printFlags prints a titled group of flags, if it has any.
func printFlags(w io.Writer, title string, flags *pflag.FlagSet) {
	if text := flags.FlagUsagesWrapped(helpWidth); text != "" {
		fmt.Fprintf(w, "\n%s:\n%s", title, text)
	}
}

// groups divides flags by their titles; those without one come last.
func groups(flags *pflag.FlagSet) (all []*pflag.FlagSet) {
	rest := pflag.NewFlagSet("Flags", pflag.ContinueOnError)
	flags.VisitAll(func(f *pflag.Flag) {
		titles := f.Annotations[groupMark]
		if len(titles) == 0 {
			rest.AddFlag(f)
			return
		}
		for _, group := range all {
			if group.Name() == titles[0] {
				group.AddFlag(f)
				return
			}
		}
		// Groups come in the order in which their first flag was defined.
		group := pflag.NewFlagSet(titles[0], pflag.ContinueOnError)
		group.SortFlags = false
		group.AddFlag(f)
		all = append(all, group)
	})
	return append(all, rest)
}

// planNames are all plans, for completion.
func planNames() (names []string) {
	for _, p := range plans.All() {
		names = append(names, string(p.ID))
	}
	return names
}

// choices completes a flag from a list.
func choices(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values,
		cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag is defined beside this call
	}
}
