package decode

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/test/seeds"
)

func nestedStream(t testing.TB) *schema.Stream {
	return stream(t, schema.JSON, "", "ts:timestamp#unix", "tags:list(string?)?", "attrs:map(int64)?", "geo:struct(lat double, lon double?)?",
		"items:list(struct(sku string, price decimal(2), more map(list(int64))?, raw bytes?, ok bool?))?", "deep:map(struct(a list(timestamp?)))?")
}

// member is one member of an object, in the order of the text.
type rawMember struct {
	name  string
	value json.RawMessage
}

func members(t testing.TB, raw json.RawMessage) (out []rawMember) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		m := rawMember{name: name.(string)}
		if err := dec.Decode(&m.value); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// oracleNested converts a value by encoding/json, element by element: to the text
// that Column.AppendJSON gives, or to the reason and the path of the failure.
func oracleNested(t testing.TB, f event.Field, raw json.RawMessage, path string) (text, reason, at string, err error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		if f.Optional {
			return "null", "", "", nil
		}
		return "", ReasonMissing, path, nil
	}
	var parts []string
	each := func(prefix string, f event.Field, raw json.RawMessage, path string) bool {
		var one string
		if one, reason, at, err = oracleNested(t, f, raw, path); reason != "" || err != nil {
			return false
		}
		parts = append(parts, prefix+one)
		return true
	}
	switch kind := f.Type.Kind; {
	case kind == event.List && raw[0] == '[':
		var els []json.RawMessage
		if err := json.Unmarshal(raw, &els); err != nil {
			t.Fatal(err)
		}
		for i, el := range els {
			if !each("", *f.Type.Elem(), el, fmt.Sprintf("%s[%d]", path, i)) {
				return "", reason, at, err
			}
		}
		return "[" + strings.Join(parts, ",") + "]", "", "", nil
	case kind == event.Map && raw[0] == '{':
		all, seen := members(t, raw), map[string]bool{}
		for _, m := range all {
			if seen[m.name] {
				return "", ReasonType, fmt.Sprintf("%s[%q]", path, m.name), nil
			}
			seen[m.name] = true
		}
		for _, m := range all {
			if !each(string(event.AppendJSONString(nil, m.name))+":", *f.Type.Elem(), m.value, fmt.Sprintf("%s[%q]", path, m.name)) {
				return "", reason, at, err
			}
		}
		return "{" + strings.Join(parts, ",") + "}", "", "", nil
	case kind == event.Struct && raw[0] == '{':
		values := map[string]json.RawMessage{} // of equal ones the last
		for _, m := range members(t, raw) {
			values[m.name] = m.value
		}
		for _, m := range f.Type.Fields {
			if !each(fmt.Sprintf("%q:", m.Name), m, values[m.Name], path+"."+m.Name) {
				return "", reason, at, err
			}
		}
		return "{" + strings.Join(parts, ",") + "}", "", "", nil
	case kind >= event.List || raw[0] == '{' || raw[0] == '[':
		return "", ReasonType, path, nil
	}
	return oracleLeaf(t, f.Type, raw, path)
}

func oracleLeaf(t testing.TB, ty event.Type, raw json.RawMessage, path string) (text, reason, at string, err error) {
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	s, quoted := fmt.Sprint(v), false
	switch v.(type) {
	case bool:
		if ty.Kind != event.Bool {
			return "", ReasonType, path, nil
		}
	case string:
		quoted = true
	}
	if text, reason, err = oracleValue(ty, "", s, quoted); reason != "" || err != nil {
		return "", reason, path, err
	}
	switch ty.Kind {
	case event.Bytes:
		text = base64.StdEncoding.EncodeToString([]byte(text))
	case event.Bool, event.Int64, event.Double:
		return text, "", "", nil
	}
	return string(event.AppendJSONString(nil, text)), "", "", nil
}

// checkNested decodes a record and compares with the oracle: row, reason, path.
func checkNested(t *testing.T, s *schema.Stream, used *Decoder, value []byte) (outcome string) {
	t.Helper()
	row, f := decodeOne(t, used, s, string(value), 0)
	fresh, f2 := decodeOne(t, decoder(t, s, all(s)), s, string(value), 0)
	if !reflect.DeepEqual(row, fresh) || !reflect.DeepEqual(f, f2) {
		t.Errorf("%q: a used decoder gives %q, %v, a fresh one %q, %v", value, row, f, fresh, f2)
	}
	bare, bad := batch(s, nil), 0
	decoder(t, s, nil).Decode(bare, event.Origin{}, []source.Record{{Value: value}}, func(*source.Record, Failure) { bad++ })
	if bare.Len()+bad != 1 || (bad == 1) != (f != nil) {
		t.Errorf("%q: without a projection %d rows and %d failures, with all fields %v", value, bare.Len(), bad, f)
	}
	var root map[string]json.RawMessage
	if !utf8.Valid(value) || bytes.Contains(bytes.ToLower(value), []byte(`\u`)) || json.Unmarshal(value, &root) != nil || root == nil || depth(value) > MaxDepth {
		return "other" // FuzzJSON's
	}
	var want []string
	reason, at := "", ""
	for i, fd := range s.Schema.Fields {
		var text string
		var err error
		if i == s.Schema.Time {
			want = append(want, rowOf(row, 0)) // its layout is not the oracle's
			if f != nil && f.Field == fd.Name {
				return "time"
			}
			continue
		}
		if text, reason, at, err = oracleNested(t, fd, root[fd.Name], fd.Name); errors.Is(err, errSkip) {
			return "skipped"
		}
		if reason != "" {
			break
		}
		if text == "null" {
			text = "<null>"
		}
		want = append(want, text)
	}
	if reason != "" {
		want = nil
	}
	got := ""
	if f != nil {
		got = f.Reason + " " + f.Field
	}
	expected := strings.TrimSpace(reason + " " + at)
	if mayHide := strings.Contains(got, "[entry "); !reflect.DeepEqual(row, want) || got != expected && !mayHide {
		t.Errorf("%s:\n got %q, %v\nwant %q, %s", value, row, f, want, expected)
	}
	return reason
}

