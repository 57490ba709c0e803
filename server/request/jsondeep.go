package request

// deep steps over an object or array that is nested too deep to be kept. It
// checks the same grammar as value, but calls nothing of itself, so that no
// depth can fill the stack: of each level that is open it keeps one bit.
func (s *scanner) deep() bool {
	var open levels
	for {
		if closed, ok := s.descend(&open); !ok {
			return false
		} else if !closed {
			continue // with the first value inside
		}
		for { // behind a value: up through all that end here, and on to the next
			if open.n == 0 {
				return true
			}
			s.space()
			inObject := open.inObject()
			if s.next(',') {
				s.space()
				if inObject && !s.deepKey() {
					return false
				}
				break
			}
			if end := levelEnd(inObject); !s.next(end) {
				return s.fail(s.pos, "Expecting ',' delimiter")
			}
			open.n--
		}
	}
}

// descend reads a scalar or an empty object or array; of any other it reads the
// opening, and the first key of an object, and closed is false.
func (s *scanner) descend(open *levels) (closed, ok bool) {
	c := s.peek()
	if c != '{' && c != '[' {
		return true, s.value(0) // which cannot nest
	}
	s.pos++
	s.space()
	if s.next(levelEnd(c == '{')) {
		return true, true
	}
	open.push(c == '{')
	return false, c != '{' || s.deepKey()
}

// deepKey reads a key and its colon.
func (s *scanner) deepKey() bool {
	if s.peek() != '"' {
		return s.fail(s.pos, "Expecting property name enclosed in double quotes")
	}
	if !s.text() {
		return false
	}
	s.space()
	if !s.next(':') {
		return s.fail(s.pos, "Expecting ':' delimiter")
	}
	s.space()
	return true
}

// levelEnd returns what closes an object or an array.
func levelEnd(inObject bool) byte {
	if inObject {
		return '}'
	}
	return ']'
}

// levels says of each open level whether it is an object's.
type levels struct {
	bits []uint64
	n    int
}

// push opens a level. One bit says whether it is an object: a million levels take 125 kB, where a
// recursion would take the stack.
func (l *levels) push(inObject bool) {
	if l.n == 64*len(l.bits) {
		l.bits = append(l.bits, 0)
	}
	word, bit := &l.bits[l.n/64], uint64(1)<<(l.n%64)
	*word &^= bit
	if inObject {
		*word |= bit
	}
	l.n++
}

// inObject reports whether the innermost open level is an object's.
func (l *levels) inObject() bool { return l.bits[(l.n-1)/64]>>((l.n-1)%64)&1 == 1 }
