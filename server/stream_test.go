package server_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
)

// patience is how long a test waits for what must come: long, for a busy machine.
const patience = 30 * time.Second

// event is one of a stream's.
type event struct {
	name string
	data []byte
}

// readEvent reads the next event of a stream, and skips comments before it.
func readEvent(r *bufio.Reader) (e event, raw []byte, err error) {
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return e, raw, err
		}
		text := strings.TrimSuffix(string(line), "\n")
		switch name, value, _ := strings.Cut(text, ": "); {
		case text == "" && e.name == "":
			raw = nil // a comment has ended
			continue
		case text == "":
			return e, append(raw, line...), nil
		case name == "event":
			e.name = value
		case name == "data":
			e.data = []byte(value)
		case !strings.HasPrefix(text, ":"):
			return e, raw, fmt.Errorf("a line of no known field: %q", text)
		}
		raw = append(raw, line...)
	}
}

// checkStream holds the beginning of a stream against the promises that hold for each.
func checkStream(r *response, complain func(string, ...any)) {
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Accel-Buffering": "no", "Content-Length": "",
	} {
		if got := r.header.Get(name); got != want {
			complain("header %s is %q, want %q", name, got, want)
		}
	}
	e, _, err := readEvent(bufio.NewReader(bytes.NewReader(r.body)))
	if err != nil {
		complain("%v", err)
		return
	}
	checkEvent(e, complain)
}

// checkEvent holds an event against the schema StreamEvent.
func checkEvent(e event, complain func(string, ...any)) {
	doc, err := document()
	if err != nil {
		complain("the OpenAPI document: %v", err)
		return
	}
	data, err := decodeJSON(e.data)
	if err != nil {
		complain("event %s: %v in %s", e.name, err, e.data)
		return
	}
	checkForm(e.data, data, complain)
	checkSchema(doc.Components.Schemas["StreamEvent"].Value, map[string]any{"event": e.name, "data": data},
		func(format string, args ...any) { complain("event "+e.name+" "+string(e.data)+": "+format, args...) }, openapi3.VisitAsResponse())
}

// watcher is a client of the stream.
type watcher struct {
	t      *testing.T
	cancel context.CancelFunc
	events chan event // closed when the stream has ended
	hello  *response
}

// stream opens a stream, and has read its hello when it returns.
func (w *world) stream(credential string) *watcher {
	w.t.Helper()
	answer, cancel, err := w.openStream(credential)
	w.must(err)
	if answer.StatusCode != http.StatusOK {
		w.t.Fatalf("the stream answered %d", answer.StatusCode)
	}
	in := &watcher{t: w.t, cancel: cancel, events: make(chan event, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(in.events)
		defer answer.Body.Close()
		r := bufio.NewReader(answer.Body)
		for {
			e, _, err := readEvent(r)
			if err != nil {
				return
			}
			checkEvent(e, func(format string, args ...any) { w.t.Errorf(format, args...) })
			in.events <- e
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	in.hello = in.next("hello")
	return in
}

// openStream asks for a stream, whatever is answered.
func (w *world) openStream(credential string) (*http.Response, context.CancelFunc, error) {
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/v1/events", nil)
	if err != nil {
		return nil, cancel, err
	}
	req.Header.Set("Authorization", "Bearer "+credential)
	answer, err := w.client.Do(req)
	return answer, cancel, err
}

// any waits for the next event of whatever name; ok is false at the stream's end.
func (in *watcher) any() (e event, ok bool) {
	in.t.Helper()
	select {
	case e, ok = <-in.events:
		return e, ok
	case <-time.After(patience):
		in.t.Fatal("no event came, and the stream has not ended")
		return e, false
	}
}

// next waits for the next event but spend.changed, which must have this name,
// as an answer whose fields can be read.
func (in *watcher) next(name string) *response {
	in.t.Helper()
	for {
		e, ok := in.any()
		switch {
		case !ok:
			in.t.Fatalf("the stream ended before %s", name)
		case e.name == name:
			return &response{t: in.t, what: name, body: e.data}
		case e.name != "spend.changed":
			in.t.Fatalf("%s %s came, want %s", e.name, e.data, name)
		}
	}
}

// until waits for an event of this name that satisfies a test, and skips all others.
func (in *watcher) until(name string, satisfies func(*response) bool) *response {
	in.t.Helper()
	for {
		e, ok := in.any()
		if !ok {
			in.t.Fatalf("the stream ended before %s", name)
		}
		if r := (&response{t: in.t, what: name, body: e.data}); e.name == name && satisfies(r) {
			return r
		}
	}
}

// ended waits for the end of the stream, and returns the events before it.
func (in *watcher) ended() (names []string) {
	in.t.Helper()
	for {
		e, ok := in.any()
		if !ok {
			return names
		}
		names = append(names, e.name)
	}
}
