package decode

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
)

// stream declares a stream from "name:type[?][@from][#layout]" texts; the first
// timestamp is its time.
func stream(t testing.TB, format schema.Format, columns string, fields ...string) *schema.Stream {
	t.Helper()
	s := &schema.Stream{Schema: &event.Schema{Stream: "s", Alias: "s", Time: -1, Key: -1, ID: -1}, Topic: "s", Format: format, Zone: time.UTC, Delimiter: ','}
	if columns != "" {
		s.Columns = strings.Split(columns, ",")
	}
	for i, text := range fields {
		var f schema.Field
		text, f.Layout, _ = strings.Cut(text, "#")
		text, f.From, _ = strings.Cut(text, "@")
		name, typ, _ := strings.Cut(text, ":")
		typ, optional := strings.CutSuffix(typ, "?")
		ty, err := event.ParseType(typ)
		if err != nil {
			t.Fatal(err)
		}
		s.Schema.Fields = append(s.Schema.Fields, event.Field{Name: name, Type: ty, Optional: optional})
		s.Fields = append(s.Fields, f)
		if ty.Kind == event.Timestamp && s.Schema.Time < 0 {
			s.Schema.Time = i
		}
	}
	return s
}

func all(s *schema.Stream) []int {
	var project []int
	for i := range s.Schema.Fields {
		project = append(project, i)
	}
	return project
}

