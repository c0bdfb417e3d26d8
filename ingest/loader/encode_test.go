package loader

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/weirstream/weir/ingest/event"
)

func TestIsNumber(t *testing.T) {
	for _, s := range []string{"0", "-0", "1", "12.50", "1e5", "1E+5", "-1.5e-3"} {
		if !isNumber([]byte(s)) {
			t.Errorf("%q is a number", s)
		}
	}
	for _, s := range []string{"", "-", "01", "1.", ".5", "+1", "1e", "1e+", "NaN", "0x1", "1 ", "1,5", "--1"} {
		if isNumber([]byte(s)) {
			t.Errorf("%q is no number", s)
		}
	}
}

// FuzzEncode writes any text as a JSON value of any kind and has encoding/json
// read it back.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{"1.50", "007", "true", "a\"b\\c\n\x00", "\xff", "é", "1e999", "-"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, kind := range []event.Kind{event.Bool, event.Int64, event.Double, event.Decimal, event.String, event.Timestamp, event.Bytes} {
			value := appendValue(nil, text, kind)
			if !utf8.Valid(text) {
				continue // stays as it is, for the decoder to refuse
			}
			var raw json.RawMessage
			if err := json.Unmarshal(value, &raw); err != nil {
				t.Fatalf("%s %q: %s: %v", kind, text, value, err)
			}
			got := string(value)
			if value[0] == '"' {
				if err := json.Unmarshal(value, &got); err != nil {
					t.Fatal(err)
				}
			}
			if got != string(text) {
				t.Fatalf("%s %q: read back as %q", kind, text, got)
			}
		}
	})
}
