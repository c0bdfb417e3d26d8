package protect

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
)

// nestedStream has a sensitive string in each kind of nesting.
func nestedStream(t testing.TB) *schema.Stream {
	s := testStream(schema.JSON)
	add := func(name, typ string, f schema.Field) {
		ty, err := event.ParseType(typ)
		if err != nil {
			t.Fatal(err)
		}
		s.Schema.Fields = append(s.Schema.Fields, event.Field{Name: name, Type: ty, Optional: true})
		s.Fields = append(s.Fields, f)
	}
	is := func(p schema.Policy) schema.Field { return schema.Field{Sensitive: p} }
	within := func(f ...schema.Field) schema.Field { return schema.Field{Members: f} }
	add("payer", "struct(iban string, name string, id int64, more struct(pin string?))", within(is(schema.HMAC), schema.Field{Sensitive: schema.Encrypt, From: "fullName"}, schema.Field{}, within(is(schema.Drop))))
	add("phones", "list(string)", within(is(schema.Mask)))
	add("accounts", "map(string)", within(is(schema.HMAC)))
	add("people", "list(struct(name string, aliases list(string), notes map(string)))", within(within(is(schema.HMAC), within(is(schema.HMAC)), within(schema.Field{FreeText: true}))))
	add("whole", "list(string)", is(schema.Drop))
	return s
}

const nestedRecord = `{"ts":"2018-04-01T00:00:31Z","card":"c1","payer":{"iban":"SECRET-iban","fullName":"SECRET-name","id":7,"more":{"pin":"SECRET-pin"}},` +
	`"phones":["SECRET-phone1","SECRET-phone2"],"accounts":{"main":"SECRET-acct"},"people":[{"name":"SECRET-p1","aliases":["SECRET-a1","SECRET-a2"],"notes":{"n":"paid by 4111111111111111"}}],"whole":["SECRET-w"]}`

func leaksNested(s string) bool {
	return strings.Contains(s, "SECRET-") || strings.Contains(s, "4111111111111111")
}

func TestNestedPolicies(t *testing.T) {
	s := nestedStream(t)
	p := newTestProtector(t, s)
	got := one(t, p, "pay", nestedRecord)
	if leaksNested(got) {
		t.Fatalf("in the clear: %s", got)
	}
	for _, want := range []string{
		`"iban":"` + token(p, "SECRET-iban") + `"`, `"fullName":"e1.`, `"id":7`, `"more":{"pin":null}`, `"phones":["*********one1","*********one2"]`,
		`"accounts":{"main":"` + token(p, "SECRET-acct") + `"}`, `"aliases":["` + token(p, "SECRET-a1") + `","`, `"notes":{"n":"paid by 411111******1111"}`, `"whole":null`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	d, err := decode.New(s, nil, decode.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b event.Batch
	b.Reset(s.Schema, nil)
	d.Decode(&b, event.Origin{}, []source.Record{{Value: []byte(got)}}, func(_ *source.Record, f decode.Failure) { t.Errorf("what is kept does not decode: %v", f) })
}

// TestNestedNeverInTheClear cuts the record everywhere, and puts other values in the
// place of each list, map and struct.
func TestNestedNeverInTheClear(t *testing.T) {
	p := newTestProtector(t, nestedStream(t))
	for n := 1; n < len(nestedRecord); n++ {
		if got := one(t, p, "pay", nestedRecord[:n]); leaksNested(strings.ReplaceAll(got, "SECRET-w", "")) || strings.Contains(got, "SECRET-w") {
			t.Fatalf("cut at %d: %s", n, got)
		}
	}
	for _, field := range []string{"payer", "phones", "accounts", "people"} {
		for _, value := range []string{`"SECRET-x"`, `["SECRET-x"]`, `{"a":"SECRET-x"}`, `[["SECRET-x"]]`, `[{"b":["SECRET-x"]}]`, `{"a":{"b":"SECRET-x"}}`, `{"iban":["SECRET-x"]}`, `{"more":"SECRET-x"}`,
			`[{"aliases":"SECRET-x"}]`, `[{"aliases":{"a":"SECRET-x"}}]`, `[{"notes":"4111 1111 1111 1111"}]`} {
			got := one(t, p, "pay", fmt.Sprintf(`{"ts":"2018-04-01T00:00:31Z","card":"c1",%q:%s}`, field, value))
			// A member that nobody declared is not known to be sensitive.
			undeclared := field == "payer" && strings.HasPrefix(value, `{"a"`) || field == "people" && strings.Contains(value, `"b"`)
			if leaksNested(got) && !undeclared {
				t.Errorf("%s: %s is kept as %s", field, value, got)
			}
		}
	}
}

func TestNestedCheck(t *testing.T) {
	s := nestedStream(t)
	if faults := Check(s); len(faults) > 0 {
		t.Fatalf("%+v", faults)
	}
	s.Fields[8].Members[2].Sensitive = schema.Mask // an int64
	s.Fields[8].Members[3].Members[0].FreeText = true
	s.Fields[11].Members[0].Members[1].Members[0].Sensitive = schema.Drop // of an element that is not optional
	s.Schema.Fields[11].Type.Elem().Type.Fields[0].Name = "cvv2"
	var got []string
	for _, f := range Check(s) {
		got = append(got, fmt.Sprintf("%d%v %s", f.Field, f.Path, f.Message))
	}
	want := []string{"8[2] what mask leaves of a value is a text; this field is a int64", "8[3 0] is both sensitive and free_text",
		`11[0 0] "cvv2" is the name of card`, "11[0 1 0] a field whose value is dropped must be optional"}
	for i := range want {
		if i >= len(got) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// FuzzNested: no input makes it panic, a record that is no good one has no card
// number left, and what it made it does not change again where that parses.
func FuzzNested(f *testing.F) {
	const pan = "4111111111111111"
	for _, seed := range []string{strings.ReplaceAll(nestedRecord, "SECRET-", "#"), `{"payer":[{"iban":"#"}],"people":[{"name":"#`, `{"people":[{"aliases":["#"],"notes":{"#":"#"}}]}`,
		`{"accounts":{"#":"#","a":{"b":"#"}},"phones":"#"}`, `{"x":1" "iban":"#","name":{"a":["#"]}}`, `{'phones':['#'],'pin':'#'}`, "{\x00\"\x00p\x00i\x00n\x00\"\x00:\x00\"\x00#\x00\"\x00}\x00"} {
		f.Add(seed)
	}
	s := nestedStream(f)
	p := newTestProtector(f, s)
	d, err := decode.New(s, nil, decode.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, shape string) {
		value := strings.ReplaceAll(shape, "#", pan)
		got := one(t, p, "pay", value)
		var b event.Batch
		b.Reset(s.Schema, nil)
		d.Decode(&b, event.Origin{}, []source.Record{{Value: []byte(got)}}, func(*source.Record, decode.Failure) {})
		if b.Len() == 0 && strings.Contains(got, pan) {
			t.Fatalf("%q became %q", value, got)
		}
		if b.Len() == 1 {
			if again := one(t, p, "pay", got); again != got {
				t.Fatalf("%q became %q, and that %q", value, got, again)
			}
		}
	})
}
