// Package payload packs what callers send along with their steps into blocks:
// many small texts together, because each by itself hardly compresses. It knows
// neither tables nor steps.
//
// A block is a byte that names its format, the length of what is packed, and
// that: a list of places, each a step's texts or empty. Formats and the
// dictionary are stored, so neither ever changes; a better one gets a new number.
package payload

import (
	"bytes"
	_ "embed" // the dictionary
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// BlockSize is how many bytes of texts a block takes, unless one text alone is larger. A larger
	// block compresses better, and takes longer to read for one text in it.
	BlockSize = 32 << 10
	// MaxPlaces is how many places a block has at most.
	MaxPlaces = 256
	// minPacked is from how many bytes on it is tried to make them fewer.
	minPacked = 128
	// maxRaw is more than any block has: SQLite keeps no larger value.
	maxRaw = 1 << 30
)

// ErrCorrupt says that a block cannot be what was written.
var ErrCorrupt = errors.New("a block of payloads is damaged")

// The formats of blocks. They are stored: never renumber.
const (
	formatPlain byte = 1 // as it is
	formatZstd  byte = 2 // a frame of zstd, with dictionary 1
)

//go:embed dictionary1.txt
var dictionary1 string

// Codec compresses blocks and reads them again. Its methods may be called from any goroutine.
type Codec struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
	scratch sync.Pool // of *scratch
}

// NewCodec returns a codec, which needs no closing.
func NewCodec() (*Codec, error) {
	const dictionary, window = 1, 256 << 10
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderDictRaw(dictionary, []byte(dictionary1)), zstd.WithWindowSize(window),
		zstd.WithAllLitEntropyCompression(true), zstd.WithSingleSegment(true), // which has its size
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderConcurrency(min(2, runtime.GOMAXPROCS(0))))
	if err != nil {
		return nil, fmt.Errorf("prepare compression: %w", err)
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderDictRaw(dictionary, []byte(dictionary1)),
		zstd.WithDecoderMaxMemory(maxRaw), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(0))
	if err != nil {
		return nil, fmt.Errorf("prepare decompression: %w", err)
	}
	return &Codec{encoder: encoder, decoder: decoder,
		scratch: sync.Pool{New: func() any { return &scratch{} }}}, nil
}

// Block is a block that can be read and changed. The zero value is empty.
type Block struct {
	// data has the places one behind the other, behind room for their list. Where one was
	// changed, it is behind all others, and the block is scattered.
	data      []byte
	places    []span
	size      int
	scattered bool
}

// span is where a place is in a block's data.
type span struct{ from, to int }

// listSize is the most that the list of places takes, except for a place that is a block alone.
const listSize = binary.MaxVarintLen16 * (MaxPlaces + 1)

// Fits reports whether a place of so many bytes may be added. A first one always fits.
func (b *Block) Fits(n int) bool {
	return len(b.places) == 0 || len(b.places) < MaxPlaces && b.size+n <= BlockSize
}

// Reuse empties a block, and keeps its memory for what is added next.
func (b *Block) Reuse() { *b = Block{data: b.data[:0], places: b.places[:0]} }

// Add adds a place with texts, which it copies, and returns its number.
func (b *Block) Add(t *Texts) int {
	if len(b.data) == 0 {
		b.data = append(b.data, make([]byte, listSize)...)
	}
	from := len(b.data)
	b.data = t.appendTo(b.data)
	b.places = append(b.places, span{from, len(b.data)})
	b.size += len(b.data) - from
	return len(b.places) - 1
}

// Set replaces a place; nil empties it. One that there is not is left out.
func (b *Block) Set(number int, place []byte) {
	if number >= len(b.places) {
		return
	}
	at := &b.places[number]
	b.size += len(place) - (at.to - at.from)
	at.from = len(b.data)
	b.data = append(b.data, place...)
	at.to, b.scattered = len(b.data), true
}

