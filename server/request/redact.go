package request

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// masked is what a problem shows in place of a secret.
const masked = "***"

// An input longer than maxInput bytes of JSON is cut to its first cutInput
// characters, so that a 422 stays small. (4096 also keeps every number under
// Python's limit of 4300 digits.)
const (
	// maxInput is how many bytes of a wrong input an answer repeats, and cutInput how many of a
	// longer one.
	maxInput = 4096
	cutInput = 256
)

// isSecretName reports whether a field of this name may hold a password or key.
// Token counts and prices per token do not.
func isSecretName(name string) bool {
	name = strings.ToLower(name)
	for _, word := range [...]string{"pass", "pwd", "secret", "key", "credential",
		"authorization"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return strings.Contains(name, "token") && !strings.HasSuffix(name, "_tokens") &&
		!strings.HasSuffix(name, "_per_token")
}

// containsAPIKey reports whether a text contains what looks like one of our API keys,
// lg_<8 characters>_<secret>: callers paste them into the wrong field.
func containsAPIKey(text string) bool {
	const prefix, prefixLen = "lg_", len("lg_01234567_")
	for {
		_, rest, found := strings.Cut(text, prefix)
		if !found {
			return false
		}
		key := text[len(text)-len(rest)-len(prefix):]
		if len(key) > prefixLen && key[prefixLen-1] == '_' {
			return true
		}
		text = rest
	}
}

// redactJSON renders a checked JSON value for a problem's input.
func redactJSON(value []byte) any { return bounded(compactMasked(value)) }

// redactStrings is redactJSON for a value whose field names do not show what is
// secret: it masks all strings.
func redactStrings(value []byte) any {
	c := copier{in: value, secret: isSecretName, text: func(string) bool { return true }}
	c.value()
	return bounded(c.out)
}

// redactText renders a text from the path or the query for a problem's input.
func redactText(name, text string) any {
	if isSecretName(name) || containsAPIKey(text) {
		return masked
	}
	if len(text) > maxInput {
		return shorten(text)
	}
	return text
}

// redactAny renders what a handler gives. A json.RawMessage that is not valid
// JSON is shown as "***": an answer that does not marshal would be a 500.
func redactAny(input any) any {
	switch v := input.(type) {
	case string:
		return redactText("", v)
	case json.RawMessage:
		if _, err := scanJSON(v); err != nil {
			return masked
		}
		return redactJSON(v)
	default:
		return input
	}
}

// bounded cuts a value that is too long: a string by its own characters, anything
// else by those of its JSON. The value must be masked already.
func bounded(value []byte) any {
	if len(value) <= maxInput {
		return json.RawMessage(value)
	}
	if value[0] == '"' {
		value = unquoteBytes(value)
	}
	return shorten(string(value))
}

// shorten keeps the first cutInput characters.
func shorten(text string) string {
	if len(text) <= cutInput {
		return text
	}
	count := 0
	for i := range text {
		if count == cutInput {
			return text[:i] + "…"
		}
		count++
	}
	return text
}

// quoteJSON writes a text as a JSON string.
func quoteJSON(text string) []byte {
	if IsPlainASCII(text) {
		return []byte(`"` + text + `"`)
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		return []byte(`""`) // not reached: a string always marshals
	}
	return quoted
}

// IsPlainASCII reports whether a text is its own JSON between quotes.
func IsPlainASCII(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
