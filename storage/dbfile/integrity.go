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

// CheckIntegrity returns ErrDamaged when SQLite finds a file to be damaged. Of a
// large file it checks the tables on which every request depends; the nightly
// verification checks all of it. No file is a sound one.
func CheckIntegrity(ctx context.Context, path string) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	checks := []string{"PRAGMA quick_check(1)"}
	if info.Size() > wholeCheckBytes {
		checks = []string{"PRAGMA quick_check(accounts)", "PRAGMA quick_check(workspaces)", "PRAGMA quick_check(api_keys)", "PRAGMA quick_check(models)"}
	}
	db, err := sqlite.OpenExisting(path, sqlite.WaitForLocks(), sqlite.QueryOnly())
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
			return fmt.Errorf("check %s: %w: %s", path, ErrDamaged, answer)
		}
	}
	return nil
}

// Integrity is the check that fails when the file itself is broken.
const Integrity = "integrity"

// Fault is what one of SQLite's own checks has found.
type Fault struct {
	Check    string // Integrity or "foreign keys"
	Row      string
	Stored   string
	ShouldBe string
}

// selfCheck is one of SQLite's own checks. Its query selects a row a fault, and
// read makes a Fault of it.
type selfCheck struct {
	name, shouldBe, query string
	read                  func(*sql.Rows) (row, stored string, err error)
}

func selfChecks() []selfCheck {
	return []selfCheck{
		{
			name: Integrity, shouldBe: "ok",
			query: `SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'`,
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

// SelfChecks is how many checks Faults makes of an intact file.
func SelfChecks() int { return len(selfChecks()) }

// Faults makes SQLite's own checks of a file, up to the first that finds
// something. It returns how many it made. They come before all others: what is
// read from a damaged file proves nothing.
func Faults(ctx context.Context, path string) (faults []Fault, made int, err error) {
	db, err := sqlite.OpenExisting(path, sqlite.WaitForLocks(), sqlite.QueryOnly())
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, check := range selfChecks() {
		made++
		faults, err = check.run(ctx, db)
		if sqlite.IsCorrupt(err) { // too damaged to be checked
			return append(faults, Fault{Check: check.name, Stored: err.Error(), ShouldBe: check.shouldBe}), made, nil
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

func (c selfCheck) run(ctx context.Context, db *sql.DB) (faults []Fault, err error) {
	rows, err := db.QueryContext(ctx, c.query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		f := Fault{Check: c.name, ShouldBe: c.shouldBe}
		if f.Row, f.Stored, err = c.read(rows); err != nil {
			return faults, err
		}
		faults = append(faults, f)
	}
	return faults, rows.Err()
}
