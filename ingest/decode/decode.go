package decode

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirstream/weir/ingest/dedupe"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
)

// The reasons of failures: stable words, fit for metrics.
const (
	ReasonSyntax   = "syntax"
	ReasonType     = "type"
	ReasonMissing  = "missing"
	ReasonTime     = "time"
	ReasonSize     = "size"
	ReasonEncoding = "encoding"
	// ReasonDuplicate is of good records that are left out: see Options.Seen.
	ReasonDuplicate = "duplicate"
	// ReasonLate is of good records that are taken and behind the watermark: no Decoder
	// gives it, cep/engine does.
	ReasonLate = "late"
)

// Limits on a record.
const (
	DefaultMaxRecord = 8 << 20 // bytes
	MaxDepth         = 64      // of nested objects and arrays, the outermost included
	MaxElements      = 1 << 16 // of one list or map
)

// Failure is why a record is bad.
type Failure struct {
	Reason string // one of the reasons
	Field  string // the declared field at fault, or empty
	Detail string // for people: what was found, what was expected
	Column int    // where, from 1, in bytes of the record; 0 where it does not apply
}

// Error is the failure in one line.
func (f Failure) Error() string {
	s := f.Reason
	if f.Field != "" {
		s += " in field " + f.Field
	}
	if f.Column > 0 {
		s = fmt.Sprintf("%s at column %d", s, f.Column)
	}
	return s + ": " + f.Detail
}

// Options of a Decoder. The zero value is the default.
type Options struct {
	MaxRecord int // bytes of a record's value; 0: DefaultMaxRecord
	// Seen leaves out the duplicates of a stream with Dedupe: good records that it
	// knows are bad with ReasonDuplicate. A replayed copy of a record that was in the
	// topic (source.HeaderOriginal) is no duplicate of that one. It is used by this
	// Decoder's goroutine, and the records come in log order, each once. Nil: all
	// good records are taken.
	Seen *dedupe.Seen
}

// Decoder turns records of one stream into rows of columns. It belongs to one
// goroutine at a time.
type Decoder struct {
	schema    *event.Schema
	fields    []field // as in the schema
	timeField int
	zone      *time.Location
	maxAhead  time.Duration
	maxRecord int
	seen      *dedupe.Seen
	id        int     // with seen, the field that identifies an event
	topic     string  // with a slash behind it
	json      *object // the outermost; nil for CSV
	csv       csvPlan

	// Of the record at hand:
	slots    []slot
	scratch  []byte // an unescaped text
	decoded  []byte // bytes out of base64
	fault    fault
	eventAt  event.Time
	detailed Failure // made from fault or by a conversion
	keys     keySet  // of the map at hand
}

// field is what the conversion of one declared field needs.
type field struct {
	name     string
	from     string // the member's path or the column's name
	typ      event.Type
	optional bool
	project  bool
	slot     int
	layout   *Layout // of timestamps
	secret   bool    // its value may not be quoted
	nested   *nested // of lists, maps and structs
}

// slot is where the value of one member or cell lies in the record.
type slot struct {
	start, end int32 // a string's without its quotes
	kind       slotKind
	flags      slotFlags
}

type slotKind uint8

const (
	absent    slotKind = iota
	null               // JSON's null
	text               // a JSON string
	number             // a JSON number
	yes                // true
	no                 // false
	anObject           // a JSON object where a value is declared
	anArray            // a JSON array
	notObject          // a value where a path goes on
	cell               // a CSV cell that is not empty
)

var kindNames = [...]string{absent: "nothing", null: "null", text: "a string", number: "a number", yes: "true", no: "false", anObject: "an object", anArray: "an array", notObject: "a value", cell: "text"}

type slotFlags uint8

const (
	escaped slotFlags = 1 << iota // has escapes; in a CSV cell, doubled quotes
	high                          // has bytes of 0x80 and above
)

// fault is where and why the syntax of a record fails.
type fault struct {
	at     int
	reason string
	detail string
}

// New makes a Decoder for a stream that validated. project holds the indexes of
// the fields to materialise. The errors name the field: an unknown layout, two
// paths of which one leads through the other, a column that a CSV stream does not
// have.
func New(s *schema.Stream, project []int, o Options) (*Decoder, error) {
	d := &Decoder{schema: s.Schema, timeField: s.Schema.Time, zone: s.Zone, maxAhead: s.MaxAhead, maxRecord: o.MaxRecord}
	if d.maxRecord <= 0 {
		d.maxRecord = DefaultMaxRecord
	}
	if o.Seen != nil {
		if s.Schema.ID < 0 {
			return nil, fmt.Errorf("stream %s: duplicates cannot be told without an id", s.Schema.Stream)
		}
		d.seen, d.id, d.topic = o.Seen, s.Schema.ID, s.Topic+"/"
	}
	if len(s.Fields) != 0 && len(s.Fields) != len(s.Schema.Fields) {
		return nil, fmt.Errorf("stream %s: %d fields are described, %d declared", s.Schema.Stream, len(s.Fields), len(s.Schema.Fields))
	}
	if d.timeField < 0 || d.timeField >= len(s.Schema.Fields) || s.Schema.Fields[d.timeField].Type.Kind != event.Timestamp {
		return nil, fmt.Errorf("stream %s: its time must be a timestamp field", s.Schema.Stream)
	}
	for i, f := range s.Schema.Fields {
		var declared schema.Field
		if len(s.Fields) > 0 {
			declared = s.Fields[i]
		}
		if f.Optional = f.Optional && i != d.timeField; f.Type.IsNested() && s.Format == schema.CSV {
			return nil, fmt.Errorf("stream %s, field %s: a %s cannot be in a CSV record: expected format: json", s.Schema.Stream, f.Name, f.Type.Kind)
		}
		one, err := newField(f, declared)
		if err != nil {
			return nil, fmt.Errorf("stream %s, field %s%w", s.Schema.Stream, f.Name, err)
		}
		d.fields = append(d.fields, one)
	}
	for _, i := range project {
		if i < 0 || i >= len(d.fields) {
			return nil, fmt.Errorf("stream %s: no field %d to project", s.Schema.Stream, i)
		}
		d.fields[i].project = true
	}
	if err := d.plan(s); err != nil {
		return nil, fmt.Errorf("stream %s, %w", s.Schema.Stream, err)
	}
	return d, nil
}

