package server_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

// usage is what each report of repairCases also says: $0.00225.
const usage = `"status":"COMPLETED","prompt_tokens":500,"completion_tokens":100`

// repairCase is something defective that an agent says beside what decides.
type repairCase struct {
	name string
	says string // JSON members
	kept string // the field, and how it is shown then
	// repaired is what the answer names.
	repaired string
}

// omittedJSON is what stands for a payload that is too large or too deep.
func omittedJSON(t *testing.T, sent string) string {
	t.Helper()
	preview := sent
	if len(preview) > 500 { // all of it is ASCII
		preview = preview[:499] + "…"
	}
	quoted, err := json.Marshal(preview)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(sent))
	return `{"omitted_bytes":` + strconv.Itoa(len(sent)) + `,"sha256":"` + hex.EncodeToString(sum[:]) + `","preview":` + string(quoted) + `}`
}

// payloadCases are of metadata, input_data or output_data; object says that
// any other value becomes one.
func payloadCases(t *testing.T, field string, object bool) []repairCase {
	t.Helper()
	large, deep := `{"a":"`+strings.Repeat("b", 1_200_000)+`"}`, strings.Repeat(`{"a":`, 69)+`{}`+strings.Repeat("}", 69)
	deepList := `{"a":` + strings.Repeat("[", 5000) + `"\u0000",{"b":[]},{},1` + strings.Repeat("]", 5000) + `}`
	sixtyFour := `{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`
	c := func(name, sent, kept string) repairCase {
		rc := repairCase{name: field + " " + name, says: `"` + field + `":` + sent, kept: `"` + field + `":` + kept}
		if sent != kept {
			rc.repaired = `["` + field + `"]`
		}
		return rc
	}
	all := []repairCase{
		c("NUL", `{"t":"a\u0000b","u":"\\u0000"}`, `{"t":"a�b","u":"\\u0000"}`),
		c("NUL in a name", `{"a\u0000":1}`, `{"a�":1}`),
		c("NUL deep inside", `{"a":[{"b":["\u0000\u0001"]}]}`, `{"a":[{"b":["�\u0001"]}]}`),
		c("half a pair", `{"t":"\ud83d"}`, `{"t":"�"}`),
		c("the other half", `{"\udE42":"\ude42\ud83d\ude42\ud83d\u0041"}`, `{"�":"�\ud83d\ude42�\u0041"}`),
		c("no number", `{"a":[NaN,Infinity,-Infinity,"NaN",-1]}`, `{"a":[null,null,null,"NaN",-1]}`),
		c("large", large, omittedJSON(t, large)),
		c("70 levels", deep, omittedJSON(t, deep)),
		c("5,001 levels", deepList, omittedJSON(t, deepList)),
		c("64 levels", sixtyFour, sixtyFour),
		c("no number at all", `NaN`, `null`),
		c("null", `null`, `null`),
	}
	for _, value := range []string{`"a text"`, `7`, `true`, `[1,"\u0000"]`} {
		kept := strings.ReplaceAll(value, `\u0000`, "�")
		if object {
			kept = `{"value":` + kept + `}`
		}
		all = append(all, c(value, value, kept))
	}
	return all
}

