package request

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pikarc/server/plans"
)

// A report is what an agent sends about itself: the bodies of starts, steps, step updates and ends.
// Fields that decide (user_id, type, sequence, status) are read strictly. The readers below are for
// fields that only describe or count. They add no problem, because an agent must not fail, nor its
// usage be lost, over a text that it did not choose. They repair what they can and leave out what
// they cannot; Repaired names both.

const (
	// maxRepaired is how many fields an answer names as repaired.
	maxRepaired = 32
	// maxFieldName is how many characters are kept of a name.
	maxFieldName = 255
	// maxPreview is how many characters are kept of a payload that is too large.
	maxPreview = 500
	// cutMark ends a text that was cut.
	cutMark     = "…"
	replacement = "\ufffd" // stands for what is no character
)

// parseReport is parseObject for a report. known reports whether a field of this name is known.
func parseReport(body []byte, maxPayload int64, known func(key []byte) bool) (*Object, error) {
	text, err := scanReport(body, known)
	if err != nil {
		return nil, jsonInvalid(err)
	}
	if text.kind != '{' {
		return nil, notAnObject(body, text.defects)
	}
	o := &Object{raw: body, members: text.members, readNames: make([]string, 0, 8),
		maxPayload: maxPayload}
	if text.defects != 0 {
		o.repairDefects(known)
	}
	return o, nil
}

// repairDefects makes each value well-formed JSON for the readers and for problems. Texts keep
// their defects: in a deciding field they are a problem, and other readers repair them.
func (o *Object) repairDefects(known func(key []byte) bool) {
	for i := range o.members {
		m := &o.members[i]
		switch {
		case m.defects&defectTooDeep != 0 && known(m.key):
			m.value = omittedStandIn(m.value)
		case m.defects&defectTooDeep != 0:
			m.value = []byte("null")
		case m.defects&defectNotFinite != 0:
			m.value = repairJSON(m.value)
		}
		if m.defects&defectsOfText != 0 {
			m.key = []byte(repairText(string(m.key)))
		}
	}
}

// Repaired names the fields that were changed or left out: known ones in the order read, then
// others in the order sent. It returns nil if there are none. Call it after all readers.
func (o *Object) Repaired() []string {
	o.eachUnread(func(m member) {
		if m.defects != 0 {
			o.repair(truncateText(string(m.key), maxFieldName))
		}
	})
	return o.repaired
}

// MarkRepaired adds a field that its reader did not repair, and returns the new result of Repaired.
func (o *Object) MarkRepaired(name string) []string {
	o.repair(name)
	return o.repaired
}

// repair records that a field was changed or left out.
func (o *Object) repair(name string) {
	if len(o.repaired) < maxRepaired && !slices.Contains(o.repaired, name) {
		o.repaired = append(o.repaired, name)
	}
}

// optionalMember returns a field for lenient reading: nil if it is absent or null.
func (o *Object) optionalMember(name string) *member {
	m := o.find(name)
	if m == nil || !isNull(m.value) {
		return m
	}
	if m.defects != 0 { // not what was sent
		o.repair(name)
	}
	return nil
}

// Name reads a name: nil if absent, null or empty.
func (o *Object) Name(name string) *string {
	text := o.Text(name, maxFieldName)
	if text != nil && *text == "" {
		o.repair(name)
		return nil
	}
	return text
}

// Text reads a text and keeps at most limit characters. Any other JSON value is kept as its JSON
// text. Nil if absent or null.
func (o *Object) Text(name string, limit int) *string {
	m := o.optionalMember(name)
	if m == nil {
		return nil
	}
	text := m.value // of what is no text, its JSON
	isText := text[0] == '"'
	if isText {
		text = unquoteHead(text, limit)
	}
	kept := string(text)
	if !isText || m.defects != 0 || len(kept) > limit { // it has no more characters than bytes
		if cut := truncateText(repairText(kept), limit); !isText || cut != kept || m.defects != 0 {
			o.repair(name)
			kept = cut
		}
	}
	return &kept
}

