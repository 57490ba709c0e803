package ledgercheck

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestAScriptIsSplitIntoItsQueries(t *testing.T) {
	got := queries("-- a; b\nSELECT 1,\n  2;\n\n-- c\nSELECT 3;\n")
	if len(got) != 2 || got[0] != "SELECT 1,\n  2" || got[1] != "SELECT 3" {
		t.Errorf("%q", got)
	}
}

func TestEveryDifferenceIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := OpenForWriting(path)
	if err != nil {
		t.Fatal(err)
	}
	script := `CREATE TABLE runs (id INTEGER PRIMARY KEY, ended_at INTEGER);
		CREATE TABLE run_steps (run_id INTEGER, booked_day INTEGER);
		INSERT INTO runs VALUES (1, NULL), (2, 5), (3, 5);
		INSERT INTO run_steps VALUES (1, NULL), (2, 5), (3, 5), (3, 5)`
	if _, err := db.Exec(script); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	answers := Answers{Starts: 3, Steps: 4, Patches: 3, Ends: 2}
	if err := Verify(t.Context(), path, answers); err != nil {
		t.Error(err)
	}
	if err := Verify(t.Context(), path, answers.Plus(Answers{Steps: 1})); err == nil {
		t.Error("a step that was answered is missing, and Verify does not report it")
	}
	db, err = Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const matching, differing = "SELECT 1 WHERE 0;", "SELECT 'run', 7, NULL UNION ALL SELECT 'run', 8, NULL;"
	err = Check(t.Context(), db, matching+differing)
	if err == nil || !strings.Contains(err.Error(), "run | 7") || !strings.Contains(err.Error(), "run | 8") {
		t.Errorf("%v", err)
	}
	if err := Check(t.Context(), db, "SELECT nothing;"); err == nil {
		t.Error("Check passes although a query fails")
	}
}
