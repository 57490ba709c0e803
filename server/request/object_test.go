package request

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAllProblemsOfABodyAtOnceInFieldOrder(t *testing.T) {
	register := func(o *Object) {
		o.String("email", 3, 320)
		o.Secret("password", 8, 1024)
		o.OptionalString("workspace_name", 1, 255)
		o.RefuseUnknown()
	}
	stepUpdate := func(o *Object) {
		o.OptionalLiteral("status", "COMPLETED", "FAILED")
		o.OptionalInt("duration_ms", 0, 1e15)
		o.OptionalInt("prompt_tokens", 0, 1e12)
		o.OptionalInt("completion_tokens", 0, 1e12)
		o.JSON("output_data")
		o.OptionalString("error", 0, 10)
	}
	price := func(o *Object) {
		o.Price("input_cost_per_token")
		o.Price("output_cost_per_token")
		o.OptionalBool("is_active", true)
		o.RefuseUnknown()
	}
	tests := []struct {
		name, body string
		read       func(*Object)
		want       []string
	}{
		{
			"registration", `{"zip": 1, "workspace_name": "", "passwrd": "correct horse", "password": "short1", "password2": ["short1"]}`, register,
			[]string{
				`{"type":"missing","loc":["body","email"],"msg":"Field required","input":{"zip":"***","workspace_name":"","passwrd":"***","password":"***","password2":"***"}}`,
				`{"type":"string_too_short","loc":["body","password"],"msg":"String should have at least 8 characters","input":"***","ctx":{"min_length":8}}`,
				`{"type":"string_too_short","loc":["body","workspace_name"],"msg":"String should have at least 1 character","input":"","ctx":{"min_length":1}}`,
				`{"type":"extra_forbidden","loc":["body","zip"],"msg":"Extra inputs are not permitted","input":"***"}`,
				`{"type":"extra_forbidden","loc":["body","passwrd"],"msg":"Extra inputs are not permitted","input":"***"}`,
				`{"type":"extra_forbidden","loc":["body","password2"],"msg":"Extra inputs are not permitted","input":"***"}`,
			},
		},
		{
			"step update", `{"error":7, "output_data":{"a":"\u0000"}, "prompt_tokens":"12","completion_tokens":1.5,"duration_ms":-1,"status":"RUNNING","new":{"fine":true},"newer":"\ud800"}`, stepUpdate,
			[]string{
				`{"type":"literal_error","loc":["body","status"],"msg":"Input should be 'COMPLETED' or 'FAILED'","input":"RUNNING","ctx":{"expected":"'COMPLETED' or 'FAILED'"}}`,
				`{"type":"greater_than_equal","loc":["body","duration_ms"],"msg":"Input should be greater than or equal to 0","input":-1,"ctx":{"ge":0}}`,
				`{"type":"int_type","loc":["body","prompt_tokens"],"msg":"Input should be a valid integer","input":"12"}`,
				`{"type":"int_from_float","loc":["body","completion_tokens"],"msg":"Input should be a valid integer, got a number with a fractional part","input":1.5}`,
				`{"type":"value_error","loc":["body","output_data"],"msg":"Value error, must not contain the NUL character","input":{"a":"\u0000"}}`,
				`{"type":"string_type","loc":["body","error"],"msg":"Input should be a valid string","input":7}`,
				`{"type":"value_error","loc":["body","newer"],"msg":"Value error, must be valid Unicode, without unpaired surrogates","input":"\ud800"}`,
			},
		},
		{
			"price", `{"\u0000":1, "is_active":null, "output_cost_per_token":"0.0000000000001", "extra":"<a&b>"}`, price,
			[]string{
				`{"type":"value_error","loc":["body"],"msg":"Value error, must not contain the NUL character","input":{"\u0000":1,"is_active":null,"output_cost_per_token":"0.0000000000001","extra":"<a&b>"}}`,
				`{"type":"missing","loc":["body","input_cost_per_token"],"msg":"Field required","input":{"\u0000":1,"is_active":null,"output_cost_per_token":"0.0000000000001","extra":"<a&b>"}}`,
				`{"type":"decimal_max_places","loc":["body","output_cost_per_token"],"msg":"Decimal input should have no more than 12 decimal places; send 0.000000000001","input":"0.0000000000001","ctx":{"decimal_places":12}}`,
				`{"type":"bool_type","loc":["body","is_active"],"msg":"Input should be a valid boolean","input":null}`,
				`{"type":"extra_forbidden","loc":["body","\u0000"],"msg":"Extra inputs are not permitted","input":1}`,
				`{"type":"extra_forbidden","loc":["body","extra"],"msg":"Extra inputs are not permitted","input":"<a&b>"}`,
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := mustReadObject(t, test.body)
			test.read(o)
			want := "[" + strings.Join(test.want, ",") + "]"
			if got := problemsJSON(t, o.Err()); got != want {
				t.Errorf("problems\n got %s\nwant %s", strings.ReplaceAll(got, `},{"type"`, "},\n{\"type\""), strings.Join(test.want, ",\n"))
			}
			if again := problemsJSON(t, o.Err()); again != want {
				t.Errorf("Err called again says %s", again)
			}
		})
	}
}

