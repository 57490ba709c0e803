// Package fill writes a long history into the file of a stopped server, far
// faster than its API would take it: SQL makes the rows, and the counters from
// the rows.
//
// It knows the schema. When a migration changes the tables, the two scripts
// change with it; the test fails if they did not.
package fill

import (
	"context"
	"crypto/sha256"
	"database/sql"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"time"

	"github.com/pikarc/server/bench/ledgercheck"
)

const (
	// Days is how far back history goes: within the longest retention, also
	// when a filled file is used some days later.
	Days = 330
	// StepsOfRun is how many steps each run has.
	StepsOfRun = 20
	// runsPerBatch is how many runs share a transaction; the script takes 100,000 at most.
	runsPerBatch = 20_000
)

//go:embed people.sql
var people string

//go:embed batch.sql
var batch string

// Version names what Fill writes, so that a kept file can be told from what
// another version has filled.
func Version() []byte {
	sum := sha256.Sum256([]byte(people + batch))
	return sum[:]
}

// Fill adds steps to a file that has accounts and no runs, spread over
// its workspaces and the days before now. It is not safe against a crash: a
// file whose filling failed is to be thrown away.
func Fill(ctx context.Context, path string, steps int64, now time.Time) error {
	return fill(ctx, path, steps, now, runsPerBatch)
}

// fill is Fill with a batch size, which the test makes small.
func fill(ctx context.Context, path string, steps int64, now time.Time, size int64) (err error) {
	db, err := ledgercheck.OpenForWriting(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	runs := steps / StepsOfRun
	if runs == 0 {
		return nil
	}
	if _, err := db.ExecContext(ctx, "PRAGMA journal_mode=OFF"); err != nil {
		return err
	}
	if err := inTransaction(ctx, db, people); err != nil {
		return fmt.Errorf("fill in users and models: %w", err)
	}
	_, err = db.ExecContext(ctx, `INSERT INTO history
		SELECT $1, $2, $3, (SELECT coalesce(max(id), 0) FROM runs), min(id), count(*) - 1, 0, 0 FROM workspaces`,
		runs, now.AddDate(0, 0, -Days).UnixMilli(), now.Add(-time.Minute).UnixMilli())
	if err != nil {
		return err
	}
	for first := int64(1); first <= runs; first += size {
		last := min(first+size-1, runs)
		if _, err := db.ExecContext(ctx, `UPDATE history SET first = $1, last = $2`, first,
			last); err != nil {
			return err
		}
		if err := inTransaction(ctx, db, batch); err != nil {
			return fmt.Errorf("fill in runs %d to %d: %w", first, last, err)
		}
	}
	// The server's mode: a file that it does not have to change before it serves.
	_, err = db.ExecContext(ctx, "PRAGMA journal_mode=WAL")
	return err
}

// inTransaction runs a script as a whole or not at all.
func inTransaction(ctx context.Context, db *sql.DB, script string) error {
	_, err := db.ExecContext(ctx, "BEGIN IMMEDIATE;"+script+";COMMIT")
	return err
}
