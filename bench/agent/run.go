package agent

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/pikarc/server/bench/load"
)

const (
	// Model is what every step calls; it has a price.
	Model = "gpt-4o"
	// PromptTokens and CompletionTokens are what every PATCH reports.
	PromptTokens = 500
	// CompletionTokens and PromptTokens are what each step reports.
	CompletionTokens = 100
	// StepsOfLife is how many steps a run of Life has.
	StepsOfLife = 4
)

// patchBody is a report as agents send it.
const patchBody = `{"status":"COMPLETED","duration_ms":812,"prompt_tokens":500,"completion_tokens":100}`

// steps asks for steps of one run.
type steps struct {
	server   Server
	run      string
	patched  bool
	head     string
	sequence int64
	step     [idLength]byte // to be patched next
	open     bool
	body     []byte
	payloads *Payloads // nil for none
}

// Steps asks for one step of a run after another. Each must be allowed. When
// patched, each is also reported as completed, with tokens.
func Steps(s Server, run string, patched bool) load.Script {
	return StepsWith(s, run, patched, nil)
}

// StepsWith is Steps whose steps have payloads, unless they are nil.
func StepsWith(s Server, run string, patched bool, payloads *Payloads) load.Script {
	return &steps{server: s, run: run, patched: patched, payloads: payloads,
		head: s.jsonHead("POST", "/v1/runs/"+run+"/steps")}
}

// Next asks for a step, or reports the one that is open.
func (s *steps) Next(buf []byte) ([]byte, int) {
	if s.open {
		return appendPatch(buf, s.server, s.run, s.step[:]), Patch
	}
	s.sequence++
	s.body = appendStepWith(s.body[:0], s.sequence, s.payloads)
	return appendBody(append(buf, s.head...), s.body), Step
}

// Answer keeps the step's id, for its report.
func (s *steps) Answer(status int, body []byte) error {
	if s.open {
		s.open = false
		return expect(http.StatusOK, status, body)
	}
	s.open = s.patched
	return allowed(status, body, s.step[:])
}

// wander asks for steps of many runs.
type wander struct {
	server   Server
	runs     []string
	pick     func(n int) int
	sequence int64
	step     [idLength]byte
	body     []byte
}

// Wander asks for a step of one of some runs after another, as picked of n.
func Wander(s Server, runs []string, pick func(n int) int) load.Script {
	return &wander{server: s, runs: runs, pick: pick}
}

// Next asks for a step of a run that is picked anew each time.
func (w *wander) Next(buf []byte) ([]byte, int) {
	w.sequence++
	w.body = appendStep(w.body[:0], w.sequence)
	run := w.runs[w.pick(len(w.runs))]
	return appendBody(w.server.appendHead(buf, "POST", "/v1/runs/", run, "/steps"), w.body), Step
}

// Answer expects that it is allowed.
func (w *wander) Answer(status int, body []byte) error { return allowed(status, body, w.step[:]) }

// arrive starts runs.
type arrive struct {
	life
	keep func(run string) bool
}

// Arrive starts a run for a user, and ends it unless it is kept, again and again.
func Arrive(s Server, user func() string, keep func(run string) bool) load.Script {
	return &arrive{life: life{server: s, user: user, kind: End, asked: StepsOfLife}, keep: keep}
}

// Next starts a run and ends it at once in its script, so that it stays open on the server.
func (a *arrive) Next(buf []byte) ([]byte, int) {
	buf, kind := a.life.Next(buf)
	a.asked = StepsOfLife // none
	return buf, kind
}

// Answer keeps the new run's id, until there are enough.
func (a *arrive) Answer(status int, body []byte) error {
	started := a.kind == Start
	if err := a.life.Answer(status, body); err != nil || !started {
		return err
	}
	if a.keep(string(a.run[:])) {
		a.kind = End
	}
	return nil
}

// insisting asks again for what was refused because the server is overloaded.
type insisting struct {
	load.Script
	refused *int64
	request []byte
	kind    int
	again   bool
}

// Insist sends what a script sends, and again at once, without a rest, when the
// answer is 503. It counts those.
func Insist(s load.Script, refused *int64) load.Script {
	return &insisting{Script: s, refused: refused}
}