func nameCases(field string) []repairCase {
	c := func(name, sent, kept string) repairCase {
		return repairCase{name: field + " " + name, says: `"` + field + `":` + sent, kept: `"` + field + `":` + kept, repaired: `["` + field + `"]`}
	}
	return []repairCase{
		c("256 characters", `"`+strings.Repeat("é", 256)+`"`, `"`+strings.Repeat("é", 254)+`…"`),
		c("256 escaped", `"`+strings.Repeat(`\u00e9`, 255)+`\n"`, `"`+strings.Repeat("é", 254)+`…"`),
		c("300 pairs", `"`+strings.Repeat(`\ud83d\ude42`, 300)+`"`, `"`+strings.Repeat("🙂", 254)+`…"`),
		c("300 halves", `"`+strings.Repeat(`\ud83d`, 300)+`"`, `"`+strings.Repeat("�", 254)+`…"`),
		c("no characters", `""`, `null`),
		c("NUL", `"gpt\u0000"`, `"gpt�"`),
		c("a number", `5`, `"5"`),
		c("an object", `{"id":"x"}`, `"{\"id\":\"x\"}"`),
		c("too deep", strings.Repeat("[", 99)+strings.Repeat("]", 99), `null`),
	}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func updateCases() []repairCase {
	field := func(name, sent, kept string) repairCase {
		return repairCase{name: name + " " + shortBody([]byte(sent)), says: `"` + name + `":` + sent, kept: `"` + name + `":` + kept, repaired: `["` + name + `"]`}
	}
	fine := func(name, sent, kept string) repairCase {
		c := field(name, sent, kept)
		c.repaired = ""
		return c
	}
	long := strings.Repeat("x", 10_001)
	return []repairCase{
		field("duration_ms", `840.25`, `840`), field("duration_ms", `840.5`, `841`), field("duration_ms", `"840.5"`, `841`),
		field("duration_ms", `-0.4`, `0`), field("duration_ms", `-7`, `0`), field("duration_ms", `-1e300`, `0`),
		field("duration_ms", `1e300`, `9007199254740991`), field("duration_ms", `9007199254740992`, `9007199254740991`),
		field("duration_ms", `99999999999999999999999.5`, `9007199254740991`), field("duration_ms", `1e-400`, `0`),
		field("duration_ms", `"fast"`, `null`), field("duration_ms", `true`, `null`), field("duration_ms", `NaN`, `null`), field("duration_ms", `{}`, `null`),
		fine("duration_ms", `"840"`, `840`), fine("duration_ms", `840.0`, `840`), fine("duration_ms", `null`, `null`), fine("duration_ms", `-0`, `0`),
		field("error", `"`+long+`"`, `"`+long[:9999]+`…"`), fine("error", `"`+long[:10_000]+`"`, `"`+long[:10_000]+`"`),
		field("error", `"a\u0000b"`, `"a�b"`), field("error", `"\ud83d"`, `"�"`), field("error", `{"code":[5]}`, `"{\"code\":[5]}"`),
		field("error", `5e2`, `"5e2"`), field("error", `false`, `"false"`), field("error", `NaN`, `null`), fine("error", `""`, `""`), fine("error", `null`, `null`),
		{name: "an unknown field", says: `"x":"\u0000"`, kept: `"error":null`, repaired: `["x"]`},
		{name: "an unknown field's name", says: `"a\u0000b":1`, kept: `"error":null`, repaired: `["a�b"]`},
		{name: "an unknown field too deep", says: `"x":` + strings.Repeat("[", 99) + strings.Repeat("]", 99), kept: `"error":null`, repaired: `["x"]`},
		{name: "the last of two", says: `"error":"\u0000","error":"b"`, kept: `"error":"b"`},
		{name: "three fields", says: `"x":"\u0000","error":"\ud800","duration_ms":-1`, kept: `"error":"�"`, repaired: `["duration_ms","error","x"]`},
	}
}

// repairedOf is what an answer, or a part of it, names as repaired.
func repairedOf(v any) string {
	fields, ok := v.(map[string]any)["repaired"]
	if !ok {
		return ""
	}
	return string(mustJSON(fields))
}

// onceShown is what is shown of repairs later, when unknown fields are one.
func onceShown(repaired string) string {
	for _, unknown := range []string{`"x"`, `"a�b"`} {
		repaired = strings.Replace(repaired, unknown, `"other"`, 1)
	}
	return strings.Replace(repaired, `["duration_ms","error",`, `["error","duration_ms",`, 1)
}

// check holds an answer and what is shown later against the case. at is the
// place of the run or step in the run's detail.
func (c repairCase) check(t *testing.T, answer, detail *response, at string) {
	t.Helper()
	v, err := decodeJSON(answer.body)
	if err != nil {
		t.Fatal(err)
	}
	if got := repairedOf(v); got != c.repaired {
		t.Errorf("the answer names %s, want %s", got, c.repaired)
	}
	shown := detail.get(at)
	if got := repairedOf(shown); got != onceShown(c.repaired) {
		t.Errorf("the run's detail names %s, want %s", got, onceShown(c.repaired))
	}
	want, err := decodeJSON([]byte("{" + c.kept + "}"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range want.(map[string]any) {
		// Not cmp.Diff, which takes for ever where values are nested.
		if got := shown.(map[string]any)[name]; !reflect.DeepEqual(value, got) {
			t.Errorf("%s is shown as %s, want %s", name, shortBody(mustJSON(got)), shortBody(mustJSON(value)))
		}
	}
}

// detailOf reads a run; its fields stand under "run" too, so that they have a place.
func (w *world) detailOf(a account, run string) *response {
	w.t.Helper()
	r := w.call("GET", "/v1/runs/"+run, a.key, nil).want(http.StatusOK)
	r.body = []byte(`{"run":` + string(r.body) + `}`)
	return r
}

func TestWhatAStartDescribesIsRepaired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Enterprise)
	w.call("PATCH", "/v1/workspace", a.token, `{"max_concurrent_runs":1000}`).want(http.StatusOK)
	cases := append(payloadCases(t, "metadata", true), repairCase{name: "an unknown field", says: `"x":"\u0000"`, kept: `"metadata":null`, repaired: `["x"]`})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			r := w.call("POST", "/v1/runs/", a.key, `{"user_id":"ada",`+c.says+`}`).want(http.StatusCreated)
			if r.text("decision.outcome") != "ALLOW" {
				t.Fatalf("answered %s", r.body)
			}
			c.check(t, r, w.detailOf(a, r.text("id")), "run")
		})
	}
}

