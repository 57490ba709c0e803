package plans

import (
	"errors"
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
)

// Money is an amount in nano-USD (9 decimals), so that adding never rounds.
type Money int64

// Price is what one token costs, in pico-USD (12 decimals).
type Price int64

// USD is one dollar.
const USD Money = 1_000_000_000

const (
	// MaxMoney bounds what a caller may enter: a billion dollars.
	MaxMoney = 1_000_000_000 * USD
	// MaxPrice bounds a price a token: a million dollars, as far as int64 pico-USD reach in round
	// figures.
	MaxPrice Price = 1_000_000 * 1_000_000_000_000
	// MaxTokens bounds each token count of one step.
	MaxTokens = 1_000_000_000_000
	// MaxDay bounds what one workspace can book on one day, in nano-USD and in
	// tokens alike: 100 million dollars, 10^17 tokens. Every total that is ever
	// summed (30 days of them) then fits an int64.
	MaxDay = 100_000_000_000_000_000
)

// Why a decimal text was refused.
var (
	// ErrNotDecimal: the text is no number at all.
	ErrNotDecimal = errors.New("not a decimal number")
	// ErrNotFinite: it is an infinity or NaN, which JSON has not but some encoders write.
	ErrNotFinite = errors.New("not a finite number")
	// ErrDecimalPlaces: rounding it would change an amount that somebody meant exactly.
	ErrDecimalPlaces = errors.New("too many decimal places")
	// ErrNegative: no amount and no price is below zero.
	ErrNegative = errors.New("below zero")
	// ErrTooLarge: it is beyond MaxMoney or the largest price.
	ErrTooLarge = errors.New("too large")
)

// ErrCostOverflow says that a cost is beyond what the ledger can book.
var ErrCostOverflow = errors.New("the cost is larger than can be booked")

// PlacesError is ErrDecimalPlaces with what could be sent instead.
type PlacesError struct{ Nearest string }

// Error names the nearest amount that can be written.
func (e *PlacesError) Error() string {
	return ErrDecimalPlaces.Error() + ": the nearest is " + e.Nearest
}

// Unwrap returns ErrDecimalPlaces.
func (e *PlacesError) Unwrap() error { return ErrDecimalPlaces }

// How many decimals an amount may have: nano-USD, and pico-USD a token for prices.
const (
	moneyPlaces = 9
	pricePlaces = 12
)

// ParseMoney reads a decimal text of at most 9 decimals, from 0 to MaxMoney.
// Further ones are rounded where they are no more than the noise of a float,
// such as in 0.1 + 0.2; else they are a *PlacesError.
func ParseMoney(text string) (Money, error) {
	n, err := parseDecimal(text, moneyPlaces, uint64(MaxMoney))
	return Money(n), err
}

// ParseCost is ParseMoney for what others have worked out, whose decimals nobody
// can be asked to cut: it rounds to the nano-dollar, and no cost to nothing.
func ParseCost(text string) (Money, error) {
	m, err := ParseMoney(text)
	var places *PlacesError
	if errors.As(err, &places) && !strings.HasPrefix(text, "-") {
		return ParseMoney(places.Nearest)
	}
	return m, err
}

// ParsePrice is ParseMoney for 12 decimals, from 0 to MaxPrice.
func ParsePrice(text string) (Price, error) {
	n, err := parseDecimal(text, pricePlaces, uint64(MaxPrice))
	return Price(n), err
}

// ParseTokens reads a whole number of tokens, from 0 to MaxTokens, in any form of
// a decimal: 500, 500.0, 5e2.
func ParseTokens(text string) (int64, error) {
	n, err := parseDecimal(text, 0, MaxTokens)
	return int64(n), err
}

// String writes the amount exactly, without trailing zeros or an exponent.
func (m Money) String() string { return formatDecimal(int64(m), moneyPlaces) }

// MarshalJSON writes the amount as a JSON number.
func (m Money) MarshalJSON() ([]byte, error) { return []byte(m.String()), nil }

// String writes the price exactly, without trailing zeros or an exponent.
func (p Price) String() string { return formatDecimal(int64(p), pricePlaces) }

// MarshalJSON writes the price as a JSON number.
func (p Price) MarshalJSON() ([]byte, error) { return []byte(p.String()), nil }

// PerMillion writes what a million tokens cost, in dollars.
func (p Price) PerMillion() string { return formatDecimal(int64(p), pricePlaces-6) }

// Budget is a limit of money that may not be set.
type Budget struct {
	Limit Money
	Set   bool
}

// MarshalJSON writes the limit as a JSON number, or null when none is set.
func (b Budget) MarshalJSON() ([]byte, error) {
	if !b.Set {
		return []byte("null"), nil
	}
	return b.Limit.MarshalJSON()
}

