package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pikarc/server/plans"
)

// notJSON is the answer to a body that stops being JSON at an offset.
func notJSON(offset int, why string) string {
	return problems(problem("json_invalid", fmt.Sprintf(`["body",%d]`, offset), "JSON decode error", "{}", fmt.Sprintf(`{"error":%q}`, why)))
}

func tooLarge(bytes, setting string) string {
	return detail("The request body is larger than the " + bytes + " bytes that this server takes here, by its setting --" + setting +
		" (PIKARC_" + strings.ToUpper(strings.ReplaceAll(setting, "-", "_")) + ")")
}

func bodyProblem(kind, field, msg, input, ctx string) string {
	return problem(kind, `["body","`+field+`"]`, msg, input, ctx)
}

func nested(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }

// inFloatRange puts 0 in the place of numbers that the validator of documents,
// unlike the server, cannot read. They occur only where a caller's own are repeated.
func inFloatRange(v any) any {
	switch v := v.(type) {
	case json.Number:
		if _, err := v.Float64(); err != nil {
			return json.Number("0")
		}
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = inFloatRange(item)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			out[name] = inFloatRange(member)
		}
		return out
	}
	return v
}

// refused is a call with the key, and its 422.
func refused(name, method, path, body, want string) apiCase {
	as := "key"
	if !isAgentCall(path) {
		as = "admin"
	}
	return apiCase{name: name, method: method, path: path, as: as, body: body, status: http.StatusUnprocessableEntity, want: want}
}

const (
	steps = "/v1/runs/{run}/steps"
	patch = "/v1/runs/{run}/steps/{step}"

	noNUL      = "Value error, must not contain the NUL character"
	noUTF8     = "Value error, must be valid UTF-8"
	noHalves   = "Value error, must be valid Unicode, without unpaired surrogates"
	wantText   = "Input should be a valid string"
	wantInt    = "Input should be a valid integer"
	wantWhole  = "Input should be a valid integer, got a number with a fractional part"
	atMost     = "Input should be less than or equal to "
	atLeast    = "Input should be greater than or equal to "
	wantObject = "Input should be a valid dictionary or object to extract fields from"
)

func brokenBodies() []apiCase {
	return []apiCase{
		refused("cut short", "POST", "/v1/runs/", `{"user_id":"ada"`, notJSON(16, "Expecting ',' delimiter")),
		refused("comma at the end", "POST", "/v1/runs/", `{"user_id":"ada",}`, notJSON(17, "Expecting property name enclosed in double quotes")),
		refused("something after", "POST", "/v1/runs/", `{"user_id":"ada"}{}`, notJSON(17, "Extra data")),
		refused("quotes of Python", "POST", "/v1/runs/", `{'user_id':'ada'}`, notJSON(1, "Expecting property name enclosed in double quotes")),
		refused("byte order mark", "POST", "/v1/runs/", "\ufeff"+`{"user_id":"ada"}`, notJSON(0, "Expecting value")),
		refused("NaN", "POST", patch[:len(steps)], `{"type":"INPUT","sequence":NaN}`, notJSON(27, "Expecting value")),
		refused("form", "POST", "/v1/runs/", `user_id=ada`, notJSON(0, "Expecting value")),
		refused("only white space", "POST", "/v1/runs/", " \n", problems(problem("missing", `["body"]`, "Field required", "null", ""))),
		refused("array", "POST", "/v1/runs/", `["ada"]`, problems(problem("model_attributes_type", `["body"]`, wantObject, `["***"]`, ""))),
		refused("null", "POST", "/v1/runs/", `null`, problems(problem("model_attributes_type", `["body"]`, wantObject, `null`, ""))),
		refused("number", "POST", "/v1/runs/", `1e400`, problems(problem("model_attributes_type", `["body"]`, wantObject, `1e400`, ""))),
		refused("raw NUL", "POST", "/v1/runs/", "{\"user_id\":\"a\x00b\"}", notJSON(13, "Invalid control character in a string")),
		refused("only NUL", "POST", "/v1/runs/", "\x00", notJSON(0, "Expecting value")),
		refused("invalid UTF-8", "POST", "/v1/runs/", "{\"user_id\":\"a\xffb\"}", notJSON(13, "Invalid UTF-8")),
		refused("overlong UTF-8", "POST", "/v1/runs/", "{\"user_id\":\"\xc0\xaf\"}", notJSON(12, "Invalid UTF-8")),
		refused("surrogate in UTF-8", "POST", "/v1/runs/", "{\"user_id\":\"\xed\xa0\x80\"}", notJSON(12, "Invalid UTF-8")),
		refused("65 levels", "PATCH", "/v1/workspace/", `{"name":`+nested(64)+`}`, notJSON(len(`{"name":`)+63, "Nesting deeper than 64 levels")),
		{
			name: "64 levels", method: "POST", path: "/v1/runs/", as: "key", body: `{"user_id":"ada","metadata":{"a":` + nested(62) + `}}`,
			status: http.StatusCreated, changes: "runs usage users",
		},
		{
			name: "17 MiB", method: "POST", path: "/v1/runs/", as: "key", body: `{"user_id":"` + strings.Repeat("a", 17<<20) + `"}`,
			status: http.StatusRequestEntityTooLarge, want: tooLarge("16777216", "max-run-body"),
		},
		{
			name: "2 MiB", method: "PATCH", path: "/v1/workspace/", as: "admin", body: `{"name":"` + strings.Repeat("a", 2<<20) + `"}`,
			status: http.StatusRequestEntityTooLarge, want: tooLarge("1048576", "max-body"),
		},
	}
}

