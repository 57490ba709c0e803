package request

import (
	"bytes"
	"unicode/utf8"
)

// maxDepth is how many levels of nesting a body may have; the outermost
// object is level 1.
const maxDepth = 64

// maxMembers is how many fields the outermost object may have: far more than
// any call knows, and few enough that a body made of them costs little.
const maxMembers = 1_000

// defect is a set of what makes a value impossible to store as it was sent,
// although it is JSON, or nearly.
type defect uint8

const (
	defectNUL       defect = 1 << iota // \u0000
	defectSurrogate                    // half of a surrogate pair, \ud800
	// NaN, Infinity or -Infinity, which Python writes; see scanReport
	defectNotFinite
	defectTooDeep // deeper than a payload may be; see scanReport

	// defectsOfText are those that a strict reader refuses in a text.
	defectsOfText = defectNUL | defectSurrogate
)

// member is one field of the outermost object. Key is decoded; value is the
// JSON as sent; defects are those of all strings and keys inside value.
type member struct {
	key       []byte
	value     []byte
	defects   defect
	spaced    bool   // there is white space around tokens inside value
	notFinite uint32 // with defectNotFinite, where the first of it stands in the text
}

// jsonText is a checked JSON text. Only an object ('{') has members, in the
// order sent, duplicates included.
type jsonText struct {
	kind       byte
	members    []member
	keyDefects defect
	defects    defect // of all values
}

// syntaxError says where (in bytes) a text stops being acceptable JSON. Text
// quotes nothing of what was sent.
type syntaxError struct {
	offset int
	text   string
}

// Error describes the problem without its place, which the offset has.
func (e *syntaxError) Error() string { return e.text }

// scanJSON checks a text, blank around allowed, in one pass and splits its
// outermost object. The members alias data. The error is a *syntaxError.
func scanJSON(data []byte) (jsonText, error) { return scan(data, nil) }

// scanReport is scanJSON for an agent's report, which a defect in a mere
// description must not refuse. Members with defects are kept and marked, also
// for a defect in their name, a value nested too deeply, and NaN or Infinity.
// Where there are more fields than allowed, it keeps those that are known.
func scanReport(data []byte, known func(key []byte) bool) (jsonText, error) {
	return scan(data, known)
}

// scan checks a whole JSON text in one pass and finds the members of its outermost object. It
// copies nothing: the result refers to data.
func scan(data []byte, known func(key []byte) bool) (jsonText, error) {
	if !utf8.Valid(data) {
		return jsonText{}, &syntaxError{offset: firstInvalid(data), text: "Invalid UTF-8"}
	}
	s := scanner{data: data, known: known, levels: maxDepth}
	if known != nil {
		s.levels++ // maxDepth is of a payload, which stands in the outermost object
	}
	s.space()
	kind := s.peek()
	if !s.value(0) {
		return jsonText{}, &s.err
	}
	s.space()
	if s.pos < len(data) {
		return jsonText{}, &syntaxError{offset: s.pos, text: "Extra data"}
	}
	return jsonText{kind: kind, members: s.members, keyDefects: s.keyDefects,
		defects: s.allDefects | s.defects}, nil
}

