package request

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// Query is the parameters behind the question mark, with the problems found in
// them so far. Parameters that nobody reads are ignored; of one given twice, the
// last wins.
type Query struct {
	pairs    []parameter
	problems []Problem
}

// parameter is one name=value of a query, decoded.
type parameter struct{ name, value string }

// ReadQuery takes the query string apart by hand: url.ParseQuery would refuse a
// semicolon, and drop what is broken. A broken escape is a problem, told once.
func ReadQuery(r *http.Request) *Query {
	q := &Query{}
	for sent := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if sent == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(sent, "=")
		name, errName := url.QueryUnescape(rawName)
		value, errValue := url.QueryUnescape(rawValue)
		if errName == nil && errValue == nil {
			q.pairs = append(q.pairs, parameter{name: name, value: value})
			continue
		}
		if len(q.problems) == 0 {
			p := valueProblem("malformed escape in the query string")
			p.Loc, p.Input = []any{"query"}, redactText(rawName, sent)
			q.problems = append(q.problems, p)
		}
	}
	return q
}

// Int reads a whole number from ge to le. An empty one is a problem, as it is
// for every reader but String.
func (q *Query) Int(name string, absent, ge, le int64) int64 {
	text, found := q.find(name)
	if !found {
		return absent
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		q.add(name, text, Problem{
			Type: "int_parsing",
			Msg:  "Input should be a valid integer, unable to parse string as an integer",
		})
	case n < ge: // out of range, ParseInt returns the nearest int64
		q.add(name, text, belowProblem(ge))
	case n > le || err != nil:
		q.add(name, text, aboveProblem(le))
	default:
		return n
	}
	return absent
}

// OptionalTime reads an RFC 3339 time with any offset; zero when absent.
func (q *Query) OptionalTime(name string) time.Time {
	text, found := q.find(name)
	if !found {
		return time.Time{}
	}
	t, ok := parseTime(strings.Replace(text, " ", "+", 1)) // a plus sign that was not escaped
	if !ok {
		q.add(name, text, timeProblem())
		return time.Time{}
	}
	return t
}

// OptionalDay is OptionalTime that also reads a date, as its first instant in a zone.
func (q *Query) OptionalDay(name string, start func(year int, month time.Month, day int) time.Time) time.Time {
	text, found := q.find(name)
	if date, err := time.Parse(time.DateOnly, text); found && err == nil {
		return start(date.Date())
	}
	return q.OptionalTime(name)
}

// timeProblem is the problem of a time that is not RFC 3339.
func timeProblem() Problem {
	const want = "write it as RFC 3339, for example 2026-11-23T07:08:29.123Z"
	return Problem{
		Type: "datetime_parsing",
		Msg:  "Input should be a valid datetime, " + want,
		Ctx:  map[string]any{"error": want},
	}
}

// parseTime refuses what time.Parse takes beyond RFC 3339: an hour of one
// digit, and a comma before the fraction.
func parseTime(text string) (t time.Time, ok bool) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || text[len("2006-01-02T15")] != ':' || strings.Contains(text, ",") {
		return time.Time{}, false
	}
	return t, true
}

// UUID reads an id; uuid.Nil when absent.
func (q *Query) UUID(name string) uuid.UUID {
	text, found := q.find(name)
	if !found {
		return uuid.Nil
	}
	id, ok := parseID(text)
	if !ok {
		q.add(name, text, uuidProblem())
		return uuid.Nil
	}
	return id
}

// Literal reads one of the words allowed; "" when absent.
func (q *Query) Literal(name string, allowed ...string) string {
	text, found := q.find(name)
	if !found {
		return ""
	}
	for _, word := range allowed {
		if text == word {
			return word
		}
	}
	q.add(name, text, literalProblem(allowed))
	return ""
}

// RequiredLiteral is Literal for a parameter that must be there.
func (q *Query) RequiredLiteral(name string, allowed ...string) string {
	if _, found := q.find(name); !found {
		q.addMissing(name)
		return ""
	}
	return q.Literal(name, allowed...)
}

// Bool reads true, false, 1 or 0; nil when absent.
func (q *Query) Bool(name string) *bool {
	text, found := q.find(name)
	if !found {
		return nil
	}
	yes := text == "true" || text == "1"
	if !yes && text != "false" && text != "0" {
		q.add(name, text, Problem{
			Type: "bool_parsing",
			Msg:  "Input should be a valid boolean, unable to interpret input",
		})
		return nil
	}
	return &yes
}

// String reads a text of at most max Unicode code points; "" when absent.
func (q *Query) String(name string, max int) string {
	text, _ := q.find(name)
	if utf8.RuneCountInString(text) > max {
		q.add(name, text, tooLongProblem(max))
		return ""
	}
	return text
}