func brokenFields() []apiCase {
	name256 := strings.Repeat("x", 256)
	return []apiCase{
		refused("missing", "POST", steps, `{}`, problems(missing("type", "{}"), missing("sequence", "{}"))),
		refused("wrong types", "POST", steps, `{"type":1,"sequence":"1","model":[],"tool_name":true,"input_data":"x"}`, problems(
			bodyProblem("literal_error", "type", "Input should be 'MODEL_CALL', 'TOOL_CALL', 'INPUT', 'OUTPUT', 'REASONING' or 'SYSTEM'", "1",
				`{"expected":"'MODEL_CALL', 'TOOL_CALL', 'INPUT', 'OUTPUT', 'REASONING' or 'SYSTEM'"}`),
			bodyProblem("int_type", "sequence", wantInt, `"1"`, ""))),
		refused("null", "POST", "/v1/runs/", `{"user_id":null}`, problems(bodyProblem("string_type", "user_id", wantText, "null", ""))),
		refused("NUL", "POST", "/v1/runs/", `{"user_id":"a\u0000b"}`, problems(bodyProblem("value_error", "user_id", noNUL, `"a\u0000b"`, ""))),
		refused("half a surrogate pair", "POST", "/v1/runs/", `{"user_id":"\ud83d"}`,
			problems(bodyProblem("value_error", "user_id", noHalves, `"\ud83d"`, ""))),
		refused("deep", "POST", "/v1/runs/", `{"user_id":`+nested(1)+`}`, problems(bodyProblem("string_type", "user_id", wantText, "[]", ""))),
		refused("no characters", "POST", "/v1/runs/", `{"user_id":""}`,
			problems(bodyProblem("string_too_short", "user_id", "String should have at least 1 character", `""`, `{"min_length":1}`))),
		refused("256 characters", "POST", "/v1/runs/", `{"user_id":"`+name256+`"}`, problems(tooLong(`["body","user_id"]`, `"`+name256+`"`, "255"))),
		refused("256 characters", "PUT", "/v1/model-pricing/"+name256, `{"input_cost_per_token":1,"output_cost_per_token":1}`,
			problems(tooLong(`["path","model"]`, `"`+name256+`"`, "255"))),
		{
			name: "255 astral characters", method: "POST", path: "/v1/runs/", as: "key", body: `{"user_id":"` + strings.Repeat("🦀", 255) + `"}`,
			status: http.StatusCreated, changes: "runs usage users",
		},
		{
			name: "255 astral characters, escaped", method: "POST", path: "/v1/runs/", as: "key",
			body: `{"user_id":"` + strings.Repeat(`\ud83e\udd80`, 255) + `"}`, status: http.StatusCreated, changes: "runs usage users",
		},
		{
			name: "marks of an address", method: "POST", path: "/v1/runs/", as: "key", body: `{"user_id":"a/b?c#d%e%2F"}`,
			status: http.StatusCreated, changes: "runs usage users",
		},
		{
			name: "the last of two wins", method: "POST", path: "/v1/runs/{run}/end", as: "key", body: `{"status":"NONE","status":"FAILED"}`,
			status: http.StatusOK, want: `{"id":"{run}","status":"FAILED","ended_at":` + atCall + `}`, changes: "runs usage users",
		},
		refused("the last of two wins", "POST", "/v1/runs/{run}/end", `{"status":"FAILED","status":"FAILED","status":"\u0000"}`,
			problems(bodyProblem("value_error", "status", noNUL, `"\u0000"`, ""))),
		{
			name: "words in the body", method: "POST", path: steps, as: "key", body: `{"type":"MODEL_CALL","sequence":1,"model":"a model / with spaces"}`,
			status: http.StatusCreated, changes: "runs",
		},
	}
}

