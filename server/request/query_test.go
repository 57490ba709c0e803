package request

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

func queryOf(raw string) *Query {
	return ReadQuery(&http.Request{URL: &url.URL{Path: "/", RawQuery: raw}})
}

func TestQueryReadsItsParameters(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/?limit=20&limit=30&low=1&high=200&on=1&since=2026-11-23T08:08:29.5%2B01:00&status=FAILED&blocked=0&deep=true&q=a+%C3%BC%26;b&&=x", nil)
	q := ReadQuery(r)
	if got := q.Int("limit", 50, 1, 200); got != 30 {
		t.Errorf("limit %d, want the last, 30", got)
	}
	if low, high := q.Int("low", 50, 1, 200), q.Int("high", 50, 1, 200); low != 1 || high != 200 {
		t.Errorf("the bounds read as %d and %d", low, high)
	}
	if got := q.Bool("on"); got == nil || !*got {
		t.Errorf("on %v, want true", got)
	}
	if got, want := q.OptionalTime("since"), time.Date(2026, 11, 23, 7, 8, 29, 5e8, time.UTC); !got.Equal(want) {
		t.Errorf("since %v, want %v", got, want)
	}
	if got := q.Literal("status", "RUNNING", "FAILED"); got != "FAILED" {
		t.Errorf("status %q", got)
	}
	if got := q.Bool("blocked"); got == nil || *got {
		t.Errorf("blocked %v, want false", got)
	}
	if got := q.Bool("deep"); got == nil || !*got {
		t.Errorf("deep %v, want true", got)
	}
	if got := q.String("q", 6); got != "a ü&;b" {
		t.Errorf("q %q", got)
	}
	wantProblems(t, q.Err(), "[]")
}

func TestAbsentParametersReadAsTheirDefaults(t *testing.T) {
	q := queryOf("other=1")
	if n := q.Int("limit", 50, 1, 200); n != 50 {
		t.Errorf("limit %d", n)
	}
	if !q.OptionalTime("since").IsZero() || q.Literal("status", "A") != "" || q.Bool("b") != nil || q.String("q", 1) != "" {
		t.Error("an absent parameter has a value")
	}
	wantProblems(t, q.Err(), "[]")
}

func TestQueryTimeTakesAnyOffset(t *testing.T) {
	want := time.Date(2026, 11, 23, 7, 8, 29, 0, time.UTC)
	for _, text := range []string{
		"2026-11-23T07:08:29Z", "2026-11-23T07:08:29.000000000Z", "2026-11-23T07:08:29-00:00",
		"2026-11-23T12:38:29%2B05:30", "2026-11-23T12:38:29+05:30", "2026-11-22T23:08:29-08:00",
	} {
		q := queryOf("since=" + text)
		if got := q.OptionalTime("since"); !got.Equal(want) || q.Err() != nil {
			t.Errorf("%s reads as %v, %v", text, got, q.Err())
		}
	}
	for _, text := range []string{
		"", "today", "2026-11-23", "2026-11-23T07:08:29", "2026-11-23T7:08:29Z", "2026-02-30T00:00:00Z",
		"2026-11-23T07:08:29,5Z", "2026-11-23T24:00:00Z", "1763881709", "2026-11-23T07:08:29+99:00",
	} {
		q := queryOf("since=" + text)
		if got := q.OptionalTime("since"); !got.IsZero() || q.Err() == nil {
			t.Errorf("%q reads as %v, %v", text, got, q.Err())
		}
	}
}

