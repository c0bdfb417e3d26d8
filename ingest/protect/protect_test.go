package protect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/test/seeds"
)

// published are the card numbers that the networks and processors publish for
// tests.
var published = []string{"4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "30569309025904", "3530111333300000",
	"4012888888881881", "4222222222222", "5105105105105100", "2223003122003222", "6200000000000005", "6304000000000000"}

var testKey = Key{ID: "k1", Secret: bytes.Repeat([]byte{7}, SecretMin)}

var text = event.Type{Kind: event.String}

// testStream has a field of each policy.
func testStream(format schema.Format) *schema.Stream {
	s := &schema.Stream{Topic: "pay", Partitions: 1, Format: format, Delimiter: ',',
		Schema: &event.Schema{Stream: "payments", Alias: "tx", Time: 0, Key: 1, ID: -1}}
	add := func(name string, t event.Type, optional bool, f schema.Field) {
		s.Schema.Fields = append(s.Schema.Fields, event.Field{Name: name, Type: t, Optional: optional})
		s.Fields = append(s.Fields, f)
		s.Columns = append(s.Columns, fieldPath(s, len(s.Fields)-1))
	}
	add("ts", event.Type{Kind: event.Timestamp}, false, schema.Field{Layout: "rfc3339"})
	add("card", text, false, schema.Field{Sensitive: schema.HMAC})
	add("holder", text, true, schema.Field{Sensitive: schema.Encrypt, From: "customer.name"})
	add("shown", text, true, schema.Field{Sensitive: schema.Mask})
	add("phone", text, true, schema.Field{Sensitive: schema.Drop})
	add("note", text, true, schema.Field{FreeText: true})
	add("merchant", text, true, schema.Field{})
	add("amount", event.Type{Kind: event.Decimal, Scale: 2}, true, schema.Field{})
	s.Columns = append(s.Columns, "cvv", "extra")
	return s
}

