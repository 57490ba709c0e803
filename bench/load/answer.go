package load

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

var (
	// headerEnd is the empty line after the headers.
	headerEnd = []byte("\r\n\r\n")
	// errNotHTTP: a contender answers something else.
	errNotHTTP = errors.New("the answer is no HTTP/1.1")
)

// parseAnswer parses one whole response at the start of data. size is its length, or 0 if data is
// incomplete. It understands only what the contenders send, a Content-Length and a body, and
// refuses anything else.
func parseAnswer(data []byte) (status int, body []byte, size int, err error) {
	end := bytes.Index(data, headerEnd)
	if end < 0 {
		return 0, nil, 0, nil
	}
	if end < len("HTTP/1.1 200") || string(data[:9]) != "HTTP/1.1 " {
		return 0, nil, 0, errNotHTTP
	}
	for _, c := range data[9:12] {
		status = status*10 + int(c-'0')
	}
	length, err := contentLength(data[:end+2])
	if err != nil {
		return 0, nil, 0, fmt.Errorf("%w:\n%s", err, data[:end])
	}
	size = end + len(headerEnd) + length
	if len(data) < size {
		return 0, nil, 0, nil
	}
	return status, data[size-length : size], size, nil
}

// contentLength reads the Content-Length from a header that ends with a line break.
func contentLength(header []byte) (int, error) {
	const name = "\ncontent-length: "
	for from := 0; ; {
		line := bytes.IndexByte(header[from:], '\n')
		if line < 0 || from+line+len(name) >= len(header) {
			return 0, errors.New("the answer has no Content-Length")
		}
		from += line
		if value := header[from+len(name):]; hasFold(header[from:], name) {
			return digits(value)
		}
		from++
	}
}

// digits parses a length without allocating.
func digits(text []byte) (n int, err error) {
	for i, c := range text {
		if c < '0' || c > '9' {
			if i == 0 || n > math.MaxInt32 {
				break
			}
			return n, nil
		}
		n = n*10 + int(c-'0')
	}
	return 0, errors.New("the answer's Content-Length is not a number")
}

// hasFold reports whether b begins with prefix, which is lower-case, ignoring ASCII case.
func hasFold(b []byte, prefix string) bool {
	for i := range len(prefix) {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}
