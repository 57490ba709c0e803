package mcp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pikarc/server/ask"
	"github.com/pikarc/server/mcp"
)

// judge is a Pikarc server at the process's edge: it allows all but the tool "no".
type judge struct {
	mu     sync.Mutex
	asked  []string      // tools
	ends   []string      // statuses of steps and runs
	hold   chan struct{} // when it is there, a step is answered once it is closed
	asking chan struct{} // told of each step
	ended  bool          // the next step is in a run that has ended
}

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Status, Error string
		Tool          string `json:"tool_name"`
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	decision := `{"outcome":"ALLOW"}`
	step := strings.HasSuffix(r.URL.Path, "/steps")
	if step {
		select {
		case j.asking <- struct{}{}:
		default:
		}
		if j.hold != nil {
			select {
			case <-j.hold:
			case <-r.Context().Done():
				return
			}
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case step && j.ended:
		j.ended = false
		decision = `{"outcome":"DENY","reason":"RUN_ALREADY_ENDED"}`
	case step:
		j.asked = append(j.asked, body.Tool)
		if body.Tool == "no" {
			decision = `{"outcome":"DENY","reason":"USER_BLOCKED"}`
		}
	case r.URL.Path != "/v1/runs/":
		j.ends = append(j.ends, strings.TrimSpace(body.Status+" "+body.Error))
	}
	fmt.Fprintf(w, `{"id":"01a2","decision":%s}`, decision)
}

func (j *judge) seen() (asked, ends string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.asked, ", "), strings.Join(j.ends, ", ")
}

// gateway is one before a command, with the other ends of its streams.
type gateway struct {
	t     *testing.T
	in    *io.PipeWriter
	out   *bufio.Reader
	ended chan int // the exit code
	stop  context.CancelFunc
}

// newGateway puts a gateway before a command; cat is a server that repeats what reaches it.
func newGateway(t *testing.T, pikarc http.Handler, command ...string) *gateway {
	t.Helper()
	server := httptest.NewServer(pikarc)
	t.Cleanup(server.Close)
	client, err := ask.New(ask.Settings{APIKey: "lg_test", BaseURL: server.URL}, "mcp/1")
	if err != nil {
		t.Fatal(err)
	}
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	g := &gateway{
		t:     t,
		in:    in,
		out:   bufio.NewReader(out),
		ended: make(chan int, 1),
		stop:  stop,
	}
	o := mcp.Options{
		Client:  client,
		User:    "ann",
		Server:  "test",
		Timeout: time.Minute,
		Log:     slog.New(slog.DiscardHandler),
		Now:     time.Now,
	}
	go func() {
		code, err := mcp.Stdio(ctx, o, command, stdin, stdout, t.Output())
		if err != nil {
			t.Error(err)
		}
		stdout.Close()
		g.ended <- code
	}()
	t.Cleanup(func() {
		stop()
		in.Close()
		out.Close()
	})
	return g
}

func (g *gateway) write(text string) {
	g.t.Helper()
	if _, err := io.WriteString(g.in, text); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) read() string {
	g.t.Helper()
	line, err := g.out.ReadString('\n')
	if err != nil {
		g.t.Fatalf("%v after %q", err, line)
	}
	return line
}

// finish ends the client, and returns the exit code.
func (g *gateway) finish() int {
	g.t.Helper()
	g.in.Close()
	rest, err := io.ReadAll(g.out)
	if err != nil || len(rest) > 0 {
		g.t.Errorf("there is more: %q, %v", rest, err)
	}
	return <-g.ended
}

// What is not asked for, and what was allowed, reaches the server byte for byte.
func TestMessagesPassAsTheyAre(t *testing.T) {
	t.Parallel()
	j := &judge{}
	g := newGateway(t, j, "cat")
	for _, line := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"b":1,"a":1.50e3}}`,
		`  { "method" : "tools/list", "id":"ä \u00e4 \ud83d\ude00", "jsonrpc":"2.0" , "x": [ ] }  `,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":12345678901234567890.0001}}`,
		`{"jsonrpc":"2.0","id":7,"result":{"x":"` + strings.Repeat("long ", 100_000) + `"}}`,
		`{"jsonrpc":"2.0","id":8,"error":{"code":-1,"message":"no"}}`,
		`[{"jsonrpc":"2.0","id":9,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/x"}]`,
		`{"jsonrpc":"2.0","id":10,"method":"tools/call","params":{"name":"yes","arguments":{"z":1,"a":[1.0]},"_meta":{"progressToken":3}}}`,
		`{"jsonrpc":"2.0","id":"11","method":"\u0074ools/call","params":{"name":"yes"}}` + "\r",
	} {
		g.write(line + "\n")
		if got := g.read(); got != line+"\n" {
			t.Errorf("got  %.200q\nwant %.200q", got, line)
		}
	}
	if code := g.finish(); code != 0 {
		t.Errorf("the exit code is %d", code)
	}
	if asked, ends := j.seen(); asked != "yes, yes" ||
		ends != "FAILED the session has ended, FAILED the session has ended, COMPLETED" {
		t.Errorf("asked for %s; told of %s", asked, ends)
	}
}

