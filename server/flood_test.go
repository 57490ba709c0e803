package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
)

// shot is a request that is broken in one way or several.
type shot struct {
	method, path string
	body         []byte // nil sends none
	header       http.Header
	oddPath      bool // the router may read it otherwise than a test can tell
}

func (s shot) String() string {
	return fmt.Sprintf("%s %s %v\n%q", s.method, s.path, s.header, shortBody(s.body))
}

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

// badValue is a JSON value, or no JSON, that few fields can take.
func badValue(rng *rand.Rand) string {
	return pick(rng, `null`, `true`, `false`, `0`, `-0`, `-0.0`, `1`, `-1`, `1.5`, `1e2`, `1E+400`, `-1e400`, `1e-400`, `1e999999999999999999999`,
		`0.0000000001`, `0.0000000000001`, `9007199254740993`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775809`,
		`1000000000000`, `1000000000001`, strings.Repeat("9", 400), `"NaN"`, `"Infinity"`, `"1e400"`, `"-0"`, `" 1"`, `"1_0"`, `"0x1"`, `"١"`,
		`NaN`, `-Infinity`, `01`, `+1`, `.5`, `1.`, `1e`, `0x10`, `'x'`, `undefined`, `""`, `" "`, `"\u0000"`, `"\ud800"`, `"\udc00\ud800"`, `"\x"`,
		"\"\xff\"", "\"\x00\"", "\"\n\"", `"`, `"`+strings.Repeat("x", 256)+`"`, `"`+strings.Repeat("🦀", 255)+`"`, `"`+strings.Repeat(`\n`, 10_001)+`"`,
		`[]`, `[[]]`, `[null]`, `{}`, `{"":{}}`, `{"a":1,"a":2}`, `{"\u0000":1}`, nested(62), nested(64), nested(1000), strings.Repeat("[", 100_000),
		strings.Repeat(`{"a":`, 1000)+`1`+strings.Repeat("}", 1000), `"COMPLETED"`, `"running"`, `"RUNNING"`, `"MODEL_CALL"`, `"DENY"`,
		`"lg_01234567_89"`, `"'; DROP TABLE runs; --"`, `"%s%n%00"`, `"../../etc/passwd"`, `"a@b"`, `"pro"`, `{"active":true}`)
}

// members takes a JSON object apart, names as sent and values as sent in turn.
func members(body []byte) []string {
	dec := json.NewDecoder(bytes.NewReader(body))
	if _, err := dec.Token(); err != nil {
		return nil
	}
	var parts []string
	for dec.More() {
		name, nameErr := dec.Token()
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil || nameErr != nil {
			return parts
		}
		parts = append(parts, fmt.Sprintf("%q", name), string(value))
	}
	return parts
}

// breakMember spoils one field of an object, or adds one.
func breakMember(rng *rand.Rand, body []byte) []byte {
	parts := members(body)
	if len(parts) == 0 {
		parts = []string{`"user_id"`, `"ada"`}
	}
	at := 2 * rng.IntN(len(parts)/2)
	switch rng.IntN(7) {
	case 0:
		parts = slices.Delete(parts, at, at+2)
	case 1: // a duplicate, first or last
		parts = slices.Insert(parts, pick(rng, 0, len(parts)), parts[at], badValue(rng))
	case 2:
		name := pick(rng, `"surprise"`, `""`, `"\u0000"`, `"\ud800"`, `"__proto__"`, `"password"`, `"`+strings.Repeat("k", 5000)+`"`, `1`, `x`)
		parts = append(parts, name, badValue(rng))
	case 3:
		parts[at] = strings.ToUpper(parts[at])
	default:
		parts[at+1] = badValue(rng)
	}
	var out bytes.Buffer
	for i, part := range parts {
		out.WriteString(pick(rng, "", "", "", "", " ", "\r\n\t"))
		out.WriteString(map[bool]string{true: part + ":", false: part + ","}[i%2 == 0])
	}
	return append(append([]byte("{"), bytes.TrimSuffix(out.Bytes(), []byte(","))...), '}')
}

// breakBody spoils a body as a whole.
func breakBody(rng *rand.Rand, body []byte) []byte {
	if len(body) == 0 {
		return []byte(pick(rng, `{}`, `[]`, badValue(rng)))
	}
	at := rng.IntN(len(body))
	switch rng.IntN(8) {
	case 0:
		return body[:at]
	case 1:
		body = bytes.Clone(body)
		body[at] = byte(rng.IntN(256))
		return body
	case 2:
		return slices.Insert(bytes.Clone(body), at, pick(rng, []byte("\x00"), []byte("\xff"), []byte("\xed\xa0\x80"), []byte("\\u0000"), []byte(`"`), []byte("}"))...)
	case 3:
		return append(bytes.Clone(body), pick(rng, "}", "{}", "\x00", ",", " x")...)
	case 4:
		return []byte("[" + string(body) + "]")
	case 5:
		return append([]byte(pick(rng, "\ufeff", "\xfe\xff", ")]}',\n", "/**/")), body...)
	case 6:
		return nil
	default:
		return []byte(badValue(rng))
	}
}