func TestRefuseUnknownTellsADuplicateOnceInTheOrderSent(t *testing.T) {
	o := mustReadObject(t, `{"z":1,"name":"n","a\\b":2,"z":3}`)
	o.PresentString("name", 1, 9)
	o.RefuseUnknown()
	wantProblems(t, o.Err(), `[{"type":"extra_forbidden","loc":["body","z"],"msg":"Extra inputs are not permitted","input":3},`+
		`{"type":"extra_forbidden","loc":["body","a\\b"],"msg":"Extra inputs are not permitted","input":2}]`)
}

func TestDefectiveKeyHidesNoFieldWithoutAName(t *testing.T) {
	o := mustReadObject(t, `{"\u0000":1,"":2}`)
	o.RefuseUnknown()
	if got := problemsJSON(t, o.Err()); !strings.Contains(got, `"loc":["body",""]`) {
		t.Errorf("got %s", got)
	}
}

func TestKeysAreEchoedAsJSON(t *testing.T) {
	o := mustReadObject(t, `{"a\\b":1,"c\"d":2,"é\n":3}`)
	o.Bool("x")
	wantProblems(t, o.Err(), `[{"type":"missing","loc":["body","x"],"msg":"Field required","input":{"a\\b":1,"c\"d":2,"é\n":3}}]`)
}

func TestUnknownFieldsAreIgnoredUnlessRefused(t *testing.T) {
	o := mustReadObject(t, `{"z":{"deep":[1]},"name":"n","z":1}`)
	o.String("name", 1, 9)
	wantProblems(t, o.Err(), "[]")
}

