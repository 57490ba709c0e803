package e2e_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// Faults of the machine below the server. What they have in common: the answer
// is 503 or none, never a wrong decision, and the books are right after.

// limit sets a process's soft limit of a resource, while it runs.
func (p *process) limit(t *testing.T, resource int, most uint64) {
	t.Helper()
	limits := [2]uint64{most, math.MaxUint64}
	var hard [2]uint64
	pid := uintptr(p.cmd.Process.Pid)
	_, _, e := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, pid, uintptr(resource), 0, uintptr(unsafe.Pointer(&hard)), 0, 0)
	if e == 0 {
		limits[1] = hard[1]
		_, _, e = syscall.RawSyscall6(syscall.SYS_PRLIMIT64, pid, uintptr(resource), uintptr(unsafe.Pointer(&limits)), 0, 0, 0)
	}
	if e != 0 {
		t.Fatalf("prlimit: %v", e)
	}
}

// tryStart asks for a run and returns the status; a 503 must say when to come again.
func (p *process) tryStart(t *testing.T, key string) int {
	t.Helper()
	a := p.call(t, "POST", "/v1/runs/", key, map[string]string{"user_id": "someone"})
	if a.status == http.StatusServiceUnavailable && (a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "detail")) {
		t.Errorf("503 without a word of when to try again: %v %s", a.header, a.body)
	}
	return a.status
}

// recovers waits until runs are allowed again, and counts the one that was.
func (p *process) recovers(t *testing.T, key string) {
	t.Helper()
	allowed := false // and no other run is started by looking again
	p.await(t, "recovered", func() bool {
		allowed = allowed || p.tryStart(t, key) == http.StatusCreated
		return allowed
	})
	p.await(t, "was ready again", func() bool {
		return p.call(t, "GET", "/health/ready", "", nil).status == http.StatusOK
	})
}

// A limit of the file size stops writes just as a full disk does, for one
// process alone: before, within, and after the first page that is written.
func TestFullDiskStopsDecisionsUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, u := roomy(t, dir)
	first := p.start(t, u.APIKey, "someone")
	allowed := 1
	for round := range 3 {
		wal, err := os.Stat(filepath.Join(dir, "pikarc.db-wal"))
		if err != nil {
			t.Fatal(err)
		}
		p.limit(t, syscall.RLIMIT_FSIZE, uint64(wal.Size()+int64(round)*3000))
		const most = 2000
		status := http.StatusCreated
		for range most {
			if status = p.tryStart(t, u.APIKey); status != http.StatusCreated {
				break
			}
			allowed++
		}
		if status != http.StatusServiceUnavailable {
			t.Fatalf("round %d: answered %d with a full disk, after %d runs", round, status, allowed)
		}
		p.await(t, "was not ready", func() bool {
			return p.call(t, "GET", "/health/ready", "", nil).status == http.StatusServiceUnavailable
		})
		p.call(t, "GET", "/health", "", nil).want(t, http.StatusOK)
		p.call(t, "GET", "/v1/runs/"+first.ID, u.APIKey, nil).want(t, http.StatusOK)
		p.limit(t, syscall.RLIMIT_FSIZE, math.MaxUint64)
		p.recovers(t, u.APIKey)
		allowed++
		if got := p.startedRuns(t, u.APIKey); got != allowed {
			t.Errorf("round %d: %d runs are counted, %d were allowed", round, got, allowed)
		}
	}
	balanced(t, dir)
	p.stop(t)
	balanced(t, dir)
}