// Payload reads a JSON object, compacted: nil if absent or null. Any other value v becomes
// {"value":v}. The result may be a part of the body: it must not be changed, and it keeps the body.
func (o *Object) Payload(name string) json.RawMessage {
	value := o.AnyPayload(name)
	if value == nil || value[0] == '{' {
		return value
	}
	o.repair(name)
	return append(append([]byte(`{"value":`), value...), '}')
}

// AnyPayload is Payload for any JSON value. Numbers and duplicate keys inside
// it stay as sent.
func (o *Object) AnyPayload(name string) json.RawMessage {
	m := o.optionalMember(name)
	switch {
	case m == nil:
		return nil
	case int64(len(m.value)) > o.maxPayload:
		o.repair(name)
		return omittedStandIn(m.value)
	case m.defects != 0:
		o.repair(name)
		return repairJSON(m.value)
	case m.spaced:
		return compactJSON(m.value)
	default: // as clients send it, which is not copied
		return m.value[:len(m.value):len(m.value)]
	}
}

// Count reads a whole number from 0 to limit, also from a text. Anything else is left out: nil, as
// if it were absent or null.
func (o *Object) Count(name string, limit int64) *int64 {
	m := o.optionalMember(name)
	if m == nil {
		return nil
	}
	n, err := m.integer()
	if err != nil || n < 0 || n > limit {
		o.repair(name)
		return nil
	}
	return &n
}

// Cost reads an amount of USD, also from a text, rounded to nano-USD. Anything else is left out:
// nil, as if it were absent or null.
func (o *Object) Cost(name string) *plans.Money {
	m := o.optionalMember(name)
	if m == nil {
		return nil
	}
	cost, err := plans.ParseCost(numericText(m))
	if err != nil {
		o.repair(name)
		return nil
	}
	return &cost
}

// Duration reads a whole number like Count, but rounds a fraction and clamps to 0..limit.
func (o *Object) Duration(name string, limit int64) *int64 {
	m := o.optionalMember(name)
	if m == nil {
		return nil
	}
	n, err := m.integer()
	switch {
	case errors.Is(err, errNotANumber):
		o.repair(name)
		return nil
	case errors.Is(err, errFraction):
		// Infinite when out of range, which is bounded too
		f, _ := strconv.ParseFloat(numericText(m), 64)
		n = int64(math.Round(min(max(f, -1), float64(limit))))
	case errors.Is(err, errTooLow):
		n = -1
	case err != nil:
		n = limit
	}
	bounded := min(max(n, 0), limit)
	if err != nil || bounded != n {
		o.repair(name)
	}
	return &bounded
}

// errNotANumber reports that a field does not hold a number.
var errNotANumber = errors.New("not a number")

// integer reads the number in a field. Plain JSON numbers, the usual case, take the short path.
func (m *member) integer() (int64, error) {
	if m.value[0] == '-' || isDigit(m.value[0]) {
		return parseInteger(string(m.value))
	}
	number := numericText(m)
	if number == "" {
		return 0, errNotANumber
	}
	return parseInteger(number)
}

// numericText returns the number in a field, or in its text as people and programs write one: with
// surrounding spaces, a plus sign or leading zeros. It returns "" if there is none.
func numericText(m *member) string {
	if c := m.value[0]; c == '-' || isDigit(c) {
		return string(m.value)
	}
	const longest = 100 // of a text
	if m.value[0] != '"' || m.defects != 0 || len(m.value) > longest {
		return ""
	}
	text := strings.TrimSpace(string(unquoteBytes(m.value)))
	sign := ""
	if text != "" && (text[0] == '-' || text[0] == '+') {
		sign, text = strings.Trim(text[:1], "+"), text[1:]
	}
	if text == "" || !isDigit(text[0]) {
		return ""
	}
	text = strings.TrimLeft(text, "0")
	if text == "" || !isDigit(text[0]) {
		text = "0" + text
	}
	s := scanner{data: []byte(text)}
	if !s.number() || s.pos < len(text) {
		return ""
	}
	return sign + text
}

