package event

import (
	"errors"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/weirstream/weir/test/seeds"
)

var decimalGrammar = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// oracleDecimal is ParseDecimal by rational arithmetic. Exponents past 400 are not
// asked of it: a big.Rat of them does not fit the memory.
func oracleDecimal(text string, scale int) (int64, error) {
	if !decimalGrammar.MatchString(text) {
		return 0, ErrDecimalSyntax
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0, ErrDecimalSyntax
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
	// A value may be wrong in both ways; ParseDecimal reports one of them.
	switch {
	case !r.IsInt():
		return 0, ErrDecimalPlaces
	case !r.Num().IsInt64():
		return 0, ErrDecimalRange
	}
	return r.Num().Int64(), nil
}

func hugeExponent(text string) bool {
	_, exp, ok := strings.Cut(strings.ToLower(text), "e")
	n, err := strconv.Atoi(exp)
	return ok && (err != nil || n > 400 || n < -400)
}

func checkDecimal(t *testing.T, text string, scale int) {
	t.Helper()
	got, err := ParseDecimal([]byte(text), scale)
	if hugeExponent(text) {
		if err == nil && got != 0 {
			t.Errorf("ParseDecimal(%q, %d) = %d", text, scale, got)
		}
		return
	}
	want, wantErr := oracleDecimal(text, scale)
	// Out of range and too many places at once: either is right.
	if (err == nil) != (wantErr == nil) || errors.Is(err, ErrDecimalSyntax) != errors.Is(wantErr, ErrDecimalSyntax) || got != want {
		t.Errorf("ParseDecimal(%q, %d) = %d, %v; want %d, %v", text, scale, got, err, want, wantErr)
		return
	}
	if err == nil {
		back, err := ParseDecimal(AppendDecimal(nil, got, scale), scale)
		if err != nil || back != got {
			t.Errorf("%q of scale %d: written as %q, read back as %d, %v", text, scale, FormatDecimal(got, scale), back, err)
		}
	}
}

func TestParseDecimal(t *testing.T) {
	for _, text := range []string{
		"", "-", "+", ".", "-.", "e1", "1e", "1e+", "0", "-0", "00012", "+7", "12.3", "12.30", "12.300", "12.345", ".5", "5.", "-.5", "1.5e3",
		"1e-2", "1e-3", "100e-2", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
		"92233720368547758.07", "92233720368547758.08", "18446744073709551615", "18446744073709551616", "99999999999999999999999",
		"1000000000000000000000e-20", "0e99", "0e400", "0.000e-400", "1e400", "1e-400", "1 ", " 1", "1,5", "0x1", "1_0", "1..2", "1.2.3", "--1", "1e1e1", "NaN", "Inf",
		"0e1000000000000", "1e1000000000000", "1e-1000000000000",
	} {
		for _, scale := range []int{0, 1, 2, 9, 18} {
			checkDecimal(t, text, scale)
		}
	}
}

func TestParseDecimalRandomly(t *testing.T) {
	r := seeds.Rand(t)
	digits := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0000123456789"[r.IntN(13)]
		}
		return string(b)
	}
	for range 50_000 {
		text := []string{"", "-", "+"}[r.IntN(3)] + digits(r.IntN(22))
		if r.IntN(2) == 0 {
			text += "." + digits(r.IntN(22))
		}
		if r.IntN(3) == 0 {
			text += "e" + []string{"", "-", "+"}[r.IntN(3)] + digits(r.IntN(3))
		}
		checkDecimal(t, text, r.IntN(MaxScale+1))
	}
}

func FuzzParseDecimal(f *testing.F) {
	for _, text := range []string{"12.30", "-0.5e-3", "9223372036854775808", "1e400", ".", "+7"} {
		f.Add(text, 2)
	}
	f.Fuzz(func(t *testing.T, text string, scale int) {
		if scale < 0 || scale > MaxScale || len(text) > 1000 {
			return
		}
		checkDecimal(t, text, scale)
	})
}

func TestParseDecimalDoesNotAllocate(t *testing.T) {
	text := []byte("-12345.67e1")
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseDecimal(text, 2) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAppendDecimal(t *testing.T) {
	for _, c := range []struct {
		v     int64
		scale int
		want  string
	}{
		{1200, 2, "12.00"}, {5, 2, "0.05"}, {0, 2, "0.00"}, {-5, 2, "-0.05"}, {-7, 0, "-7"}, {10, 1, "1.0"},
		{math.MinInt64, 18, "-9.223372036854775808"}, {math.MinInt64, 0, "-9223372036854775808"}, {1, 18, "0.000000000000000001"},
	} {
		if got := FormatDecimal(c.v, c.scale); got != c.want {
			t.Errorf("FormatDecimal(%d, %d) = %q, want %q", c.v, c.scale, got, c.want)
		}
	}
}

func TestRescale(t *testing.T) {
	for _, c := range []struct {
		v        int64
		from, to int
		want     int64
		err      error
	}{
		{12, 0, 2, 1200, nil}, {1200, 2, 0, 12, nil}, {1201, 2, 0, 0, ErrDecimalPlaces}, {-1200, 2, 1, -120, nil},
		{math.MaxInt64, 0, 1, 0, ErrDecimalRange}, {math.MinInt64, 0, 1, 0, ErrDecimalRange}, {math.MinInt64 / 10, 0, 1, math.MinInt64 / 10 * 10, nil}, {0, 0, 18, 0, nil},
	} {
		got, err := Rescale(c.v, c.from, c.to)
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			t.Errorf("Rescale(%d, %d, %d) = %d, %v; want %d, %v", c.v, c.from, c.to, got, err, c.want, c.err)
		}
	}
}

func TestDecimalDouble(t *testing.T) {
	for _, c := range []struct {
		v     int64
		scale int
	}{{5716, 2}, {-1, 18}, {math.MaxInt64, 0}, {math.MaxInt64, 18}, {math.MinInt64, 9}, {123456789012345678, 3}, {0, 0}} {
		want, err := strconv.ParseFloat(FormatDecimal(c.v, c.scale), 64)
		if got := DecimalDouble(c.v, c.scale); err != nil || got != want {
			t.Errorf("DecimalDouble(%d, %d) = %v, want %v", c.v, c.scale, got, want)
		}
	}
	r := seeds.Rand(t)
	for range 20_000 {
		v, scale := int64(r.Uint64())>>r.IntN(64), r.IntN(MaxScale+1)
		want, _ := strconv.ParseFloat(FormatDecimal(v, scale), 64)
		if got := DecimalDouble(v, scale); got != want {
			t.Fatalf("DecimalDouble(%d, %d) = %v, want %v", v, scale, got, want)
		}
	}
}

func TestDecimalDoubleDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { DecimalDouble(math.MinInt64, 3) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
