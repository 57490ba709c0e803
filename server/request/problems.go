package request

import (
	"errors"
	"fmt"
	"strings"
)

// Problem is one entry of a 422 answer, in the form of FastAPI. Input never
// holds a secret: whoever fills it goes through redactJSON or redactText.
type Problem struct {
	Type  string         `json:"type"`
	Loc   []any          `json:"loc"`
	Msg   string         `json:"msg"`
	Input any            `json:"input"`
	Ctx   map[string]any `json:"ctx,omitempty"`
}

// ValidationError is everything that is wrong with one request: a 422.
type ValidationError struct {
	Problems []Problem
}

// Error names types and places only, so that it can be logged without a value.
func (e *ValidationError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = fmt.Sprintf("%s at %v", p.Type, p.Loc)
	}
	return "invalid request: " + strings.Join(parts, ", ")
}

// Invalid is a problem that only a handler can see, such as a broken cursor.
// Input may be any JSON value; json.RawMessage and strings are masked and cut.
func Invalid(loc []any, msg string, input any) error {
	p := valueProblem(msg)
	p.Loc, p.Input = loc, redactAny(input)
	return &ValidationError{Problems: []Problem{p}}
}

// Join makes one 422 of several, in the order given. An error of any
// other kind wins over them; nil when all are nil.
func Join(errs ...error) error {
	var all []Problem
	for _, err := range errs {
		if err == nil {
			continue
		}
		var v *ValidationError
		if !errors.As(err, &v) {
			return err
		}
		all = append(all, v.Problems...)
	}
	if len(all) == 0 {
		return nil
	}
	return &ValidationError{Problems: all}
}

// What follows words the problems; the caller adds where and with which input.

// missingProblem takes the enclosing object as its input.
func missingProblem() Problem {
	return Problem{Type: "missing", Msg: "Field required"}
}

// valueProblem is a problem of a value of the right type.
func valueProblem(msg string) Problem {
	return Problem{Type: "value_error", Msg: "Value error, " + msg}
}

// defectProblem names one defect, the NUL before the other.
func defectProblem(f defect) Problem {
	if f&defectNUL != 0 {
		return valueProblem("must not contain the NUL character")
	}
	return valueProblem("must be valid Unicode, without unpaired surrogates")
}

// belowProblem says that a number is under its inclusive lower bound.
func belowProblem(ge int64) Problem {
	return Problem{
		Type: "greater_than_equal",
		Msg:  fmt.Sprintf("Input should be greater than or equal to %d", ge),
		Ctx:  map[string]any{"ge": ge},
	}
}

// aboveProblem says that a number is over its inclusive upper bound.
func aboveProblem(le int64) Problem {
	return Problem{
		Type: "less_than_equal",
		Msg:  fmt.Sprintf("Input should be less than or equal to %d", le),
		Ctx:  map[string]any{"le": le},
	}
}

// tooShortProblem counts Unicode code points, as Python does.
func tooShortProblem(min int) Problem {
	return Problem{
		Type: "string_too_short",
		Msg:  "String should have at least " + characters(min),
		Ctx:  map[string]any{"min_length": min},
	}
}

// tooLongProblem counts Unicode code points, as Python does.
func tooLongProblem(max int) Problem {
	return Problem{
		Type: "string_too_long",
		Msg:  "String should have at most " + characters(max),
		Ctx:  map[string]any{"max_length": max},
	}
}

// characters writes a length in words.
func characters(n int) string {
	if n == 1 {
		return "1 character"
	}
	return fmt.Sprintf("%d characters", n)
}

// literalProblem lists the words as pydantic does: 'a', 'b' or 'c'. It answers
// values of every type, so there is no other problem for a literal.
func literalProblem(allowed []string) Problem {
	var expected strings.Builder
	for i, word := range allowed {
		switch {
		case i == 0:
		case i == len(allowed)-1:
			expected.WriteString(" or ")
		default:
			expected.WriteString(", ")
		}
		expected.WriteString("'" + word + "'")
	}
	return Problem{
		Type: "literal_error",
		Msg:  "Input should be " + expected.String(),
		Ctx:  map[string]any{"expected": expected.String()},
	}
}
