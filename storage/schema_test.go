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
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

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

// migrationsPlusOne returns the binary's migrations and one newer.
func migrationsPlusOne(t *testing.T) fs.FS {
	t.Helper()
	files := fstest.MapFS{"00999_next.sql": {Data: []byte("-- +goose Up\nCREATE TABLE next (id INTEGER PRIMARY KEY) STRICT;\n")}}
	names, err := fs.Glob(embed.Migrations(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(embed.Migrations(), name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: data}
	}
	return files
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
	const golden = "testdata/schema.sql"
	got := schemaOf(t, migrated(t, embed.Migrations()))
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
		t.Errorf("the schema changed: if that is meant, run go test ./storage -update (-golden +now):\n%s", diff)
	}
}

func TestEveryTableIsStrictAndSaysWhatItIs(t *testing.T) {
	path := migrated(t, embed.Migrations())
	const ours = ` FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name <> 'goose_db_version'`
	tables := queryStrings(t, path, `SELECT sql`+ours)
	if len(tables) == 0 {
		t.Fatal("no tables")
	}
	for _, table := range tables {
		if _, body, _ := strings.Cut(table, "("); !strings.HasPrefix(strings.TrimSpace(body), "-- ") {
			t.Errorf("no comment says what this table is:\n%s", table)
		}
	}
	lax := queryStrings(t, path, `SELECT name FROM pragma_table_list WHERE strict = 0 AND name IN (SELECT name`+ours+`)`)
	if len(lax) != 0 {
		t.Errorf("not STRICT: %v", lax)
	}
}

func TestNewerSchemaIsRefusedAndNotAByteChanges(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} { // a copy by VACUUM INTO is not in WAL mode
		t.Run(mode, func(t *testing.T) {
			path := migrated(t, migrationsPlusOne(t))
			queryStrings(t, path, `PRAGMA journal_mode = `+mode)
			before := readAllFiles(t, filepath.Dir(path))
			if _, err := Open(t.Context(), path, Options{Migrations: embed.Migrations()}); !errors.Is(err, ErrSchemaNewer) {
				t.Errorf("Open: %v", err)
			}
			if applied, err := dbfile.Migrate(t.Context(), path, embed.Migrations()); !errors.Is(err, ErrSchemaNewer) || applied != nil {
				t.Errorf("Migrate: applied %v, %v", applied, err)
			}
			status, err := dbfile.SchemaStatus(t.Context(), path, embed.Migrations())
			if err != nil || !errors.Is(status.Err(), ErrSchemaNewer) || status.Current != 999 {
				t.Errorf("SchemaStatus: %+v, %v", status, err)
			}
			if after := readAllFiles(t, filepath.Dir(path)); !cmp.Equal(before, after) {
				t.Error("the file changed")
			}
		})
	}
}

func TestOlderSchemaIsRefusedByOpenUntilMigrated(t *testing.T) {
	path, newer := migrated(t, embed.Migrations()), migrationsPlusOne(t)
	before := readAllFiles(t, filepath.Dir(path))
	if _, err := Open(t.Context(), path, Options{Migrations: newer}); !errors.Is(err, ErrSchemaOld) {
		t.Errorf("Open: %v", err)
	}
	status, err := dbfile.SchemaStatus(t.Context(), path, newer)
	if err != nil || !cmp.Equal(status.Pending, []int64{999}) {
		t.Errorf("SchemaStatus: %+v, %v", status, err)
	}
	if after := readAllFiles(t, filepath.Dir(path)); !cmp.Equal(before, after) {
		t.Error("looking at the file changed it")
	}
	if applied, err := dbfile.Migrate(t.Context(), path, newer); err != nil || !cmp.Equal(applied, []int64{999}) {
		t.Errorf("Migrate: applied %v, %v", applied, err)
	}
	if applied, err := dbfile.Migrate(t.Context(), path, newer); err != nil || len(applied) != 0 {
		t.Errorf("Migrate again: applied %v, %v", applied, err)
	}
	s, err := Open(t.Context(), path, Options{Migrations: newer})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestStatusOfAMissingOrEmptyFileWritesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pikarc.db")
	for _, file := range []string{"missing", "empty"} {
		if file == "empty" {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := readAllFiles(t, dir)
		status, err := dbfile.SchemaStatus(t.Context(), path, embed.Migrations())
		if err != nil || status.Current != 0 || len(status.Pending) == 0 || !errors.Is(status.Err(), ErrSchemaOld) {
			t.Errorf("%s: %+v, %v", file, status, err)
		}
		if _, err := Open(t.Context(), path, Options{Migrations: embed.Migrations()}); !errors.Is(err, ErrSchemaOld) {
			t.Errorf("Open, %s: %v", file, err)
		}
		if after := readAllFiles(t, dir); !cmp.Equal(before, after) {
			t.Errorf("%s: left %v behind", file, after)
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
	path := filepath.Join(t.TempDir(), "pikarc.db")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := dbfile.Migrate(context.Background(), path, embed.Migrations()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, want := schemaOf(t, path), schemaOf(t, migrated(t, embed.Migrations())); got != want {
		t.Error("ten migrations at once made another schema than one alone")
	}
	status, err := dbfile.SchemaStatus(t.Context(), path, embed.Migrations())
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
