package pgwire

import (
	"database/sql/driver"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/weirstream/weir/analytics"
	"github.com/weirstream/weir/analytics/duck"
)

// OIDs of PostgreSQL's types (pg_type.dat).
const (
	oidBool        = 16
	oidBytea       = 17
	oidName        = 19
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidOID         = 26
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidUnknown     = 705
	oidBpchar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestampTZ = 1184
	oidInterval    = 1186
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802
)

// oidNames are the types that columns have.
var oidNames = map[uint32]string{
	oidBool: "bool", oidBytea: "bytea", oidInt8: "int8", oidInt2: "int2", oidInt4: "int4", oidText: "text", oidJSON: "json", oidFloat4: "float4", oidFloat8: "float8",
	oidDate: "date", oidTime: "time", oidTimestamp: "timestamp", oidTimestampTZ: "timestamptz", oidInterval: "interval", oidNumeric: "numeric", oidUUID: "uuid",
	1000: "_bool", 1005: "_int2", 1007: "_int4", 1016: "_int8", 1009: "_text", 1021: "_float4", 1022: "_float8", 1115: "_timestamp", 1231: "_numeric", 1182: "_date",
}

// arrays are the OIDs of arrays by that of their element.
var arrays = map[uint32]uint32{
	oidBool: 1000, oidInt2: 1005, oidInt4: 1007, oidInt8: 1016, oidText: 1009, oidFloat4: 1021, oidFloat8: 1022, oidTimestamp: 1115, oidNumeric: 1231, oidDate: 1182,
}

// widths are the type lengths of RowDescription; those not named vary (-1).
var widths = map[uint32]int16{
	oidBool: 1, oidInt2: 2, oidInt4: 4, oidInt8: 8, oidFloat4: 4, oidFloat8: 8, oidDate: 4, oidTime: 8, oidTimestamp: 8, oidTimestampTZ: 8, oidInterval: 16, oidUUID: 16,
	oidText: -1, oidBytea: -1, oidJSON: -1, oidNumeric: -1, 1000: -1, 1005: -1, 1007: -1, 1016: -1, 1009: -1, 1021: -1, 1022: -1, 1115: -1, 1231: -1, 1182: -1,
}

var oids = map[duck.Kind]uint32{
	duck.Boolean: oidBool, duck.TinyInt: oidInt2, duck.UTinyInt: oidInt2, duck.SmallInt: oidInt2, duck.USmallInt: oidInt4, duck.Integer: oidInt4, duck.UInteger: oidInt8,
	duck.BigInt: oidInt8, duck.UBigInt: oidNumeric, duck.HugeInt: oidNumeric, duck.UHugeInt: oidNumeric, duck.Decimal: oidNumeric, duck.Float: oidFloat4, duck.Double: oidFloat8,
	duck.JSON: oidJSON, duck.Blob: oidBytea, duck.Date: oidDate, duck.Time: oidTime, duck.Timestamp: oidTimestamp, duck.TimestampS: oidTimestamp,
	duck.TimestampMS: oidTimestamp, duck.TimestampNS: oidTimestamp, duck.TimestampTZ: oidTimestampTZ, duck.Interval: oidInterval, duck.UUID: oidUUID,
}

// oidOf is the type that clients see: numbers beyond 64 bits are numeric, lists of
// plain values are arrays, whatever else nests is text in JSON's form.
func oidOf(t duck.Type) uint32 {
	if t.Kind == duck.List {
		if a, ok := arrays[oidOf(*t.Elem)]; ok && t.Elem.Kind != duck.List && t.Elem.Kind != duck.Struct && t.Elem.Kind != duck.Map && t.Elem.Kind != duck.Array {
			return a
		}
	}
	if oid, ok := oids[t.Kind]; ok {
		return oid
	}
	return oidText
}

// cell is one value on its way to a client, as a column of type oid.
type cell struct {
	v   *duck.Vector
	row int
	oid uint32
}

