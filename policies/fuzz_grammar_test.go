package policies_test

import (
	"strings"
	"testing"
)

// productions are ways to write a value of each type; a letter in braces stands
// for another value of that type. The first three of a type have none inside.
// B bool, N number of a payload, I int, S text, M money, L list, T time, D duration.
var productions = map[byte][]string{
	'B': {
		"true", "has(input.amount)", `"EUR" in ["USD", tool]`,
		"!({B})", "({B}) && ({B})", "({B}) || ({B})", "({B}) ? ({B}) : ({B})",
		"{N} < {N}", "{I} >= {I}", "{M} > {M}", "{M} == {M}", "{T} < {T}", "{D} <= {D}", "{S} == {S}", "{S} < {S}",
		"{S}.contains({S})", "{S}.startsWith({S})", `{S}.matches("(a|ab)*c$")`, `{S}.matches("^[^a]{1,40}(x+x+)+y")`,
		"{L}.exists(i, {B})", "{L}.all(i, {B})", "{L}.exists_one(i, {B})", "{L}.all(i, {L}.exists(j, i == j || ({B})))",
		"{L} == {L}", "{S} in {L}", "{N} in {L}", "has(input.items)", "type({L}) == list",
	},
	'N': {
		"input.amount", "1.5", "input.?discount.orValue(0.0)",
		"{N} * {N}", "{N} + {N}", "{N} / {N}", "-({N})", "double({I})", "double({S})", "{L}[0]", "input.items[{I}].price",
	},
	'I': {
		"1", "run.steps", "9223372036854775807",
		"{I} + {I}", "{I} * {I}", "{I} / {I}", "{I} % {I}", "-({I})", "int({N})", "int({S})", "size({L})", "size({S})",
		`{T}.getHours("Pacific/Auckland")`, "{T}.getDayOfWeek()", "{D}.getSeconds()",
	},
	'S': {
		"tool", `"aaaaaaaaaaaaaaaa"`, "input.text",
		"{S} + {S}", "string({N})", "string({I})", "tags.agent", `tags[{S}]`, "string({T})", "string(input.text)",
	},
	'M': {
		"usd(1)", "run.spent_usd", `usd("0.000000001")`,
		"{M} + {M}", "{M} - {M}", "usd({N})", "usd(input.amount)", "usd({S})",
	},
	'L': {
		"input.items", "[1, 2, 3]", "[]",
		"{L} + {L}", "{L}.map(i, {N})", "{L}.map(i, {S})", "{L}.filter(i, {B})", "{L}.map(i, {L})", "[{L}, {L}]",
	},
	'T': {"now", "run.started_at", `timestamp("2026-03-29T01:30:00Z")`, "{T} + {D}", "{T} - {D}"},
	'D': {`duration("1h")`, `duration("-9000h")`, "now - run.started_at", "{D} + {D}", "{T} - {T}"},
}

// sentence writes the expression that the script chooses: one byte a production.
// A script that has ended chooses what has nothing inside.
func sentence(script []byte) string {
	const most = 4096
	var b strings.Builder
	var write func(symbol byte)
	write = func(symbol byte) {
		list, choice := productions[symbol], 0
		if len(script) > 0 {
			choice, script = int(script[0]), script[1:]
		} else {
			list = list[:3]
		}
		text := list[choice%len(list)]
		for {
			before, rest, found := strings.Cut(text, "{")
			b.WriteString(before)
			if !found || b.Len() > most {
				return
			}
			if len(rest) < 2 || rest[1] != '}' { // a brace of a regular expression
				b.WriteByte('{')
				text = rest
				continue
			}
			write(rest[0])
			text = rest[2:]
		}
	}
	write('B')
	return b.String()
}

// FuzzSentences is FuzzHolds with expressions that are well formed, of which
// many more are accepted than of bytes at random.
func FuzzSentences(f *testing.F) {
	input := []byte(`{"amount": 120.5, "items": [{"price": 1}, {"price": 30}], "text": "aaab"}`)
	for symbol := range byte(32) {
		f.Add([]byte{symbol, symbol + 1, symbol + 2, symbol + 3, symbol + 4, symbol + 5, symbol + 6}, input)
	}
	f.Add([]byte{22, 3, 6, 8, 1, 2, 3}, []byte(`{"items": [[1], [2, [3]], "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", null, 1e300]}`))
	f.Fuzz(func(t *testing.T, script, input []byte) {
		evaluateBounded(t, sentence(script), input)
	})
}

// The grammar writes what Parse accepts, so that the fuzzing is about
// evaluation.
func TestMostSentencesAreAccepted(t *testing.T) {
	accepted, all := 0, 0
	for a := range byte(32) {
		for b := range byte(16) {
			all++
			if compiles(t, sentence([]byte{a, b, a + b, a * b})) != nil {
				accepted++
			}
		}
	}
	if accepted < all/2 {
		t.Errorf("%d of %d are accepted", accepted, all)
	}
}