func rowOf(row []string, i int) string {
	if i < len(row) {
		return row[i]
	}
	return ""
}

var nestedSeeds = []string{
	`{"ts":1,"tags":["a",null,"é\n"],"attrs":{"a":1,"b":2},"geo":{"lat":1.5,"lon":null},"items":[{"sku":"x","price":1.50,"more":{"k":[1,2],"l":[]}},{"price":"2","sku":"y","raw":"aGk=","ok":true}],"deep":{"k":{"a":["2018-04-01T00:00:31Z",null]}}}`,
	`{"ts":1,"tags":[],"attrs":{},"items":[],"geo":{"lon":1,"lat":2,"lat":3}}`, `{"ts":1,"attrs":{"a":1,"a":2}}`, `{"ts":1,"attrs":{"a":null}}`, `{"ts":1,"geo":{}}`, `{"ts":1,"geo":[]}`,
	`{"ts":1,"tags":{"a":1}}`, `{"ts":1,"items":[null]}`, `{"ts":1,"items":[{"sku":"a","price":1},{"sku":"b","price":1.555}]}`, `{"ts":1,"items":[{"sku":"a","price":1,"more":{"k":[1,"x"]}}]}`,
	`{"ts":1,"deep":{"4111111111111111":{"a":[1]}}}`, `{"ts":1, "tags" : [ "a" , "b" ] , "attrs" : { "a" : 1 , "b" : 2 } }`,
}

// FuzzNested compares with encoding/json.
func FuzzNested(f *testing.F) {
	for _, seed := range nestedSeeds {
		f.Add([]byte(seed))
	}
	s := nestedStream(f)
	used := decoder(f, s, all(s))
	f.Fuzz(func(t *testing.T, value []byte) { checkNested(t, s, used, value) })
}

func TestNestedAgainstOracle(t *testing.T) {
	r := seeds.Rand(t)
	s := nestedStream(t)
	used := decoder(t, s, all(s))
	outcomes := map[string]int{}
	for range 20_000 {
		var b strings.Builder
		b.WriteString(`{"ts":1`)
		for _, f := range s.Schema.Fields[1:] {
			if r.IntN(3) > 0 {
				fmt.Fprintf(&b, `,%q:%s`, f.Name, randomValue(r, f.Type))
			}
		}
		b.WriteString("}")
		if outcomes[checkNested(t, s, used, []byte(b.String()))]++; t.Failed() {
			return
		}
	}
	t.Logf("outcomes: %v", outcomes)
	for _, outcome := range []string{"", ReasonType, ReasonMissing} {
		if outcomes[outcome] < 500 {
			t.Errorf("only %d records with outcome %q: the test does not test it", outcomes[outcome], outcome)
		}
	}
}

// randomValue is a value of a type, now and then of another.
func randomValue(r *rand.Rand, ty event.Type) string {
	if r.IntN(35) == 0 {
		return []string{"null", "null", "1", `"text"`, "true", "[]", "{}", "1.005", `{"a":[]}`}[r.IntN(9)]
	}
	space := []string{"", "", " "}[r.IntN(3)]
	var parts []string
	switch ty.Kind {
	case event.Bool:
		return []string{"true", "false", "1"}[r.IntN(3)]
	case event.Timestamp:
		return `"2018-04-01T00:00:31Z"`
	case event.Bytes:
		return `"aGk="`
	case event.String:
		return []string{`""`, `"sku-1"`, `"é\t\""`}[r.IntN(3)]
	case event.List:
		for range r.IntN(4) {
			parts = append(parts, randomValue(r, ty.Elem().Type))
		}
		return "[" + space + strings.Join(parts, space+","+space) + space + "]"
	case event.Map:
		for range r.IntN(4) {
			parts = append(parts, fmt.Sprintf(`"k%d"%s:%s%s`, r.IntN(40), space, space, randomValue(r, ty.Elem().Type)))
		}
	case event.Struct:
		for _, i := range r.Perm(len(ty.Fields)) {
			if f := ty.Fields[i]; !f.Optional || r.IntN(2) == 0 {
				parts = append(parts, fmt.Sprintf(`"%s":%s`, f.Name, randomValue(r, f.Type)))
			}
		}
		if r.IntN(4) == 0 {
			parts = append(parts, `"undeclared":[{"x":1}]`)
		}
	default:
		return []string{"0", "1", "-7", "12", `"3"`, "1e2"}[r.IntN(6)]
	}
	return "{" + space + strings.Join(parts, space+","+space) + space + "}"
}