// breakPath puts what is no id in the place of one part of a path.
func breakPath(rng *rand.Rand, path string) string {
	parts := strings.Split(path, "/")
	parts[1+rng.IntN(len(parts)-1)] = pick(rng, "7", "", ".", "..", "%00", "%ff", "%2F", "%2e%2e%2f", "null", "*", ":run_id", "{run_id}", " %20", "ä", "🦀",
		unknownID, strings.ToUpper(unknownID), unknownID+"0", strings.ReplaceAll(unknownID, "-", ""), "%7B"+unknownID+"%7D", strings.Repeat("x", 256),
		strings.Repeat("%F0%9F%A6%80", 255), strings.Repeat("a/", 500), "a;b=c", "'", "%25zz")
	return strings.Join(parts, "/")
}

func breakQuery(rng *rand.Rand, query string, cursors []string) string {
	name := pick(rng, "limit", "cursor", "steps_cursor", "status", "user_id", "since", "until", "days", "blocked", "q", "include_inactive", "limit[]", "%zz", "")
	value := pick(rng, "", "0", "-1", "201", "1e2", "99999999999999999999", "NaN", "%00", "%ff", "%zz", "%", ";", "true", "maybe", "RUNNING", "OPEN", "a=b", "+", "null",
		"2026-11-23", "2026-11-23T07:08:29Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999%2B23:59", "2026-02-30T00:00:00Z", "-1-01-01T00:00:00Z",
		strings.Repeat("x", 256), strings.Repeat("%F0%9F%A6%80", 256), strings.Repeat("A", 600), "AQAAAAAAAAABAaAAAAAAcACAAAAAAAAAAAAAAA", pick(rng, cursors...), pick(rng, cursors...)+"A",
		pick(rng, cursors...)[1:], "'%20OR%201=1--", "%25", "_")
	return pick(rng, query+"&", "", "&&", "?", ";") + name + pick(rng, "=", "=", "=", "", "==") + value + pick(rng, "", "", "&"+name+"=1")
}

// breakHeader says something odd that the server has to take or leave.
func breakHeader(rng *rand.Rand, h http.Header) {
	odd := pick(rng, "", " ", "x", "é", "\xff", "a\tb", `"`, "{}", "../x", strings.Repeat("k", 255), strings.Repeat("k", 256), strings.Repeat("k", 5000), "a,b", "%00", "lg_01234567_89")
	name := pick(rng, "Idempotency-Key", "Idempotency-Key", "X-Request-Id", "X-Request-Id", "Content-Type", "Content-Encoding", "Accept", "Accept-Encoding", "Cookie",
		"Origin", "Range", "If-None-Match", "X-Http-Method-Override", "X-Forwarded-For", "Content-Language", "Authorization")
	if name == "Content-Encoding" {
		odd = "gzip"
	}
	if rng.IntN(4) == 0 {
		h.Add(name, odd) // beside one that may be there
		return
	}
	h.Set(name, odd)
}

