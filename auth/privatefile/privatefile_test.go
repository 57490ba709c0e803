//go:build unix

package privatefile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pikarc/server/auth/privatefile"
)

// someoneElse is whom root gives a directory to; whoever is not root can only keep it.
func someoneElse() int {
	if os.Geteuid() != 0 {
		return os.Geteuid()
	}
	return 65534
}

func wantOwner(t *testing.T, path string, mode fs.FileMode, uid int) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t).Uid; info.Mode() != mode || int(got) != uid {
		t.Errorf("%s has mode %v and belongs to %d, want %v and %d", path, info.Mode(), got, mode, uid)
	}
}

func theirs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chown(dir, someoneElse(), someoneElse()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestWhatIsMadeIsPrivateAndItsDirectorysOwners(t *testing.T) {
	dir := theirs(t)
	file, deep := filepath.Join(dir, "file"), filepath.Join(dir, "a", "b", "c")
	for range 2 { // the second finds it made
		if err := privatefile.Ensure(file); err != nil {
			t.Fatal(err)
		}
		if err := privatefile.MkdirAll(deep); err != nil {
			t.Fatal(err)
		}
	}
	temp, err := privatefile.CreateTemp(deep, "new-*")
	if err != nil {
		t.Fatal(err)
	}
	defer temp.Close()
	wantOwner(t, file, 0o600, someoneElse())
	wantOwner(t, temp.Name(), 0o600, someoneElse())
	for d := deep; d != dir; d = filepath.Dir(d) {
		wantOwner(t, d, fs.ModeDir|0o700, someoneElse())
	}
	mine := t.TempDir()
	if err := privatefile.Ensure(filepath.Join(mine, "file")); err != nil {
		t.Fatal(err)
	}
	wantOwner(t, filepath.Join(mine, "file"), 0o600, os.Geteuid())
}

// Whoever owns the directory may have put a link there, to have root give away what it points to.
func TestWhatIsThereAlreadyIsNotGivenAway(t *testing.T) {
	dir, outside := theirs(t), filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(outside, []byte("secret"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "dangling"} {
		target := outside
		if name == "dangling" {
			target += "-new"
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := privatefile.Ensure(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	wantOwner(t, outside, 0o640, os.Geteuid())
	if _, err := os.Lstat(outside + "-new"); !os.IsNotExist(err) {
		t.Errorf("a link was followed and its target made (%v)", err)
	}
	if err := privatefile.MkdirAll(filepath.Join(dir, "link")); err == nil {
		t.Error("a file was taken for a directory")
	}
}
