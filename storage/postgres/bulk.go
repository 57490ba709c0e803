package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CopyIn loads rows into a table with COPY, all of them or none.
func (c *Conn) CopyIn(ctx context.Context, table string, columns []string, rows [][]any) error {
	for _, row := range rows {
		if err := checkTexts(row); err != nil {
			return fmt.Errorf("load %s: %w", table, err)
		}
	}
	if c.Broken() {
		return fmt.Errorf("load %s: %w", table, errLost)
	}
	n, err := c.pg.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
	if err == nil && n != int64(len(rows)) {
		err = fmt.Errorf("%d rows arrived of %d", n, len(rows))
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", table, err)
	}
	return nil
}

// Quoted is a name as it stands in a statement.
func Quoted(name string) string { return pgx.Identifier{name}.Sanitize() }
