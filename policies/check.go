package policies

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"github.com/pikarc/server/plans"
)

// check compiles an expression, and says all that is wrong with it: its syntax
// and types, what could never be evaluated, and what could cost too much.
func check(when string) (*expression, []Problem) {
	if len(when) > MaxWhen {
		return nil, []Problem{{Type: "string_too_long", Field: "when", Column: 1, Line: 1,
			Message: fmt.Sprintf("the expression has %d bytes, %d are the most", len(when), MaxWhen)}}
	}
	env, err := environment()
	if err != nil { // a fault of the code, which any test of an expression shows
		return nil, []Problem{{Type: "value_error", Field: "when", Message: err.Error()}}
	}
	// CEL checks names and types first; what follows would be confused by a tree that has none.
	checked, issues := env.Compile(when)
	if issues.Err() != nil {
		return nil, issueProblems(issues)
	}
	c := checker{tree: checked.NativeRep(), used: make(map[string]bool)}
	if t := checked.OutputType(); !t.IsExactType(types.BoolType) {
		c.report(c.tree.Expr(), "the expression must be true or false, and this gives a "+t.String())
	}
	c.walk()
	// The cost of a tree that we refuse anyway says nothing.
	if len(c.problems) == 0 {
		c.estimate(env, checked)
	}
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if !c.isSimple() {
		// CostLimit stops an evaluation whose real input is worse than the estimate, and the
		// interrupt check lets the context end it. Both watch each step of it, which takes longer
		// than the steps of a simple one.
		options = append(options, cel.CostLimit(MaxCost), cel.InterruptCheckFrequency(100))
	}
	program, err := env.Program(checked, options...)
	if err != nil {
		c.report(c.tree.Expr(), err.Error())
		return nil, c.problems
	}
	return &expression{program: program, used: c.used, simple: c.isSimple()}, nil
}

// issueProblems words what CEL has found, at most the first ten.
func issueProblems(issues *cel.Issues) []Problem {
	const most = 10
	var problems []Problem
	for _, e := range issues.Errors() {
		if len(problems) == most {
			break
		}
		message := strings.ReplaceAll(e.Message, "\n", " ")
		if strings.Contains(message, "no matching overload") && strings.Contains(message, "usd") {
			message += ": money goes with money alone, so write usd(100)"
		}
		message, _ = cut(message, 300)
		problems = append(problems, Problem{Type: "value_error", Field: "when", Message: message,
			Line: max(e.Location.Line(), 1), Column: max(e.Location.Column(), 0) + 1})
	}
	return problems
}

// checker looks at a checked expression for what CEL lets pass.
type checker struct {
	tree     *ast.AST
	used     map[string]bool
	problems []Problem
	regexps  int
	loops    bool
	slow     bool   // see isSlow
	cost     uint64 // at most, as estimated
}

// isSimple reports whether an evaluation passes each part of the expression once, and no part
// takes longer than reading a text of the payload does.
func (c *checker) isSimple() bool {
	return !c.loops && !c.slow && c.regexps == 0 && c.cost <= simpleCost
}

// report adds a problem at an expression's line and column, both counted from 1.
func (c *checker) report(at ast.Expr, message string) {
	where := c.tree.SourceInfo().GetStartLocation(at.ID())
	c.problems = append(c.problems, Problem{Type: "value_error", Field: "when", Message: message,
		Line: max(where.Line(), 1), Column: max(where.Column(), 0) + 1})
}

// isMoney reports whether an expression's type is money.
func (c *checker) isMoney(e ast.Expr) bool {
	return c.tree.GetType(e.ID()).IsExactType(moneyType)
}

// walk visits the whole expression: which fields it reads, and what CEL's type checker lets pass
// and we do not.
func (c *checker) walk() {
	for _, reference := range c.tree.ReferenceMap() {
		if reference.Name == "" {
			continue
		}
		root, _, _ := strings.Cut(reference.Name, ".")
		c.used[root] = true
		c.used[reference.Name] = true
	}
	ast.PostOrderVisit(c.tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		c.loops = c.loops || e.Kind() == ast.ComprehensionKind
		if e.Kind() == ast.CallKind {
			c.call(e)
		} else {
			c.refuseMoney(e)
		}
	}))
	slices.SortStableFunc(c.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}

// call checks a call of a function or an operator. Amounts must be literals, and money is only
// combined with money.
func (c *checker) call(e ast.Expr) {
	call := e.AsCall()
	switch name := call.FunctionName(); name {
	case "usd":
		c.literalMoney(call.Args())
	case "matches":
		c.regexp(call)
	case "_<_", "_<=_", "_>_", "_>=_", "_==_", "_!=_", "_+_", "_-_":
		c.sameMoney(call.Args())
	case "_?_:_":
		c.sameMoney(call.Args()[1:])
	default:
		c.slow = c.slow || isSlow(call)
		c.refuseMoney(e)
	}
}

// isSlow reports whether a call takes much longer than CEL's estimate says. The hour in a time zone,
// and the like, reads the zone's file; what should be a time and is none is quoted in an error.
func isSlow(call ast.CallExpr) bool {
	args := call.Args()
	switch name := call.FunctionName(); {
	case call.IsMemberFunction():
		return strings.HasPrefix(name, "get") && len(args) > 0
	case name == "timestamp" || name == "duration":
		return len(args) != 1 || args[0].Kind() != ast.LiteralKind
	}
	return false
}

// sameMoney lets money meet nothing but money: CEL would find it unequal to
// any number that comes from a payload.
func (c *checker) sameMoney(operands []ast.Expr) {
	if !slices.ContainsFunc(operands, c.isMoney) {
		return
	}
	for _, operand := range operands {
		if !c.isMoney(operand) {
			c.report(operand, "money goes with money alone, so write usd(…) around this")
		}
	}
}

// refuseMoney keeps money out of lists, objects and functions, where its type
// could be lost.
func (c *checker) refuseMoney(e ast.Expr) {
	var children []ast.Expr
	switch e.Kind() {
	case ast.CallKind:
		children = e.AsCall().Args()
		if e.AsCall().IsMemberFunction() {
			children = append(slices.Clone(children), e.AsCall().Target())
		}
	case ast.ListKind:
		children = e.AsList().Elements()
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			children = append(children, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
	}
	for _, child := range children {
		if c.isMoney(child) {
			c.report(child, "money can be compared, added and subtracted, and nothing else")
		}
	}
}

// literalMoney checks an amount that is written in the expression.
func (c *checker) literalMoney(args []ast.Expr) {
	if len(args) != 1 || args[0].Kind() != ast.LiteralKind {
		return
	}
	value := args[0].AsLiteral()
	got := toMoney(value)
	if err, failed := got.(*types.Err); failed {
		c.report(args[0], err.Error())
		return
	}
	if text, ok := value.(types.String); ok {
		if _, err := parseSigned(string(text), plans.ParseMoney); err != nil {
			c.report(args[0], err.Error())
		}
	}
}

// regexp allows patterns that are written in the expression alone: one that an
// agent sends could cost what it likes.
func (c *checker) regexp(call ast.CallExpr) {
	args := call.Args()
	pattern := args[len(args)-1]
	if pattern.Kind() != ast.LiteralKind {
		c.report(pattern, "a regular expression must be written out, as a text between quotes")
		return
	}
	if c.regexps++; c.regexps == maxRegexps+1 {
		c.report(pattern, fmt.Sprintf("%d regular expressions are the most", maxRegexps))
	}
}
