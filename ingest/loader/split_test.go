package loader

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/weirstream/weir/test/seeds"
)

// chunksOf gives data in pieces of size.
func chunksOf(data []byte, size int, end error) func() ([]byte, error) {
	return func() ([]byte, error) {
		if len(data) == 0 {
			return nil, end
		}
		n := min(size, len(data))
		c := data[:n]
		data = data[n:]
		return c, nil
	}
}

// cut is every row of data, good ones by their cells and bad ones by their reason.
func cut(data string, chunk int) (rows [][]string, bad []string, lines []int64) {
	s := newSplitter(chunksOf([]byte(data), chunk, io.EOF), func([]byte) {}, ',')
	e := encoder{}
	for r := s.nextCSV(); r != nil; r = s.nextCSV() {
		lines = append(lines, r.line)
		if r.bad != "" {
			bad = append(bad, fmt.Sprintf("%d:%d: %s: %q", r.line, r.column, r.bad, r.raw))
			rows = append(rows, nil)
			continue
		}
		var cells []string
		for i := range r.cells {
			cells = append(cells, string(e.text(r, i)))
		}
		rows = append(rows, cells)
	}
	return rows, bad, lines
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		name, in string
		rows     string
		bad      string
	}{
		{"plain", "a,b\nc,d\n", "[[a b] [c d]]", ""},
		{"no last end", "a,b\nc,d", "[[a b] [c d]]", ""},
		{"crlf", "a,b\r\nc,\r\n,\r\n", "[[a b] [c ] [ ]]", ""},
		{"carriage return at the end", "a,b\r", "[[a b]]", ""},
		{"empty lines", "\n\na\n\r\n\nb\n\n", "[[a] [b]]", ""},
		{"quotes", "\"a\",\"b \"\"c\"\"\"\n\"\"\n", `[[a b "c"] []]`, ""},
		{"end of line in quotes", "\"a\nb\",c\nd,e\n", "[[a\nb c] [d e]]", ""},
		{"bare quote", "a\"b,c\nd,e\n", "[[] [d e]]", `1:2: ` + bareQuote + `: "a\"b,c"`},
		{"after a quote", "x\n\"a\"b,c\nd,e\n", "[[x] [] [d e]]", `2:4: ` + afterQuote + `: "\"a\"b,c"`},
		{"never closed", "x,y\na,\"b\nc,d\ne,f\n", "[[x y] [] [c d] [e f]]", `2:3: ` + neverClosed + `: "a,\"b"`},
		{"never closed, then quotes", "a,\"b\nc,d\n\"e\",f\ng,h\n", "[[] [c d] [e f] [g h]]", `1:3: ` + neverClosed + `: "a,\"b"`},
		{"never closed at the end", "a,\"b", "[[]]", `1:3: ` + neverClosed + `: "a,\"b"`},
		{"last cell empty", "a,b\nc,", "[[a b] [c ]]", ""},
		{"quoted, then the end", "a,\"b\"", "[[a b]]", ""},
		{"quoted, then a carriage return", "a,\"b\"\r", "[[a b]]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for chunk := 1; chunk < len(c.in)+2; chunk++ {
				rows, bad, _ := cut(c.in, chunk)
				if got := fmt.Sprint(rows); got != c.rows {
					t.Errorf("chunks of %d: %s, expected %s", chunk, got, c.rows)
				}
				if got := strings.Join(bad, "\n"); got != c.bad {
					t.Errorf("chunks of %d: bad %s, expected %s", chunk, got, c.bad)
				}
			}
		})
	}
}

func TestSplitLines(t *testing.T) {
	_, _, lines := cut("h\n\n\"a\nb\nc\"\nd\n\"e\nf\n", 3)
	if got := fmt.Sprint(lines); got != "[1 3 6 7 8]" {
		t.Fatalf("lines %s", got)
	}
}

