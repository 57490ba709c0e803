package server

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

// flaw is what is legal JSON, yet not a text that can be kept.
type flaw uint8

const (
	flawNUL       flaw = 1 << iota // \u0000
	flawSurrogate                  // half of a surrogate pair, \ud800
)

// member is one field of the outermost object. Key is decoded; value is the
// JSON as sent; flaws are those of all strings and keys inside value.
type member struct {
	key   []byte
	value []byte
	flaws flaw
}

// jsonText is a checked JSON text. Only an object ('{') has members, in the
// order sent, duplicates included.
type jsonText struct {
	kind     byte
	members  []member
	keyFlaws flaw
}

// syntaxError says where (in bytes) a text stops being acceptable JSON. Text
// quotes nothing of what was sent.
type syntaxError struct {
	offset int
	text   string
}

func (e *syntaxError) Error() string { return e.text }

// scanJSON checks a text, blank around allowed, in one pass and splits its
// outermost object. The members alias data. The error is a *syntaxError.
func scanJSON(data []byte) (jsonText, error) {
	if !utf8.Valid(data) {
		return jsonText{}, &syntaxError{offset: firstInvalid(data), text: "Invalid UTF-8"}
	}
	s := scanner{data: data}
	s.space()
	kind := s.peek()
	if !s.value(0) {
		return jsonText{}, &s.err
	}
	s.space()
	if s.pos < len(data) {
		return jsonText{}, &syntaxError{offset: s.pos, text: "Extra data"}
	}
	return jsonText{kind: kind, members: s.members, keyFlaws: s.keyFlaws}, nil
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
	data     []byte
	pos      int
	flaws    flaw // since the last key or value of the outermost object
	keyFlaws flaw
	members  []member
	err      syntaxError
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

func (s *scanner) space() {
	for s.pos < len(s.data) && isSpace(s.data[s.pos]) {
		s.pos++
	}
}

// isSpace is narrower than unicode.IsSpace: four characters, by RFC 8259.
func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// value reads a value that stands inside depth levels. It calls itself through
// object and array, and maxDepth keeps the stack small.
func (s *scanner) value(depth int) bool {
	switch c := s.peek(); {
	case c == '"':
		return s.text()
	case c == '{' || c == '[':
		if depth == maxDepth {
			return s.fail(s.pos, "Nesting deeper than 64 levels")
		}
		s.pos++
		if c == '{' {
			return s.object(depth + 1)
		}
		return s.array(depth + 1)
	case c == '-' || isDigit(c):
		return s.number()
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	default:
		return s.fail(s.pos, "Expecting value")
	}
}

// word reads true, false or null. NaN and Infinity are no JSON.
func (s *scanner) word(word string) bool {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		return s.fail(s.pos, "Expecting value")
	}
	s.pos += len(word)
	return true
}

// object reads what follows the brace. Only the outermost one, at depth 1, has
// its members recorded, each with the flaws found since the one before.
func (s *scanner) object(depth int) bool {
	s.space()
	if s.next('}') {
		return true
	}
	for {
		key := s.pos
		if s.peek() != '"' {
			return s.fail(s.pos, "Expecting property name enclosed in double quotes")
		}
		if !s.text() {
			return false
		}
		keyEnd := s.pos
		if depth == 1 && len(s.members) == maxMembers {
			return s.fail(key, "More than 1,000 fields")
		}
		if depth == 1 {
			s.keyFlaws |= s.flaws
			s.flaws = 0
		}
		s.space()
		if !s.next(':') {
			return s.fail(s.pos, "Expecting ':' delimiter")
		}
		s.space()
		value := s.pos
		if !s.value(depth) {
			return false
		}
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

// record takes the flaws of the value; those of the key are in keyFlaws, since
// a problem could not even name the field.
func (s *scanner) record(key, value []byte) {
	if s.members == nil {
		s.members = make([]member, 0, 8)
	}
	s.members = append(s.members, member{key: unquoteBytes(key), value: value, flaws: s.flaws})
	s.flaws = 0
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
