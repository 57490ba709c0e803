package policies

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
)

// What an estimate takes for the largest that a name can be. What a payload
// holds beyond largestPayload is caught by the limit when it is evaluated.
const largestName = 255

// largestPayload is for how many characters of a text, or entries of a list or
// object, of a payload an expression is made: fewer for each list around it.
func largestPayload(path []string) uint64 {
	lists := 0
	for _, part := range path {
		if part == "@items" || part == "@keys" || part == "@values" {
			lists++
		}
	}
	switch lists {
	case 0:
		return 1000
	case 1:
		return 50
	default:
		return 10
	}
}

// estimate refuses an expression that could cost more than MaxCost, and points
// at the innermost part that does.
func (c *checker) estimate(env *cel.Env, checked *cel.Ast) {
	total, err := env.EstimateCost(checked, sizes{})
	if err != nil {
		c.report(c.tree.Expr(), "its cost cannot be told: "+err.Error())
		return
	}
	if c.cost = total.Max; c.cost <= MaxCost {
		return
	}
	c.report(c.dearest(), fmt.Sprintf(
		"this can cost %d, and %d is the most: ask less of long lists", total.Max, MaxCost))
}

// dearest finds the innermost part that costs too much by itself.
func (c *checker) dearest() ast.Expr {
	var found ast.Expr
	ast.PostOrderVisit(c.tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if found != nil || hasFreeVariable(e) {
			return // the sizes of a macro's variables are known from without alone
		}
		part := ast.NewCheckedAST(ast.NewAST(e, c.tree.SourceInfo()), c.tree.TypeMap(), c.tree.ReferenceMap())
		if own, err := cost.Cost(part, sizes{}); err == nil && own.Max > MaxCost {
			found = e
		}
	}))
	if found == nil {
		return c.tree.Expr()
	}
	return found
}

// hasFreeVariable reports whether the part uses a variable of a macro around it.
func hasFreeVariable(e ast.Expr) bool {
	bound := make(map[string]bool)
	for name := range variableTypes() {
		bound[name] = true
	}
	var used []string
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			loop := e.AsComprehension()
			bound[loop.IterVar()], bound[loop.IterVar2()], bound[loop.AccuVar()] = true, true, true
		case ast.IdentKind:
			used = append(used, e.AsIdent())
		}
	}))
	return slices.ContainsFunc(used, func(name string) bool { return !bound[name] })
}

// sizes implements cost.Estimator.
type sizes struct{}

// EstimateCallCost knows what money costs, and leaves the rest to CEL's own figures.
func (sizes) EstimateCallCost(_, _ string, _ *cost.AstNode, args []cost.AstNode) *cost.CallEstimate {
	for _, arg := range args {
		if arg.Type().IsExactType(moneyType) {
			return &cost.CallEstimate{CostEstimate: cost.FixedCostEstimate(1)}
		}
	}
	return nil
}

// EstimateSize says how large a variable can be.
func (sizes) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	path := element.Path()
	if len(path) == 0 {
		return nil
	}
	var largest uint64
	switch path[0] {
	case "type", "tool", "model", "user":
		largest = largestName
	case "tags":
		largest = MaxTags
		if len(path) > 1 {
			largest = MaxTagValue
		}
	case "metadata", "input":
		largest = largestPayload(path)
	default:
		return nil
	}
	return &cost.SizeEstimate{Min: 0, Max: largest}
}
