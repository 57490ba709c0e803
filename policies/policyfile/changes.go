package policyfile

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/pikarc/server/policies"
)

// Change is a field that two versions of a policy say differently; "" is nothing.
type Change struct{ Field, Before, After string }

// Changes compares two versions, field by field, in the order they are written.
func Changes(before, after policies.Policy) []Change {
	was, is := fields(before), fields(after)
	var changes []Change
	for _, f := range was {
		if now := find(is, f.Field); now != f.After {
			changes = append(changes, Change{f.Field, f.After, now})
		}
	}
	for _, f := range is {
		if !slices.ContainsFunc(was, func(w Change) bool { return w.Field == f.Field }) {
			changes = append(changes, Change{Field: f.Field, After: f.After})
		}
	}
	return changes
}

// Same reports whether they are the same policy, whatever their versions.
func Same(a, b policies.Policy) bool { return bytes.Equal(a.JSON(), b.JSON()) }

// find returns a field's value in a list, "" if it is not there.
func find(list []Change, field string) string {
	for _, f := range list {
		if f.Field == field {
			return f.After
		}
	}
	return ""
}

// fields lists what a policy says, below objects: limit.amount.
func fields(p policies.Policy) (list []Change) {
	collect("", p.JSON(), &list)
	return list
}

// collect lists the members of a JSON value with their paths, such as match.tools.
func collect(field string, value json.RawMessage, list *[]Change) {
	// Token by token, so that fields come in the order in which they are written.
	dec := json.NewDecoder(bytes.NewReader(value))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		// Empty is the same as left out.
		if text := string(value); text != `""` && text != "null" {
			*list = append(*list, Change{Field: field, After: text})
		}
		return
	}
	for dec.More() {
		key, err := dec.Token()
		name, ok := key.(string)
		var inner json.RawMessage
		if err != nil || !ok || dec.Decode(&inner) != nil {
			return // JSON writes it, so JSON reads it
		}
		if field != "" {
			name = field + "." + name
		}
		collect(name, inner, list)
	}
}
