package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// json writes a value as the answer. It is encoded before the header is
// written, so that a failure can still become a 500.
func (c *call) json(status int, v any) {
	body, err := encodeJSON(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"detail":"Internal Server Error"}`)
	}
	c.body(status, "application/json", body)
}

// ok answers 200 with a value, or passes on the error of what made it.
func (c *call) ok(v any, err error) error {
	if err == nil {
		c.json(http.StatusOK, v)
	}
	return err
}

func (c *call) body(status int, contentType string, body []byte) {
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
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
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return []byte(time.Time(t).UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
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

// decisionJSON is a decision in an answer.
type decisionJSON struct {
	Outcome        string `json:"outcome"`
	Reason         word   `json:"reason"`
	*objectionJSON        // of a DENY
	Evaluated      []word `json:"evaluated,omitempty"` // in run detail
}

// objectionJSON is what the objecting rule compared; null where it compares nothing.
type objectionJSON struct {
	Limit    any     `json:"limit"`
	Used     any     `json:"used"`
	ResetsAt instant `json:"resets_at"`
}

func decisionOf(d guard.Decision) decisionJSON {
	if d.Allowed() {
		return decisionJSON{Outcome: "ALLOW"}
	}
	objection := &objectionJSON{ResetsAt: instant(d.ResetsAt)}
	switch {
	case d.Reason.IsMoney():
		objection.Limit, objection.Used = plans.Money(d.Limit), plans.Money(d.Used)
	case d.Reason.HasLimit():
		objection.Limit, objection.Used = d.Limit, d.Used
	}
	return decisionJSON{Outcome: "DENY", Reason: word(d.Reason.String()), objectionJSON: objection}
}

// recordedDecisionOf adds the rules that were looked at.
func recordedDecisionOf(d guard.Decision) decisionJSON {
	out := decisionOf(d)
	for _, rule := range d.Evaluated {
		out.Evaluated = append(out.Evaluated, word(rule.String()))
	}
	return out
}
