package decode

import (
	"math"
	"strconv"
	"unsafe"

	"github.com/weirstream/weir/ingest/event"
)

// plainNumber reads [+-]digits[.digits] as an integer, how many of its digits
// stand after the point, and how many there are in all, 1 to 18. Everything else,
// right or wrong, has 0 digits and goes a slower way.
func plainNumber(b []byte) (v int64, frac, n int) {
	start := 0
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		start = 1
	}
	if len(b)-start > 19 {
		return 0, 0, 0
	}
	point := -1
	for i := start; i < len(b); i++ {
		c := b[i] - '0'
		if c > 9 {
			if b[i] != '.' || point >= 0 {
				return 0, 0, 0
			}
			point = i
			continue
		}
		v = v*10 + int64(c)
	}
	n = len(b) - start
	if point >= 0 {
		n--
		frac = len(b) - point - 1
	}
	if n > 18 {
		return 0, 0, 0
	}
	if start == 1 && b[0] == '-' {
		v = -v
	}
	return v, frac, n
}

// parseDecimal is event.ParseDecimal, faster for short numbers.
func parseDecimal(b []byte, scale int) (int64, error) {
	if v, frac, n := plainNumber(b); n > 0 && frac <= scale && n+scale-frac <= event.MaxScale {
		return v * event.Pow10(scale-frac), nil // below 10^18
	}
	return event.ParseDecimal(b, scale)
}

var doublePow10 = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// parseDouble reads the double nearest to a number in the grammar of
// event.ParseDecimal. Errors: event.ErrDecimalSyntax, event.ErrDecimalRange.
func parseDouble(b []byte) (float64, error) {
	// Both are exact doubles, so the quotient is rounded once (Clinger 1990).
	if v, frac, n := plainNumber(b); n > 0 && v > -1<<53 && v < 1<<53 {
		if v == 0 && b[0] == '-' {
			return math.Copysign(0, -1), nil
		}
		return float64(v) / doublePow10[frac], nil
	}
	if !isNumber(b) {
		return 0, event.ErrDecimalSyntax
	}
	// The string lives only as long as the call: ParseFloat copies what it keeps
	// in an error.
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(b), len(b)), 64)
	if err != nil {
		return 0, event.ErrDecimalRange
	}
	return f, nil
}

// isNumber reports whether b is in the grammar of event.ParseDecimal:
// [+-]digits[.digits][e[+-]digits] with a digit on one side of the point. It
// keeps the hexadecimal, infinite and undefined numbers from ParseFloat.
func isNumber(b []byte) bool {
	i := 0
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		i++
	}
	n := 0
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		n++
	}
	if i < len(b) && b[i] == '.' {
		for i++; i < len(b) && b[i]-'0' <= 9; i++ {
			n++
		}
	}
	if n == 0 {
		return false
	}
	if i == len(b) {
		return true
	}
	if b[i]|0x20 != 'e' {
		return false
	}
	i++
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		i++
	}
	start := i
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
	}
	return i == len(b) && i > start
}
