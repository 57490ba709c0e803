package dbfile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pikarc/server/storage/sqlite"
)

// wholeCheckBytes is up to which size a file is checked whole before a server
// starts on it: that takes a fraction of a second.
const wholeCheckBytes = 64 << 20

// freePages is the table that SQLite checks the list of free pages with. Without a table named, it
// leaves this list out where the first root page that it comes to is that of a view, which has
// none: so it is in each file that VACUUM has written.
const freePages = "sqlite_schema"

// CheckIntegrity returns ErrDamagedFile when SQLite finds a file to be corrupt. Of a
// large file it checks only the tables named; the nightly verification checks
// all of it. A file that does not exist is intact.
func CheckIntegrity(ctx context.Context, path string, tables ...string) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	checks := []string{"PRAGMA quick_check(1)", "PRAGMA quick_check(" + freePages + ")"}
	// A large file would keep the server from starting for minutes; the tables that decisions need
	// are checked then, and the rest by `pikarc verify`.
	if info.Size() > wholeCheckBytes {
		checks = nil
		for _, table := range tables {
			checks = append(checks, "PRAGMA quick_check("+table+")")
		}
	}
	db, err := sqlite.OpenExisting(path, sqlite.BusyTimeoutPragma(), sqlite.QueryOnly())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, check := range checks {
		var answer string
		if err := db.QueryRowContext(ctx, check).Scan(&answer); err != nil {
			return OrReadOnly(OrNoSpace(Classify(fmt.Errorf("check %s: %w", path, err)), path))
		}
		if answer != "ok" {
			return fmt.Errorf("check %s: %w: %s", path, ErrDamagedFile, answer)
		}
	}
	return nil
}

// Integrity is the check that fails when the file itself is broken.
const Integrity = "integrity"

// Finding is what one of SQLite's own checks has found.
type Finding struct {
	Check    string // Integrity or "foreign keys"
	Row      string
	Stored   string
	ShouldBe string
}

// fileCheck is one of SQLite's own checks. Its query selects a row a fault, and
// read makes a Fault of it.
type fileCheck struct {
	name, shouldBe, query string
	read                  func(*sql.Rows) (row, stored string, err error)
}

// fileChecks are what SQLite itself can tell of a file: whether its structure is sound, and its
// foreign keys hold.
func fileChecks() []fileCheck {
	return []fileCheck{
		{
			name: Integrity, shouldBe: "ok",
			query: `SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'
				UNION SELECT integrity_check FROM pragma_integrity_check('` + freePages + `') WHERE integrity_check <> 'ok'`,
			read: func(rows *sql.Rows) (row, stored string, err error) {
				err = rows.Scan(&stored)
				return "", "fault " + stored, err
			},
		},
		{
			name: "foreign keys", shouldBe: "a row that exists",
			query: `SELECT "table", coalesce(rowid, 'null'), parent FROM pragma_foreign_key_check`,
			read: func(rows *sql.Rows) (row, stored string, err error) {
				var table, id, parent string
				err = rows.Scan(&table, &id, &parent)
				return fmt.Sprintf("table %s, rowid %s", table, id), "parent " + parent, err
			},
		},
	}
}

// FileChecks is how many checks Faults makes of an intact file.
func FileChecks() int { return len(fileChecks()) }

// CheckFile makes SQLite's own checks of a file, up to the first that finds
// something. It returns how many it made. They come before all others: what is
// read from a damaged file proves nothing.
func CheckFile(ctx context.Context, path string) (faults []Finding, made int, err error) {
	db, err := sqlite.OpenExisting(path, sqlite.BusyTimeoutPragma(), sqlite.QueryOnly())
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, check := range fileChecks() {
		made++
		faults, err = check.run(ctx, db)
		// What was found so far is reported: it says most about what to do.
		if sqlite.IsCorrupt(err) { // too damaged to be checked
			return append(faults, Finding{Check: check.name, Stored: err.Error(), ShouldBe: check.shouldBe}), made, nil
		}
		if err != nil {
			return nil, made, Classify(fmt.Errorf("check the file: %w", err))
		}
		if len(faults) > 0 {
			return faults, made, nil
		}
	}
	return nil, made, nil
}

// run returns a finding for each row of the check's query.
func (c fileCheck) run(ctx context.Context, db *sql.DB) (faults []Finding, err error) {
	rows, err := db.QueryContext(ctx, c.query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		f := Finding{Check: c.name, ShouldBe: c.shouldBe}
		if f.Row, f.Stored, err = c.read(rows); err != nil {
			return faults, err
		}
		faults = append(faults, f)
	}
	return faults, rows.Err()
}
