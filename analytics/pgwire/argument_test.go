package pgwire

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	wire "github.com/jeroenrinzema/psql-wire"

	"github.com/weirstream/weir/analytics/duck"
)

// TestNumeric goes from text to the binary format and back.
func TestNumeric(t *testing.T) {
	for _, c := range []struct{ text, bytes string }{
		{"0", "0000000000000000"}, {"0.00", "0000000000000002"}, {"1", "00010000000000000001"}, {"-1", "00010000400000000001"}, {"10000", "00010001000000000001"},
		{"12345.6789", "0003000100000004000109291a85"}, {"0.0001", "0001ffff000000040001"}, {"-0.10", "0001ffff4000000203e8"}, {"100000000.00000001", "0005000200000008000100000000000000" + "01"},
	} {
		b := appendNumeric(nil, c.text)
		if got := hex.EncodeToString(b); got != c.bytes {
			t.Errorf("%s: %s, want %s", c.text, got, c.bytes)
		}
		if back, err := numericText(b); err != nil || back != c.text {
			t.Errorf("%s came back as %s: %v", c.text, back, err)
		}
	}
}

func FuzzNumeric(f *testing.F) {
	for _, seed := range []string{"", "0000000000000000", "0003000100000004000109291a85", "00010000c000000000", "ffffffffffffffff"} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			b = []byte(seed)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := numericText(b)
		if err != nil {
			return
		}
		again, err := numericText(appendNumeric(nil, text))
		for i := 8; i+1 < len(b); i += 2 {
			if binary.BigEndian.Uint16(b[i:]) > 9999 {
				return // not a digit of base 10,000: it is read as it comes
			}
		}
		if err != nil {
			t.Fatalf("%x is %s, which does not come back: %v", b, text, err)
		}
		if a, b := strings.TrimLeft(again, "-0"), strings.TrimLeft(text, "-0"); a != b {
			t.Fatalf("%x is %s, then %s", b, text, again)
		}
	})
}

func FuzzArgument(f *testing.F) {
	for oid := range sqlTypes {
		f.Add(oid, true, []byte{0, 0, 0, 1})
		f.Add(oid, true, make([]byte, 8))
		f.Add(oid, false, []byte("2018-04-01 00:00:00+02"))
	}
	f.Fuzz(func(t *testing.T, oid uint32, binary bool, b []byte) {
		format := wire.TextFormat
		if binary {
			format = wire.BinaryFormat
		}
		for _, want := range []duck.Type{{}, {Kind: duck.TimestampNS}, {Kind: duck.Decimal, Width: 18, Scale: 2}} {
			_, _, _ = argument(wire.NewParameter(nil, format, b), oid, want) // an error is as good; a panic is not
		}
	})
}

// FuzzMessages amends any message a server may write.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("E\x00\x00\x00\x06\x00"), 7)
	f.Add(append([]byte("S\x00\x00\x00\x1a"), wireVersion...), 1)
	f.Add([]byte("E"), 1)
	f.Fuzz(func(t *testing.T, msg []byte, position int) {
		for _, out := range [][]byte{withPosition(msg, position), withVersion(msg)} {
			if len(out) != len(msg) && int(binary.BigEndian.Uint32(out[1:])) != len(out)-1 {
				t.Fatalf("%x has length %d", out, binary.BigEndian.Uint32(out[1:]))
			}
		}
	})
}
