package storage

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/uuid"
)

// keySizes are those of the keys that cursors carry, by their list.
func keySizes() map[cursorKind]int {
	return map[cursorKind]int{listRuns: len(uuid.UUID{}), listUsers: 8, listSteps: sequenceSize + len(uuid.UUID{})}
}

// A cursor has one text only, for one list of one owner: whatever is taken
// renders to the same text again, and nobody else takes it.
func FuzzParseCursor(f *testing.F) {
	id := uuid.MustParse("01a00000-0000-7000-8000-000000000000")
	f.Add(int64(7), cursor(listRuns, 7, id[:]))
	f.Add(int64(7), cursor(listRuns, 8, id[:]))
	f.Add(int64(-1), cursor(listUsers, -1, binary.BigEndian.AppendUint64(nil, math.MaxUint64)))
	f.Add(int64(math.MaxInt64), stepCursor(math.MaxInt64, stepKey{sequence: math.MinInt64, id: id}))
	f.Add(int64(1), cursor(0, 1, nil))
	f.Add(int64(1), cursor(255, 1, id[:]))
	f.Add(int64(1), cursor(listUsers, 1, make([]byte, 8))+"=")
	f.Add(int64(1), "\n"+cursor(listUsers, 1, make([]byte, 8)))
	f.Add(int64(0), "AAAA")
	f.Add(int64(0), "")
	f.Fuzz(func(t *testing.T, owner int64, text string) {
		var takers []cursorKind
		for l, size := range keySizes() {
			key, err := parseCursor(l, owner, text, size)
			if err != nil {
				if !errors.Is(err, ErrBadCursor) || key != nil {
					t.Fatalf("key %x, error %v, want ErrBadCursor", key, err)
				}
				continue
			}
			takers = append(takers, l)
			if again := cursor(l, owner, key); len(key) != size || again != text {
				t.Fatalf("%q holds a key of %d bytes, and renders as %q", text, len(key), again)
			}
			if _, err := parseCursor(l, owner^1, text, size); !errors.Is(err, ErrBadCursor) {
				t.Fatalf("another owner: error %v", err)
			}
		}
		if len(takers) > 1 {
			t.Fatalf("%q is a cursor of the lists %v", text, takers)
		}
		k, err := parseStepKey(owner, text)
		if (err == nil) != slices.Contains(takers, listSteps) {
			t.Fatalf("as a key of steps: error %v", err)
		}
		if err == nil && stepCursor(owner, k) != text {
			t.Fatalf("%q is the step %+v, which renders as %q", text, k, stepCursor(owner, k))
		}
	})
}

// The fuzzer hardly ever guesses a checksum: here every text is a cursor.
func FuzzCursorRoundTrip(f *testing.F) {
	f.Add(byte(1), int64(1), make([]byte, 16))
	f.Add(byte(2), int64(-1), make([]byte, 24))
	f.Add(byte(0), int64(0), []byte{})
	f.Fuzz(func(t *testing.T, l byte, owner int64, key []byte) {
		text := cursor(cursorKind(l), owner, key)
		got, err := parseCursor(cursorKind(l), owner, text, len(key))
		if err != nil || string(got) != string(key) {
			t.Fatalf("%q gives %x, %v, want %x", text, got, err, key)
		}
		for other, size := range keySizes() {
			if _, err := parseCursor(other, owner, text, size); (err == nil) != (other == cursorKind(l) && size == len(key)) {
				t.Fatalf("list %d takes a cursor of list %d: %v", other, l, err)
			}
		}
	})
}
