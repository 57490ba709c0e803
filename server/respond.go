package server

import (
	"net/http"
	"strconv"

	"github.com/pikarc/server/server/wire"
)

// json writes a value as the answer. It is encoded before the header is
// written, so that a failure can still become a 500.
func (c *call) json(status int, v any) {
	body, err := wire.Encode(v)
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
