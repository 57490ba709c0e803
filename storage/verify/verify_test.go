package verify

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/sqlite"
)

// A counter that no row of the ledger proves is found, and set right on demand.
// What the store writes is verified by the store's own tests.
func TestCounterWithoutALedgerIsFoundAndRepaired(t *testing.T) {
	t.Parallel()
	path := migrated(t)
	change(t, path, `INSERT INTO denial_days (workspace_id, day, reason, denial_count) VALUES (1, 20000, 3, 7)`)
	want := Difference{
		Check: "denial_days.denial_count", Row: "workspace_id 1, day 2024-10-04, reason 3",
		Stored: "denial_count 7", ShouldBe: "denial_count 0",
	}
	for _, repair := range []bool{false, true} {
		report, err := File(t.Context(), path, Options{Migrations: embed.Migrations(), Repair: repair})
		want.Repaired = repair
		if err != nil || !slices.Equal(report.Differences, []Difference{want}) || report.Clean() != repair {
			t.Errorf("repair %v: %+v, %v", repair, report, err)
		}
	}
	report, err := File(t.Context(), path, Options{Migrations: embed.Migrations()})
	if err != nil || report.Found != 0 || report.Checks != 1+len(Checks())+dbfile.FileChecks() {
		t.Errorf("after the repair: %+v, %v", report, err)
	}
}

func TestFileThatCannotBeVerifiedIsRefused(t *testing.T) {
	t.Parallel()
	opts := Options{Migrations: embed.Migrations()}
	path := filepath.Join(t.TempDir(), "pikarc.db")
	if _, err := File(t.Context(), path, opts); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	change(t, path, `CREATE TABLE other (id INTEGER PRIMARY KEY)`)
	if _, err := File(t.Context(), path, opts); !errors.Is(err, dbfile.ErrSchemaOld) {
		t.Errorf("a file without a schema: %v", err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := File(t.Context(), path, opts)
	if err != nil || !report.Corrupt() || report.Clean() {
		t.Errorf("no database: %+v, %v", report, err)
	}
}

func migrated(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pikarc.db")
	if _, err := dbfile.Migrate(t.Context(), path, embed.Migrations()); err != nil {
		t.Fatal(err)
	}
	return path
}

// change runs a statement behind everybody's back.
func change(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sqlite.OpenDB(path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), statement)
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}
