package policies

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// isNull reports whether a field was left out, or is null, which says the same.
func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// hasControl reports whether a text has characters that nobody sees, or is no UTF-8.
func hasControl(text string) bool {
	return strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text)
}

// optional is object for one that may be left out.
func (p *parser) optional(field string, raw json.RawMessage, known ...string) (map[string]json.RawMessage, bool) {
	if isNull(raw) {
		return nil, false
	}
	return p.object(field, raw, known...)
}

// object reads an object that has known fields only.
func (p *parser) object(field string, raw []byte, known ...string) (map[string]json.RawMessage, bool) {
	in, ok := p.members(field, raw)
	for name := range in {
		if !slices.Contains(known, name) {
			p.report("extra_forbidden", join(field, shorten(name)), "is no field of a policy")
		}
	}
	return in, ok
}

// members reads an object; one that has a field twice is refused, since two
// readers could understand it differently.
func (p *parser) members(field string, raw []byte) (map[string]json.RawMessage, bool) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	in := make(map[string]json.RawMessage)
	open, err := dec.Token()
	if err == nil && open != json.Delim('{') {
		p.report("dict_type", field, "must be an object")
		return nil, false
	}
	for err == nil && dec.More() {
		var key json.Token
		if key, err = dec.Token(); err != nil {
			break
		}
		name, _ := key.(string)
		var value json.RawMessage
		if err = dec.Decode(&value); err != nil {
			break
		}
		// JSON leaves open which one holds. A policy that two readers understand differently is a
		// hole.
		if _, twice := in[name]; twice {
			p.report("value_error", join(field, shorten(name)), "is there twice")
		}
		in[name] = value
	}
	if err == nil {
		_, err = dec.Token() // the brace
	}
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it ends too soon")
		}
		p.report("json_invalid", field, "is no JSON: %v", err)
		return nil, false
	}
	return in, true
}

// join returns the path of a member.
func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// text reads an optional text of so many characters at most.
func (p *parser) text(field string, raw json.RawMessage, longest int) string {
	if isNull(raw) {
		return ""
	}
	var text string
	switch {
	case json.Unmarshal(raw, &text) != nil:
		p.report("string_type", field, "must be a text")
	case utf8.RuneCountInString(text) > longest:
		p.report("string_too_long", field, "must have at most %d characters", longest)
	case strings.Contains(text, "\x00"):
		p.report("value_error", field, "must not contain the NUL character")
	}
	return text
}

// required reads a short text that must be there.
func (p *parser) required(field string, raw json.RawMessage) string {
	if isNull(raw) {
		p.report("missing", field, "is missing")
		return ""
	}
	return p.text(field, raw, MaxPattern)
}

// choose reads one of some words, which must be there.
func choose[T comparable](p *parser, field string, raw json.RawMessage, from words[T]) (v T) {
	if isNull(raw) {
		p.report("missing", field, "is missing: say %s", from.all())
		return v
	}
	var word string
	if json.Unmarshal(raw, &word) == nil {
		if value, ok := from.value(word); ok {
			return value
		}
	}
	p.report("literal_error", field, "must be %s", from.all())
	return v
}

// boolean reads a boolean, or otherwise if it is left out.
func (p *parser) boolean(field string, raw json.RawMessage, otherwise bool) bool {
	if isNull(raw) {
		return otherwise
	}
	var b bool
	if json.Unmarshal(raw, &b) != nil {
		p.report("bool_type", field, "must be true or false")
	}
	return b
}

// integer reads a whole number between least and most, or otherwise if it is left out.
func (p *parser) integer(field string, raw json.RawMessage, otherwise, least, most int64) int64 {
	if isNull(raw) {
		return otherwise
	}
	var n int64
	switch err := json.Unmarshal(raw, &n); {
	case err != nil:
		p.report("int_type", field, "must be a whole number")
	case n < least:
		p.report("greater_than_equal", field, "must be at least %d", least)
	case n > most:
		p.report("less_than_equal", field, "must be at most %d", most)
	}
	return n
}

// number reads the text of a number, or of a text that is to be one.
func (p *parser) number(field string, raw json.RawMessage) string {
	if isNull(raw) {
		p.report("missing", field, "is missing")
		return ""
	}
	var text string
	if json.Unmarshal(raw, &text) == nil && text != "" {
		return text
	}
	var number json.Number
	if raw[0] == '"' || json.Unmarshal(raw, &number) != nil {
		p.report("decimal_type", field, "must be a number")
		return ""
	}
	return number.String()
}
