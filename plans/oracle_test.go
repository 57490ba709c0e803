package plans_test

import (
	"errors"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"github.com/pikarc/server/plans"
	"pgregory.net/rapid"
)

// What a decimal text is, said a second time and in another way than the code says it.
var (
	decimalGrammar  = regexp.MustCompile(`^([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?$`)
	infiniteGrammar = regexp.MustCompile(`^[+-]?([sS]?[nN][aA][nN]|[iI][nN][fF]([iI][nN][iI][tT][yY])?)$`)
)

// oracle reads text with rationals: the number of units of 10^-places, or why not.
func oracle(text string, places, limit int64) (int64, error) {
	if infiniteGrammar.MatchString(text) {
		return 0, plans.ErrNotFinite
	}
	parts := decimalGrammar.FindStringSubmatch(text)
	if parts == nil {
		return 0, plans.ErrNotDecimal
	}
	value, ok := new(big.Rat).SetString(parts[2])
	if !ok {
		return 0, plans.ErrNotDecimal
	}
	value.Mul(value, powerOfTen(places))
	value.Mul(value, powerOfTen(exponent(parts[3], int64(len(text))+40)))
	switch {
	case value.Sign() == 0:
		return 0, nil
	case !nearInt(value):
		return 0, plans.ErrDecimalPlaces
	case parts[1] == "-":
		return 0, plans.ErrNegative
	case value.Num().Cmp(big.NewInt(limit)) > 0:
		return 0, plans.ErrTooLarge
	}
	return value.Num().Int64(), nil
}

// nearInt rounds a value to a whole number if that changes it by less than a billionth.
func nearInt(value *big.Rat) bool {
	half := new(big.Rat).Add(value, big.NewRat(1, 2))
	nearest := new(big.Rat).SetInt(new(big.Int).Div(half.Num(), half.Denom()))
	off := new(big.Rat).Sub(value, nearest)
	if off.Abs(off).Mul(off, powerOfTen(9)).Cmp(value) >= 0 {
		return false
	}
	value.Set(nearest)
	return true
}

// exponent is clamped to where the digits of the text cannot make up for it,
// so that the oracle itself stays fast.
func exponent(text string, clamp int64) int64 {
	n, _ := new(big.Int).SetString(text, 10)
	switch {
	case n == nil:
		return 0
	case n.Cmp(big.NewInt(clamp)) > 0:
		return clamp
	case n.Cmp(big.NewInt(-clamp)) < 0:
		return -clamp
	}
	return n.Int64()
}

func powerOfTen(n int64) *big.Rat {
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(max(n, -n)), nil)
	if n < 0 {
		return new(big.Rat).SetFrac(big.NewInt(1), power)
	}
	return new(big.Rat).SetInt(power)
}

// reporter is what *testing.T and *rapid.T share here.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

func checkAgainstOracle(t reporter, text string) {
	t.Helper()
	money, moneyErr := plans.ParseMoney(text)
	price, priceErr := plans.ParsePrice(text)
	for _, c := range []struct {
		name          string
		places, limit int64
		got           int64
		err           error
	}{
		{"ParseMoney", 9, int64(plans.MaxMoney), int64(money), moneyErr},
		{"ParsePrice", 12, int64(plans.MaxPrice), int64(price), priceErr},
	} {
		want, wantErr := oracle(text, c.places, c.limit)
		if c.got != want || !errors.Is(c.err, wantErr) {
			t.Errorf("%s(%q) = %d, %v; the oracle says %d, %v", c.name, text, c.got, c.err, want, wantErr)
		}
	}
}

// decimalText draws texts of which many are valid, and many of those near a limit.
func decimalText() *rapid.Generator[string] {
	nearLimit := rapid.Custom(func(t *rapid.T) string {
		around := rapid.SampledFrom([]int64{0, 1, 10, int64(plans.MaxMoney), maxInt64 - 100}).Draw(t, "around")
		n := big.NewInt(around)
		n.Add(n, big.NewInt(rapid.Int64Range(-3, 100).Draw(t, "off")))
		shift := rapid.IntRange(-3, 25).Draw(t, "shift")
		text := new(big.Rat).Mul(new(big.Rat).SetInt(n), powerOfTen(int64(-shift))).FloatString(max(shift, 0))
		return text + rapid.SampledFrom([]string{"", "e0", "e-9", "E9", "e+3", "e-12", "e12"}).Draw(t, "exponent")
	})
	return rapid.OneOf(
		nearLimit,
		rapid.StringMatching(`[+-]?[0-9]{0,12}\.?[0-9]{0,14}([eE][+-]?[0-9]{1,2})?`),
		rapid.StringMatching(`-?0{0,30}[0-9]?\.0{0,30}[0-9]{0,3}0{0,30}[eE]-?[0-9]{1,12}`),
		rapid.StringMatching(`[-+0-9.eE_ xnaNif]{0,8}`),
		rapid.String(),
	)
}

func TestParsingAgreesWithRationalArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkAgainstOracle(t, decimalText().Draw(t, "text"))
	})
}

func FuzzParseMoney(f *testing.F) {
	for text := range refusals() {
		f.Add(text)
	}
	for _, text := range []string{"0", "-0", "1.", ".5", "+1", "1e3", "1E-9", "0.00225", "1000000000", "1.0000000000", "0.0000000000001e22"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		const longest = 500 // the oracle is quadratic in the digits
		if len(text) > longest {
			text = text[:longest]
		}
		money, err := plans.ParseMoney(text)
		if err == nil {
			again, err := plans.ParseMoney(money.String())
			if err != nil || again != money || strings.ContainsAny(money.String(), "eE+") {
				t.Errorf("%q was read as %d, written as %s and read again as %d, %v", text, int64(money), money, int64(again), err)
			}
		}
		if isASCII(text) { // elsewhere only the refusal counts, not its words
			checkAgainstOracle(t, text)
		} else if err == nil {
			t.Errorf("ParseMoney(%q) = %s: only ASCII digits are digits", text, money)
		}
	})
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] > 127 {
			return false
		}
	}
	return true
}
