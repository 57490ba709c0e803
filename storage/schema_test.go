package storage

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	cmdline "flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/storage/dbfile"
)

var update = cmdline.Bool("update", false, "rewrite testdata/schema.sql")

// schemaOf lists what a database consists of, without goose's own table.
func schemaOf(t *testing.T, path string) string {
	t.Helper()
	var out strings.Builder
	for _, object := range queryStrings(t, path, `SELECT sql FROM sqlite_master
		WHERE sql IS NOT NULL AND tbl_name NOT IN ('goose_db_version', 'sqlite_sequence') ORDER BY tbl_name, type DESC, name`) {
		out.WriteString(object + ";\n\n")
	}
	return out.String()
}

// queryStrings runs a query of one text column on a connection of its own, without changing the
// journal mode.
func queryStrings(t *testing.T, path, query string) (all []string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", "file:"+path)
	must(err)
	rows, err := db.QueryContext(t.Context(), query)
	must(err)
	for rows.Next() {
		var s string
		must(rows.Scan(&s))
		all = append(all, s)
	}
	must(rows.Err())
	must(db.Close())
	return all
}

// migrationsOf are the binary's migrations for the engine that the tests run on.
func migrationsOf() fs.FS {
	if onPostgres != nil {
		return embed.PostgresMigrations()
	}
	return embed.Migrations()
}

// migrationsPlusOne returns the binary's migrations and one newer.
func migrationsPlusOne(t *testing.T) fs.FS {
	t.Helper()
	files := fstest.MapFS{"00999_next.sql": {Data: []byte("-- +goose Up\nCREATE TABLE next (id INTEGER PRIMARY KEY);\n")}}
	names, err := fs.Glob(migrationsOf(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(migrationsOf(), name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: data}
	}
	return files
}

// unopened is a database that no store has opened: a file, or one in PostgreSQL.
type unopened struct {
	t    *testing.T
	name string // its path, or its URL
}

// newUnopened makes a database without tables; a file that is not there yet.
func newUnopened(t *testing.T) unopened {
	t.Helper()
	if onPostgres == nil {
		return unopened{t, filepath.Join(t.TempDir(), "pikarc.db")}
	}
	name, err := onPostgres.Create("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := onPostgres.Drop(name); err != nil {
			t.Error(err)
		}
	})
	return unopened{t, onPostgres.URL(name)}
}

func (u unopened) migrate(to fs.FS) ([]int64, error) {
	if onPostgres != nil {
		return MigratePostgres(context.Background(), u.name, to)
	}
	return dbfile.Migrate(context.Background(), u.name, to)
}

func (u unopened) status(of fs.FS) (dbfile.Schema, error) {
	if onPostgres != nil {
		return PostgresSchema(u.t.Context(), u.name, of)
	}
	return dbfile.SchemaStatus(u.t.Context(), u.name, of)
}

func (u unopened) open(migrations fs.FS) error {
	secret, err := auth.LoadSecret(u.t.TempDir(), "a secret that only tests of the store use")
	if err != nil {
		u.t.Fatal(err)
	}
	s, err := Open(u.t.Context(), u.name, Options{Migrations: migrations, Secret: secret})
	if err == nil {
		err = s.Close()
	}
	return err
}

// schema is what the database consists of.
func (u unopened) schema() string {
	u.t.Helper()
	if onPostgres == nil {
		return schemaOf(u.t, u.name)
	}
	db, err := sql.Open("pgx", u.name)
	if err != nil {
		u.t.Fatal(err)
	}
	text := postgresSchemaOf(u.t, db)
	if err := db.Close(); err != nil {
		u.t.Fatal(err)
	}
	return text
}

// content is all that there is: files, or columns and the versions that were applied.
func (u unopened) content() map[string]string {
	u.t.Helper()
	if onPostgres == nil {
		return readAllFiles(u.t, filepath.Dir(u.name))
	}
	db, err := sql.Open("pgx", u.name)
	if err != nil {
		u.t.Fatal(err)
	}
	all := map[string]string{}
	for name, query := range map[string]string{
		"columns":  `SELECT coalesce(string_agg(c::text, '' ORDER BY c::text), '') FROM information_schema.columns c WHERE table_schema = 'public'`,
		"versions": `SELECT query_to_xml('SELECT * FROM goose_db_version', true, false, '')::text`,
		"state":    `SELECT query_to_xml('SELECT * FROM ledger_version', true, false, '')::text`,
	} {
		var text string
		if err := db.QueryRowContext(u.t.Context(), query).Scan(&text); err != nil && name == "columns" {
			u.t.Fatal(err)
		}
		all[name] = text
	}
	if err := db.Close(); err != nil {
		u.t.Fatal(err)
	}
	return all
}