func brokenNumbers() []apiCase {
	price := func(in string) string { return `{"input_cost_per_token":` + in + `,"output_cost_per_token":0}` }
	const inputPrice, budget = "input_cost_per_token", "daily_budget_usd"
	setPrice := func(name, in, kind, msg, ctx string) apiCase {
		return refused(name, "PUT", "/v1/model-pricing/gpt-4o", price(in), problems(bodyProblem(kind, inputPrice, msg, in, ctx)))
	}
	setBudget := func(name, in, kind, msg, ctx string) apiCase {
		return refused(name, "PATCH", "/v1/workspace/", `{"daily_budget_usd":`+in+`}`, problems(bodyProblem(kind, budget, msg, in, ctx)))
	}
	const billion, million = "1000000000", "1000000"
	return []apiCase{
		refused("2^53", "POST", steps, `{"type":"INPUT","sequence":9007199254740992}`,
			problems(bodyProblem("less_than_equal", "sequence", atMost+"9007199254740991", "9007199254740992", `{"le":9007199254740991}`))),
		refused("1e400", "POST", steps, `{"type":"INPUT","sequence":1e400}`,
			problems(bodyProblem("less_than_equal", "sequence", atMost+"9007199254740991", "1e400", `{"le":9007199254740991}`))),
		refused("-1e400", "POST", steps, `{"type":"INPUT","sequence":-1e400}`,
			problems(bodyProblem("greater_than_equal", "sequence", atLeast+"1", "-1e400", `{"ge":1}`))),
		refused("1e-400", "POST", steps, `{"type":"INPUT","sequence":1e-400}`, problems(bodyProblem("int_from_float", "sequence", wantWhole, "1e-400", ""))),
		refused("bool", "POST", steps, `{"type":"INPUT","sequence":true}`, problems(bodyProblem("int_type", "sequence", wantInt, "true", ""))),
		{name: "-0", method: "PATCH", path: patch, as: "key", body: `{"prompt_tokens":-0}`, status: http.StatusOK, changes: "runs"},
		setBudget("1e400", "1e400", "less_than_equal", atMost+billion, `{"le":`+billion+`}`),
		setBudget("a nano too much", "1000000000.000000001", "less_than_equal", atMost+billion, `{"le":`+billion+`}`),
		setBudget("0.0000000001", "0.0000000001", "decimal_max_places", "Decimal input should have no more than 9 decimal places; send 0.000000001", `{"decimal_places":9}`),
		setBudget("1e-400", "1e-400", "decimal_max_places", "Decimal input should have no more than 9 decimal places; send 0.000000001", `{"decimal_places":9}`),
		setBudget("-1", "-1", "greater_than_equal", atLeast+"0", `{"ge":0}`),
		setBudget("text NaN", `"NaN"`, "finite_number", "Input should be a finite number", ""),
		setBudget("text Infinity", `"-Infinity"`, "finite_number", "Input should be a finite number", ""),
		setBudget("text", `"ten"`, "decimal_parsing", "Input should be a valid decimal", ""),
		setBudget("no text", `""`, "decimal_parsing", "Input should be a valid decimal", ""),
		setBudget("list", `[1]`, "decimal_type", "Decimal input should be an integer, float, string or Decimal object", ""),
		{
			name: "-0", method: "PATCH", path: "/v1/workspace/", as: "admin", body: `{"daily_budget_usd":-0}`, status: http.StatusOK, changes: "workspace",
			want: scaleWorkspace(`"daily_budget_usd":null`, `"daily_budget_usd":0`),
		},
		setPrice("1e400", "1e400", "less_than_equal", atMost+million, `{"le":`+million+`}`),
		setPrice("13 decimals", "0.0000000000001", "decimal_max_places", "Decimal input should have no more than 12 decimal places; send 0.000000000001", `{"decimal_places":12}`),
		setPrice("null", "null", "decimal_type", "Decimal input should be an integer, float, string or Decimal object", ""),
		setPrice("text NaN", `"nan"`, "finite_number", "Input should be a finite number", ""),
		{
			name: "10 decimals", method: "PUT", path: "/v1/model-pricing/a%20b/c%2Fd", as: "admin", body: price("0.0000000001"), status: http.StatusOK,
			want:    `{"id":"<id>","model":"a b/c/d","input_cost_per_token":0.0000000001,"output_cost_per_token":0,"is_active":true}`,
			changes: "prices",
		},
		{
			name: "1e400 where anything goes", method: "POST", path: "/v1/runs/", as: "key", body: `{"user_id":"ada","metadata":{"n":[1e400,-0]}}`,
			status: http.StatusCreated, changes: "runs usage users",
		},
	}
}

