package request

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
)

// text reads a string, and notes what in it cannot be kept. Control characters,
// NUL too, must be escaped in JSON; that the bytes are UTF-8 is known already.
func (s *scanner) text() bool {
	start := s.pos
	s.pos++
	for s.plain() < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return true
		case c == '\\':
			if !s.escape() {
				return false
			}
		case c < ' ':
			return s.fail(s.pos, "Invalid control character in a string")
		default:
			s.pos++
		}
	}
	return s.fail(start, "Unterminated string")
}

// plain steps over characters of a string that mean themselves, eight bytes at a time where it
// can, and returns where it is then. Most of what agents send is such text.
func (s *scanner) plain() int {
	for s.pos+8 <= len(s.data) {
		word := binary.LittleEndian.Uint64(s.data[s.pos:])
		if found := bytesBelow(word, ' ') | bytesBelow(word^('"'*everyByte), 1) |
			bytesBelow(word^('\\'*everyByte), 1); found != 0 {
			s.pos += bits.TrailingZeros64(found) / 8
			break
		}
		s.pos += 8
	}
	return s.pos
}

// everyByte times a byte is a word of eight of it.
const everyByte = 0x0101010101010101

// bytesBelow has the highest bit of each byte of a word that is less than n, which is at most 128.
// Of those behind the first one it may have too many.
func bytesBelow(word, n uint64) uint64 {
	return (word - n*everyByte) &^ word & (0x80 * everyByte)
}

// escape reads one, or the two that make a surrogate pair. A defect is no
// syntax error: Python's json reads it, and a problem can name the field.
func (s *scanner) escape() bool {
	start := s.pos
	s.pos++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos++
		return true
	case 'u':
	default:
		return s.fail(start, "Invalid \\escape")
	}
	unit, ok := hexUnit(s.data[start:])
	if !ok {
		return s.fail(start, "Invalid \\uXXXX escape")
	}
	s.pos = start + len(`\uXXXX`)
	switch {
	case unit == 0:
		s.defects |= defectNUL
	case unit >= 0xDC00 && unit <= 0xDFFF:
		s.defects |= defectSurrogate
	case unit >= 0xD800 && unit <= 0xDBFF:
		low, ok := hexUnit(s.data[s.pos:])
		if !ok || low < 0xDC00 || low > 0xDFFF {
			s.defects |= defectSurrogate
			return true // what follows is read for itself
		}
		s.pos += len(`\uXXXX`)
	}
	return true
}

// hexUnit reads the UTF-16 unit of a \uXXXX that data begins with.
func hexUnit(data []byte) (unit rune, ok bool) {
	if len(data) < len(`\uXXXX`) || data[0] != '\\' || data[1] != 'u' {
		return 0, false
	}
	for _, c := range data[2:6] {
		switch {
		case isDigit(c):
			unit = unit<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			unit = unit<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return unit, true
}

// number reads one of any size: what is too large or too fine is for the reader
// of the field to say, and in free metadata it is kept as sent.
func (s *scanner) number() bool {
	start := s.pos
	s.next('-')
	if !s.next('0') && !s.digits() {
		return s.fail(start, "Expecting value")
	}
	if s.next('.') && !s.digits() {
		return s.fail(start, "Invalid number")
	}
	if s.next('e') || s.next('E') {
		if !s.next('+') {
			s.next('-')
		}
		if !s.digits() {
			return s.fail(start, "Invalid number")
		}
	}
	return true
}

// digits reads one digit at least.
func (s *scanner) digits() bool {
	start := s.pos
	for isDigit(s.peek()) {
		s.pos++
	}
	return s.pos > start
}

// isDigit knows ASCII only.
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// unquoteBytes decodes a checked JSON string; without escapes it aliases quoted.
func unquoteBytes(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return inner // not reached: the scanner is stricter than encoding/json
	}
	return []byte(text)
}
