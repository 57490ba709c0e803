package request

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// The readers below record at most one problem for each field, and then return
// a zero value: read everything first, then look at Err.

// String reads a required text of min to max Unicode code points.
func (o *Object) String(name string, min, max int) string {
	text, _ := o.text(name, o.required(name), min, max)
	return text
}

// OptionalString is String for a field that may be absent or null: nil.
func (o *Object) OptionalString(name string, min, max int) *string {
	return orNil(o.text(name, o.optional(name), min, max))
}

// PresentString is String for a field that may be absent (nil), but not null.
func (o *Object) PresentString(name string, min, max int) *string {
	return orNil(o.text(name, o.value(name), min, max))
}

// Secret is String for a password or key: no problem repeats its value.
func (o *Object) Secret(name string, min, max int) string {
	o.secrets = append(o.secrets, name)
	return o.String(name, min, max)
}

// Int reads a required whole number from ge to le.
func (o *Object) Int(name string, ge, le int64) int64 {
	n, _ := o.integer(name, o.required(name), ge, le)
	return n
}

// OptionalInt is Int for a field that may be absent or null: nil.
func (o *Object) OptionalInt(name string, ge, le int64) *int64 {
	return orNil(o.integer(name, o.optional(name), ge, le))
}

// PresentInt is Int for a field that may be absent (nil), but not null.
func (o *Object) PresentInt(name string, ge, le int64) *int64 {
	return orNil(o.integer(name, o.value(name), ge, le))
}

// Bool reads a required true or false.
func (o *Object) Bool(name string) bool {
	return o.boolean(name, o.required(name))
}

// OptionalBool is Bool for a field that may be absent, but not null.
func (o *Object) OptionalBool(name string, absent bool) bool {
	value := o.value(name)
	if value == nil {
		return absent
	}
	return o.boolean(name, value)
}

// PresentBool is Bool for a field that may be absent (nil), but not null.
func (o *Object) PresentBool(name string) *bool {
	value := o.value(name)
	if value == nil {
		return nil
	}
	return new(o.boolean(name, value))
}

// Literal reads a required text that is one of those allowed.
func (o *Object) Literal(name string, allowed ...string) string {
	return o.literal(name, o.required(name), allowed)
}

// OptionalLiteral is Literal for a field that may be absent or null: "".
func (o *Object) OptionalLiteral(name string, allowed ...string) string {
	return o.literal(name, o.optional(name), allowed)
}

// Literals reads a required list of texts, each one of those allowed; one at least.
func (o *Object) Literals(name string, allowed ...string) (words []string) {
	value := o.required(name)
	if value == nil {
		return nil
	}
	items, ok := o.list(name, value, len(allowed))
	if ok && len(items) == 0 {
		o.add(name, value, Problem{
			Type: "too_short", Msg: "List should have at least 1 item after validation, not 0",
			Ctx: map[string]any{"field_type": "List", "min_length": 1, "actual_length": 0},
		})
	}
	for i, item := range items {
		had := len(o.found)
		words = append(words, o.literal(name, item, allowed))
		if len(o.found) > had {
			o.found[had].Loc = []any{"body", name, i}
			return nil
		}
	}
	return words
}

// OptionalFuture reads an RFC 3339 time after now, for a field that may be
// absent or null: zero. It is kept to the millisecond.
func (o *Object) OptionalFuture(name string, now time.Time) time.Time {
	value := o.optional(name)
	text, ok := o.text(name, value, 0, MaxTimeText)
	if !ok {
		return time.Time{}
	}
	t, ok := parseTime(text)
	if !ok {
		o.add(name, value, timeProblem())
		return time.Time{}
	}
	if t = t.Truncate(time.Millisecond); !t.After(now) || t.Year() > maxYear {
		o.add(name, value, valueProblem("must be in the future, and before the year 10000"))
		return time.Time{}
	}
	return t.UTC()
}

// OptionalTime reads an RFC 3339 time, for a field that may be absent or null: zero.
func (o *Object) OptionalTime(name string) time.Time {
	value := o.optional(name)
	text, ok := o.text(name, value, 0, MaxTimeText)
	if !ok {
		return time.Time{}
	}
	t, ok := parseTime(text)
	if !ok {
		o.add(name, value, timeProblem())
		return time.Time{}
	}
	return t
}

const (
	// MaxTimeText is longer than any RFC 3339 time.
	MaxTimeText = 64
	// maxYear is the last one that RFC 3339 can write.
	maxYear = 9999
)

