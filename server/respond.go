package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// json writes a value as the answer. It is encoded before the header is
// written, so that a failure can still become a 500.
func (c *call) json(status int, v any) {
	body, err := encodeJSON(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"detail":"Internal Server Error"}`)
	}
	c.body(status, jsonType, body)
}

// ok answers 200 with a value, or passes on the error of what made it.
func (c *call) ok(v any, err error) error {
	if err == nil {
		c.json(http.StatusOK, v)
	}
	return err
}

// The header's names below are in their canonical form, so that setting them
// asks for no check of it.
var jsonType = []string{"application/json"}

func (c *call) body(status int, contentType []string, body []byte) {
	h := c.w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.status = status
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		c.written, _ = c.w.Write(body) // the caller may be gone; there is nobody to tell
	}
}

// encodeJSON is compact, and leaves <, > and & as they are.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode an answer: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// instant is a time as the API writes it; the zero time is null.
type instant time.Time

// MarshalJSON writes RFC 3339 in UTC with milliseconds.
func (t instant) MarshalJSON() ([]byte, error) {
	return appendTime(nil, time.Time(t)), nil
}

// word is a text that is null when it is empty.
type word string

// MarshalJSON writes a string or null.
func (w word) MarshalJSON() ([]byte, error) {
	if w == "" {
		return []byte("null"), nil
	}
	return encodeJSON(string(w))
}

// count is a number of which 0 means that there is no limit: null.
type count int64

// MarshalJSON writes an integer or null.
func (n count) MarshalJSON() ([]byte, error) {
	if n == 0 {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}