// TestSplitHuge: a line and a cell over the limit are bad rows cut short, and what
// follows them is good.
func TestSplitHuge(t *testing.T) {
	long := strings.Repeat("x", MaxRow+5)
	for name, in := range map[string]string{
		"line":           "a,b\n" + long + ",c\nd,e\n",
		"quoted line":    "a,b\n\"" + long + "\",c\nd,e\n",
		"very long line": "a,b\n" + strings.Repeat(long, 3) + ",c\nd,e\n",
	} {
		t.Run(name, func(t *testing.T) {
			rows, bad, lines := cut(in, 100_000)
			if fmt.Sprint(rows) != "[[a b] [] [d e]]" || len(bad) != 1 || fmt.Sprint(lines) != "[1 2 3]" {
				t.Fatalf("%.100s, lines %v", fmt.Sprint(rows), lines)
			}
			if len(bad[0]) > MaxRaw+200 {
				t.Fatalf("%d bytes kept", len(bad[0]))
			}
		})
	}
	t.Run("open quote before many lines", func(t *testing.T) {
		rows, bad, _ := cut("\"a,b\n"+strings.Repeat("c,d,e,f,g,h,i,k\n", MaxRow/14), 100_000)
		if len(bad) != 1 || len(rows) != 1+MaxRow/14 {
			t.Fatalf("%d rows, %d bad", len(rows), len(bad))
		}
	})
}

// TestSplitTruncated: of a file that cannot be read to its end, the unfinished
// line is no row.
func TestSplitTruncated(t *testing.T) {
	gone := errors.New("gone")
	for in, want := range map[string]int{"a\nb\nc": 2, "a\nb\n": 2, "a\n\"b\nc": 2, "a": 0, "": 0} {
		s := newSplitter(chunksOf([]byte(in), 2, gone), func([]byte) {}, ',')
		n := 0
		for r := s.nextCSV(); r != nil; r = s.nextCSV() {
			n++
		}
		if n != want || !errors.Is(s.err, gone) {
			t.Errorf("%q: %d rows, expected %d; %v", in, n, want, s.err)
		}
	}
}

// oracle is what encoding/csv makes of data up to its first error.
func oracle(data []byte) (rows [][]string, broken bool) {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = -1
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, false
		}
		if err != nil {
			return rows, true
		}
		rows = append(rows, row)
	}
}

// likeOracle compares the splitter with encoding/csv, which makes CRLF in quotes
// LF.
func likeOracle(t *testing.T, data []byte, chunk int) {
	want, broken := oracle(data)
	rows, _, _ := cut(string(data), chunk)
	if len(rows) < len(want) || !broken && len(rows) != len(want) {
		t.Fatalf("%q: %d rows, encoding/csv has %d (broken %v)", data, len(rows), len(want), broken)
	}
	for i := range want {
		if rows[i] == nil {
			t.Fatalf("%q: row %d is bad, encoding/csv has %q", data, i, want[i])
		}
		for j := range rows[i] {
			rows[i][j] = strings.ReplaceAll(rows[i][j], "\r\n", "\n")
		}
		if fmt.Sprintf("%q", rows[i]) != fmt.Sprintf("%q", want[i]) {
			t.Fatalf("%q: row %d is %q, encoding/csv has %q", data, i, rows[i], want[i])
		}
	}
	if broken && len(rows) == len(want) {
		t.Fatalf("%q: nothing bad, encoding/csv stopped after %d rows", data, len(want))
	}
	again, _, _ := cut(string(data), len(data)+1)
	small, _, _ := cut(string(data), chunk)
	if fmt.Sprintf("%q", again) != fmt.Sprintf("%q", small) {
		t.Fatalf("%q: in chunks of %d %q, whole %q", data, chunk, small, again)
	}
}

func TestSplitLikeEncodingCSV(t *testing.T) {
	rnd := seeds.Rand(t)
	alphabet := []string{"a", "b", ",", ",", "\n", "\r\n", "\"", "\"\"", "\r", "é"}
	for range 20_000 {
		var b strings.Builder
		for range rnd.IntN(20) {
			b.WriteString(alphabet[rnd.IntN(len(alphabet))])
		}
		likeOracle(t, []byte(b.String()), 1+rnd.IntN(8))
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"a,b\n\"c\nd\",e\n", "a\"b\n\"c\"d\n\"", "\r\n\"a\r\nb\"\r", ",\n,,", "\"\"\"\"\n"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, chunk int) {
		if chunk < 1 || len(data) > 10_000 {
			return
		}
		likeOracle(t, data, chunk)
	})
}
