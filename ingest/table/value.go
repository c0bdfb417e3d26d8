package table

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/weirstream/weir/ingest/event"
)

// Value is one value of a key field or a column.
type Value struct {
	Null  bool
	Bits  uint64 // of a bool, int64, decimal (unscaled), timestamp or double
	Bytes []byte // of a string or bytes
}

// Entry is one entry of a table.
type Entry struct {
	Key     []Value    // by key field
	Columns []Value    // by column
	Expires event.Time // seen by events before it; MaxTime: for ever
	Since   event.Time // when it was last changed
	Author  string
	Reason  string
}

// sign makes the order of the bytes of a key that of the numbers.
const sign = 1 << 63

// AppendKey appends the canonical bytes of a key: equal keys have equal bytes, and
// keys of one field sort as their values do. A single string is its own bytes.
func AppendKey(dst []byte, fields []event.Field, key []Value) []byte {
	for i, v := range key {
		switch fields[i].Type.Kind {
		case event.String, event.Bytes:
			dst = AppendKeyBytes(dst, v.Bytes, len(fields) == 1)
		default:
			dst = AppendKeyInt(dst, int64(v.Bits))
		}
	}
	return dst
}

// AppendKeyBytes appends a string or bytes as part of a key, which is the whole key
// where single.
func AppendKeyBytes(dst, v []byte, single bool) []byte {
	if !single {
		dst = binary.AppendUvarint(dst, uint64(len(v)))
	}
	return append(dst, v...)
}

// AppendKeyInt appends an int64, decimal or timestamp as part of a key.
func AppendKeyInt(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(v)^sign)
}

// decodeKey takes AppendKey's bytes apart; the values alias key.
func decodeKey(fields []event.Field, key []byte) []Value {
	out := make([]Value, len(fields))
	for i := range fields {
		switch k := fields[i].Type.Kind; {
		case (k == event.String || k == event.Bytes) && len(fields) == 1:
			out[i].Bytes = key
		case k == event.String || k == event.Bytes:
			n, size := binary.Uvarint(key)
			out[i].Bytes, key = key[size:size+int(n)], key[size+int(n):]
		default:
			out[i].Bits, key = binary.BigEndian.Uint64(key)^sign, key[8:]
		}
	}
	return out
}

var (
	errNull    = errors.New("is missing")
	errUTF8    = errors.New("is not valid UTF-8")
	errNotText = errors.New("expected a text in quotes")
)

// shown is a text as messages have it: not where it may be a card number.
func shown(text string) string {
	digits := 0
	for i := range len(text) {
		if text[i]-'0' <= 9 {
			digits++
		}
	}
	if digits >= 12 {
		return fmt.Sprintf("a text of %d bytes", len(text))
	}
	return strconv.Quote(clip(text))
}

// ParseText reads a value as a person writes it, in a CSV cell or an argument.
func ParseText(t event.Type, text string) (Value, error) {
	switch t.Kind {
	case event.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return Value{}, fmt.Errorf("found %s, expected true or false", shown(text))
		}
		return boolValue(b), nil
	case event.Int64:
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return Value{}, fmt.Errorf("found %s, expected a whole number of at most 64 bits", shown(text))
		}
		return Value{Bits: uint64(i)}, nil
	case event.Double:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return Value{}, fmt.Errorf("found %s, expected a number", shown(text))
		}
		return Value{Bits: math.Float64bits(f)}, nil
	case event.Decimal:
		v, err := event.ParseDecimal([]byte(text), int(t.Scale))
		if err != nil {
			return Value{}, fmt.Errorf("found %s, expected a %s: %w", shown(text), t, err)
		}
		return Value{Bits: uint64(v)}, nil
	case event.Timestamp:
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || !event.InRange(at) {
			return Value{}, fmt.Errorf("found %s, expected a time such as 2026-01-31T12:00:00Z", shown(text))
		}
		return Value{Bits: uint64(event.FromTime(at))}, nil
	case event.String:
		if !utf8.ValidString(text) {
			return Value{}, errUTF8
		}
		return Value{Bytes: []byte(text)}, nil
	case event.Bytes:
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return Value{}, fmt.Errorf("found %s, expected bytes in base64", shown(text))
		}
		return Value{Bytes: b}, nil
	}
	return Value{}, fmt.Errorf("type %s is not available in a table", t)
}

func boolValue(b bool) Value {
	if b {
		return Value{Bits: 1}
	}
	return Value{}
}

// ParseJSON reads a value of a JSON row. Numbers may be written as numbers or in
// quotes, the rest as a text in quotes. null is Null.
func ParseJSON(t event.Type, raw []byte) (Value, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return Value{Null: true}, nil
	}
	if raw[0] == '"' {
		var text string
		if !utf8.Valid(raw) {
			return Value{}, errUTF8
		}
		if err := json.Unmarshal(raw, &text); err != nil {
			return Value{}, err
		}
		return ParseText(t, text)
	}
	switch t.Kind {
	case event.String, event.Timestamp, event.Bytes:
		return Value{}, fmt.Errorf("found %s, %w", shown(string(raw)), errNotText)
	case event.Bool:
		if raw[0] != 't' && raw[0] != 'f' {
			return Value{}, fmt.Errorf("found %s, expected true or false", shown(string(raw)))
		}
	}
	return ParseText(t, string(raw))
}

// AppendText appends a value as ParseText reads it; Null appends nothing.
func AppendText(dst []byte, t event.Type, v Value) []byte {
	if v.Null {
		return dst
	}
	switch t.Kind {
	case event.Bool:
		return strconv.AppendBool(dst, v.Bits != 0)
	case event.Int64:
		return strconv.AppendInt(dst, int64(v.Bits), 10)
	case event.Double:
		return event.AppendJSONDouble(dst, math.Float64frombits(v.Bits))
	case event.Decimal:
		return event.AppendDecimal(dst, int64(v.Bits), int(t.Scale))
	case event.Timestamp:
		return event.Time(v.Bits).AppendText(dst)
	case event.Bytes:
		return base64.StdEncoding.AppendEncode(dst, v.Bytes)
	}
	return append(dst, v.Bytes...)
}

// AppendJSON appends a value as ParseJSON reads it: decimals, times and bytes are
// quoted.
func AppendJSON(dst []byte, t event.Type, v Value) []byte {
	if v.Null {
		return append(dst, "null"...)
	}
	switch t.Kind {
	case event.Bool, event.Int64, event.Double:
		return AppendText(dst, t, v)
	case event.String:
		return event.AppendJSONString(dst, string(v.Bytes))
	}
	dst = append(dst, '"')
	return append(AppendText(dst, t, v), '"')
}
