// Package ledgercheck compares the file of a stopped server with the answers that its
// clients got. Whether its counters match its ledger is left to pikarc verify.
package ledgercheck

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// Answers counts the answered calls of each kind, all of them allowed.
type Answers struct {
	Starts, Steps, Patches, Ends int64
}

// Plus adds two counts.
func (a Answers) Plus(b Answers) Answers {
	return Answers{a.Starts + b.Starts, a.Steps + b.Steps, a.Patches + b.Patches, a.Ends + b.Ends}
}

// Minus subtracts b from a.
func (a Answers) Minus(b Answers) Answers {
	return Answers{a.Starts - b.Starts, a.Steps - b.Steps, a.Patches - b.Patches, a.Ends - b.Ends}
}

// Open opens the file of a server that is stopped, for reading.
func Open(path string) (*sql.DB, error) { return open(path, "immutable=1&mode=ro") }

// OpenLive opens the file of a server that runs, for reading.
func OpenLive(path string) (*sql.DB, error) {
	return open(path, "mode=ro&_pragma=busy_timeout(5000)")
}

// OpenForWriting opens the file of a server that is stopped, without protection
// against power loss.
func OpenForWriting(path string) (*sql.DB, error) {
	return open(path, "_pragma=synchronous(0)&_pragma=busy_timeout(5000)")
}

// open opens a file with a large cache: whole tables are read.
func open(path, query string) (*sql.DB, error) {
	const cache = "&_pragma=cache_size(-131072)&_pragma=temp_store(2)"
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file",
		Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query + cache}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// Count counts the rows that calls leave behind, for runs with an internal id
// greater than afterRunID; 0 counts all of them.
func Count(ctx context.Context, db *sql.DB, afterRunID int64) (a Answers, err error) {
	err = db.QueryRowContext(ctx, `SELECT count(*), count(ended_at) FROM runs WHERE id > $1`,
		afterRunID).Scan(&a.Starts, &a.Ends)
	if err != nil {
		return a, fmt.Errorf("count runs: %w", err)
	}
	err = db.QueryRowContext(ctx,
		`SELECT count(*), count(booked_day) FROM run_steps WHERE run_id > $1`, afterRunID).Scan(&a.Steps,
		&a.Patches)
	if err != nil {
		return a, fmt.Errorf("count steps: %w", err)
	}
	return a, nil
}

// Verify counts all rows, and returns an error unless they equal the answers.
func Verify(ctx context.Context, path string, want Answers) (err error) {
	db, err := Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	got, err := Count(ctx, db, 0)
	if err == nil && got != want {
		err = fmt.Errorf("the file has %+v, answered were %+v", got, want)
	}
	return err
}

// Check runs the queries of a script, each of which returns a row for every difference.
func Check(ctx context.Context, db *sql.DB, checks string) error {
	var diffs []error
	for _, query := range queries(checks) {
		found, err := differences(ctx, db, query)
		if err != nil {
			return fmt.Errorf("check the books: %w\n%s", err, query)
		}
		diffs = append(diffs, found...)
	}
	return errors.Join(diffs...)
}

// queries splits a script whose comments are whole lines and whose queries
// contain no semicolon.
func queries(script string) (list []string) {
	var text strings.Builder
	for line := range strings.Lines(script) {
		if !strings.HasPrefix(line, "--") {
			text.WriteString(line)
		}
	}
	for query := range strings.SplitSeq(text.String(), ";") {
		if query = strings.TrimSpace(query); query != "" {
			list = append(list, query)
		}
	}
	return list
}

// differences returns an error for each row of a query, at most five.
func differences(ctx context.Context, db *sql.DB, query string) (diffs []error, err error) {
	const maxDifferences = 5
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for len(diffs) < maxDifferences && rows.Next() {
		row, dest := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range row {
			dest[i] = &row[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		text := make([]string, len(row))
		for i, v := range row {
			text[i] = v.String
		}
		diffs = append(diffs, fmt.Errorf("the books differ: %s", strings.Join(text, " | ")))
	}
	return diffs, rows.Err()
}
