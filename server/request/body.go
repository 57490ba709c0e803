package request

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrRead says that a body was cut short or came too slowly: a 400.
var ErrRead = errors.New("the request body could not be read")

// ErrNoMemory says that there was no memory for a large body: a 503.
var ErrNoMemory = errors.New("no memory for a large request body")

// Limit is how many bytes a body may have, and the setting that says so.
// Before a body that is not small takes its memory, hold is asked for it.
type Limit struct {
	Bytes   int64
	Setting string
	Hold    func(bytes int64) error // nil: without asking
}

// smallBody is what a body may take without asking: so many for each connection.
const smallBody = 32 << 10

// TooLargeError says that a body is larger than the limit: a 413.
type TooLargeError Limit

// Error names the setting as a flag and as a variable, for whoever can change it.
func (e *TooLargeError) Error() string {
	variable := "PIKARC_" + strings.ToUpper(strings.ReplaceAll(e.Setting, "-", "_"))
	return fmt.Sprintf("The request body is larger than the %d bytes that this server takes "+
		"here, by its setting --%s (%s)",
		e.Bytes, e.Setting, variable)
}

// UnsupportedCodingError is the Content-Encoding of a body that is compressed: a
// 415. Nobody who calls needs it, and what a small body inflates to would have to
// be bounded too.
type UnsupportedCodingError string

// Error says what to do instead.
func (e UnsupportedCodingError) Error() string {
	return fmt.Sprintf("The request has the header Content-Encoding: %s. Send the body without "+
		"it, uncompressed",
		strconv.QuoteToASCII(shorten(string(e))))
}

// ReadObject reads a body that must be one JSON object. Errors are a
// *ValidationError, a *TooLargeError or ErrRead.
func ReadObject(w http.ResponseWriter, r *http.Request, limit Limit) (*Object, error) {
	body, err := readSomeBody(w, r, limit)
	if err != nil {
		return nil, err
	}
	return parseObject(body)
}

// ReadReport is ReadObject for what an agent says; see report.go. Its fields are
// those that known reports, and a payload has at most so many bytes.
func ReadReport(
	w http.ResponseWriter, r *http.Request, limit Limit, maxPayload int64,
	known func(key []byte) bool,
) (*Object, error) {
	body, err := readSomeBody(w, r, limit)
	if err != nil {
		return nil, err
	}
	return parseReport(body, maxPayload, known)
}

// readSomeBody refuses one that is blank.
func readSomeBody(w http.ResponseWriter, r *http.Request, limit Limit) ([]byte, error) {
	body, err := ReadBody(w, r, limit)
	if err == nil && isBlank(body) {
		p := missingProblem()
		p.Loc = []any{"body"}
		err = &ValidationError{Problems: []Problem{p}}
	}
	return body, err
}

// ReadOptionalObject is ReadObject for a call that needs no body: none at all,
// or null, reads as {}.
func ReadOptionalObject(w http.ResponseWriter, r *http.Request, limit Limit) (*Object, error) {
	body, err := ReadBody(w, r, limit)
	if err != nil {
		return nil, err
	}
	if isBlank(body) || string(bytes.TrimSpace(body)) == "null" {
		return &Object{raw: body}, nil
	}
	return parseObject(body)
}

// ReadBody reads all of it into a slice of its own, which the object's values
// alias. The limit is of bytes read, whatever length was declared.
func ReadBody(w http.ResponseWriter, r *http.Request, limit Limit) ([]byte, error) {
	if codings := r.Header["Content-Encoding"]; len(codings) > 0 && r.ContentLength != 0 {
		if coding := strings.Join(codings, ", "); !strings.EqualFold(coding, "identity") {
			return nil, UnsupportedCodingError(coding)
		}
	}
	if r.ContentLength > limit.Bytes {
		return nil, limit.explain(&http.MaxBytesError{Limit: limit.Bytes})
	}
	declared := max(r.ContentLength, 0)
	body := bytes.NewBuffer(make([]byte, 0, min(declared, smallBody)+bytes.MinRead))
	all := http.MaxBytesReader(w, r.Body, limit.Bytes)
	if err := readInto(body, all, r.ContentLength, limit); err != nil {
		return nil, limit.explain(err)
	}
	return body.Bytes(), nil
}

// explain says what a body could not be read for.
func (l Limit) explain(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return (*TooLargeError)(&l)
	case errors.Is(err, ErrNoMemory):
		return err
	default:
		return fmt.Errorf("%w: %w", ErrRead, err)
	}
}

// readInto reads all of a body. Its declared length takes no memory before
// something of it has come, and is -1 for one that is not known.
func readInto(body *bytes.Buffer, all io.Reader, declared int64, limit Limit) error {
	if declared < 0 || declared > smallBody {
		n, err := body.ReadFrom(io.LimitReader(all, smallBody))
		if err != nil || n < smallBody {
			return err
		}
		most := declared
		if declared < 0 {
			most = limit.Bytes
		}
		if limit.Hold != nil {
			if err := limit.Hold(most); err != nil {
				return err
			}
		}
		if declared > 0 {
			body.Grow(int(declared-n) + bytes.MinRead)
		}
	}
	_, err := body.ReadFrom(all)
	return err
}

// isBlank knows the white space of JSON only: a NUL byte is a syntax error.
func isBlank(body []byte) bool {
	return !slices.ContainsFunc(body, func(c byte) bool { return !isSpace(c) })
}

// parseObject makes the two kinds of 422 that end the reading at once: a text
// that is no JSON, and a value that is no object. All others are collected.
func parseObject(body []byte) (*Object, error) {
	text, err := scanJSON(body)
	if err != nil {
		return nil, jsonInvalid(err)
	}
	if text.kind != '{' {
		return nil, notAnObject(body, 0)
	}
	o := &Object{raw: body, members: text.members, readNames: make([]string, 0, 8)}
	if text.keyDefects != 0 {
		p := defectProblem(text.keyDefects)
		p.Loc = []any{"body"}
		o.found = append(o.found, finding{Problem: p})
	}
	return o, nil
}

// notAnObject repeats no value that is too deep to be walked through.
func notAnObject(body []byte, defects defect) error {
	p := Problem{
		Type:  "model_attributes_type",
		Loc:   []any{"body"},
		Msg:   "Input should be a valid dictionary or object to extract fields from",
		Input: masked,
	}
	if defects&^defectsOfText == 0 {
		p.Input = redactStrings(body)
	}
	return &ValidationError{Problems: []Problem{p}}
}

// jsonInvalid repeats nothing of the body, since nobody knows where in a broken
// text a password would stand.
func jsonInvalid(err error) error {
	offset := 0
	var syntax *syntaxError
	if errors.As(err, &syntax) {
		offset = syntax.offset
	}
	return &ValidationError{Problems: []Problem{{
		Type:  "json_invalid",
		Loc:   []any{"body", offset},
		Msg:   "JSON decode error",
		Input: struct{}{},
		Ctx:   map[string]any{"error": err.Error()},
	}}}
}

// FormText reads a field of a body that is a form, as a page of this server
// sends it: "" where there is none, or the body is none of a form.
func FormText(r *http.Request, body []byte, field string, maxLength int) (string, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return "", nil //nolint:nilerr // it says nothing then
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", Invalid([]any{"body"}, "must be a well-formed form", nil)
	}
	text := strings.TrimSpace(strings.ReplaceAll(form.Get(field), "\r\n", "\n"))
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) || utf8.RuneCountInString(text) > maxLength {
		return "", Invalid([]any{"body", field}, fmt.Sprintf("must be a text of at most %d characters, without NUL", maxLength), nil)
	}
	return text, nil
}
