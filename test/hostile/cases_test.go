package hostile

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// payments is the stream that the input is for. Its topic is made for one case.
func payments(format schema.Format, topic string) *schema.Stream {
	s := &schema.Stream{Topic: topic, Partitions: 1, Format: format, Columns: []string{"id", "ts", "card", "amount", "score", "count", "note"}, MaxAhead: time.Minute,
		Schema: &event.Schema{Stream: "payments", Time: 1, Key: 2, ID: 0, Fields: []event.Field{
			{Name: "id", Type: event.Type{Kind: event.String}},
			{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
			{Name: "card", Type: event.Type{Kind: event.String}},
			{Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}},
			{Name: "score", Type: event.Type{Kind: event.Double}, Optional: true},
			{Name: "count", Type: event.Type{Kind: event.Int64}, Optional: true},
			{Name: "note", Type: event.Type{Kind: event.String}, Optional: true},
		}}}
	if format == schema.JSON {
		item := event.StructOf(event.Field{Name: "sku", Type: event.Type{Kind: event.String}}, event.Field{Name: "price", Type: event.Type{Kind: event.Decimal, Scale: 2}})
		s.Schema.Fields = append(s.Schema.Fields,
			event.Field{Name: "items", Type: event.ListOf(item), Optional: true},
			event.Field{Name: "tags", Type: event.ListOf(event.Type{Kind: event.String}), Optional: true},
			event.Field{Name: "attrs", Type: event.MapOf(event.Type{Kind: event.Int64}), Optional: true})
	}
	s.Fields = make([]schema.Field, len(s.Schema.Fields))
	return s
}

const declared = `as: id string, ts timestamp (RFC 3339), card string, amount decimal(2); and,
optional, score double, count int64, note string; in JSON also items
list(struct(sku string, price decimal(2))), tags list(string), attrs map(int64);
max_ahead 1m`

// arrived is when records reach the log and requests the server.
var arrived = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// one is a row that may be bad, tried as a record, between two good ones in a file
// and in a body.
type one struct {
	name string
	text string
	show string // the field whose value is shown where the row is taken
}

const (
	goodJSON = `{"id":"1","ts":"2026-01-01T00:00:00Z","card":"c","amount":1.50}`
	goodCSV  = `1,2026-01-01T00:00:00Z,c,1.50,,,`
	csvHead  = "id,ts,card,amount,score,count,note"
)

// with is the good object with one member written otherwise, or added.
func with(name, value string) string {
	for _, m := range []string{`"id":"1"`, `"ts":"2026-01-01T00:00:00Z"`, `"card":"c"`, `"amount":1.50`} {
		if strings.HasPrefix(m, `"`+name+`":`) {
			return strings.Replace(goodJSON, m, `"`+name+`":`+value, 1)
		}
	}
	return strings.TrimSuffix(goodJSON, "}") + `,"` + name + `":` + value + "}"
}