// newField plans the conversion of a field and of all that is in it. The error
// begins with the path from the field to the fault, and a colon.
func newField(f event.Field, declared schema.Field) (field, error) {
	one := field{name: f.Name, from: f.Name, typ: f.Type, optional: f.Optional}
	one.secret = declared.Sensitive != "" || declared.FreeText
	if declared.From != "" {
		one.from = declared.From
	}
	if f.Type.Kind == event.Timestamp {
		l, err := ParseLayout(declared.Layout)
		if err != nil {
			return one, fmt.Errorf(": %w", err)
		}
		one.layout = l
	}
	if !f.Type.IsNested() {
		return one, nil
	}
	var err error
	one.nested, err = newNested(f.Type, declared)
	return one, err
}

// plan lays out the slots and what finds them.
func (d *Decoder) plan(s *schema.Stream) error {
	var err error
	var slots int
	switch s.Format {
	case schema.JSON, "":
		d.json, slots, err = planObject(d.fields)
	case schema.CSV:
		d.csv, slots, err = planCSV(d.fields, s)
	default:
		return fmt.Errorf("format %q: expected json or csv", s.Format)
	}
	d.slots = make([]slot, slots)
	return err
}

// Decode appends one row to dst for each good record and calls bad for each of
// the others. dst was Reset with the same schema and projection. Nothing of the
// records is retained by dst. It does not allocate for a good record once dst has
// grown. The text of one column must stay below 2 GiB: a batch is made of one
// chunk of a source.
//
// Origins: dst keeps a single one as long as all its rows come from one partition.
func (d *Decoder) Decode(dst *event.Batch, origin event.Origin, recs []source.Record, bad func(r *source.Record, f Failure)) {
	for i := range recs {
		r := &recs[i]
		if !d.scan(r.Value) {
			bad(r, d.syntax(r))
			continue
		}
		n := dst.Len()
		if !d.convert(dst, r) {
			dst.Truncate(n)
			bad(r, d.detailed)
			continue
		}
		if d.seen != nil && d.duplicate(r) {
			dst.Truncate(n)
			bad(r, d.detailed)
			continue
		}
		addOrigin(dst, origin)
		dst.Offset = append(dst.Offset, r.Offset)
		dst.Time = append(dst.Time, d.eventAt)
	}
}

// duplicate reports whether the record that was converted is a duplicate.
func (d *Decoder) duplicate(r *source.Record) bool {
	f := &d.fields[d.id]
	s := &d.slots[f.slot]
	t, _ := d.plainText(s, r.Value)
	key := dedupe.Key{}
	if f.typ.Kind == event.Int64 {
		n, _ := parseDecimal(t, 0) // it was converted
		key = dedupe.OfInt64(n)
	} else {
		key = dedupe.OfText(t)
	}
	if !d.seen.Duplicate(key, d.eventAt) {
		return false
	}
	for i := range r.Headers {
		if h := &r.Headers[i]; h.Key == source.HeaderOriginal && strings.HasPrefix(string(h.Value), d.topic) {
			return false
		}
	}
	d.fail(f, s, ReasonDuplicate, "an event with this id was taken before, in the same partition and within the stream's dedupe span")
	return true
}

// scan checks the syntax of a record's value and fills the slots.
func (d *Decoder) scan(value []byte) bool {
	clear(d.slots)
	switch {
	case len(value) > d.maxRecord:
		d.fault = fault{0, ReasonSize, "the record is over the limit"}
		return false
	case d.json != nil:
		return d.scanJSON(value)
	}
	return d.scanCSV(value)
}

// syntax is the failure of a record that scan refused.
func (d *Decoder) syntax(r *source.Record) Failure {
	value := r.Value
	f := Failure{Reason: d.fault.reason, Detail: d.fault.detail}
	switch {
	case f.Reason == ReasonSize && len(value) > d.maxRecord:
		f.Detail = fmt.Sprintf("the record has %d bytes, at most %d are allowed", len(value), d.maxRecord)
		return f
	case len(value) == 0:
		f.Detail = "the record has no value"
		if len(r.Headers) == 1 && r.Headers[0].Key == source.HeaderUnreadable {
			f.Detail = "the record batch cannot be read: " + string(r.Headers[0].Value)
		}
		return f
	}
	f.Column = d.fault.at + 1
	if f.Reason == ReasonSyntax && strings.HasPrefix(f.Detail, "expected") && !strings.Contains(f.Detail, "found") {
		found := "the end of the record"
		if d.fault.at < len(value) {
			found = describeByte(value[d.fault.at])
		}
		f.Detail += ", found " + found
	}
	return f
}

// addOrigin notes the origin of the row that is about to be added. The batch has
// a single origin until the first row from elsewhere.
func addOrigin(b *event.Batch, origin event.Origin) {
	n := b.Len()
	switch {
	case n == 0:
		b.Origin = append(b.Origin[:0], origin)
	case len(b.Origin) == 1 && b.Origin[0] == origin:
	default:
		if len(b.Origin) == 1 {
			for range n - 1 {
				b.Origin = append(b.Origin, b.Origin[0])
			}
		}
		b.Origin = append(b.Origin, origin)
	}
}
