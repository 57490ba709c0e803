package plans_test

import (
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/pikarc/server/plans"
	"pgregory.net/rapid"
)

// gpt-4o at 0.0000025 and 0.00001 dollars a token.
func ExampleCost() {
	input, _ := plans.ParsePrice("0.0000025")
	output, _ := plans.ParsePrice("0.00001")
	cost, err := plans.Cost(500, 100, input, output)
	fmt.Println(cost, err)
	// Output: 0.00225 <nil>
}

// 10^12 tokens at 10^8 pico-dollars are MaxDay to the pico-dollar.
const (
	maxDayTokens = plans.MaxTokens
	maxDayPrice  = plans.Price(100_000_000)
)

func TestCostIsExactRoundedUpAndBounded(t *testing.T) {
	for name, c := range map[string]struct {
		prompt, completion int64
		input, output      plans.Price
		want               plans.Money
		err                error
	}{
		"contract example":             {500, 100, 2_500_000, 10_000_000, 2_250_000, nil},
		"no tokens":                    {0, 0, plans.MaxPrice, plans.MaxPrice, 0, nil},
		"no price":                     {plans.MaxTokens, plans.MaxTokens, 0, 0, 0, nil},
		"one pico is a nano":           {1, 0, 1, 0, 1, nil},
		"999 picos are a nano":         {0, 1, 0, 999, 1, nil},
		"1000 picos are a nano":        {1, 0, 1_000, 0, 1, nil},
		"1001 picos are two":           {0, 1, 0, 1_001, 2, nil},
		"the sum, not its terms":       {1, 1, 1, 1, 1, nil},
		"all that can be booked":       {maxDayTokens, 0, maxDayPrice, 0, plans.MaxDay, nil},
		"just below it":                {maxDayTokens - 1, 0, maxDayPrice, 0, plans.MaxDay - 100_000, nil},
		"rounded up to it":             {maxDayTokens - 1, 1, maxDayPrice, maxDayPrice - 1, plans.MaxDay, nil},
		"a pico more":                  {maxDayTokens, 1, maxDayPrice, 1, 0, plans.ErrCostOverflow},
		"a nano more":                  {maxDayTokens, 1, maxDayPrice, 1_000, 0, plans.ErrCostOverflow},
		"the largest that is accepted": {plans.MaxTokens, plans.MaxTokens, plans.MaxPrice, plans.MaxPrice, 0, plans.ErrCostOverflow},
		"every bit set":                {maxInt64, maxInt64, maxInt64, maxInt64, 0, plans.ErrCostOverflow},
		"negative prompt":              {-1, 0, 1, 1, 0, plans.ErrNegative},
		"negative completion":          {0, -1, 1, 1, 0, plans.ErrNegative},
		"negative input price":         {1, 1, -1, 1, 0, plans.ErrNegative},
		"negative output price":        {1, 1, 1, -1, 0, plans.ErrNegative},
	} {
		got, err := plans.Cost(c.prompt, c.completion, c.input, c.output)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %d, %v; want %d, %v", name, int64(got), err, int64(c.want), c.err)
		}
	}
}

// factor draws token counts and prices of every size, so that products fall on
// both sides of MaxDay and of 2^64.
func factor() *rapid.Generator[int64] {
	return rapid.OneOf(
		rapid.Int64Range(0, 2_000),
		rapid.Int64Range(0, 1_000_000_000),
		rapid.Int64Range(0, plans.MaxTokens),
		rapid.Int64Range(0, maxInt64),
		rapid.Int64Range(maxInt64-3, maxInt64),
	)
}

func costOracle(prompt, completion int64, input, output plans.Price) *big.Int {
	in := new(big.Int).Mul(big.NewInt(prompt), big.NewInt(int64(input)))
	out := new(big.Int).Mul(big.NewInt(completion), big.NewInt(int64(output)))
	picos := in.Add(in, out)
	return picos.Div(picos.Add(picos, big.NewInt(999)), big.NewInt(1_000))
}

func TestCostAgreesWithUnboundedArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prompt, completion := factor().Draw(t, "prompt"), factor().Draw(t, "completion")
		input, output := plans.Price(factor().Draw(t, "input")), plans.Price(factor().Draw(t, "output"))
		want := costOracle(prompt, completion, input, output)
		got, err := plans.Cost(prompt, completion, input, output)
		if want.Cmp(big.NewInt(plans.MaxDay)) > 0 {
			if got != 0 || !errors.Is(err, plans.ErrCostOverflow) {
				t.Errorf("%d, %v; want ErrCostOverflow, for it is %v", int64(got), err, want)
			}
			return
		}
		if err != nil || int64(got) != want.Int64() {
			t.Errorf("%d, %v; want %v", int64(got), err, want)
		}
	})
}

func TestMoreTokensNeverCostLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prompt, completion := factor().Draw(t, "prompt"), factor().Draw(t, "completion")
		input, output := plans.Price(factor().Draw(t, "input")), plans.Price(factor().Draw(t, "output"))
		morePrompt := rapid.Int64Range(prompt, maxInt64).Draw(t, "more prompt")
		moreCompletion := rapid.Int64Range(completion, maxInt64).Draw(t, "more completion")

		less, lessErr := plans.Cost(prompt, completion, input, output)
		more, moreErr := plans.Cost(morePrompt, moreCompletion, input, output)
		if lessErr != nil && moreErr == nil {
			t.Errorf("%v, yet more tokens cost %s", lessErr, more)
		}
		if moreErr == nil && more < less {
			t.Errorf("%s, yet more tokens cost %s", less, more)
		}
	})
}