// Strings reads a parameter that may be given several times: at most so many
// texts of 1 to max Unicode code points, in the order in which they were sent.
func (q *Query) Strings(name string, most, max int) (texts []string) {
	for _, p := range q.pairs {
		if p.name != name {
			continue
		}
		problem, bad := textProblem(p.value)
		switch length := utf8.RuneCountInString(p.value); {
		case bad:
			q.add(name, p.value, problem)
		case length < 1:
			q.add(name, p.value, tooShortProblem(1))
		case length > max:
			q.add(name, p.value, tooLongProblem(max))
		case len(texts) == most:
			q.add(name, p.value, valueProblem(fmt.Sprintf("may be given %d times at most", most)))
		default:
			texts = append(texts, p.value)
			continue
		}
		return nil
	}
	return texts
}

// Money reads an amount of US dollars, not below zero; 0 when absent.
func (q *Query) Money(name string) plans.Money {
	text, found := q.find(name)
	if !found {
		return 0
	}
	amount, err := plans.ParseMoney(text)
	if err != nil {
		q.add(name, text, valueProblem("must be an amount of US dollars, for example 0.5"))
		return 0
	}
	return amount
}

// RequiredString is String for a parameter that must be there, and not empty.
func (q *Query) RequiredString(name string, max int) string {
	before := len(q.problems)
	text := q.String(name, max)
	if text != "" || len(q.problems) > before {
		return text
	}
	if _, found := q.find(name); found {
		q.add(name, "", tooShortProblem(1))
		return ""
	}
	q.addMissing(name)
	return ""
}

// addMissing adds the problem of a parameter that is required.
func (q *Query) addMissing(name string) {
	p := missingProblem()
	p.Loc, p.Input = []any{"query", name}, nil
	q.problems = append(q.problems, p)
}

// Err returns nil, or a *ValidationError with all problems in the order in
// which the parameters were read.
func (q *Query) Err() error {
	if len(q.problems) == 0 {
		return nil
	}
	return &ValidationError{Problems: q.problems}
}

// find returns the last parameter of that name, unless it is no valid text.
func (q *Query) find(name string) (text string, found bool) {
	for i := len(q.pairs) - 1; i >= 0; i-- {
		if q.pairs[i].name != name {
			continue
		}
		text = q.pairs[i].value
		if p, bad := textProblem(text); bad {
			q.add(name, text, p)
			return "", false
		}
		return text, true
	}
	return "", false
}

// Refuse records a problem that only a handler can see.
func (q *Query) Refuse(name, text, msg string) { q.add(name, text, valueProblem(msg)) }

// add records a problem; the input is the text as sent, without its escapes.
func (q *Query) add(name, text string, p Problem) {
	p.Loc, p.Input = []any{"query", name}, redactText(name, text)
	q.problems = append(q.problems, p)
}

// PathUUID reads an id from the path, in its 36-character form and any case.
func PathUUID(raw, name string) (uuid.UUID, error) {
	if id, ok := parseID(raw); ok {
		return id, nil
	}
	return uuid.Nil, pathError(name, raw, uuidProblem())
}

// parseID takes no other form of a UUID than the API writes, but for its case.
func parseID(text string) (uuid.UUID, bool) {
	id, err := uuid.Parse(text)
	return id, err == nil && len(text) == len(uuid.Nil.String())
}

// uuidProblem is the problem of an id that is no UUID.
func uuidProblem() Problem {
	const want = "expected 32 hexadecimal digits in groups of 8-4-4-4-12"
	return Problem{
		Type: "uuid_parsing",
		Msg:  "Input should be a valid UUID, " + want,
		Ctx:  map[string]any{"error": want},
	}
}

// PathText reads a text of 1 to max Unicode code points from the path.
func PathText(value, name string, max int) (string, error) {
	if p, bad := textProblem(value); bad {
		return "", pathError(name, value, p)
	}
	switch length := utf8.RuneCountInString(value); {
	case length < 1:
		return "", pathError(name, value, tooShortProblem(1))
	case length > max:
		return "", pathError(name, value, tooLongProblem(max))
	}
	return value, nil
}

// pathError is a problem of its own: a path has few parts, read one by one.
func pathError(name, value string, p Problem) error {
	p.Loc, p.Input = []any{"path", name}, redactText(name, value)
	return &ValidationError{Problems: []Problem{p}}
}

// textProblem refuses a text from the address line that cannot be kept.
func textProblem(text string) (p Problem, bad bool) {
	switch {
	case !utf8.ValidString(text):
		return valueProblem("must be valid UTF-8"), true
	case strings.IndexByte(text, 0) >= 0:
		return defectProblem(defectNUL), true
	default:
		return Problem{}, false
	}
}
