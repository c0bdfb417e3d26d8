package event

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// MaxScale is the largest number of decimal places: 10^18 is the largest power
// of ten an int64 holds.
const MaxScale = 18

// ErrDecimalRange is returned where a decimal does not fit 64 bits at its scale.
var ErrDecimalRange = errors.New("decimal out of range")

// ErrDecimalPlaces is returned where a text has more non-zero decimal places
// than the scale can hold: money is never rounded in silence.
var ErrDecimalPlaces = errors.New("more decimal places than the field's scale")

// ErrDecimalSyntax is returned where a text is not a decimal number.
var ErrDecimalSyntax = errors.New("not a decimal number")

var pow10 = [MaxScale + 1]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// Pow10 is 10^scale, scale in 0..MaxScale.
func Pow10(scale int) int64 { return pow10[scale] }

// ParseDecimal reads text such as "12.3", "-4" or "1.5e3" exactly, as an
// unscaled integer of the given scale (0..MaxScale). Trailing zeros beyond the
// scale are accepted, other digits beyond it are ErrDecimalPlaces. It does not
// allocate.
func ParseDecimal(text []byte, scale int) (int64, error) {
	i, neg := 0, false
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		neg = text[0] == '-'
		i++
	}
	start := i
	// The mantissa's digits run from start to end, with at most one point.
	point, end, digits := -1, len(text), 0
scan:
	for ; i < len(text); i++ {
		switch c := text[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '.' && point < 0:
			point = i
		case c == 'e' || c == 'E':
			end = i
			break scan
		default:
			return 0, ErrDecimalSyntax
		}
	}
	if digits == 0 {
		return 0, ErrDecimalSyntax
	}
	exp := 0
	if end < len(text) {
		e, err := parseExponent(text[end+1:])
		if err != nil {
			return 0, err
		}
		exp = e
	}
	// place is the power of ten (in units of 10^-scale) of the next digit.
	intDigits := end - start
	if point >= 0 {
		intDigits = point - start
	}
	place := intDigits - 1 + exp + scale
	var v uint64
	for j := start; j < end; j++ {
		if j == point {
			continue
		}
		d := uint64(text[j] - '0')
		if place < 0 {
			if d != 0 {
				return 0, ErrDecimalPlaces
			}
			place--
			continue
		}
		if v > (math.MaxUint64-d)/10 {
			return 0, ErrDecimalRange
		}
		v = v*10 + d
		place--
	}
	// Digits that the text leaves out, as in 1.5e3 or 7 at scale 2.
	if v != 0 {
		for ; place >= 0; place-- {
			if v > math.MaxUint64/10 {
				return 0, ErrDecimalRange
			}
			v *= 10
		}
	}
	if neg {
		if v > 1<<63 {
			return 0, ErrDecimalRange
		}
		return -int64(v), nil
	}
	if v > math.MaxInt64 {
		return 0, ErrDecimalRange
	}
	return int64(v), nil
}

// parseExponent reads a signed exponent; values past any use saturate at a
// bound that the caller's range checks turn into an error or a zero.
func parseExponent(text []byte) (int, error) {
	neg := false
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		neg = text[0] == '-'
		text = text[1:]
	}
	if len(text) == 0 {
		return 0, ErrDecimalSyntax
	}
	e := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, ErrDecimalSyntax
		}
		if e < 1_000_000 {
			e = e*10 + int(c-'0')
		}
	}
	if neg {
		e = -e
	}
	return e, nil
}

// AppendDecimal appends v of the given scale with all its decimal places:
// 1200 of scale 2 is "12.00".
func AppendDecimal(dst []byte, v int64, scale int) []byte {
	if scale == 0 {
		return strconv.AppendInt(dst, v, 10)
	}
	u := uint64(v)
	if v < 0 {
		dst = append(dst, '-')
		u = -u
	}
	p := uint64(pow10[scale])
	dst = strconv.AppendUint(dst, u/p, 10)
	dst = append(dst, '.')
	frac := u % p
	for w := p / 10; w > frac && w > 1; w /= 10 {
		dst = append(dst, '0')
	}
	return strconv.AppendUint(dst, frac, 10)
}

// FormatDecimal is AppendDecimal as a string.
func FormatDecimal(v int64, scale int) string {
	return string(AppendDecimal(nil, v, scale))
}

// DecimalDouble is the double nearest to v of the given scale.
func DecimalDouble(v int64, scale int) float64 {
	if v > -1<<53 && v < 1<<53 {
		// Both are exact doubles (10^18 is), so the quotient is rounded once.
		return float64(v) / float64(pow10[scale])
	}
	var buf [24]byte
	f, err := strconv.ParseFloat(string(AppendDecimal(buf[:0], v, scale)), 64)
	if err != nil { // what AppendDecimal wrote is a number in range
		panic(err)
	}
	return f
}

// Rescale converts an unscaled value from one scale to another, exactly.
func Rescale(v int64, from, to int) (int64, error) {
	for ; from < to; from++ {
		if v > math.MaxInt64/10 || v < math.MinInt64/10 {
			return 0, ErrDecimalRange
		}
		v *= 10
	}
	for ; from > to; from-- {
		if v%10 != 0 {
			return 0, fmt.Errorf("%w: scale %d to %d", ErrDecimalPlaces, from, to)
		}
		v /= 10
	}
	return v, nil
}
