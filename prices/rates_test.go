package prices_test

import (
	"errors"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

func rates(t testing.TB, text string) prices.Rates {
	t.Helper()
	r, err := prices.ParseRates(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

func TestEachKindOfTokenCostsItsOwnPrice(t *testing.T) {
	for _, tc := range []struct {
		rates string
		used  prices.Tokens
		want  string // USD
	}{
		// 500 × 2.5 + 100 × 10 = 2,250 micro-USD
		{"in=2.5 out=10", prices.Tokens{Prompt: 500, Completion: 100}, "0.00225"},
		// 100 × 2.5 + 400 × 1.25 + 100 × 10 = 1,750
		{"in=2.5 out=10 cached=1.25", prices.Tokens{Prompt: 500, Cached: 400, Completion: 100}, "0.00175"},
		// without a price of their own, cached tokens cost what the input costs
		{"in=2.5 out=10", prices.Tokens{Prompt: 500, Cached: 400, Completion: 100}, "0.00225"},
		// 100 × 3 + 200 × 0.3 + 300 × 3.75 + 400 × 6 + 10 × 15 = 300 + 60 + 1,125 + 2,400 + 150 = 4,035
		{"in=3 out=15 cached=0.3 write=3.75 write1h=6",
			prices.Tokens{Prompt: 1000, Cached: 200, CacheWrite: 700, CacheWrite1h: 400, Completion: 10}, "0.004035"},
		// an hour costs what writing costs where only that has a price: 100 × 1 + 50 × 2 = 200
		{"in=1 out=1 write=2", prices.Tokens{Prompt: 150, CacheWrite: 50, CacheWrite1h: 50}, "0.0002"},
		// 10 × 1 + 20 × 5 + 30 × 7 = 320
		{"in=1 out=5 reasoning=7", prices.Tokens{Prompt: 10, Completion: 50, Reasoning: 30}, "0.00032"},
		// a tier holds for the whole call, above its bound only
		{"in=1/200000:2 out=10/200000:15", prices.Tokens{Prompt: 200_000, Completion: 10}, "0.2001"},
		{"in=1/200000:2 out=10/200000:15", prices.Tokens{Prompt: 200_001, Completion: 10}, "0.400152"},
		// a call's own price: 0.01 + 0.0000025
		{"in=2.5 out=10 call=0.01", prices.Tokens{Prompt: 1}, "0.0100025"},
		// a pico-dollar is rounded up to a nano-dollar
		{"in=0.000001 out=0", prices.Tokens{Prompt: 1}, "0.000000001"},
		{"in=1 out=1", prices.Tokens{}, "0"},
	} {
		got, err := rates(t, tc.rates).Cost(tc.used)
		if err != nil || got.String() != tc.want {
			t.Errorf("%s × %+v = %s, %v; want %s", tc.rates, tc.used, got, err, tc.want)
		}
	}
}

func TestCostRefusesWhatCannotBe(t *testing.T) {
	r := rates(t, "in=1 out=1")
	for _, tc := range []struct {
		used prices.Tokens
		want error
	}{
		{prices.Tokens{Prompt: -1}, plans.ErrNegative},
		{prices.Tokens{Prompt: 1, Cached: 2}, prices.ErrParts},
		{prices.Tokens{Prompt: 2, Cached: 1, CacheWrite: 2}, prices.ErrParts},
		{prices.Tokens{Prompt: 2, CacheWrite: 1, CacheWrite1h: 2}, prices.ErrParts},
		{prices.Tokens{Completion: 1, Reasoning: 2}, prices.ErrParts},
	} {
		if _, err := r.Cost(tc.used); !errors.Is(err, tc.want) {
			t.Errorf("%+v: %v, want %v", tc.used, err, tc.want)
		}
	}
	if _, err := rates(t, "in=1000000000").Cost(prices.Tokens{Prompt: plans.MaxTokens}); !errors.Is(err, plans.ErrCostOverflow) {
		t.Errorf("a huge cost: %v", err)
	}
}

// The arithmetic once more with big integers, and the text form of what was drawn.
func TestCostIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		price := rapid.Int64Range(0, 1_000_000_000)
		var r prices.Rates
		for _, class := range []prices.Class{
			prices.Input, prices.Output, prices.Cached, prices.CacheWrite, prices.CacheWrite1h, prices.Reasoning,
		} {
			if class <= prices.Output || rapid.Bool().Draw(t, "priced") {
				r.Set(class, plans.Price(price.Draw(t, "price")))
			}
		}
		n := rapid.Int64Range(0, 1_000_000_000)
		input, cached, write, hour := n.Draw(t, "input"), n.Draw(t, "cached"), n.Draw(t, "write"), n.Draw(t, "hour")
		output, reasoning := n.Draw(t, "output"), n.Draw(t, "reasoning")
		used := prices.Tokens{
			Prompt: input + cached + write + hour, Cached: cached, CacheWrite: write + hour, CacheWrite1h: hour,
			Completion: output + reasoning, Reasoning: reasoning,
		}
		sum := new(big.Int)
		for class, count := range map[prices.Class]int64{
			prices.Input: input, prices.Cached: cached, prices.CacheWrite: write, prices.CacheWrite1h: hour,
			prices.Output: output, prices.Reasoning: reasoning,
		} {
			sum.Add(sum, new(big.Int).Mul(big.NewInt(count), big.NewInt(int64(r.Price(class)))))
		}
		want := new(big.Int).Div(sum.Add(sum, big.NewInt(999)), big.NewInt(1000))
		got, err := r.Cost(used)
		if want.Cmp(big.NewInt(plans.MaxDay)) > 0 {
			if !errors.Is(err, plans.ErrCostOverflow) {
				t.Fatalf("%s × %+v: %v, want an overflow", r, used, err)
			}
			return
		}
		if err != nil || want.Cmp(big.NewInt(int64(got))) != 0 {
			t.Fatalf("%s × %+v = %d, %v; want %s", r, used, got, err, want)
		}
		again, err := prices.ParseRates(r.String())
		if err != nil || again.String() != r.String() {
			t.Fatalf("%s is read as %s, %v", r, again, err)
		}
	})
}
