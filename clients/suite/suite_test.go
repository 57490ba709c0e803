package suite

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// input is what a driver reads on its standard input.
type input struct {
	BaseURL       string   `json:"base_url"`
	APIKey        string   `json:"api_key"`
	JournalDir    string   `json:"journal_dir"`
	User          string   `json:"user"`
	Calls         []string `json:"calls"` // nothing: flush only
	Timeout       float64  `json:"timeout"`
	MaxRetries    int      `json:"max_retries"`
	OnUnavailable string   `json:"on_unavailable,omitempty"`
	Metadata      string   `json:"metadata,omitempty"` // "no JSON": something that is none
}

// output is what it writes: how often the guarded functions were called, the error
// that the caller saw by its class's name ("setting" for one that is refused, "its
// own" for the guarded function's), and how many reports wait.
type output struct {
	Called  int    `json:"called"`
	Error   string `json:"error"`
	Journal int    `json:"journal"`
	Reason  string `json:"reason,omitempty"`
}

// testCase is a behaviour: what a client does while faults happen, and then without
// any. Its calls are "model" and "tool", and of the kinds of bad input those that the
// drivers know by the same names.
type testCase struct {
	Name          string   `json:"name"`
	Calls         []string `json:"calls"`
	Faults        []*fault `json:"faults"`
	OnUnavailable string   `json:"on_unavailable"`
	// Prepare is "kill switch", "die before the report", "refuse", or what happens while the
	// agent waits for a person: "review: approve" and others; see server.review.
	Prepare    string  `json:"prepare"`
	Timeout    float64 `json:"timeout"`     // in seconds; 0.7 unless given
	MaxRetries *int    `json:"max_retries"` // 1 unless given
	Metadata   string  `json:"metadata"`
	// Settings are in the place of the right ones; PROXY stands for the proxy's address.
	Settings map[string]string `json:"settings"`
	// Anew is whether another process of the client delivers the journal, after its own was killed.
	Anew  bool   `json:"anew"`
	Want  output `json:"want"`
	Books books  `json:"books"` // after the journal was delivered
	// Reached is in the place of Books where the server has done what it was asked
	// although the client was not told: it is the server's to end what nobody goes on with.
	Reached *books `json:"reached"`
}

// scale is what times of the cases that are given in seconds are multiplied with: 1 is real time.
var scale = flag.Float64("scale", 0.07, "of times in the cases; 1 is real time")

// drivers are the clients, by the environment: NAME=COMMAND, separated by semicolons.
func drivers(t *testing.T) map[string][]string {
	found := make(map[string][]string)
	for one := range strings.SplitSeq(os.Getenv("SUITE_DRIVERS"), ";") {
		if name, command, ok := strings.Cut(one, "="); ok {
			found[name] = strings.Fields(command)
		}
	}
	if len(found) == 0 {
		t.Fatal("SUITE_DRIVERS names no client: run clients/suite/run.sh")
	}
	return found
}

func TestEveryClientBehavesAlike(t *testing.T) {
	cases := expand(t)
	binary := os.Getenv("PIKARC_BINARY")
	for name, command := range drivers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			s := newServer(t, binary)
			p := newProxy(t, "http://"+s.addr)
			p.die = s.kill
			d := startDriver(t, command)
			for i, c := range cases {
				t.Run(c.Name, func(t *testing.T) {
					s.t = t
					check(t, s, p, &d, fmt.Sprintf("user-%d", i), c)
				})
			}
		})
	}
}

// expand reads the cases. One with "FAULT" in the place of a kind is made for each kind.
func expand(t *testing.T) (cases []testCase) {
	raw, err := os.ReadFile("cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var read []testCase
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&read); err != nil {
		t.Fatal(err)
	}
	for _, c := range read {
		if !slices.ContainsFunc(c.Faults, func(f *fault) bool { return f.Kind == "FAULT" }) {
			cases = append(cases, c)
			continue
		}
		for _, kind := range []string{"reset before", "reset after", "half an answer", "silence", "500", "503", "429", "garbage"} {
			one := c
			one.Name += ": " + kind
			one.Faults = nil
			for _, f := range c.Faults {
				copied := *f
				copied.Kind = kind
				one.Faults = append(one.Faults, &copied)
			}
			if kind == "429" && one.OnUnavailable == "open" {
				continue // the server is there, and says no
			}
			if kind == "429" && one.Want.Error == "Unavailable" {
				one.Want.Error = "RateLimited"
			}
			if c.Reached != nil && (kind == "reset after" || kind == "half an answer") {
				one.Books = *c.Reached
			}
			if slices.Contains([]string{"reset before", "reset after", "half an answer", "silence"}, kind) && one.Want.Error == "Unavailable" {
				one.Want.Error = "ConnectionFailed"
			}
			cases = append(cases, one)
		}
	}
	return cases
}

