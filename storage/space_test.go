package storage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage/dbfile"
)

// ballast gives a workspace some MiB of payload, in ended runs.
func (w *world) ballast(ws WorkspaceKey, mib int) {
	w.t.Helper()
	ctx, c := context.Background(), Caller{Workspace: ws}
	for i := range mib {
		run := w.start(ws, fmt.Sprint("u", i)).ID
		for range 8 {
			random := make([]byte, 1<<17) // which does not get smaller
			_, _ = rand.Read(random)
			in := NewStep{Type: 1, Sequence: 1, InputData: []byte(`{"x":"` + base64.StdEncoding.EncodeToString(random) + `"}`)}
			_, err := w.CreateStep(ctx, c, run, in, guard.Decide)
			w.must(err)
		}
		w.end(ws, run, RunCompleted)
	}
}

func (w *world) fileSize() int64 {
	w.t.Helper()
	info, err := os.Stat(w.path)
	w.must(err)
	return info.Size()
}

func TestSpaceOfExpiredRunsIsGivenBackToTheDisk(t *testing.T) {
	w := newWorld(t)
	ws, kept := w.workspace(plans.Basic), w.workspace(plans.Enterprise)
	w.ballast(ws, 12)
	w.ballast(kept, 4) // the last in the file
	if n, err := w.Shrink(t.Context()); n != 0 || err != nil {
		t.Errorf("%d pages are given back of a file that is full, %v", n, err)
	}
	w.must(w.engine.scrub(t.Context(), w.pauseWriter))
	e, err := w.Expiring(t.Context(), ws, 26*time.Hour)
	w.must(err)
	if e.Runs != 12 || e.Bytes < 12<<20 || e.Bytes > 13<<20 {
		t.Errorf("what will expire within 26 hours is %+v, want 12 runs of about 12 MiB", e)
	}
	if e, err := w.Expiring(t.Context(), ws, 22*time.Hour); e != (Expiring{}) || err != nil {
		t.Errorf("what will expire within 22 hours is %+v, %v", e, err)
	}
	before := w.fileSize()
	w.Advance(25 * time.Hour)
	w.expire()
	space, err := w.Space(t.Context())
	w.must(err)
	if space.FreeBytes < 12<<20 || space.FileBytes < 16<<20 || !space.CanShrink {
		t.Errorf("after retention %+v", space)
	}
	n, err := w.Shrink(t.Context())
	w.must(err)
	after := w.fileSize()
	if before < 16<<20 || after > 6<<20 || int64(n)*4096 < 10<<20 {
		t.Errorf("the file had %d bytes and has %d, %d pages were given back", before, after, n)
	}
	if all, err := w.TotalExpiring(t.Context(), 366*24*time.Hour); all.Runs != 4 || err != nil {
		t.Errorf("of all workspaces expires %+v, %v", all, err)
	}
	w.mustVerify()
	w.mustRememberTheTruth()
}

// The pages that are moved are not those of one slice: others write in between.
func TestOtherWritesGetInWhileTheFileShrinks(t *testing.T) {
	w := newWorld(t)
	ws, kept := w.workspace(plans.Basic), w.unlimitedWorkspace()
	w.ballast(ws, 6)
	w.ballast(kept, 4)
	w.Advance(25 * time.Hour)
	w.expire()
	commits := 0
	w.onCommit(func() bool { commits++; return true })
	n, err := w.Shrink(t.Context())
	w.must(err)
	if n < 1000 || commits < 10 {
		t.Errorf("%d pages are given back in %d transactions", n, commits)
	}
}

// A database of an older version does not shrink until a restore has written it anew.
func TestOlderDatabaseShrinksOnceItIsRestored(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, "old.db"), filepath.Join(dir, "fresh.db")
	db, err := sql.Open("sqlite", "file:"+old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `PRAGMA auto_vacuum = 0; CREATE TABLE first (x); DROP TABLE first`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := dbfile.Migrate(t.Context(), old, embed.Migrations()); err != nil {
		t.Fatal(err)
	}
	canShrink := func(path string) bool {
		s := openStore(t, path, noon)
		space, err := s.Space(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n, err := s.Shrink(t.Context())
		if n != 0 || err != nil {
			t.Errorf("%s: %d pages are given back, %v", path, n, err)
		}
		return space.CanShrink
	}
	if canShrink(old) {
		t.Fatal("the old database can shrink, so that it proves nothing")
	}
	backup := filepath.Join(dir, uuid.NewString()+".db")
	if _, err := dbfile.Backup(t.Context(), old, backup); err != nil {
		t.Fatal(err)
	}
	if _, err := dbfile.Restore(t.Context(), backup, fresh, embed.Migrations(), false); err != nil {
		t.Fatal(err)
	}
	if !canShrink(fresh) {
		t.Error("the restored database cannot shrink")
	}
}
