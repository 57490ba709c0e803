package policies

import (
	"fmt"
	"strings"
)

// Invalid is everything that is wrong with a policy.
type Invalid struct{ Problems []Problem }

// Problem is one thing that is wrong. Type is one of those that a 422 names.
type Problem struct {
	Type    string
	Field   string // with dots: limit.amount, match.tools.2; empty for the whole
	Message string
	// Line and Column are places in `when`, from 1, in characters; 0 elsewhere.
	Line, Column int
}

// Error names all problems.
func (e *Invalid) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.String()
	}
	return strings.Join(parts, "; ")
}

// String is the problem as a person reads it.
func (p Problem) String() string {
	switch {
	case p.Field == "":
		return p.Message
	case p.Column == 0:
		return p.Field + ": " + p.Message
	case p.Line > 1:
		return fmt.Sprintf("%s: line %d, column %d: %s", p.Field, p.Line, p.Column, p.Message)
	default:
		return fmt.Sprintf("%s: column %d: %s", p.Field, p.Column, p.Message)
	}
}
