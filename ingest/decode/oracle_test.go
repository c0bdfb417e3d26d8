package decode

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/test/seeds"
)

// errSkip is returned by an oracle that cannot tell.
var errSkip = errors.New("outside what the oracle can tell")

var numberGrammar = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE]([+-]?[0-9]+))?$`)

// oracleValue is the text of a value of a type written as s, with the outcome of
// a bad one as a reason. quoted is false for a bare JSON number.
func oracleValue(ty event.Type, layout, s string, quoted bool) (text, reason string, err error) {
	switch ty.Kind {
	case event.String:
		if !quoted {
			return "", ReasonType, nil
		}
		if !utf8.ValidString(s) {
			return "", ReasonEncoding, nil
		}
		return s, "", nil
	case event.Bool:
		switch s {
		case "true", "True", "TRUE", "1":
			return "true", "", nil
		case "false", "False", "FALSE", "0":
			return "false", "", nil
		}
		return "", ReasonType, nil
	case event.Bytes:
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || !quoted {
			return "", ReasonType, nil
		}
		return string(b), "", nil
	case event.Timestamp:
		return oracleTime(layout, s)
	}
	m := numberGrammar.FindStringSubmatch(s)
	if m == nil {
		return "", ReasonType, nil
	}
	if exp, err := strconv.Atoi(m[3]); m[3] != "" && (err != nil || exp > 500 || exp < -500) {
		return "", "", errSkip // a big.Rat of it does not fit the memory
	}
	if ty.Kind == event.Double {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return "", ReasonType, nil
		}
		var c event.Column
		c.Reset(ty)
		c.AppendDouble(f)
		return string(c.AppendText(nil, 0)), "", nil
	}
	r, _ := new(big.Rat).SetString(s)
	r.Mul(r, new(big.Rat).SetInt64(event.Pow10(int(ty.Scale))))
	if !r.IsInt() || !r.Num().IsInt64() {
		return "", ReasonType, nil
	}
	return event.FormatDecimal(r.Num().Int64(), int(ty.Scale)), "", nil
}

// oracleTime knows RFC 3339 and unix.
func oracleTime(layout, s string) (text, reason string, err error) {
	var at time.Time
	if layout == "unix" {
		text, reason, err := oracleValue(event.Type{Kind: event.Decimal, Scale: 9}, "", s, true)
		if reason != "" && numberGrammar.MatchString(s) {
			// Out of range or too many places: both are possible at once.
			return "", "", errSkip
		}
		if reason != "" || err != nil {
			return "", reason, err
		}
		ns, err := event.ParseDecimal([]byte(text), 9)
		if err != nil {
			return "", "", err
		}
		at = time.Unix(0, ns).UTC()
	} else {
		shape := regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([zZ]|[+-][0-9]{2}:[0-9]{2})?$`)
		m := shape.FindStringSubmatch(s)
		if m == nil {
			return "", ReasonType, nil
		}
		s = strings.ToUpper(strings.Replace(s, " ", "T", 1))
		if m[2] == "" {
			s += "Z"
		}
		if at, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return "", ReasonType, nil
		}
		if strings.HasPrefix(m[2], "+24") || strings.HasPrefix(m[2], "-24") { // which package time takes
			return "", ReasonType, nil
		}
		at = at.UTC()
	}
	if !event.InRange(at) {
		return "", ReasonTime, nil
	}
	return string(event.FromTime(at).AppendText(nil)), "", nil
}

// oracleJSON decodes a record with encoding/json into maps.
func oracleJSON(s *schema.Stream, value []byte) (row []string, reason string, err error) {
	if !utf8.Valid(value) || bytes.Contains(bytes.ToLower(value), []byte(`\ud`)) {
		return nil, "", errSkip // encoding/json replaces what is not UTF-8
	}
	if !json.Valid(value) {
		if depth(value) > MaxDepth {
			return nil, "", errSkip
		}
		return nil, ReasonSyntax, nil
	}
	if depth(value) > MaxDepth {
		return nil, ReasonSize, nil
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, "", err
	}
	root, ok := v.(map[string]any)
	if !ok {
		return nil, ReasonType, nil
	}
	for i, f := range s.Schema.Fields {
		path := s.Fields[i].From
		if path == "" {
			path = f.Name
		}
		text, reason, err := oracleField(root, f, path, s.Fields[i].Layout)
		if reason != "" || err != nil {
			return nil, reason, err
		}
		row = append(row, text)
	}
	return row, "", nil
}