// Dict reads a JSON object, compacted: nil when absent or null. The copy is the
// caller's to keep.
func (o *Object) Dict(name string) json.RawMessage {
	value := o.optional(name)
	if value == nil {
		return nil
	}
	if value[0] != '{' {
		o.add(name, value, Problem{Type: "dict_type", Msg: "Input should be a valid dictionary"})
		return nil
	}
	return compactJSON(value)
}

// JSON reads any JSON value, compacted: nil when absent or null. Numbers and
// duplicate keys inside it stay as sent.
func (o *Object) JSON(name string) json.RawMessage {
	value := o.optional(name)
	if value == nil {
		return nil
	}
	return compactJSON(value)
}

// Price reads a required price of one token, a number or a numeric text.
func (o *Object) Price(name string) plans.Price {
	value := o.required(name)
	if value == nil {
		return 0
	}
	text, ok := o.decimal(name, value)
	if !ok {
		return 0
	}
	price, err := plans.ParsePrice(text)
	if err != nil {
		const picosPerDollar = 1_000_000_000_000
		o.add(name, value, decimalProblem(err, 12, int64(plans.MaxPrice/picosPerDollar)))
		return 0
	}
	return price
}

// OptionalPrice is Price for a field that may be absent or null: nil then.
func (o *Object) OptionalPrice(name string) *plans.Price {
	if !o.Has(name) || o.IsNull(name) {
		return nil
	}
	return new(o.Price(name))
}

// OptionalMoney reads an amount of USD, a number or a numeric text: nil when absent or null.
func (o *Object) OptionalMoney(name string) *plans.Money {
	budget, present := o.Budget(name)
	if !present || !budget.Set {
		return nil
	}
	return &budget.Limit
}

// Objects reads a list of at most max objects, each by read, which also is to
// refuse what it does not know. The problems found in one name its place.
func (o *Object) Objects(name string, max int, read func(*Object)) {
	value := o.optional(name)
	if value == nil {
		return
	}
	items, ok := o.list(name, value, max)
	if !ok {
		return
	}
	for i, item := range items {
		inner, err := parseObject(item)
		if err == nil {
			read(inner)
			err = inner.Err()
		}
		var invalid *ValidationError
		if !errors.As(err, &invalid) {
			continue
		}
		for _, p := range invalid.Problems {
			if len(o.found) < maxProblems {
				p.Loc = append([]any{"body", name, i}, p.Loc[1:]...)
				o.found = append(o.found, finding{Problem: p, name: name, value: item})
			}
		}
	}
}

// Object reads an object inside by read, which also is to refuse what it does
// not know. The problems found in it name its place.
func (o *Object) Object(name string, read func(*Object)) {
	value := o.required(name)
	if value == nil {
		return
	}
	if value[0] != '{' {
		o.add(name, value, Problem{Type: "dict_type", Msg: "Input should be a valid dictionary"})
		return
	}
	inner, err := parseObject(value)
	if err == nil {
		read(inner)
		err = inner.Err()
	}
	var invalid *ValidationError
	if !errors.As(err, &invalid) {
		return
	}
	for _, p := range invalid.Problems {
		p.Loc = append([]any{"body", name}, p.Loc[1:]...)
		o.found = append(o.found, finding{Problem: p, name: name, value: value})
	}
}

// list reads the items of a list of at most max.
func (o *Object) list(name string, value []byte, max int) (items []json.RawMessage, ok bool) {
	if value[0] != '[' || json.Unmarshal(value, &items) != nil {
		o.add(name, value, Problem{Type: "list_type", Msg: "Input should be a valid list"})
		return nil, false
	}
	if len(items) > max {
		o.add(name, value, Problem{
			Type: "too_long",
			Msg: fmt.Sprintf("List should have at most %d items after validation, not %d", max,
				len(items)),
			Ctx: map[string]any{"field_type": "List", "max_length": max,
				"actual_length": len(items)},
		})
		return nil, false
	}
	return items, true
}

// Budget reads a limit of money, a number or a numeric text; null is a budget
// that is not set. Present is false when the field is absent or has a problem.
func (o *Object) Budget(name string) (budget plans.Budget, present bool) {
	value := o.value(name)
	if value == nil {
		return plans.Budget{}, false
	}
	if isNull(value) {
		return plans.Budget{}, true
	}
	text, ok := o.decimal(name, value)
	if !ok {
		return plans.Budget{}, false
	}
	limit, err := plans.ParseMoney(text)
	if err != nil {
		o.add(name, value, decimalProblem(err, 9, int64(plans.MaxMoney/plans.USD)))
		return plans.Budget{}, false
	}
	return plans.Budget{Limit: limit, Set: true}, true
}

