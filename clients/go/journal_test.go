package pikarc

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// keeping makes a client whose two reports of a run were kept.
func keeping(t *testing.T) (*books, *Client) {
	t.Helper()
	b, c := newBooks(t)
	b.hook = func(n int, _ bool) {
		b.mu.Lock()
		b.down = n == 3 || n == 5 // the reports
		b.mu.Unlock()
	}
	if err := agent(t.Context(), c, func() {}); err != nil {
		t.Fatal(err)
	}
	b.hook, b.down = nil, false
	if got := c.JournalLength(); got != 2 {
		t.Fatalf("%d reports wait", got)
	}
	return b, c
}

func TestAJournalHoldsNoKeyAndIsItsOwnersAlone(t *testing.T) {
	_, c := keeping(t)
	for _, path := range c.journal.files() {
		content, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || strings.Contains(string(content), "lg_test") || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, or holds the key, or %v", content, info.Mode(), err)
		}
	}
}

// Reports are delivered whatever their file is called, and whether the process
// lives that has kept them: an id that another process has got stops nothing.
func TestReportsOfAnyProcessAreDelivered(t *testing.T) {
	for name, prefix := range map[string]string{"this one": "", "one with an id that is another's now": "1-", "its own id": "self-"} {
		t.Run(name, func(t *testing.T) {
			b, c := keeping(t)
			if prefix != "" {
				path := c.journal.files()[0]
				if err := os.Rename(path, filepath.Join(c.journal.dir, prefix+filepath.Base(path))); err != nil {
					t.Fatal(err)
				}
			}
			next, err := c.WithOptions(WithJournalDir(c.journal.dir))
			if err != nil {
				t.Fatal(err)
			}
			next.journal = newJournal(c.journal.dir, c.journal.owner) // as another process has it
			if n := next.Flush(t.Context()); n != 2 || next.JournalLength() != 0 {
				t.Errorf("%d delivered, %d wait", n, next.JournalLength())
			}
			if left, _ := os.ReadDir(c.journal.dir); len(left) != 0 {
				t.Errorf("there is still %v", left)
			}
			b.assertSettled(t)
		})
	}
}

// A process that dies in the middle of a delivery leaves all of it to the next.
func TestADeliveryIsItsProcessesAloneUntilItDies(t *testing.T) {
	if path := os.Getenv("PIKARC_TEST_HOLD"); path != "" {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil || !lock(f) {
			t.Fatal(err)
		}
		os.Stdout.WriteString("held\n")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	b, c := keeping(t)
	other := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	other.Env = append(os.Environ(), "PIKARC_TEST_HOLD="+c.journal.files()[0])
	in, _ := other.StdinPipe()
	out, _ := other.StdoutPipe()
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatal(line, err)
	}
	if n := c.Flush(t.Context()); n != 0 || c.JournalLength() != 2 {
		t.Errorf("%d delivered that another delivers, %d wait", n, c.JournalLength())
	}
	if !c.journal.append(entry{Kind: "request", Method: "POST", Path: "/v1/runs/x/end", Body: json.RawMessage(`{}`)}) {
		t.Error("nothing can be kept meanwhile")
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // killed
	if n := c.Flush(t.Context()); n != 3 || c.JournalLength() != 0 {
		t.Errorf("%d delivered, %d wait", n, c.JournalLength())
	}
	b.assertSettled(t)
}

// What is kept while a file is delivered is not lost with it.
func TestKeepingInTheMiddleOfADelivery(t *testing.T) {
	j := newJournal(t.TempDir(), "o")
	j.append(entry{Kind: "end", Key: "1"})
	j.drain(func([]entry) []entry {
		j.append(entry{Kind: "end", Key: "2"})
		return nil
	})
	if n := j.length(); n != 1 || !j.maybePending() {
		t.Errorf("%d reports wait, and it knows: %v", n, j.maybePending())
	}
}

func TestALineThatACrashHasCutShortCostsNoOther(t *testing.T) {
	j := newJournal(t.TempDir(), "o")
	j.append(entry{Kind: "end", Key: "1"})
	f, err := os.OpenFile(j.files()[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(`{"kind":"end","ke`)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if n := j.length(); n != 1 {
		t.Errorf("%d reports", n)
	}
}

func TestAJournalIsBounded(t *testing.T) {
	j := newJournal(t.TempDir(), "o")
	j.maxBytes = 1000
	other := newJournal(j.dir, j.owner) // of another process
	other.maxBytes = j.maxBytes
	large := entry{Kind: "request", Body: json.RawMessage(`"` + strings.Repeat("x", 500) + `"`)}
	if !j.append(large) || j.append(large) || other.append(large) || j.length() != 1 {
		t.Errorf("%d reports are kept", j.length())
	}
}

// The directory is looked at now and then, for what other processes leave.
func TestTheDirectoryIsLookedAtNowAndThen(t *testing.T) {
	now := time.Unix(0, 0)
	dir := t.TempDir()
	j, other := newJournal(dir, "o"), newJournal(dir, "o")
	j.now = func() time.Time { return now }
	if j.maybePending() {
		t.Error("there is nothing")
	}
	other.append(entry{Kind: "end"})
	if j.maybePending() {
		t.Error("it looks at every call")
	}
	now = now.Add(scanInterval)
	if !j.maybePending() {
		t.Error("it does not look again")
	}
}