func oracleField(root map[string]any, f event.Field, path, layout string) (text, reason string, err error) {
	var v any = root
	for _, part := range strings.Split(path, ".") {
		m, ok := v.(map[string]any)
		if !ok && v != nil {
			return "", ReasonType, nil
		}
		v = m[part]
	}
	switch x := v.(type) {
	case nil:
		if !f.Optional {
			return "", ReasonMissing, nil
		}
		return "<null>", "", nil
	case bool:
		if f.Type.Kind != event.Bool {
			return "", ReasonType, nil
		}
		return strconv.FormatBool(x), "", nil
	case json.Number:
		return oracleValue(f.Type, layout, x.String(), false)
	case string:
		return oracleValue(f.Type, layout, x, true)
	}
	return "", ReasonType, nil
}

// depth is the deepest nesting before the first mistake in the syntax.
func depth(value []byte) (deepest int) {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber() // 1e400 is no float64 and no error
	for at := 0; ; {
		tok, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			at++
			deepest = max(deepest, at)
		case json.Delim('}'), json.Delim(']'):
			at--
		}
	}
}

func oracleStream(t testing.TB) *schema.Stream {
	return stream(t, schema.JSON, "", "ts:timestamp", "s:string?", "i:int64?", "d:double?", "m:decimal(2)?", "b:bool?", "y:bytes?", "u:timestamp?#unix", "deep:string?@o.p.q", "beside:int64?@o.r")
}

// checkJSON decodes one value with every projection of interest and with a
// decoder that has seen others before, and compares with the oracle.
func checkJSON(t *testing.T, s *schema.Stream, used *Decoder, value []byte) (outcome string) {
	t.Helper()
	row, f := decodeOne(t, used, s, string(value), 0)
	fresh, f2 := decodeOne(t, decoder(t, s, all(s)), s, string(value), 0)
	if !reflect.DeepEqual(row, fresh) || !reflect.DeepEqual(f, f2) {
		t.Errorf("%q: a used decoder gives %q, %v, a fresh one %q, %v", value, row, f, fresh, f2)
	}
	bare := decoder(t, s, nil)
	b, bad := batch(s, nil), 0
	bare.Decode(b, event.Origin{}, []source.Record{{Value: value}}, func(*source.Record, Failure) { bad++ })
	if b.Len()+bad != 1 || (bad == 1) != (f != nil) {
		t.Errorf("%q: without a projection %d rows and %d failures, with all fields %v", value, b.Len(), bad, f)
	}
	want, wantReason, err := oracleJSON(s, value)
	if errors.Is(err, errSkip) {
		return "skipped"
	}
	if err != nil {
		t.Fatalf("%q: oracle: %v", value, err)
	}
	if got := reason(f); got != wantReason || !reflect.DeepEqual(row, want) {
		t.Errorf("%q:\n got %q, %v\nwant %q, %q", value, row, f, want, wantReason)
	}
	return wantReason
}

var jsonSeeds = []string{
	`{"ts":"2018-04-01T00:00:31Z","s":"a","i":1,"d":1.5,"m":12.30,"b":true,"y":"aGk=","u":1.5,"o":{"p":{"q":"x"},"r":1}}`,
	`{"ts":"2018-04-01 00:00:31","s":"\u00e9\n\"","i":"7","d":1e308,"m":"1e-2","b":"false","u":"1e9"}`,
	`{"ts":"2018-04-01T00:00:31.5+05:30","s":null,"i":1e2,"d":-0,"m":9e99,"x":[1,{"a":[]},null,tru]}`,
	` { "o" : { "p" : 1 } , "ts" : "2018-04-01T00:00:31Z" } `,
	`{"ts":"2018-04-01T00:00:31Z","o":{"p":{"q":"first"}},"o":{"r":2}}`,
	`{"ts":"2018-04-01T00:00:31Z","ts":1,"\u0073":"x","i":01,"d":1.,"b":2}`,
	`[1,2]`, `null`, `{}`, ``, `{"ts":`, `{"s":"\x"}`, `{"s":"\ud83d\ude00"}`, "{\"s\":\"\xff\"}", `{"":1,"a":{"":{}}}`,
	`{"ts":"2262-01-01T00:00:00Z"}`, `{"a":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[`,
}

// FuzzJSON compares with encoding/json.
func FuzzJSON(f *testing.F) {
	for _, seed := range jsonSeeds {
		f.Add([]byte(seed))
	}
	s := oracleStream(f)
	used := decoder(f, s, all(s))
	f.Fuzz(func(t *testing.T, value []byte) { checkJSON(t, s, used, value) })
}

