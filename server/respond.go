package server

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

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
var (
	// Header values that answers share.
	jsonType = []string{"application/json"}
	htmlType = []string{"text/html; charset=utf-8"}
)

// body sends a whole answer. It sets the header's map directly, with values that are shared:
// Header.Set would allocate for each of them.
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

// file answers a GET or HEAD with content that has its type in the header, as
// its preconditions and ranges ask. Content-Encoding, if set, is of all of it.
func (c *call) file(content []byte, etag string) error {
	c.w.Header().Set("ETag", etag)
	w := &fileWriter{ResponseWriter: c.w, c: c, length: strconv.Itoa(len(content))}
	http.ServeContent(w, c.r, "", time.Time{}, bytes.NewReader(content))
	switch w.failed {
	case 0:
		return nil
	case http.StatusPreconditionFailed:
		return &apiError{status: w.failed, detail: "The file is another one than If-Match names"}
	default:
		return &apiError{status: w.failed, detail: "The file has no such range: it has " +
			w.length + " bytes"}
	}
}

// fileWriter is what http.ServeContent writes to. It keeps in the call what the
// log and the metrics tell, and holds back failures, which are answered as all are.
type fileWriter struct {
	http.ResponseWriter
	c      *call
	length string // of the whole content
	failed int    // its status, 0 for success
}

// WriteHeader keeps the errors of http.ServeContent from the caller, so that they are answered in
// the API's form.
func (w *fileWriter) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		w.failed = status
		return
	}
	if status == http.StatusOK {
		w.Header().Set("Content-Length", w.length) // ServeContent leaves it out of what is encoded
	}
	w.c.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Write drops the text that belongs to such an error.
func (w *fileWriter) Write(p []byte) (n int, err error) {
	if w.failed != 0 {
		return len(p), nil
	}
	n, err = w.ResponseWriter.Write(p)
	w.c.written += n
	return n, err
}
