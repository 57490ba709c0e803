package e2e_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// As many as the file descriptors of this machine allow, up to 10,000: the
// server and this test need one each for every connection.
func TestTenThousandIdleConnectionsDoNotHinderAgents(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	connections := min(10_000, int(limit.Cur)-1000)
	p, u := roomy(t, t.TempDir(), "--max-connections", "0")
	// Each has made a call and may make another, so that none is closed for saying nothing.
	held := p.hold(t, connections, "GET /health HTTP/1.1\r\nHost: pikarc\r\n\r\n")
	for i, conn := range held {
		if status, _, err := readAnswer(bufio.NewReader(conn)); status != http.StatusOK {
			t.Fatalf("connection %d of %d was answered %d, %v", i, connections, status, err)
		}
	}
	for range 50 {
		if d := p.start(t, u.APIKey, "someone"); d.Decision.Outcome != "ALLOW" {
			t.Fatalf("beside %d idle connections: %+v", connections, d)
		}
	}
	if connections < 10_000 {
		t.Logf("%d connections: this machine allows %d open files", connections, limit.Cur)
	}
}

// A password's hash takes 19 MiB while it is made. However many sign in at once,
// the server makes only as many at a time as it has processors.
func TestALoginFloodTakesBoundedMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	createUser(t, dir, "ann@example.com", "basic")
	p := serveWith(t, []string{"GOMAXPROCS=2"}, "--addr", "127.0.0.1:0", "--data-dir", dir, "--trusted-proxies", "127.0.0.1")
	var flood sync.WaitGroup
	for i := range 100 {
		flood.Go(func() {
			// Each has an email and an address of its own, so that no limit of those keeps it out.
			body := map[string]string{"email": fmt.Sprintf("nobody-%d@example.com", i), "password": password}
			a, err := send(t.Context(), http.DefaultClient, "POST", p.url+"/v1/auth/login", "", body, "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i))
			if err != nil || a.status != http.StatusUnauthorized {
				t.Errorf("answered %d, %v", a.status, err)
			}
		})
	}
	flood.Wait()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if peak == nil {
		t.Fatalf("no peak in %s", status)
	}
	// All at once would take 1,900 MiB.
	kib, err := strconv.Atoi(string(peak[1]))
	if t.Logf("at its peak the server held %d MiB", kib>>10); err != nil || kib > 500<<10 {
		t.Error("that is more than a few hashes at a time take")
	}
}