func brokenAddresses() []apiCase {
	get := func(name, path, want string) apiCase { return refused(name, "GET", path, "", want) }
	const anID = "01a00000-0000-4000-8000-000000000000" // of no version that the server makes
	const words = "expected 32 hexadecimal digits in groups of 8-4-4-4-12"
	noUUID := func(name, input string) string {
		return problems(problem("uuid_parsing", `["path","`+name+`"]`, "Input should be a valid UUID, "+words, input, `{"error":"`+words+`"}`))
	}
	noCursor := func(name, input string) string {
		return problems(problem("value_error", `["query","`+name+`"]`, "Value error, not a cursor of this list", input, ""))
	}
	const aCursor = "AQAAAAAAAAABAaAAAAAAcACAAAAAAAAAAAAAAA"
	return []apiCase{
		get("no UUID", "/v1/runs/ada", noUUID("run_id", `"ada"`)),
		get("36 other characters", "/v1/runs/"+strings.Repeat("x", 36), noUUID("run_id", `"`+strings.Repeat("x", 36)+`"`)),
		get("UUID in braces", "/v1/runs/%7B"+anID+"%7D", noUUID("run_id", `"{`+anID+`}"`)),
		get("UUID as a URN", "/v1/runs/urn:uuid:"+anID, noUUID("run_id", `"urn:uuid:`+anID+`"`)),
		get("UUID without hyphens", "/v1/runs/"+strings.ReplaceAll(anID, "-", ""), noUUID("run_id", `"`+strings.ReplaceAll(anID, "-", "")+`"`)),
		get("NUL", "/v1/runs/%00", noUUID("run_id", `"\u0000"`)),
		get("no UTF-8", "/v1/runs/%ff", noUUID("run_id", `"\ufffd"`)),
		refused("no UUID", "PATCH", "/v1/runs/{run}/steps/1", `{}`, noUUID("step_id", `"1"`)),
		refused("NUL", "PUT", "/v1/blocked-users/a%00b", "", problems(problem("value_error", `["path","user_id"]`, noNUL, `"a\u0000b"`, ""))),
		refused("no UTF-8", "DELETE", "/v1/blocked-users/a%ffb", "", problems(problem("value_error", `["path","user_id"]`, noUTF8, `"a\ufffdb"`, ""))),
		{
			name: "marks of an address", method: "PUT", path: "/v1/blocked-users/a%2Fb%3Fc%23d%25e%252F", as: "admin", status: http.StatusOK,
			want: userJSON("a/b?c#d%e%2F", atCall, "null", "0", "null"), changes: "users",
		},
		get("NUL", "/v1/runs/?user_id=%00", problems(problem("value_error", `["query","user_id"]`, noNUL, `"\u0000"`, ""))),
		get("no UTF-8", "/v1/users/?q=%c3%28", problems(problem("value_error", `["query","q"]`, noUTF8, `"\ufffd("`, ""))),
		get("broken escape", "/v1/runs/?limit=%zz", problems(problem("value_error", `["query"]`, "Value error, malformed escape in the query string", `"limit=%zz"`, ""))),
		get("huge number", "/v1/runs/?limit=99999999999999999999", problems(problem("less_than_equal", `["query","limit"]`, atMost+"200", `"99999999999999999999"`, `{"le":200}`))),
		get("number with a fraction", "/v1/usage/daily?days=1.0", problems(problem("int_parsing", `["query","days"]`, wantInt+", unable to parse string as an integer", `"1.0"`, ""))),
		get("no cursor", "/v1/runs/?cursor=x", noCursor("cursor", `"x"`)),
		get("cursor without its checksum", "/v1/runs/?cursor="+aCursor, noCursor("cursor", `"`+aCursor+`"`)),
		get("no steps cursor", "/v1/runs/{run}?steps_cursor=%00", problems(problem("value_error", `["query","steps_cursor"]`, noNUL, `"\u0000"`, ""))),
	}
}

