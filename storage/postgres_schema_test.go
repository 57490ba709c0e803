package storage

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/pikarc/server/embed"
)

// firstColumn reads the first column of a query's rows.
func firstColumn(t *testing.T, db *sql.DB, query string) (all []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	return all
}

// postgresSchemaOf lists what a database in PostgreSQL consists of, without goose's own table.
func postgresSchemaOf(t *testing.T, db *sql.DB) string {
	t.Helper()
	lines := firstColumn(t, db, `SELECT format('%s.%s %s%s%s%s%s', table_name, column_name, data_type,
			CASE WHEN collation_name IS NOT NULL THEN ' collate ' || collation_name ELSE '' END,
			CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END,
			CASE is_identity WHEN 'YES' THEN ' identity' ELSE '' END,
			coalesce(' default ' || column_default, ''))
		FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'goose_db_version'
		ORDER BY table_name, ordinal_position`)
	lines = append(lines, firstColumn(t, db, `SELECT format('%s: %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
		WHERE connamespace = 'public'::regnamespace AND conrelid <> 'goose_db_version'::regclass AND contype IN ('p', 'u', 'f', 'c')
		ORDER BY 1`)...)
	lines = append(lines, firstColumn(t, db, `SELECT indexdef FROM pg_indexes
		WHERE schemaname = 'public' AND tablename <> 'goose_db_version' ORDER BY 1`)...)
	lines = append(lines, firstColumn(t, db, `SELECT format('%s: %s', relname, array_to_string(reloptions, ', ')) FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND reloptions IS NOT NULL ORDER BY 1`)...)
	return strings.Join(lines, "\n") + "\n"
}

// Where SQLite gives a row its id, PostgreSQL must too: an insert names none.
func TestPostgresMakesTheIdsThatSQLiteMakes(t *testing.T) {
	w := newWorld(t)
	made := firstColumn(t, w.otherProcess, `SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = 'public' AND is_identity = 'YES' AND table_name <> 'goose_db_version' ORDER BY 1`)
	lite, err := sql.Open("sqlite", "file:"+migrated(t, embed.Migrations()))
	w.must(err)
	defer func() { w.must(lite.Close()) }()
	// A single key of type INTEGER is the row's own id, and given by SQLite; that of
	// tables with one row is 1, and one that names a row of another table is no new one.
	wanted := firstColumn(t, lite, `SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name <> 'goose_db_version' AND c.pk = 1 AND c.type = 'INTEGER' AND c.name = 'id'
		AND (SELECT count(*) FROM pragma_table_info(m.name) k WHERE k.pk > 0) = 1
		AND lower(m.sql) NOT LIKE '%id = 1%' AND lower(m.sql) NOT LIKE '%without rowid%'
		AND NOT EXISTS (SELECT 1 FROM pragma_foreign_key_list(m.name) f WHERE f."from" = c.name)
		ORDER BY 1`)
	if strings.Join(made, " ") != strings.Join(wanted, " ") {
		t.Errorf("PostgreSQL makes\n%q, SQLite\n%q", made, wanted)
	}
}