// What a server might read as a call reaches it only if it was asked for.
func TestNoCallIsSmuggledPast(t *testing.T) {
	t.Parallel()
	const call = `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"no"}}`
	for name, line := range map[string]string{
		"denied":                 call,
		"an escaped method":      `{"jsonrpc":"2.0","id":5,"method":"tools\/call","params":{"name":"no"}}`,
		"two methods":            `{"method":"tools/call","jsonrpc":"2.0","id":5,"method":"ping","params":{"name":"no"}}`,
		"capitals":               `{"jsonrpc":"2.0","id":5,"Method":"tools/call","params":{"name":"no"}}`,
		"a long s":               `{"jsonrpc":"2.0","id":5,"method":"tools/call","paramſ":{"name":"no"}}`,
		"two names":              `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"no","name":"yes"}}`,
		"a name in capitals too": `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"NAME":"no","name":"yes"}}`,
		"a name that is no text": `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":["no"]}}`,
		"no params":              `{"jsonrpc":"2.0","id":5,"method":"tools/call"}`,
		"a batch":                `[{"jsonrpc":"2.0","id":1,"method":"ping"},` + call + `]`,
		"a batch in a batch":     `[[` + call + `]]`,
		"a line in a line":       "{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":\r" + call + "\r}",
		"two messages":           `{"jsonrpc":"2.0","id":1,"method":"ping"} ` + call,
		"no JSON":                `{'method':'tools/call'}`,
		"a notification":         `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"no"}}`,
		"a null id":              `{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"no"}}`,
		"an id that is a list":   `{"jsonrpc":"2.0","id":[1],"method":"tools/call","params":{"name":"no"}}`,
		"a resource":             `{"jsonrpc":"2.0","id":5,"method":"resources/read","params":{"URI":"no"}}`,
		"a prompt":               `{"jsonrpc":"2.0","id":5,"method":"prompts/get","params":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, &judge{}, "cat")
			g.write(line + "\n")
			var answer struct {
				Error  *struct{ Code int }
				Result *struct{ IsError bool }
			}
			got := g.read()
			if err := json.Unmarshal(
				[]byte(got),
				&answer,
			); err != nil ||
				answer.Error == nil && (answer.Result == nil || !answer.Result.IsError) {
				t.Errorf("it is answered %s, %v", got, err)
			}
			g.finish()
		})
	}
}

// A request that is called off while it is asked for never reaches the server, and nothing waits behind it.
func TestACallIsCalledOffWhileItIsAskedFor(t *testing.T) {
	t.Parallel()
	j := &judge{hold: make(chan struct{}), asking: make(chan struct{}, 1)}
	g := newGateway(t, j, "cat")
	g.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"yes"}}` + "\n")
	<-j.asking
	g.write(`{"jsonrpc":"2.0","id":2,"method":"ping"}` + "\n")
	if got := g.read(); !strings.Contains(got, "ping") {
		t.Fatalf("got %s", got)
	}
	g.write(
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1.0}}` + "\n",
	)
	if got := g.read(); !strings.Contains(got, "cancelled") {
		t.Fatalf("got %s", got)
	}
	close(j.hold)
	g.finish()
}

// A request's answer settles its step, whatever its id looks like then.
func TestAnswersSettleTheirCalls(t *testing.T) {
	t.Parallel()
	// It answers the first request with a result, the second with an error, and then goes.
	j := &judge{ended: true}
	g := newGateway(t, j, "sh", "-c", `
		read -r line; echo '{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
		read -r line; echo '{"id":"2","jsonrpc":"2.0","result":{"isError":true}}'
		read -r line; echo '{"jsonrpc":"2.0","id":3,"error":{"code":1,"message":"no such tool"}}'
		read -r line; exit 7`)
	for _, id := range []string{"1.0", `"\u0032"`, "3"} {
		g.write(
			`{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"yes"}}` + "\n",
		)
		g.read()
	}
	g.write(`{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"last"}}` + "\n")
	if code := <-g.ended; code != 7 {
		t.Errorf("the exit code is %d", code)
	}
	asked, ends := j.seen()
	if asked != "yes, yes, yes, last" {
		t.Errorf("asked for %s", asked)
	}
	for _, want := range []string{"COMPLETED", "FAILED the tool answers with an error", "FAILED no such tool", "FAILED the MCP server has ended"} {
		if !strings.Contains(ends, want) {
			t.Errorf("%s is not among %s", want, ends)
		}
	}
	if !strings.HasSuffix(ends, "FAILED") { // the run, last
		t.Errorf("the ends are %s", ends)
	}
}

func TestAnIdThatIsUnderWayIsNotTakenTwice(t *testing.T) {
	t.Parallel()
	g := newGateway(t, &judge{}, "sh", "-c", `read -r line; echo "$line"; cat >/dev/null`)
	const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"yes"}}` + "\n"
	g.write(call)
	g.read()
	g.write(call)
	if got := g.read(); !strings.Contains(got, "is under way") {
		t.Errorf("got %s", got)
	}
	g.finish()
}

// A client that ends the gateway ends the server.
func TestTheServerEndsWithTheGateway(t *testing.T) {
	t.Parallel()
	g := newGateway(
		t,
		&judge{},
		"sh",
		"-c",
		`trap 'exit 0' TERM; echo ready; while :; do read -r line || :; done`,
	)
	g.read()
	g.stop()
	if code := <-g.ended; code != 0 {
		t.Errorf("the exit code is %d", code)
	}
}
