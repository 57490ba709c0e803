package plans_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/pikarc/server/plans"
	"pgregory.net/rapid"
)

const maxInt64 = math.MaxInt64

func TestParseMoneyReadsWhatTheContractAllows(t *testing.T) {
	for text, want := range map[string]plans.Money{
		"0":                      0,
		"0.00225":                2_250_000,
		"25":                     25 * plans.USD,
		"1e3":                    1_000 * plans.USD,
		"1E+3":                   1_000 * plans.USD,
		"1E-9":                   1,
		"0.000000001":            1,
		"1.0000000000":           plans.USD, // trailing zeros are not decimals
		"1.000000000e0":          plans.USD,
		"10e-10":                 1,
		"0.0000000001e1":         1,
		"-0":                     0,
		"-0.0":                   0,
		"0.0000000000000000":     0,
		"0e999999999":            0,
		"0e-400":                 0,
		"007":                    7 * plans.USD,
		"1.":                     plans.USD, // the texts that only a numeric string can hold
		".5":                     plans.USD / 2,
		"+1":                     plans.USD,
		"1000000000":             plans.MaxMoney,
		"1000000000.00000000000": plans.MaxMoney,
		"1e9":                    plans.MaxMoney,
		"0.0000000000001e22":     plans.MaxMoney,
		"999999999.999999999":    plans.MaxMoney - 1,
	} {
		got, err := plans.ParseMoney(text)
		if err != nil || got != want {
			t.Errorf("ParseMoney(%q) = %d, %v; want %d", text, int64(got), err, int64(want))
		}
	}
}

func TestParseMoneyRefusesTheRestAndSaysWhy(t *testing.T) {
	for text, want := range refusals() {
		got, err := plans.ParseMoney(text)
		if !errors.Is(err, want) || got != 0 {
			t.Errorf("ParseMoney(%q) = %d, %v; want 0, %v", text, int64(got), err, want)
		}
	}
}

func refusals() map[string]error {
	refused := map[string]error{
		"0.0000000001":                 plans.ErrDecimalPlaces,
		"1e-10":                        plans.ErrDecimalPlaces,
		"1e-400":                       plans.ErrDecimalPlaces,
		"1e-999999999":                 plans.ErrDecimalPlaces,
		"1e-99999999999999999999":      plans.ErrDecimalPlaces,
		"-0.0000000001":                plans.ErrDecimalPlaces, // the form is judged before the value
		"-1":                           plans.ErrNegative,
		"-1e400":                       plans.ErrNegative,
		"1000000000.000000001":         plans.ErrTooLarge,
		"1000000001":                   plans.ErrTooLarge,
		"9223372036.854775808":         plans.ErrTooLarge,
		"18446744073.709551616":        plans.ErrTooLarge, // 2^64 nano-dollars
		"1e10":                         plans.ErrTooLarge,
		"1e400":                        plans.ErrTooLarge,
		"1e999999999":                  plans.ErrTooLarge,
		"1e99999999999999999999":       plans.ErrTooLarge,
		"1" + strings.Repeat("0", 400): plans.ErrTooLarge,
	}
	for _, text := range []string{"NaN", "nan", "-NaN", "sNaN", "Infinity", "-infinity", "INF", "+inf"} {
		refused[text] = plans.ErrNotFinite
	}
	for _, text := range []string{
		"", ".", "+", "-", "e", "e5", ".e5", "1e", "1e+", "1e5.5", "1e5e5", "1.2.3", "--1", "+-1",
		"1_000", "1,000", "1,5", " 1", "1 ", "1\n", "0x10", "0b1", "$1", "1/2", "one", "null", "true", "1\x00", "１", "٣", "∞",
	} {
		refused[text] = plans.ErrNotDecimal
	}
	return refused
}

