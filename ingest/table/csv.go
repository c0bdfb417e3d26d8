package table

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// problemsMax bounds what one reading reports.
const problemsMax = 100

// csvReader reads the file of a table.
type csvReader struct {
	file     string
	def      *Definition
	r        *csv.Reader
	columns  []csvColumn
	problems schema.Problems
	lines    map[string]int // by key
}

// csvColumn is what a column of the file is.
type csvColumn struct {
	key, column int // index among the definition's, -1
	meta        string
	name        string
}

// ReadCSV reads the entries of a table or list. The first line names the columns:
// the fields of the table, or "value" for a list, and where wanted _expires (a
// time) and _reason. An empty cell of an optional field is no value. Its errors are
// schema.Problems that name line and column, or what r said.
func ReadCSV(r io.Reader, file string, d *Definition, delimiter byte) ([]Entry, error) {
	c := &csvReader{file: file, def: d, r: csv.NewReader(r), lines: map[string]int{}}
	c.r.Comma, c.r.ReuseRecord, c.r.FieldsPerRecord = rune(delimiter), true, -1
	if delimiter == 0 {
		c.r.Comma = ','
	}
	head, err := c.r.Read()
	switch {
	case errors.Is(err, io.EOF):
		c.problem(1, 1, "", fmt.Sprintf("the first line is %q", strings.Join(c.expected(), string(c.r.Comma))), "the file is empty: expected a line that names the columns")
		return nil, c.problems
	case err != nil:
		return nil, c.syntax(err)
	}
	if c.header(head); len(c.problems) > 0 {
		return nil, c.problems
	}
	var out []Entry
	for len(c.problems) < problemsMax {
		cells, err := c.r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, c.syntax(err)
		}
		if e, good := c.entry(cells); good {
			out = append(out, e)
		}
	}
	if err := c.problems.ErrOrNil(); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *csvReader) problem(line, column int, field, hint, format string, args ...any) {
	if len(c.problems) < problemsMax {
		c.problems = append(c.problems, &schema.Problem{File: c.file, Line: line, Column: column, Field: field, Hint: hint, Message: fmt.Sprintf(format, args...)})
	}
}

// syntax is a mistake of quotes, or an error of the file.
func (c *csvReader) syntax(err error) error {
	var p *csv.ParseError
	if !errors.As(err, &p) {
		return fmt.Errorf("%s: %w", c.file, err)
	}
	c.problem(p.Line, p.Column, "", "", "not CSV that can be read: %v", p.Err)
	return c.problems
}

func (c *csvReader) expected() []string {
	var names []string
	for _, f := range c.def.Fields() {
		names = append(names, f.Name)
	}
	return names
}

// header finds out what the columns are.
func (c *csvReader) header(head []string) {
	head[0] = strings.TrimPrefix(head[0], "\ufeff")
	for i, name := range head {
		name = strings.TrimSpace(name)
		line, column := c.r.FieldPos(i)
		col := csvColumn{name: name, column: c.def.Column(name), key: slices.IndexFunc(c.def.Key, func(f event.Field) bool { return f.Name == name })}
		switch {
		case slices.ContainsFunc(c.columns, func(o csvColumn) bool { return o.name == name }):
			c.problem(line, column, "", "", "the column %q stands there twice", clip(name))
		case name == "_expires" || name == "_reason":
			col.meta = name
		case col.column < 0 && col.key < 0:
			hint := schema.Suggest(name, c.expected())
			if hint == "" {
				hint = fmt.Sprintf("the first line names the columns: %s, and where wanted _expires and _reason", strings.Join(c.expected(), ", "))
			}
			c.problem(line, column, "", hint, "%s %s has no field %q", c.def.Kind(), c.def.Name, clip(name))
		}
		c.columns = append(c.columns, col)
	}
	for _, f := range c.def.Fields() {
		if !f.Optional && !slices.ContainsFunc(c.columns, func(o csvColumn) bool { return o.name == f.Name }) {
			c.problem(1, 1, f.Name, "", "the file has no column %q", f.Name)
		}
	}
}

// entry reads a line.
func (c *csvReader) entry(cells []string) (Entry, bool) {
	before := len(c.problems)
	line, _ := c.r.FieldPos(0)
	if len(cells) != len(c.columns) {
		c.problem(line, 1, "", "", "found %d cells, expected %d", len(cells), len(c.columns))
		return Entry{}, false
	}
	e := Entry{Key: make([]Value, len(c.def.Key)), Columns: make([]Value, len(c.def.Columns)), Expires: event.MaxTime, Author: c.file}
	for i := range e.Columns {
		e.Columns[i].Null = true
	}
	for i, text := range cells {
		if err := c.cell(&e, c.columns[i], text); err != nil {
			at, column := c.r.FieldPos(i)
			c.problem(at, column, c.columns[i].name, "", "%v", err)
		}
	}
	if len(c.problems) > before {
		return e, false
	}
	key := string(AppendKey(nil, c.def.Key, e.Key))
	if first, twice := c.lines[key]; twice {
		c.problem(line, 1, "", "", "the key stands there twice: the first is on line %d", first)
		return e, false
	}
	c.lines[key] = line
	if size := len(key) + len(strings.Join(cells, "")); size > EntryMax/2 {
		c.problem(line, 1, "", "", "the line has more than %d bytes", EntryMax/2)
		return e, false
	}
	return e, true
}

