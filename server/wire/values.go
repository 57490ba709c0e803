package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Encode is compact, and leaves <, > and & as they are.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode an answer: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// MustEncode encodes what cannot fail: ids, words and numbers.
func MustEncode(v any) []byte {
	b, err := Encode(v)
	if err != nil {
		panic(err)
	}
	return b
}

// Time is a time as the API writes it; the zero time is null.
type Time time.Time

// MarshalJSON writes RFC 3339 in UTC with milliseconds.
func (t Time) MarshalJSON() ([]byte, error) {
	return AppendTime(nil, time.Time(t)), nil
}

// NullString is a text that is null when it is empty.
type NullString string

// MarshalJSON writes a string or null.
func (w NullString) MarshalJSON() ([]byte, error) {
	if w == "" {
		return []byte("null"), nil
	}
	return Encode(string(w))
}

// Limit is a number of which 0 means that there is no limit: null.
type Limit int64

// MarshalJSON writes an integer or null.
func (n Limit) MarshalJSON() ([]byte, error) {
	if n == 0 {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}

// Map maps a list; an empty one becomes [], not null.
func Map[A, B any](list []A, f func(A) B) []B {
	out := make([]B, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}
