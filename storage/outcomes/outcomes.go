// Package outcomes writes down what the policies that were asked about a call said of it. All of
// a call is one text, in the row of its step or run: a row for each policy would cost more than
// the decision itself.
//
// The text is a JSON array with an entry for each policy, so that SQL of both engines can read it
// too (the views step_policies and run_policies): [policy, outcome], and where the policy's limit
// counts the call, [policy, outcome, measure, counts_from, scope, slice].
package outcomes

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Outcome is what one policy said of a call, and on which counter its limit counts the call.
type Outcome struct {
	Policy  int64
	Outcome int64 // storage's: passed, logged, review, denied, granted
	Measure int64 // what the limit counts; 0 where it does not count the call
	// The counter, where there is a measure: the version from which the policy counts, the value
	// it counts by, and the start of the bucket in milliseconds.
	CountsFrom int64
	Scope      string
	Bucket     int64
}

// Encode returns the text of a call; "" where no policy was asked.
func Encode(all []Outcome) string {
	if len(all) == 0 {
		return ""
	}
	// Written by hand: a decision must not wait for reflection.
	const perEntry = 40 // bytes, with a counter whose scope is an id
	b := make([]byte, 0, perEntry*len(all))
	for i, o := range all {
		open := ",["
		if i == 0 {
			open = "[["
		}
		b = append(b, open...)
		b = strconv.AppendInt(b, o.Policy, 10)
		b = append(b, ',')
		b = strconv.AppendInt(b, o.Outcome, 10)
		if o.Measure != 0 {
			b = append(b, ',')
			b = strconv.AppendInt(b, o.Measure, 10)
			b = append(b, ',')
			b = strconv.AppendInt(b, o.CountsFrom, 10)
			b = append(b, ',')
			b = appendText(b, o.Scope)
			b = append(b, ',')
			b = strconv.AppendInt(b, o.Bucket, 10)
		}
		b = append(b, ']')
	}
	return string(append(b, ']'))
}

// appendText appends a JSON string.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c > '~' {
			escaped, err := json.Marshal(text)
			if err != nil {
				panic(err) // no string is invalid
			}
			return append(b, escaped...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

// Decode reads what Encode wrote.
func Decode(text string) (all []Outcome, err error) {
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("read the outcomes %q: %w", text, err)
	}
	return all, nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *Outcome) UnmarshalJSON(entry []byte) error {
	fields := [...]any{&o.Policy, &o.Outcome, &o.Measure, &o.CountsFrom, &o.Scope, &o.Bucket}
	return json.Unmarshal(entry, &fields)
}
