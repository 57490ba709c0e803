package storage

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
)

// maxTitle is how many characters a run's title has at most.
const maxTitle = 120

// titleKeys are where callers write what a run does, the most telling first.
func titleKeys() []string {
	return []string{"title", "task", "name", "prompt", "goal", "query", "agent"}
}

// titleOf takes the first words of what a run does from its metadata, so that
// lists can show them without reading it: the text under one of titleKeys,
// else the first text in the object; "" when there is none.
func titleOf(metadata []byte) string {
	if len(metadata) == 0 {
		return ""
	}
	texts, first := topTexts(metadata)
	for _, key := range titleKeys() {
		if title := firstWordsOf(texts[key]); title != "" {
			return title
		}
	}
	return first
}

// topTexts reads the texts of a JSON object by name, and the words of the first
// that has any. What is no object has none.
func topTexts(object []byte) (texts map[string]string, first string) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, ""
	}
	texts = make(map[string]string)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return texts, first
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return texts, first
		}
		var text string
		if value[0] != '"' || json.Unmarshal(value, &text) != nil {
			continue
		}
		texts[key.(string)] = text
		if first == "" {
			first = firstWordsOf(text)
		}
	}
	return texts, first
}

// firstWordsOf folds white space and control characters, and cuts what is
// longer than a title. It reads no more of a text than it needs.
func firstWordsOf(text string) string {
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
		b.WriteRune(r)
		if n++; n > maxTitle {
			return cutTitle([]rune(b.String()))
		}
	}
	return b.String()
}

// cutTitle ends a text that is too long with an ellipsis, between two words
// unless that would lose more than a third.
func cutTitle(text []rune) string {
	cut := text[:maxTitle-1]
	for i := len(cut) - 1; i >= maxTitle*2/3; i-- {
		if cut[i] == ' ' {
			cut = cut[:i]
			break
		}
	}
	return strings.TrimRight(string(cut), " ") + "…"
}