// OptionalIDs reads a list of at most max UUIDs; nil when absent or null.
func (o *Object) OptionalIDs(name string, max int) []uuid.UUID {
	value := o.optional(name)
	if value == nil {
		return nil
	}
	texts, ok := o.list(name, value, max)
	if !ok {
		return nil
	}
	ids := make([]uuid.UUID, len(texts))
	for i, text := range texts {
		var id uuid.UUID
		ok := text[0] == '"'
		if ok {
			id, ok = parseID(string(unquoteBytes(text)))
		}
		if !ok {
			o.add(name, text, uuidProblem())
			o.found[len(o.found)-1].Loc = []any{"body", name, i}
			return nil
		}
		ids[i] = id
	}
	return ids
}

// Has reports whether a field was sent, null included. It counts as asked for.
func (o *Object) Has(name string) bool {
	return o.find(name) != nil
}

// IsNull reports whether a field was sent as null. It counts as asked for.
func (o *Object) IsNull(name string) bool {
	m := o.find(name)
	return m != nil && isNull(m.value)
}

// orNil makes the optional form of a reader of its required form.
func orNil[T any](v T, ok bool) *T {
	if !ok {
		return nil
	}
	return &v
}

// text takes nil for a value that is absent, or has its problem already.
func (o *Object) text(name string, value []byte, min, max int) (text string, ok bool) {
	if value == nil {
		return "", false
	}
	if value[0] != '"' {
		o.add(name, value, Problem{Type: "string_type", Msg: "Input should be a valid string"})
		return "", false
	}
	text = string(unquoteBytes(value))
	switch length := utf8.RuneCountInString(text); {
	case length < min:
		o.add(name, value, tooShortProblem(min))
	case length > max:
		o.add(name, value, tooLongProblem(max))
	default:
		return text, true
	}
	return "", false
}

// integer takes nil as text does. What no int64 holds is beyond one of the
// bounds too, so there is no problem for size as such.
func (o *Object) integer(name string, value []byte, ge, le int64) (n int64, ok bool) {
	if value == nil {
		return 0, false
	}
	if value[0] != '-' && !isDigit(value[0]) {
		o.add(name, value, Problem{Type: "int_type", Msg: "Input should be a valid integer"})
		return 0, false
	}
	n, err := parseInteger(string(value))
	switch {
	case errors.Is(err, errFraction):
		o.add(name, value, Problem{
			Type: "int_from_float",
			Msg:  "Input should be a valid integer, got a number with a fractional part",
		})
	case errors.Is(err, errTooLow) || err == nil && n < ge:
		o.add(name, value, belowProblem(ge))
	case err != nil || n > le:
		o.add(name, value, aboveProblem(le))
	default:
		return n, true
	}
	return 0, false
}

// boolean takes nil as text does. Numbers and words are no booleans.
func (o *Object) boolean(name string, value []byte) bool {
	switch string(value) {
	case "true":
		return true
	case "false", "": // "" is a problem already recorded
		return false
	default:
		o.add(name, value, Problem{Type: "bool_type", Msg: "Input should be a valid boolean"})
		return false
	}
}

// literal takes nil as text does. It returns one of allowed, never a copy.
func (o *Object) literal(name string, value []byte, allowed []string) string {
	if value == nil {
		return ""
	}
	if value[0] == '"' {
		text := unquoteBytes(value)
		for _, word := range allowed {
			if string(text) == word {
				return word
			}
		}
	}
	o.add(name, value, literalProblem(allowed))
	return ""
}

// decimal returns the text of a number or of a string; anything else is a problem.
func (o *Object) decimal(name string, value []byte) (text string, ok bool) {
	switch {
	case value[0] == '"':
		return string(unquoteBytes(value)), true
	case value[0] == '-' || isDigit(value[0]):
		return string(value), true
	default:
		o.add(name, value, Problem{
			Type: "decimal_type",
			Msg:  "Decimal input should be an integer, float, string or Decimal object",
		})
		return "", false
	}
}

// decimalProblem words an error of package plans; le is in dollars.
func decimalProblem(err error, places int, le int64) Problem {
	var tooMany *plans.PlacesError
	switch {
	case errors.Is(err, plans.ErrNotFinite):
		return Problem{Type: "finite_number", Msg: "Input should be a finite number"}
	case errors.As(err, &tooMany):
		return Problem{
			Type: "decimal_max_places",
			Msg: fmt.Sprintf("Decimal input should have no more than %d decimal places; send %s",
				places, tooMany.Nearest),
			Ctx: map[string]any{"decimal_places": places},
		}
	case errors.Is(err, plans.ErrNegative):
		return belowProblem(0)
	case errors.Is(err, plans.ErrTooLarge):
		return aboveProblem(le)
	default:
		return Problem{Type: "decimal_parsing", Msg: "Input should be a valid decimal"}
	}
}