func migrated(t *testing.T, migrations fs.FS) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pikarc.db")
	if _, err := dbfile.Migrate(t.Context(), path, migrations); err != nil {
		t.Fatal(err)
	}
	return path
}

// readAllFiles returns the content of every file in a directory, by name.
func readAllFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		all[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSchemaIsTheGoldenOne(t *testing.T) {
	golden, got := "testdata/schema.sql", ""
	if w := newWorld(t); w.url != "" {
		golden, got = "testdata/schema.postgres.txt", postgresSchemaOf(t, w.otherProcess)
	} else {
		got = schemaOf(t, w.path)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the schema changed: if that is meant, run go test ./storage -run TestSchemaIsTheGoldenOne -args -update, "+
			"and the same with -engine postgres (-golden +now):\n%s", diff)
	}
}

func TestEveryTableSaysWhatItIs(t *testing.T) {
	var all strings.Builder
	if onPostgres == nil {
		all.WriteString(schemaOf(t, migrated(t, embed.Migrations())))
		lax := queryStrings(t, migrated(t, embed.Migrations()), `SELECT name FROM pragma_table_list
			WHERE strict = 0 AND name NOT LIKE 'sqlite%' AND name <> 'goose_db_version' AND type = 'table'`)
		if len(lax) != 0 {
			t.Errorf("not STRICT: %v", lax)
		}
	} else {
		files, err := fs.Glob(embed.PostgresMigrations(), "*.sql")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := fs.ReadFile(embed.PostgresMigrations(), name)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
	}
	tables := regexp.MustCompile(`(?m)^CREATE TABLE "?(\w+)"? \(\s*(.*)`).FindAllStringSubmatch(all.String(), -1)
	if len(tables) < 40 {
		t.Fatalf("only %d tables", len(tables))
	}
	for _, table := range tables {
		if !strings.HasPrefix(table[2], "-- ") {
			t.Errorf("no comment says what this table is: %s", table[1])
		}
	}
}

func TestNewerSchemaIsRefusedAndNothingChanges(t *testing.T) {
	modes := []string{"wal", "delete"} // a copy by VACUUM INTO is not in WAL mode
	if onPostgres != nil {
		modes = []string{""}
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			u := newUnopened(t)
			if _, err := u.migrate(migrationsPlusOne(t)); err != nil {
				t.Fatal(err)
			}
			if mode != "" {
				queryStrings(t, u.name, `PRAGMA journal_mode = `+mode)
			}
			before := u.content()
			if err := u.open(migrationsOf()); !errors.Is(err, ErrSchemaNewer) {
				t.Errorf("Open: %v", err)
			}
			if applied, err := u.migrate(migrationsOf()); !errors.Is(err, ErrSchemaNewer) || applied != nil {
				t.Errorf("Migrate: applied %v, %v", applied, err)
			}
			status, err := u.status(migrationsOf())
			if err != nil || !errors.Is(status.Err(), ErrSchemaNewer) || status.Current != 999 {
				t.Errorf("SchemaStatus: %+v, %v", status, err)
			}
			if after := u.content(); !cmp.Equal(before, after) {
				t.Error("the database changed")
			}
		})
	}
}

func TestOlderSchemaIsRefusedByOpenUntilMigrated(t *testing.T) {
	u, newer := newUnopened(t), migrationsPlusOne(t)
	if _, err := u.migrate(migrationsOf()); err != nil {
		t.Fatal(err)
	}
	before := u.content()
	if err := u.open(newer); !errors.Is(err, ErrSchemaOld) {
		t.Errorf("Open: %v", err)
	}
	status, err := u.status(newer)
	if err != nil || !cmp.Equal(status.Pending, []int64{999}) {
		t.Errorf("SchemaStatus: %+v, %v", status, err)
	}
	if after := u.content(); !cmp.Equal(before, after) {
		t.Error("looking at the database changed it")
	}
	if applied, err := u.migrate(newer); err != nil || !cmp.Equal(applied, []int64{999}) {
		t.Errorf("Migrate: applied %v, %v", applied, err)
	}
	if applied, err := u.migrate(newer); err != nil || len(applied) != 0 {
		t.Errorf("Migrate again: applied %v, %v", applied, err)
	}
	if err := u.open(newer); err != nil {
		t.Error(err)
	}
}

