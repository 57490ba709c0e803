package e2e_test

import (
	"database/sql"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The databases in storage/testdata/released were made with this secret and have this key.
const (
	releasedSecret = "PIKARC_SECRET=a-secret-of-the-tests-that-is-long-enough"
	releasedEmail  = "ann@example.com"
	releasedKey    = "lg_fd3e46d1_340c3c6b6c4bc2eb36f0fcc2061c1988138036262a8e3b151acd9d956161428c"
)

// Every schema that was ever released comes up to date with all that is in it.
func TestEachReleasedSchemaIsUpgraded(t *testing.T) {
	t.Parallel()
	dumps, err := filepath.Glob("storage/testdata/released/*.sql")
	if err != nil || len(dumps) == 0 {
		t.Fatalf("no released schema: %v", err)
	}
	fresh := t.TempDir()
	run(t, "migrate", "--init", "--data-dir", fresh).ok(t)
	for _, dump := range dumps {
		t.Run(filepath.Base(dump), func(t *testing.T) {
			dir := t.TempDir()
			load(t, filepath.Join(dir, "pikarc.db"), dump)
			run(t, "migrate", "--data-dir", dir).ok(t)
			if diff := cmp.Diff(schema(t, fresh), schema(t, dir)); diff != "" {
				t.Errorf("the schema is not that of a new database (-new +upgraded):\n%s", diff)
			}
			p := serveWith(t, []string{releasedSecret}, "--addr", "127.0.0.1:0", "--data-dir", dir)
			p.stillHas(t)
			p.stop(t)
		})
	}
}

// load makes a database of a dump.
func load(t *testing.T, path, dump string) {
	t.Helper()
	script, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(string(script)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// schema lists what a database consists of.
func schema(t *testing.T, dir string) (objects []string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "pikarc.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name NOT IN ('goose_db_version', 'sqlite_sequence')`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		// SQLite writes a table's name in quotes once another tool has made it.
		objects = append(objects, strings.Join(strings.Fields(strings.ReplaceAll(text, `"`, "")), " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(objects)
	return objects
}

// stillHas looks for what does not expire; storage's TestTheLedgerOfEachReleasedSchemaIsKept looks
// at the rest, with a clock of its own.
func (p *process) stillHas(t *testing.T) {
	t.Helper()
	for path, wants := range map[string][]string{
		"/v1/users/?blocked=true": {`"user_id":"bob"`, `"blocked_reason":"loops"`},
		"/v1/model-pricing/":      {`"model":"gpt-4o"`, `"input_cost_per_token":0.0000025`},
		"/v1/workspace/":          {`"plan":"scale"`, `"daily_budget_usd":50`, `"user_daily_budget_usd":5`, `"max_concurrent_runs":7`},
	} {
		body := string(p.call(t, "GET", path, releasedKey, nil).want(t, http.StatusOK).body)
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("GET %s answered %s, without %s", path, body, want)
			}
		}
	}
	var key struct{ Key string }
	p.call(t, "GET", "/v1/api-keys/", p.signIn(t, releasedEmail), nil).want(t, http.StatusOK).into(t, &key)
	if key.Key != releasedKey {
		t.Errorf("the API key is shown as %q", key.Key)
	}
	if d := p.start(t, releasedKey, "bob"); d.Decision.Reason != "USER_BLOCKED" {
		t.Errorf("a blocked user's run: %+v", d)
	}
	if d := p.start(t, releasedKey, "carol"); d.Decision.Outcome != "ALLOW" {
		t.Errorf("a new run: %+v", d)
	}
}
