package e2e_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// service is the user as whom a service runs, beside which root runs commands.
// Whoever is not root here is both.
func service() int {
	if os.Geteuid() != 0 {
		return os.Geteuid()
	}
	return 65534
}

// serviceDir is a data directory of the service's, below one of root's that all may enter.
func serviceDir(t *testing.T) string {
	t.Helper()
	above := t.TempDir()
	for dir := above; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(above, "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, service(), service()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// asService runs a command as the service does.
func asService(t *testing.T, dir string, settings []string, args ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, pikarc, append(args, "--data-dir", dir)...)
	cmd.Env = environment(settings...)
	if os.Geteuid() == 0 {
		id := uint32(service())
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	}
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// belongsTo finds what a directory holds of others than its owner.
func belongsTo(t *testing.T, dir string, uid int, after string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; int(got) != uid {
			t.Errorf("after %s, %s belongs to %d, want %d", after, path, got, uid)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Case 24, and all that a command may leave: the database, its WAL and index,
// locks, the secret, copies that are kept, backups, certificates.
func TestWhatRootMakesBelongsToTheOwnerOfTheDirectory(t *testing.T) {
	t.Parallel()
	dir, work := serviceDir(t), t.TempDir()
	mine := filepath.Join(work, "root.db")
	backups := filepath.Join(dir, "made", "backups")
	serve := func() {
		p := serve(t, dir, "--backup-dir", backups)
		p.call(t, "GET", "/health/ready", "", nil)
		p.await(t, "backed up", func() bool { return strings.Contains(p.stderr.String(), "backed up") })
		belongsTo(t, dir, service(), "serve, while it serves")
		p.kill() // so that the WAL is left
	}
	for _, step := range []struct {
		name string
		run  func()
	}{
		{"create-user on a fresh directory", func() { createUser(t, dir, "ann@example.com", "basic") }},
		{"serve", serve},
		{"create-user beside what a killed server left", func() { createUser(t, dir, "bob@example.com", "basic") }},
		{"rotate-key", func() { run(t, "rotate-key", "--email", "ann@example.com", "--data-dir", dir).ok(t) }},
		{"set-plan", func() { run(t, "set-plan", "--email", "ann@example.com", "pro", "--data-dir", dir).ok(t) }},
		{"verify", func() { run(t, "verify", "--data-dir", dir).ok(t) }},
		{"backup into it", func() { run(t, "backup", filepath.Join(dir, "b.db"), "--data-dir", dir).ok(t) }},
		{"backup elsewhere", func() { run(t, "backup", mine, "--data-dir", dir).ok(t) }},
		{"restore", func() { run(t, "restore", mine, "--force", "--data-dir", dir).ok(t) }},
		{"migrate", func() { run(t, "migrate", "--data-dir", dir).ok(t) }},
	} {
		step.run()
		belongsTo(t, dir, service(), step.name)
	}
	belongsTo(t, work, os.Geteuid(), "a backup into root's directory")
	for _, command := range [][]string{
		{"verify"}, {"rotate-key", "--email", "ann@example.com"}, {"backup", filepath.Join(dir, "by-service.db")},
	} {
		if out, code := asService(t, dir, nil, command...); code != 0 {
			t.Errorf("then the service's own %s fails: %s", command[0], out)
		}
	}
}

func TestWhatRootMigratesKeepsACopyOfTheOwners(t *testing.T) {
	t.Parallel()
	dumps, err := filepath.Glob("storage/testdata/released/*.sql")
	if err != nil || len(dumps) == 0 {
		t.Fatalf("no released schema: %v", err)
	}
	dir := serviceDir(t)
	path := filepath.Join(dir, "pikarc.db")
	load(t, path, dumps[0])
	if err := os.Chown(path, service(), service()); err != nil {
		t.Fatal(err)
	}
	run(t, "migrate", "--data-dir", dir).ok(t)
	if copies, err := filepath.Glob(filepath.Join(dir, "pikarc-before-schema-*.db")); err != nil || len(copies) != 1 {
		t.Errorf("copies: %v (%v)", copies, err)
	}
	belongsTo(t, dir, service(), "migrate")
}

// Case 37: a directory of the host's, mounted into a container that runs as somebody else.
func TestADirectoryOfSomebodyElsesIsSaidWithTheLineThatMendsIt(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("not as root: no directory is somebody else's here, and only the words for it are not seen")
		return
	}
	for name, prepare := range map[string]func(dir string) error{
		"an empty directory": func(dir string) error { return os.Chown(dir, 0, 0) },
		"a database of root's": func(dir string) error {
			createUser(t, dir, "ann@example.com", "basic")
			return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error { return os.Chown(path, 0, 0) })
		},
		"one file of root's": func(dir string) error {
			createUser(t, dir, "ann@example.com", "basic")
			return os.Chown(filepath.Join(dir, "pikarc.db"), 0, 0)
		},
	} {
		for _, command := range [][]string{{"serve", "--addr", "127.0.0.1:0"}, {"migrate", "--init"}} {
			dir := serviceDir(t)
			if err := prepare(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
				t.Fatal(err)
			}
			settings := []string{"PIKARC_SECRET=" + firstSecret}
			out, code := asService(t, dir, settings, command...)
			want := []string{"belongs to root (uid 0)", "runs as nobody (uid 65534)", "chown -R 65534:65534 " + dir}
			for _, words := range want {
				if code != 1 || !strings.Contains(out, words) {
					t.Errorf("%s, %s: exit code %d, without %q: %s", name, command[0], code, words, out)
				}
			}
		}
	}
}
