package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/table"
)

// Table is a dimension table or list that the file declares.
type Table struct {
	Definition *table.Definition
	// One of these is where its entries come from; neither: the API.
	CSV       string // a file
	Topic     string
	Delimiter byte           // of the CSV file
	Place     schema.Problem // where it was declared, for messages
}

// tablesMax bounds the tables and lists of one file.
const tablesMax = 256

type tableDraft struct {
	name       string
	v          value
	list       bool
	typ        text // of a list
	sensitive  text // of a list
	key        []text
	fields     []*fieldDraft
	fieldsAt   value
	csv        text
	delimiter  byte
	topic      text
	entriesMax int64
	bytesMax   int64
}

// The keys that tables and lists share.
var tableSourceKeys = []key[tableDraft]{
	{name: "csv", expects: "file, or mapping", defDoc: "none", doc: "A CSV file that holds the entries; its first line names the columns. It is read at the start and on `POST /-/reload`, and what is different changes. See [below](#csv-of-a-table).",
		read: func(w *walker, v value, t *tableDraft) {
			if isScalar(v) {
				t.csv = w.pathText(v, "a file")
				return
			}
			walk(w, v, tableCSVKeys, t)
		}},
	{name: "topic", expects: "topic name", defDoc: "none", doc: "A topic that holds the entries: the key of a record is that of an entry, its value a JSON object of the fields, or nothing where the entry is removed.",
		read: func(w *walker, v value, t *tableDraft) { t.topic = w.text(v, "a topic name") }},
	{name: "max_entries", expects: "number from 1 to 100000000", def: "1000000", doc: "A change that would make more entries is refused.",
		read: func(w *walker, v value, t *tableDraft) { w.number(v, 1, 100_000_000, &t.entriesMax) }},
	{name: "max_bytes", expects: "size from 1KiB to 64GiB", def: "256MiB", doc: "A change that would make the entries larger is refused.",
		read: func(w *walker, v value, t *tableDraft) { w.size(v, 1<<10, 64<<30, &t.bytesMax) }},
}

var tableCSVKeys = []key[tableDraft]{
	{name: "file", expects: "file", required: true, doc: "The CSV file.",
		read: func(w *walker, v value, t *tableDraft) { t.csv = w.pathText(v, "a file") }},
	{name: "delimiter", expects: "one character", def: "`,`", doc: "What stands between cells.",
		read: func(w *walker, v value, t *tableDraft) { t.delimiter = w.delimiter(v) }},
}

var listKeys = append([]key[tableDraft]{
	{name: "type", expects: "type", def: "string", doc: "The type of its values: `string`, `int64`, `decimal(N)`, `timestamp` or `bytes`.",
		read: func(w *walker, v value, t *tableDraft) { t.typ = w.text(v, "a type such as string") }},
	{name: "sensitive", expects: "`hmac` or `none`", defDoc: "card numbers are refused where any stream has sensitive fields", doc: "`hmac`: its values are replaced by the hashes that a stream's `sensitive: hmac` makes of them before they are written, so that they are found by such a field. `none`: they are never card numbers, whatever they look like. See the guide on [sensitive data](../guides/sensitive-data.md#lists-and-tables).",
		read: func(w *walker, v value, t *tableDraft) {
			s, ok := w.oneOf(v, string(schema.HMAC), string(schema.NotSensitive))
			t.sensitive = text{s: s, v: v, set: ok}
		}},
}, tableSourceKeys...)

var tableKeys = append([]key[tableDraft]{
	{name: "key", expects: "name of a field or list of them", required: true, doc: "The field or fields that name an entry: `string`, `int64`, `decimal(N)`, `timestamp` or `bytes`. A rule gives their values in this order.",
		read: func(w *walker, v value, t *tableDraft) { t.key = w.texts(v, "the name of a field") }},
	{name: "fields", expects: "mapping of names to types", required: true, doc: "The fields, those of the key among them: each a type, or a mapping with the keys `type`, `optional` and `sensitive` (`hmac`, `mask` or `none`; see the guide on [sensitive data](../guides/sensitive-data.md#lists-and-tables)).",
		read: readTableFields},
}, tableSourceKeys...)