func TestStatusOfAMissingOrEmptyDatabaseWritesNothing(t *testing.T) {
	u := newUnopened(t)
	for _, kind := range []string{"missing", "empty"} { // in PostgreSQL it is there, and empty
		if kind == "empty" && onPostgres == nil {
			if err := os.WriteFile(u.name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := u.content()
		status, err := u.status(migrationsOf())
		if err != nil || status.Current != 0 || len(status.Pending) == 0 || !errors.Is(status.Err(), ErrSchemaOld) {
			t.Errorf("%s: %+v, %v", kind, status, err)
		}
		if err := u.open(migrationsOf()); !errors.Is(err, ErrSchemaOld) {
			t.Errorf("Open, %s: %v", kind, err)
		}
		if after := u.content(); !cmp.Equal(before, after) {
			t.Errorf("%s: left %v behind", kind, after)
		}
	}
}

func TestFileOfAnotherKindIsRefusedUnchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pikarc.db")
	letter := bytes.Repeat([]byte("Dear database, "), 1000)
	if err := os.WriteFile(path, letter, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, Options{Migrations: embed.Migrations()}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Open: %v", err)
	}
	if _, err := dbfile.Migrate(t.Context(), path, embed.Migrations()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Migrate: %v", err)
	}
	if after := readAllFiles(t, filepath.Dir(path)); !cmp.Equal(after, map[string]string{"pikarc.db": string(letter)}) {
		t.Error("the file changed")
	}
}

func TestPathMayHoldAnyCharacter(t *testing.T) {
	const name = "my data?mode=ro#1 100%25 é.db"
	path := filepath.Join(t.TempDir(), name)
	if _, err := dbfile.Migrate(t.Context(), path, embed.Migrations()); err != nil {
		t.Fatal(err)
	}
	if files := readAllFiles(t, filepath.Dir(path)); len(files) != 3 || files[name] == "" {
		t.Errorf("%d files, that of the name given has %d bytes", len(files), len(files[name]))
	}
}

func TestMigrationsThatStartAtOnceAllSucceed(t *testing.T) {
	u, alone := newUnopened(t), newUnopened(t)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := u.migrate(migrationsOf()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := alone.migrate(migrationsOf()); err != nil {
		t.Error(err)
	}
	if got, want := u.schema(), alone.schema(); got != want || got == "" {
		t.Error("five migrations at once made another schema than one alone")
	}
	status, err := u.status(migrationsOf())
	if err != nil || status.Err() != nil {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestOnlyTheOwnerCanReadTheFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pikarc.db")
	if _, err := dbfile.Migrate(t.Context(), path, embed.Migrations()); err != nil { // which makes its lock
		t.Fatal(err)
	}
	openStore(t, path, noon)
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 5 {
		t.Errorf("files %v, want the database, its WAL, its index and its two locks", files)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
}

func TestEveryConnectionHasItsPragmas(t *testing.T) {
	w := newWorld(t)
	check := func(name string, c conn, want [][2]string) {
		for _, p := range want {
			var got string
			w.must(c.Query(t.Context(), "PRAGMA "+p[0], nil, func(row scanner) error { return row.Scan(&got) }))
			if got != p[1] {
				t.Errorf("%s: %s is %s, want %s", name, p[0], got, p[1])
			}
		}
	}
	common := [][2]string{{"busy_timeout", "5000"}, {"journal_mode", "wal"}, {"synchronous", "2"}, {"foreign_keys", "1"}}
	check("writer", w.file().writer, append(common[:4:4], [2]string{"query_only", "0"}))
	for _, pool := range []readPool{forLists, forCredentials} {
		for range w.file().pools[pool].Size() { // one after the other
			w.must(w.readFrom(t.Context(), pool, func(tx *Tx) error {
				check("reader", tx.conn, append(common[:4:4], [2]string{"query_only", "1"}))
				return nil
			}))
		}
	}
}

func TestReadersCannotWrite(t *testing.T) {
	w := newWorld(t)
	if err := w.read(t.Context(), add("row")); !errors.Is(err, ErrUnavailable) || w.rows("row") != 0 {
		t.Errorf("err %v, %d rows", err, w.rows("row"))
	}
}
