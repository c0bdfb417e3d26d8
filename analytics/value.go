package analytics

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/ingest/event"
)

// value is value i of v for a Result; size grows by about what it takes.
func value(v *duck.Vector, i int, size *int) any {
	*size += 16
	if v.IsNull(i) {
		return nil
	}
	switch v.Type.Kind {
	case duck.Boolean:
		return v.Bool(i)
	case duck.TinyInt, duck.SmallInt, duck.Integer, duck.BigInt, duck.UTinyInt, duck.USmallInt, duck.UInteger:
		return v.Int64(i)
	case duck.HugeInt, duck.UHugeInt, duck.UBigInt:
		if b := v.Big(i); b.IsInt64() {
			return b.Int64()
		}
		return v.Big(i).String()
	case duck.Float, duck.Double:
		f := v.Float64(i)
		if math.IsNaN(f) || math.IsInf(f, 0) { // JSON has none
			return strconv.FormatFloat(f, 'g', -1, 64)
		}
		return f
	case duck.Decimal:
		return DecimalText(v, i)
	case duck.Varchar, duck.Enum:
		b := v.Bytes(i)
		*size += len(b)
		return string(b)
	case duck.JSON:
		b := v.Bytes(i)
		*size += len(b)
		return json.RawMessage(append([]byte(nil), b...))
	case duck.Blob:
		b := v.Bytes(i)
		*size += len(b) * 4 / 3
		return base64.StdEncoding.EncodeToString(b)
	case duck.List, duck.Array:
		elem, first, n := v.List(i)
		out := make([]any, n)
		for j := range out {
			out[j] = value(elem, first+j, size)
		}
		return out
	case duck.Map:
		return mapValue(v, i, size)
	case duck.Struct:
		out := make(map[string]any, len(v.Type.Fields))
		for f, field := range v.Type.Fields {
			out[field.Name] = value(v.Field(f), i, size)
		}
		return out
	case duck.Interval:
		months, days, micros := v.Interval(i)
		return IntervalText(months, days, micros)
	case duck.UUID:
		u := v.UUID(i)
		return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
	case duck.Time:
		return time.UnixMicro(v.Int64(i)).UTC().Format("15:04:05.999999")
	case duck.Date:
		return time.Unix(v.Int64(i)*86400, 0).UTC().Format(time.DateOnly)
	}
	t, ok := Instant(v, i)
	if !ok {
		if v.Int64(i) < 0 {
			return "-infinity"
		}
		return "infinity"
	}
	return t.Format(time.RFC3339Nano)
}

func mapValue(v *duck.Vector, i int, size *int) any {
	elem, first, n := v.List(i)
	out := make(map[string]any, n)
	for j := range n {
		out[fmt.Sprint(value(elem.Field(0), first+j, size))] = value(elem.Field(1), first+j, size)
	}
	return out
}

// Instant is value i of a timestamp kind in UTC; false for the infinities.
func Instant(v *duck.Vector, i int) (time.Time, bool) {
	n := v.Int64(i)
	if n == math.MaxInt64 || n == -math.MaxInt64 {
		return time.Time{}, false
	}
	switch v.Type.Kind {
	case duck.TimestampNS:
		return time.Unix(0, n).UTC(), true
	case duck.TimestampMS:
		return time.UnixMilli(n).UTC(), true
	case duck.TimestampS:
		return time.Unix(n, 0).UTC(), true
	}
	return time.UnixMicro(n).UTC(), true
}

// DecimalText is value i of a Decimal with all its places.
func DecimalText(v *duck.Vector, i int) string {
	scale := int(v.Type.Scale)
	if v.Narrow() {
		return event.FormatDecimal(v.Int64(i), scale)
	}
	return bigDecimal(v.Big(i), scale)
}

func bigDecimal(b *big.Int, scale int) string {
	s := b.String()
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	if scale == 0 {
		return sign + s
	}
	if len(s) <= scale {
		s = strings.Repeat("0", scale+1-len(s)) + s
	}
	return sign + s[:len(s)-scale] + "." + s[len(s)-scale:]
}

// IntervalText is an interval as PostgreSQL writes it: 1 year 2 mons 3 days
// 04:05:06.5.
func IntervalText(months, days int32, micros int64) string {
	var parts []string
	unit := func(n int32, one, many string) {
		switch {
		case n == 1 || n == -1:
			parts = append(parts, fmt.Sprintf("%d %s", n, one))
		case n != 0:
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	unit(months/12, "year", "years")
	unit(months%12, "mon", "mons")
	unit(days, "day", "days")
	if micros != 0 || len(parts) == 0 {
		sign, u := "", uint64(micros)
		if micros < 0 {
			sign, u = "-", -u
		}
		s := fmt.Sprintf("%s%02d:%02d:%02d", sign, u/3_600_000_000, u/60_000_000%60, u/1_000_000%60)
		if frac := u % 1_000_000; frac != 0 {
			s += strings.TrimRight(fmt.Sprintf(".%06d", frac), "0")
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}

// AppendJSON appends value i of v as JSON, in the form that a Result has.
func AppendJSON(dst []byte, v *duck.Vector, i int) []byte {
	var size int
	b, err := json.Marshal(value(v, i, &size))
	if err != nil { // a JSON value that is not JSON
		return append(dst, "null"...)
	}
	return append(dst, b...)
}