func decoder(t testing.TB, s *schema.Stream, project []int) *Decoder {
	t.Helper()
	d, err := New(s, project, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// decodeOne gives the row of one record as texts ("<null>" where absent), or its
// failure.
func decodeOne(t testing.TB, d *Decoder, s *schema.Stream, value string, ms int64) (row []string, f *Failure) {
	t.Helper()
	var b event.Batch
	b.Reset(s.Schema, all(s))
	d.Decode(&b, event.Origin{Topic: "t"}, []source.Record{{Value: []byte(value), Timestamp: ms}}, func(_ *source.Record, fail Failure) { f = &fail })
	if f != nil {
		if b.Len() != 0 || len(b.Origin) != 0 || b.Cols[0].Len() != 0 {
			t.Fatalf("%q: a bad record left something in the batch", value)
		}
		return nil, f
	}
	return rowTexts(&b, 0), nil
}

func rowTexts(b *event.Batch, i int) []string {
	row := make([]string, len(b.Cols))
	for c := range b.Cols {
		switch {
		case !b.Cols[c].Present():
			row[c] = "<not projected>"
		case b.Cols[c].IsNull(i):
			row[c] = "<null>"
		default:
			row[c] = string(b.Cols[c].AppendText(nil, i))
		}
	}
	return row
}

func TestJSONRows(t *testing.T) {
	const ts = `"ts":"2018-04-01T00:00:31Z"`
	for _, c := range []struct {
		field, members, want string // want: a text, or a reason after "!"
	}{
		{"v:string", `"v":"a"`, "a"},
		{"v:string", `"v":""`, ""},
		{"v:string", `"v":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z"`, "a\"\\/\b\f\n\r\té\U0001F600z"},
		{"v:string", `"v":"\ud83d"`, "!encoding"},
		{"v:string", `"v":"\ud83d\u0041"`, "!encoding"},
		{"v:string", `"v":"\ude00\ud83d"`, "!encoding"},
		{"v:string", "\"v\":\"a\xffb\"", "!encoding"},
		{"v:string", "\"v\":\"\xe2\x82\"", "!encoding"},
		{"v:string", `"v":"\ufffd"`, "\ufffd"},
		{"v:string", `"v":12`, "!type"},
		{"v:string", `"v":{}`, "!type"},
		{"v:string", `"v":null`, "!missing"},
		{"v:string", `"w":1`, "!missing"},
		{"v:string?", `"v":null`, "<null>"},
		{"v:string?", `"w":1`, "<null>"},
		{"v:string?", `"v":12`, "!type"},
		{"v:string", `"v":1,"v":"last"`, "last"},
		{"v:string", `"v":"first","v":1`, "!type"},
		{"v:string?", `"v":"first","v":null`, "<null>"},
		{"v:string", `"\u0076":"escaped name"`, "escaped name"},
		{"v:string", `"V":"a"`, "!missing"},
		{"v:int64", `"v":-9223372036854775808`, "-9223372036854775808"},
		{"v:int64", `"v":9223372036854775808`, "!type"},
		{"v:int64", `"v":"12"`, "12"},
		{"v:int64", `"v":1.0`, "1"},
		{"v:int64", `"v":1e3`, "1000"},
		{"v:int64", `"v":1.5`, "!type"},
		{"v:int64", `"v":""`, "!type"},
		{"v:int64", `"v":" 1"`, "!type"},
		{"v:int64", `"v":true`, "!type"},
		{"v:double", `"v":0.1`, "0.1"},
		{"v:double", `"v":-0.0`, "-0"},
		{"v:double", `"v":1e400`, "!type"},
		{"v:double", `"v":1e-400`, "0"},
		{"v:double", `"v":"2.50"`, "2.5"},
		{"v:double", `"v":"NaN"`, "!type"},
		{"v:double", `"v":"Infinity"`, "!type"},
		{"v:double", `"v":"0x10"`, "!type"},
		{"v:double", `"v":NaN`, "!syntax"},
		{"v:double", `"v":1234567890123456789012345`, "1.2345678901234568e+24"},
		{"v:decimal(2)", `"v":57.16`, "57.16"},
		{"v:decimal(2)", `"v":"57.1"`, "57.10"},
		{"v:decimal(2)", `"v":57.160`, "57.16"},
		{"v:decimal(2)", `"v":57.161`, "!type"},
		{"v:decimal(2)", `"v":1e400`, "!type"},
		{"v:decimal(18)", `"v":9.223372036854775807`, "9.223372036854775807"},
		{"v:decimal(18)", `"v":9.223372036854775808`, "!type"},
		{"v:bool", `"v":true`, "true"},
		{"v:bool", `"v":"false"`, "false"},
		{"v:bool", `"v":1`, "true"},
		{"v:bool", `"v":2`, "!type"},
		{"v:bytes", `"v":"aGk="`, "hi"},
		{"v:bytes", `"v":"aGk"`, "!type"},
		{"v:timestamp#unix", `"v":1.5`, "1970-01-01T00:00:01.5Z"},
		{"v:timestamp#unix_ms", `"v":"-1"`, "1969-12-31T23:59:59.999Z"},
		{"v:timestamp#unix_ns", `"v":1723161256207640365`, "2024-08-08T23:54:16.207640365Z"},
		{"v:timestamp#unix", `"v":99999999999999`, "!time"},
		{"v:timestamp", `"v":"2018-04-01"`, "!type"},
		{"v:timestamp", `"v":20180401`, "!type"},
		{"v:timestamp#%Y%m%d", `"v":20180401`, "2018-04-01T00:00:00Z"},
		{"v:string@a.b", `"a":{"x":1,"b":"deep","c":[]}`, "deep"},
		{"v:string@a.b", `"a":{"b":"first"},"a":{"c":1}`, "!missing"},
		{"v:string@a.b", `"a":{"b":"first"},"a":3`, "!type"},
		{"v:string?@a.b", `"a":3`, "!type"},
		{"v:string?@a.b", `"a":null`, "<null>"},
		{"v:string?@a.b", `"a":{"b":"first"},"a":null`, "<null>"},
		{"v:string@a.b", `"a.b":"dotted"`, "!missing"},
		{"v:string?", `"w":` + strings.Repeat("[", 63) + strings.Repeat("]", 63), "<null>"},
		{"v:string?", `"w":` + strings.Repeat("[", 64) + strings.Repeat("]", 64), "!size"},
		{"v:string?", `"w":` + strings.Repeat(`{"a":`, 10_000), "!size"},
		{"v:string?", `"w":tru`, "!syntax"},
		{"v:string?", `"w":01`, "!syntax"},
		{"v:string?", `"w":-`, "!syntax"},
		{"v:string?", `"w":1.`, "!syntax"},
		{"v:string?", `"w":1e`, "!syntax"},
		{"v:string?", `"w":"\x"`, "!syntax"},
		{"v:string?", `"w":"\u12g4"`, "!syntax"},
		{"v:string?", "\"w\":\"a\nb\"", "!syntax"},
		{"v:string?", `"w":1,`, "!syntax"},
	} {
		s := stream(t, schema.JSON, "", "ts:timestamp", c.field)
		d := decoder(t, s, all(s))
		for _, value := range []string{"{" + ts + "," + c.members + "}", " { " + c.members + " , " + strings.Replace(ts, ":", " :\t", 1) + "\r\n}\n"} {
			row, f := decodeOne(t, d, s, value, 0)
			got := ""
			if f != nil {
				got = "!" + f.Reason
			} else {
				got = row[1]
			}
			if got != c.want {
				t.Errorf("%s from %.120s: got %q (%v), want %q", c.field, value, got, f, c.want)
			}
		}
	}
}

func TestWholeRecords(t *testing.T) {
	s := stream(t, schema.JSON, "", "ts:timestamp#unix")
	d := decoder(t, s, all(s))
	for value, want := range map[string]string{
		``:                  ReasonSyntax,
		`  `:                ReasonSyntax,
		`{`:                 ReasonSyntax,
		`{}`:                ReasonMissing,
		`{"ts":1}`:          "",
		`{"ts":1} x`:        ReasonSyntax,
		`{"ts":1}{"ts":1}`:  ReasonSyntax,
		`[{"ts":1}]`:        ReasonType,
		`[{"ts":1}`:         ReasonSyntax,
		`null`:              ReasonType,
		`"text"`:            ReasonType,
		"\ufeff{\"ts\":1}":  ReasonSyntax,
		`{"ts":1,"ts":"x"}`: ReasonType,
		`{"ts":1,}`:         ReasonSyntax,
		`{ts:1}`:            ReasonSyntax,
	} {
		_, f := decodeOne(t, d, s, value, 0)
		if got := reason(f); got != want {
			t.Errorf("%q: got %v, want reason %q", value, f, want)
		}
	}
	d, err := New(s, nil, Options{MaxRecord: 10})
	if err != nil {
		t.Fatal(err)
	}
	var f Failure
	d.Decode(batch(s, nil), event.Origin{}, []source.Record{{Value: []byte(`{"ts":1   }`)}}, func(_ *source.Record, fail Failure) { f = fail })
	if f.Reason != ReasonSize {
		t.Errorf("a record over the limit: %v", f)
	}
}

func reason(f *Failure) string {
	if f == nil {
		return ""
	}
	return f.Reason
}

func batch(s *schema.Stream, project []int) *event.Batch {
	b := new(event.Batch)
	b.Reset(s.Schema, project)
	return b
}

func TestFailures(t *testing.T) {
	s := stream(t, schema.JSON, "", "ts:timestamp#unix", "amount:decimal(2)", "card:string?", "at:timestamp?#%Y-%m-%d %H:%M:%S")
	s.MaxAhead = time.Minute
	d := decoder(t, s, all(s))
	for _, c := range []struct {
		value string
		want  Failure
	}{
		{`{"ts":1,"amount":"x1"}`, Failure{ReasonType, "amount", `expected decimal(2), found "x1"`, 19}},
		{`{"ts":1,"amount":1.234}`, Failure{ReasonType, "amount", `expected decimal(2), found 1.234, which has more decimal places`, 18}},
		{`{"ts":1,"amount":"4111 1111 1111 1111"}`, Failure{ReasonType, "amount", `expected decimal(2), found a string of 19 bytes`, 19}},
		{`{"ts":1,"amount":4111111111111111111111}`, Failure{ReasonType, "amount", `expected decimal(2), found a number of 22 bytes, which is out of range`, 18}},
		{`{"ts":1,"amount":1,"card":[1]}`, Failure{ReasonType, "card", `expected string, found an array`, 27}},
		{`{"ts":1}`, Failure{ReasonMissing, "amount", `member "amount" is absent, expected decimal(2)`, 0}},
		{`{"ts":1,"amount":null}`, Failure{ReasonMissing, "amount", `member "amount" is null, expected decimal(2)`, 0}},
		{`{"ts":1 "amount":1}`, Failure{ReasonSyntax, "", `expected a comma or the end of the object, found '"'`, 9}},
		{`{"ts":1,"amount":1`, Failure{ReasonSyntax, "", `expected a comma or the end of the object, found the end of the record`, 19}},
		{`{"ts":61,"amount":1}`, Failure{ReasonTime, "ts", `the event time 1970-01-01T00:01:01Z is more than 1m0s ahead of the record's 1970-01-01T00:00:00Z`, 7}},
		{`{"ts":1,"amount":1,"at":"2018-04-01"}`, Failure{ReasonType, "at", `expected a time as %Y-%m-%d %H:%M:%S, found "2018-04-01"`, 26}},
	} {
		_, f := decodeOne(t, d, s, c.value, 0)
		if f == nil || *f != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.value, f, c.want)
		}
	}
	if _, f := decodeOne(t, d, s, `{"ts":60,"amount":1}`, 0); f != nil {
		t.Errorf("exactly max_ahead: %v", f)
	}
	if _, f := decodeOne(t, d, s, `{"ts":99999,"amount":1}`, -1); f != nil {
		t.Errorf("a record without a timestamp: %v", f)
	}
}

