package rules

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/weirstream/weir/ingest/event"
)

var (
	errDecimal     = errors.New("decimal overflow")
	errIntOverflow = errors.New("integer overflow")
	errDivision    = errors.New("division by zero")
	errModulus     = errors.New("modulus by zero")
)

// decimal is an exact number v / 10^scale. In cel-go it is a type of its own.
type decimal struct {
	v     int64
	scale uint8
}

// decimalType's traits make the standard operators dispatch to the methods below.
var decimalType = cel.ObjectType("decimal", traits.AdderType, traits.SubtractorType, traits.MultiplierType,
	traits.DividerType, traits.NegatorType, traits.ComparerType)

// parseDecimal reads a literal's text exactly, with as few places as it needs.
func parseDecimal(s string) (decimal, error) {
	for scale := 0; ; scale++ {
		v, err := event.ParseDecimal([]byte(s), scale)
		if errors.Is(err, event.ErrDecimalPlaces) && scale < event.MaxScale {
			continue
		}
		return decimal{v, uint8(scale)}, err
	}
}

func (d decimal) String() string  { return event.FormatDecimal(d.v, int(d.scale)) }
func (d decimal) double() float64 { return event.DecimalDouble(d.v, int(d.scale)) }

// align gives two decimals the greater of their scales.
func align(a, b decimal) (x, y int64, scale uint8, ok bool) {
	scale = max(a.scale, b.scale)
	x, okx := scaleUp(a.v, scale-a.scale)
	y, oky := scaleUp(b.v, scale-b.scale)
	return x, y, scale, okx && oky
}

func scaleUp(v int64, by uint8) (int64, bool) {
	if by == 0 {
		return v, true
	}
	return mulInt(v, event.Pow10(int(by)))
}

func addInt(a, b int64) (int64, bool) {
	c := a + b
	return c, (c > a) == (b > 0)
}

func subInt(a, b int64) (int64, bool) {
	c := a - b
	return c, (c < a) == (b > 0)
}

func mulInt(a, b int64) (int64, bool) {
	if a == 0 || b == 0 {
		return 0, true
	}
	c := a * b
	return c, c/b == a && !(a == -1 && b == math.MinInt64) && !(b == -1 && a == math.MinInt64)
}

func (d decimal) add(o decimal) (decimal, bool) {
	x, y, scale, ok := align(d, o)
	v, fits := addInt(x, y)
	return decimal{v, scale}, ok && fits
}

func (d decimal) sub(o decimal) (decimal, bool) {
	x, y, scale, ok := align(d, o)
	v, fits := subInt(x, y)
	return decimal{v, scale}, ok && fits
}

// mul has as many places as both factors together.
func (d decimal) mul(o decimal) (decimal, bool) {
	v, ok := mulInt(d.v, o.v)
	return decimal{v, d.scale + o.scale}, ok && d.scale+o.scale <= event.MaxScale
}

// compare is exact for any two decimals: their difference in scale goes into 128
// bits.
func (d decimal) compare(o decimal) int {
	if d.scale == o.scale {
		return compareInt(d.v, o.v)
	}
	if d.scale > o.scale {
		return -o.compare(d)
	}
	// d * 10^n against o.
	if (d.v < 0) != (o.v < 0) {
		return compareInt(d.v, o.v)
	}
	hi, lo := bits.Mul64(magnitude(d.v), uint64(event.Pow10(int(o.scale-d.scale))))
	c := 1
	if hi == 0 {
		c = compareUint(lo, magnitude(o.v))
	}
	if o.v < 0 {
		c = -c
	}
	return c
}

func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

func compareInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func compareUint(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// ConvertToNative implements ref.Val.
func (d decimal) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("a decimal is no %v", t)
}

// ConvertToType implements ref.Val.
func (d decimal) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.StringType:
		return types.String(d.String())
	case types.DoubleType:
		return types.Double(d.double())
	case types.TypeType:
		return decimalType
	}
	return types.NewErr("a decimal does not convert to %s", t.TypeName())
}