func jsonRows() []one {
	return []one{
		{name: "nothing wrong", text: goodJSON, show: "amount"},
		{name: "wrong type: text for a decimal", text: with("amount", `"a lot"`)},
		{name: "wrong type: a number for a string", text: with("card", `42`), show: "card"},
		{name: "wrong type: an object for a decimal", text: with("amount", `{"value":1}`)},
		{name: "wrong type: a fraction for an int64", text: with("count", `1.5`)},
		{name: "a number in quotes", text: with("amount", `"1.50"`), show: "amount"},
		{name: "an empty string for a decimal", text: with("amount", `""`)},
		{name: "missing time", text: `{"id":"1","card":"c","amount":1.50}`},
		{name: "null for the time", text: with("ts", `null`)},
		{name: "a time that is none", text: with("ts", `"yesterday"`)},
		{name: "30 February", text: with("ts", `"2026-02-30T00:00:00Z"`)},
		{name: "a time in the future, past max_ahead", text: with("ts", `"2026-01-01T12:01:01Z"`)},
		{name: "ancient: the year 1", text: with("ts", `"0001-01-01T00:00:00Z"`)},
		{name: "the year 9999", text: with("ts", `"9999-12-31T23:59:59Z"`)},
		{name: "duplicate keys", text: strings.TrimSuffix(goodJSON, "}") + `,"card":"last"}`, show: "card"},
		{name: "duplicate keys, the first of a wrong type", text: `{"amount":"x",` + goodJSON[1:], show: "amount"},
		{name: "NaN", text: with("score", `NaN`)},
		{name: "NaN in quotes", text: with("score", `"NaN"`)},
		{name: "Infinity in quotes", text: with("score", `"Infinity"`)},
		{name: "10^400 for a decimal", text: with("amount", `1e400`)},
		{name: "10^400 for a double", text: with("score", `1e400`)},
		{name: "10^-400 for a double", text: with("score", `1e-400`), show: "score"},
		{name: "a number of 1,000,000 digits", text: with("amount", strings.Repeat("9", 1_000_000))},
		{name: "int64 overflow: 2^63", text: with("count", `9223372036854775808`)},
		{name: "wrong decimal places: 1.005 for decimal(2)", text: with("amount", `1.005`)},
		{name: "more places, all zeros: 1.50000", text: with("amount", `1.50000`), show: "amount"},
		{name: "leading zero: 007", text: with("count", `007`)},
		{name: "invalid UTF-8", text: with("card", "\"\xff\"")},
		{name: "half a multibyte character", text: with("card", "\"caf\xc3\"")},
		{name: "half a surrogate pair", text: with("card", `"\ud83d"`)},
		{name: "a NUL byte in a string", text: with("card", "\"a\x00b\"")},
		{name: "a NUL escaped", text: with("card", `"a\u0000b"`), show: "card"},
		{name: "NUL bytes only", text: strings.Repeat("\x00", 100)},
		{name: "10,000 levels of nesting", text: with("x", strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000))},
		{name: "10,000 open brackets", text: strings.Repeat(`{"x":`, 10_000)},
		{name: "a record over 8 MiB", text: with("note", `"`+strings.Repeat("x", 8<<20)+`"`)},
		{name: "cut in the middle", text: goodJSON[:40]},
		{name: "two objects in one record", text: goodJSON + goodJSON},
		{name: "a comma too many", text: strings.TrimSuffix(goodJSON, "}") + ",}"},
		{name: "single quotes", text: strings.ReplaceAll(goodJSON, `"`, `'`)},
		{name: "an array", text: "[" + goodJSON + "]"},
		{name: "null", text: "null"},
		{name: "an unbalanced quote", text: strings.Replace(goodJSON, `"c"`, `"c`, 1)},
		{name: "CR before the end of the line", text: goodJSON + "\r", show: "amount"},
		{name: "lists, maps and structs, nothing wrong", text: with("items", `[{"sku":"a","price":1.5},{"price":2,"sku":"b"}],"tags":["x"],"attrs":{"k":1}`), show: "items"},
		{name: "an empty list", text: with("items", `[]`), show: "items"},
		{name: "wrong type of an element's member", text: with("items", `[{"sku":"a","price":1},{"sku":"b","price":2},{"sku":"c","price":"dear"}]`)},
		{name: "missing member of a struct", text: with("items", `[{"sku":"a"}]`)},
		{name: "a struct's member twice: the last counts", text: with("items", `[{"sku":"a","price":"x","price":3}]`), show: "items"},
		{name: "an element that is null", text: with("tags", `["a",null]`)},
		{name: "an element of another type", text: with("tags", `["a",{"b":1}]`)},
		{name: "an object for a list", text: with("tags", `{"0":"a"}`)},
		{name: "a list for a map", text: with("attrs", `[1]`)},
		{name: "text for a list", text: with("tags", `"a,b"`)},
		{name: "a map's key twice", text: with("attrs", `{"a":1,"b":2,"a":3}`)},
		{name: "a value of a map of another type", text: with("attrs", `{"a":1,"b":"two"}`)},
		{name: "a card number as a map's key", text: with("attrs", `{"4111111111111111":"x"}`)},
		{name: "65,536 elements", text: with("tags", "["+strings.Repeat(`"a",`, 1<<16-1)+`"a"]`), show: "amount"},
		{name: "65,537 elements", text: with("tags", "["+strings.Repeat(`"a",`, 1<<16)+`"a"]`)},
		{name: "a list 64 levels deep", text: with("tags", strings.Repeat("[", 64)+strings.Repeat("]", 64))},
		{name: "a list that does not end", text: strings.TrimSuffix(with("tags", `["a","b"]`), "]}")},
	}
}

