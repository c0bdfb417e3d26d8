package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

func appendBool(dst []byte, v bool) []byte { return strconv.AppendBool(dst, v) }

func appendInt(dst []byte, v int64) []byte { return strconv.AppendInt(dst, v, 10) }

// appendDouble is the shortest text that reads back as f, without an exponent
// for the magnitudes people write.
func appendDouble(dst []byte, f float64) []byte {
	format := byte('f')
	if a := max(f, -f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64)
}

func parseRFC3339(text []byte) (Time, error) {
	s, err := strconv.Unquote(string(text))
	if err != nil {
		return 0, fmt.Errorf("time %s: expected a quoted RFC 3339 time", text)
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, fmt.Errorf("time %s: expected an RFC 3339 time such as 2018-04-01T00:00:31Z", text)
	}
	if !InRange(t) {
		return 0, fmt.Errorf("time %s: out of the range 1678 to 2261", text)
	}
	return FromTime(t), nil
}

// objectMembers reads a flat JSON object in order; its values stay JSON text.
func objectMembers(text []byte) (Values, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if tok != json.Delim('{') {
		return nil, fmt.Errorf("expected a JSON object, found %v", tok)
	}
	var out Values
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		out = append(out, Value{Name: name.(string), JSON: string(raw)})
	}
	_, err = dec.Token()
	return out, err
}
