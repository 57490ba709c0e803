package request

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/pikarc/server/plans"
)

// oneField sends {"f": value} ({} when value is ""), reads it, and returns the
// problems without their brackets.
func oneField(t *testing.T, value string, read func(*Object)) string {
	t.Helper()
	body := "{}"
	if value != "" {
		body = `{"f":` + value + `}`
	}
	o := mustReadObject(t, body)
	read(o)
	list := problemsJSON(t, o.Err())
	return list[1 : len(list)-1]
}

// at is the problem of field f; rest is msg onward.
func at(kind, msg, input, ctx string) string {
	if ctx != "" {
		ctx = `,"ctx":{` + ctx + `}`
	}
	return `{"type":"` + kind + `","loc":["body","f"],"msg":"` + msg + `","input":` + input + ctx + `}`
}

const missingF = `{"type":"missing","loc":["body","f"],"msg":"Field required","input":{}}`

func nulAt(input string) string {
	return at("value_error", "Value error, must not contain the NUL character", input, "")
}

func surrogateAt(input string) string {
	return at("value_error", "Value error, must be valid Unicode, without unpaired surrogates", input, "")
}

type fieldTest struct {
	name  string
	value string
	want  any    // what the reader returns, as fmt prints it
	bad   string // the problem, if any
}

func runFieldTests(t *testing.T, read func(*Object) any, tests []fieldTest) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name+" "+shorten(test.value), func(t *testing.T) {
			var got any
			bad := oneField(t, test.value, func(o *Object) { got = read(o) })
			if bad != test.bad {
				t.Errorf("problem\n got %s\nwant %s", bad, test.bad)
			}
			if g, w := fmt.Sprint(got), fmt.Sprint(test.want); g != w {
				t.Errorf("value %q, want %q", g, w)
			}
		})
	}
}