// Next repeats the request that was refused.
func (i *insisting) Next(buf []byte) ([]byte, int) {
	if !i.again {
		i.request, i.kind = i.Script.Next(i.request[:0])
	}
	return append(buf, i.request...), i.kind
}

// Answer takes a 503 as a reason to ask again.
func (i *insisting) Answer(status int, body []byte) error {
	if i.again = status == http.StatusServiceUnavailable; i.again {
		*i.refused++
		return nil
	}
	return i.Script.Answer(status, body)
}

// life lives one run after another.
type life struct {
	server Server
	user   func() string
	run    [idLength]byte
	step   [idLength]byte
	asked  int // steps of this run
	kind   int // of the last request
	body   []byte
}

// Life starts a run for a user, takes four steps, each reported as completed
// with tokens, ends the run, and begins again.
func Life(s Server, user func() string) load.Script {
	return &life{server: s, user: user, kind: End}
}

// Next plays a whole run: start, steps with their reports, end.
func (l *life) Next(buf []byte) ([]byte, int) {
	s := l.server
	switch {
	case l.kind == End:
		l.kind, l.asked = Start, 0
		l.body = append(l.body[:0], `{"user_id":"`...)
		l.body = append(l.body, l.user()...)
		l.body = append(l.body, `","metadata":null}`...)
		return appendBody(s.appendHead(buf, "POST", "/v1/runs/"), l.body), Start
	case l.kind == Step:
		l.kind = Patch
		return appendPatch(buf, s, string(l.run[:]), l.step[:]), Patch
	case l.asked == StepsOfLife:
		l.kind = End
		buf = s.appendHead(buf, "POST", "/v1/runs/", string(l.run[:]), "/end")
		return appendBody(buf, append(l.body[:0], `{"status":"COMPLETED"}`...)), End
	default:
		l.kind = Step
		l.asked++
		l.body = appendStep(l.body[:0], int64(l.asked))
		return appendBody(s.appendHead(buf, "POST", "/v1/runs/", string(l.run[:]), "/steps"),
			l.body), Step
	}
}

// Answer moves on to what comes next.
func (l *life) Answer(status int, body []byte) error {
	switch l.kind {
	case Start:
		return allowed(status, body, l.run[:])
	case Step:
		return allowed(status, body, l.step[:])
	default:
		return expect(http.StatusOK, status, body)
	}
}

// appendHead is jsonHead without allocations.
func (s Server) appendHead(buf []byte, method string, path ...string) []byte {
	buf = append(append(buf, method...), ' ')
	for _, part := range path {
		buf = append(buf, part...)
	}
	buf = append(append(buf, " HTTP/1.1\r\nHost: "...), s.Host...)
	buf = append(append(buf, "\r\nAuthorization: Bearer "...), s.Key...)
	return append(buf, "\r\n"+jsonHead...)
}

// appendPatch appends a report.
func appendPatch(buf []byte, s Server, run string, step []byte) []byte {
	buf = s.appendHead(buf, "PATCH", "/v1/runs/", run, "/steps/", string(step))
	return appendBody(buf, []byte(patchBody))
}

// appendStep appends the body of a question for a step.
func appendStep(body []byte, sequence int64) []byte {
	return appendStepWith(body, sequence, nil)
}

func appendStepWith(body []byte, sequence int64, payloads *Payloads) []byte {
	body = append(body, `{"type":"MODEL_CALL","sequence":`...)
	body = strconv.AppendInt(body, sequence, 10)
	body = append(body, `,"model":"`+Model+`","input_data":`...)
	if payloads == nil {
		return append(body, "null}"...)
	}
	return append(payloads.Append(body), '}')
}

// idLength is that of a UUID as text.
const idLength = 36

// allowed expects an ALLOW, and copies its id.
func allowed(status int, body, id []byte) error {
	const before = `{"id":"`
	if status != http.StatusCreated || !bytes.Contains(body, []byte(`"outcome":"ALLOW"`)) ||
		len(body) < len(before)+idLength || string(body[:len(before)]) != before {
		return unexpected(status, body)
	}
	copy(id, body[len(before):])
	return nil
}

// expect compares a status.
func expect(want, status int, body []byte) error {
	if status != want {
		return unexpected(status, body)
	}
	return nil
}
