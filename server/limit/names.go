package limit

import (
	"bytes"
	"sync/atomic"
)

// nameCounter counts how often "Content-Length:" occurs in what is read, even if it is split across
// reads. Only n is safe for concurrent use.
type nameCounter struct {
	n    atomic.Int64
	last [len(lengthName)]byte // bytes read
}

// lengthName is the header that tells how long a body is.
const lengthName = "content-length"

// count looks for the name in what was read, also where two reads share it: the end of each is kept
// for the next.
func (l *nameCounter) count(read []byte) {
	for from := 0; ; {
		colon := bytes.IndexByte(read[from:], ':')
		if colon < 0 {
			break
		}
		if l.endsWithName(read[:from+colon]) {
			l.n.Add(1)
		}
		from += colon + 1
	}
	kept := max(0, len(l.last)-len(read))
	copy(l.last[:], l.last[len(l.last)-kept:])
	copy(l.last[kept:], read[max(0, len(read)-len(l.last)):])
}

// endsWithName reports whether the input so far, read included, ends with lengthName.
func (l *nameCounter) endsWithName(read []byte) bool {
	if len(read) > 0 && read[len(read)-1]|0x20 != lengthName[len(lengthName)-1] {
		return false // the common case
	}
	name := l.last
	kept := max(0, len(name)-len(read))
	copy(name[:], l.last[len(l.last)-kept:])
	copy(name[kept:], read[max(0, len(read)-len(name)):])
	return bytes.EqualFold(name[:], []byte(lengthName))
}
