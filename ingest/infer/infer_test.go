package infer

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/schema"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	data := []byte(text)
	if strings.HasSuffix(name, ".gz") {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		data = b.Bytes()
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// nestedRows are objects with lists and a map.
func nestedRows() string {
	var b strings.Builder
	for i := range 40 {
		opt := ""
		if i == 7 {
			opt = `,"opt":[{"a":1,"b":true}]`
		}
		fmt.Fprintf(&b, `{"ts":"2026-01-01T00:00:%02dZ","id":"e%d","attrs":{"k%d":%d},"items":[{"sku":"a","price":1.25},{"sku":"b","price":3,"tags":["x"]}],"mixed":[1.5,null,2],"bad":[1,"x"]%s}`+"\n", i, i, i, i, opt)
	}
	return b.String()
}

func TestYAML(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"pay.csv", `ts,id,Card No,amount,fee,zip,is_new,n,on,when,empty,phone,flat
2026-01-01 00:00:00,1,4111111111111111,1,0.1234567890123456789,01234,0,1,a,31.12.2025,,+49123,1
2026-01-01 00:00:01,2,5555555555554444,2.50,1e-30,99999,1,0,b,01.02.2026,,+49124,1
2026-01-01 00:00:02,3,4111111111111111,,3,00001,1,1,c,28.02.2026,,+49124,1
`, `streams:
  pay:                                           # from pay.csv: all 3 rows
    time: ts                                     # of the 2 times that every row has, the one whose name fits best
    id: id                                       # different in every row
    key: card_no                                 # 2 values that come again, and a name of what events are about
    fields:
      ts: {type: timestamp, layout: "%Y-%m-%d %H:%M:%S"}
      id: int64
      card_no: {type: int64, from: "Card No"}    # card numbers by their check digit: consider sensitive: hmac
      amount: {type: decimal(2), optional: true}  # exact: 2 decimal places at most, 1 digits before them; absent in 33% of the rows
`},
		{"order.ndjson.gz", `{"at":1767225600000,"user":{"id":"u1","vip":true},"total":12.5,"tags":["a"],"a.b":1}
not json
{"at":1767225601000,"user":{"id":"u1"},"total":"7.25","note":null}
{"at":1767225602000,"user":{"id":"u2","vip":false},"total":3,"mixed":1}
{"at":1767225603000,"user":{"id":"u2","vip":false},"total":3,"mixed":"x"}
`, `streams:
  order:                                               # from order.ndjson.gz: all 4 rows; 1 more are no rows and would be dead letters
    time: at                                           # the only time that every row has
    key: user_id                                       # 2 values that come again, and a name of what events are about
    fields:
      at: {type: timestamp, layout: unix_ms}
      tags: {type: list(string), optional: true}       # 1 element; absent in 75% of the rows
      total: decimal(2)                                # exact: 2 decimal places at most, 2 digits before them
      user_id: {type: string, from: "user.id"}
      user_vip: {type: bool, from: "user.vip", optional: true}  # absent in 25% of the rows
      # "a.b"                                          # left out: a name with a dot in it cannot be told from a path
      # "mixed"                                        # left out: values of several types, or not UTF-8
`},
		{"lists.ndjson", nestedRows(), `streams:
  lists:                                               # from lists.ndjson: all 40 rows
    time: ts                                           # the only time that every row has
    id: id                                             # different in every row
    # key:                                             # no column is there in every row, comes again and is named like a key; windows go by it
    fields:
      attrs: map(int64)                                # 40 names, each in few of the objects: taken for keys of a map
      id: string
      items: list(struct(price decimal(2), sku string, tags list(string)?)) # 80 elements
      mixed: list(decimal(1)?)                         # 120 elements, of which 40 are null
      ts: timestamp
      opt: {type: "list(struct(a int64, b bool))", optional: true} # 1 element; absent in 98% of the rows
      # "bad"                                          # left out: a list whose elements are of several types, or nested deeper than 4
`},
	} {
		g, err := File(t.Context(), write(t, c.file, c.text), Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := squeeze(c.want)
		if got := squeeze(g.YAML()); got != want && !strings.HasPrefix(got, want) {
			t.Errorf("%s:\n%s", c.file, g.YAML())
		}
	}
}

