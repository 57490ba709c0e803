package policies

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The bounds of a run's tags.
const (
	MaxTags     = 10
	MaxTagKey   = 40  // characters
	MaxTagValue = 100 // characters
)

// TagsOf reads the tags of a run from its metadata: the object `tags`, and
// without one the text `agent` as the tag agent. Nothing is refused: what is no
// text is left out, what is too long is cut, of too many keys the first in
// alphabetical order stay, and each defect is said in a sentence.
func TagsOf(metadata []byte) (tags map[string]string, defects []string) {
	if len(metadata) == 0 {
		return nil, nil
	}
	var in struct {
		Tags  json.RawMessage `json:"tags"`
		Agent json.RawMessage `json:"agent"`
	}
	if json.Unmarshal(metadata, &in) != nil {
		return nil, nil // no object: there can be no tags in it
	}
	var values map[string]json.RawMessage
	if in.Tags != nil && string(in.Tags) != "null" {
		if json.Unmarshal(in.Tags, &values) != nil {
			return nil, []string{"tags: is no object of texts, so there are none"}
		}
		// Callers from before there were tags name their agent beside them.
	} else if in.Agent != nil {
		values = map[string]json.RawMessage{"agent": in.Agent}
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	// Which tags are left out when there are too many must not depend on the order of a map.
	slices.Sort(keys)
	tags = make(map[string]string)
	for _, key := range keys {
		short, value, defect := oneTag(key, values[key])
		_, twice := tags[short]
		switch {
		case defect != "" && short == "":
			defects = append(defects, defect)
			continue
		case twice:
			defects = append(defects, fmt.Sprintf("tags.%s: another key is the same once cut", short))
			continue
		case len(tags) == MaxTags:
			defects = append(defects, fmt.Sprintf("tags.%s: left out, %d are the most", short, MaxTags))
			continue
		case defect != "":
			defects = append(defects, defect)
		}
		tags[short] = value
	}
	if len(tags) == 0 {
		return nil, defects
	}
	return tags, defects
}

// oneTag reads one tag; the key is "" where it cannot be one.
func oneTag(key string, raw json.RawMessage) (short, value, defect string) {
	short, longKey := cut(key, MaxTagKey)
	if json.Unmarshal(raw, &value) != nil || string(raw) == "null" {
		return "", "", fmt.Sprintf("tags.%s: is no text", short)
	}
	if short == "" {
		return "", "", "tags: a key is empty"
	}
	value, longValue := cut(value, MaxTagValue)
	visible := strings.Map(replaceControl, short) == short && strings.Map(replaceControl, value) == value
	switch {
	case !visible:
		short, value = strings.Map(replaceControl, short), strings.Map(replaceControl, value)
		defect = fmt.Sprintf("tags.%s: an invisible character was replaced", short)
	case longKey:
		defect = fmt.Sprintf("tags.%s: the key was cut to %d characters", short, MaxTagKey)
	case longValue:
		defect = fmt.Sprintf("tags.%s: was cut to %d characters", short, MaxTagValue)
	}
	return short, value, defect
}

// replaceControl replaces characters that nobody sees.
func replaceControl(r rune) rune {
	if unicode.IsControl(r) {
		return unicode.ReplacementChar
	}
	return r
}

// cut shortens a text to so many characters, and reports whether it did.
func cut(text string, characters int) (string, bool) {
	if utf8.RuneCountInString(text) <= characters {
		return text, false
	}
	return string([]rune(text)[:characters]), true
}