// cellCodec writes cells. It stands in pgtype's map for every type of a column,
// because psql-wire encodes by that map.
type cellCodec struct{}

func (cellCodec) FormatSupported(f int16) bool {
	return f == pgtype.TextFormatCode || f == pgtype.BinaryFormatCode
}

func (cellCodec) PreferredFormat() int16 { return pgtype.TextFormatCode }

func (cellCodec) PlanEncode(_ *pgtype.Map, _ uint32, format int16, value any) pgtype.EncodePlan {
	switch value.(type) {
	case *cell:
		if format == pgtype.BinaryFormatCode {
			return binaryPlan{}
		}
		return textPlan{}
	case string: // of the session's own answers, in either format
		return stringPlan{}
	}
	return nil
}

func (cellCodec) PlanScan(*pgtype.Map, uint32, int16, any) pgtype.ScanPlan { return nil }

var errNotHere = errors.New("values are read by argument()")

func (cellCodec) DecodeDatabaseSQLValue(*pgtype.Map, uint32, int16, []byte) (driver.Value, error) {
	return nil, errNotHere
}

func (cellCodec) DecodeValue(*pgtype.Map, uint32, int16, []byte) (any, error) { return nil, errNotHere }

type textPlan struct{}

func (textPlan) Encode(value any, buf []byte) ([]byte, error) {
	c := value.(*cell)
	return notNil(appendText(buf, c.v, c.row)), nil
}

type binaryPlan struct{}

func (binaryPlan) Encode(value any, buf []byte) ([]byte, error) {
	c := value.(*cell)
	out, err := appendBinary(buf, c.v, c.row, c.oid)
	return notNil(out), err
}

type stringPlan struct{}

func (stringPlan) Encode(value any, buf []byte) ([]byte, error) {
	return notNil(append(buf, value.(string)...)), nil
}

// notNil keeps an empty value from being taken for NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// appendText appends value i of v, which is not NULL, as PostgreSQL writes it.
func appendText(dst []byte, v *duck.Vector, i int) []byte {
	switch v.Type.Kind {
	case duck.Boolean:
		if v.Bool(i) {
			return append(dst, 't')
		}
		return append(dst, 'f')
	case duck.TinyInt, duck.SmallInt, duck.Integer, duck.BigInt, duck.UTinyInt, duck.USmallInt, duck.UInteger:
		return strconv.AppendInt(dst, v.Int64(i), 10)
	case duck.UBigInt, duck.HugeInt, duck.UHugeInt:
		return v.Big(i).Append(dst, 10)
	case duck.Decimal:
		return append(dst, analytics.DecimalText(v, i)...)
	case duck.Float:
		return appendFloat(dst, v.Float64(i), 32)
	case duck.Double:
		return appendFloat(dst, v.Float64(i), 64)
	case duck.Varchar, duck.JSON, duck.Enum:
		return append(dst, v.Bytes(i)...)
	case duck.Blob:
		return hex.AppendEncode(append(dst, `\x`...), v.Bytes(i))
	case duck.Date:
		return appendDate(dst, v.Int64(i))
	case duck.Time:
		return time.UnixMicro(v.Int64(i)).UTC().AppendFormat(dst, "15:04:05.999999")
	case duck.Interval:
		months, days, micros := v.Interval(i)
		return append(dst, analytics.IntervalText(months, days, micros)...)
	case duck.UUID:
		u := v.UUID(i)
		return fmt.Appendf(dst, "%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
	case duck.List:
		if oidOf(v.Type) != oidText {
			return appendArray(dst, v, i)
		}
		return analytics.AppendJSON(dst, v, i)
	case duck.Array, duck.Struct, duck.Map:
		return analytics.AppendJSON(dst, v, i)
	}
	return appendTimestamp(dst, v, i)
}

// appendFloat writes a double as PostgreSQL does: the shortest text that reads
// back, with an exponent from 1e15 on and below 1e-4.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	limit := 1e15
	if bits == 32 {
		limit = 1e6
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= limit) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}

