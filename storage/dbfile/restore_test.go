package dbfile

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/pikarc/server/embed"
)

// FAT has no hard links, and some mounts refuse them.
func TestRestoreKeepsTheOldDatabaseWithoutHardLinks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pikarc.db")
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	_, err := Migrate(t.Context(), path, embed.Migrations())
	must(err)
	before, err := os.ReadFile(path)
	must(err)
	refused := func(path, to string) error { return &os.LinkError{Op: "link", Old: path, New: to, Err: syscall.EPERM} }
	kept, err := keepAside(t.Context(), path, refused)
	must(err)
	for _, file := range []string{path, kept} {
		if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%s: %d bytes of %d, %v", file, len(after), len(before), err)
		}
	}
	if info, err := os.Stat(kept); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{filepath.Base(kept), "pikarc.db", "pikarc.db.lock", "pikarc.db.server.lock"}; !slices.Equal(names, want) {
		t.Errorf("the directory holds %v, want %v", names, want)
	}
}