func TestNestedFailures(t *testing.T) {
	s := nestedStream(t)
	d := decoder(t, s, all(s))
	many := `{"ts":1,"tags":[` + strings.Repeat(`"a",`, MaxElements) + `"a"]}`
	for value, want := range map[string]string{
		`{"ts":1,"items":[{"sku":"a","price":1},{"sku":"b","price":2},{"sku":"c","price":"dear"}]}`: `type in field items[2].price at column 82: expected decimal(2), found "dear"`,
		`{"ts":1,"items":[{"sku":"a"}]}`:                                `missing in field items[0].price: member "price" is absent, expected decimal(2)`,
		`{"ts":1,"items":[null]}`:                                       `missing in field items[0]: is null, expected struct(`,
		`{"ts":1,"attrs":{"a":1,"a":2}}`:                                `type in field attrs["a"] at column 25: the key stands in the map twice`,
		`{"ts":1,"attrs":{"4111111111111111":"x"}}`:                     `type in field attrs[entry 0] at column 38: expected int64, found "x"`,
		`{"ts":1,"geo":{"lat":1,"lon":"far"}}`:                          `type in field geo.lon at column 31: expected double, found "far"`,
		`{"ts":1,"geo":"here"}`:                                         `type in field geo at column 16: expected an object, found "here"`,
		`{"ts":1,"tags":"a"}`:                                           `type in field tags at column 17: expected an array, found "a"`,
		`{"ts":1,"tags":[["a"]]}`:                                       `type in field tags[0] at column 17: expected string, found an array`,
		many:                                                            `size in field tags at column 16: more than 65536 elements`,
		`{"ts":1,"tags":` + strings.Repeat("[", 70):                     `size at column 79: nested deeper than 64`,
		`{"ts":1,"deep":{"k":{"a":["2018-13-01"]}}}`:                    `type in field deep["k"].a[0] at column`,
		"{\"ts\":1,\"attrs\":{\"\xff\":1}}":                             `encoding in field attrs[entry 0] at column 19: expected UTF-8, found invalid UTF-8`,
		`{"ts":1,"items":[{"sku":"a","price":1,"more":{"k":[1,2.5]}}]}`: `type in field items[0].more["k"][1] at column 54: expected int64, found 2.5`,
	} {
		_, f := decodeOne(t, d, s, value, 0)
		if f == nil || !strings.HasPrefix(f.Error(), want) {
			t.Errorf("%.80s\n got %v\nwant %s", value, f, want)
		}
	}
}

func TestNestedSecretsAreNotQuoted(t *testing.T) {
	s := nestedStream(t)
	s.Fields[4].Members = []schema.Field{{Members: []schema.Field{{Sensitive: schema.HMAC}, {Sensitive: schema.Drop}}}}
	_, f := decodeOne(t, decoder(t, s, all(s)), s, `{"ts":1,"items":[{"sku":12,"price":"much"}]}`, 0)
	if f == nil || f.Field != "items[0].sku" || strings.Contains(f.Detail, "12") {
		t.Errorf("got %v", f)
	}
	s.Schema.Fields[0].Type = event.ListOf(event.Type{Kind: event.Timestamp})
	if _, err := New(s, nil, Options{}); err == nil {
		t.Error("a list is taken for the event's time")
	}
	csv := stream(t, schema.CSV, "ts,tags", "ts:timestamp", "tags:list(string)")
	if _, err := New(csv, nil, Options{}); err == nil || !strings.Contains(err.Error(), "field tags: a list cannot be in a CSV record") {
		t.Errorf("a list in CSV: %v", err)
	}
}

func TestNestedDoesNotAllocate(t *testing.T) {
	s := nestedStream(t)
	recs := make([]source.Record, 100)
	for i := range recs {
		recs[i].Value = []byte(nestedSeeds[0])
	}
	d, dst, project := decoder(t, s, all(s)), batch(s, all(s)), all(s)
	fail := func(r *source.Record, f Failure) { t.Fatalf("%s: %v", r.Value, f) }
	if n := testing.AllocsPerRun(20, func() {
		dst.Reset(s.Schema, project)
		d.Decode(dst, event.Origin{Topic: "t"}, recs, fail)
	}); n != 0 {
		t.Errorf("%v allocations for %d records", n, len(recs))
	}
}

func BenchmarkJSONNested(b *testing.B) {
	s := nestedStream(b)
	recs := make([]source.Record, 1000)
	for i := range recs {
		recs[i].Value = []byte(nestedSeeds[0])
	}
	benchmarkDecode(b, s, all(s), recs)
}
