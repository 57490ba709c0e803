package policies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	_ "time/tzdata" // `now.getHours("Europe/Berlin")` must not depend on the machine

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// The bounds of an expression. What MaxCost bounds is counted in CEL's own
// units, of which a comparison is one or two: at most some tens of
// milliseconds.
const (
	MaxWhen = 4096 // bytes
	// MaxCost bounds CEL's own measure of what an evaluation costs.
	MaxCost = 500_000
	// simpleCost is what a simple expression may cost: some microseconds.
	simpleCost = 500
	maxDepth   = 50 // of nested parentheses and operators
	// maxNodes bounds the size of the syntax tree.
	maxNodes = 2_000
	// maxMacroDepth bounds loops within loops (all, exists, filter, map).
	maxMacroDepth = 2
	// maxRegexps bounds the regular expressions, which are compiled when the policy is.
	maxRegexps    = 10
	maxRegexpSize = 500 // instructions of the compiled program
	// evaluationTime ends an evaluation whatever it does.
	evaluationTime = 250 * time.Millisecond
)

// expression is the compiled `when` of a policy; the zero value always holds.
type expression struct {
	program cel.Program
	used    map[string]bool // variables; of run.steps both itself and run
	simple  bool            // see checker.isSimple
	err     error           // why there is no program
}

// reads reports whether the expression uses the variable. One that could not
// be compiled may use them all.
func (e *expression) reads(name string) bool { return e.err != nil || e.used[name] }

// readsStep reports whether the condition reads what only a step has. It is then never asked at a
// run's start.
func (e *expression) readsStep() bool {
	return e.err == nil && (e.used["type"] || e.used["tool"] || e.used["model"] || e.used["input"])
}

// variableTypes are the variables of an expression.
func variableTypes() map[string]*cel.Type {
	object := cel.MapType(cel.StringType, cel.DynType)
	return map[string]*cel.Type{
		"type": cel.StringType, "tool": cel.StringType, "model": cel.StringType, "user": cel.StringType,
		"tags":     cel.MapType(cel.StringType, cel.StringType),
		"metadata": object, "input": object,
		"run.steps": cel.IntType, "run.spent_usd": moneyType, "run.started_at": cel.TimestampType,
		"now": cel.TimestampType,
	}
}

// environment declares what an expression may name. It costs milliseconds to
// make, is the same for everyone, and never changes.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.OptionalTypes(),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(MaxWhen),
		cel.ParserRecursionLimit(maxDepth),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxRegexpSize),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals(),
			cel.ValidateComprehensionNestingLimit(maxMacroDepth),
		),
	}
	for name, t := range variableTypes() {
		options = append(options, cel.Variable(name, t))
	}
	return cel.NewEnv(append(options, moneyFunctions()...)...)
})

// compile makes the program of an expression that Parse has accepted. Where it
// cannot, the expression fails whenever it is asked.
func compile(when string) *expression {
	if when == "" {
		return &expression{}
	}
	e, problems := check(when)
	if len(problems) > 0 {
		return &expression{err: &Invalid{Problems: problems}}
	}
	return e
}

// Holds reports whether the expression of the rule is true of the facts. On an
// error the caller objects with the rule's own effect: nobody knows that it does
// not hold. Unless it is Simple it may take some milliseconds, so it is no work for a writer.
func (r *Rule) Holds(ctx context.Context, f *Facts) (bool, error) {
	if !r.HasWhen() {
		return true, nil
	}
	if r.when.simple {
		return r.holds(ctx, f)
	}
	ctx, cancel := context.WithTimeout(ctx, evaluationTime)
	defer cancel()
	return r.holds(ctx, f)
}

// Simple reports whether Holds takes some microseconds, and how long the payload takes to read
// where the expression looks into it.
func (r *Rule) Simple() bool { return !r.HasWhen() || r.when.simple }

// holds is Holds without a deadline of its own.
func (r *Rule) holds(ctx context.Context, f *Facts) (bool, error) {
	if r.when.err != nil {
		return false, fmt.Errorf("policy %s: %w", r.Name, r.when.err)
	}
	holds, err := r.when.evaluate(ctx, f)
	if err != nil {
		return false, fmt.Errorf("policy %s: %w", r.Name, err)
	}
	return holds, nil
}

// errNoBool cannot occur with a condition that was checked.
var errNoBool = errors.New("the expression gave neither true nor false")

// evaluate evaluates the condition. Its cost was bounded when it was saved; ctx bounds its time.
func (e *expression) evaluate(ctx context.Context, f *Facts) (bool, error) {
	var value ref.Val
	var err error
	if e.simple {
		value, _, err = e.program.Eval(activation{f})
	} else {
		value, _, err = e.program.ContextEval(ctx, activation{f})
	}
	if err != nil {
		return false, fmt.Errorf("evaluate: %w", err)
	}
	holds, ok := value.(types.Bool)
	if !ok {
		return false, errNoBool
	}
	return bool(holds), nil
}

// activation gives an expression its variables, and decodes of the facts what it
// asks for.
type activation struct{ f *Facts }

// ResolveName implements cel.Activation.
func (a activation) ResolveName(name string) (any, bool) {
	f := a.f
	switch name {
	case "type":
		return types.String(f.Type), true
	case "tool":
		return types.String(f.Tool), true
	case "model":
		return types.String(f.Model), true
	case "user":
		return types.String(f.User), true
	case "tags":
		return f.Tags, true
	case "metadata":
		// Decoded once for each call, by the first condition that reads it, and only then.
		if f.metadata == nil {
			f.metadata = decodeObject(f.Metadata)
		}
		return f.metadata, true
	case "input":
		if f.input == nil {
			f.input = decodeObject(f.Input)
		}
		return f.input, true
	case "run.steps":
		return types.Int(f.Steps), true
	case "run.spent_usd":
		return money(f.Spent), true
	case "run.started_at":
		return types.Timestamp{Time: f.StartedAt.UTC()}, true
	case "now":
		return types.Timestamp{Time: f.Now.UTC()}, true
	default:
		return nil, false
	}
}

// Parent implements cel.Activation.
func (a activation) Parent() cel.Activation { return nil }