// appendDate writes days since the epoch.
func appendDate(dst []byte, days int64) []byte {
	switch days {
	case math.MaxInt32:
		return append(dst, "infinity"...)
	case -math.MaxInt32:
		return append(dst, "-infinity"...)
	}
	return appendYear(dst, time.Unix(days*86400, 0).UTC(), "-01-02")
}

// appendYear writes years before the common era and beyond 9999 as PostgreSQL does.
func appendYear(dst []byte, t time.Time, rest string) []byte {
	year := t.Year()
	bc := year <= 0
	if bc {
		year = 1 - year
	}
	dst = fmt.Appendf(dst, "%04d", year)
	dst = t.AppendFormat(dst, rest)
	if bc {
		dst = append(dst, " BC"...)
	}
	return dst
}

// appendTimestamp writes microseconds, which is what PostgreSQL's timestamp has:
// drivers refuse more digits. A cast to text in SQL shows the nanoseconds.
func appendTimestamp(dst []byte, v *duck.Vector, i int) []byte {
	t, ok := analytics.Instant(v, i)
	switch {
	case !ok && v.Int64(i) > 0:
		return append(dst, "infinity"...)
	case !ok:
		return append(dst, "-infinity"...)
	case v.Type.Kind == duck.TimestampTZ:
		return appendYear(dst, t, "-01-02 15:04:05.999999+00")
	}
	return appendYear(dst, t, "-01-02 15:04:05.999999")
}

// appendArray writes a list of plain values as an array literal.
func appendArray(dst []byte, v *duck.Vector, i int) []byte {
	elem, first, n := v.List(i)
	dst = append(dst, '{')
	var scratch []byte
	for j := first; j < first+n; j++ {
		if j > first {
			dst = append(dst, ',')
		}
		if elem.IsNull(j) {
			dst = append(dst, "NULL"...)
			continue
		}
		scratch = appendText(scratch[:0], elem, j)
		dst = appendElement(dst, scratch)
	}
	return append(dst, '}')
}