func TestQueryProblems(t *testing.T) {
	readInt := func(q *Query) { q.Int("limit", 50, 1, 200) }
	intParsing := func(input string) string {
		return `[{"type":"int_parsing","loc":["query","limit"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":"` + input + `"}]`
	}
	above := func(input string) string {
		return `[{"type":"less_than_equal","loc":["query","limit"],"msg":"Input should be less than or equal to 200","input":"` + input + `","ctx":{"le":200}}]`
	}
	below := func(input string) string {
		return `[{"type":"greater_than_equal","loc":["query","limit"],"msg":"Input should be greater than or equal to 1","input":"` + input + `","ctx":{"ge":1}}]`
	}
	tests := []struct {
		name, query string
		read        func(*Query)
		want        string
	}{
		{"word for a number", "limit=abc", readInt, intParsing("abc")},
		{"nothing for a number", "limit=", readInt, intParsing("")},
		{"name alone", "limit", readInt, intParsing("")},
		{"fraction", "limit=1.5", readInt, intParsing("1.5")},
		{"last one is wrong", "limit=5&limit=x", readInt, intParsing("x")},
		{"zero", "limit=0", readInt, below("0")},
		{"201", "limit=201", readInt, above("201")},
		{"beyond int64", "limit=99999999999999999999", readInt, above("99999999999999999999")},
		{"below int64", "limit=-99999999999999999999", readInt, below("-99999999999999999999")},
		{
			"NUL", "limit=1%00", readInt,
			`[{"type":"value_error","loc":["query","limit"],"msg":"Value error, must not contain the NUL character","input":"1\u0000"}]`,
		},
		{
			"invalid UTF-8", "q=%ff", func(q *Query) { q.String("q", 9) },
			`[{"type":"value_error","loc":["query","q"],"msg":"Value error, must be valid UTF-8","input":"\ufffd"}]`,
		},
		{
			"malformed escapes, told once", "q=%zz&limit=%1", readInt,
			`[{"type":"value_error","loc":["query"],"msg":"Value error, malformed escape in the query string","input":"q=%zz"}]`,
		},
		{
			"malformed escape behind a secret name", "access_token=%zz", readInt,
			`[{"type":"value_error","loc":["query"],"msg":"Value error, malformed escape in the query string","input":"***"}]`,
		},
		{
			"word not allowed", "status=failed", func(q *Query) { q.Literal("status", "RUNNING", "FAILED") },
			`[{"type":"literal_error","loc":["query","status"],"msg":"Input should be 'RUNNING' or 'FAILED'","input":"failed","ctx":{"expected":"'RUNNING' or 'FAILED'"}}]`,
		},
		{
			"no bool", "blocked=yes", func(q *Query) { q.Bool("blocked") },
			`[{"type":"bool_parsing","loc":["query","blocked"],"msg":"Input should be a valid boolean, unable to interpret input","input":"yes"}]`,
		},
		{
			"no time", "since=now", func(q *Query) { q.OptionalTime("since") },
			`[{"type":"datetime_parsing","loc":["query","since"],"msg":"Input should be a valid datetime, write it as RFC 3339, for example 2026-11-23T07:08:29.123Z","input":"now","ctx":{"error":"write it as RFC 3339, for example 2026-11-23T07:08:29.123Z"}}]`,
		},
		{
			"text too long in code points", "q=%C3%BC%C3%BC", func(q *Query) { q.String("q", 2); q.String("q", 1) },
			`[{"type":"string_too_long","loc":["query","q"],"msg":"String should have at most 1 character","input":"üü","ctx":{"max_length":1}}]`,
		},
		{
			"several, in the order read", "blocked=2&limit=0", func(q *Query) { readInt(q); q.Bool("blocked") },
			strings.TrimSuffix(below("0"), "]") + `,{"type":"bool_parsing","loc":["query","blocked"],"msg":"Input should be a valid boolean, unable to interpret input","input":"2"}]`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := queryOf(test.query)
			test.read(q)
			wantProblems(t, q.Err(), test.want)
		})
	}
}