func TestSameMemberTwice(t *testing.T) {
	s := stream(t, schema.JSON, "", "ts:timestamp@when", "raw:string@when")
	row, f := decodeOne(t, decoder(t, s, all(s)), s, `{"when":"2018-04-01 00:00:31"}`, 0)
	if want := []string{"2018-04-01T00:00:31Z", "2018-04-01 00:00:31"}; f != nil || !reflect.DeepEqual(row, want) {
		t.Errorf("got %q, %v, want %q", row, f, want)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		s    *schema.Stream
		want string
	}{
		{stream(t, schema.JSON, "", "ts:timestamp", "a:string", "b:string@a.b"), "lead through one another"},
		{stream(t, schema.JSON, "", "ts:timestamp", "b:string@a.b", "a:string"), "lead through one another"},
		{stream(t, schema.JSON, "", "ts:timestamp#%Q"), `field ts: layout "%Q": unknown directive "%Q"`},
		{stream(t, schema.CSV, "a,b", "ts:timestamp@c"), `no column "c": expected one of a, b`},
		{stream(t, schema.CSV, "a,a", "ts:timestamp@a"), `column "a" is declared twice`},
		{stream(t, "xml", "", "ts:timestamp"), `format "xml"`},
		{stream(t, schema.JSON, "", "ts:string"), "must be a timestamp"},
	} {
		_, err := New(c.s, nil, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// TestUnforeseenMembers decodes objects whose order of members never settles,
// with more undeclared names than are kept.
func TestUnforeseenMembers(t *testing.T) {
	s := stream(t, schema.JSON, "", "ts:timestamp#unix", "v:int64@o.v")
	d := decoder(t, s, all(s))
	for i := range 2000 {
		extra := fmt.Sprintf(`"extra%d":[%d,{"v":2}]`, i, i)
		value := fmt.Sprintf(`{%s,"ts":%d,"o":{%s,"v":%d}}`, extra, i, extra, i)
		if i%3 == 0 {
			value = fmt.Sprintf(`{"o":{"v":%d,%s},%s,"ts":%d}`, i, extra, extra, i)
		}
		row, f := decodeOne(t, d, s, value, 0)
		if f != nil || row[1] != fmt.Sprint(i) {
			t.Fatalf("%s: got %q, %v", value, row, f)
		}
	}
	if n := len(d.json.members); n > maxLearned+10 {
		t.Errorf("%d names are kept, more than %d", n, maxLearned)
	}
}

func TestCSVRows(t *testing.T) {
	s := stream(t, schema.CSV, "ts,unused,v,n", "ts:timestamp#unix", "v:string?", "n:decimal(2)?")
	d := decoder(t, s, all(s))
	for line, want := range map[string]string{
		`1,,a,2.5`:           "a|2.50",
		"1,,a,2.5\r\n":       "a|2.50",
		"1,,a,2.5\n":         "a|2.50",
		`1,,,`:               "<null>|<null>",
		`1,,"",""`:           "<null>|<null>",
		`1,"x""y","a,""b""\`: "!syntax",
		`1,"x","a,""b""",1`:  `a,"b"|1.00`,
		"1,,\"a\r\nb\",1":    "a\r\nb|1.00",
		`1,,a"b,1`:           "!syntax",
		`1,,"a"b,1`:          "!syntax",
		"1,,a\nb,1":          "!syntax",
		`1,,a`:               "!syntax",
		`1,,a,1,`:            "!syntax",
		`,,a,1`:              "!missing",
		`1,,a,x`:             "!type",
		"1,,\xff,1":          "!encoding",
		"1,\xff,a,1":         "a|1.00",
		``:                   "!syntax",
		"\n":                 "!syntax",
	} {
		row, f := decodeOne(t, d, s, line, 0)
		got := ""
		if f != nil {
			got = "!" + f.Reason
		} else {
			got = row[1] + "|" + row[2]
		}
		if got != want {
			t.Errorf("%q: got %q (%v), want %q", line, got, f, want)
		}
	}
}

func TestOrigins(t *testing.T) {
	s := stream(t, schema.JSON, "", "ts:timestamp#unix")
	d := decoder(t, s, nil)
	b := batch(s, nil)
	rec := func(o int64, v string) source.Record { return source.Record{Offset: o, Value: []byte(v)} }
	bad := 0
	count := func(*source.Record, Failure) { bad++ }
	p0, p1 := event.Origin{Topic: "t"}, event.Origin{Topic: "t", Partition: 1}
	d.Decode(b, p0, []source.Record{rec(5, `{"ts":1}`), rec(6, `{`), rec(7, `{"ts":2}`)}, count)
	if len(b.Origin) != 1 || b.Len() != 2 || b.Offset[1] != 7 || b.Time[1] != 2e9 {
		t.Fatalf("one partition: %+v", b)
	}
	d.Decode(b, p1, []source.Record{rec(0, `{"ts":3}`), rec(1, `{"ts":4}`)}, count)
	d.Decode(b, p0, []source.Record{rec(8, `{"ts":5}`)}, count)
	if want := []event.Origin{p0, p0, p1, p1, p0}; !reflect.DeepEqual(b.Origin, want) {
		t.Errorf("origins %v, want %v", b.Origin, want)
	}
	if bad != 1 {
		t.Errorf("%d failures, want 1", bad)
	}
}

// TestSensitiveIsNotQuoted: a failure tells what was found, but not of a sensitive
// field.
func TestSensitiveIsNotQuoted(t *testing.T) {
	for _, f := range []schema.Field{{Sensitive: schema.Mask}, {FreeText: true}, {}} {
		s := &schema.Stream{Format: schema.JSON, Schema: &event.Schema{Stream: "s", Key: -1, ID: -1, Fields: []event.Field{
			{Name: "at", Type: event.Type{Kind: event.Timestamp}}, {Name: "pin", Type: event.Type{Kind: event.String}}}},
			Fields: []schema.Field{{Layout: "unix"}, f}}
		d, err := New(s, nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var b event.Batch
		b.Reset(s.Schema, nil)
		var detail string
		d.Decode(&b, event.Origin{}, []source.Record{{Value: []byte(`{"at":1,"pin":4711}`)}}, func(_ *source.Record, f Failure) { detail = f.Detail })
		if sensitive := f.Sensitive != "" || f.FreeText; strings.Contains(detail, "4711") == sensitive || detail == "" {
			t.Errorf("%+v: %q", f, detail)
		}
	}
}
