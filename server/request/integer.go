package request

import (
	"errors"
	"strconv"
	"strings"
)

// Why a number is no int64.
var (
	// A number is judged as it was written: 1e3 and 1.0 are whole, 1.5 is not.
	errFraction = errors.New("not a whole number")
	errTooLow   = errors.New("below every int64")
	errTooHigh  = errors.New("above every int64")
)

// parseInteger reads a JSON number exactly; 1.0 and 1e2 are whole, and float64
// has no part in it. No exponent is large enough to cost time.
func parseInteger(number string) (int64, error) {
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		return n, nil
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	unsigned := strings.TrimPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(unsigned, ".")
	digits := strings.TrimRight(whole+fraction, "0")
	// The value is digits × 10^zeros.
	zeros := int64(len(whole)-len(digits)) + clampExponent(exponent)
	digits = strings.TrimLeft(digits, "0")

	outside := errTooHigh
	if unsigned != mantissa {
		outside = errTooLow
	}
	const int64Digits = 19
	switch {
	case digits == "":
		return 0, nil
	case zeros < 0:
		return 0, errFraction
	case int64(len(digits))+zeros > int64Digits:
		return 0, outside
	}
	sign := mantissa[:len(mantissa)-len(unsigned)]
	n, err := strconv.ParseInt(sign+digits+strings.Repeat("0", int(zeros)), 10, 64)
	if err != nil {
		return 0, outside
	}
	return n, nil
}

// clampExponent reads an exponent, "" being 0. The clamp is beyond what any
// body has digits to make up for.
func clampExponent(text string) int64 {
	const clamp = 1 << 50
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && text == "" {
		return 0
	}
	return min(max(n, -clamp), clamp) // out of range, ParseInt returns the nearest int64
}
