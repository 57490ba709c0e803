package request

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pikarc/server/plans"
)

func testLimit() Limit { return Limit{Bytes: 1 << 20, Setting: "max-body"} }

func post(body string) *http.Request {
	return httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
}

func isTooLarge(err error) bool {
	var tooLarge *TooLargeError
	return errors.As(err, &tooLarge)
}

func mustReadObject(t *testing.T, body string) *Object {
	t.Helper()
	o, err := ReadObject(httptest.NewRecorder(), post(body), testLimit())
	if err != nil {
		t.Fatalf("readObject(%q): %v", shorten(body), err)
	}
	return o
}

// problemsJSON renders the detail of the 422 that err stands for.
func problemsJSON(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return "[]"
	}
	var v *ValidationError
	if !errors.As(err, &v) {
		t.Fatalf("error %v (%T), want a *validationError", err, err)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v.Problems); err != nil {
		t.Fatalf("problems do not marshal: %v", err)
	}
	return strings.TrimSpace(out.String())
}

func wantProblems(t *testing.T, err error, want string) {
	t.Helper()
	if got := problemsJSON(t, err); got != want {
		t.Errorf("problems\n got %s\nwant %s", got, want)
	}
}

func nested(levels int) string {
	return strings.Repeat(`{"a":`, levels-1) + "{}" + strings.Repeat("}", levels-1)
}

