package payload

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func newCodec(t testing.TB) *Codec {
	t.Helper()
	c, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// request is what an agent may send, with something of its own.
func request(n int) []byte {
	return fmt.Appendf(nil, `{"messages":[{"role":"user","content":"Where is order %d? It should have been here %d days ago."}],"max_tokens":%d}`,
		n*7919, n%30, n)
}

// place is where an input is in a block.
func place(input []byte) []byte {
	t := Texts{Input: input}
	return t.Place()
}

func (b *Block) add(input []byte) int { return b.Add(&Texts{Input: input}) }

func TestABlockIsReadAsItWasWritten(t *testing.T) {
	c := newCodec(t)
	random := make([]byte, 3000)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	large := []byte(`"` + strings.Repeat("large ", 400_000) + `"`)
	common := make([][]byte, 150)
	for i := range common {
		common[i] = request(i)
	}
	for name, places := range map[string][][]byte{
		"none": {}, "an empty one": {nil}, "short": {[]byte("{}")}, "random": {random},
		"large": {large}, "common": common, "common, and random": append([][]byte{random, random}, common...),
		"just small": {large[:minFast-10]}, "just large enough": {large[:minFast]}, "twice random": {random, random},
		"the largest": {large[:maxFast-10]}, "too large": {large[:maxFast]},
		"some and empty ones": {request(1), nil, request(2), []byte("\x00"), nil},
	} {
		var b Block
		for i, p := range places {
			if got := b.add(p); got != i {
				t.Errorf("%s: place %d has the number %d", name, i, got)
			}
		}
		data := c.Encode(&b)
		read, err := c.Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if read.Used() != b.Used() || read.Size() != b.Size() || len(data) > b.Size()+40 {
			t.Errorf("%s: %d used of %d bytes, %d and %d before; stored in %d", name, read.Used(), read.Size(), b.Used(), b.Size(), len(data))
		}
		for i, p := range places {
			if !bytes.Equal(read.Place(i), place(p)) {
				t.Errorf("%s: place %d differs", name, i)
			}
		}
		if read.Place(len(places)) != nil {
			t.Errorf("%s: there is a place too many", name)
		}
	}
}

func TestPlacesAreChangedAndEmptied(t *testing.T) {
	c := newCodec(t)
	var b Block
	b.add([]byte("first"))
	b.add([]byte("second"))
	b.Set(0, nil)
	b.Set(1, []byte("2"))
	b.Set(2, []byte("not there"))
	read, err := c.Decode(c.Encode(&b))
	if err != nil || read.Used() != 1 || read.Size() != 1 || read.Place(0) != nil || string(read.Place(1)) != "2" {
		t.Errorf("%+v, %v", read, err)
	}
	if bytes.Contains(c.Encode(&b), []byte("first")) {
		t.Error("what was emptied is still in the block")
	}
}

func TestABlockTakesItsSizeAndOneThatIsLargerAlone(t *testing.T) {
	var b Block
	if !b.Fits(BlockSize * 10) {
		t.Error("a large text fits nowhere")
	}
	b.add(make([]byte, BlockSize-14)) // with its head, ten bytes less than fit
	if !b.Fits(10) || b.Fits(11) {
		t.Error("a block takes more or less than its size")
	}
	var many Block
	for range MaxPlaces {
		if !many.Fits(1) {
			t.Fatal("a block takes too few")
		}
		many.add([]byte("x"))
	}
	if many.Fits(1) {
		t.Error("a block takes too many")
	}
}

// The goal is half of what was sent, for a block that is half full, too.
func TestTextsOfAgentsTakeHalf(t *testing.T) {
	c := newCodec(t)
	var b Block
	for i := 0; b.Size() < BlockSize/2; i++ {
		b.add(request(i))
	}
	if n := len(c.Encode(&b)); n > b.Size()/2 {
		t.Errorf("%d bytes take %d", b.Size(), n)
	}
}

func TestTextsAreReadAsTheyWereWritten(t *testing.T) {
	for _, texts := range []Texts{
		{}, {Input: []byte("{}")}, {Error: []byte{}}, {Output: []byte(`"x"`), Error: []byte("no\x00"), Usage: []byte("{}")},
		{Input: bytes.Repeat([]byte("x"), 1<<20)},
	} {
		place := texts.Place()
		if len(place) != texts.Size() {
			t.Errorf("%.200q takes %d bytes, not %d", texts, len(place), texts.Size())
		}
		got, err := Parse(place)
		if err != nil || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", texts) {
			t.Errorf("%.200q is read as %.200q, %v", texts, got, err)
		}
		if len(place) > 0 {
			place[len(place)-1]++ // a copy was made
			if again, _ := Parse(texts.Place()); fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", again) {
				t.Error("a text changes with the block that it was read from")
			}
		}
	}
	for _, bad := range []string{"\x00", "\x09\x00", "\x01", "\x01\x05abc", "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"} {
		if _, err := Parse([]byte(bad)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q is read: %v", bad, err)
		}
	}
}