func TestEachBrokenInputHasAClearError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, cases := range [][]apiCase{brokenBodies(), brokenFields(), brokenNumbers(), brokenAddresses()} {
		runCases(t, w, cases)
	}
}

func TestACursorOfAnotherListIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, other := w.makeWatched(), w.makeFixture(plans.Scale)
	asked := []string{"/v1/runs?limit=1&cursor=", "/v1/users?limit=1&cursor=", "/v1/audit?limit=1&cursor=", v.fill("/v1/runs/{run}?steps_cursor=")}
	for i, path := range asked {
		name := strings.TrimSuffix(path[strings.LastIndexAny(path, "&?")+1:], "=")
		for j, cursor := range v.cursors {
			refusal := problems(problem("value_error", `["query","`+name+`"]`, "Value error, not a cursor of this list", `"`+cursor+`"`, ""))
			if i == j {
				w.call("GET", path+cursor, v.key, nil).want(http.StatusOK)
			} else {
				wantBody(t, w.call("GET", path+cursor, v.key, nil).want(http.StatusUnprocessableEntity), refusal)
			}
			foreign := strings.Replace(path, v.names["{run}"], other.names["{run}"], 1)
			wantBody(t, w.call("GET", foreign+cursor, other.key, nil).want(http.StatusUnprocessableEntity), refusal)
		}
	}
}

// The cost of these tokens is beyond the ledger, though each number is within its bounds.
func TestHundredsOfBillionsOfTokensAreBookedUpToTheBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.makeFixture(plans.Scale)
	w.call("PUT", "/v1/model-pricing/gpt-4o", f.token, `{"input_cost_per_token":1000000,"output_cost_per_token":999999.999999999999}`).want(http.StatusOK)
	for _, tokens := range []string{
		`"prompt_tokens":300000000000`, `"completion_tokens":999999999999`, `"prompt_tokens":1000000000000,"completion_tokens":1000000000000`,
		`"prompt_tokens":101,"completion_tokens":0`, `"prompt_tokens":100,"completion_tokens":1`,
	} {
		r := w.call("PATCH", f.fill(patch), f.key, `{"status":"COMPLETED",`+tokens+`,"output_data":[1]}`).want(http.StatusOK)
		if r.text("cost_usd") != "100000000" || r.text("capped") != "true" {
			t.Errorf("%s answered %s", tokens, r.body)
		}
	}
	r := w.call("PATCH", f.fill(patch), f.key, `{"prompt_tokens":100,"completion_tokens":0}`).want(http.StatusOK)
	if r.text("cost_usd") != "100000000" || strings.Contains(string(r.body), "capped") {
		t.Errorf("what fits answered %s", r.body)
	}
}