func TestReadObjectRefusesWhatIsNoObject(t *testing.T) {
	syntax := func(offset, text string) string {
		return `[{"type":"json_invalid","loc":["body",` + offset + `],"msg":"JSON decode error","input":{},"ctx":{"error":"` + text + `"}}]`
	}
	notObject := func(input string) string {
		return `[{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":` + input + `}]`
	}
	const noBody = `[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]`
	tests := []struct{ name, body, want string }{
		{"empty", "", noBody},
		{"white space", " \r\n\t", noBody},
		{"no JSON", "hello", syntax("0", "Expecting value")},
		{"cut off", `{"a":1`, syntax("6", "Expecting ',' delimiter")},
		{"cut off in a text", `{"a":"bc`, syntax("5", "Unterminated string")},
		{"trailing comma", `{"a":1,}`, syntax("7", "Expecting property name enclosed in double quotes")},
		{"trailing comma in a list", `{"a":[1,]}`, syntax("8", "Expecting value")},
		{"no colon", `{"a" 1}`, syntax("5", "Expecting ':' delimiter")},
		{"two values", `{} {}`, syntax("3", "Extra data")},
		{"single quotes", `{'a':1}`, syntax("1", "Expecting property name enclosed in double quotes")},
		{"NaN", `{"a":NaN}`, syntax("5", "Expecting value")},
		{"Infinity", `{"a":Infinity}`, syntax("5", "Expecting value")},
		{"-Infinity", `{"a":-Infinity}`, syntax("5", "Expecting value")},
		{"leading zero", `{"a":01}`, syntax("6", "Expecting ',' delimiter")},
		{"bare point", `{"a":1.}`, syntax("5", "Invalid number")},
		{"bare exponent", `{"a":1e+}`, syntax("5", "Invalid number")},
		{"bad word", `{"a":nul}`, syntax("5", "Expecting value")},
		{"bad escape", `{"a":"\x"}`, syntax("6", `Invalid \\escape`)},
		{"bad hex", `{"a":"\u12g4"}`, syntax("6", `Invalid \\uXXXX escape`)},
		{"raw control character", "{\"a\":\"\x00\"}", syntax("6", "Invalid control character in a string")},
		{"invalid UTF-8", "{\"a\":\"é\xff\"}", syntax("8", "Invalid UTF-8")},
		{"surrogate as UTF-8", "{\"a\":\"\xed\xa0\x80\"}", syntax("6", "Invalid UTF-8")},
		{"byte order mark", "\ufeff{}", syntax("0", "Expecting value")},
		{"65 levels", nested(65), syntax("320", "Nesting deeper than 64 levels")},
		{"65 levels of lists", `{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + "}", syntax("68", "Nesting deeper than 64 levels")},
		{"1000 levels", nested(1000), syntax("320", "Nesting deeper than 64 levels")},
		{"half a million open lists", strings.Repeat("[", 500_000), syntax("64", "Nesting deeper than 64 levels")},
		{"null", " null ", notObject("null")},
		{"number", "5", notObject("5")},
		{"list", "[1, {\"a\" : [ ]}]", notObject(`[1,{"a":[]}]`)},
		{"text, which may be a password", `"hunter2"`, notObject(`"***"`)},
		{"list of texts", `["a@b.example", "hunter2"]`, notObject(`["***","***"]`)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := ReadObject(httptest.NewRecorder(), post(test.body), testLimit())
			wantProblems(t, err, test.want)
		})
	}
}

func TestReadObjectTakesSixtyFourLevels(t *testing.T) {
	mustReadObject(t, nested(64))
	mustReadObject(t, `{"a":`+strings.Repeat("[", 63)+strings.Repeat("]", 63)+"}")
}

func TestOptionalObjectTakesNoBodyAsEmptyObject(t *testing.T) {
	for _, body := range []string{"", "  \n", "null", " null\n", "{}"} {
		o, err := ReadOptionalObject(httptest.NewRecorder(), post(body), testLimit())
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if label := o.OptionalString("label", 1, 9); label != nil {
			t.Errorf("%q: label %q", body, *label)
		}
		o.RefuseUnknown()
		wantProblems(t, o.Err(), "[]")
		if string(o.Raw()) != body {
			t.Errorf("Raw %q, want %q", o.Raw(), body)
		}
	}
	_, err := ReadOptionalObject(httptest.NewRecorder(), post("[]"), testLimit())
	wantProblems(t, err, `[{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":[]}]`)
}

func TestMissingFieldOfAnAbsentBodyEchoesAnEmptyObject(t *testing.T) {
	o, err := ReadOptionalObject(httptest.NewRecorder(), post(""), testLimit())
	if err != nil {
		t.Fatal(err)
	}
	o.Bool("active")
	wantProblems(t, o.Err(), `[{"type":"missing","loc":["body","active"],"msg":"Field required","input":{}}]`)
}

func TestBodyLimitCountsBytesExactly(t *testing.T) {
	const body = `{"a":"bcd"}`
	readers := map[string]func(http.ResponseWriter, *http.Request, Limit) (*Object, error){
		"required": ReadObject, "optional": ReadOptionalObject,
	}
	for name, read := range readers {
		for _, declared := range []int64{int64(len(body)), -1} {
			r := post(body)
			r.ContentLength = declared
			if _, err := read(httptest.NewRecorder(), r, Limit{Bytes: int64(len(body))}); err != nil {
				t.Errorf("%s, length %d: at the limit: %v", name, declared, err)
			}
			r = post(body)
			r.ContentLength = declared
			if _, err := read(httptest.NewRecorder(), r, Limit{Bytes: int64(len(body)) - 1}); !isTooLarge(err) {
				t.Errorf("%s, length %d: over the limit: %v, want a *bodyTooLargeError", name, declared, err)
			}
		}
	}
}

func TestTenMebibytesAreTooLarge(t *testing.T) {
	_, err := ReadObject(httptest.NewRecorder(), post(`{"a":"`+strings.Repeat("b", 10<<20)+`"}`), testLimit())
	if !isTooLarge(err) {
		t.Errorf("error %v, want a *bodyTooLargeError", err)
	}
}

func TestLimitOfAnOuterReaderIsTooLargeToo(t *testing.T) {
	r := post(`{"a":"bcd"}`)
	r.Body = http.MaxBytesReader(nil, r.Body, 4)
	if _, err := ReadObject(httptest.NewRecorder(), r, testLimit()); !isTooLarge(err) {
		t.Errorf("error %v, want a *bodyTooLargeError", err)
	}
}

func TestBodyCutShortIsAReadError(t *testing.T) {
	cause := io.ErrUnexpectedEOF
	r := post("")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"a":1}`), iotest.ErrReader(cause)))
	_, err := ReadObject(httptest.NewRecorder(), r, testLimit())
	if !errors.Is(err, ErrRead) || !errors.Is(err, cause) {
		t.Errorf("error %v, want errBodyRead that wraps the cause", err)
	}
	if isTooLarge(err) {
		t.Errorf("error %v is a *bodyTooLargeError too", err)
	}
}

func TestDeclaredLengthReservesNothing(t *testing.T) {
	const limit = 1 << 50
	r := post(`{"a":1}`)
	r.ContentLength = limit
	if _, err := ReadObject(httptest.NewRecorder(), r, Limit{Bytes: limit}); err != nil {
		t.Error(err)
	}
}

func TestDeclaredLengthBeyondTheLimitIsRefusedUnread(t *testing.T) {
	r := post("")
	r.Body, r.ContentLength = io.NopCloser(iotest.ErrReader(errors.New("it was read"))), testLimit().Bytes+1
	if _, err := ReadObject(httptest.NewRecorder(), r, testLimit()); !isTooLarge(err) {
		t.Errorf("error %v, want a *bodyTooLargeError", err)
	}
}

func TestEveryKindOfContentTypeIsRead(t *testing.T) {
	for _, kind := range []string{"", "application/json", "text/plain", "nonsense"} {
		r := post("{}")
		r.Header.Set("Content-Type", kind)
		if _, err := ReadObject(httptest.NewRecorder(), r, testLimit()); err != nil {
			t.Errorf("%q: %v", kind, err)
		}
	}
}

// benchmarkReport reads the same body again and again, as a call of agents does.
func benchmarkReport(b *testing.B, body string, read func(*Object)) {
	source := strings.NewReader(body)
	r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(source))
	r.ContentLength = int64(len(body))
	payload := r.Body
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		source.Reset(body)
		r.Body = payload
		o, err := ReadReport(w, r, testLimit(), 1<<20, isTestField)
		if err != nil {
			b.Fatal(err)
		}
		read(o)
		if err := o.Err(); err != nil || o.Repaired() != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadStep(b *testing.B) {
	const body = `{"type":"MODEL_CALL","sequence":3,"model":"gpt-4o","input_data":{"prompt":"Summarise the quarterly report in three sentences."}}`
	benchmarkReport(b, body, func(o *Object) {
		o.Literal("type", "MODEL_CALL", "TOOL_CALL", "INPUT", "OUTPUT", "REASONING", "SYSTEM")
		o.Int("sequence", 1, testMaxInt)
		o.Name("model")
		o.Name("tool_name")
		o.Payload("input_data")
	})
}

func BenchmarkReadUpdate(b *testing.B) {
	const body = `{"status":"COMPLETED","duration_ms":840,"prompt_tokens":500,"completion_tokens":100,"output_data":{"text":"The quarter went well."}}`
	benchmarkReport(b, body, func(o *Object) {
		o.OptionalLiteral("status", "COMPLETED", "FAILED")
		o.Duration("duration_ms", testMaxInt)
		o.Count("prompt_tokens", plans.MaxTokens)
		o.Count("completion_tokens", plans.MaxTokens)
		o.AnyPayload("output_data")
		o.Text("error", testMaxText)
	})
}