func newTestProtector(t testing.TB, streams ...*schema.Stream) *Protector {
	t.Helper()
	subjects, err := OpenSubjects(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { subjects.Close() })
	p, err := New(streams, Options{Keys: []Key{testKey, {ID: "old", Secret: bytes.Repeat([]byte{9}, SecretMin)}}, Subjects: subjects})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// one is what a record with that value becomes.
func one(t testing.TB, p *Protector, topic, value string) string {
	t.Helper()
	return string(transform(t, p, topic, record.None, record.Record{Timestamp: 5, Value: []byte(value)})[0].Value)
}

func build(t testing.TB, codec record.Codec, recs ...record.Record) []byte {
	t.Helper()
	var b record.Builder
	b.Reset(record.BatchOptions{Codec: codec, ProducerID: 77, ProducerEpoch: 3, BaseSequence: 40})
	for _, r := range recs {
		b.Append(r.Timestamp, r.Key, r.Value, r.Headers)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(batch)
}

// transform checks what Transform promises of every batch, and that doing it twice
// changes nothing.
func transform(t testing.TB, p *Protector, topic string, codec record.Codec, recs ...record.Record) []record.Record {
	t.Helper()
	batch := build(t, codec, recs...)
	before := bytes.Clone(batch)
	out, err := p.Transform(topic, batch)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(batch, before) {
		t.Fatal("the batch given was changed")
	}
	was, err := record.Check(batch)
	if err != nil {
		t.Fatal(err)
	}
	is, err := record.Check(out)
	if err != nil {
		t.Fatal(err)
	}
	was.Length, was.CRC, is.Length, is.CRC = 0, 0, 0, 0
	if was != is {
		t.Fatalf("header %+v, was %+v", is, was)
	}
	again, err := p.Transform(topic, out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out, again) && allParse(p, topic, out, t) {
		t.Fatalf("twice is not once:\n%+v\n%+v", shown(read(t, out)), shown(read(t, again)))
	}
	got := read(t, out)
	if len(got) != len(recs) {
		t.Fatalf("%d records of %d", len(got), len(recs))
	}
	for i := range got {
		if got[i].Timestamp != recs[i].Timestamp || len(got[i].Headers) != len(recs[i].Headers) {
			t.Fatalf("record %d: %+v, was %+v", i, got[i], recs[i])
		}
	}
	return got
}

func read(t testing.TB, batch []byte) []record.Record {
	t.Helper()
	var r record.Reader
	r.Reset(bytes.Clone(batch))
	recs, err := r.ReadBatch(nil)
	if err != nil {
		t.Fatal(err)
	}
	return recs
}

// allParse reports whether every value of the batch is well-formed.
func allParse(p *Protector, topic string, batch []byte, t testing.TB) bool {
	w := p.newWorker()
	w.finding = true
	for _, r := range read(t, batch) {
		var d event.DeadLetter
		if w.plan, w.src = p.topics[topic], r.Value; topic == event.TopicDeadLetters {
			if d.UnmarshalJSON(r.Value) != nil {
				continue
			}
			w.plan, w.src = p.streams[d.Stream], d.Raw
		}
		if w.plan != nil && len(w.src) > 0 && !w.parse() {
			return false
		}
	}
	return true
}

func shown(recs []record.Record) (out []string) {
	for _, r := range recs {
		out = append(out, fmt.Sprintf("%q: %q", r.Key, r.Value))
	}
	return out
}

func token(p *Protector, value string) string { return p.Tokens(value)[0] }

func TestJSON(t *testing.T) {
	p := newTestProtector(t, testStream(schema.JSON))
	h := token(p, "4111111111111111")
	for _, c := range []struct{ name, in, out string }{
		{"hmac", `{"card":"4111111111111111"}`, `{"card":"` + h + `"}`},
		{"hmac of groups", `{"card":"4111 1111-1111 1111"}`, `{"card":"` + h + `"}`},
		{"hmac of a number", `{"card":4111111111111111}`, `{"card":"` + h + `"}`},
		{"hmac of escapes", `{"card":"\u0034111111111111\u00311\u0031"}`, `{"card":"` + h + `"}`},
		{"escaped name", `{"c\u0061rd":"4111111111111111"}`, `{"c\u0061rd":"` + h + `"}`},
		{"all of equal members", `{"card":"4111111111111111","card" : "4111111111111111" }`, `{"card":"` + h + `","card" : "` + h + `" }`},
		{"other fields stay byte for byte", ` { "ts" : "2026-01-01T00:00:00Z", "card":"","amount":1.50,"merchant":"a\u0062 4111111111111111"}  `,
			` { "ts" : "2026-01-01T00:00:00Z", "card":"","amount":1.50,"merchant":"a\u0062 4111111111111111"}  `},
		{"a card where a time is declared", `{"ts":"4111111111111111","merchant":"5555555555554444"}`, `{"ts":"411111******1111","merchant":"555555******4444"}`},
		{"a good record keeps what is declared", `{"ts":"2026-01-01T00:00:00Z","card":"x1","merchant":"5555555555554444"}`, `{"ts":"2026-01-01T00:00:00Z","card":"` + token(p, "x1") + `","merchant":"5555555555554444"}`},
		{"a token stays", `{"card":"` + h + `"}`, `{"card":"` + h + `"}`},
		{"mask of a card", `{"shown":"5555555555554444"}`, `{"shown":"555555******4444"}`},
		{"mask of groups", `{"shown":"5555 5555 5555 4444"}`, `{"shown":"5555 55** **** 4444"}`},
		{"mask of something else", `{"shown":"Zürich 8001"}`, `{"shown":"*******8001"}`},
		{"mask of something short", `{"shown":"1234567"}`, `{"shown":"*******"}`},
		{"drop", `{"phone":"0041 44 555 01 02","note":"x"}`, `{"phone":null,"note":"x"}`},
		{"nulls stay", `{"card":null,"phone":null,"shown":""}`, `{"card":null,"phone":null,"shown":""}`},
		{"an object where a text is declared", `{"card":{"pan":"4111111111111111"}}`, `{"card":null}`},
		{"free text", `{"note":"paid with 4111 1111 1111 1111, not 1234"}`, `{"note":"paid with 4111 11** **** 1111, not 1234"}`},
		{"free text with escapes", `{"note":"\"4111-1111-1111-\u0031111\""}`, `{"note":"\"4111-11**-****-1111\""}`},
		{"undeclared members", `{"x":{"y":["378282246310005",378282246310005, 3.78282246310005e14]},"z":0.1234567890123452}`,
			`{"x":{"y":["378282*****0005","378282*****0005", "378282*****0005"]},"z":0.1234567890123452}`},
		{"undeclared names", `{"cards":{"4111111111111111":1}}`, `{"cards":{"411111******1111":1}}`},
		{"an object in a field of text", `{"merchant":{"pan":"4111111111111111","cvv":"123"}}`, `{"merchant":{"pan":"411111******1111","cvv":null}}`},
		{"verification values", `{"CVV2":"123","a":{"card-cvc":12,"Track_2":["x"]},"cvv_result":"M"}`, `{"CVV2":null,"a":{"card-cvc":null,"Track_2":null},"cvv_result":"M"}`},
		{"track data in any string", `{"merchant":"%B4111111111111111^DOE/JOHN^25121010000?","note":";4111111111111111=25121010000?"}`,
			`{"merchant":"%B411111******1111^********^***********?","note":";411111******1111=***********?"}`},
		{"cut short", `{"card":"4111111111111111","note":"5555555555554444`, `{"card":"` + h + `","note":"555555******4444`},
		{"cut short in a card", `{"x":"4111 1111 1111 111`, `{"x":"4111 11** **** ***`},
		{"cut short in a sensitive value", `{"ts":1,"phone":"0041 44 555`, `{"ts":1,"phone":null`},
		{"not JSON", `card 4111111111111111 exp 12/25`, `card 411111******1111 exp 12/25`},
		{"not an object", `["4111111111111111"]`, `["411111******1111"]`},
		{"digits in escapes, broken", `{"x":"\u0034111111111111111"`, `{"x":"411111******1111"`},
		{"sensitive members after a fault", `{"amount":x,"shown":"Zürich 8001","a":{"phone" : [1,{"b":2}], "note":"n"}}`, `{"amount":x,"shown":null,"a":{"phone" : null, "note":"n"}}`},
		{"after a quote too many", `{"merchant":"x" y","phone":"0041","sh\u006fwn":{"z":"8001"},"k":"phone"}`, `{"merchant":"x" y","phone":null,"sh\u006fwn":null,"k":"phone"}`},
		{"after a fault, without an end", `{"amount":x,"phone":"0041 44`, `{"amount":x,"phone":null`},
		{"in single quotes", `{'phone':'0041','cvv':'123'}`, `{'phone':null,'cvv':null}`},
		{"UTF-16", "{\x00\"\x00p\x00h\x00o\x00n\x00e\x00\"\x00:\x00\"\x000\x000\x004\x001\x00\"\x00,\x00\"\x00x\x00\"\x00:\x001\x00}\x00", `{"phone":null,"x":1}`},
		{"over a fault", `{"amount":4111 1111 1111 1111}`, `{"amount":4111 11** **** 1111}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := one(t, p, "pay", c.in); got != c.out {
				t.Errorf("%s\nbecame %s\nwant   %s", c.in, got, c.out)
			}
		})
	}
}

func TestCSV(t *testing.T) {
	p := newTestProtector(t, testStream(schema.CSV))
	h := token(p, "4111111111111111")
	for _, c := range []struct{ name, in, out string }{
		{"every policy", `2026-01-01T00:00:00Z,4111111111111111,,5555555555554444,044 555,see 4111111111111111,4111111111111111,1.50,123,378282246310005`,
			`2026-01-01T00:00:00Z,` + h + `,,555555******4444,,see 411111******1111,4111111111111111,1.50,,378282*****0005`},
		{"quotes", "t,\"4111 1111 1111 1111\",,\"a \"\"long, name\"\"\",,,\"m\",,,\r\n", "t," + h + `,,"**********ame""",,,"m",,,` + "\r\n"},
		{"too few cells", `t,4111111111111111,x`, `t,` + h + `,` + "E"},
		{"too many cells", `t,4111111111111111,,,,,,,,,5555555555554444`, `t,` + h + `,,,,,,,,,555555******4444`},
		{"a quote within a cell", `t"t,4111111111111111,,,,,4111111111111111,,,`, `t"t,` + h + `,,,,,411111******1111,,,`},
		{"no end of quote", `t,"4111111111111111`, `t,` + h},
		{"two lines", "t,4111111111111111,,,,,,,,\nt,5555555555554444", "t," + h + ",,,,,,,,\nt,555555******4444"},
		{"empty", "\n", "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := one(t, p, "pay", c.in)
			if want, cipher := strings.CutSuffix(c.out, "E"); cipher {
				if !strings.HasPrefix(got, want+"e1.") {
					t.Errorf("%s\nbecame %s", c.in, got)
				}
				return
			}
			if c.name == "no end of quote" && strings.HasPrefix(got, `t,`) && !strings.Contains(got, "1111") {
				return // a token of the broken text
			}
			if got != c.out {
				t.Errorf("%s\nbecame %s\nwant   %s", c.in, got, c.out)
			}
		})
	}
}

func TestKeysAndHeaders(t *testing.T) {
	p := newTestProtector(t, testStream(schema.JSON))
	got := transform(t, p, "pay", record.Zstd,
		record.Record{Timestamp: 9, Key: []byte("4111 1111 1111 1111"), Value: []byte(`{"card":"4111111111111111"}`)},
		record.Record{Timestamp: 3, Key: []byte("4111111111111111")},
		record.Record{Timestamp: 4, Value: []byte{}, Headers: []record.Header{
			{Key: "note", Value: []byte("4111111111111111")}, {Key: "cvv", Value: []byte("123")}, {Key: "5555555555554444"},
			{Key: loadHeader, Value: []byte("411111111111111111111113")}}})
	h := token(p, "4111111111111111")
	if string(got[0].Key) != h || string(got[1].Key) != h {
		t.Errorf("keys %q %q, want %s", got[0].Key, got[1].Key, h)
	}
	if want := `{"card":"` + h + `"}`; string(got[0].Value) != want {
		t.Errorf("value %s, want %s", got[0].Value, want)
	}
	if got[1].Value != nil || got[2].Value == nil || got[2].Key != nil {
		t.Errorf("null and empty are not kept apart: %+v", got[1:])
	}
	if got := fmt.Sprintf("%s", got[2].Headers); got != "[{note 411111******1111} {cvv } {555555******4444 } {weir-load 411111111111111111111113}]" {
		t.Errorf("headers %s", got)
	}
}

// TestOtherKeys: where the key field is not sensitive, keys that repeat it stay
// and others are searched.
func TestOtherKeys(t *testing.T) {
	for _, format := range []schema.Format{schema.JSON, schema.CSV} {
		s := testStream(format)
		s.Schema.Key, s.Fields[2].Subject = 6, false // merchant
		p := newTestProtector(t, s)
		value := `{"ts":"2026-01-01T00:00:00Z","card":"x","merchant":"4111111111111111"}`
		if format == schema.CSV {
			value = `2026-01-01T00:00:00Z,x,,,,,4111111111111111,,,`
		}
		got := transform(t, p, "pay", record.None, record.Record{Key: []byte("4111111111111111"), Value: []byte(value)},
			record.Record{Key: []byte("5555555555554444"), Value: []byte(value)})
		if string(got[0].Key) != "4111111111111111" || string(got[1].Key) != "555555******4444" {
			t.Errorf("%s: keys %s %s", format, got[0].Key, got[1].Key)
		}
	}
}

func TestUntouched(t *testing.T) {
	s := testStream(schema.JSON)
	plain := &schema.Stream{Topic: "plain", Format: schema.JSON, Schema: &event.Schema{Stream: "plain", Key: -1, Fields: s.Schema.Fields[:1]}, Fields: s.Fields[:1]}
	p := newTestProtector(t, s, plain)
	batch := build(t, record.LZ4, record.Record{Value: []byte(`{"note":"nothing here"}`)})
	for _, topic := range []string{"pay", "plain", "unknown"} {
		if topic == "plain" {
			batch = build(t, record.LZ4, record.Record{Value: []byte(`{"card":"4111111111111111"}`)})
		}
		out, err := p.Transform(topic, batch)
		if err != nil || &out[0] != &batch[0] {
			t.Errorf("%s: the batch is not the one given: %v", topic, err)
		}
	}
	if p, err := New([]*schema.Stream{plain}, Options{}); err != nil || p.Active() {
		t.Errorf("active without a sensitive field: %v", err)
	}
}

func TestBadBatches(t *testing.T) {
	p := newTestProtector(t, testStream(schema.JSON))
	good := build(t, record.Gzip, record.Record{Value: []byte(`{"card":"4111111111111111"}`)})
	for at := range good {
		if at < 8 || at >= 12 && at < 16 { // base offset and leader epoch, outside the CRC
			continue
		}
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		if out, err := p.Transform("pay", bad); err == nil {
			t.Errorf("byte %d flipped: accepted as %q", at, out)
		}
	}
	for n := range good {
		if _, err := p.Transform("pay", good[:n]); err == nil {
			t.Errorf("%d bytes: accepted", n)
		}
	}
}

func TestEncrypt(t *testing.T) {
	p := newTestProtector(t, testStream(schema.JSON))
	record := func(card string) (holder string) {
		var v struct{ Customer struct{ Name string } }
		out := one(t, p, "pay", `{"customer":{"name":"Zoë \"Z\""},"card":"`+card+`"}`)
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatal(err)
		}
		return v.Customer.Name
	}
	a, b := record("4111111111111111"), record("4111-1111-1111-1111")
	other := record("5555555555554444")
	if a == b || !strings.HasPrefix(a, "e1.") {
		t.Errorf("ciphertexts %q %q", a, b)
	}
	subject := token(p, "4111111111111111")
	for _, c := range []string{a, b} {
		if got, err := p.Reveal("payments", "holder", subject, c); err != nil || got != `Zoë "Z"` {
			t.Errorf("revealed %q, %v", got, err)
		}
		if _, err := p.Reveal("payments", "shown", subject, c); err == nil {
			t.Error("revealed as another field's")
		}
	}
	if n, err := p.Erase("4111 1111 1111 1111"); n != 1 || err != nil {
		t.Errorf("erased %d, %v", n, err)
	}
	if _, err := p.Reveal("payments", "holder", subject, a); err != ErrErased {
		t.Errorf("after erasure: %v", err)
	}
	if n, err := p.Erase("4111111111111111"); n != 0 || err != nil {
		t.Errorf("erased again %d, %v", n, err)
	}
	if _, err := p.Reveal("payments", "holder", token(p, "5555555555554444"), other); err != nil {
		t.Errorf("another subject: %v", err)
	}
	if n, err := p.Erase(token(p, "5555555555554444")); n != 1 || err != nil {
		t.Errorf("erased by token %d, %v", n, err)
	}
	if out := one(t, p, "pay", `{"customer":{"name":"Zoe"}}`); out != `{"customer":{"name":"****"}}` {
		t.Errorf("without a subject: %s", out)
	}
}

func TestDeadLetters(t *testing.T) {
	p := newTestProtector(t, testStream(schema.JSON))
	for _, raw := range []string{`{"card":"4111111111111111","phone":"044","cvv":1,`, `4111111111111111;x`, "2026-01-01,\"4111-1111-1111-1111\",12"} {
		d := event.DeadLetter{Stream: "payments", Reason: "type", Detail: "found 4111 1111 1111 1111", File: "a.csv", Line: 3, Raw: []byte(raw)}
		var got event.DeadLetter
		if err := got.UnmarshalJSON([]byte(one(t, p, event.TopicDeadLetters, string(d.AppendJSON(nil))))); err != nil {
			t.Fatal(err)
		}
		if leaks(got.Raw) || strings.Contains(string(got.Raw), "044") || got.Detail != "found 4111 11** **** 1111" || got.File != "a.csv" || got.Line != 3 {
			t.Errorf("%s became %+v: %s", raw, got, got.Raw)
		}
	}
	clean := string((&event.DeadLetter{Stream: "payments", Reason: "type", Raw: []byte(`{"ts":1}`)}).AppendJSON(nil))
	if got := one(t, p, event.TopicDeadLetters, clean); got != clean {
		t.Errorf("%s became %s", clean, got)
	}
	if got := one(t, p, event.TopicDeadLetters, "4111111111111111"); got != "411111******1111" {
		t.Errorf("what is no dead letter became %s", got)
	}
}

// leaks reports whether b has a published card number in the clear.
func leaks(b []byte) bool {
	var digits []byte
	for i := 0; i < len(b); i++ {
		if isDigit(b[i]) {
			digits = append(digits, b[i])
		} else if b[i] != ' ' && b[i] != '-' {
			digits = append(digits, '|')
		}
	}
	for _, pan := range published {
		if bytes.Contains(digits, []byte(pan)) {
			return true
		}
	}
	return false
}

func TestPublishedNumbers(t *testing.T) {
	var s searcher
	for _, pan := range published {
		for _, around := range []string{"%s", "a%sb", "1%s", "%s1", "12/25 %s 123", "\"%s\""} {
			b := fmt.Appendf(nil, around, pan)
			if s.cards(b); leaks(b) {
				t.Errorf("%s: left as %s", fmt.Sprintf(around, pan), b)
			}
		}
	}
}

// TestLuhn holds the running sums against the check as the standard words it.
func TestLuhn(t *testing.T) {
	rnd := seeds.Rand(t)
	for range 20000 {
		n := panMin + rnd.IntN(panMax-panMin+1)
		b := make([]byte, n)
		for i := range b {
			b[i] = '0' + byte(rnd.IntN(10))
		}
		sum := 0
		for i := range b {
			d := int(b[n-1-i] - '0')
			if i%2 == 1 {
				if d *= 2; d > 9 {
					d -= 9
				}
			}
			sum += d
		}
		in := string(b)
		var s searcher
		if s.cards(b); sum%10 == 0 && string(b[6:n-4]) != strings.Repeat("*", n-10) {
			t.Fatalf("%s left as %s", in, b)
		}
	}
}

func TestForbidden(t *testing.T) {
	for _, name := range []string{"cvv", "CVV2", "c-v-c", "cvc2", "CardVerificationValue", "card_verification", "track1", "Track-2-Data", "track_data", "pin_block", "pinBlock", "security_code"} {
		want := name != "security_code"
		if Forbidden(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	for _, name := range []string{"", "card", "pin", "track", "tracking", "cvv_result", "cidr", "customer_id", strings.Repeat("cvv", 1000)} {
		if Forbidden(name) {
			t.Errorf("%s is forbidden", name)
		}
	}
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	s := testStream(schema.JSON)
	s.Fields[2] = schema.Field{From: "customer.name"}
	p, err := New([]*schema.Stream{s}, Options{Keys: []Key{testKey}, Registerer: r})
	if err != nil {
		t.Fatal(err)
	}
	one(t, p, "pay", `{"card":"4111111111111111","cvv":1,`)
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if n := testutil.ToFloat64(p.topics["pay"].counts.values[7]); n != 1 {
		t.Errorf("%v refused", n)
	}
}

// FuzzTransform plants a card number in what it is given.
func FuzzTransform(f *testing.F) {
	for _, seed := range []string{`{"card":"#","note":"a # b","x":[#,{"#":"#"}]}`, `{"note":"\u0023 #"}`, `{"card":#`, `t,#,"#",,,"a ""#""",,,#,#`, "%B#^A^1?;#=2512?", `#`, `"#`, `{"ts":"#"`,
		`{"card":{"a":["#"]},"customer":{"name":"#"}}`, `{"phone":"#","card":"h1.k1.#"}`, `[{"card":"#"}]`, `{"a":#.0e0}`, `{"a\u0000#":1}`, `\u00#`, `h1.k1.#111111`, `{"cvv":{"#":`} {
		f.Add(seed, uint8(0), uint8(1))
	}
	streams := map[schema.Format]*schema.Stream{schema.JSON: testStream(schema.JSON), schema.CSV: testStream(schema.CSV)}
	protectors := map[schema.Format]*Protector{}
	decoders := map[schema.Format]*decode.Decoder{}
	for format, s := range streams {
		protectors[format] = newTestProtector(f, s)
		d, err := decode.New(s, nil, decode.Options{})
		if err != nil {
			f.Fatal(err)
		}
		decoders[format] = d
	}
	f.Fuzz(func(t *testing.T, shape string, which, codec uint8) {
		pan := published[int(which)%len(published)]
		value := strings.ReplaceAll(shape, "#", pan)
		for _, format := range []schema.Format{schema.JSON, schema.CSV} {
			p := protectors[format]
			got := transform(t, p, "pay", record.Codec(codec%5), record.Record{Key: []byte(value), Value: []byte(value)}, record.Record{Value: []byte("{}")})
			dead := event.DeadLetter{Stream: "payments", Detail: value, Raw: []byte(value)}
			letter := transform(t, p, event.TopicDeadLetters, record.None, record.Record{Value: dead.AppendJSON(nil)})
			checkDeclared(t, streams[format], decoders[format], value, string(got[0].Value))
			var d event.DeadLetter
			if err := d.UnmarshalJSON(letter[0].Value); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(d.Raw), pan) {
				t.Fatalf("dead letter of %q: raw %q, detail %q", value, d.Raw, d.Detail)
			}
		}
	})
}

// checkDeclared checks that a record which the decoder takes has no card number
// but in the fields that are neither sensitive nor free text, and that those are
// as they were.
func checkDeclared(t *testing.T, s *schema.Stream, d *decode.Decoder, before, after string) {
	t.Helper()
	fields := func(value string) (b event.Batch, ok bool) {
		all := make([]int, len(s.Schema.Fields))
		for i := range all {
			all[i] = i
		}
		d, err := decode.New(s, all, decode.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b.Reset(s.Schema, all)
		d.Decode(&b, event.Origin{}, []record.Record{{Value: []byte(value)}}, func(*record.Record, decode.Failure) {})
		return b, b.Len() == 1
	}
	was, good := fields(before)
	if !good {
		return
	}
	is, good := fields(after)
	if !good {
		t.Fatalf("%q was good, became bad: %q", before, after)
	}
	for i, f := range s.Fields {
		if was.Cols[i].IsNull(0) {
			continue
		}
		old := string(was.Cols[i].AppendText(nil, 0))
		if f.Sensitive == schema.Drop {
			if old != "" && !is.Cols[i].IsNull(0) {
				t.Fatalf("%q is not dropped: %q", before, after)
			}
			continue
		}
		now := string(is.Cols[i].AppendText(nil, 0))
		switch {
		case f.Sensitive == schema.HMAC && old != "" && !strings.HasPrefix(now, "h1.k1.") && !strings.HasPrefix(now, "h1.old."),
			f.Sensitive == schema.Encrypt && old != "" && !strings.HasPrefix(now, "e1.") && now != "****":
			t.Fatalf("%q: field %d is %q", before, i, now)
		case f.Sensitive == "" && !f.FreeText && old != now && !strings.ContainsAny(before, "^="):
			t.Fatalf("%q: field %d was %q, is %q", before, i, old, now)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"0000000000000000620000000000000000000000000000", "4111 1111 1111 1111", "%B4^", ";1=", "4111\u00a01111\u20111111 1111", "0000000000000000000000000000000000000000"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s searcher
		was := bytes.Clone(b)
		s.text(b)
		if len(b) != len(was) {
			t.Fatal("another length")
		}
		for i := range b {
			if b[i] != was[i] && b[i] != '*' {
				t.Fatalf("%q became %q", was, b)
			}
		}
		for _, pan := range published {
			if bytes.Contains(b, []byte(pan)) {
				t.Fatalf("%q is in %q", pan, b)
			}
		}
		masked := bytes.Clone(b)
		if c, n := s.text(masked); c+n > 0 && !bytes.Equal(masked, b) {
			t.Fatalf("%q, once more: %q", b, masked)
		}
	})
}

func BenchmarkTransform(b *testing.B) {
	s := testStream(schema.JSON)
	s.Schema.Fields = s.Schema.Fields[:2]
	s.Fields = s.Fields[:2]
	for i := range 8 {
		s.Schema.Fields = append(s.Schema.Fields, event.Field{Name: fmt.Sprintf("field_%d", i), Type: text})
		s.Fields = append(s.Fields, schema.Field{})
	}
	p := newTestProtector(b, s)
	const rows = 1000
	var recs []record.Record
	for i := range rows {
		v := fmt.Sprintf(`{"ts":"2026-01-01T00:00:00Z","card":"411111111111%04d"`, i)
		for k := range 8 {
			v += fmt.Sprintf(`,"field_%d":"value %d of %d"`, k, k, i)
		}
		recs = append(recs, record.Record{Timestamp: int64(i), Key: fmt.Appendf(nil, "411111111111%04d", i), Value: []byte(v + "}")})
	}
	for _, codec := range []record.Codec{record.None, record.LZ4, record.Zstd} {
		batch := build(b, codec, recs...)
		b.Run(codec.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(batch)))
			for b.Loop() {
				if _, err := p.Transform("pay", batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/record")
		})
	}
}

func TestBase64IsNotSearched(t *testing.T) {
	p := newTestProtector(t, testStream(schema.JSON))
	in := `{"extra":"` + base64.StdEncoding.EncodeToString([]byte("4111111111111111")) + `"}`
	if got := one(t, p, "pay", in); got != in {
		t.Errorf("%s became %s", in, got)
	}
}