// TestJSONAgainstOracle mutates seeds at random: bytes, slices of other seeds.
func TestJSONAgainstOracle(t *testing.T) {
	r := seeds.Rand(t)
	s := oracleStream(t)
	used := decoder(t, s, all(s))
	outcomes := map[string]int{}
	for range 20_000 {
		value := []byte(randomObject(r, 0))
		for range r.IntN(3) {
			switch r.IntN(3) {
			case 0:
				value[r.IntN(len(value))] = `{}[]",:\0123eE+-.tfn u/`[r.IntN(22)]
			case 1:
				at := r.IntN(len(value))
				value = append(value[:at:at], value[min(len(value), at+1+r.IntN(4)):]...)
			case 2:
				other := jsonSeeds[r.IntN(len(jsonSeeds))]
				if len(other) > 0 {
					from := r.IntN(len(other))
					at := r.IntN(len(value) + 1)
					value = append(append(value[:at:at], other[from:from+r.IntN(len(other)-from)]...), value[at:]...)
				}
			}
			if len(value) == 0 {
				break
			}
		}
		if outcomes[checkJSON(t, s, used, value)]++; t.Failed() {
			return
		}
	}
	t.Logf("outcomes: %v", outcomes)
	for _, outcome := range []string{"", ReasonSyntax, ReasonType, ReasonMissing} {
		if outcomes[outcome] < 500 {
			t.Errorf("only %d records with outcome %q: the test does not test it", outcomes[outcome], outcome)
		}
	}
}

func randomObject(r *rand.Rand, level int) string {
	names := []string{"ts", "s", "i", "d", "m", "b", "y", "u", "o", "p", "q", "r", "other", `\u0073`, "éx", ""}
	values := []string{`"2018-04-01T00:00:31Z"`, `"2018-04-01 00:00:31.25"`, `"2018-02-30T00:00:00Z"`, `""`, `"text of some length"`, `"a\"\\\/\b\f\n\r\t\u00e9"`, `"é"`, "1", "-1", "0", "-0", "1.5", "12.30", "12.345",
		"1e2", "1E-2", "1e400", "9223372036854775807", "9223372036854775808", "123456789012345678901234567890", "0.1", "3.141592653589793238", `"12.5"`, `"+7"`, `".5"`, `"5."`, `"0x10"`, `"NaN"`, `"aGk="`, `"aGk"`, "true", "false", "null", `"true"`, "[]", "[1,[2]]", "{}"}
	space := func() string { return []string{"", "", "", " ", "\n\t"}[r.IntN(5)] }
	var b strings.Builder
	b.WriteString("{" + space())
	if level == 0 && r.IntN(8) > 0 {
		b.WriteString(`"ts":"2018-04-01T00:00:31Z"`)
		if r.IntN(10) > 0 {
			b.WriteString(",")
		}
	}
	n := r.IntN(6)
	for i := range n {
		if i > 0 {
			b.WriteString("," + space())
		}
		fmt.Fprintf(&b, `"%s"%s:%s`, names[r.IntN(len(names))], space(), space())
		if level < 3 && r.IntN(3) == 0 {
			b.WriteString(randomObject(r, level+1))
		} else {
			b.WriteString(values[r.IntN(len(values))])
		}
		b.WriteString(space())
	}
	return b.String() + "}"
}

// oracleCSV splits one line with encoding/csv.
func oracleCSV(line []byte) (cells []string, ok bool, err error) {
	if bytes.IndexByte(line, '\r') >= 0 {
		return nil, false, errSkip // which encoding/csv takes in some places, and drops in others
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) == 0 || line[0] == '\n' {
		return nil, false, errSkip // it skips empty lines
	}
	r := csv.NewReader(bytes.NewReader(line))
	cells, err = r.Read()
	if err != nil {
		return nil, false, nil
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) || r.InputOffset() != int64(len(line)) || bytes.HasSuffix(line, []byte("\n")) {
		return nil, false, nil // a second line
	}
	return cells, true, nil
}

func checkCSV(t *testing.T, line []byte) {
	t.Helper()
	s := stream(t, schema.CSV, "ts,a,b", "ts:timestamp#unix", "a:string?", "b:int64?")
	row, f := decodeOne(t, decoder(t, s, all(s)), s, string(line), 0)
	cells, ok, err := oracleCSV(line)
	if err != nil {
		return
	}
	var want []string
	wantReason := ""
	if !ok || len(cells) != 3 {
		wantReason = ReasonSyntax
	}
	for i := 0; wantReason == "" && i < 3; i++ {
		f := s.Schema.Fields[i]
		text := "<null>"
		switch {
		case cells[i] != "":
			text, wantReason, err = oracleValue(f.Type, s.Fields[i].Layout, cells[i], true)
		case !f.Optional:
			wantReason = ReasonMissing
		}
		want = append(want, text)
	}
	if errors.Is(err, errSkip) {
		return
	}
	if wantReason != "" {
		want = nil
	}
	if got := reason(f); got != wantReason || !reflect.DeepEqual(row, want) {
		t.Errorf("%q:\n got %q, %v\nwant %q, %q", line, row, f, want, wantReason)
	}
}