// Equal implements ref.Val.
func (d decimal) Equal(other ref.Val) ref.Val {
	o, ok := other.(decimal)
	return types.Bool(ok && d.compare(o) == 0)
}

// Type implements ref.Val.
func (d decimal) Type() ref.Type { return decimalType }

// Value implements ref.Val.
func (d decimal) Value() any { return d.String() }

func decimalResult(r decimal, ok bool) ref.Val {
	if !ok {
		return types.WrapErr(errDecimal)
	}
	return r
}

func (d decimal) with(other ref.Val, op func(decimal) ref.Val) ref.Val {
	o, ok := other.(decimal)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	return op(o)
}

// Add implements traits.Adder.
func (d decimal) Add(other ref.Val) ref.Val {
	return d.with(other, func(o decimal) ref.Val { return decimalResult(d.add(o)) })
}

// Subtract implements traits.Subtractor.
func (d decimal) Subtract(other ref.Val) ref.Val {
	return d.with(other, func(o decimal) ref.Val { return decimalResult(d.sub(o)) })
}

// Multiply implements traits.Multiplier.
func (d decimal) Multiply(other ref.Val) ref.Val {
	return d.with(other, func(o decimal) ref.Val { return decimalResult(d.mul(o)) })
}

// Divide implements traits.Divider; the compiler makes doubles of a quotient's
// parts first, so that it is not reached.
func (d decimal) Divide(other ref.Val) ref.Val {
	return d.with(other, func(o decimal) ref.Val { return types.Double(d.double() / o.double()) })
}

// Negate implements traits.Negater.
func (d decimal) Negate() ref.Val {
	return decimalResult(decimal{-d.v, d.scale}, d.v != math.MinInt64)
}

// Compare implements traits.Comparer.
func (d decimal) Compare(other ref.Val) ref.Val {
	return d.with(other, func(o decimal) ref.Val { return types.Int(d.compare(o)) })
}

// decimalOptions declare the type and its operators. The standard operators
// find the implementation by trait; conversions bring their own.
func decimalOptions() []cel.EnvOption {
	d, two := decimalType, []*cel.Type{decimalType, decimalType}
	convert := func(to ref.Type) cel.OverloadOpt {
		return cel.UnaryBinding(func(v ref.Val) ref.Val { return v.ConvertToType(to) })
	}
	opts := []cel.EnvOption{
		cel.Types(decimalType),
		cel.Function(operators.Negate, cel.Overload("negate_decimal", []*cel.Type{d}, d)),
		cel.Function("double", cel.Overload("decimal_to_double", []*cel.Type{d}, cel.DoubleType, convert(types.DoubleType))),
		cel.Function("string", cel.Overload("decimal_to_string", []*cel.Type{d}, cel.StringType, convert(types.StringType))),
		cel.Function("decimal",
			cel.Overload("int_to_decimal", []*cel.Type{cel.IntType}, d, cel.UnaryBinding(func(v ref.Val) ref.Val {
				return decimal{v: int64(v.(types.Int))}
			})),
			cel.Overload("string_to_decimal", []*cel.Type{cel.StringType}, d, cel.UnaryBinding(func(v ref.Val) ref.Val {
				r, err := parseDecimal(string(v.(types.String)))
				if err != nil {
					return types.WrapErr(fmt.Errorf("decimal(%q): %w", string(v.(types.String)), err))
				}
				return r
			}))),
	}
	for op, name := range map[string]string{operators.Add: "add", operators.Subtract: "subtract", operators.Multiply: "multiply"} {
		opts = append(opts, cel.Function(op, cel.Overload(name+"_decimal_decimal", two, d)))
	}
	for op, name := range map[string]string{operators.Less: "less", operators.LessEquals: "less_equals",
		operators.Greater: "greater", operators.GreaterEquals: "greater_equals"} {
		opts = append(opts, cel.Function(op, cel.Overload(name+"_decimal_decimal", two, cel.BoolType)))
	}
	return opts
}
