package request

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

const (
	testPayload = 1000
	testMaxInt  = 1<<53 - 1
	testMaxText = 10_000
)

// isTestField knows the fields that agents report.
func isTestField(key []byte) bool {
	switch string(key) {
	case "user_id", "type", "sequence", "status":
		return true
	default:
		return storage.RepairOf(string(key)) != storage.RepairedOther
	}
}

// readUpdate reads a body as a report of usage is read.
func readUpdate(body []byte) (o *Object, prompt, completion *int64, err error) {
	if o, err = parseReport(body, testPayload, isTestField); err != nil {
		return nil, nil, nil, err
	}
	o.OptionalLiteral("status", "COMPLETED", "FAILED")
	o.Duration("duration_ms", testMaxInt)
	prompt, completion = o.Count("prompt_tokens", plans.MaxTokens), o.Count("completion_tokens", plans.MaxTokens)
	output, text := o.AnyPayload("output_data"), o.Text("error", testMaxText)
	if output != nil && (!json.Valid(output) || len(output) > 6*testPayload+1000 || strings.Contains(string(output), `\u0000`) && !strings.Contains(string(output), `\\u0000`)) {
		return nil, nil, nil, fmt.Errorf("output is kept as %q", output)
	}
	if text != nil && (!utf8.ValidString(*text) || strings.Contains(*text, "\x00") || utf8.RuneCountInString(*text) > testMaxText) {
		return nil, nil, nil, fmt.Errorf("error is kept as %q", *text)
	}
	return o, prompt, completion, o.Err()
}

// A count and what it means, by construction and not by reading it: nil for
// one that cannot be booked.
type drawnCount struct {
	json  string
	value *int64
}

func drawCount(t *rapid.T, name string) drawnCount {
	n := rapid.OneOf(rapid.Int64Range(0, 1000), rapid.Int64Range(0, plans.MaxTokens)).Draw(t, name)
	whole := fmt.Sprint(n)
	tenfold := fmt.Sprint(10 * n)
	forms := []string{whole, whole + ".0", whole + ".000", whole + "e0", tenfold + "e-1", tenfold + ".0E-01"}
	text := rapid.SampledFrom(forms).Draw(t, name+" written")
	switch rapid.IntRange(0, 3).Draw(t, name+" kind") {
	case 0:
		return drawnCount{text, &n}
	case 1:
		pad := rapid.SampledFrom([]string{"", " ", "+", "0", " +00"}).Draw(t, name+" before")
		return drawnCount{`"` + pad + text + rapid.SampledFrom([]string{"", " "}).Draw(t, name+" after") + `"`, &n}
	case 2:
		return drawnCount{"null", nil}
	default:
		return drawnCount{rapid.SampledFrom([]string{
			whole + ".5", "-1", "1e13", "1000000000001", "true", "false", "[]", "{}", `"` + whole + `x"`, `""`, `"1,000"`, `"\u0000"`, "NaN", "-Infinity",
			"1e400", "-1e400", "1e-400", strings.Repeat("[", 99) + strings.Repeat("]", 99), `["` + whole + `"]`,
		}).Draw(t, name+" that is none"), nil}
	}
}

// drawJSON draws any JSON value, with all that is odd in texts.
func drawJSON(t *rapid.T, depth int) string {
	text := func() string {
		return `"` + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{
			`a`, `\u0000`, `\ud83d`, `\ude42`, `\\`, `\"`, `\n`, `é`, `🙂`, `\u0041`, strings.Repeat("x", 400),
		}), 0, 6).Draw(t, "text"), "") + `"`
	}
	switch kind := rapid.IntRange(0, 8).Draw(t, "kind"); {
	case kind < 2 || depth == 0:
		return text()
	case kind < 5:
		return rapid.SampledFrom([]string{"null", "true", "-0", "1e999", "0.5", "NaN", "Infinity", "-Infinity", "123456789012345678901234567890"}).Draw(t, "scalar")
	case kind == 5:
		levels := rapid.IntRange(1, 200).Draw(t, "levels")
		return strings.Repeat("[", levels) + text() + strings.Repeat("]", levels)
	case kind == 6:
		return "[" + drawJSON(t, depth-1) + " , " + drawJSON(t, depth-1) + "]"
	default:
		return "{" + text() + ":" + drawJSON(t, depth-1) + ",\n" + text() + ":" + drawJSON(t, depth-1) + "}"
	}
}

// Whatever stands beside them, counts that can be read are read, the others
// named, and the report is taken.
func TestAnyReportIsTakenAndItsCountsBooked(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		prompt, completion := drawCount(t, "prompt"), drawCount(t, "completion")
		members := []string{
			`"status":"COMPLETED"`, `"prompt_tokens":` + prompt.json, `"completion_tokens" : ` + completion.json,
			`"output_data":` + drawJSON(t, 3), `"error":` + drawJSON(t, 2), `"duration_ms":` + drawJSON(t, 1), `"x":` + drawJSON(t, 2), `"\u0000":` + drawJSON(t, 1),
		}
		body := "{" + strings.Join(rapid.Permutation(members).Draw(t, "members"), ",") + "}"
		o, gotPrompt, gotCompletion, err := readUpdate([]byte(body))
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		repaired := strings.Join(o.Repaired(), " ")
		for _, c := range []struct {
			name string
			sent drawnCount
			got  *int64
		}{{"prompt_tokens", prompt, gotPrompt}, {"completion_tokens", completion, gotCompletion}} {
			if (c.got == nil) != (c.sent.value == nil) || c.got != nil && *c.got != *c.sent.value {
				t.Errorf("%s of %s is read as %v", c.name, c.sent.json, c.got)
			}
			named := strings.Contains(repaired, c.name)
			if want := c.sent.value == nil && c.sent.json != "null"; named != want {
				t.Errorf("%s of %s: named %v, want %v", c.name, c.sent.json, named, want)
			}
		}
	})
}

