package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// Compatibility is which records and which declarations of a stream must fit each
// other, in the words that Kafka's schema registries use.
type Compatibility string

// The kinds of compatibility.
const (
	CompatNone     Compatibility = "none"
	CompatBackward Compatibility = "backward" // records of before fit the new declaration
	CompatForward  Compatibility = "forward"  // new records fit the declaration of before
	CompatFull     Compatibility = "full"     // both
)

// Version is a stream's declaration at a time, as far as its records hang on it.
type Version struct {
	Version int        `json:"version"` // from 1
	Since   time.Time  `json:"since"`   // when it was first used
	Topic   string     `json:"topic"`
	Format  Format     `json:"format"`
	Columns []string   `json:"columns,omitempty"`
	Comma   string     `json:"delimiter,omitempty"`
	Time    string     `json:"time"`
	Key     string     `json:"key,omitempty"`
	ID      string     `json:"id,omitempty"`
	Fields  []Declared `json:"fields"`
}

// Declared is a field of a Version, or a member of one.
type Declared struct {
	Name     string     `json:"name,omitempty"`
	Type     string     `json:"type"`
	Optional bool       `json:"optional,omitempty"`
	From     string     `json:"from,omitempty"`
	Layout   string     `json:"layout,omitempty"`
	Members  []Declared `json:"members,omitempty"`
}

// VersionOf is the version that a stream is, without number and time.
func VersionOf(s *Stream) Version {
	v := Version{Topic: s.Topic, Format: s.Format, Time: s.Schema.Fields[s.Schema.Time].Name}
	if s.Format == CSV {
		v.Columns, v.Comma = s.Columns, string(rune(s.Delimiter))
	}
	if s.Schema.Key >= 0 {
		v.Key = s.Schema.Fields[s.Schema.Key].Name
	}
	if s.Schema.ID >= 0 {
		v.ID = s.Schema.Fields[s.Schema.ID].Name
	}
	for i := range s.Schema.Fields {
		v.Fields = append(v.Fields, declared(&s.Schema.Fields[i], &s.Fields[i]))
	}
	return v
}

func declared(f *event.Field, d *Field) Declared {
	out := Declared{Name: f.Name, Type: f.Type.String(), Optional: f.Optional, From: d.From, Layout: d.Layout}
	for i := range f.Type.Fields {
		m := d.Member(i)
		out.Members = append(out.Members, declared(&f.Type.Fields[i], &m))
	}
	return out
}

// Same reports whether two versions differ in nothing but number and time.
func (v Version) Same(o Version) bool {
	v.Version, v.Since, o.Version, o.Since = 0, time.Time{}, 0, time.Time{}
	a, err := json.Marshal(v)
	b, err2 := json.Marshal(o)
	return err == nil && err2 == nil && string(a) == string(b)
}

// Compatible is what keeps a stream's declaration from following an earlier one, by
// its own Compatibility: one Problem for each field, which points at it as the stream's
// Place knows it. A stream that reads another topic than before follows nothing.
func Compatible(before Version, s *Stream) (problems Problems) {
	mode := s.Compatibility
	if mode == "" {
		mode = CompatBackward
	}
	now := VersionOf(s)
	if mode == CompatNone || before.Topic != now.Topic {
		return nil
	}
	c := &comparison{stream: s, problems: &problems}
	if before.Format != now.Format || before.Comma != now.Comma || !slices.Equal(before.Columns, now.Columns) {
		c.problem("", fmt.Sprintf("records were written as %s, and are %s now", written(before), written(now)),
			"declare another stream with a topic of its own")
		return problems
	}
	if mode == CompatBackward || mode == CompatFull {
		c.reads(before.Fields, now.Fields, "")
	}
	if mode == CompatForward || mode == CompatFull {
		c.swapped = true
		c.reads(now.Fields, before.Fields, "")
	}
	return problems
}

func written(v Version) string {
	if v.Format == CSV {
		return fmt.Sprintf("csv with the columns %s", strings.Join(v.Columns, string(v.Comma)))
	}
	return string(v.Format)
}