func TestWhatAStepDescribesIsRepaired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Enterprise)
	w.call("PATCH", "/v1/workspace", a.token, `{"max_concurrent_runs":1000}`).want(http.StatusOK)
	cases := append(payloadCases(t, "input_data", true), nameCases("tool_name")...)
	cases = append(cases, nameCases("model")...)
	cases = append(cases, repairCase{name: "an unknown field", says: `"x":"\ud800"`, kept: `"tool_name":null`, repaired: `["x"]`})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if strings.HasSuffix(c.name, "too deep") {
				_, sent, _ := strings.Cut(c.says, ":")
				name, _, _ := strings.Cut(c.kept, ":")
				c.kept = name + ":" + cutJSON(omittedJSON(t, sent), 255)
			}
			w := w.in(t)
			run := w.start(a, "ada")
			r := w.call("POST", "/v1/runs/"+run+"/steps", a.key, `{"type":"MODEL_CALL","sequence":1,`+c.says+`}`).want(http.StatusCreated)
			if r.text("decision.outcome") != "ALLOW" {
				t.Fatalf("answered %s", r.body)
			}
			c.check(t, r, w.detailOf(a, run), "run.steps.0")
		})
	}
}

// cutJSON is a text of at most limit characters, as JSON.
func cutJSON(text string, limit int) string {
	if runes := []rune(text); len(runes) > limit {
		text = string(runes[:limit-1]) + "…"
	}
	return string(mustJSON(text))
}

