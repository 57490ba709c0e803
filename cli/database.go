package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/auth/privatefile"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/storage"
	"github.com/pikarc/server/storage/dbfile"
)

// databaseFlag is the flag that names a PostgreSQL database.
const databaseFlag = "database"

// ledgerLocation is where a command finds the ledger: SQLite's file in the data directory, or a
// PostgreSQL database. Either way the directory also holds the server secret, certificates and the
// operator's catalogue.
type ledgerLocation struct {
	dir string
	url string // of PostgreSQL, and perhaps with a password; "" for the file
}

// ledgerLocationOf reads where the ledger is. A file that PIKARC_DATABASE_FILE names wins
// over PIKARC_DATABASE, and the flag over both.
func ledgerLocationOf(cmd *cobra.Command) (ledgerLocation, error) {
	at, err := readLedgerLocation(cmd)
	if err == nil && at.url != "" && hasDatabase(at.dir) {
		cmd.PrintErrln("Warning:", at.fileUnused())
	}
	return at, err
}

// readLedgerLocation is ledgerLocationOf without the warning.
func readLedgerLocation(cmd *cobra.Command) (ledgerLocation, error) {
	at := ledgerLocation{dir: cmd.Flag("data-dir").Value.String()}
	f, name := cmd.Flag(databaseFlag), settingName(databaseFlag)
	at.url = f.Value.String()
	// Not from the command line: read anew, since the flag knows nothing of the _FILE
	// variable.
	if !f.Changed || len(f.Annotations[fromEnvironmentMark]) > 0 {
		given, err := setting(name)
		if err != nil {
			return at, err
		}
		at.url = strings.TrimSpace(given)
	}
	if at.url == "" {
		if f.Changed {
			return at, usage(errors.New("--database is empty: leave it out to use the data directory"))
		}
		return at, nil
	}
	if _, err := storage.PostgresName(at.url); err != nil {
		return at, usage(fmt.Errorf("--database or %s: %w", name, err))
	}
	return at, nil
}

// inPostgres reports whether the ledger is in PostgreSQL.
func (at ledgerLocation) inPostgres() bool { return at.url != "" }

// String names the database without its password.
func (at ledgerLocation) String() string {
	if name, err := storage.PostgresName(at.url); err == nil {
		return name
	}
	return absolute(databasePath(at.dir))
}

// fileUnused says which of two databases is used.
func (at ledgerLocation) fileUnused() string {
	return fmt.Sprintf("the database is %s; %s is not used", at, absolute(databasePath(at.dir)))
}

// schema compares the database with what this binary knows; Current is 0 where
// there is none yet.
func (at ledgerLocation) schema(ctx context.Context) (dbfile.Schema, error) {
	if at.inPostgres() {
		return storage.PostgresSchema(ctx, at.url, embed.PostgresMigrations())
	}
	return dbfile.SchemaStatus(ctx, databasePath(at.dir), embed.Migrations())
}

// exists reports whether there is a ledger. Of PostgreSQL it asks whether the
// database, which somebody else has made, has its tables.
func (at ledgerLocation) exists(ctx context.Context) (bool, error) {
	if !at.inPostgres() {
		return hasDatabase(at.dir), nil
	}
	status, err := at.schema(ctx)
	return status.Current > 0, err
}

// require returns an error where there is no ledger.
func (at ledgerLocation) require(ctx context.Context) error {
	found, err := at.exists(ctx)
	if err == nil && !found {
		return at.errNone()
	}
	return err
}

// errNone is the error of a command that finds no ledger, with the flag that is probably wrong.
func (at ledgerLocation) errNone() error {
	if at.inPostgres() {
		return fmt.Errorf("%s holds no tables of Pikarc: is --database right?", at)
	}
	return fmt.Errorf("no database in %s: is --data-dir right?", absolute(at.dir))
}

// requireOrInit finds a ledger, or with init the place for a new one: a command
// never makes one where a mistyped name leads.
func (at ledgerLocation) requireOrInit(ctx context.Context, init bool) (isNew bool, err error) {
	found, err := at.exists(ctx)
	switch {
	case err != nil || found:
		return false, err
	case init:
		return true, nil
	default:
		return false, fmt.Errorf("%w To make a new one there, add --init (serve makes its own)",
			at.errNone())
	}
}

// migrate brings the schema up to date.
func (at ledgerLocation) migrate(
	ctx context.Context, options ...dbfile.MigrateOption,
) (applied []int64, err error) {
	if at.inPostgres() {
		return storage.MigratePostgres(ctx, at.url, embed.PostgresMigrations())
	}
	if err := privatefile.MkdirAll(at.dir); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	return dbfile.Migrate(ctx, databasePath(at.dir), embed.Migrations(), options...)
}

// open opens the ledger. Only serve, create-user and demo, which may be the
// first to come, bring the schema up to date.
func (at ledgerLocation) open(
	ctx context.Context, migrate bool, opts storage.Options, options ...dbfile.MigrateOption,
) (*storage.Store, auth.Secret, error) {
	secret, err := at.secret(ctx)
	if err != nil {
		return nil, auth.Secret{}, err
	}
	if migrate {
		if _, err := at.migrate(ctx, options...); err != nil {
			return nil, auth.Secret{}, err
		}
	}
	// The store seals with it what must be shown again, such as keys and endpoints' secrets.
	opts.Secret = secret
	if at.inPostgres() {
		opts.Migrations = embed.PostgresMigrations()
		store, err := storage.Open(ctx, at.url, opts)
		return store, secret, at.explain(err)
	}
	// PostgreSQL has a clock of its own, the same for all nodes.
	opts.Migrations, opts.Now = embed.Migrations(), now
	store, err := storage.Open(ctx, databasePath(at.dir), opts)
	return store, secret, err
}

// explain says how a node comes to the secret of the others.
func (at ledgerLocation) explain(err error) error {
	if !errors.Is(err, storage.ErrOtherSecret) {
		return err
	}
	return fmt.Errorf("%w. All nodes of %s need the same one: set %s or %s_FILE, or put the "+
		"secret.key of the others into %s", err, at, serverSecret, serverSecret, absolute(at.dir))
}

// secret loads the server secret. It makes one only for a ledger that has none:
// what a second node made for itself would be of no use.
func (at ledgerLocation) secret(ctx context.Context) (auth.Secret, error) {
	given, err := setting(serverSecret)
	if err != nil {
		return auth.Secret{}, err
	}
	if given == "" {
		// A database that has been served knows its secret. Making another one here would only fail
		// later, with a worse message.
		if at.inPostgres() && !auth.HasSecretFile(at.dir) {
			known, err := storage.PostgresHasSecret(ctx, at.url)
			if err == nil && known {
				err = at.explain(storage.ErrOtherSecret)
			}
			if err != nil {
				return auth.Secret{}, err
			}
		}
		if err := privatefile.MkdirAll(at.dir); err != nil {
			return auth.Secret{}, fmt.Errorf("make the data directory: %w", err)
		}
	}
	return auth.LoadSecret(at.dir, given)
}

// requireFile refuses what only SQLite's file has.
func (at ledgerLocation) requireFile(what string) error {
	if at.inPostgres() {
		return usage(fmt.Errorf("%s is for SQLite's file: %w", what, storage.ErrNoBackup))
	}
	return nil
}

// flags are what other commands need to find the same ledger. The URL may have
// a password, so it is not repeated.
func (at ledgerLocation) flags() string {
	switch {
	case at.inPostgres():
		return " --database …"
	case at.dir == defaultDataDir:
		return ""
	}
	return " --data-dir " + at.dir
}
