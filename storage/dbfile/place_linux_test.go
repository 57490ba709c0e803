package dbfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What statfs(2) and mountinfo say of mounts as they were seen on real machines.
func TestNetworkFileSystemsAreKnownByName(t *testing.T) {
	t.Parallel()
	for magic, want := range map[uint32]string{0x6969: "NFS", 0xff534d42: "CIFS", 0xfe534d42: "SMB", 0xef53: "", 0x58465342: "", 0x794c7630: ""} {
		if got := networkByMagic(magic); got != want {
			t.Errorf("%#x is %q, want %q", magic, got, want)
		}
	}
	const mounts = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /mnt/shared\040data rw,nosuid - fuse.sshfs ann@host:/data rw,user_id=0
41 22 0:36 / /mnt/shared rw - fuse.gocryptfs /crypt rw
42 41 0:37 / /mnt/shared rw - fuse.s3fs s3fs rw
43 22 0:38 / /srv rw shared:3 master:1 - fuse.mergerfs a:b rw
`
	for dir, want := range map[string]string{
		"/": "", "/home/ann": "", "/mnt/shared data": "sshfs", "/mnt/shared data/pikarc": "sshfs", "/mnt/shared database": "",
		"/mnt/shared": "s3fs", "/mnt/shared/x": "s3fs", "/srv/pikarc": "",
	} {
		if got := networkByType(mountType(mounts, dir)); got != want {
			t.Errorf("%s is on %q, want %q", dir, got, want)
		}
	}
	if name := networkFileSystem(t.TempDir()); name != "" {
		t.Errorf("a directory of this machine is on %s", name)
	}
}

func TestLinksAreFollowedToTheRealFile(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	for _, err := range []error{
		os.Mkdir(at("real"), 0o700), os.Symlink("real", at("linked")), os.WriteFile(at("real", "there.db"), nil, 0o600),
		os.Symlink(at("linked", "there.db"), at("there.db")), os.Symlink("linked/new.db", at("new.db")),
		os.Symlink("round.db", at("round.db")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for given, want := range map[string]string{
		at("there.db"): at("real", "there.db"), at("linked", "there.db"): at("real", "there.db"),
		at("new.db"): at("real", "new.db"), at("linked", "other.db"): at("real", "other.db"), at("none", "x.db"): at("none", "x.db"),
	} {
		if got, err := resolveLinks(given); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", given, got, err, want)
		}
	}
	if got, err := resolveLinks(at("round.db")); err == nil {
		t.Errorf("a link to itself is %s", got)
	}
}

// A server waits for commands that migrate, and for no other server unless asked to.
func TestServerWaitsForAnother(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pikarc.db")
	first, err := LockServer(t.Context(), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockServer(t.Context(), path, 0); !errors.Is(err, ErrServerRunning) {
		t.Errorf("a second server: %v", err)
	}
	if _, err := lockForCommand(path); !errors.Is(err, ErrOtherVersionRunning) {
		t.Errorf("a command beside a server: %v", err)
	}
	second := make(chan error, 1)
	go func() {
		held, err := LockServer(t.Context(), path, time.Minute)
		second <- errors.Join(err, held.Close())
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
	command, err := lockForCommand(path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		held, err := LockServer(t.Context(), path, 0)
		second <- errors.Join(err, held.Close())
	}()
	if err := command.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Errorf("after a command: %v", err)
	}
}
