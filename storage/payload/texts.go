package payload

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Texts are what went in or came out of a step; nil for what was not sent.
type Texts struct {
	Input, Output, Error, Usage []byte
}

// The kinds of texts in a place. They are stored: never renumber.
const (
	kindInput byte = iota + 1
	kindOutput
	kindError
	kindUsage
)

func (t *Texts) byKind() []*[]byte { return []*[]byte{&t.Input, &t.Output, &t.Error, &t.Usage} }

// Size is how many bytes the texts take in a block: 0 when there are none.
func (t *Texts) Size() (n int) {
	for _, text := range t.byKind() {
		if *text != nil {
			const perByte = 7 // bits of a length
			n += 1 + (bits.Len(uint(len(*text)|1))+perByte-1)/perByte + len(*text)
		}
	}
	return n
}

// Place packs texts for a place in a block: nil when there are none.
func (t *Texts) Place() []byte {
	size := t.Size()
	if size == 0 {
		return nil
	}
	return t.appendTo(make([]byte, 0, size))
}

// appendTo appends what Place returns.
func (t *Texts) appendTo(place []byte) []byte {
	for i, text := range t.byKind() {
		if *text != nil {
			place = append(place, kindInput+byte(i))
			place = binary.AppendUvarint(place, uint64(len(*text)))
			place = append(place, *text...)
		}
	}
	return place
}

// Parse reads a place: ErrCorrupt when it is none. Nothing of it is kept.
func Parse(place []byte) (t Texts, err error) {
	for len(place) > 0 {
		kind := place[0]
		length, n := binary.Uvarint(place[1:])
		if n <= 0 || length > uint64(len(place)-1-n) || kind < kindInput || kind > kindUsage {
			return Texts{}, fmt.Errorf("%w: a place is not made of texts", ErrCorrupt)
		}
		place = place[1+n:]
		text := t.byKind()[kind-kindInput]
		*text = append(make([]byte, 0, length), place[:length]...)
		place = place[length:]
	}
	return t, nil
}