// squeeze makes one space of several: where comments stand is not the point.
func squeeze(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		out = append(out, line[:indent]+strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(out, "\n")
}

// TestTypes has one column each.
func TestTypes(t *testing.T) {
	for _, c := range []struct{ name, values, want string }{
		{"v", "1 2 -3", "v: int64"},
		{"v", "1 2 99999999999999999999", "v: string"},
		{"v", "1 2.5 1e3", "v: decimal(1)"},
		{"v", "1.5 0.1234567890123456", "v: double"},
		{"v", "123456789012345.5 0.1234", "v: double"},
		{"v", "1 01", "v: string"},
		{"v", "1 x", "v: string"},
		{"v", "true FALSE", "v: bool"},
		{"v", "true 1", "v: bool"},
		{"v", "0 1", "v: int64"},
		{"is_n", "0 1", "is_n: bool"},
		{"v", "1767225600 1767225601", "v: int64"},
		{"n_ts", "1767225600 1767225601", "n_ts: {type: timestamp, layout: unix}"},
		{"n_ts", "1767225600 31", "n_ts: int64"},
		{"n_ns", "1767225600000000000 1767225601000000000", "n_ns: {type: timestamp, layout: unix_ns}"},
		{"v", "2026-01-01T00:00:00Z 2026-01-01T00:00:00.5+01:00", "v: timestamp"},
		{"v", "2026-01-01 2026-02-30", "v: string"},
		{"v", "01/02/2026 03/04/2026", `v: {type: timestamp, layout: "%d/%m/%Y"} # every value reads as %m/%d/%Y too: check which it is`},
		{"v", "01/02/2026 03/14/2026", `v: {type: timestamp, layout: "%m/%d/%Y"}`},
		{"v", "\xff a", `# "v" # left out: values of several types, or not UTF-8`},
		{"1 st-value", "a", `f_1_st_value: {type: string, from: "1 st-value"}`},
		{"null", "a", `null_: {type: string, from: "null"}`},
		{"T", "a", `T_2: {type: string, from: T}`},
		{"a.b", "x", `a_b: {type: string, from: "a.b"}`},
		{"t.b", "x", `# "t.b" # left out: its path and that of "t" lead through one another`},
		{"a..b", "x", `# "a..b" # left out: its name, taken as a path, has an empty part`},
		{"yes", "x", `"yes": string`},
	} {
		text := "t," + c.name + "\n"
		for _, v := range strings.Fields(c.values) {
			text += "2026-01-01T00:00:00Z," + v + "\n"
		}
		g, err := File(t.Context(), write(t, "x.csv", text), Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := squeeze(g.YAML())
		if !strings.Contains(got, "\n      "+c.want) {
			t.Errorf("%s of %s: want %s:\n%s", c.name, c.values, c.want, g.YAML())
		}
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "there is no row",
		"a,b\n":                        "there is no row",
		"a,b\n1,2\n":                   "no column is a time in every row",
		"t,b\n2026-01-01,2\n,3\n":      "those that are times are absent in some",
		"t,t\n2026-01-01,2026-01-01\n": "twice",
		"\"a\n":                        "the header: the quote that opens the cell is never closed",
	} {
		_, err := File(t.Context(), write(t, "x.csv", text), Options{})
		var p *schema.Problem
		if !errors.As(err, &p) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.csv") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := File(t.Context(), filepath.Join(t.TempDir(), "none"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestRows reads the first rows only.
func TestRows(t *testing.T) {
	g, err := File(t.Context(), write(t, "2x.csv", "t,a\n2026-01-01,1\n2026-01-02,1.55\n"), Options{Rows: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := g.YAML(); g.Whole || !strings.Contains(got, "the first 1 rows only") || !strings.Contains(got, "a: int64") || !strings.Contains(got, "stream_2x:") {
		t.Error(got)
	}
}

// FuzzFile: any bytes are a mistake or a block.
func FuzzFile(f *testing.F) {
	for _, s := range []string{"t,a\n2026-01-01,1\n", `{"t":"2026-01-01T00:00:00Z","a":{"b":1}}`, "t;a\n", "\xef\xbb\xbf{}", "a\n\"\n"} {
		f.Add([]byte(s))
	}
	path := filepath.Join(f.TempDir(), "fuzz.csv")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		g, err := File(t.Context(), path, Options{})
		if err == nil && !strings.HasPrefix(g.YAML(), "streams:\n") {
			t.Error(g.YAML())
		}
	})
}

// TestDisorder: the proposed lateness leaves at most one row in a thousand late, and
// is the smallest on the list that does; the oracle counts rows behind the greatest.
func TestDisorder(t *testing.T) {
	for name, c := range map[string]struct {
		rows func(i int64) int64 // ms
		want string
	}{
		"in order":           {func(i int64) int64 { return i * 1000 }, ""},
		"within the default": {func(i int64) int64 { return i*1000 - i%2*4000 }, ""},
		"one late in 2000":   {func(i int64) int64 { return i*1000 - map[bool]int64{true: 3_600_000}[i%2000 == 1999] }, ""},
		"8 s behind":         {func(i int64) int64 { return i*1000 - i%2*8000 }, "10s"},
		"one in 2000 more":   {func(i int64) int64 { return i*1000 - i%2*8000 - map[bool]int64{true: 3_600_000}[i%2000 == 1999] }, "10s"},
		"by key":             {func(i int64) int64 { return i % 5000 * 1000 }, "2h"},
		"backwards":          {func(i int64) int64 { return -i * 1000_000 }, ""},
	} {
		var d Disorder
		var all []int64
		for i := range int64(10_000) {
			d.Add(c.rows(i))
			all = append(all, c.rows(i))
		}
		got, why := d.lateness()
		if got != c.want || got != "" && !strings.Contains(why, "5s, the default") {
			t.Errorf("%s: %q, %s; want %q", name, got, why, c.want)
		}
		if got == "" {
			continue
		}
		l, err := time.ParseDuration(got)
		if err != nil {
			t.Fatal(err)
		}
		late, greatest := 0, all[0]
		for _, ms := range all {
			if ms < greatest-l.Milliseconds() {
				late++
			}
			greatest = max(greatest, ms)
		}
		if late*lateShare > len(all) {
			t.Errorf("%s: with %s %d rows are late", name, got, late)
		}
	}
}