func csvRows() []one {
	return []one{
		{name: "nothing wrong", text: goodCSV, show: "amount"},
		{name: "too few cells", text: "1,2026-01-01T00:00:00Z,c"},
		{name: "too many cells", text: goodCSV + ",x"},
		{name: "another delimiter", text: strings.ReplaceAll(goodCSV, ",", ";")},
		{name: "unbalanced quote: never closed", text: `1,2026-01-01T00:00:00Z,"c,1.50,,,`},
		{name: "unbalanced quote: in a cell", text: `1,2026-01-01T00:00:00Z,c"c,1.50,,,`},
		{name: "text after a quote", text: `1,2026-01-01T00:00:00Z,"c"c,1.50,,,`},
		{name: "an empty cell for a required field", text: "1,2026-01-01T00:00:00Z,c,,,,"},
		{name: "missing time", text: "1,,c,1.50,,,"},
		{name: "wrong type", text: "1,2026-01-01T00:00:00Z,c,a lot,,,"},
		{name: "a thousands separator", text: `1,2026-01-01T00:00:00Z,c,"1,234.50",,,`},
		{name: "a space before a number", text: `1,2026-01-01T00:00:00Z,c, 1.50,,,`},
		{name: "wrong decimal places", text: "1,2026-01-01T00:00:00Z,c,1.005,,,"},
		{name: "NaN", text: "1,2026-01-01T00:00:00Z,c,1.50,NaN,,"},
		{name: "10^400 for a double", text: "1,2026-01-01T00:00:00Z,c,1.50,1e400,,"},
		{name: "int64 overflow", text: "1,2026-01-01T00:00:00Z,c,1.50,,9223372036854775808,"},
		{name: "a time in the future, past max_ahead", text: "1,2026-01-01T12:01:01Z,c,1.50,,,"},
		{name: "ancient: the year 1", text: "1,0001-01-01T00:00:00Z,c,1.50,,,"},
		{name: "invalid UTF-8", text: "1,2026-01-01T00:00:00Z,\xff,1.50,,,"},
		{name: "half a multibyte character", text: "1,2026-01-01T00:00:00Z,caf\xc3,1.50,,,"},
		{name: "a NUL byte in a string", text: "1,2026-01-01T00:00:00Z,a\x00b,1.50,,,", show: "card"},
		{name: "NUL bytes only", text: strings.Repeat("\x00", 100)},
		{name: "a row over 8 MiB", text: goodCSV + strings.Repeat("x", 8<<20)},
		{name: "a line end in quotes", text: "1,2026-01-01T00:00:00Z,\"a\nb\",1.50,,,", show: "card"},
		{name: "CR before the end of the line", text: goodCSV + "\r", show: "amount"},
	}
}

// whole is a whole file or body.
type whole struct {
	name    string
	format  schema.Format // how its content is written
	content func(io.Writer)
	gzip    bool   // over HTTP with Content-Encoding: gzip; a file is gzip by its content
	kind    string // the content type, where it is not that of the format
	nothing bool   // there is nothing in it
	// taken is how many of the rows are good and whole: a file's, from which a body
	// does not differ unless it is refused as a whole.
	taken int64
}

func text(s string) func(io.Writer) {
	return func(w io.Writer) { _, _ = io.WriteString(w, s) }
}

func repeat(head, part string, times int, tail string) func(io.Writer) {
	return func(w io.Writer) {
		_, _ = io.WriteString(w, head)
		for range times {
			if _, err := io.WriteString(w, part); err != nil {
				return // the server has hung up
			}
		}
		_, _ = io.WriteString(w, tail)
	}
}

func gzipped(content func(io.Writer)) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.HuffmanOnly)
	content(z)
	_ = z.Close()
	return b.Bytes()
}

func utf16le(s string) string {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return string(b)
}

