package storage

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/verify"
)

// restored opens a backup as the database of a fresh directory.
func restored(t *testing.T, file string, now func() time.Time) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pikarc.db")
	if kept, err := dbfile.Restore(t.Context(), file, path, embed.Migrations(), false); err != nil || kept != "" {
		t.Fatalf("restore: kept %q, %v", kept, err)
	}
	return openStore(t, path, now), path
}

func TestBackupUnderLoadIsOneSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.everyKind()
	ctx, stop := context.WithCancel(t.Context())
	working := make(chan struct{})
	go func() {
		defer close(working)
		for ctx.Err() == nil {
			run := w.start(ws, "v")
			w.patch(ws, run.ID, w.step(ws, run.ID).ID, 500, 100)
			w.end(ws, run.ID, RunCompleted)
		}
	}()
	dir := t.TempDir()
	for range 5 {
		file := filepath.Join(dir, "copy.db") // replaced each time
		before := w.number(`SELECT count(*) FROM steps`)
		bytes, err := w.Backup(t.Context(), file)
		w.must(err)
		info, err := os.Stat(file)
		w.must(err)
		if info.Size() != bytes || info.Mode() != 0o600 {
			t.Errorf("%d bytes of mode %v, want %d", info.Size(), info.Mode(), bytes)
		}
		s, path := restored(t, file, w.Now)
		if found, err := verified(path); err != nil || len(found) > 0 {
			t.Errorf("the copy's books: %v, %v", found, err)
		}
		var steps int64
		w.must(s.read(t.Context(), func(tx *Tx) error { return tx.get(`SELECT count(*) FROM steps`, nil, &steps) }))
		if steps < before {
			t.Errorf("%d steps in the copy, there were %d when it began", steps, before)
		}
	}
	stop()
	<-working
	mustHoldOnly(t, dir, "copy.db")
}

// mustHoldOnly wants a directory to hold these files, by the beginning of their names.
func mustHoldOnly(t *testing.T, dir string, prefixes ...string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		if len(files) != len(prefixes) || !strings.HasPrefix(f.Name(), prefixes[i]) {
			t.Fatalf("%s holds %v, want %v", dir, files, prefixes)
		}
	}
	if len(files) != len(prefixes) {
		t.Fatalf("%s holds %v, want %v", dir, files, prefixes)
	}
}

// What is deleted is gone from backups too: an operator who promised 14 days means it.
func TestBackupHoldsNothingThatWasDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	const said = "a sentence that only this run has said"
	run, err := w.StartRun(t.Context(), Caller{Workspace: ws}, NewRun{UserID: "u", Metadata: []byte(`{"said":"` + said + `"}`)}, allow)
	w.must(err)
	w.end(ws, run.ID, RunCompleted)
	w.Advance(100 * 24 * time.Hour)
	_, err = w.Expire(t.Context())
	w.must(err)
	file := filepath.Join(t.TempDir(), "copy.db")
	_, err = w.Backup(t.Context(), file)
	w.must(err)
	if content, err := os.ReadFile(file); err != nil || strings.Contains(string(content), said) {
		t.Errorf("the copy still has the metadata of a deleted run (%v)", err)
	}
}

func TestBackupNeverReplacesTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.unlimitedWorkspace()
	link := filepath.Join(t.TempDir(), "link.db")
	w.must(os.Link(w.path, link))
	for _, file := range []string{w.path, w.path + "-wal", w.path + "-shm", w.path + ".lock", link, filepath.Dir(w.path)} {
		if _, err := w.Backup(t.Context(), file); err == nil {
			t.Errorf("backed up to %s", file)
		}
	}
	w.mustVerify()
}

func TestBackupThatFailsLeavesTheEarlierOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everyKind()
	dir := t.TempDir()
	file := filepath.Join(dir, "copy.db")
	_, err := w.Backup(t.Context(), file)
	w.must(err)
	before := readAllFiles(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Backup(ctx, file); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	w.must(w.Close())
	content, err := os.ReadFile(w.path)
	w.must(err)
	clear(content[3*4096 : 6*4096])
	w.must(os.WriteFile(w.path, content, 0o600))
	if _, err := dbfile.Backup(t.Context(), w.path, file); !errors.Is(err, ErrCorrupt) {
		t.Errorf("of a damaged file: %v", err)
	}
	if after := readAllFiles(t, dir); len(after) != 1 || after["copy.db"] != before["copy.db"] {
		t.Errorf("%d files, or another backup than before", len(after))
	}
}

func TestRestoreKeepsTheOldDatabaseAndItsWAL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.everyKind()
	file := filepath.Join(t.TempDir(), "copy.db")
	_, err := w.Backup(t.Context(), file)
	w.must(err)
	if _, err := dbfile.Restore(t.Context(), file, w.path, embed.Migrations(), true); !errors.Is(err, dbfile.ErrInUse) {
		t.Fatalf("over an open store: %v", err)
	}
	w.start(ws, "late") // not in the backup
	w.must(w.Close())
	if _, err := dbfile.Restore(t.Context(), file, w.path, embed.Migrations(), false); !errors.Is(err, dbfile.ErrExists) {
		t.Fatalf("without force: %v", err)
	}
	kept, err := dbfile.Restore(t.Context(), file, w.path, embed.Migrations(), true)
	w.must(err)
	if len(queryStrings(t, w.path, `SELECT external_id FROM users WHERE external_id = 'late'`)) != 0 {
		t.Error("the database is not the backup")
	}
	if len(queryStrings(t, kept, `SELECT external_id FROM users WHERE external_id = 'late'`)) != 1 {
		t.Error("the old database lacks its last run")
	}
	mustHoldOnly(t, filepath.Dir(w.path), "pikarc-before-restore-", "pikarc.db", "pikarc.db.lock")
	openStore(t, w.path, w.Now)
}

func TestRestoreRefusesWhatIsNoBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "pikarc.db")
	letter := filepath.Join(t.TempDir(), "letter.db")
	if err := os.WriteFile(letter, []byte(strings.Repeat("Dear database, ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.db")
	queryStrings(t, other, `CREATE TABLE t (a TEXT)`) // some other application's
	newer := migrated(t, migrationsPlusOne(t))
	for name, c := range map[string]struct {
		file string
		want error
	}{
		"no file":             {letter + "x", fs.ErrNotExist},
		"a letter":            {letter, dbfile.ErrBadBackup},
		"another application": {other, nil},
		"of a newer version":  {newer, ErrSchemaNewer},
		"a directory":         {t.TempDir(), nil},
	} {
		if _, err := dbfile.Restore(t.Context(), c.file, path, embed.Migrations(), false); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustHoldOnly(t, dir, "pikarc.db.lock")
}

func TestMigrationKeepsTheDatabaseAsItWas(t *testing.T) {
	t.Parallel()
	path := migrated(t, embed.Migrations())
	mustHoldOnly(t, filepath.Dir(path), "pikarc.db", "pikarc.db.lock", "pikarc.db.server.lock") // nothing to keep of a fresh one
	before := schemaOf(t, path)
	if _, err := dbfile.Migrate(t.Context(), path, migrationsPlusOne(t)); err != nil {
		t.Fatal(err)
	}
	mustHoldOnly(t, filepath.Dir(path), "pikarc-before-schema-999-", "pikarc.db", "pikarc.db.lock", "pikarc.db.server.lock")
	kept, err := filepath.Glob(filepath.Join(filepath.Dir(path), "pikarc-before-*.db"))
	if err != nil || len(kept) != 1 || schemaOf(t, kept[0]) != before {
		t.Errorf("kept %v (%v), or with another schema", kept, err)
	}
	without := migrated(t, embed.Migrations())
	if _, err := dbfile.Migrate(t.Context(), without, migrationsPlusOne(t), dbfile.WithoutBackup); err != nil {
		t.Fatal(err)
	}
	mustHoldOnly(t, filepath.Dir(without), "pikarc.db", "pikarc.db.lock", "pikarc.db.server.lock")
}

func TestDamageIsFoundBeforeAServerStarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everyKind()
	w.must(w.Close())
	// Nobody reads the free pages of tables that migrations dropped.
	db, err := sql.Open("sqlite", "file:"+w.path)
	w.must(err)
	_, err = db.ExecContext(t.Context(), `PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)`)
	w.must(errors.Join(err, db.Close()))
	if err := dbfile.CheckIntegrity(t.Context(), w.path); err != nil {
		t.Errorf("sound: %v", err)
	}
	if err := dbfile.CheckIntegrity(t.Context(), w.path+"x"); err != nil {
		t.Errorf("no file: %v", err)
	}
	content, err := os.ReadFile(w.path)
	w.must(err)
	for page := 1; page < len(content)/4096; page += 4 {
		spoilt := append([]byte{}, content...)
		for i := range 100 {
			spoilt[page*4096+i] ^= 0xa5
		}
		w.must(os.WriteFile(w.path, spoilt, 0o600))
		if err := dbfile.CheckIntegrity(t.Context(), w.path); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "pikarc restore") {
			t.Errorf("page %d: %v", page+1, err)
		}
	}
}

// A page that is said to be free while a table has it is written over by the next row.
func TestAPageThatIsFreeAndUsedIsFound(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{"as made": "", "vacuumed": "VACUUM;"} {
		w := newWorld(t)
		w.everyKind()
		w.must(w.Close())
		db, err := sql.Open("sqlite", "file:"+w.path)
		w.must(err)
		_, err = db.ExecContext(t.Context(), before+`CREATE TABLE filler (n INTEGER PRIMARY KEY, b BLOB);
			WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100)
			INSERT INTO filler SELECT n, zeroblob(3000) FROM n;
			DROP TABLE filler; PRAGMA wal_checkpoint(TRUNCATE)`)
		w.must(errors.Join(err, db.Close()))
		content, err := os.ReadFile(w.path)
		w.must(err)
		free := int(binary.BigEndian.Uint32(content[32:])) // the first page that lists free ones
		binary.BigEndian.PutUint32(content[(free-1)*4096+8:], 5)
		w.must(os.WriteFile(w.path, content, 0o600))
		if err := dbfile.CheckIntegrity(t.Context(), w.path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: before a start: %v", name, err)
		}
		faults, _, err := dbfile.CheckFile(t.Context(), w.path)
		if err != nil || len(faults) == 0 || faults[0].Check != dbfile.Integrity {
			t.Errorf("%s: found %v, %v", name, faults, err)
		}
	}
}

// In a URI two slashes begin the name of a host.
func TestPathMayBeginWithTwoSlashes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(w.unlimitedWorkspace(), "someone")
	copied := filepath.Join(t.TempDir(), "b.db")
	_, err := w.Backup(t.Context(), "/"+copied)
	w.must(err)
	_, err = verify.File(t.Context(), "/"+copied, verify.Options{Migrations: embed.Migrations()})
	w.must(err)
	path := filepath.Join(t.TempDir(), "pikarc.db")
	_, err = dbfile.Restore(t.Context(), "/"+copied, "/"+path, embed.Migrations(), false)
	w.must(err)
	s := openStore(t, "/"+path, w.Now)
	if size := s.Stats().FileBytes; size == 0 {
		t.Error("the restored database is not where it was asked for")
	}
}