func TestADefectInAReportLosesNoMoney(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Enterprise)
	w.call("PATCH", "/v1/workspace", a.token, `{"max_concurrent_runs":1000}`).want(http.StatusOK)
	w.call("PUT", "/v1/model-pricing/gpt-4o", a.token, `{"input_cost_per_token":0.0000025,"output_cost_per_token":0.00001}`).want(http.StatusOK)
	for _, c := range append(payloadCases(t, "output_data", false), updateCases()...) {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			run := w.start(a, "ada")
			r := w.call("PATCH", w.step(a, run, "gpt-4o"), a.key, `{`+usage+`,`+c.says+`}`).want(http.StatusOK)
			if got := r.text("cost_usd"); got != "0.00225" {
				t.Errorf("the step costs %s, want 0.00225", got)
			}
			c.check(t, r, w.detailOf(a, run), "run.steps.0")
		})
	}
}

// What can be read of a report is booked, whatever stands beside it.
func TestReadableCountsAreBooked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Enterprise)
	w.call("PATCH", "/v1/workspace", a.token, `{"max_concurrent_runs":1000}`).want(http.StatusOK)
	w.call("PUT", "/v1/model-pricing/gpt-4o", a.token, `{"input_cost_per_token":0.0000025,"output_cost_per_token":0.00001}`).want(http.StatusOK)
	tests := []struct {
		prompt   string
		tokens   string
		cost     string
		repaired string
	}{
		{`"500"`, "500", "0.00225", ""}, {`500.0`, "500", "0.00225", ""}, {`5e2`, "500", "0.00225", ""}, {`" 5.0E2 "`, "500", "0.00225", ""},
		{`"+0500"`, "500", "0.00225", ""}, {`"00"`, "0", "0.001", ""}, {`null`, "0", "0.001", ""}, {`-0`, "0", "0.001", ""}, {`"-0"`, "0", "0.001", ""},
		{`500.5`, "0", "0.001", `["prompt_tokens"]`}, {`true`, "0", "0.001", `["prompt_tokens"]`}, {`-1`, "0", "0.001", `["prompt_tokens"]`},
		{`1e13`, "0", "0.001", `["prompt_tokens"]`}, {`1e400`, "0", "0.001", `["prompt_tokens"]`}, {`-1e400`, "0", "0.001", `["prompt_tokens"]`},
		{`1e-400`, "0", "0.001", `["prompt_tokens"]`}, {`1000000000001`, "0", "0.001", `["prompt_tokens"]`}, {`NaN`, "0", "0.001", `["prompt_tokens"]`},
		{`""`, "0", "0.001", `["prompt_tokens"]`}, {`"NaN"`, "0", "0.001", `["prompt_tokens"]`}, {`"1,000"`, "0", "0.001", `["prompt_tokens"]`},
		{`"0x10"`, "0", "0.001", `["prompt_tokens"]`}, {`"5\u0000"`, "0", "0.001", `["prompt_tokens"]`}, {`"5."`, "0", "0.001", `["prompt_tokens"]`},
		{`"` + strings.Repeat("0", 200) + `"`, "0", "0.001", `["prompt_tokens"]`}, {`[500]`, "0", "0.001", `["prompt_tokens"]`}, {`{}`, "0", "0.001", `["prompt_tokens"]`},
		{strings.Repeat("[", 99) + strings.Repeat("]", 99), "0", "0.001", `["prompt_tokens"]`},
	}
	for _, test := range tests {
		for _, swap := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s swapped=%v", shortBody([]byte(test.prompt)), swap), func(t *testing.T) {
				w := w.in(t)
				body := `{"completion_tokens":100,"status":"COMPLETED","prompt_tokens":` + test.prompt + `}`
				if swap {
					body = `{"prompt_tokens":` + test.prompt + `,"status":"COMPLETED","completion_tokens":"1e2"}`
				}
				r := w.call("PATCH", w.step(a, w.start(a, "ada"), "gpt-4o"), a.key, body).want(http.StatusOK)
				got := []string{r.text("status"), r.text("prompt_tokens"), r.text("completion_tokens"), r.text("cost_usd")}
				if diff := cmp.Diff([]string{"COMPLETED", test.tokens, "100", test.cost}, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				v, err := decodeJSON(r.body)
				w.must(err)
				if got := repairedOf(v); got != test.repaired {
					t.Errorf("names %s, want %s", got, test.repaired)
				}
			})
		}
	}
}

