package wire_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pikarc/server/server/wire"
)

func TestLineOf(t *testing.T) {
	for payload, want := range map[string]string{
		``:                            "",
		`null`:                        "",
		`{}`:                          "",
		`"A  mathematician.\nBorn …"`: "A mathematician. Born …",
		`{"question":"Who was Ada?"}`: "Who was Ada?",
		`{"order":"A-20391","amount":180.00,"currency":"USD","dry":true,"lines":[1,2],"to":{"a":1}}`: "order A-20391, amount 180.00, currency USD, dry true, lines [2], to {1}",
		`[1,2,3]`: "3 items",
		`{"messages":[{"role":"system","content":"You are"},{"role":"user","content":"Refund it"}]}`:                                          "Refund it",
		`{"messages":[{"role":"user","content":[{"type":"text","text":"Refund it"}]}],"model":"x"}`:                                           "Refund it",
		`{"messages":[{"role":"tool","content":"27 orders"}]}`:                                                                                "tool: 27 orders",
		`{"role":"assistant","content":null,"tool_calls":[{"type":"function","function":{"name":"refund","arguments":"{\"order\":\"A\"}"}}]}`: "refund order A",
		`{"role":"assistant","content":"I go on","tool_calls":[{"function":{"name":"refund"}}]}`:                                              "I go on",
		`{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"}}],"usage":{"total_tokens":3}}`:                               "Hello",
		`{"content":[{"type":"tool_use","name":"refund","input":{"order":"A","amount":95}}],"role":"assistant"}`:                              "refund order A, amount 95",
		`{"id":"r","output":[{"type":"message","content":[{"type":"output_text","text":"Hello"}]}]}`:                                          "Hello",
		`{"contents":[{"role":"user","parts":[{"text":"Hello there"}]}]}`:                                                                     "Hello there",
		`{"input":[{"role":"user","content":"Hi"}]}`:                                                                                          "Hi",
		`{"query":"Ada","limit":3}`: "query Ada, limit 3",
		`{"broken":`:                "",
		`12.50`:                     "12.50",
	} {
		if got := wire.LineOf([]byte(payload)); got != want {
			t.Errorf("%s: %q, want %q", payload, got, want)
		}
	}
	long := wire.LineOf([]byte(`"` + strings.Repeat("word ", 100) + `"`))
	if n := utf8.RuneCountInString(long); n > 161 || !strings.HasSuffix(long, "…") {
		t.Errorf("a long text became %d characters: %s", n, long)
	}
	deep := strings.Repeat(`{"content":`, 5000) + `"x"` + strings.Repeat(`}`, 5000)
	if line := wire.LineOf([]byte(deep)); line != "" {
		t.Errorf("a deep payload became %q", line)
	}
}

// Whatever an agent sends becomes one short line.
func FuzzLineOf(f *testing.F) {
	f.Add([]byte(`{"messages":[{"content":[{"text":"a"}]}]}`))
	f.Add([]byte(`{"tool_calls":[{"tool_calls":[{"function":{"name":"n","arguments":"[]"}}]}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		line := wire.LineOf(payload)
		if !utf8.ValidString(line) || utf8.RuneCountInString(line) > 161 || strings.ContainsAny(line, "\n\r\t") {
			t.Errorf("%q", line)
		}
	})
}