// Place returns a place: nil when it is empty, or not there. It must not be changed, and is good
// until the block is.
func (b *Block) Place(number int) []byte {
	if number >= len(b.places) || b.places[number].from == b.places[number].to {
		return nil
	}
	at := b.places[number]
	return b.data[at.from:at.to:at.to]
}

// Used is how many places are not empty.
func (b *Block) Used() (n int) {
	for _, p := range b.places {
		if p.from < p.to {
			n++
		}
	}
	return n
}

// Size is how many bytes all places have.
func (b *Block) Size() int { return b.size }

// raw is what is packed: the list of places, and the places.
func (b *Block) raw() []byte {
	var room [listSize]byte
	list := binary.AppendUvarint(room[:0], uint64(len(b.places)))
	for _, p := range b.places {
		list = binary.AppendUvarint(list, uint64(p.to-p.from))
	}
	if !b.scattered && len(b.data) > 0 && len(list) <= listSize { // the list goes before the places
		return append(b.data[listSize-len(list):listSize-len(list)], list...)[:len(list)+b.size]
	}
	raw := append(make([]byte, 0, len(list)+b.size), list...)
	for i := range b.places {
		raw = append(raw, b.Place(i)...)
	}
	return raw
}

// Memory is how many bytes it takes, with those of texts that were taken out again.
func (b *Block) Memory() int { return cap(b.data) }

// Encode packs a block.
func (c *Codec) Encode(b *Block) []byte {
	raw := b.raw()
	s := c.scratch.Get().(*scratch)
	defer c.scratch.Put(s)
	head := binary.AppendUvarint(append(s.packed[:0], formatZstd), uint64(len(raw)))
	s.packed = head
	if len(raw) >= minPacked {
		s.packed = c.pack(s, raw)
	}
	if len(s.packed) == len(head) || len(s.packed) >= len(head)+len(raw) {
		head[0] = formatPlain
		s.packed = append(head, raw...)
	}
	return bytes.Clone(s.packed) // as long as it is
}

// Decode unpacks a block: ErrCorrupt when it is damaged. The block may keep data.
func (c *Codec) Decode(data []byte) (*Block, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrCorrupt)
	}
	size, n := binary.Uvarint(data[1:])
	if n <= 0 || size > maxRaw {
		return nil, fmt.Errorf("%w: it names no size", ErrCorrupt)
	}
	raw := data[1+n:]
	switch data[0] {
	case formatPlain:
	case formatZstd:
		// A size is believed, and memory taken for it, when it is there twice.
		var head zstd.Header
		if err := head.Decode(raw); err != nil || !head.HasFCS || head.FrameContentSize != size {
			return nil, fmt.Errorf("%w: it is no frame of its size", ErrCorrupt)
		}
		var err error
		if raw, err = c.decoder.DecodeAll(raw, make([]byte, 0, size)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	default:
		return nil, fmt.Errorf("%w: format %d is not known", ErrCorrupt, data[0])
	}
	if uint64(len(raw)) != size {
		return nil, fmt.Errorf("%w: it has %d bytes of %d", ErrCorrupt, len(raw), size)
	}
	return split(raw)
}

func split(raw []byte) (*Block, error) {
	count, n := binary.Uvarint(raw)
	if n <= 0 || count > MaxPlaces {
		return nil, fmt.Errorf("%w: it has no list of places", ErrCorrupt)
	}
	raw = raw[n:]
	lengths := make([]uint64, count)
	for i := range lengths {
		if lengths[i], n = binary.Uvarint(raw); n <= 0 {
			return nil, fmt.Errorf("%w: a place has no length", ErrCorrupt)
		}
		raw = raw[n:]
	}
	b := &Block{data: raw, places: make([]span, 0, count), scattered: true}
	from := 0
	for _, length := range lengths {
		if length > uint64(len(raw)-from) {
			return nil, fmt.Errorf("%w: a place ends beyond it", ErrCorrupt)
		}
		to := from + int(length)
		b.places = append(b.places, span{from, to})
		from = to
	}
	b.size = from
	if from < len(raw) {
		return nil, fmt.Errorf("%w: something follows the last place", ErrCorrupt)
	}
	return b, nil
}