func TestAReportWithoutAReadableCountStillEndsItsStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Enterprise)
	r := w.call("PATCH", w.step(a, w.start(a, "ada"), "gpt-4o"), a.key, `{"status":"FAILED","prompt_tokens":"?","completion_tokens":[]}`).want(http.StatusOK)
	if r.text("status") != "FAILED" || r.text("repaired") != `["prompt_tokens","completion_tokens"]` {
		t.Errorf("answered %s", r.body)
	}
}

func TestAnEndIsRepaired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Enterprise)
	run := w.start(a, "ada")
	r := w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"COMPLETED","why":"\u0000"}`).want(http.StatusOK)
	if r.text("status") != "COMPLETED" || r.text("repaired") != `["why"]` {
		t.Errorf("answered %s", r.body)
	}
	if got := w.detailOf(a, run).text("run.repaired"); got != `["other"]` {
		t.Errorf("shown as %s", got)
	}
}

// Fields beyond as many as a body may have are as unknown as all others.
func TestAReportOfManyFieldsIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Enterprise)
	var many strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&many, `"f%d":"\u0000",`, i)
	}
	body := `{` + many.String() + usage + `,"error":"first","error":"last"}`
	r := w.call("PATCH", w.step(a, w.start(a, "ada"), "gpt-4o"), a.key, body).want(http.StatusOK)
	if r.text("prompt_tokens") != "500" || r.text("error") != "last" || len(r.get("repaired").([]any)) != 32 {
		t.Errorf("answered %s", r.body)
	}
}

func TestARepeatedCallAnswersItsRepairsByteForByte(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Enterprise)
	run := w.start(a, "ada")
	for path, body := range map[string]string{
		"/v1/runs/":                  `{"user_id":"ada","metadata":["\u0000"]}`,
		"/v1/runs/" + run + "/steps": `{"type":"TOOL_CALL","sequence":1,"tool_name":"","x":"\ud800"}`,
	} {
		first := w.call("POST", path, a.key, body, "Idempotency-Key", "k").want(http.StatusCreated)
		again := w.call("POST", path, a.key, body, "Idempotency-Key", "k").want(http.StatusCreated)
		if first.get("repaired") == nil || string(first.body) != string(again.body) || again.header.Get("Idempotent-Replay") != "true" {
			t.Errorf("%s: first %s, then %s", path, first.body, again.body)
		}
	}
	if got := w.metric(`pikarc_repaired_fields_total{field="metadata"}`); got != 1 {
		t.Errorf("metadata is counted %v times", got)
	}
	if got := w.metric(`pikarc_repaired_fields_total{field="other"}`); got != 1 {
		t.Errorf("unknown fields are counted %v times", got)
	}
}

func TestSizesOfPayloadsAndBodiesAreSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(cfg *server.Config) { cfg.MaxPayload, cfg.MaxRunBody = 100, 1000 })
	a := w.account(plans.Enterprise)
	step := w.step(a, w.start(a, "ada"), "gpt-4o")
	fits, large := `"`+strings.Repeat("a", 98)+`"`, `"`+strings.Repeat("a", 99)+`"`
	if r := w.call("PATCH", step, a.key, `{"output_data":`+fits+`}`).want(http.StatusOK); r.text("output_data") != strings.Trim(fits, `"`) {
		t.Errorf("100 bytes: %s", r.body)
	}
	if r := w.call("PATCH", step, a.key, `{"output_data":`+large+`}`).want(http.StatusOK); r.text("output_data.omitted_bytes") != "101" {
		t.Errorf("101 bytes: %s", r.body)
	}
	w.call("PATCH", step, a.key, `{"output_data":"`+strings.Repeat("a", 1000)+`"}`).want(http.StatusRequestEntityTooLarge)
}