// What was written once must be read for ever: the dictionary is part of it.
func TestTheFormatIsKept(t *testing.T) {
	const sum = "ffdfb2ec41be658da0608a60df640fd1417952dd65b4dff7b0c04fc2a7b9c6a6"
	if got := sha256.Sum256([]byte(dictionary1)); hex.EncodeToString(got[:]) != sum {
		t.Errorf("the dictionary has changed: %x", got)
	}
	const stored = "02eb0128b52ffd2501ebc502001403037300747b22576f7264657220373931393f2049746861766568657265203120646179732061676f7d313538333832327d0c00108a3b429d1d273bedb1f6d7a88281238b3b13c55848204c194512c950300318218416f3ac784a"
	data, err := hex.DecodeString(stored)
	if err != nil {
		t.Fatalf("%v; a block is %x", err, newCodec(t).Encode(golden()))
	}
	b, err := newCodec(t).Decode(data)
	if err != nil || !bytes.Equal(b.Place(0), request(1)) || !bytes.Equal(b.Place(2), request(2)) || b.Used() != 2 {
		t.Errorf("%v, %v", b, err)
	}
}

func golden() *Block {
	var b Block
	b.add(request(1))
	b.add(nil)
	b.add(request(2))
	return &b
}

func TestADamagedBlockIsNoticed(t *testing.T) {
	c := newCodec(t)
	var fast Block
	for i := 0; fast.Size() < minFast; i++ {
		fast.add(request(i + 1))
	}
	for _, b := range []*Block{golden(), &fast} {
		testDamage(t, c, c.Encode(b))
	}
}

func testDamage(t *testing.T, c *Codec, data []byte) {
	for i := range data {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			damaged := bytes.Clone(data)
			damaged[i] ^= flip
			if b, err := c.Decode(damaged); err == nil && !bytes.Equal(b.Place(0), place(request(1))) {
				t.Errorf("byte %d: damage is taken for a text", i)
			} else if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("byte %d: %v", i, err)
			}
		}
		if _, err := c.Decode(data[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a block that ends after %d bytes: %v", i, err)
		}
	}
}

// A block is a frame of zstd, whatever has packed it, and its checksum is that of zstd.
func TestABlockIsAFrameOfZstd(t *testing.T) {
	any, err := zstd.NewReader(nil, zstd.WithDecoderDictRaw(1, []byte(dictionary1)))
	if err != nil {
		t.Fatal(err)
	}
	defer any.Close()
	c := newCodec(t)
	var b Block
	for i := range 200 {
		if b.add(request(i)); b.Size() < minPacked {
			continue
		}
		data := c.Encode(&b)
		_, n := binary.Uvarint(data[1:])
		var head zstd.Header
		if err := head.Decode(data[1+n:]); data[0] != formatZstd || err != nil || !head.HasCheckSum || !head.HasFCS {
			t.Fatalf("%d places are no frame with a checksum: %+v, %v", i+1, head, err)
		}
		raw, err := any.DecodeAll(data[1+n:], nil)
		if err != nil || !bytes.HasSuffix(raw, place(request(i))) {
			t.Fatalf("%d places are no frame: %v", i+1, err)
		}
	}
}