// comparison is one direction of Compatible.
type comparison struct {
	stream   *Stream
	problems *Problems
	swapped  bool // the reader is the declaration of before
}

func (c *comparison) problem(field, message, hint string) {
	p := c.stream.Place
	p.Field, p.Message, p.Hint = "streams."+c.stream.Schema.Stream, message, hint
	if field != "" {
		p.Field += ".fields." + field
		top, _, _ := strings.Cut(strings.NewReplacer("[]", ".", "[key]", ".").Replace(field), ".")
		if i := c.stream.Schema.Index(top); i >= 0 && c.stream.Fields[i].Line > 0 {
			p.Line, p.Column = c.stream.Fields[i].Line, c.stream.Fields[i].Column
		}
	}
	*c.problems = append(*c.problems, &p)
}

// path is where a field is in its record.
func (d *Declared) path() string {
	if d.From != "" {
		return d.From
	}
	return d.Name
}

// reads reports what of records written by one declaration another cannot read.
// Fields are the same where they are in the same place of the record, whatever their
// names: that is what a rename with `from` keeps.
func (c *comparison) reads(writer, reader []Declared, at string) {
	for i := range reader {
		r := &reader[i]
		name := at + r.Name
		k := slices.IndexFunc(writer, func(w Declared) bool { return w.path() == r.path() })
		if k < 0 {
			if !r.Optional {
				hint := "add optional: true"
				if !c.swapped {
					for _, w := range writer {
						if w.Name != r.Name && w.Type == r.Type && !slices.ContainsFunc(reader, func(o Declared) bool { return o.path() == w.path() }) {
							hint += fmt.Sprintf(", or, where it is %q under another name, from: %s", w.Name, w.path())
							break
						}
					}
				} else {
					hint = "keep the field"
				}
				c.problem(name, fmt.Sprintf("%s have no %q, which is not optional", c.recordsOf(), r.path()), hint)
			}
			continue
		}
		c.one(&writer[k], r, name)
	}
}

func (c *comparison) recordsOf() string {
	if c.swapped {
		return "new records"
	}
	return "records of before"
}

// one compares two declarations of one place.
func (c *comparison) one(w, r *Declared, name string) {
	if w.Optional && !r.Optional {
		c.problem(name, fmt.Sprintf("may be absent in %s, and is not optional for the reader", c.recordsOf()), "leave optional: true")
	}
	wt, err := event.ParseType(w.Type)
	rt, err2 := event.ParseType(r.Type)
	if err != nil || err2 != nil {
		c.problem(name, fmt.Sprintf("was a %s, and is a %s now", w.Type, r.Type), "")
		return
	}
	switch {
	case wt.Kind == rt.Kind && wt.Kind == event.Struct:
		c.reads(w.Members, r.Members, name+".")
	case wt.Kind == rt.Kind && wt.IsNested():
		way := "[]"
		if wt.Kind == event.Map {
			way = "[key]"
		}
		c.one(&w.Members[0], &r.Members[0], name+way)
	case !widens(wt, rt):
		from, to := wt, rt
		if c.swapped {
			from, to = rt, wt
		}
		c.problem(name, fmt.Sprintf("was a %s and is a %s now, which %s may not fit", from, to, c.recordsOf()),
			"keep the type and declare the new one as another, optional field; or a stream with a topic of its own; or compatibility: none")
	case wt.Kind == event.Timestamp && w.Layout != r.Layout:
		c.problem(name, fmt.Sprintf("was written with the layout %s, and is read with %s", w.Layout, r.Layout), "declare the new layout as another, optional field")
	}
}

// widens reports whether every value of one plain type reads as one of another: an
// integer as a decimal or double, a decimal as one with more places or a double.
func widens(from, to event.Type) bool {
	switch {
	case from.Kind == event.Int64:
		return to.Kind == event.Int64 || to.Kind == event.Decimal || to.Kind == event.Double
	case from.Kind == event.Decimal:
		return to.Kind == event.Decimal && to.Scale >= from.Scale || to.Kind == event.Double
	}
	return from.Kind == to.Kind
}