func TestPathUUIDTakesOnlyThePlainForm(t *testing.T) {
	const plainForm = "019ab0e2-7c1d-7e3f-8a4b-5c6d7e8f9a0b"
	for _, raw := range []string{plainForm, strings.ToUpper(plainForm)} {
		id, err := PathUUID(raw, "run_id")
		if err != nil || id.String() != plainForm {
			t.Errorf("%s reads as %v, %v", raw, id, err)
		}
	}
	const words = "expected 32 hexadecimal digits in groups of 8-4-4-4-12"
	for _, raw := range []string{
		"", "abc", "urn:uuid:" + plainForm, "{" + plainForm + "}", strings.ReplaceAll(plainForm, "-", ""),
		"019ab0e2-7c1d-7e3f-8a4b-5c6d7e8f9a0g", "019ab0e27-c1d-7e3f-8a4b-5c6d7e8f9a0b", " " + plainForm[1:],
		"019ab0e27c1d7e3f8a4b5c6d7e8f9a0b....",
	} {
		id, err := PathUUID(raw, "run_id")
		if id != uuid.Nil {
			t.Errorf("%q reads as %v", raw, id)
		}
		wantProblems(t, err, `[{"type":"uuid_parsing","loc":["path","run_id"],"msg":"Input should be a valid UUID, `+words+`","input":"`+raw+`","ctx":{"error":"`+words+`"}}]`)
	}
}

func TestPathTextKeepsEveryCharacterButNUL(t *testing.T) {
	for _, value := range []string{"u", "a/b?c#d%e&f", " ", "é", "🙂🙂🙂", "a\nb", strings.Repeat("ü", 255)} {
		if got, err := PathText(value, "user_id", 255); err != nil || got != value {
			t.Errorf("%q reads as %q, %v", value, got, err)
		}
	}
	tests := []struct{ value, want string }{
		{"", `[{"type":"string_too_short","loc":["path","user_id"],"msg":"String should have at least 1 character","input":"","ctx":{"min_length":1}}]`},
		{strings.Repeat("u", 256), `[{"type":"string_too_long","loc":["path","user_id"],"msg":"String should have at most 255 characters","input":"` + strings.Repeat("u", 256) + `","ctx":{"max_length":255}}]`},
		{"a\x00", `[{"type":"value_error","loc":["path","user_id"],"msg":"Value error, must not contain the NUL character","input":"a\u0000"}]`},
		{"a\xff", `[{"type":"value_error","loc":["path","user_id"],"msg":"Value error, must be valid UTF-8","input":"a\ufffd"}]`},
	}
	for _, test := range tests {
		got, err := PathText(test.value, "user_id", 255)
		if got != "" {
			t.Errorf("%q reads as %q", test.value, got)
		}
		wantProblems(t, err, test.want)
	}
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "limit=5", "limit=%", "a=1&a=2;b", "limit=%00&t=%ff&t=+", "b=1&l=A&t=2026-11-23T07:08:29Z"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q := queryOf(raw)
		if n := q.Int("limit", 50, 1, 200); n < 1 || n > 200 {
			t.Errorf("limit %d", n)
		}
		q.OptionalTime("t")
		q.Bool("b")
		if word := q.Literal("l", "A", "B"); word != "" && word != "A" && word != "B" {
			t.Errorf("literal %q", word)
		}
		if s := q.String("q", 3); !utf8.ValidString(s) || utf8.RuneCountInString(s) > 3 || strings.Contains(s, "\x00") {
			t.Errorf("text %q", s)
		}
		problemsJSON(t, q.Err())
	})
}

func FuzzPathUUID(f *testing.F) {
	f.Add("019ab0e2-7c1d-7e3f-8a4b-5c6d7e8f9a0b")
	f.Add("{019ab0e2-7c1d-7e3f-8a4b-5c6d7e8f9a0b}")
	f.Add("\xff\x00")
	f.Fuzz(func(t *testing.T, raw string) {
		id, err := PathUUID(raw, "run_id")
		if err != nil {
			problemsJSON(t, err)
			return
		}
		if !strings.EqualFold(id.String(), raw) {
			t.Errorf("%q reads as %v", raw, id)
		}
	})
}
