package payload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Blocks of a common size are packed on the writer, many times a second, and most of what a
// decision with a payload costs was that: looking for matches, with a table that had to be filled
// with the dictionary for each block. For these, Snappy finds the matches, which it does several
// times as fast, and zstd encodes what it has found. Both are of the same library, and the result
// is a frame of zstd like any other.
const (
	// minFast is from how many bytes on the dictionary matters little.
	minFast = 4 << 10
	// maxFast is how many bytes a block of Snappy has at most.
	maxFast = 64 << 10
)

// scratch is what packing a block needs, and then another one.
type scratch struct {
	packed    []byte
	converter zstd.SnappyConverter
	stream    []byte // of Snappy, of one block
	reader    bytes.Reader
	frame     bytes.Buffer
}

// snappyHead begins a stream: its name, and the head of a block that is compressed: its length,
// and a checksum at which the converter does not look.
const (
	snappyName = "\xff\x06\x00\x00sNaPpY"
	snappyHead = len(snappyName) + 4 + checksumSize
)

// What a frame has besides its blocks.
const (
	frameMagic   = "\x28\xb5\x2f\xfd"
	frameHead    = len(frameMagic) + 2 // as the converter writes it, without a size
	frameFlags   = 0xa4                // one segment, whose size follows in four bytes; a checksum at the end
	checksumSize = 4
)

// pack appends raw as a frame of zstd to what s.packed has.
func (c *Codec) pack(s *scratch, raw []byte) []byte {
	if len(raw) >= minFast && len(raw) <= maxFast {
		if packed, ok := s.packFast(raw); ok {
			return packed
		}
	}
	return c.encoder.EncodeAll(raw, s.packed)
}

// blockHead is how long the head of a block of a frame is: whether it is the last one, its type,
// and its size.
const blockHead = 3

// packFast is pack by way of Snappy. It fails where many short matches come before bytes that
// nothing matches: the converter then writes a block without data for them.
func (s *scratch) packFast(raw []byte) (packed []byte, ok bool) {
	if most := snappyHead + s2.MaxEncodedLen(len(raw)); len(s.stream) < most {
		s.stream = make([]byte, most)
		copy(s.stream, snappyName)
	}
	n := checksumSize + len(s2.EncodeSnappy(s.stream[snappyHead:], raw))
	binary.LittleEndian.PutUint32(s.stream[len(snappyName):], uint32(n)<<8) // type 0, then the length
	s.reader.Reset(s.stream[:snappyHead-checksumSize+n])
	s.frame.Reset()
	_, err := s.converter.Convert(&s.reader, &s.frame)
	if err != nil && !errors.Is(err, io.EOF) || s.frame.Len() < frameHead+blockHead {
		return nil, false
	}
	head := s.frame.Bytes()[frameHead:]
	size := int(head[0])>>3 | int(head[1])<<5 | int(head[2])<<13
	if isPlain := head[0]>>1&3 == 0; isPlain && size != len(raw) {
		return nil, false
	}
	packed = append(append(s.packed, frameMagic...), frameFlags)
	packed = binary.LittleEndian.AppendUint32(packed, uint32(len(raw)))
	packed = append(packed, s.frame.Bytes()[frameHead:]...)
	return binary.LittleEndian.AppendUint32(packed, uint32(xxhash.Sum64(raw))), true
}
