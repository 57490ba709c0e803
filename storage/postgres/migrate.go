package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// SchemaVersion reads goose's table itself, because goose would make it; 0 when
// there is none yet.
func SchemaVersion(ctx context.Context, c *Conn) (version int64, err error) {
	err = c.Query(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`, nil, func(row Row) error {
		return row.Scan(&version)
	})
	if IsUndefinedTable(err) {
		return 0, nil
	}
	return version, err
}

// Migrate brings the database up to date. Several nodes that start at once take
// turns. Each migration is one transaction.
func Migrate(ctx context.Context, config Config, migrations fs.FS) (applied []int64, err error) {
	db := config.OpenDB()
	defer func() { err = errors.Join(err, db.Close()) }()
	turns, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations, goose.WithSessionLocker(turns),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, err
	}
	results, err := provider.Up(ctx)
	for _, r := range results {
		applied = append(applied, r.Source.Version)
	}
	if err != nil {
		return applied, fmt.Errorf("migrate the database: %w", err)
	}
	return applied, nil
}
