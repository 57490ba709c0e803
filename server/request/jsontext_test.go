package request

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestScanKeepsMembersInOrderWithTheirDefects(t *testing.T) {
	text, err := scanJSON([]byte(` { "a" : [ "\u0000" ] , "\u0062" :{"\ud800":1}, "c":"\\u0000 \ud83d\ude42", "\udc00":0 } `))
	if err != nil {
		t.Fatal(err)
	}
	want := []member{
		{key: []byte("a"), value: []byte(`[ "\u0000" ]`), defects: defectNUL},
		{key: []byte("b"), value: []byte(`{"\ud800":1}`), defects: defectSurrogate},
		{key: []byte("c"), value: []byte(`"\\u0000 \ud83d\ude42"`)},
		{key: []byte("\ufffd"), value: []byte("0")},
	}
	if text.kind != '{' || text.keyDefects != defectSurrogate || len(text.members) != len(want) {
		t.Fatalf("got %+v", text)
	}
	for i, m := range text.members {
		if !bytes.Equal(m.key, want[i].key) || !bytes.Equal(m.value, want[i].value) || m.defects != want[i].defects {
			t.Errorf("member %d: %q: %q, defects %d", i, m.key, m.value, m.defects)
		}
	}
}

// FuzzScanAgreesWithEncodingJSON holds the scanner against the standard
// library, which is laxer only about UTF-8 and depth.
func FuzzScanAgreesWithEncodingJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-0.5e+3,"\u00e9\n",true,false,null,{}]}`, `[]`, `-`, `01`, `1.e2`, `"\u12"`, `{"a":1,}`, ` 1 2`, "\"\x1f\"", `[[[[]]]`, `"\ud83d\ude42"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text, err := scanJSON(data)
		if err != nil {
			var syntax *syntaxError
			if !errors.As(err, &syntax) || syntax.offset < 0 || syntax.offset > len(data) {
				t.Fatalf("error %#v", err)
			}
			if json.Valid(data) && utf8.Valid(data) && !strings.HasPrefix(syntax.text, "Nesting") {
				t.Errorf("refused %q: %v at %d", data, err, syntax.offset)
			}
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		var want bytes.Buffer
		if err := json.Compact(&want, data); err != nil {
			t.Fatal(err)
		}
		if got := compactJSON(data); !bytes.Equal(got, want.Bytes()) {
			t.Errorf("compact %q, want %q", got, want.Bytes())
		}
		if !json.Valid(compactMasked(data)) {
			t.Errorf("masked to %q", compactMasked(data))
		}
		for _, m := range text.members {
			if !utf8.Valid(m.key) || !json.Valid(m.value) {
				t.Errorf("member %q: %q", m.key, m.value)
			}
		}
	})
}

func FuzzParseInteger(f *testing.F) {
	for _, seed := range []string{"0", "-0", "1e2", "1.50e1", "-9223372036854775808", "9223372036854775808", "1e-1", "0.001e3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, number string) {
		if text, err := scanJSON([]byte(number)); err != nil || text.kind != '-' && !isDigit(text.kind) || len(number) > 40 {
			return
		}
		number = strings.TrimSpace(number)
		n, err := parseInteger(number)
		exact, small := ratio(number)
		if !small {
			return
		}
		switch {
		case err == nil && (!exact.IsInt() || !exact.Num().IsInt64() || exact.Num().Int64() != n):
			t.Errorf("%s reads as %d", number, n)
		case errors.Is(err, errFraction) && exact.IsInt():
			t.Errorf("%s is whole", number)
		case errors.Is(err, errTooHigh) && (!exact.IsInt() || exact.Sign() < 0 || exact.Num().IsInt64()):
			t.Errorf("%s is not too high", number)
		case errors.Is(err, errTooLow) && (!exact.IsInt() || exact.Sign() > 0 || exact.Num().IsInt64()):
			t.Errorf("%s is not too low", number)
		}
	})
}

// ratio is the exact value of a number whose exponent is small enough for it.
func ratio(number string) (r *big.Rat, small bool) {
	if _, exponent, found := strings.Cut(strings.ToLower(number), "e"); found && len(strings.TrimLeft(exponent, "+-0")) > 3 {
		return nil, false
	}
	return new(big.Rat).SetString(number)
}

// Texts are read eight bytes at a time: each byte at each place of such a word, and behind the last.
func TestEachByteIsSeenWhereverItStands(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			for _, filler := range []string{"a", "\u00e9", "\u2028", "\x7f"} {
				text := strings.Repeat(filler, 20)[:at*len(filler)] + string([]byte{byte(c)}) + strings.Repeat(filler, 20-at)
				body := []byte(`{"t":"` + text + `","next":1}`)
				_, err := scanJSON(body)
				if want := json.Valid(body) && utf8.Valid(body); (err == nil) != want {
					t.Fatalf("byte %#x at %d among %q: %v", c, at, filler, err)
				}
			}
		}
	}
}
