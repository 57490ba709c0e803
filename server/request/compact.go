package request

import "bytes"

// compactJSON copies a checked JSON value without the white space around its tokens.
func compactJSON(value []byte) []byte {
	c := copier{in: value, out: make([]byte, 0, len(value))}
	c.value()
	return c.out
}

// compactMasked is compactJSON with "***" in place of each value whose name sounds
// like a secret, at any depth, and of each text that contains an API key.
func compactMasked(value []byte) []byte {
	c := copier{in: value, out: make([]byte, 0, len(value)), secret: isSecretName, text: containsAPIKey}
	c.value()
	return c.out
}

// copier walks one JSON value that scanJSON has checked, so it meets no error.
// With secret set, it masks the values of such names and such texts; with
// repair, it replaces what cannot be kept.
type copier struct {
	in     []byte
	pos    int
	out    []byte
	secret func(name string) bool
	text   func(text string) bool
	repair bool
}

// space steps over white space without copying it.
func (c *copier) space() {
	for c.pos < len(c.in) && isSpace(c.in[c.pos]) {
		c.pos++
	}
}

// value copies one value without white space, and masks texts that must not be kept.
func (c *copier) value() {
	c.space()
	switch c.in[c.pos] {
	case '{', '[':
		c.composite()
	case '"':
		token := c.token()
		if c.text != nil && c.text(string(token)) {
			token = quoteJSON(masked)
		}
		c.out = append(c.out, token...)
	default:
		token := c.scalar()
		if first := token[0]; c.repair && (first == 'N' || first == 'I' ||
			string(token) == "-Infinity") {
			token = []byte("null")
		}
		c.out = append(c.out, token...)
	}
}

// composite copies an object or array: its punctuation as it comes, its keys
// and values each by themselves.
func (c *copier) composite() {
	inObject := c.in[c.pos] == '{'
	for {
		c.out = append(c.out, c.in[c.pos]) // { [ or ,
		c.pos++
		c.space()
		if c.in[c.pos] == '}' || c.in[c.pos] == ']' {
			break // only when empty
		}
		if inObject {
			c.member()
		} else {
			c.value()
		}
		c.space()
		if c.in[c.pos] != ',' {
			break
		}
	}
	c.out = append(c.out, c.in[c.pos]) // } or ]
	c.pos++
}

// member copies a key as sent and its value. A masked value is copied first and
// then taken back, which is the simplest way to step over it.
func (c *copier) member() {
	key := c.token()
	c.space()
	c.pos++ // the colon
	c.out = append(c.out, key...)
	c.out = append(c.out, ':')
	if c.secret == nil || !c.secret(string(unquoteBytes(key))) {
		c.value()
		return
	}
	before := len(c.out)
	c.value()
	c.out = append(c.out[:before], quoteJSON(masked)...)
}

// token is string, repaired where that is asked for.
func (c *copier) token() []byte {
	if c.repair {
		return repairString(c.string())
	}
	return c.string()
}

// string returns the string token at pos, and steps over it.
func (c *copier) string() []byte {
	start := c.pos
	c.pos++
	for c.in[c.pos] != '"' {
		if c.in[c.pos] == '\\' {
			c.pos++
		}
		c.pos++
	}
	c.pos++
	return c.in[start:c.pos]
}

// scalar returns the number or word at pos, and steps over it.
func (c *copier) scalar() []byte {
	start := c.pos
	for c.pos < len(c.in) && !isSpace(c.in[c.pos]) && bytes.IndexByte([]byte(",]}"),
		c.in[c.pos]) < 0 {
		c.pos++
	}
	return c.in[start:c.pos]
}
