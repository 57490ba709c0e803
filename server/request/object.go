package request

import "slices"

// maxProblems bounds a 422 answer. The fields that we know are far fewer, so
// only a body full of unknown ones reaches it.
const maxProblems = 100

// Object is one JSON object sent by a caller, with the problems found in it so
// far. Its fields are read by name, in the order in which problems are to be
// reported; Err then tells of all of them at once.
//
// Secrets stay out of problems whatever order or reader a handler chooses,
// because inputs are only rendered by Err: see hidden.
type Object struct {
	raw       []byte
	members   []member
	readNames []string
	// secrets are the values of fields that a problem must not repeat.
	secrets []string
	found   []finding

	// Of a report; see report.go.
	maxPayload int64        // 0 for what is no report
	broken     *syntaxError // a deciding field is no JSON
	repaired   []string
}

// finding is a problem whose input is not rendered yet. A nil value stands for
// the enclosing object.
type finding struct {
	Problem
	name  string
	value []byte
}

// Raw is the body as read.
func (o *Object) Raw() []byte { return o.raw }

// RefuseUnknown adds a problem for each field that no reader has asked for, in
// the order sent. Call it after all readers.
func (o *Object) RefuseUnknown() {
	o.eachUnread(func(m member) {
		o.add(string(m.key), m.value, Problem{Type: "extra_forbidden",
			Msg: "Extra inputs are not permitted"})
	})
}

// Err returns nil, or a *ValidationError with all problems in the order in
// which the fields were read. Ignored fields count only if they hold a text that
// cannot be kept, and not in a report.
func (o *Object) Err() error {
	if o.maxPayload == 0 {
		o.eachUnread(func(m member) {
			if m.defects != 0 {
				o.add(string(m.key), m.value, defectProblem(m.defects))
			}
		})
	}
	if o.broken != nil {
		return jsonInvalid(o.broken)
	}
	if len(o.found) == 0 {
		return nil
	}
	enclosing := o.redacted()
	problems := make([]Problem, len(o.found))
	for i, f := range o.found {
		problems[i] = f.Problem
		switch {
		case f.value == nil:
			problems[i].Input = enclosing
		case o.hidden(f.name):
			problems[i].Input = masked
		default:
			problems[i].Input = redactJSON(f.value)
		}
	}
	return &ValidationError{Problems: problems}
}

// eachUnread visits the fields that no reader has asked for, a duplicate once
// with its last value, in the order of their first appearance.
func (o *Object) eachUnread(visit func(member)) {
	var unasked []member
	for _, m := range o.members {
		if !slices.Contains(o.readNames, string(m.key)) {
			unasked = append(unasked, m)
		}
	}
	for _, m := range lastWins(unasked) {
		visit(m)
	}
}

// lastWins drops duplicate keys as Python does: the first place, the last value.
func lastWins(members []member) []member {
	if len(members) < 2 {
		return members
	}
	place := make(map[string]int, len(members))
	kept := make([]member, 0, len(members))
	for _, m := range members {
		if i, seen := place[string(m.key)]; seen {
			kept[i] = m
			continue
		}
		place[string(m.key)] = len(kept)
		kept = append(kept, m)
	}
	return kept
}

// add records a problem of a field, unless it has one already.
func (o *Object) add(name string, value []byte, p Problem) {
	if len(o.found) >= maxProblems {
		return
	}
	if slices.ContainsFunc(o.found, func(f finding) bool {
		return len(f.Loc) > 1 &&
			f.name == name
	}) {
		return
	}
	p.Loc = []any{"body", shorten(name)}
	o.found = append(o.found, finding{Problem: p, name: name, value: value})
}

// Refuse adds a problem of a field that only a handler can see.
func (o *Object) Refuse(name, msg string) { o.add(name, o.value(name), valueProblem(msg)) }

// hidden reports whether a field's value must not be repeated. Three nets, none
// of which a handler can forget: what Secret reads; any name that sounds like a
// secret; and, where Secret reads anything at all, every field that nobody
// asked for, since it may be a misspelt password.
func (o *Object) hidden(name string) bool {
	if isSecretName(name) || slices.Contains(o.secrets, name) {
		return true
	}
	return len(o.secrets) > 0 && !slices.Contains(o.readNames, name)
}

// redacted renders the whole object for the input of a problem.
func (o *Object) redacted() any {
	out := []byte{'{'}
	for i, m := range lastWins(o.members) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, quoteJSON(string(m.key))...), ':')
		if o.hidden(string(m.key)) {
			out = append(out, quoteJSON(masked)...)
			continue
		}
		out = append(out, compactMasked(m.value)...)
	}
	return bounded(append(out, '}'))
}

// find returns the last field of that name, or nil, and notes that it is known.
func (o *Object) find(name string) *member {
	o.readNames = append(o.readNames, name)
	for i := len(o.members) - 1; i >= 0; i-- {
		if string(o.members[i].key) == name {
			return &o.members[i]
		}
	}
	return nil
}

// value returns nil when the field is absent, or holds a text that cannot be
// kept, which is then recorded.
func (o *Object) value(name string) []byte {
	m := o.find(name)
	if m == nil {
		return nil
	}
	if m.defects&defectNotFinite != 0 && o.broken == nil {
		o.broken = &syntaxError{offset: int(m.notFinite), text: "Expecting value"}
	}
	if m.defects&defectsOfText != 0 {
		o.add(name, m.value, defectProblem(m.defects))
		return nil
	}
	return m.value
}

// optional is value, with nil for null too.
func (o *Object) optional(name string) []byte {
	value := o.value(name)
	if isNull(value) {
		return nil
	}
	return value
}

// required is value, and records an absent field.
func (o *Object) required(name string) []byte {
	value := o.value(name)
	if value == nil {
		o.add(name, nil, missingProblem()) // no second problem for a defective one
	}
	return value
}

// isNull is false for nil, an absent value.
func isNull(value []byte) bool { return string(value) == "null" }
