package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/policies/policyfile"
	"github.com/pikarc/server/storage"
)

// newPolicies groups the commands for policies that are kept in a file, under version
// control.
func newPolicies(stdin *os.File) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policies",
		Short: "Keep a workspace's policies in a file: apply it, or export one",
		Long:  "Keeps a workspace's policies in a YAML file: applies it, or exports one.",
		Example: "  pikarc policies export --email you@example.com > policies.yaml\n" +
			"  pikarc policies apply --email you@example.com policies.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newApplyPolicies(stdin), newExportPolicies())
	return cmd
}

// newExportPolicies writes what apply reads: applying an export changes nothing.
func newExportPolicies() *cobra.Command {
	var email string
	var ready bool
	cmd := &cobra.Command{
		Use:   "export --email EMAIL",
		Short: "Print a workspace's policies as YAML",
		Long: "Prints a workspace's policies as YAML, in the order in which they are asked. With --ready it prints the\n" +
			"ready-made ones instead, to begin with.",
		Example: "  pikarc policies export --email you@example.com > policies.yaml\n" +
			"  pikarc policies export --ready",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ready {
				return printPolicies(cmd.OutOrStdout(), policies.Ready())
			}
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return withWorkspace(cmd.Context(), at, email,
				func(store *storage.Store, w storage.Workspace) error {
					all, err := policiesOf(cmd.Context(), store, w)
					if err != nil {
						return err
					}
					return printPolicies(cmd.OutOrStdout(), all)
				})
		},
	}
	cmd.Flags().StringVar(&email, "email", "", "the account's email (required)")
	cmd.Flags().BoolVar(&ready, "ready", false, "print the ready-made policies instead")
	return cmd
}

