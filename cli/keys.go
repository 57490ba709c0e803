package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

// newCreateKey makes the command for further keys. A workspace's first key comes with its
// account, and rotate-key replaces it.
func newCreateKey() *cobra.Command {
	var email, label, scope, expires string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create-key --email EMAIL",
		Short: "Make another API key for an account's workspace",
		Long: "Makes another API key for an account's workspace, and prints it, once.\n\n" +
			"  agent  asks, reports and reads: what an agent needs\n" +
			"  read   reads only: for reports and monitoring\n" +
			"  admin  also changes budgets, the kill switch, prices, users and keys: for no agent",
		Example: "  pikarc create-key --email you@example.com --scope admin --label terraform\n" +
			"  pikarc create-key --email you@example.com --label nightly --expires 90d",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := newKeyOf(label, scope, expires)
			if err != nil {
				return err
			}
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return createKey(cmd.Context(), at, email, in, asJSON, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&email, "email", "", "the account's email (required)")
	f.StringVar(&label, "label", storage.DefaultKeyLabel, "a name for the key")
	f.StringVar(&scope, "scope", string(storage.ScopeAgent), strings.Join(storage.Scopes(), ", "))
	f.StringVar(&expires, "expires", "",
		"when it ends: after 90d or 12h, or at a date or RFC 3339 time (never unless set)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// newKeyOf checks the options and converts them to the store's.
func newKeyOf(label, scope, expires string) (in storage.NewKey, err error) {
	in = storage.NewKey{Label: label, Scope: storage.Scope(scope)}
	if err := checkLabel(label); err != nil {
		return in, err
	}
	if !isScope(in.Scope) {
		return in, usage(fmt.Errorf("--scope %q is none of %s", scope,
			strings.Join(storage.Scopes(), ", ")))
	}
	if expires != "" {
		at := now()
		if in.ExpiresAt, err = parseExpiry(expires, at); err != nil {
			return in, usage(fmt.Errorf("--expires %q: %w", expires, err))
		}
	}
	return in, nil
}

// isScope reports whether a key can have this scope.
func isScope(scope storage.Scope) bool {
	return scope == storage.ScopeAgent || scope == storage.ScopeRead || scope == storage.ScopeAdmin
}

// checkLabel applies the API's limits to a label.
func checkLabel(label string) error {
	if n := utf8.RuneCountInString(label); n < 1 || n > server.MaxName ||
		!utf8.ValidString(label) || strings.Contains(label, "\x00") {
		return usage(fmt.Errorf("--label must have 1 to %d characters", server.MaxName))
	}
	return nil
}

// parseExpiry reads a time from now on (90d, 12h30m), a date, which ends in
// UTC before it begins, or an RFC 3339 time.
func parseExpiry(text string, now time.Time) (t time.Time, err error) {
	after, err := parseDays(text)
	switch {
	case err == nil:
		t = now.Add(after)
	default:
		if t, err = time.Parse(time.DateOnly, text); err != nil {
			t, err = time.Parse(time.RFC3339, text)
		}
		if err != nil {
			return t, errors.New("write 90d, 12h, 2027-01-31 or 2027-01-31T18:00:00Z")
		}
	}
	// RFC 3339, in which the API writes times, has years of four digits.
	const lastYear = 9999
	if !t.After(now) || t.Year() > lastYear {
		return t, errors.New("that is not in the future")
	}
	return t.UTC(), nil
}

// parseDays is time.ParseDuration that also knows days, alone: 90d.
func parseDays(text string) (time.Duration, error) {
	const day, most = 24 * time.Hour, 100_000
	days, found := strings.CutSuffix(text, "d")
	if !found {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseUint(days, 10, 32)
	if err != nil || n > most {
		return 0, errors.New("not a number of days")
	}
	return time.Duration(n) * day, nil
}

// createKey makes a key beside the others and prints it, the only time that it is shown.
func createKey(
	ctx context.Context, at ledgerLocation, email string, in storage.NewKey, asJSON bool, stdout io.Writer,
) error {
	return withWorkspace(ctx, at, email, func(store *storage.Store, w storage.Workspace) error {
		key, err := store.CreateKey(ctx, w.Key(), in)
		if errors.Is(err, storage.ErrTooManyKeys) {
			return fmt.Errorf("%s has %d active API keys, the most that a workspace may have: "+
				"revoke one with pikarc revoke-key", email, storage.MaxKeys)
		}
		if err != nil {
			return err
		}
		return printKey(stdout, asJSON, server.CreatedKeyOf(key), key.Full)
	})
}

// printKey prints a key alone, so that a script can take it, or all about it as JSON.
func printKey(stdout io.Writer, asJSON bool, key any, full string) error {
	if asJSON {
		return printJSON(stdout, key)
	}
	_, err := fmt.Fprintln(stdout, full)
	return err
}

// newRotateKey replaces the first key only. Others are replaced by create-key and
// revoke-key, in the order and at the time that suit their agents.
func newRotateKey() *cobra.Command {
	var email string
	var in storage.Rotation
	var overlap string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rotate-key --email EMAIL",
		Short: "Replace a workspace's first API key",
		Long: "Replaces a workspace's first API key, the one that it was made with or its " +
			"successor, and prints the new one.\n" +
			"The old key ends at once, unless it is given an --overlap: time to tell agents the " +
			"new one.",
		Example: "  pikarc rotate-key --email you@example.com\n" +
			"  pikarc rotate-key --email you@example.com --label \"from Monday\" --overlap 15m " +
			"--json",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := checkLabel(in.Label); err != nil {
				return err
			}
			if in.Overlap, err = parseOverlap(overlap); err != nil {
				return err
			}
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return rotateKey(cmd.Context(), at, email, in, asJSON, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&email, "email", "", "the account's email (required)")
	f.StringVar(&in.Label, "label", storage.DefaultKeyLabel, "a name for the new key")
	f.StringVar(&overlap, "overlap", "0s",
		"for how long the old key goes on, such as 15m or 1d; 7d at most")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// parseOverlap parses for how long the old key stays valid.
func parseOverlap(text string) (time.Duration, error) {
	overlap, err := parseDays(text)
	if err != nil || overlap < 0 || overlap > storage.MaxOverlap {
		return 0, usage(fmt.Errorf("--overlap %q: write a time from 0s to 7d, such as 15m", text))
	}
	return overlap, nil
}

// rotateKey replaces the workspace's first key and prints the new one.
func rotateKey(
	ctx context.Context, at ledgerLocation, email string, in storage.Rotation, asJSON bool, stdout io.Writer,
) error {
	return withWorkspace(ctx, at, email, func(store *storage.Store, w storage.Workspace) error {
		key, err := store.RotateKey(ctx, w.Key(), in)
		if err != nil {
			return err
		}
		return printKey(stdout, asJSON, server.NewKeyOf(key), key.Full)
	})
}

// newKeys lists keys by their prefixes, the name by which revoke-key takes one.
func newKeys() *cobra.Command {
	var email string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "keys --email EMAIL",
		Short: "List the API keys of an account's workspace",
		Long: "Lists the API keys of an account's workspace, newest first, also those that have " +
			"ended.\n" +
			"It shows no key itself.",
		Example: "  pikarc keys --email you@example.com\n  pikarc keys --email you@example.com --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return listKeys(cmd.Context(), at, email, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&email, "email", "", "the account's email (required)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object a line")
	return cmd
}

// listKeys prints a workspace's keys page by page.
func listKeys(ctx context.Context, at ledgerLocation, email string, asJSON bool, stdout io.Writer) error {
	return withWorkspace(ctx, at, email, func(store *storage.Store, w storage.Workspace) error {
		out := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		if !asJSON {
			fmt.Fprintln(out, "PREFIX\tLABEL\tSCOPE\tCREATED\tENDS\tLAST USED")
		}
		err := eachKey(ctx, store, w.Key(), func(k storage.APIKey) error {
			if asJSON {
				return printJSON(stdout, server.ListedKeyOf(k))
			}
			_, err := fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n",
				k.Prefix, plainText(k.Label), k.Scope, shortTime(k.CreatedAt, ""), endOf(k),
				shortTime(k.LastUsedAt, "never"))
			return err
		})
		return errors.Join(err, out.Flush())
	})
}

// plainText quotes a label that holds control characters.
func plainText(label string) string {
	if quoted := strconv.Quote(label); strings.ContainsAny(quoted, "\\") {
		return quoted
	}
	return label
}

// endOf says when a key ends, or why it has ended.
func endOf(k storage.APIKey) string {
	switch {
	case k.Active():
		return shortTime(k.ExpiresAt, "never")
	case errors.Is(k.Ended, storage.ErrKeyExpired):
		return "expired " + shortTime(k.ExpiresAt, "")
	default:
		return "revoked"
	}
}

// shortTime formats a time in UTC, to the minute.
func shortTime(t time.Time, zero string) string {
	if t.IsZero() {
		return zero
	}
	return t.UTC().Format("2006-01-02 15:04Z")
}

// eachKey visits all keys of a workspace, page by page.
func eachKey(
	ctx context.Context, store *storage.Store, ws storage.WorkspaceKey,
	visit func(storage.APIKey) error,
) error {
	// Pages, as the API has them; a workspace may have many ended keys.
	const atOnce = 200
	f := storage.KeyFilter{Limit: atOnce}
	for {
		keys, next, err := store.APIKeys(ctx, ws, f)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := visit(k); err != nil {
				return err
			}
		}
		if f.Cursor = next; next == "" {
			return nil
		}
	}
}

// newRevokeKey works beside a running server, for a key that has leaked: the server sees
// it with the key's next request.
func newRevokeKey() *cobra.Command {
	var email string
	cmd := &cobra.Command{
		Use:     "revoke-key --email EMAIL PREFIX",
		Short:   "End an API key for the very next request",
		Long:    "Ends an API key, named by its prefix (the 8 characters after lg_), for the very next request.",
		Example: "  pikarc revoke-key --email you@example.com 0a1b2c3d",
		Args: func(cmd *cobra.Command, args []string) error {
			return usage(cobra.ExactArgs(1)(cmd, args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return revokeKey(cmd.Context(), at, email, args[0], cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&email, "email", "", "the account's email (required)")
	return cmd
}

// revokeKey ends the key with this prefix. That it had ended already is no error.
func revokeKey(ctx context.Context, at ledgerLocation, email, prefix string, stdout io.Writer) error {
	// People copy the beginning of the key as they see it, with what all keys begin with.
	prefix = strings.TrimPrefix(prefix, "lg_")
	return withWorkspace(ctx, at, email, func(store *storage.Store, w storage.Workspace) error {
		var found storage.APIKey
		err := eachKey(ctx, store, w.Key(), func(k storage.APIKey) error {
			if k.Prefix == prefix {
				found = k
			}
			return nil
		})
		switch {
		case err != nil:
			return err
		case found.Prefix == "":
			return fmt.Errorf("no API key of %s has that prefix: pikarc keys --email %[1]s lists "+
				"them", email)
		// Nobody can use the key, which is what was asked for.
		case !found.Active():
			_, err = fmt.Fprintf(stdout, "%s (%s) had ended already\n", found.Prefix,
				plainText(found.Label))
			return err
		}
		if _, err := store.RevokeKey(ctx, w.Key(), found.ID); err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "%s (%s) is revoked\n", found.Prefix, plainText(found.Label))
		return err
	})
}
