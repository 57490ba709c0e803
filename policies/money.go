package policies

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/pikarc/server/plans"
)

// moneyType is money within an expression: a type of its own, so that
// `run.spent_usd > 100` is an error when it is saved, rather than a comparison
// of nano-dollars with dollars.
var moneyType = types.NewObjectType("usd", traits.ComparerType, traits.AdderType, traits.SubtractorType)

// money is a value of moneyType, exact to the nano-dollar.
type money plans.Money

// errMoneyRange: the sum or product does not fit nano-USD in 64 bits.
var errMoneyRange = errors.New("the amount of money is too large")

// ConvertToNative implements ref.Val.
func (m money) ConvertToNative(to reflect.Type) (any, error) {
	return nil, fmt.Errorf("money has no form as %v", to)
}

// ConvertToType implements ref.Val.
func (m money) ConvertToType(to ref.Type) ref.Val {
	switch to {
	case moneyType:
		return m
	case types.TypeType:
		return moneyType
	default:
		return types.NewErr("money cannot be made a %s", to.TypeName())
	}
}

// Equal implements ref.Val.
func (m money) Equal(other ref.Val) ref.Val {
	o, ok := other.(money)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	return types.Bool(m == o)
}

// Compare implements traits.Comparer.
func (m money) Compare(other ref.Val) ref.Val {
	o, ok := other.(money)
	switch {
	case !ok:
		return types.MaybeNoSuchOverloadErr(other)
	case m < o:
		return types.IntNegOne
	case m > o:
		return types.IntOne
	default:
		return types.IntZero
	}
}

// Add implements traits.Adder.
func (m money) Add(other ref.Val) ref.Val {
	o, ok := other.(money)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	sum := m + o
	if (sum > m) != (o > 0) {
		return types.WrapErr(errMoneyRange)
	}
	return sum
}

// Subtract implements traits.Subtractor.
func (m money) Subtract(other ref.Val) ref.Val {
	o, ok := other.(money)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	difference := m - o
	if (difference < m) != (o > 0) {
		return types.WrapErr(errMoneyRange)
	}
	return difference
}

// Type implements ref.Val.
func (m money) Type() ref.Type { return moneyType }

// Value implements ref.Val.
func (m money) Value() any { return plans.Money(m) }

// moneyFunctions declares usd(), and what can be done with money: add,
// subtract and compare it with money, and nothing else.
func moneyFunctions() []cel.EnvOption {
	overload := func(name string, from *cel.Type) cel.FunctionOpt {
		return cel.Overload(name, []*cel.Type{from}, moneyType, cel.UnaryBinding(toMoney))
	}
	options := []cel.EnvOption{cel.Function("usd",
		overload("usd_string", cel.StringType), overload("usd_int", cel.IntType),
		overload("usd_uint", cel.UintType), overload("usd_double", cel.DoubleType))}
	two := []*cel.Type{moneyType, moneyType}
	for operator, result := range map[string]*cel.Type{
		"_<_": cel.BoolType, "_<=_": cel.BoolType, "_>_": cel.BoolType, "_>=_": cel.BoolType,
		"_+_": moneyType, "_-_": moneyType,
	} {
		options = append(options, cel.Function(operator, cel.Overload("usd"+operator, two, result)))
	}
	return options
}

// toMoney reads dollars as people and payloads write them.
func toMoney(v ref.Val) ref.Val {
	var text string
	switch v := v.(type) {
	case types.String:
		text = string(v)
	case types.Int:
		text = strconv.FormatInt(int64(v), 10)
	case types.Uint:
		text = strconv.FormatUint(uint64(v), 10)
	case types.Double:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return types.NewErr("usd: not a finite number")
		}
		text = strconv.FormatFloat(float64(v), 'g', -1, 64) // the shortest that reads back: what was written
	default:
		return types.MaybeNoSuchOverloadErr(v)
	}
	const longest = 100 // no amount is longer, and an agent writes this text
	if len(text) > longest {
		return types.NewErr("usd(%q): %v", shorten(text), plans.ErrNotDecimal)
	}
	m, err := parseSigned(text, plans.ParseCost)
	if err != nil {
		return types.NewErr("usd(%q): %v", shorten(text), err)
	}
	return m
}

// parseSigned parses an amount that may be negative.
func parseSigned(text string, parse func(string) (plans.Money, error)) (money, error) {
	abs, negative := strings.CutPrefix(text, "-")
	m, err := parse(abs)
	if negative {
		m = -m
	}
	return money(m), err
}

// shorten cuts a text that a problem quotes.
func shorten(text string) string {
	const enough = 40
	short, cut := cut(text, enough)
	if cut {
		return short + "…"
	}
	return short
}