// appendElement quotes an array's element where it must be.
func appendElement(dst, text []byte) []byte {
	s := string(text)
	if s != "" && !strings.EqualFold(s, "NULL") && !strings.ContainsAny(s, "{},\"\\ \t\n\r\v\f") {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	for _, c := range text {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// pgEpoch is 2000-01-01, from which PostgreSQL's binary dates and times count.
const (
	pgEpochDays   = 10957
	pgEpochMicros = pgEpochDays * 86400 * 1_000_000
)

// appendBinary appends value i of v, which is not NULL, in the binary format of
// type oid.
func appendBinary(dst []byte, v *duck.Vector, i int, oid uint32) ([]byte, error) {
	if oid != oidText && oid != oidOf(v.Type) {
		return nil, fmt.Errorf("the column has become %s since the statement was prepared", v.Type)
	}
	switch oid {
	case oidBool:
		if v.Bool(i) {
			return append(dst, 1), nil
		}
		return append(dst, 0), nil
	case oidInt2:
		return binary.BigEndian.AppendUint16(dst, uint16(v.Int64(i))), nil
	case oidInt4:
		return binary.BigEndian.AppendUint32(dst, uint32(v.Int64(i))), nil
	case oidInt8:
		return binary.BigEndian.AppendUint64(dst, uint64(v.Int64(i))), nil
	case oidFloat4:
		return binary.BigEndian.AppendUint32(dst, math.Float32bits(float32(v.Float64(i)))), nil
	case oidFloat8:
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(v.Float64(i))), nil
	case oidBytea:
		return append(dst, v.Bytes(i)...), nil
	case oidDate:
		return binary.BigEndian.AppendUint32(dst, uint32(binaryDate(v.Int64(i)))), nil
	case oidTime:
		return binary.BigEndian.AppendUint64(dst, uint64(v.Int64(i))), nil
	case oidTimestamp, oidTimestampTZ:
		return binary.BigEndian.AppendUint64(dst, uint64(binaryTimestamp(v, i))), nil
	case oidInterval:
		months, days, micros := v.Interval(i)
		dst = binary.BigEndian.AppendUint64(dst, uint64(micros))
		dst = binary.BigEndian.AppendUint32(dst, uint32(days))
		return binary.BigEndian.AppendUint32(dst, uint32(months)), nil
	case oidUUID:
		u := v.UUID(i)
		return append(dst, u[:]...), nil
	case oidNumeric:
		return appendNumeric(dst, string(appendText(nil, v, i))), nil
	}
	if v.Type.Kind == duck.List && oid != oidText {
		return appendBinaryArray(dst, v, i)
	}
	return appendText(dst, v, i), nil
}

func binaryDate(days int64) int32 {
	switch days {
	case math.MaxInt32:
		return math.MaxInt32
	case -math.MaxInt32:
		return math.MinInt32
	}
	return int32(days - pgEpochDays)
}

// binaryTimestamp is in microseconds: the binary format has no nanoseconds, which
// are cut off; the text format has them.
func binaryTimestamp(v *duck.Vector, i int) int64 {
	t, ok := analytics.Instant(v, i)
	switch {
	case !ok && v.Int64(i) > 0:
		return math.MaxInt64
	case !ok:
		return math.MinInt64
	}
	return t.UnixMicro() - pgEpochMicros
}

func appendBinaryArray(dst []byte, v *duck.Vector, i int) ([]byte, error) {
	elem, first, n := v.List(i)
	elemOID := oidOf(elem.Type)
	dims := uint32(1)
	if n == 0 {
		dims = 0
	}
	hasNull := uint32(0)
	for j := first; j < first+n; j++ {
		if elem.IsNull(j) {
			hasNull = 1
		}
	}
	for _, x := range []uint32{dims, hasNull, elemOID} {
		dst = binary.BigEndian.AppendUint32(dst, x)
	}
	if n == 0 {
		return dst, nil
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	dst = binary.BigEndian.AppendUint32(dst, 1) // lower bound
	for j := first; j < first+n; j++ {
		at := len(dst)
		dst = binary.BigEndian.AppendUint32(dst, math.MaxUint32) // NULL: -1
		if elem.IsNull(j) {
			continue
		}
		var err error
		if dst, err = appendBinary(dst, elem, j, elemOID); err != nil {
			return nil, err
		}
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	return dst, nil
}

// appendNumeric appends a decimal text in numeric's binary format: groups of four
// digits with the weight of the first.
func appendNumeric(dst []byte, text string) []byte {
	sign := uint16(0)
	if strings.HasPrefix(text, "-") {
		sign, text = 0x4000, text[1:]
	}
	whole, frac, _ := strings.Cut(text, ".")
	scale := len(frac)
	whole = strings.TrimLeft(whole, "0")
	for len(whole)%4 != 0 {
		whole = "0" + whole
	}
	for len(frac)%4 != 0 {
		frac += "0"
	}
	digits := whole + frac
	weight := len(whole)/4 - 1
	for strings.HasPrefix(digits, "0000") {
		digits = digits[4:]
		weight--
	}
	for strings.HasSuffix(digits, "0000") && len(digits)%4 == 0 {
		digits = digits[:len(digits)-4]
	}
	if digits == "" {
		sign, weight = 0, 0
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(digits)/4))
	dst = binary.BigEndian.AppendUint16(dst, uint16(int16(weight)))
	dst = binary.BigEndian.AppendUint16(dst, sign)
	dst = binary.BigEndian.AppendUint16(dst, uint16(scale))
	for i := 0; i < len(digits); i += 4 {
		group := uint16(digits[i]-'0')*1000 + uint16(digits[i+1]-'0')*100 + uint16(digits[i+2]-'0')*10 + uint16(digits[i+3]-'0')
		dst = binary.BigEndian.AppendUint16(dst, group)
	}
	return dst
}