func (c *csvReader) cell(e *Entry, col csvColumn, text string) (err error) {
	switch {
	case col.meta == "_reason":
		e.Reason = text
	case col.meta == "_expires":
		if text != "" {
			e.Expires, err = parseTime(text)
		}
	case col.key >= 0:
		e.Key[col.key], err = ParseText(c.def.Key[col.key].Type, text)
	default:
		f := c.def.Columns[col.column]
		if text == "" && f.Optional {
			return nil
		}
		e.Columns[col.column], err = ParseText(f.Type, text)
	}
	return err
}

// WriteCSV writes entries as ReadCSV reads them.
func WriteCSV(w io.Writer, d *Definition, rows []Row, header bool) error {
	out := csv.NewWriter(w)
	fields := d.Fields()
	cells := make([]string, 0, len(fields)+2)
	if header {
		for _, f := range fields {
			cells = append(cells, f.Name)
		}
		if err := out.Write(append(cells, "_expires", "_reason")); err != nil {
			return err
		}
	}
	for _, r := range rows {
		e := r.Entry()
		cells = cells[:0]
		for i, v := range slices.Concat(e.Key, e.Columns) {
			cells = append(cells, string(AppendText(nil, fields[i].Type, v)))
		}
		until := ""
		if e.Expires != event.MaxTime {
			until = e.Expires.String()
		}
		if err := out.Write(append(cells, until, e.Reason)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// Sync makes a table what d says with exactly these entries, in one group of the
// changes that are needed.
func (s *Store) Sync(ctx context.Context, d *Definition, entries []Entry) (Result, error) {
	puts := make([]Change, len(entries))
	for i := range entries {
		puts[i] = Change{Op: OpPut, Table: d.Name, Entry: entries[i]}
		if err := s.protect(d, &puts[i]); err != nil {
			return Result{}, err
		}
	}
	return s.Update(ctx, func(v *View) ([]Change, error) {
		changes := []Change{{Op: OpDeclare, Definition: d}}
		if t := v.Table(d.Name); t != nil && t.def.SameShape(d) && t.Len() > 0 {
			keep := make(map[string]struct{}, len(entries))
			var key []byte
			for i := range puts {
				key = AppendKey(key[:0], d.Key, puts[i].Entry.Key)
				keep[string(key)] = struct{}{}
			}
			t.All(func(r Row) {
				if _, stays := keep[string(r.KeyBytes())]; !stays {
					changes = append(changes, Change{Op: OpRemove, Table: d.Name, Entry: Entry{Key: r.Entry().Key, Author: d.Source}})
				}
			})
		}
		return append(changes, puts...), nil
	})
}

// ParseEntry reads an entry of the API or of a topic: a JSON object of the fields of
// the table, and of _expires and _reason. Its error is a schema.Problem that names
// the field.
func ParseEntry(d *Definition, text []byte) (Entry, error) {
	var members map[string]json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&members); err != nil || members == nil {
		return Entry{}, &schema.Problem{Message: "expected a JSON object with the fields of the entry"}
	}
	e := Entry{Expires: event.MaxTime}
	var known []string
	for _, f := range d.Fields() {
		known = append(known, f.Name)
		v, err := ParseJSON(f.Type, members[f.Name])
		if err == nil && v.Null && !f.Optional {
			err = errNull
		}
		if err != nil {
			return e, &schema.Problem{Field: f.Name, Message: err.Error()}
		}
		if len(e.Key) < len(d.Key) {
			e.Key = append(e.Key, v)
		} else {
			e.Columns = append(e.Columns, v)
		}
	}
	return e, e.parseMeta(members, known)
}

func (e *Entry) parseMeta(members map[string]json.RawMessage, known []string) error {
	for name, raw := range members {
		v, err := Value{}, error(nil)
		switch {
		case name == "_reason":
			v, err = ParseJSON(event.Type{Kind: event.String}, raw)
			e.Reason = string(v.Bytes)
		case name == "_expires":
			if v, err = ParseJSON(event.Type{Kind: event.Timestamp}, raw); err == nil && !v.Null {
				e.Expires = event.Time(v.Bits)
			}
		case !slices.Contains(known, name):
			return &schema.Problem{Field: clip(name), Message: "there is no such field", Hint: schema.Suggest(name, append(known, "_expires", "_reason"))}
		}
		if err != nil {
			return &schema.Problem{Field: name, Message: err.Error()}
		}
	}
	return nil
}

// AppendJSON appends an entry as ParseEntry reads it, and with _since and _author.
func (r Row) AppendJSON(dst []byte) []byte {
	e := r.Entry()
	dst = appendRow(dst, r.def.Fields(), slices.Concat(e.Key, e.Columns))
	dst = dst[:len(dst)-1]
	for _, m := range []struct {
		name, text string
	}{{"_expires", timeText(e.Expires)}, {"_since", timeText(e.Since)}, {"_author", e.Author}, {"_reason", e.Reason}} {
		if m.text != "" {
			dst = append(append(append(dst, `,"`...), m.name...), `":`...)
			dst = event.AppendJSONString(dst, m.text)
		}
	}
	return append(dst, '}')
}

func timeText(t event.Time) string {
	if t == event.MaxTime {
		return ""
	}
	return t.String()
}

func jsonArray(text []byte) ([]json.RawMessage, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, errors.New("expected a JSON array of the values of the key")
	}
	return raw, nil
}
