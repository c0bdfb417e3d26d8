package pgwire

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"time"

	wire "github.com/jeroenrinzema/psql-wire"

	"github.com/weirstream/weir/analytics"
	"github.com/weirstream/weir/analytics/duck"
)

// sqlTypes are the SQL types of parameters by OID; text has none: it is as it is.
var sqlTypes = map[uint32]string{
	oidBool: "BOOLEAN", oidInt2: "SMALLINT", oidInt4: "INTEGER", oidInt8: "BIGINT", oidOID: "BIGINT", oidFloat4: "FLOAT", oidFloat8: "DOUBLE", oidDate: "DATE", oidTime: "TIME",
	oidTimestamp: "TIMESTAMP_NS", oidTimestampTZ: "TIMESTAMPTZ", oidInterval: "INTERVAL", oidUUID: "UUID", oidJSON: "JSON", oidJSONB: "JSON",
}

// argument is the value of a parameter for duck.Conn.Query, and the SQL type that
// it is cast to, empty where it needs none. want is what DuckDB expects; oid is what
// the client was told or said itself.
func argument(p wire.Parameter, oid uint32, want duck.Type) (value any, cast string, err error) {
	b := p.Value()
	if b == nil {
		return nil, "", nil
	}
	cast = sqlTypes[oid]
	if want.Kind != duck.Unsupported && want.Kind != duck.Null && want.Kind != duck.Varchar {
		cast = want.String()
	}
	if oid == oidTimestampTZ && want.Kind == duck.TimestampNS {
		// A zone in the text counts: through the instant to UTC.
		cast = ""
	}
	if p.Format() == wire.TextFormat {
		if oid == oidBytea {
			b, err := byteaText(string(b))
			return b, "", err
		}
		if oid == oidTimestampTZ && cast == "" {
			t, err := parseInstant(string(b))
			return t, "", err
		}
		return string(b), cast, nil
	}
	value, err = binaryArgument(b, oid)
	switch value.(type) {
	case int64, float64, bool, []byte, time.Time:
		cast = ""
	}
	return value, cast, err
}

func parseInstant(s string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07", "2006-01-02T15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a timestamp", s)
}

func byteaText(s string) ([]byte, error) {
	digits, ok := strings.CutPrefix(s, `\x`)
	if !ok {
		return nil, fmt.Errorf(`bytea must be written as \x and hexadecimal digits`)
	}
	return hex.DecodeString(digits)
}

// binaryArgument reads a value in the binary format of type oid.
func binaryArgument(b []byte, oid uint32) (any, error) {
	size, fixed := map[uint32]int{oidBool: 1, oidInt2: 2, oidInt4: 4, oidOID: 4, oidInt8: 8, oidFloat4: 4, oidFloat8: 8, oidDate: 4, oidTime: 8, oidTimestamp: 8, oidTimestampTZ: 8, oidInterval: 16, oidUUID: 16}[oid]
	if fixed && len(b) != size {
		return nil, fmt.Errorf("%d bytes in binary format, the type has %d", len(b), size)
	}
	switch oid {
	case oidBool:
		return b[0] != 0, nil
	case oidInt2:
		return int64(int16(binary.BigEndian.Uint16(b))), nil
	case oidInt4:
		return int64(int32(binary.BigEndian.Uint32(b))), nil
	case oidOID:
		return int64(binary.BigEndian.Uint32(b)), nil
	case oidInt8:
		return int64(binary.BigEndian.Uint64(b)), nil
	case oidFloat4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(b))), nil
	case oidFloat8:
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case oidBytea:
		return b, nil
	case oidDate:
		return time.Unix((int64(int32(binary.BigEndian.Uint32(b)))+pgEpochDays)*86400, 0).UTC().Format(time.DateOnly), nil
	case oidTime:
		return time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC().Format("15:04:05.999999"), nil
	case oidTimestamp, oidTimestampTZ:
		return binaryInstant(int64(binary.BigEndian.Uint64(b)))
	case oidInterval:
		return analytics.IntervalText(int32(binary.BigEndian.Uint32(b[12:])), int32(binary.BigEndian.Uint32(b[8:])), int64(binary.BigEndian.Uint64(b))), nil
	case oidUUID:
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
	case oidNumeric:
		return numericText(b)
	case oidText, oidVarchar, oidBpchar, oidName, oidUnknown, oidJSON, 0:
		return string(b), nil
	case oidJSONB:
		if len(b) == 0 || b[0] != 1 {
			return nil, fmt.Errorf("unknown version of jsonb")
		}
		return string(b[1:]), nil
	}
	return nil, fmt.Errorf("the binary format of type %d is not known here; send it as text", oid)
}

// binaryInstant is a time that fits nanoseconds, or an error.
func binaryInstant(micros int64) (any, error) {
	const limit = math.MaxInt64 / 1000
	if unix := micros + pgEpochMicros; micros < math.MaxInt64-pgEpochMicros && unix < limit && unix > -limit {
		return time.UnixMicro(unix).UTC(), nil
	}
	return nil, fmt.Errorf("the timestamp is out of the range 1678 to 2261")
}

// numericText is the text of a numeric's binary format.
func numericText(b []byte) (string, error) {
	if len(b) < 8 {
		return "", fmt.Errorf("%d bytes of numeric, at least 8 expected", len(b))
	}
	n, weight := int(binary.BigEndian.Uint16(b)), int(int16(binary.BigEndian.Uint16(b[2:])))
	sign, scale := binary.BigEndian.Uint16(b[4:]), int(binary.BigEndian.Uint16(b[6:]))
	if len(b) != 8+2*n {
		return "", fmt.Errorf("%d bytes of numeric, %d expected", len(b), 8+2*n)
	}
	if sign != 0 && sign != 0x4000 || weight > 20 || scale > 1000 || weight < -250 {
		return "", fmt.Errorf("a numeric that is no number here")
	}
	group := func(i int) int {
		if i < 0 || i >= n {
			return 0
		}
		return int(binary.BigEndian.Uint16(b[8+2*i:]))
	}
	var out strings.Builder
	if sign != 0 {
		out.WriteByte('-')
	}
	if weight < 0 {
		out.WriteByte('0')
	}
	for i := 0; i <= weight; i++ {
		if i == 0 {
			fmt.Fprintf(&out, "%d", group(i))
		} else {
			fmt.Fprintf(&out, "%04d", group(i))
		}
	}
	if scale > 0 {
		out.WriteByte('.')
		var frac strings.Builder
		for i := weight + 1; frac.Len() < scale; i++ {
			fmt.Fprintf(&frac, "%04d", group(i))
		}
		out.WriteString(frac.String()[:scale])
	}
	return out.String(), nil
}
