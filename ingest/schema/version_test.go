package schema

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/event"
)

// declare makes a stream of "name:type[?][@from]" texts beside its time.
func declare(t *testing.T, mode Compatibility, fields ...string) *Stream {
	t.Helper()
	s := &Stream{Topic: "tx", Format: JSON, Compatibility: mode, Schema: &event.Schema{Stream: "tx", Time: 0, Key: -1, ID: -1}, Place: Problem{File: "weir.yaml", Line: 3}}
	for i, text := range append([]string{"ts:timestamp"}, fields...) {
		text, from, _ := strings.Cut(text, "@")
		name, typ, _ := strings.Cut(text, ":")
		typ, optional := strings.CutSuffix(typ, "?")
		ty, err := event.ParseType(typ)
		if err != nil {
			t.Fatal(err)
		}
		s.Schema.Fields = append(s.Schema.Fields, event.Field{Name: name, Type: ty, Optional: optional})
		s.Fields = append(s.Fields, Field{From: from, Line: 10 + i, Column: 5})
	}
	return s
}

func TestCompatible(t *testing.T) {
	for _, c := range []struct {
		mode          Compatibility
		before, after string // fields apart by semicolons
		want          string // of the first problem; empty: none
	}{
		{"", "a:int64", "a:int64", ""},
		{"", "a:int64", "a:int64; b:string?", ""},
		{"", "a:int64; b:string", "a:int64", ""},
		{"", "a:int64", "a:decimal(2)", ""},
		{"", "a:int64", "a:double", ""},
		{"", "a:decimal(2)", "a:decimal(4)", ""},
		{"", "a:decimal(2)", "a:double", ""},
		{"", "a:int64", "sum:int64@a", ""},
		{"", "a:int64@x", "b:decimal(2)@x", ""},
		{"", "a:string", "a:string?", ""},
		{"", "g:struct(x int64)", "g:struct(x decimal(2), y string?)", ""},
		{"", "g:list(int64)", "g:list(double?)", ""},
		{"", "a:int64", "a:int64; b:string", `weir.yaml:12:5: streams.tx.fields.b: records of before have no "b", which is not optional (add optional: true)`},
		{"", "amount:int64", "total:int64", `weir.yaml:11:5: streams.tx.fields.total: records of before have no "total", which is not optional (add optional: true, or, where it is "amount" under another name, from: amount)`},
		{"", "a:decimal(2)", "a:decimal(1)", "streams.tx.fields.a: was a decimal(2) and is a decimal(1) now, which records of before may not fit (keep the type"},
		{"", "a:decimal(2)", "a:int64", "was a decimal(2) and is a int64 now"},
		{"", "a:string", "a:int64", "was a string and is a int64 now"},
		{"", "a:int64", "a:string", "was a int64 and is a string now"},
		{"", "a:double", "a:decimal(2)", "was a double"},
		{"", "a:string?", "a:string", "may be absent in records of before, and is not optional for the reader (leave optional: true)"},
		{"", "g:struct(x int64)", "g:struct(x int64, y string)", `streams.tx.fields.g.y: records of before have no "y"`},
		{"", "g:struct(x string)", "g:list(string)", "was a struct(x string) and is a list(string) now"},
		{"", "g:list(struct(p decimal(2)))", "g:list(struct(p decimal(1)))", "weir.yaml:11:5: streams.tx.fields.g[].p: was a decimal(2)"},
		{"", "g:map(int64?)", "g:map(int64)", "streams.tx.fields.g[key]: may be absent"},
		{CompatNone, "a:string", "a:int64; b:bool", ""},
		{CompatForward, "a:int64?", "a:int64; b:string", ""},
		{CompatForward, "a:int64", "a:int64?", "may be absent in new records"},
		{CompatForward, "a:int64; b:string", "a:int64", `weir.yaml:3: streams.tx.fields.b: new records have no "b", which is not optional (keep the field)`},
		{CompatForward, "a:decimal(2)", "a:int64", ""},
		{CompatForward, "a:int64", "a:decimal(2)", "was a int64 and is a decimal(2) now, which new records may not fit"},
		{CompatFull, "a:int64; b:string?", "a:int64; c:string?", ""},
		{CompatFull, "a:int64", "a:double", "was a int64 and is a double now, which new records may not fit"},
	} {
		split := func(s string) []string { return strings.Split(strings.ReplaceAll(s, "; ", ";"), ";") }
		before := VersionOf(declare(t, "", split(c.before)...))
		text, err := json.Marshal(before)
		if err != nil {
			t.Fatal(err)
		}
		var stored Version
		if err := json.Unmarshal(text, &stored); err != nil || !stored.Same(before) {
			t.Fatalf("%s is stored as %s, %v", c.before, text, err)
		}
		got := ""
		if ps := Compatible(stored, declare(t, c.mode, split(c.after)...)); len(ps) > 0 {
			got = ps[0].Error()
		}
		if got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s -> %s:\n got %s\nwant %s", c.mode, c.before, c.after, got, c.want)
		}
	}
	s := declare(t, "", "a:int64")
	before := VersionOf(s)
	s.Format, s.Columns, s.Delimiter = CSV, []string{"ts", "a"}, ','
	if ps := Compatible(before, s); len(ps) != 1 || !strings.Contains(ps[0].Error(), "records were written as json, and are csv with the columns ts,a now") {
		t.Errorf("another format: %v", ps)
	}
	s.Topic = "tx2"
	if ps := Compatible(before, s); len(ps) != 0 {
		t.Errorf("another topic: %v", ps)
	}
}