var tableFieldKeys = []key[fieldDraft]{
	{name: "type", expects: "type", required: true, doc: "`bool`, `int64`, `double`, `decimal(N)`, `string`, `timestamp` or `bytes`.",
		read: func(w *walker, v value, f *fieldDraft) { f.typ = w.text(v, "a type such as string or decimal(2)") }},
	{name: "optional", expects: "`true` or `false`", def: "false", doc: "May have no value.",
		read: func(w *walker, v value, f *fieldDraft) { f.optional, _ = w.truth(v) }},
	{name: "sensitive", expects: "`hmac`, `mask` or `none`", defDoc: "card numbers are masked, and in a key refused, where any stream has sensitive fields", doc: "What happens to the value, a `string`, before it is written: replaced by the hash that a stream's `sensitive: hmac` makes of it; BIN and last four kept (not of a key); or nothing.",
		read: func(w *walker, v value, f *fieldDraft) {
			s, ok := w.oneOf(v, string(schema.HMAC), string(schema.Mask), string(schema.NotSensitive))
			f.sensitive = text{s: s, v: v, set: ok}
		}},
}

func readTableFields(w *walker, v value, t *tableDraft) {
	t.fieldsAt = v
	w.each(v, func() string { return "a mapping of field names to types" }, func(name string, child value) {
		if len(t.fields) == fieldsMax {
			w.fail(child, "", "found more than %d fields", fieldsMax)
			return
		}
		f := &fieldDraft{name: name, v: child}
		if isScalar(child) {
			f.typ = w.text(child, "a type such as string or decimal(2)")
		} else {
			walk(w, child, tableFieldKeys, f)
		}
		t.fields = append(t.fields, f)
	})
}

// readTables reads tables, or lists; a list may be just its type, or nothing.
func readTables(list bool) func(w *walker, v value, d *draft) {
	return func(w *walker, v value, d *draft) {
		w.each(v, func() string { return "a mapping of names" }, func(name string, child value) {
			if len(d.tables) == tablesMax {
				w.fail(child, "", "found more than %d tables and lists", tablesMax)
				return
			}
			t := &tableDraft{name: name, v: child, list: list, entriesMax: table.DefaultEntriesMax, bytesMax: table.DefaultBytesMax}
			switch {
			case list && isScalar(child) && resolve(child.node).ShortTag() != "!!null":
				t.typ = w.text(child, "a type such as string")
			case list && isScalar(child):
				t.typ = text{s: "string", v: child, set: true}
			case list:
				walk(w, child, listKeys, t)
			default:
				walk(w, child, tableKeys, t)
			}
			d.tables = append(d.tables, t)
		})
	}
}

func (t *tableDraft) build(w *walker, c *Config) Table {
	before := len(w.problems)
	out := Table{Definition: &table.Definition{Name: t.name, List: t.list, EntriesMax: t.entriesMax, BytesMax: t.bytesMax},
		CSV: t.csv.s, Topic: t.topic.s, Delimiter: t.delimiter,
		Place: schema.Problem{File: w.file, Line: t.v.at.Line, Column: t.v.at.Column, Field: t.v.path}}
	if t.list {
		f := fieldDraft{typ: t.typ}
		typ, _ := f.build(w)
		out.Definition.Key = []event.Field{{Name: table.ListKey, Type: typ}}
		out.Definition.SetSensitive(table.ListKey, schema.Policy(t.sensitive.s))
	} else {
		t.buildFields(w, out.Definition)
	}
	switch {
	case t.csv.set && t.topic.set:
		w.fail(t.topic.v, "", "found both csv and topic, expected one of them")
	case t.csv.set:
		out.Definition.Source = "csv:" + filepath.Base(t.csv.s)
	case t.topic.set:
		checkTopic(w, t.topic)
		if slices.ContainsFunc(c.Streams, func(s *schema.Stream) bool { return s.Topic == t.topic.s }) {
			w.fail(t.topic.v, "", "%q is the topic of a stream", clip(t.topic.s))
		}
		out.Definition.Source = "topic:" + t.topic.s
	}
	if len(w.problems) == before {
		t.validate(w, out.Definition)
	}
	return out
}

// validate reports what Definition.Validate finds.
func (t *tableDraft) validate(w *walker, d *table.Definition) {
	var ps schema.Problems
	if err := d.Validate(); errors.As(err, &ps) {
		for _, p := range ps {
			w.problem(max(t.v.at.Line, 1), t.v.at.Column, t.v.path+"."+p.Field, p.Hint, "%s", p.Message)
		}
	}
}