func TestNoMoreFilesKeepsOpenConnectionsServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := createUser(t, dir, "ann@example.com", "enterprise")
	p := serve(t, dir, "--log-level", "debug")
	p.call(t, "PATCH", "/v1/workspace/", p.signIn(t, u.Email), map[string]int{"max_concurrent_runs": 1000}).want(t, http.StatusOK)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	start := func() {
		t.Helper()
		a, err := send(t.Context(), client, "POST", p.url+"/v1/runs/", u.APIKey, map[string]string{"user_id": "someone"})
		if err != nil || a.status != http.StatusCreated {
			t.Fatalf("answered %d %s, %v", a.status, a.body, err)
		}
	}
	start()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	const spare = 5
	p.limit(t, syscall.RLIMIT_NOFILE, uint64(len(open)+spare))
	var crowd []func() error
	for range 4 * spare { // the system completes what the server cannot accept
		crowd = append(crowd, p.dial(t).Close)
	}
	p.await(t, "ran out of files", func() bool { return strings.Contains(p.stderr.String(), "too many open files") })
	for range 50 {
		start()
	}
	for _, leave := range crowd {
		_ = leave()
	}
	http.DefaultClient.CloseIdleConnections()
	p.recovers(t, u.APIKey)
	p.stop(t)
	balanced(t, dir)
}

func TestLockHeldByAnotherProcessStopsDecisionsUntilItIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, u := roomy(t, dir)
	first := p.start(t, u.APIKey, "someone")
	db, err := sql.Open("sqlite", filepath.Join(dir, "pikarc.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec := func(statement string) {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec("BEGIN IMMEDIATE")
	for range 2 { // each waits its 5 s for the lock
		if status := p.tryStart(t, u.APIKey); status != http.StatusServiceUnavailable {
			t.Errorf("answered %d", status)
		}
		p.call(t, "GET", "/v1/runs/"+first.ID, u.APIKey, nil).want(t, http.StatusOK)
	}
	exec("ROLLBACK")
	p.recovers(t, u.APIKey)
	if got := p.startedRuns(t, u.APIKey); got != 2 {
		t.Errorf("%d runs are counted, 2 were allowed", got)
	}
	p.stop(t)
	balanced(t, dir)
}

// unprivileged runs a command as somebody whom file modes concern: not as root.
func unprivileged(t *testing.T, dir string, args ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, pikarc, append(args, "--data-dir", dir)...)
	cmd.Env = environment()
	if os.Geteuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, nobody, nobody)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func TestDatabaseThatCannotBeWrittenIsSaidAtTheStart(t *testing.T) {
	t.Parallel()
	for name, readOnly := range map[string]func(dir string) error{
		"the file":      func(dir string) error { return os.Chmod(filepath.Join(dir, "pikarc.db"), 0o400) },
		"the directory": func(dir string) error { return os.Chmod(dir, 0o500) },
	} {
		dir := t.TempDir()
		u := createUser(t, dir, "ann@example.com", "scale")
		if err := readOnly(dir); err != nil {
			t.Fatal(err)
		}
		out, code := unprivileged(t, dir, "serve", "--addr", "127.0.0.1:0")
		if code != 1 || !strings.Contains(out, "cannot be written") || !strings.Contains(out, "mode") || strings.Contains(out, "serves") {
			t.Errorf("%s: exit code %d, %q", name, code, out)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, "pikarc.db"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := serve(t, dir)
		p.start(t, u.APIKey, "someone")
		p.stop(t)
		balanced(t, dir)
	}
}

func TestDamagedDatabaseIsRefusedAndTheWayBackIsSaid(t *testing.T) {
	t.Parallel()
	dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy.db")
	p, u := roomy(t, dir)
	p.start(t, u.APIKey, "someone")
	run(t, "backup", copied, "--data-dir", dir).ok(t)
	p.stop(t)
	path := filepath.Join(dir, "pikarc.db")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	for i := range page {
		content[len(content)/page/2*page+i] ^= 0x77
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "serve", "--addr", "127.0.0.1:0", "--data-dir", dir).fails(t, 1, "damaged", "pikarc restore", "docs/ops/backup.md")
	if after, err := os.ReadFile(path); err != nil || string(after) != string(content) {
		t.Errorf("the damaged file was changed (%v)", err)
	}
	if out := run(t, "verify", "--data-dir", dir); out.code != 1 || !strings.Contains(out.stdout, "integrity") {
		t.Errorf("verify: exit code %d, %q, %q", out.code, out.stdout, out.stderr)
	}
	run(t, "restore", copied, "--force", "--data-dir", dir).ok(t)
	p = serve(t, dir)
	p.start(t, u.APIKey, "someone")
	p.stop(t)
	balanced(t, dir)
}
