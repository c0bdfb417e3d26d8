package table

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

func TestCSVMistakes(t *testing.T) {
	for _, c := range []struct {
		d    *Definition
		text string
		want string
	}{
		{namesList, "", `names.csv:1:1: the file is empty: expected a line that names the columns (the first line is "value")`},
		{namesList, "m1\nm2\n", `names.csv:1:1: list names has no field "m1" (the first line names the columns: value, and where wanted _expires and _reason)`},
		{namesList, "value,_expires\na,2026-01-31T00:00:00Z\nb,tomorrow\n", `names.csv:3:3: _expires: found "tomorrow", expected a time such as 2026-01-31T12:00:00Z`},
		{numbers, "value\n1\n2\nthree\n", `names.csv:4:1: value: found "three", expected a whole number of at most 64 bits`},
		{numbers, "value\n1\n01\n", `names.csv:3:1: the key stands there twice: the first is on line 2`},
		{numbers, "value\n1,2\n", `names.csv:2:1: found 2 cells, expected 1`},
		{numbers, "value\n\"1\n", `not CSV that can be read`},
		{namesList, "value\n\xff\n", `is not valid UTF-8`},
		{merchants, "country,no,categry,risk,open\n", `names.csv:1:12: table merchants has no field "categry" (did you mean "category"?)`},
		{merchants, "country,no,category,risk\n", `names.csv:1:1: open: the file has no column "open"`},
		{merchants, "country,no,risk,open,fee\nDE,1,5,true,1.234\n", `names.csv:2:13: fee: found "1.234", expected a decimal(2)`},
		{merchants, "country,no,risk,open\nDE,1,,true\n", `names.csv:2:6: risk: found "", expected a whole number`},
	} {
		_, err := ReadCSV(strings.NewReader(c.text), "names.csv", c.d, ',')
		var ps schema.Problems
		if !errors.As(err, &ps) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

// TestSync loads a file, then another, and wants only the difference written; and
// what is exported read back the same.
func TestSync(t *testing.T) {
	l := newFakeLog(rand.New(rand.NewPCG(1, 1)))
	s := openStore(t, l)
	d := *merchants
	d.Source = "csv:m.csv"
	sync := func(text string) Result {
		t.Helper()
		entries, err := ReadCSV(strings.NewReader(text), "m.csv", &d, 0)
		if err != nil {
			t.Fatal(err)
		}
		res, err := s.Sync(t.Context(), &d, entries)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	const head = "\ufeffno,country,risk,open,fee,_expires,_reason\n"
	if res := sync(head + "1,DE,3,true,1.50,,\"a, b\"\n2,DE,4,false,,2026-01-31T00:00:00Z,\n3,FR,5,true,,,\n"); res.Changed != 4 {
		t.Errorf("%d changes, want the declaration and three", res.Changed)
	}
	if res := sync(head + "1,DE,3,true,1.50,,\"a, b\"\n2,DE,9,false,,2026-01-31T00:00:00Z,\n4,FR,5,true,,,\n"); res.Changed != 3 {
		t.Errorf("%d changes, want one of each kind", res.Changed)
	}
	n := len(l.recs)
	var out bytes.Buffer
	if err := WriteCSV(&out, &d, s.Head().Table("merchants").Page(nil, 10, nil), true); err != nil {
		t.Fatal(err)
	}
	const want = "country,no,category,risk,fee,open,_expires,_reason\nDE,1,,3,1.50,true,,\"a, b\"\nDE,2,,9,,false,2026-01-31T00:00:00Z,\nFR,4,,5,,true,,\n"
	if out.String() != want {
		t.Errorf("exported\n%s\nwant\n%s", out.String(), want)
	}
	if res := sync(out.String()); res.Changed != 0 || len(l.recs) != n {
		t.Errorf("%d changes, %d records after the export was loaded", res.Changed, len(l.recs)-n)
	}
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("country,no,risk,open,fee,_expires\nDE,1,5,true,1.23,2026-01-31T00:00:00Z\n"))
	f.Add([]byte("value\n\"a\nb\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, d := range []*Definition{namesList, merchants} {
			entries, err := ReadCSV(bytes.NewReader(text), "f.csv", d, ',')
			if err != nil {
				var ps schema.Problems
				if !errors.As(err, &ps) || len(ps) == 0 || ps[0].Line < 1 {
					t.Errorf("%v names no line", err)
				}
				continue
			}
			e := emptyView.edit()
			if err := e.apply(&Change{Op: OpDeclare, Definition: d}); err != nil {
				t.Fatal(err)
			}
			for i := range entries {
				if err := e.apply(&Change{Op: OpPut, Table: d.Name, Entry: entries[i]}); err != nil {
					t.Fatal(err)
				}
			}
			if got := e.view(1).Table(d.Name).Len(); got != int64(len(entries)) {
				t.Errorf("%d entries of %d lines", got, len(entries))
			}
		}
	})
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte(`{"country":"DE","no":1,"risk":"7","open":true,"fee":"1.20","_expires":"2026-01-31T00:00:00Z","_reason":"x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		entry, err := ParseEntry(merchants, text)
		if err != nil {
			var p *schema.Problem
			if !errors.As(err, &p) {
				t.Errorf("%v is no Problem", err)
			}
			return
		}
		e := emptyView.edit()
		entry.Since = event.Time(1)
		if err := e.apply(&Change{Op: OpDeclare, Definition: merchants}); err != nil {
			t.Fatal(err)
		}
		if err := e.apply(&Change{Op: OpPut, Table: "merchants", Entry: entry}); err != nil {
			if !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		rows := e.view(1).Table("merchants").Page(nil, 1, nil)
		again, err := ParseEntry(merchants, withoutMeta(rows[0].AppendJSON(nil)))
		if err != nil {
			t.Fatalf("%s: %v", rows[0].AppendJSON(nil), err)
		}
		if dumpEntry(merchants, &again) != dumpEntry(merchants, &entry) {
			t.Errorf("%s\n%s", dumpEntry(merchants, &again), dumpEntry(merchants, &entry))
		}
	})
}

// withoutMeta leaves out what only an answer has.
func withoutMeta(text []byte) []byte {
	return bytes.Replace(text, []byte(`,"_since":"1970-01-01T00:00:00.000000001Z"`), nil, 1)
}