func (t *tableDraft) buildFields(w *walker, d *table.Definition) {
	all := make([]string, 0, len(t.fields))
	fields := map[string]event.Field{}
	for _, f := range t.fields {
		typ, _ := f.build(w)
		all = append(all, f.name)
		fields[f.name] = event.Field{Name: f.name, Type: typ, Optional: f.optional}
		d.SetSensitive(f.name, schema.Policy(f.sensitive.s))
	}
	for _, k := range t.key {
		f, found := fields[k.s]
		if !found {
			w.fail(k.v, schema.Suggest(k.s, all), "there is no field %q: expected one of %s", clip(k.s), clipList(all))
			continue
		}
		d.Key = append(d.Key, f)
	}
	for _, name := range all {
		if !slices.ContainsFunc(t.key, func(k text) bool { return k.s == name }) {
			d.Columns = append(d.Columns, fields[name])
		}
	}
}

// buildTables checks the tables and lists against each other and the streams.
func (d *draft) buildTables(w *walker, c *Config) {
	seen := map[string]text{}
	for _, s := range d.streams {
		seen[strings.ToLower(s.name)] = text{s: s.name, v: s.v, set: true}
	}
	for _, t := range d.tables {
		lower := strings.ToLower(t.name)
		if t.list { // a list is no SQL table of its own
			lower = "list " + t.name
		} else if reason := ReservedTable(t.name); reason != "" {
			w.fail(t.v.named(), "", "%s", reason)
		}
		once(w, seen, lower, text{s: t.name, v: t.v.named(), set: true}, "the name of a stream or table; SQL does not tell upper from lower case")
		if slices.ContainsFunc(c.Tables, func(o Table) bool { return o.Definition.Name == t.name }) {
			w.fail(t.v.named(), "", "%q is the name of a list and of a table", t.name)
		}
		c.Tables = append(c.Tables, t.build(w, c))
	}
}

// ReservedTable is why no SQL table can have a name; empty where one can.
func ReservedTable(name string) string {
	switch lower := strings.ToLower(name); {
	case slices.Contains(ownTables, lower):
		return fmt.Sprintf("%q is the name of one of Weir's own tables", name)
	case slices.Contains(sqlReserved, lower):
		return fmt.Sprintf("%q is a reserved word of SQL and cannot name a table", name)
	case hasAnyPrefix(lower, "weir_", "pg_", "duckdb_", "sqlite_"):
		return fmt.Sprintf("%q begins like the names of system tables: weir_, pg_, duckdb_ and sqlite_ are reserved", name)
	}
	return ""
}

func tableView(t Table) object {
	fields := func(of []event.Field) object {
		out := object{}
		for _, f := range of {
			one := object{"type": f.Type.String(), "optional": f.Optional}
			if s := t.Definition.Sensitive[f.Name]; s != "" {
				one["sensitive"] = string(s)
			}
			out[f.Name] = one
		}
		return out
	}
	d := t.Definition
	view := object{"max_entries": d.EntriesMax, "max_bytes": formatSize(d.BytesMax)}
	if d.List {
		view["type"] = d.Key[0].Type.String()
		if s := d.Sensitive[table.ListKey]; s != "" {
			view["sensitive"] = string(s)
		}
	} else {
		keys := make([]string, len(d.Key))
		for i, f := range d.Key {
			keys[i] = f.Name
		}
		view["key"], view["fields"] = keys, fields(d.Fields())
	}
	if t.CSV != "" {
		view["csv"] = object{"file": t.CSV, "delimiter": string(rune(cmp.Or(t.Delimiter, ',')))}
	}
	if t.Topic != "" {
		view["topic"] = t.Topic
	}
	return view
}

// tablesView is the tables, or the lists, by name.
func tablesView(tables []Table, list bool) object {
	out := object{}
	for _, t := range tables {
		if t.Definition.List == list {
			out[t.Definition.Name] = tableView(t)
		}
	}
	return out
}

// At is a problem of the table at its place in the file.
func (t *Table) At(format string, args ...any) *schema.Problem {
	p := t.Place
	p.Message = fmt.Sprintf(format, args...)
	return &p
}