// unquoteHead decodes the first limit+1 characters of a checked JSON string, or all if it is
// shorter.
func unquoteHead(quoted []byte, limit int) []byte {
	inner := quoted[1 : len(quoted)-1]
	if len(inner) <= limit {
		return unquoteBytes(quoted)
	}
	end := 0
	for n := 0; n <= limit && end < len(inner); n++ {
		end += characterLength(inner[end:])
	}
	if end == len(inner) {
		return unquoteBytes(quoted)
	}
	return unquoteBytes(append(append([]byte{'"'}, inner[:end]...), '"'))
}

// characterLength is the length in bytes of the first character of a JSON string without its
// quotes; an escape, or a pair of surrogate escapes, is one character.
func characterLength(inner []byte) int {
	const escape, unitEscape = len(`\n`), len(`\uXXXX`)
	if inner[0] != '\\' {
		_, size := utf8.DecodeRune(inner)
		return size
	}
	unit, ok := hexUnit(inner)
	switch {
	case !ok:
		return escape
	case isHighHalf(unit) && startsWithLowHalf(inner[unitEscape:]):
		return 2 * unitEscape
	default:
		return unitEscape
	}
}

// isHighHalf reports whether a UTF-16 unit is the first of a surrogate pair.
func isHighHalf(unit rune) bool { return unit >= 0xD800 && unit <= 0xDBFF }

// isLowHalf reports whether it is the second.
func isLowHalf(unit rune) bool { return unit >= 0xDC00 && unit <= 0xDFFF }

// startsWithLowHalf reports whether an escape with a second half comes next.
func startsWithLowHalf(inner []byte) bool {
	unit, ok := hexUnit(inner)
	return ok && isLowHalf(unit)
}

// truncateText returns a text of at most limit characters; a longer one ends with cutMark.
func truncateText(text string, limit int) string {
	if len(text) <= limit { // it has no more characters than bytes
		return text
	}
	n, cut := 0, 0
	for i := range text {
		switch n++; n {
		case limit:
			cut = i
		case limit + 1:
			return text[:cut] + cutMark
		}
	}
	return text
}

// repairText replaces what cannot be kept. Half surrogates were replaced when
// the text was decoded.
func repairText(text string) string { return strings.ReplaceAll(text, "\x00", replacement) }

// repairJSON is compactJSON with its texts and names repaired, and null for a
// float that is no number.
func repairJSON(value []byte) []byte {
	c := copier{in: value, out: make([]byte, 0, len(value)), repair: true}
	c.value()
	return c.out
}

// repairString is repairText for a JSON string.
func repairString(quoted []byte) []byte {
	if !bytes.Contains(quoted, []byte(`\u`)) {
		return quoted
	}
	out := make([]byte, 0, len(quoted))
	for rest := quoted; len(rest) > 0; {
		size := characterLength(rest)
		character := rest[:size]
		rest = rest[size:]
		if unit, ok := hexUnit(character); ok && size == len(`\uXXXX`) &&
			(unit == 0 || isHighHalf(unit) || isLowHalf(unit)) {
			character = []byte(replacement)
		}
		out = append(out, character...)
	}
	return out
}

// omittedStandIn replaces a payload that is too large or too deep: its length, hash and beginning.
func omittedStandIn(value []byte) []byte {
	sum := sha256.Sum256(value)
	preview := truncateText(string(value[:min(len(value), utf8.UTFMax*maxPreview)]), maxPreview)
	b := strconv.AppendInt([]byte(`{"omitted_bytes":`), int64(len(value)), 10)
	b = hex.AppendEncode(append(b, `,"sha256":"`...), sum[:])
	b = append(append(b, `","preview":`...), quoteJSON(strings.ToValidUTF8(preview, ""))...)
	return append(b, '}')
}