// Cost multiplies tokens (0 or more) by their prices, exactly, and rounds the
// sum up to the nano-dollar. It returns ErrCostOverflow beyond MaxDay.
func Cost(promptTokens, completionTokens int64, input, output Price) (Money, error) {
	if promptTokens < 0 || completionTokens < 0 || input < 0 || output < 0 {
		return 0, ErrNegative
	}
	hiIn, loIn := bits.Mul64(uint64(promptTokens), uint64(input))
	hiOut, loOut := bits.Mul64(uint64(completionTokens), uint64(output))
	lo, carry := bits.Add64(loIn, loOut, 0)
	hi, _ := bits.Add64(hiIn, hiOut, carry) // both factors are below 2^63, so the high words cannot overflow
	const picosPerNano = 1_000
	if hi >= picosPerNano {
		return 0, ErrCostOverflow
	}
	nanos, rest := bits.Div64(hi, lo, picosPerNano)
	if nanos > MaxDay || nanos == MaxDay && rest > 0 {
		return 0, ErrCostOverflow
	}
	if rest > 0 {
		nanos++
	}
	return Money(nanos), nil
}

// parseDecimal reads a JSON-like decimal into an integer of 10^-places, at
// most limit. Trailing zeros do not count as decimals, and no exponent is
// large enough to cost time.
func parseDecimal(text string, places int, limit uint64) (uint64, error) {
	negative, digits, scale, err := scanDecimal(text)
	if err != nil {
		return 0, err
	}
	trimmed := strings.TrimRight(digits, "0")
	scale -= len(digits) - len(trimmed)
	trimmed = strings.TrimLeft(trimmed, "0")
	switch {
	case trimmed == "":
		return 0, nil
	case scale > places:
		nearest, noise := roundDigits(trimmed, scale-places)
		if !noise {
			return 0, &PlacesError{formatDecimal(int64(min(max(nearest, 1), limit)), places)}
		}
		trimmed, scale = strconv.FormatUint(nearest, 10), places
	}
	if negative {
		return 0, ErrNegative
	}
	zeros := places - scale
	if len(trimmed)+zeros > 19 {
		return 0, ErrTooLarge
	}
	n, err := strconv.ParseUint(trimmed+strings.Repeat("0", zeros), 10, 64)
	if err != nil || n > limit {
		return 0, ErrTooLarge
	}
	return n, nil
}

// roundDigits rounds a whole number, given by its digits without leading
// zeros, to units of 10^drop: to the largest uint64 where it is larger. Noise
// reports whether that changes it by less than a billionth.
func roundDigits(digits string, drop int) (units uint64, noise bool) {
	if drop > len(digits) {
		return 0, false
	}
	const enough = 60 // digits behind the unit; those after them change nothing
	if drop > enough {
		digits, drop = digits[:len(digits)-drop+enough], enough
	}
	if len(digits)-drop > 19 {
		return math.MaxUint64, true
	}
	value, _ := new(big.Int).SetString(digits, 10)
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(drop)), nil)
	half := new(big.Int).Rsh(unit, 1)
	rounded := new(big.Int).Div(new(big.Int).Add(value, half), unit)
	off := new(big.Int).Sub(value, new(big.Int).Mul(rounded, unit))
	const billion = 1_000_000_000
	return rounded.Uint64(), off.Abs(off).Mul(off, big.NewInt(billion)).Cmp(value) < 0
}

// scanDecimal splits a decimal text into its sign, its digits without a point,
// and the number of them behind the point (below zero for large exponents).
func scanDecimal(text string) (negative bool, digits string, scale int, err error) {
	rest := text
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		negative = rest[0] == '-'
		rest = rest[1:]
	}
	switch strings.ToLower(rest) {
	case "nan", "snan", "inf", "infinity":
		return false, "", 0, ErrNotFinite
	}
	mantissa, exponent, hasExponent := strings.Cut(strings.ToLower(rest), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits = whole + fraction
	if digits == "" || !allDigits(digits) {
		return false, "", 0, ErrNotDecimal
	}
	shift := 0
	if hasExponent {
		if shift, err = scanExponent(exponent); err != nil {
			return false, "", 0, err
		}
	}
	return negative, digits, len(fraction) - shift, nil
}

// scanExponent clamps what it reads: beyond a million digits every value is
// refused alike, for its size or for its decimals.
func scanExponent(text string) (int, error) {
	const clamp = 10_000_000
	sign := 1
	if text != "" && (text[0] == '-' || text[0] == '+') {
		if text[0] == '-' {
			sign = -1
		}
		text = text[1:]
	}
	if text == "" || !allDigits(text) {
		return 0, ErrNotDecimal
	}
	n, err := strconv.Atoi(text)
	if err != nil || n > clamp {
		n = clamp
	}
	return sign * n, nil
}

// allDigits reports whether a text has only the digits 0 to 9.
func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// formatDecimal writes n, scaled by 10 to the power of places, without an exponent and without
// zeros at its end.
func formatDecimal(n int64, places int) string {
	sign := ""
	if n < 0 {
		sign = "-"
	}
	digits := strconv.FormatUint(magnitude(n), 10)
	if len(digits) <= places {
		digits = strings.Repeat("0", places-len(digits)+1) + digits
	}
	whole, fraction := digits[:len(digits)-places], strings.TrimRight(digits[len(digits)-places:], "0")
	if fraction == "" {
		return sign + whole
	}
	return sign + whole + "." + fraction
}

// magnitude is the absolute value, also of the smallest int64.
func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}
