// Command books checks a database file from outside the server: SQLite's own
// integrity, and every counter and rollup against the ledger rows, by the
// queries of storage/testdata/books.sql.
//
//	books DATABASE QUERIES
//
// It prints "checked N", or a line for each difference. It is a program of
// its own because the root package's tests may not speak SQL.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

func main() {
	if err := check(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(ctx context.Context, database, queries string) error {
	text, err := os.ReadFile(queries)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", (&url.URL{
		Scheme: "file", Opaque: (&url.URL{Path: database}).EscapedPath(),
		RawQuery: "_pragma=busy_timeout(5000)&_pragma=query_only(1)&mode=rw",
	}).String())
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil) // one snapshot for all
	if err != nil {
		return err
	}
	defer tx.Rollback()
	all := append(split(string(text)), `SELECT 'integrity', integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'`)
	differences := 0
	for _, query := range all {
		n, err := differ(ctx, tx, query)
		if err != nil {
			return fmt.Errorf("%w in %s", err, query)
		}
		differences += n
	}
	if differences == 0 {
		fmt.Printf("checked %d\n", len(all))
	}
	return nil
}

// split does as the head of the queries' file says.
func split(text string) (queries []string) {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "--") {
			kept.WriteString(line)
		}
	}
	for query := range strings.SplitSeq(kept.String(), ";") {
		if query = strings.TrimSpace(query); query != "" {
			queries = append(queries, query)
		}
	}
	return queries
}

// differ prints the rows of a query and counts them.
func differ(ctx context.Context, tx *sql.Tx, query string) (n int, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	for ; rows.Next(); n++ {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			return n, err
		}
		for i, v := range values {
			values[i] = *v.(*any)
		}
		fmt.Println(values...)
	}
	return n, rows.Err()
}