var csvSeeds = []string{"1,a,2", "1,\"a,\"\"b\"\"\",2\n", "1,,", ",,", "1,\"a\nb\",2", "1,a\"b,2", "1,\"a\"b,2", "1,\"\",\"\"", "1,a", "1,a,2,3", "\"1\",é,\"2\"", "1,\xff,2", "1,a,2\n3,b,4", "1,\"", "1,a,2\r\n"}

// FuzzCSV compares with encoding/csv.
func FuzzCSV(f *testing.F) {
	for _, seed := range csvSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(checkCSV)
}

func TestCSVAgainstOracle(t *testing.T) {
	r := seeds.Rand(t)
	for range 40_000 {
		line := []byte("1,")
		for range r.IntN(12) {
			line = append(line, `,,""a1é`+"\n"...)
			line = line[:len(line)-r.IntN(9)]
			if n := len(line); n > 3 {
				i, j := 2+r.IntN(n-2), 2+r.IntN(n-2)
				line[i], line[j] = line[j], line[i]
			}
		}
		if checkCSV(t, line); t.Failed() {
			return
		}
	}
}

// FuzzRecords decodes several records at once: rows and failures add up, and the
// good ones around a bad one are as they are alone.
func FuzzRecords(f *testing.F) {
	for i := range jsonSeeds {
		f.Add([]byte(jsonSeeds[i]), []byte(jsonSeeds[0]), []byte(csvSeeds[i%len(csvSeeds)]), uint8(i))
	}
	f.Fuzz(func(t *testing.T, a, b, c []byte, project uint8) {
		for _, s := range []*schema.Stream{oracleStream(t), stream(t, schema.CSV, "ts,a,b", "ts:timestamp#unix", "a:string?", "b:int64?")} {
			var p []int
			for i := range s.Schema.Fields {
				if project>>(i%8)&1 == 1 {
					p = append(p, i)
				}
			}
			recs := []source.Record{{Offset: 1, Value: a}, {Offset: 2, Value: b}, {Offset: 3, Value: c}, {Offset: 4, Value: a}}
			together := batch(s, p)
			bad := map[int64]Failure{}
			d := decoder(t, s, p)
			d.Decode(together, event.Origin{Topic: "t"}, recs, func(r *source.Record, f Failure) { bad[r.Offset] = f })
			if together.Len()+len(bad) != len(recs) || len(together.Time) != together.Len() {
				t.Fatalf("%d rows and %d failures of %d records", together.Len(), len(bad), len(recs))
			}
			for _, i := range p {
				if together.Cols[i].Len() != together.Len() {
					t.Fatalf("column %d has %d values of %d rows", i, together.Cols[i].Len(), together.Len())
				}
			}
			for i, offset := range together.Offset {
				alone := batch(s, p)
				d.Decode(alone, event.Origin{Topic: "t"}, recs[offset-1:offset], func(r *source.Record, f Failure) { t.Fatalf("%q is good, then %v", r.Value, f) })
				if !reflect.DeepEqual(rowTexts(alone, 0), rowTexts(together, i)) {
					t.Fatalf("%q: %q alone, %q together", recs[offset-1].Value, rowTexts(alone, 0), rowTexts(together, i))
				}
			}
		}
	})
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	for _, s := range []*schema.Stream{stream(t, schema.JSON, "", tenFields...), stream(t, schema.CSV, csvColumns, tenFields...)} {
		recs := tenFieldRecords(200)
		if s.Format == schema.CSV {
			recs = csvRecords(recs)
		}
		d, dst := decoder(t, s, all(s)), batch(s, all(s))
		fail := func(r *source.Record, f Failure) { t.Fatalf("%s: %v", r.Value, f) }
		project := all(s)
		if n := testing.AllocsPerRun(20, func() {
			dst.Reset(s.Schema, project)
			d.Decode(dst, event.Origin{Topic: "t"}, recs, fail)
		}); n != 0 {
			t.Errorf("%s: %v allocations for %d records", s.Format, n, len(recs))
		}
	}
}