// printPolicies writes policies as YAML.
func printPolicies(w io.Writer, all []policies.Policy) error {
	text, err := policyfile.Write(all)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// policiesOf reads a workspace's policies without what the server adds to them.
func policiesOf(ctx context.Context, store *storage.Store, w storage.Workspace) ([]policies.Policy, error) {
	stored, err := store.Policies(ctx, w.Key())
	all := make([]policies.Policy, len(stored))
	for i, p := range stored {
		all[i] = p.Policy
	}
	return all, err
}

// applyOptions are the flags of apply, and where it asks and prints.
type applyOptions struct {
	email              string
	yes, dryRun, prune bool
	stdin              *os.File
	stdout             io.Writer
}

// newApplyPolicies makes apply, which leaves alone what its file does not name: several
// files may each hold a part of the policies. Only --prune takes one file for all.
func newApplyPolicies(stdin *os.File) *cobra.Command {
	o := applyOptions{stdin: stdin}
	cmd := &cobra.Command{
		Use:   "apply --email EMAIL FILE",
		Short: "Add and change a workspace's policies from a YAML file",
		Long: "Adds and changes the policies that a YAML file names; `pikarc policies export`\n" +
			"writes one. Other policies stay as they are, unless --prune deletes those that\n" +
			"the file does not name. A FILE of - is standard input.\n\n" +
			"It first shows what would change, and asks; without a terminal it needs --yes.\n" +
			"Changes apply to the very next decision of a running server, and are recorded in\n" +
			"the audit log.",
		Example: "  pikarc policies apply --email you@example.com --dry-run policies.yaml\n" +
			"  pikarc policies apply --email you@example.com --yes policies.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			return usage(cobra.ExactArgs(1)(cmd, args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.stdout = cmd.OutOrStdout()
			// Before the file is read, which may be standard input itself.
			if !o.yes && !o.dryRun && !term.IsTerminal(int(stdin.Fd())) {
				return usage(errors.New("standard input is not a terminal, so it cannot ask: " +
					"use --yes or --dry-run"))
			}
			wanted, err := readPolicies(args[0], stdin)
			if err != nil {
				return err
			}
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return withWorkspace(cmd.Context(), at, o.email,
				func(store *storage.Store, w storage.Workspace) error {
					return applyPolicies(cmd.Context(), store, w, wanted, o)
				})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.email, "email", "", "the account's email (required)")
	f.BoolVar(&o.yes, "yes", false, "do it without asking")
	f.BoolVar(&o.dryRun, "dry-run", false, "only show what would change")
	f.BoolVar(&o.prune, "prune", false, "delete policies that the file does not name")
	return cmd
}

// readPolicies reads a file or standard input. All mistakes are reported at once, with their lines.
func readPolicies(name string, stdin io.Reader) ([]policies.Policy, error) {
	in := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read the policies: %w", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	// One byte more than is allowed, so that Read can tell a file that is too large.
	text, err := io.ReadAll(io.LimitReader(in, policyfile.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	wanted, err := policyfile.Read(text)
	if err != nil {
		return nil, fmt.Errorf("nothing was changed: %s has mistakes:\n%w", name, err)
	}
	return wanted, nil
}

// policyChanges are what a file would change of a workspace's policies.
type policyChanges struct {
	save   []policies.Policy
	remove []string
}

// applyPolicies shows what would change, asks, and changes it.
func applyPolicies(
	ctx context.Context, store *storage.Store, w storage.Workspace, wanted []policies.Policy, o applyOptions,
) error {
	present, err := policiesOf(ctx, store, w)
	if err != nil {
		return err
	}
	c := comparePolicies(o.stdout, present, wanted, o.prune)
	switch {
	case len(c.save)+len(c.remove) == 0:
		_, err = fmt.Fprintln(o.stdout, "Nothing changes.")
		return err
	// The store refuses it too, but only after it has saved some of them.
	case len(present)+len(wanted) > policies.MaxPolicies && tooMany(present, c):
		return fmt.Errorf("nothing was changed: a workspace has at most %d policies", policies.MaxPolicies)
	case o.dryRun:
		_, err = fmt.Fprintln(o.stdout, "Nothing was changed: this is what would change.")
		return err
	}
	if sure, err := o.confirm(); err != nil || !sure {
		return err
	}
	if err := c.apply(ctx, store, w); err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.stdout, "%d saved, %d deleted: in force for the next decision.\n", len(c.save), len(c.remove))
	return err
}

// tooMany reports whether the workspace would have more policies than it may.
func tooMany(present []policies.Policy, c policyChanges) bool {
	n := len(present) - len(c.remove)
	for _, p := range c.save {
		if !slices.ContainsFunc(present, func(old policies.Policy) bool { return old.Name == p.Name }) {
			n++
		}
	}
	return n > policies.MaxPolicies
}

// comparePolicies says what would change.
func comparePolicies(out io.Writer, present, wanted []policies.Policy, prune bool) (c policyChanges) {
	find := func(list []policies.Policy, name string) int {
		return slices.IndexFunc(list, func(p policies.Policy) bool { return p.Name == name })
	}
	for _, p := range wanted {
		at := find(present, p.Name)
		var before policies.Policy
		switch {
		case at < 0:
			fmt.Fprintf(out, "+ %s\n", p.Name)
			// Compared with the defaults, so that only what the file says is printed.
			before = policies.Policy{Name: p.Name, Enabled: true, Priority: policies.DefaultPriority}
		// Saving it again would make a version without a difference.
		case policyfile.Same(present[at], p):
			continue
		default:
			fmt.Fprintf(out, "~ %s\n", p.Name)
			before = present[at]
		}
		c.save = append(c.save, p)
		for _, change := range policyfile.Changes(before, p) {
			printPolicyChange(out, change)
		}
	}
	for _, p := range present {
		if prune && find(wanted, p.Name) < 0 {
			fmt.Fprintf(out, "- %s\n", p.Name)
			c.remove = append(c.remove, p.Name)
		}
	}
	return c
}

// printPolicyChange prints a field before and after.
func printPolicyChange(out io.Writer, c policyfile.Change) {
	switch {
	case c.Before == "":
		fmt.Fprintf(out, "    %s: %s\n", c.Field, c.After)
	case c.After == "":
		fmt.Fprintf(out, "    %s: %s → nothing\n", c.Field, c.Before)
	default:
		fmt.Fprintf(out, "    %s: %s → %s\n", c.Field, c.Before, c.After)
	}
}

// confirm asks for confirmation, unless --yes was given.
func (o applyOptions) confirm() (bool, error) {
	if o.yes {
		return true, nil
	}
	fmt.Fprint(o.stdout, "Apply this? [y/N] ")
	answer, err := bufio.NewReader(o.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if word := strings.ToLower(strings.TrimSpace(answer)); word == "y" || word == "yes" {
		return true, nil
	}
	_, err = fmt.Fprintln(o.stdout, "Nothing was changed.")
	return false, err
}

// apply deletes before it saves, so that the limit of policies leaves room for new ones.
func (c policyChanges) apply(ctx context.Context, store *storage.Store, w storage.Workspace) error {
	done := 0
	for _, name := range c.remove {
		// Somebody else may have deleted it since it was compared.
		if err := store.DeletePolicy(ctx, w.Key(), name); err != nil && !errors.Is(err, storage.ErrNotFound) {
			return c.stopped(done, name, err)
		}
		done++
	}
	for _, p := range c.save {
		if _, err := store.SavePolicy(ctx, w.Key(), p); err != nil {
			return c.stopped(done, p.Name, err)
		}
		done++
	}
	return nil
}

// stopped tells how far it came: each policy is changed in a transaction of its own.
func (c policyChanges) stopped(done int, name string, err error) error {
	return fmt.Errorf("%d of %d changes were made, the next one failed (apply the file again): %s: %w",
		done, len(c.save)+len(c.remove), name, err)
}