func wholes(t *testing.T) []whole {
	t.Helper()
	lines := strings.Repeat(goodJSON+"\n", 3)
	table := csvHead + "\n" + strings.Repeat(goodCSV+"\n", 3)
	many := gzipped(repeat("", goodJSON+"\n", 20_000, ""))
	damaged := bytes.Clone(many)
	damaged[len(damaged)-6] ^= 0x55 // its checksum
	mega := strings.Repeat("x", 1<<20)
	return []whole{
		{name: "empty", nothing: true, format: schema.JSON, content: text("")},
		{name: "blank lines only", nothing: true, format: schema.JSON, content: text("\n \r\n\n")},
		{name: "empty CSV", nothing: true, format: schema.CSV, content: text("")},
		{name: "header only", nothing: true, format: schema.CSV, content: text(csvHead + "\n")},
		{name: "no header", format: schema.CSV, content: text(goodCSV + "\n" + goodCSV + "\n")},
		{name: "a header without a required column", format: schema.CSV, content: text("id,ts,card\n1,2026-01-01T00:00:00Z,c\n")},
		{name: "a header with a column twice", format: schema.CSV, content: text("id,ts,card,amount,card\n1,2026-01-01T00:00:00Z,c,1,d\n")},
		{name: "a header with cells without a name", format: schema.CSV, content: text(csvHead + ",,\n" + goodCSV + ",,\n"), taken: 1},
		{name: "byte order mark, NDJSON", format: schema.JSON, content: text("\ufeff" + lines), taken: 3},
		{name: "byte order mark, CSV", format: schema.CSV, content: text("\ufeff" + table), taken: 3},
		{name: "CRLF line ends, NDJSON", format: schema.JSON, content: text(strings.ReplaceAll(lines, "\n", "\r\n")), taken: 3},
		{name: "CRLF line ends, CSV", format: schema.CSV, content: text(strings.ReplaceAll(table, "\n", "\r\n")), taken: 3},
		{name: "CR line ends, CSV", format: schema.CSV, content: text(strings.ReplaceAll(table, "\n", "\r"))},
		{name: "no end of the last line", format: schema.JSON, content: text(strings.TrimSuffix(lines, "\n")), taken: 3},
		{name: "the last line cut in the middle", format: schema.JSON, content: text(lines + goodJSON[:30]), taken: 3},
		{name: "UTF-16, NDJSON", format: schema.JSON, content: text(utf16le(lines))},
		{name: "UTF-16, CSV", format: schema.CSV, content: text(utf16le(table))},
		{name: "a JSON array of events", format: schema.JSON, content: text("[" + goodJSON + ",\n" + goodJSON + "]\n"), kind: "application/json"},
		{name: "NUL bytes", format: schema.JSON, content: text(strings.Repeat("\x00", 4096))},
		{name: "a picture (PNG)", format: schema.CSV, content: text("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00")},
		{name: "a zip archive", format: schema.CSV, content: text("PK\x03\x04\x14\x00\x00\x00\x08\x00")},
		{name: "a zstd file", format: schema.CSV, content: text("\x28\xb5\x2f\xfd\x04\x00\x01\x00")},
		{name: "truncated gzip", format: schema.JSON, gzip: true, content: text(string(many[:len(many)/2])), taken: -1},
		{name: "gzip with a wrong checksum", format: schema.JSON, gzip: true, content: text(string(damaged)), taken: 20_000},
		{name: "gzip of nothing", nothing: true, format: schema.JSON, gzip: true, content: text(string(gzipped(text(""))))},
		{name: "gzip bomb: 100 MB of blank lines", nothing: true, format: schema.JSON, gzip: true, content: bomb(strings.Repeat("\n", 1<<20), hundred)},
		{name: "gzip bomb: one line of 1 GB", format: schema.JSON, gzip: true, content: bomb(mega, gigabyte)},
		{name: "a line of 100 MB, NDJSON", format: schema.JSON, content: repeat(goodJSON+"\n", mega, hundred, "\n"+goodJSON+"\n"), taken: 2},
		{name: "a line of 100 MB, CSV", format: schema.CSV, content: repeat(csvHead+"\n"+goodCSV+"\n", mega, hundred, "\n"+goodCSV+"\n"), taken: 2},
		{name: "a quote that 100 MB do not close", format: schema.CSV, content: repeat(csvHead+"\n"+goodCSV+"\n\"", mega, hundred, "\n"+goodCSV+"\n"), taken: 2},
	}
}

// bomb is the gzip of a part that comes many times: members of gzip, one after the
// other, as the format allows.
func bomb(part string, times int) func(io.Writer) {
	return repeat("", string(gzipped(text(part))), times, "")
}