func TestParsePriceHasTwelvePlacesAndItsOwnLimit(t *testing.T) {
	for _, c := range []struct {
		text string
		want plans.Price
		err  error
	}{
		{"0.0000025", 2_500_000, nil},
		{"0.000000000001", 1, nil},
		{"1e-12", 1, nil},
		{"0.0000000000010", 1, nil},
		{"0.0000000000001", 0, plans.ErrDecimalPlaces},
		{"1000000", plans.MaxPrice, nil},
		{"1000000.000000000001", 0, plans.ErrTooLarge},
		{"1000000.0000000000001", plans.MaxPrice, nil},
		{"-2.1899999999999997e-06", 0, plans.ErrNegative},
		{"3.3333333333333335e-07", 0, plans.ErrDecimalPlaces},
		{"0.0000000000015", 0, plans.ErrDecimalPlaces},
		{"0.9999999999999e-12", 1, nil}, // by less than a billionth
		{"1.000000002e-12", 0, plans.ErrDecimalPlaces},
		{"0.000000" + strings.Repeat("3", 100_000), 0, plans.ErrDecimalPlaces},
		{"0.28" + strings.Repeat("0", 40) + strings.Repeat("3", 100_000), 280_000_000_000, nil},
		{"1000000000", 0, plans.ErrTooLarge},
		{"-0.000001", 0, plans.ErrNegative},
		{"NaN", 0, plans.ErrNotFinite},
		{"", 0, plans.ErrNotDecimal},
	} {
		got, err := plans.ParsePrice(c.text)
		if !errors.Is(err, c.err) || got != c.want {
			t.Errorf("ParsePrice(%.40q) = %d, %v; want %d, %v", c.text, int64(got), err, int64(c.want), c.err)
		}
	}
}

