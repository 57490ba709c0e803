package prices

import (
	"bytes"
	"strings"
)

// maxName bounds the names that are looked up, in bytes. None of the catalogue is longer.
const maxName = 160

// Find returns the entry that a model's name, as an agent sends it, belongs to:
// the exact name; a provider's name, a slash and one of its names; or one of
// these with the date or the version of a snapshot behind it, where the data set
// says that snapshots cost the same. It never guesses: a name that only resembles
// an entry's finds nothing. Upper case and white space around make no difference.
func (c *Catalogue) Find(name string) (*Model, bool) {
	var buffer [maxName]byte
	key, ok := fold(buffer[:0], name)
	if !ok {
		return nil, false
	}
	key = cutFineTune(key)
	if m := c.find(key); m != nil {
		return m, true
	}
	if rest, ok := route(key); ok {
		if m := c.find(rest); m != nil {
			return m, true
		}
	}
	if m := c.findQualified(key); m != nil {
		return m, true
	}
	return nil, false
}

// fold writes a name in lower case and without white space around it. Only ASCII
// is folded: the catalogue has no other letters.
func fold(to []byte, name string) ([]byte, bool) {
	name = strings.TrimSpace(name)
	if name == "" || len(name) > maxName {
		return nil, false
	}
	for i := range len(name) {
		b := name[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		to = append(to, b)
	}
	return to, true
}

// find looks for a name, and then for what is left of it without a snapshot's date and version.
func (c *Catalogue) find(key []byte) *Model {
	if m := c.names[string(key)]; m != nil {
		return m
	}
	var buffer [2 * maxName]byte
	for first := true; ; first = false {
		base, form := cutSnapshot(key)
		if form == "" {
			return nil
		}
		if first {
			if m := c.names[string(append(append(buffer[:0], base...), form...))]; m != nil {
				return m
			}
		}
		if m := c.names[string(append(append(buffer[:0], base...), '*'))]; m != nil {
			return m
		}
		key = base
	}
}

// cutFineTune cuts off whose a fine-tuned model of OpenAI is: ft:MODEL:ORGANISATION:NAME:ID.
func cutFineTune(key []byte) []byte {
	if base, ok := bytes.CutPrefix(key, []byte("ft:")); ok {
		if i := bytes.IndexByte(base, ':'); i >= 0 {
			return key[:len("ft:")+i]
		}
	}
	return key
}

// route cuts what the Gemini API and Vertex AI write before a model's name.
func route(key []byte) ([]byte, bool) {
	for _, before := range []string{"models/", "publishers/google/models/", "publishers/anthropic/models/"} {
		if rest, ok := bytes.CutPrefix(key, []byte(before)); ok {
			return rest, true
		}
	}
	return nil, false
}

// findQualified looks for a name behind a provider's, which may go by another
// name, and for the models of others that the provider sells.
func (c *Catalogue) findQualified(key []byte) *Model {
	i := bytes.IndexByte(key, '/')
	if i < 0 {
		return nil
	}
	p := c.providers[string(key[:i])]
	if p == nil {
		return nil
	}
	rest := key[i+1:]
	if m := c.findAt(p.ID, rest); m != nil {
		return m
	}
	// Some providers put the maker's name before the model's.
	if cut, ok := route(rest); ok {
		if m := c.findAt(p.ID, cut); m != nil {
			return m
		}
	}
	for _, other := range p.fallbacks {
		if m := c.findAt(other, rest); m != nil {
			return m
		}
	}
	return nil
}

// findAt looks for a name among those of one provider.
func (c *Catalogue) findAt(provider string, name []byte) *Model {
	var buffer [2 * maxName]byte
	key := append(append(append(buffer[:0], provider...), '/'), name...)
	return c.find(key)
}

// cutSnapshot cuts one part of a snapshot's name off the end, and returns its
// form: a date (-20250929, @20250929, -2025-09-29), a version (-001, -v1, :0), or
// -latest. The form is "" where there is none.
func cutSnapshot(key []byte) (base []byte, form string) {
	for _, date := range []struct{ form, digits string }{
		{"-##", "-20dd-md-dd"}, {"-#", "-20ddmddd"}, {"@#", "@20ddmddd"}, {"-0", "-0dd"},
	} {
		if i := len(key) - len(date.digits); i > 0 && fits(key[i:], date.digits) {
			return key[:i], date.form
		}
	}
	if base, ok := bytes.CutSuffix(key, []byte("-latest")); ok && len(base) > 0 {
		return base, "-latest"
	}
	i := len(key)
	for i > 0 && isDigit(key[i-1]) && len(key)-i < 3 {
		i--
	}
	for _, sign := range []string{":", "-v"} {
		if base, ok := bytes.CutSuffix(key[:i], []byte(sign)); ok && i < len(key) && len(base) > 0 {
			return base, sign
		}
	}
	return key, ""
}

// fits compares a text with a form in which d is a digit and m a month's first digit.
func fits(text []byte, form string) bool {
	for i := range len(form) {
		switch b := form[i]; {
		case b == 'd' && !isDigit(text[i]), b == 'm' && text[i] != '0' && text[i] != '1':
			return false
		case b != 'd' && b != 'm' && text[i] != b:
			return false
		}
	}
	return true
}

// isDigit reports whether b is 0 to 9.
func isDigit(b byte) bool { return '0' <= b && b <= '9' }
