package limit

import (
	"bytes"
	"sync/atomic"
)

// nameCounter counts how often "Content-Length:" occurs in what is read,
// wherever the reads split it. Only n is for more than one goroutine at once.
type nameCounter struct {
	n    atomic.Int64
	last [len(lengthName)]byte // read
}

const lengthName = "content-length"

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

// endsWithName looks also at what was read before.
func (l *nameCounter) endsWithName(read []byte) bool {
	if len(read) > 0 && read[len(read)-1]|0x20 != lengthName[len(lengthName)-1] {
		return false // nearly always
	}
	name := l.last
	kept := max(0, len(name)-len(read))
	copy(name[:], l.last[len(l.last)-kept:])
	copy(name[kept:], read[max(0, len(read)-len(name)):])
	return bytes.EqualFold(name[:], []byte(lengthName))
}
