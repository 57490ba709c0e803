package e2e_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
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
	// All at once would take 1,900 MiB.
	if mib := p.peak(t); mib > 500 {
		t.Errorf("at its peak the server held %d MiB: that is more than a few hashes at a time take", mib)
	}
}

// peak is the most memory that the process has had in use, in MiB.
func (p *process) peak(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if peak == nil {
		t.Fatalf("no peak in %s", status)
	}
	kib, err := strconv.Atoi(string(peak[1]))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("at its peak the server held %d MiB", kib>>10)
	return kib >> 10
}

// Together these bodies are 32 GiB. Some are served, one after the other, and
// the others are told to come back; nobody else notices.
func TestTwoThousandLargeBodiesTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	const connections, size = 2000, 16 << 20
	dir := t.TempDir()
	other := createUser(t, dir, "bob@example.com", "enterprise")
	p, u := roomy(t, dir)
	head, tail := `{"user_id":"ann","metadata":{"a":"`, `"}}`
	body := []byte(head + strings.Repeat("a", size-len(head)-len(tail)) + tail)
	var begun, done sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	begun.Add(connections)
	for range connections {
		done.Go(func() {
			status := sendLarge(p, u.APIKey, body, begun.Done)
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	begun.Wait()
	for _, input := range []int{1, 500_000} { // with and without asking for memory
		in := map[string]any{"user_id": "bob", "metadata": map[string]string{"a": strings.Repeat("b", input)}}
		p.call(t, "POST", "/v1/runs/", other.APIKey, in).want(t, http.StatusCreated)
	}
	done.Wait()
	t.Logf("answers by status, 0 for a connection that ended before: %v", statuses)
	if statuses[http.StatusCreated] == 0 || statuses[http.StatusServiceUnavailable] == 0 ||
		statuses[0]+statuses[http.StatusCreated]+statuses[http.StatusServiceUnavailable] != connections {
		t.Errorf("answered %v", statuses)
	}
	if got := p.startedRuns(t, u.APIKey); got < statuses[http.StatusCreated] {
		t.Errorf("%d runs are recorded, %d were answered", got, statuses[http.StatusCreated])
	}
	if mib := p.peak(t); mib > 600 {
		t.Errorf("%d MiB are more than --max-body-memory accounts for", mib)
	}
}

// sendLarge starts a run with a large body on a connection of its own, and
// calls begun once the first of it is sent. The status is 0 when the
// connection ended before the answer.
func sendLarge(p *process, key string, body []byte, begun func()) int {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(p.url, "http://"), patience)
	if err != nil {
		begun()
		return 0
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/runs/ HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", key, len(body))
	const first = 64 << 10
	_, err = conn.Write(body[:first])
	begun()
	if err == nil {
		_, _ = conn.Write(body[first:]) // refused, it ends early: then the answer says so
	}
	status, _, err := readAnswer(bufio.NewReader(conn))
	if err != nil {
		return 0
	}
	return status
}