// The memory of a block that is used again has nothing of what it had.
func TestABlockIsUsedAgain(t *testing.T) {
	c := newCodec(t)
	var b, fresh Block
	for i := range 100 {
		b.add(request(1000 + i))
	}
	b.Set(3, []byte("changed"))
	b.Reuse()
	for _, used := range []*Block{&b, &fresh} {
		used.add(request(1))
		used.add(request(2))
	}
	if got, want := c.Encode(&b), c.Encode(&fresh); !bytes.Equal(got, want) {
		t.Errorf("a block that is used again is %x, another one %x", got, want)
	}
}

// What a damaged size promises is not taken from memory.
func TestADamagedSizeTakesNoMemory(t *testing.T) {
	c := newCodec(t)
	frame := c.Encode(golden())[3:]
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, size := range []uint64{1 << 29, maxRaw, maxRaw + 1, 1 << 62} {
		if _, err := c.Decode(append(binary.AppendUvarint([]byte{formatZstd}, size), frame...)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a block of %d bytes: %v", size, err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("it took %d bytes of memory", n)
	}
}

func FuzzDecode(f *testing.F) {
	c := newCodec(f)
	f.Add(c.Encode(golden()))
	f.Add(c.Encode(&Block{}))
	f.Add([]byte{formatPlain, 5, 2, 1, 1, 'a', 'b'})
	f.Add([]byte{formatZstd, 0xff, 0xff, 0xff, 0xff, 0x03})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := c.Decode(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := c.Decode(c.Encode(b))
		if err != nil || again.Used() != b.Used() || again.Size() != b.Size() {
			t.Fatalf("%+v is read again as %+v, %v", b, again, err)
		}
		for i := range MaxPlaces {
			if !bytes.Equal(again.Place(i), b.Place(i)) {
				t.Fatalf("place %d differs", i)
			}
			_, _ = Parse(b.Place(i))
		}
	})
}

func FuzzEncode(f *testing.F) {
	c := newCodec(f)
	f.Add([]byte("some words "), uint16(1000))
	f.Add([]byte{0, 1, 2, 3, 255}, uint16(2000))
	f.Add([]byte("x"), uint16(minFast))
	f.Fuzz(func(t *testing.T, data []byte, n uint16) {
		text := bytes.Repeat(data, min(int(n), 2*maxFast/max(1, len(data))))
		var b Block
		b.add(text)
		b.add(data)
		read, err := c.Decode(c.Encode(&b))
		if err != nil || !bytes.Equal(read.Place(0), place(text)) || !bytes.Equal(read.Place(1), place(data)) {
			t.Fatalf("%d bytes are read as %d, %v", len(text), len(read.Place(0)), err)
		}
	})
}

func BenchmarkBlocks(b *testing.B) {
	c := newCodec(b)
	for _, size := range []int{1, 16, 128} {
		var block Block
		for i := range size {
			block.add(request(i))
		}
		data := c.Encode(&block)
		b.Run(fmt.Sprintf("encode %d", size), func(b *testing.B) {
			for b.Loop() {
				c.Encode(&block)
			}
			b.ReportMetric(float64(len(data))/float64(block.Size()), "ratio")
		})
		b.Run(fmt.Sprintf("decode %d", size), func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Decode(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Letters that match everywhere, and then bytes that match nothing: the converter of Snappy's
// streams writes a frame without data for some of them.
func TestManyShortMatchesBeforeRandomBytesAreKept(t *testing.T) {
	t.Parallel()
	c := newCodec(t)
	for seed := range uint64(1000) {
		random := rand.New(rand.NewPCG(seed, 0))
		letters := make([]byte, 2000+random.IntN(14000))
		for i := range letters {
			letters[i] = "ACGT"[random.IntN(4)]
		}
		noise := make([]byte, 500+random.IntN(11000))
		for i := range noise {
			noise[i] = byte(random.Uint32())
		}
		text := []byte(`{"dna":"` + string(letters) + `","scan":"` + base64.StdEncoding.EncodeToString(noise) + `"}`)
		var b Block
		b.Add(&Texts{Input: text})
		read, err := c.Decode(c.Encode(&b))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if got, err := Parse(read.Place(0)); err != nil || !bytes.Equal(got.Input, text) {
			t.Fatalf("seed %d: another text is read, %v", seed, err)
		}
	}
}
