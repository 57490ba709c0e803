package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode"
)

const (
	// maxLine is how many characters a line has.
	maxLine = 160
	// maxLineSource is the longest JSON that a line is taken from. It is as much
	// as a conversation of a hundred thousand words.
	maxLineSource = 1 << 20
	// maxNesting is how deep a text is looked for, and maxDepth how deep is read.
	maxNesting = 8
	// maxDepth bounds the recursion of the decoder.
	maxDepth = 100
)

// LineOf says in one line what a payload is about: the last message of a
// conversation, the text of an answer, the arguments of a tool. It is "" where
// there is nothing to say.
func LineOf(payload []byte) string {
	if len(payload) == 0 || len(payload) > maxLineSource {
		return ""
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	v, err := decodeOrdered(dec, 0)
	if err != nil {
		return ""
	}
	return CutLine(textOf(v, 0))
}

// field is a name of a JSON object with its value, in the order they were sent.
type field struct {
	name  string
	value any
}

// object is a JSON object with its members in order: the first ones usually say most.
type object []field

// get returns a member, nil if there is none.
func (o object) get(name string) any {
	for _, f := range o {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// errTooDeep stops reading a payload; its line is then empty.
var errTooDeep = errors.New("nested too deep for a line")

// decodeOrdered reads a value; objects keep their order, which a map would lose.
func decodeOrdered(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		// A map would lose the order of members, which LineOf reads a text from.
		var o object
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return nil, err
			}
			value, err := decodeOrdered(dec, depth+1)
			if err != nil {
				return nil, err
			}
			o = append(o, field{name.(string), value})
		}
		_, err := dec.Token()
		return o, err
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			value, err := decodeOrdered(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err := dec.Token()
		return list, err
	}
	return token, nil
}

// conversations are where a list of messages is, the newest last; telling are
// where the text of a message or of an answer is, the most telling first.
func conversations() []string { return []string{"messages", "contents", "input"} }

// telling are the members that hold what a payload is about, in the order in which they are looked
// for.
func telling() []string {
	return []string{
		"content", "text", "output_text", "parts", "message", "choices", "candidates", "output",
		"answer", "result", "prompt", "question", "query", "input", "error",
	}
}

// textOf finds what a value says.
func textOf(v any, depth int) string {
	if depth > maxNesting {
		return ""
	}
	switch v := v.(type) {
	case string:
		return v
	case []any:
		return listText(v, depth)
	case object:
		return objectText(v, depth)
	}
	return scalarText(v)
}

// objectText looks for a conversation, then for a call of a tool, then for members that tell.
func objectText(o object, depth int) string {
	for _, name := range conversations() {
		if list, ok := o.get(name).([]any); ok && len(list) > 0 {
			if message, ok := list[len(list)-1].(object); ok {
				return messageText(message, depth+1)
			}
		}
	}
	if called := callText(o, depth); called != "" {
		return called
	}
	_, isMessage := o.get("role").(string)
	for _, name := range telling() {
		value := o.get(name)
		_, isText := value.(string)
		// An object of one text is that text; in others a name says what it is.
		if value == nil || isText && !isMessage && len(o) > 1 && o.get("type") == nil {
			continue
		}
		if list, ok := value.([]any); ok && !ofMessages(list) {
			continue
		}
		if _, ok := value.(object); ok && name != "message" && name != "content" {
			continue
		}
		if text := textOf(value, depth+1); text != "" {
			return text
		}
	}
	return pairs(o)
}

// messageText is what a message says, and who says it unless it is the user.
func messageText(o object, depth int) string {
	text := objectText(o, depth)
	if role, _ := o.get("role").(string); role == "tool" || role == "function" {
		return role + ": " + text
	}
	return text
}

// callText is a tool that is called, with its arguments.
func callText(o object, depth int) string {
	if calls, ok := o.get("tool_calls").([]any); ok && len(calls) > 0 {
		if text, _ := o.get("content").(string); text != "" {
			return text
		}
		return textOf(calls[0], depth+1)
	}
	if f, ok := o.get("function").(object); ok {
		return callOf(f, "arguments")
	}
	switch o.get("type") {
	case "tool_use":
		return callOf(o, "input")
	case "function_call":
		return callOf(o, "arguments")
	}
	return ""
}

// callOf writes a call of a tool: its name and its arguments.
func callOf(o object, arguments string) string {
	name, _ := o.get("name").(string)
	switch in := o.get(arguments).(type) {
	case object:
		return strings.TrimSpace(name + " " + pairs(in))
	case string: // JSON in a text
		return strings.TrimSpace(name + " " + LineOf([]byte(in)))
	}
	return name
}

// ofMessages reports whether a list is of messages or of their parts.
func ofMessages(list []any) bool {
	for _, v := range list {
		o, ok := v.(object)
		if !ok || o.get("type") == nil && o.get("text") == nil && o.get("message") == nil && o.get("content") == nil {
			return false
		}
	}
	return len(list) > 0
}

// listText writes the first message of a list that has a text, a lone value, or how many values
// there are.
func listText(list []any, depth int) string {
	if ofMessages(list) {
		for _, v := range list {
			if text := textOf(v, depth+1); text != "" {
				return text
			}
		}
	}
	if len(list) == 1 {
		return textOf(list[0], depth+1)
	}
	return strconv.Itoa(len(list)) + " items"
}

// pairs writes an object as `order A-20391, amount 180`.
func pairs(o object) string {
	var b strings.Builder
	for _, f := range o {
		if b.Len() > maxLine {
			break
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(f.name + " ")
		switch v := f.value.(type) {
		case string:
			b.WriteString(CutLine(v))
		case []any:
			b.WriteString("[" + strconv.Itoa(len(v)) + "]")
		case object:
			b.WriteString("{" + strconv.Itoa(len(v)) + "}")
		default:
			b.WriteString(scalarText(v))
		}
	}
	return b.String()
}

// scalarText writes a number or a boolean.
func scalarText(v any) string {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// CutLine folds white space and ends what is too long with an ellipsis.
func CutLine(text string) string {
	var b strings.Builder
	n, gap := 0, false
	for _, r := range text {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			gap = n > 0
			continue
		}
		if gap {
			b.WriteByte(' ')
			n, gap = n+1, false
		}
		if n >= maxLine {
			return strings.TrimRight(b.String(), " ") + "…"
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