// firstInvalid is the offset of the first byte that is no UTF-8.
func firstInvalid(data []byte) int {
	pos := 0
	for pos < len(data) {
		r, size := utf8.DecodeRune(data[pos:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		pos += size
	}
	return pos
}

// scanner follows the grammar of RFC 8259. Its methods return false once err
// is set, and leave pos behind what they have read.
type scanner struct {
	data       []byte
	pos        int
	known      func(key []byte) bool // of a report; nil for others
	levels     int
	defects    defect // since the last key or value of the outermost object
	spaced     bool   // white space was skipped, since the value of a member began
	notFinite  uint32 // as member's
	keyDefects defect
	allDefects defect
	members    []member
	err        syntaxError
}

// fail notes the first thing that is wrong, and returns false for the caller to.
func (s *scanner) fail(offset int, text string) bool {
	s.err = syntaxError{offset: offset, text: text}
	return false
}

// peek returns 0 at the end, which begins nothing in JSON.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// next steps over c if it comes next.
func (s *scanner) next(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// space skips white space.
func (s *scanner) space() {
	for s.pos < len(s.data) && isSpace(s.data[s.pos]) {
		s.pos++
		s.spaced = true
	}
}

// isSpace is narrower than unicode.IsSpace: four characters, by RFC 8259.
func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// value reads a value that stands inside depth levels. It calls itself through
// object and array, and levels keeps the stack small.
func (s *scanner) value(depth int) bool {
	switch c := s.peek(); {
	case c == '"':
		return s.text()
	case c == '{' || c == '[':
		if depth == s.levels && s.known != nil {
			s.defects |= defectTooDeep
			return s.deep()
		}
		if depth == s.levels {
			return s.fail(s.pos, "Nesting deeper than 64 levels")
		}
		s.pos++
		if c == '{' {
			return s.object(depth + 1)
		}
		return s.array(depth + 1)
	case isDigit(c) || c == '-' && !s.startsWith("-Infinity"):
		return s.number()
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	default:
		return s.notNumber()
	}
}

// word reads true, false or null.
func (s *scanner) word(word string) bool {
	if !s.startsWith(word) {
		return s.fail(s.pos, "Expecting value")
	}
	s.pos += len(word)
	return true
}

// notNumber reads what Python writes for a float that is no number. It is no
// JSON, so only a report may hold it.
func (s *scanner) notNumber() bool {
	for _, word := range [...]string{"NaN", "Infinity", "-Infinity"} {
		if s.known == nil || !s.startsWith(word) {
			continue
		}
		if s.defects&defectNotFinite == 0 {
			s.notFinite = uint32(s.pos)
		}
		s.defects |= defectNotFinite
		s.pos += len(word)
		return true
	}
	return s.fail(s.pos, "Expecting value")
}

// startsWith reports whether a literal comes next.
func (s *scanner) startsWith(word string) bool {
	return bytes.HasPrefix(s.data[s.pos:], []byte(word))
}

// object reads what follows the brace. Only the outermost one, at depth 1, has
// its members recorded, each with the defects found since the one before.
func (s *scanner) object(depth int) bool {
	s.space()
	if s.next('}') {
		return true
	}
	for {
		// A key is scanned like any text; its defects are kept apart from those of the value.
		key := s.pos
		if s.peek() != '"' {
			return s.fail(s.pos, "Expecting property name enclosed in double quotes")
		}
		if !s.text() {
			return false
		}
		keyEnd := s.pos
		if depth == 1 && len(s.members) >= maxMembers && s.known == nil {
			return s.fail(key, "More than 1,000 fields")
		}
		if depth == 1 && s.known == nil {
			s.keyDefects |= s.defects
			s.defects = 0
		}
		s.space()
		if !s.next(':') {
			return s.fail(s.pos, "Expecting ':' delimiter")
		}
		s.space()
		value := s.pos
		if depth == 1 {
			s.spaced = false
		}
		if !s.value(depth) {
			return false
		}
		// Only the members of the outermost object are kept; all that is deeper belongs to one of
		// them.
		if depth == 1 {
			s.record(s.data[key:keyEnd], s.data[value:s.pos])
		}
		s.space()
		if s.next('}') {
			return true
		}
		if !s.next(',') {
			return s.fail(s.pos, "Expecting ',' delimiter")
		}
		s.space()
	}
}

// record takes the defects of the value; those of the key are in keyDefects, since
// a problem could not even name the field. In a report they are the member's.
func (s *scanner) record(key, value []byte) {
	if s.members == nil {
		s.members = make([]member, 0, 8)
	}
	m := member{key: unquoteBytes(key), value: value, defects: s.defects, spaced: s.spaced,
		notFinite: s.notFinite}
	s.allDefects |= s.defects
	s.defects = 0
	if len(s.members) < maxMembers {
		s.members = append(s.members, m)
		return
	}
	if !s.known(m.key) {
		return
	}
	for i := range s.members[maxMembers:] { // as few as there are known names
		if late := &s.members[maxMembers+i]; bytes.Equal(late.key, m.key) {
			*late = m
			return
		}
	}
	s.members = append(s.members, m)
}

// array reads what follows the bracket.
func (s *scanner) array(depth int) bool {
	s.space()
	if s.next(']') {
		return true
	}
	for {
		if !s.value(depth) {
			return false
		}
		s.space()
		if s.next(']') {
			return true
		}
		if !s.next(',') {
			return s.fail(s.pos, "Expecting ',' delimiter")
		}
		s.space()
	}
}