func check(t *testing.T, s *server, p *proxy, d **driver, user string, c testCase) {
	in := inputOf(t, s, p, user, c)
	dies := slices.ContainsFunc(c.Faults, func(f *fault) bool { return f.Kind == "then die" })
	switch c.Prepare {
	case "kill switch":
		s.call("POST", "/v1/workspace/kill-switch", `{"active":true}`, nil)
		defer s.call("POST", "/v1/workspace/kill-switch", `{"active":false}`, nil)
	case "die before the report":
		dies = true
		p.onReport(func() { s.kill() })
		defer p.onReport(nil)
	case "refuse":
		p.refuse()
	}
	if what, reviewed := strings.CutPrefix(c.Prepare, "review: "); reviewed {
		defer s.review(user, what)()
	}
	p.set(scaled(c.Faults))
	got := (*d).drive(t, in)
	if got != c.Want {
		t.Errorf("the client reports %+v, want %+v", got, c.Want)
	}
	p.accept(t)
	p.checkWaits(t)
	if dies {
		p.onReport(nil)
		s.start()
	}
	if c.Anew {
		(*d).kill()
		*d = startDriver((*d).t, (*d).command)
	}
	p.set(nil)
	in.Calls, in.OnUnavailable, in.MaxRetries, in.Timeout = nil, "", 3, 10
	in.APIKey, in.BaseURL = s.key, p.URL
	if left := (*d).drive(t, in); left.Journal != 0 || left.Error != "" {
		t.Errorf("after the journal was delivered: %+v", left)
	}
	if got := s.books(user); got.String() != c.Books.String() {
		t.Errorf("the server knows %s, want %s", got, c.Books)
	}
}

// inputOf is what a client is told for a case.
func inputOf(t *testing.T, s *server, p *proxy, user string, c testCase) input {
	in := input{
		BaseURL: p.URL, APIKey: s.key, JournalDir: t.TempDir(), User: user, Calls: c.Calls,
		Timeout: 0.7, MaxRetries: 1, OnUnavailable: c.OnUnavailable, Metadata: c.Metadata,
	}
	if c.Timeout > 0 {
		in.Timeout = c.Timeout * *scale
	}
	if c.MaxRetries != nil {
		in.MaxRetries = *c.MaxRetries
	}
	if key, given := c.Settings["api_key"]; given {
		in.APIKey = key
	}
	if address, given := c.Settings["base_url"]; given {
		in.BaseURL = strings.Replace(address, "PROXY", p.URL, 1)
	}
	return in
}

func scaled(faults []*fault) (all []*fault) {
	for _, f := range faults {
		copied := *f
		copied.Seconds *= *scale
		all = append(all, &copied)
	}
	return all
}

// driver is a client's process, which carries one case after the other out, a line each.
type driver struct {
	t       *testing.T // that it ends with
	name    string
	command []string
	kill    func()
	in      io.Writer
	answers *bufio.Scanner
	stderr  lockedBuffer
}

func startDriver(t *testing.T, command []string) *driver {
	t.Helper()
	d := &driver{t: t, name: strings.Join(command, " "), command: command}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = &d.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.in, d.answers = in, bufio.NewScanner(out)
	d.kill = sync.OnceFunc(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(d.kill)
	return d
}

func (d *driver) drive(t *testing.T, in input) (out output) {
	t.Helper()
	content, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan bool, 1)
	go func() {
		_, err := d.in.Write(append(content, '\n'))
		answered <- err == nil && d.answers.Scan()
	}()
	select {
	case ok := <-answered:
		if !ok {
			t.Fatalf("%s has ended\n%s", d.name, d.stderr.String())
		}
	case <-time.After(patience):
		t.Fatalf("%s does not answer\n%s", d.name, d.stderr.String())
	}
	if err := json.Unmarshal(d.answers.Bytes(), &out); err != nil {
		t.Fatalf("%s says %s: %v\n%s", d.name, d.answers.Bytes(), err, d.stderr.String())
	}
	return out
}

// lockedBuffer is written to by a process while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