func TestSecretsAreMaskedWhateverTheOrderOfReading(t *testing.T) {
	const body = `{"passphrase_of_mine":"hunter2!","nested":{"API_\u004bey":{"a":["hunter2!"]},"fine":1},"pin":"hunter2!"}`
	orders := map[string]func(*Object){
		"missing first":            func(o *Object) { o.String("email", 1, 9); o.Secret("pin", 20, 30) },
		"secret first":             func(o *Object) { o.Secret("pin", 20, 30); o.String("email", 1, 9) },
		"wrong reader for nested":  func(o *Object) { o.Secret("pin", 20, 30); o.String("nested", 1, 9) },
		"a forgotten Secret":       func(o *Object) { o.String("passphrase_of_mine", 20, 30); o.Secret("pin", 20, 30) },
		"unknown fields":           func(o *Object) { o.Secret("pin", 20, 30); o.RefuseUnknown() },
		"a secret of a wrong type": func(o *Object) { o.Secret("nested", 1, 9); o.Secret("pin", 1, 2); o.String("email", 1, 9) },
	}
	for name, read := range orders {
		o := mustReadObject(t, body)
		read(o)
		got := problemsJSON(t, o.Err())
		if strings.Contains(got, "hunter2!") || !strings.Contains(got, `"***"`) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestNamesThatSoundSecret(t *testing.T) {
	for _, name := range []string{"password", "new_password", "PASSWD", "pass", "api_key", "apiKey", "client_secret", "token", "access_token", "refreshToken", "tokens", "Authorization"} {
		if !isSecretName(name) {
			t.Errorf("%s is shown", name)
		}
	}
	for _, name := range []string{"", "email", "prompt_tokens", "completion_tokens", "input_cost_per_token", "output_cost_per_token", "model", "user_id", "label"} {
		if isSecretName(name) {
			t.Errorf("%s is masked", name)
		}
	}
}

func TestAnAPIKeyInTheWrongPlaceIsMasked(t *testing.T) {
	key := "lg_0a1b2c3d_" + strings.Repeat("5e", 32)
	o := mustReadObject(t, `{"user_id":5,"label":"my lg_ key is `+key+`","list":["`+key+`","lg_short"]}`)
	o.Int("label", 1, 2)
	o.Int("list", 1, 2)
	o.String("missing", 1, 2)
	errs := Join(o.Err(), Invalid([]any{"query", "cursor"}, "broken", key), Invalid(nil, "broken", json.RawMessage(`["`+key+`"]`)))
	_, err := PathUUID(key, "run_id")
	got := problemsJSON(t, Join(errs, err))
	if strings.Contains(got, "5e5e") || strings.Count(got, "***") != 7 || !strings.Contains(got, "lg_short") {
		t.Errorf("got %s", got)
	}
}

func TestLongInputsAreCutToTheirFirstCharacters(t *testing.T) {
	fits := `"` + strings.Repeat("x", maxInput-2) + `"`
	got := oneField(t, fits, func(o *Object) { o.Int("f", 1, 9) })
	if want := at("int_type", "Input should be a valid integer", fits, ""); got != want {
		t.Errorf("%d bytes are cut: %s", len(fits), got)
	}
	got = oneField(t, `"`+strings.Repeat("ü", maxInput)+`"`, func(o *Object) { o.Int("f", 1, 9) })
	if want := at("int_type", "Input should be a valid integer", `"`+strings.Repeat("ü", 256)+`…"`, ""); got != want {
		t.Errorf("a long text: %s", got)
	}
	list := `["` + strings.Repeat("y", maxInput) + `"]`
	got = oneField(t, list, func(o *Object) { o.Int("f", 1, 9) })
	if want := at("int_type", "Input should be a valid integer", `"[\"`+strings.Repeat("y", 254)+`…"`, ""); got != want {
		t.Errorf("a long list: %s", got)
	}
	got = oneField(t, list, func(o *Object) { o.Int("g", 1, 9) })
	if want := `{"type":"missing","loc":["body","g"],"msg":"Field required","input":"{\"f\":[\"` + strings.Repeat("y", 249) + `…"}`; got != want {
		t.Errorf("a long enclosing object: %s", got)
	}
	if got := redactText("q", strings.Repeat("z", maxInput+1)); got != strings.Repeat("z", 256)+"…" {
		t.Errorf("a long parameter: %v", got)
	}
}

func TestABodyOfTooManyFieldsIsRefused(t *testing.T) {
	full := strings.TrimSuffix(strings.Repeat(`"a":1,`, maxMembers), ",")
	if _, err := parseObject([]byte("{" + full + "}")); err != nil {
		t.Errorf("%d fields: %v", maxMembers, err)
	}
	var v *ValidationError
	_, err := parseObject([]byte("{" + full + `,"b":2}`))
	if !errors.As(err, &v) || v.Problems[0].Type != "json_invalid" {
		t.Errorf("one field more: %v", err)
	}
}

func TestABodyFullOfUnknownFieldsGetsASmallAnswer(t *testing.T) {
	var body strings.Builder
	body.WriteString(`{"` + strings.Repeat("n", 100_000) + `":1`)
	for i := range maxMembers - 1 {
		fmt.Fprintf(&body, `,"f%d":0`, i)
	}
	body.WriteString("}")
	o := mustReadObject(t, body.String())
	o.String("name", 1, 9)
	o.RefuseUnknown()
	got := problemsJSON(t, o.Err())
	if n := strings.Count(got, `"extra_forbidden"`); n != maxProblems-1 {
		t.Errorf("%d problems besides the missing field, want %d", n, maxProblems-1)
	}
	if len(got) > 32<<10 {
		t.Errorf("an answer of %d bytes", len(got))
	}
}

func TestJoinProblems(t *testing.T) {
	first := Invalid([]any{"query", "cursor"}, "broken cursor", "xyz")
	second := Invalid([]any{"body"}, "nothing to change", json.RawMessage(`{ "password" : "p" }`))
	wantProblems(t, Join(nil, first, nil, fmt.Errorf("step: %w", second)),
		`[{"type":"value_error","loc":["query","cursor"],"msg":"Value error, broken cursor","input":"xyz"},`+
			`{"type":"value_error","loc":["body"],"msg":"Value error, nothing to change","input":{"password":"***"}}]`)
	if err := Join(nil, nil); err != nil {
		t.Errorf("no problems join to %v", err)
	}
	if err := Join(); err != nil {
		t.Errorf("nothing joins to %v", err)
	}
	other := errors.New("other")
	if err := Join(first, other, second); !errors.Is(err, other) {
		t.Errorf("another error is lost: %v", err)
	}
}

func TestInvalidTakesAnyInput(t *testing.T) {
	wantProblems(t, Join(Invalid(nil, "a", nil), Invalid([]any{"body"}, "b", 5), Invalid(nil, "c", json.RawMessage("{broken"))),
		`[{"type":"value_error","loc":null,"msg":"Value error, a","input":null},{"type":"value_error","loc":["body"],"msg":"Value error, b","input":5},`+
			`{"type":"value_error","loc":null,"msg":"Value error, c","input":"***"}]`)
}

func TestValidationErrorTextHoldsNoInput(t *testing.T) {
	o := mustReadObject(t, `{"name":"visible"}`)
	o.Int("name", 1, 2)
	o.Int("sequence", 1, 2)
	if got, want := o.Err().Error(), "invalid request: int_type at [body name], missing at [body sequence]"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzReadObject(f *testing.F) {
	const secret = "sw0rdfish-0815"
	for _, seed := range []string{
		`{}`, `{"a":1}`, `[`, `null`, `{"s":"x","i":1e2,"d":{"k":[1,{}]},"p":"0.5","b":null,"l":"A","t":true}`,
		`{"i":1e999999999,"p":-0,"b":"NaN","s":"\ud800\u0000","s":"\ud83d\ude42"}`, "{\"\xff\":1}", `{"d":{"token":"t"},"x":[ ]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		body := strings.TrimSpace(sent)
		withSecret := strings.HasPrefix(body, "{") && !strings.Contains(sent, secret)
		if withSecret { // as the first field, so that the rest decides what becomes of it
			body = `{"pin":"` + secret + `",` + body[1:]
		}
		o, err := ReadObject(nil, post(body), testLimit())
		if err != nil {
			if got := problemsJSON(t, err); strings.Contains(got, secret) {
				t.Errorf("the secret shows in %s", got)
			}
			return
		}
		if !json.Valid([]byte(body)) {
			t.Errorf("accepted %q", body)
		}
		if s := o.String("s", 1, 9); !utf8.ValidString(s) || strings.Contains(s, "\x00") || utf8.RuneCountInString(s) > 9 {
			t.Errorf("text %q", s)
		}
		if i := o.Int("i", 1, 9); i < 0 || i > 9 {
			t.Errorf("int %d", i)
		}
		o.Literal("l", "A")
		o.Bool("t")
		fields := map[string]any{"p": o.Price("p")}
		fields["b"], _ = o.Budget("b")
		if d := o.Dict("d"); d != nil {
			fields["d"] = d
		}
		if x := o.JSON("x"); x != nil {
			fields["x"] = x
		}
		if _, err := json.Marshal(fields); err != nil {
			t.Errorf("fields do not re-encode: %v", err)
		}
		o.Secret("pin", 20, 30)
		o.RefuseUnknown()
		if got := problemsJSON(t, o.Err()); withSecret && strings.Contains(got, secret) {
			t.Errorf("the secret shows in %s", got)
		}
	})
}