// deref makes a pointer printable.
func deref[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

func TestString(t *testing.T) {
	wrong := func(input string) string { return at("string_type", "Input should be a valid string", input, "") }
	tooLong := func(input string) string {
		return at("string_too_long", "String should have at most 4 characters", input, `"max_length":4`)
	}
	runFieldTests(t, func(o *Object) any { return o.String("f", 1, 4) }, []fieldTest{
		{"text", `"abcd"`, "abcd", ""},
		{"code points, not bytes", `"üüüü"`, "üüüü", ""},
		{"a pair of surrogates is one code point", `"\ud83d\ude42abc"`, "🙂abc", ""},
		{"escapes", `"\"\\\n\u00fc"`, "\"\\\nü", ""},
		{"path characters", `"/?#%"`, "/?#%", ""},
		{"absent", ``, "", missingF},
		{"null", `null`, "", wrong("null")},
		{"number", `1e400`, "", wrong("1e400")},
		{"bool", `true`, "", wrong("true")},
		{"list", `[ 1, "a" ]`, "", wrong(`[1,"a"]`)},
		{"object", `{ "a" : 1 }`, "", wrong(`{"a":1}`)},
		{"empty", `""`, "", at("string_too_short", "String should have at least 1 character", `""`, `"min_length":1`)},
		{"five", `"abcde"`, "", tooLong(`"abcde"`)},
		{"NUL", `"a\u0000"`, "", nulAt(`"a\u0000"`)},
		{"an escaped backslash is no NUL", `"\\u00"`, `\u00`, ""},
		{"high surrogate", `"\ud800"`, "", surrogateAt(`"\ud800"`)},
		{"low surrogate", `"\uDC00"`, "", surrogateAt(`"\uDC00"`)},
		{"swapped surrogates", `"\ude42\ud83d"`, "", surrogateAt(`"\ude42\ud83d"`)},
		{"high surrogate and a letter", `"\ud83d\u0061"`, "", surrogateAt(`"\ud83d\u0061"`)},
	})
}

func TestLengthIsToldInTheSingularAndThePlural(t *testing.T) {
	got := oneField(t, `"a"`, func(o *Object) { o.String("f", 8, 1024) })
	if want := at("string_too_short", "String should have at least 8 characters", `"a"`, `"min_length":8`); got != want {
		t.Errorf("got %s", got)
	}
	got = oneField(t, `"ab"`, func(o *Object) { o.String("f", 1, 1) })
	if want := at("string_too_long", "String should have at most 1 character", `"ab"`, `"max_length":1`); got != want {
		t.Errorf("got %s", got)
	}
}

func TestOptionalAndPresentString(t *testing.T) {
	runFieldTests(t, func(o *Object) any { return deref(o.OptionalString("f", 0, 4)) }, []fieldTest{
		{"optional", `"ab"`, "ab", ""},
		{"optional", `""`, "", ""},
		{"optional absent", ``, nil, ""},
		{"optional", `null`, nil, ""},
		{"optional", `5`, nil, at("string_type", "Input should be a valid string", "5", "")},
	})
	runFieldTests(t, func(o *Object) any { return deref(o.PresentString("f", 0, 4)) }, []fieldTest{
		{"present", `"ab"`, "ab", ""},
		{"present absent", ``, nil, ""},
		{"present", `null`, nil, at("string_type", "Input should be a valid string", "null", "")},
	})
}

func TestInt(t *testing.T) {
	wrong := func(input string) string { return at("int_type", "Input should be a valid integer", input, "") }
	fraction := func(input string) string {
		return at("int_from_float", "Input should be a valid integer, got a number with a fractional part", input, "")
	}
	below := func(input string) string {
		return at("greater_than_equal", "Input should be greater than or equal to -5", input, `"ge":-5`)
	}
	above := func(input string) string {
		return at("less_than_equal", "Input should be less than or equal to 9000000000000000000", input, `"le":9000000000000000000`)
	}
	runFieldTests(t, func(o *Object) any { return o.Int("f", -5, 9e18) }, []fieldTest{
		{"", `7`, 7, ""},
		{"", `-5`, -5, ""},
		{"", `9000000000000000000`, int64(9e18), ""},
		{"", `-0`, 0, ""},
		{"", `-0.0e-5`, 0, ""},
		{"", `0e999999999999999999999`, 0, ""},
		{"", `1.0`, 1, ""},
		{"", `1e2`, 100, ""},
		{"", `1E+2`, 100, ""},
		{"", `-50e-1`, -5, ""},
		{"", `1.50e1`, 15, ""},
		{"", `0.05e2`, 5, ""},
		{"", `1000e-00000000000000000000000003`, 1, ""},
		{"", `9e18`, int64(9e18), ""},
		{"exact beyond 2^53", `9007199254740993.0`, 9007199254740993, ""},
		{"long zeros", `0.` + strings.Repeat("0", 300) + `1e301`, 1, ""},
		{"", `1.5`, 0, fraction("1.5")},
		{"", `0.0000000001`, 0, fraction("0.0000000001")},
		{"", `-1e-400`, 0, fraction("-1e-400")},
		{"", `1e-999999999999999999999`, 0, fraction("1e-999999999999999999999")},
		{"", `-6`, 0, below("-6")},
		{"", `-6.0`, 0, below("-6.0")},
		{"", `-1e400`, 0, below("-1e400")},
		{"", `-99999999999999999999`, 0, below("-99999999999999999999")},
		{"", `9000000000000000001`, 0, above("9000000000000000001")},
		{"", `92e17`, 0, above("92e17")},
		{"", `99e17`, 0, above("99e17")},
		{"", `99999999999999999999`, 0, above("99999999999999999999")},
		{"", `1e400`, 0, above("1e400")},
		{"", `1e999999999999999999999`, 0, above("1e999999999999999999999")},
		{"absent", ``, 0, missingF},
		{"", `null`, 0, wrong("null")},
		{"", `"5"`, 0, wrong(`"5"`)},
		{"", `true`, 0, wrong("true")},
		{"", `[]`, 0, wrong("[]")},
		{"", `{}`, 0, wrong("{}")},
	})
}

func TestOptionalAndPresentInt(t *testing.T) {
	runFieldTests(t, func(o *Object) any { return deref(o.OptionalInt("f", 0, 9)) }, []fieldTest{
		{"optional", `0`, 0, ""},
		{"optional absent", ``, nil, ""},
		{"optional", `null`, nil, ""},
		{"optional", `10`, nil, at("less_than_equal", "Input should be less than or equal to 9", "10", `"le":9`)},
	})
	runFieldTests(t, func(o *Object) any { return deref(o.PresentInt("f", 0, 9)) }, []fieldTest{
		{"present", `9`, 9, ""},
		{"present absent", ``, nil, ""},
		{"present", `null`, nil, at("int_type", "Input should be a valid integer", "null", "")},
	})
}

func TestHugeNumbersAreNeverWrittenOut(t *testing.T) {
	zeros := strings.Repeat("0", 300_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, number := range []string{"1" + zeros, "0." + zeros + "1", "1e" + strings.Repeat("9", 300_000), "1e999999999", "1e-999999999", "2." + zeros} {
		o := mustReadObject(t, `{"i":`+number+`,"p":`+number+`,"b":`+number+`}`)
		o.Int("i", 3, 9)
		o.Price("p")
		o.Budget("b")
		if size := len(problemsJSON(t, o.Err())); size > 4096 {
			t.Errorf("%s: an answer of %d bytes", shorten(number), size)
		}
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 200<<20 {
		t.Errorf("allocated %d MiB", used>>20)
	}
}

func TestBool(t *testing.T) {
	wrong := func(input string) string { return at("bool_type", "Input should be a valid boolean", input, "") }
	runFieldTests(t, func(o *Object) any { return o.Bool("f") }, []fieldTest{
		{"", `true`, true, ""},
		{"", `false`, false, ""},
		{"absent", ``, false, missingF},
		{"", `null`, false, wrong("null")},
		{"", `1`, false, wrong("1")},
		{"", `"true"`, false, wrong(`"true"`)},
		{"", `{}`, false, wrong("{}")},
	})
	runFieldTests(t, func(o *Object) any { return o.OptionalBool("f", true) }, []fieldTest{
		{"optional", `false`, false, ""},
		{"optional absent", ``, true, ""},
		{"optional", `null`, false, wrong("null")},
	})
}

func TestLiteral(t *testing.T) {
	const expected = "'COMPLETED', 'FAILED' or 'BLOCKED'"
	wrong := func(input string) string {
		return at("literal_error", "Input should be "+expected, input, `"expected":"`+expected+`"`)
	}
	runFieldTests(t, func(o *Object) any { return o.Literal("f", "COMPLETED", "FAILED", "BLOCKED") }, []fieldTest{
		{"", `"FAILED"`, "FAILED", ""},
		{"escaped", `"\u0046AILED"`, "FAILED", ""},
		{"", `"failed"`, "", wrong(`"failed"`)},
		{"", `""`, "", wrong(`""`)},
		{"", `null`, "", wrong("null")},
		{"", `1`, "", wrong("1")},
		{"", `["FAILED"]`, "", wrong(`["FAILED"]`)},
		{"", `"\u0000"`, "", nulAt(`"\u0000"`)},
		{"absent", ``, "", missingF},
	})
	runFieldTests(t, func(o *Object) any { return o.OptionalLiteral("f", "pro", "scale") }, []fieldTest{
		{"optional", `"pro"`, "pro", ""},
		{"optional absent", ``, "", ""},
		{"optional", `null`, "", ""},
		{"optional", `"basic"`, "", at("literal_error", "Input should be 'pro' or 'scale'", `"basic"`, `"expected":"'pro' or 'scale'"`)},
	})
}

func TestDictAndJSON(t *testing.T) {
	wrong := func(input string) string { return at("dict_type", "Input should be a valid dictionary", input, "") }
	runFieldTests(t, func(o *Object) any { return string(o.Dict("f")) }, []fieldTest{
		{"compacted", "{ \"a b\" : [ 1 , { } , [ ] ,\t\"x \\\" y\" ] ,\n\"c\":null }", `{"a b":[1,{},[],"x \" y"],"c":null}`, ""},
		{"numbers as sent", `{"a":1e400,"b":-0,"c":0.0000000001}`, `{"a":1e400,"b":-0,"c":0.0000000001}`, ""},
		{"empty", `{}`, `{}`, ""},
		{"absent", ``, "", ""},
		{"", `null`, "", ""},
		{"", `[]`, "", wrong("[]")},
		{"", `"a"`, "", wrong(`"a"`)},
		{"", `0`, "", wrong("0")},
		{"nested NUL", `{"a":["\u0000"]}`, "", nulAt(`{"a":["\u0000"]}`)},
		{"NUL in a nested key", `{"a":{"\u0000":1}}`, "", nulAt(`{"a":{"\u0000":1}}`)},
		{"nested surrogate", `{"a":"\ud800"}`, "", surrogateAt(`{"a":"\ud800"}`)},
	})
	runFieldTests(t, func(o *Object) any { return string(o.JSON("f")) }, []fieldTest{
		{"any", `[ 1, "a b" ]`, `[1,"a b"]`, ""},
		{"any", `"a b"`, `"a b"`, ""},
		{"any", `false`, `false`, ""},
		{"any absent", ``, "", ""},
		{"any", `null`, "", ""},
		{"any nested NUL", `[[{"k":"\u0000"}]]`, "", nulAt(`[[{"k":"\u0000"}]]`)},
	})
}

func TestDictDoesNotAliasTheBody(t *testing.T) {
	o := mustReadObject(t, `{"f":{"a":1}}`)
	dict := o.Dict("f")
	clear(o.Raw())
	if string(dict) != `{"a":1}` {
		t.Errorf("dict %q follows the body", dict)
	}
}

func decimalTests(places int, le string) []fieldTest {
	type_ := func(input string) string {
		return at("decimal_type", "Decimal input should be an integer, float, string or Decimal object", input, "")
	}
	parsing := func(input string) string { return at("decimal_parsing", "Input should be a valid decimal", input, "") }
	finite := func(input string) string { return at("finite_number", "Input should be a finite number", input, "") }
	maxPlaces := func(input string) string {
		return at("decimal_max_places", fmt.Sprintf("Decimal input should have no more than %d decimal places; send 0.%0*d", places, places, 1), input, fmt.Sprintf(`"decimal_places":%d`, places))
	}
	below := func(input string) string {
		return at("greater_than_equal", "Input should be greater than or equal to 0", input, `"ge":0`)
	}
	above := func(input string) string {
		return at("less_than_equal", "Input should be less than or equal to "+le, input, `"le":`+le)
	}
	finest := "0." + strings.Repeat("0", places-1) + "1"
	tooFine := "0." + strings.Repeat("0", places) + "1"
	return []fieldTest{
		{"", `0`, "0", ""},
		{"", `-0`, "0", ""},
		{"", `25e-2`, "0.25", ""},
		{"", `"0.00225"`, "0.00225", ""},
		{"", finest, finest, ""},
		{"", finest + "000", finest, ""},
		{"", le, le, ""},
		{"", tooFine, "0", maxPlaces(tooFine)},
		{"", `1e-400`, "0", maxPlaces("1e-400")},
		{"", `-0.5`, "0", below("-0.5")},
		{"", `"-1"`, "0", below(`"-1"`)},
		{"", le + ".1", "0", above(le + ".1")},
		{"", `1e400`, "0", above("1e400")},
		{"", `"1e999999999"`, "0", above(`"1e999999999"`)},
		{"", `"NaN"`, "0", finite(`"NaN"`)},
		{"", `"-Infinity"`, "0", finite(`"-Infinity"`)},
		{"", `"ten"`, "0", parsing(`"ten"`)},
		{"", `""`, "0", parsing(`""`)},
		{"", `"1,5"`, "0", parsing(`"1,5"`)},
		{"", `"1\u0000"`, "0", nulAt(`"1\u0000"`)},
		{"", `true`, "0", type_("true")},
		{"", `[1]`, "0", type_("[1]")},
		{"", `{}`, "0", type_("{}")},
	}
}

func TestPrice(t *testing.T) {
	read := func(o *Object) any { return o.Price("f") }
	runFieldTests(t, read, decimalTests(12, "1000000"))
	runFieldTests(t, read, []fieldTest{
		{"", `0.0000025`, "0.0000025", ""},
		{"absent", ``, "0", missingF},
		{"", `null`, "0", at("decimal_type", "Decimal input should be an integer, float, string or Decimal object", "null", "")},
	})
}

func TestBudget(t *testing.T) {
	runFieldTests(t, func(o *Object) any { b, _ := o.Budget("f"); return b.Limit }, decimalTests(9, "1000000000"))
	tests := []struct {
		value   string
		want    plans.Budget
		present bool
	}{
		{``, plans.Budget{}, false},
		{`null`, plans.Budget{}, true},
		{`0`, plans.Budget{Set: true}, true},
		{`"12.5"`, plans.Budget{Limit: 12*plans.USD + plans.USD/2, Set: true}, true},
		{`-1`, plans.Budget{}, false},
		{`true`, plans.Budget{}, false},
	}
	for _, test := range tests {
		oneField(t, test.value, func(o *Object) {
			got, present := o.Budget("f")
			if got != test.want || present != test.present {
				t.Errorf("%q reads as %+v, %t", test.value, got, present)
			}
		})
	}
}

func TestHasAndIsNull(t *testing.T) {
	o := mustReadObject(t, `{"a":null,"b":0}`)
	for name, want := range map[string][2]bool{"a": {true, true}, "b": {true, false}, "c": {false, false}} {
		if got := [2]bool{o.Has(name), o.IsNull(name)}; got != want {
			t.Errorf("%s: Has, IsNull = %v, want %v", name, got, want)
		}
	}
	o.RefuseUnknown()
	wantProblems(t, o.Err(), "[]")
}

func TestRequiredDefectiveFieldHasOneProblem(t *testing.T) {
	o := mustReadObject(t, `{"f":"\u0000"}`)
	o.Has("f")
	o.String("f", 1, 9)
	o.Int("f", 1, 9)
	o.RefuseUnknown()
	wantProblems(t, o.Err(), "["+nulAt(`"\u0000"`)+"]")
}

func TestLastDuplicateWins(t *testing.T) {
	o := mustReadObject(t, `{"a":"\u0000","b":1,"\u0061":"two"}`)
	if got := o.String("a", 1, 9); got != "two" {
		t.Errorf("a = %q", got)
	}
	o.String("c", 1, 9)
	wantProblems(t, o.Err(), `[{"type":"missing","loc":["body","c"],"msg":"Field required","input":{"a":"two","b":1}}]`)
}