// FuzzReport takes any JSON object in which what decides is right.
func FuzzReport(f *testing.F) {
	for _, seed := range []string{
		`{"status":"FAILED","prompt_tokens":"5","error":"\ud800"}`, `{"output_data":[[NaN]],"x":{"\u0000":1}}`, `{"duration_ms":-1e999}`,
		`{"error":{"a":[1,2,{}]},"completion_tokens":500.0}`, strings.Repeat(`{"a":[`, 70) + strings.Repeat("]}", 70), `{"output_data":"` + strings.Repeat("é", 600) + `"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		var members map[string]json.RawMessage
		if json.Unmarshal([]byte(sent), &members) != nil || members == nil || !utf8.ValidString(sent) {
			return
		}
		if status, found := members["status"]; found && string(status) != `"COMPLETED"` && string(status) != `"FAILED"` && string(status) != "null" {
			return
		}
		o, prompt, _, err := readUpdate([]byte(sent))
		if err != nil {
			t.Fatalf("%q: %v", sent, err)
		}
		var n uint32 // a plain one, as the standard library reads it
		if raw := members["prompt_tokens"]; raw != nil && string(raw) != "null" && json.Unmarshal(raw, &n) == nil {
			if prompt == nil || *prompt != int64(n) {
				t.Errorf("%q: prompt_tokens read as %v", sent, prompt)
			}
		}
		for _, name := range o.Repaired() {
			if !utf8.ValidString(name) || strings.Contains(name, "\x00") {
				t.Errorf("names %q", name)
			}
		}
	})
}

// What is nested too deep to be kept is checked as all other JSON is.
func TestDeepValuesAreCheckedAsAllOthers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		levels := rapid.IntRange(60, 150).Draw(t, "levels")
		var open, shut string
		for i := range levels {
			if rapid.Bool().Draw(t, fmt.Sprint("object ", i)) {
				open, shut = open+rapid.SampledFrom([]string{`{"a":`, `{"b":1, "a" : `}).Draw(t, "opening"), rapid.SampledFrom([]string{`}`, `,"c":[]}`, ` }`}).Draw(t, "end")+shut
			} else {
				open, shut = open+rapid.SampledFrom([]string{`[`, `[{}, `, `["x",`}).Draw(t, "opening"), rapid.SampledFrom([]string{`]`, `,2]`, ` , [ ] ]`}).Draw(t, "end")+shut
			}
		}
		body := `{"x":` + open + `1` + shut + `}`
		if at := rapid.IntRange(0, 2*len(body)).Draw(t, "broken at"); at < len(body) {
			body = body[:at] + rapid.SampledFrom([]string{"", "]", "}", ",", ":", `"`, "x"}).Draw(t, "with") + body[at+1:]
		}
		_, err := scanReport([]byte(body), isTestField)
		if valid := json.Valid([]byte(body)); valid != (err == nil) {
			t.Fatalf("%s: %v, but encoding/json says %v", body, err, valid)
		}
	})
}

// A payload without white space is a part of the body, any other one a copy without it. Neither
// gives away what follows it.
func TestPayloadsAreReadWithoutWhiteSpace(t *testing.T) {
	for sent, want := range map[string]string{
		`{}`: `{}`, `{ }`: `{}`, `{"a b": "c  d"}`: `{"a b":"c  d"}`, `{"a b":"c  d"}`: `{"a b":"c  d"}`,
		`{"a":[1, 2]}`: `{"a":[1,2]}`, "{\n\t\"a\":\r{\"b\":1 } }": `{"a":{"b":1}}`, `{"a":[[ ],[]]}`: `{"a":[[],[]]}`,
		`{"a":"\" \\"}`: `{"a":"\" \\"}`, `[1,2]`: `{"value":[1,2]}`, `[1 ,2]`: `{"value":[1,2]}`, `" x "`: `{"value":" x "}`,
	} {
		for _, around := range []string{`{"before" : [ 1 ] ,"p":%s,"after": 2}`, `{"p":%s}`, ` { "p" : %s } `, `{"p":%s,"after":"x"}`} {
			body := fmt.Appendf(nil, around, sent)
			before := string(body)
			o, err := parseReport(body, 1<<20, isTestField)
			if err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			got := o.Payload("p")
			if string(got) != want {
				t.Errorf("%s is read as %s, want %s", body, got, want)
			}
			if _ = append(got, "overwritten"...); string(body) != before {
				t.Errorf("what is appended to the payload of %s changes the body", before)
			}
		}
	}
}