// makeShot breaks a well-formed call.
func makeShot(rng *rand.Rand, f fixture, c apiCase, cursors []string) shot {
	path, query, _ := strings.Cut(f.fill(c.path), "?")
	s := shot{method: c.method, path: path, header: http.Header{}}
	if c.body != "" {
		s.body = []byte(f.fill(c.body))
	}
	if credential := c.credential(f.account); credential != "" {
		s.header.Set("Authorization", "Bearer "+credential)
	}
	for range 1 + rng.IntN(2) {
		switch n := rng.IntN(20); {
		case n < 9 && s.body != nil:
			s.body = breakMember(rng, s.body)
		case n < 13 && s.method != http.MethodGet: // which reads no body
			s.body = breakBody(rng, s.body)
		case n < 15:
			s.path, s.oddPath = breakPath(rng, s.path), true
		case n < 17:
			query = breakQuery(rng, query, cursors)
		case n < 19:
			breakHeader(rng, s.header)
		default:
			s.method = pick(rng, "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "get", "Post", "X", strings.Repeat("M", 300), "A-B!")
		}
	}
	if query != "" {
		s.path += "?" + query
	}
	return s
}

// fire sends a shot and holds the answer against what is promised of every one.
func (w *world) fire(s shot) (*response, error) {
	const hang = time.Minute
	ctx, cancel := context.WithTimeout(w.t.Context(), hang)
	defer cancel()
	var body io.Reader
	if s.body != nil {
		body = bytes.NewReader(s.body)
	}
	req, err := http.NewRequestWithContext(ctx, s.method, w.url+s.path, body)
	if err != nil {
		return nil, err
	}
	req.Header = s.header
	answer, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	got, err := readAnswer(answer)
	if err != nil {
		return nil, err
	}
	r := &response{t: w.t, what: s.method + " " + s.path, status: answer.StatusCode, header: answer.Header, body: got}
	if !s.oddPath {
		checkAnswer(w.t, w.routes, req, s.body, r)
	}
	if r.status >= http.StatusInternalServerError {
		return r, fmt.Errorf("status %d\n%s", r.status, w.logs)
	}
	isPage := r.header.Get("Content-Type") == "text/html; charset=utf-8" // of a link
	if r.status >= http.StatusBadRequest && s.method != http.MethodHead && !isPage {
		v, err := decodeJSON(got)
		if failure, ok := v.(map[string]any); err != nil || !ok || len(failure) != 1 || failure["detail"] == nil {
			return r, fmt.Errorf("status %d with %s, not a detail alone", r.status, shortBody(got))
		}
	}
	if id := r.header.Get("X-Request-Id"); id == "" || len(id) > 128 || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return r, fmt.Errorf("X-Request-Id is %q", id)
	}
	return r, nil
}

// changedByRefusal names what changed since begin, unless the call was accepted and may change something.
func (v *watch) changedByRefusal(s shot, r *response) string {
	if r.status < http.StatusBadRequest && s.method != http.MethodGet && s.method != http.MethodHead {
		v.end() // comparing all rows would say nothing
		return ""
	}
	changed := v.changed()
	wrong := r.status == http.StatusUnauthorized && strings.HasPrefix(s.path, "/v1/auth/login") ||
		r.status == http.StatusBadRequest && strings.HasPrefix(s.path, "/v1/auth/change-password")
	if wrong && changed == "audit_entries" {
		return "" // a wrong password is recorded
	}
	return changed
}

func flood(w *world, seed uint64, shots int) map[int]int {
	calls, cursors, state := samples(w.t, w.routes), w.makeWatched().cursors, w.watch()
	draw := func(rng *rand.Rand) apiCase {
		for {
			c := pick(rng, calls...)
			slow := strings.HasPrefix(c.path, "/v1/auth/") // hashes passwords
			dull := c.body == "" && !strings.ContainsAny(c.path, "?{")
			if !slow && !dull || rng.IntN(12) == 0 {
				return c
			}
		}
	}
	statuses := make(map[int]int)
	var f fixture
	const renewEvery = 200 // before all its runs have ended
	for i := range shots {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		c := draw(rng)
		if i%renewEvery == 0 || f.names == nil {
			state.end()
			f = w.makeFixture(plans.Scale)
		}
		s := makeShot(rng, f, c, cursors)
		if i == shots/2 {
			s = shot{
				method: "POST", path: "/v1/runs/", body: bytes.Repeat([]byte("[1e400,\x00]"), 2<<20),
				header: http.Header{"Authorization": {"Bearer " + f.key}},
			}
		}
		state.begin()
		r, err := w.fire(s)
		if err == nil {
			if got := state.changedByRefusal(s, r); got != "" {
				err = fmt.Errorf("answered %d, but changed %s", r.status, got)
			}
		}
		if err != nil || w.t.Failed() {
			w.t.Fatalf("seed %d, request %d: %v\n%v", seed, i, err, s)
		}
		statuses[r.status]++
		if success(r.status) && (strings.HasSuffix(c.path, "/regenerate") || strings.HasSuffix(c.path, "/change-password")) {
			f.names = nil // its credentials have ended
		}
	}
	return statuses
}

// The seeds are fixed, so that a failure is one on every machine. Each request
// depends on its seed and number alone, apart from ids and credentials.
func TestTenThousandBrokenRequestsDoNoHarm(t *testing.T) {
	t.Parallel()
	const shards, shots = 4, 2500
	for seed := range uint64(shards) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			statuses := flood(newWorld(t), seed, shots)
			t.Logf("answers by status: %v", statuses)
			// Else the requests are broken in so dull a way that they never reach what they are meant to break.
			for status, atLeast := range map[int]int{200: 100, 201: 25, 400: 15, 401: 5, 404: 100, 405: 50, 413: 1, 422: 700} {
				if statuses[status] < atLeast {
					t.Errorf("%d answers of status %d, want %d at least", statuses[status], status, atLeast)
				}
			}
		})
	}
}