// Programs that keep prices per million divide, and what they then write is
// the nearest float.
func TestPricesPerMillionInFloatsAreTheOnesMeant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		micros := rapid.Int64Range(0, 1_000_000_000).Draw(t, "price per million in micro-dollars")
		perMillion, err := strconv.ParseFloat(plans.Money(micros*1_000).String(), 64)
		if err != nil {
			t.Fatal(err)
		}
		text := strconv.FormatFloat(perMillion/1e6, 'g', -1, 64)
		if got, err := plans.ParsePrice(text); err != nil || got != plans.Price(micros) {
			t.Errorf("ParsePrice(%q) = %d, %v; want %d", text, int64(got), err, micros)
		}
	})
	for text, want := range map[string]plans.Money{"0.30000000000000004": 300_000_000, "0.1": 100_000_000, "19.999999999999996": 20 * plans.USD} {
		if got, err := plans.ParseMoney(text); err != nil || got != want {
			t.Errorf("ParseMoney(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestCostsOfOthersAreRounded(t *testing.T) {
	for text, want := range map[string]string{
		"0.0015": "0.0015", "0": "0", "0.0000002625": "0.000000263", "2.624e-07": "0.000000262",
		"1e-15": "0.000000001", "1e-99999999": "0.000000001", "999999999.9999999999": "1000000000",
	} {
		if got, err := plans.ParseCost(text); err != nil || got.String() != want {
			t.Errorf("%s is read as %s, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]error{
		"-0.5": plans.ErrNegative, "-0.0000002625": plans.ErrDecimalPlaces, "": plans.ErrNotDecimal, "NaN": plans.ErrNotFinite,
		"1000000000.1": plans.ErrTooLarge, "1e30": plans.ErrTooLarge, "$1": plans.ErrNotDecimal,
	} {
		if got, err := plans.ParseCost(text); !errors.Is(err, want) || got != 0 {
			t.Errorf("%s is read as %s, %v; want %v", text, got, err, want)
		}
	}
}

func TestTooManyDecimalsSayWhatToSend(t *testing.T) {
	for text, want := range map[string]string{
		"3.3333333333333335e-07": "0.000000333333", "1.5e-12": "0.000000000002", "1e-30": "0.000000000001",
		"0.6666666666666666e-6": "0.000000666667",
	} {
		var places *plans.PlacesError
		if _, err := plans.ParsePrice(text); !errors.As(err, &places) || places.Nearest != want {
			t.Errorf("ParsePrice(%q): %v; want to hear of %s", text, err, want)
		}
	}
}

// A few bytes of input must not make the server write out millions of zeros.
func TestAHugeExponentCostsNoMemory(t *testing.T) {
	for _, text := range []string{"1e999999999", "-1e999999999", "1e-999999999", "0e999999999"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = plans.ParseMoney(text) // the answer is pinned by the tables above
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
			t.Errorf("ParseMoney(%q) allocated %d bytes", text, used)
		}
	}
}

func TestStringWritesTheExactAmountInPlainDecimals(t *testing.T) {
	for n, want := range map[plans.Money]string{
		0: "0", 1: "0.000000001", -1: "-0.000000001", 2_250_000: "0.00225", 100_000_000: "0.1",
		999_999_999: "0.999999999", plans.USD: "1", -25 * plans.USD: "-25", plans.USD + 1: "1.000000001",
		plans.MaxMoney: "1000000000", maxInt64: "9223372036.854775807", math.MinInt64: "-9223372036.854775808",
	} {
		if got := n.String(); got != want {
			t.Errorf("Money(%d).String() = %q, want %q", int64(n), got, want)
		}
	}
	for n, want := range map[plans.Price]string{
		0: "0", 1: "0.000000000001", 2_500_000: "0.0000025", 10_000_000: "0.00001", plans.MaxPrice: "1000000",
		maxInt64: "9223372.036854775807", math.MinInt64: "-9223372.036854775808",
	} {
		if got := n.String(); got != want {
			t.Errorf("Price(%d).String() = %q, want %q", int64(n), got, want)
		}
	}
}

func TestPerMillionIsTheExactAmount(t *testing.T) {
	for p, want := range map[plans.Price]string{0: "0", 2_500_000: "2.5", 1: "0.000001", plans.MaxPrice: "1000000000000"} {
		if got := p.PerMillion(); got != want {
			t.Errorf("%s a token is %q a million, want %q", p, got, want)
		}
	}
}

func TestStringEqualsItsAmountForEveryInt64(t *testing.T) {
	plain := regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?$`)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.Int64(), rapid.Int64Range(maxInt64-9, maxInt64), rapid.Int64Range(math.MinInt64, math.MinInt64+9)).Draw(t, "n")
		for text, unit := range map[string]int64{
			plans.Money(n).String(): 1e9,
			plans.Price(n).String(): 1e12,
		} {
			r, ok := new(big.Rat).SetString(text)
			if !ok || !plain.MatchString(text) || r.Cmp(big.NewRat(n, unit)) != 0 {
				t.Errorf("%d of 1/%d was written as %q", n, unit, text)
			}
		}
	})
}

func TestParsingWhatStringWroteIsIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := plans.Money(rapid.Int64Range(0, int64(plans.MaxMoney)).Draw(t, "money"))
		if got, err := plans.ParseMoney(m.String()); err != nil || got != m {
			t.Errorf("money %d came back as %d, %v", int64(m), int64(got), err)
		}
		p := plans.Price(rapid.Int64Range(0, int64(plans.MaxPrice)).Draw(t, "price"))
		if got, err := plans.ParsePrice(p.String()); err != nil || got != p {
			t.Errorf("price %d came back as %d, %v", int64(p), int64(got), err)
		}
	})
}

func TestMoneyPriceAndBudgetAreJSONNumbersWhereverTheyStand(t *testing.T) {
	amount := 2_250_000 * plans.Money(1)
	got, err := json.Marshal(struct {
		Money   plans.Money
		Pointer *plans.Money
		List    []plans.Money
		Price   plans.Price
		Set     plans.Budget
		Zero    plans.Budget
		Unset   plans.Budget
		Stale   plans.Budget
	}{
		Money: amount, Pointer: &amount, List: []plans.Money{0, maxInt64}, Price: 2_500_000,
		Set: plans.Budget{Limit: 10*plans.USD + 1, Set: true}, Zero: plans.Budget{Set: true}, Stale: plans.Budget{Limit: 5},
	})
	want := `{"Money":0.00225,"Pointer":0.00225,"List":[0,9223372036.854775807],"Price":0.0000025,` +
		`"Set":10.000000001,"Zero":0,"Unset":null,"Stale":null}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}
