package decode

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// convert appends the declared fields of the scanned record to dst's columns. On
// false, detailed is the failure and the columns are uneven.
func (d *Decoder) convert(dst *event.Batch, r *source.Record) bool {
	for i := range d.fields {
		f := &d.fields[i]
		s := &d.slots[f.slot]
		var col *event.Column
		if f.project {
			col = &dst.Cols[i]
		}
		if s.kind <= null {
			if !f.optional {
				return d.missing(f, s)
			}
			if col != nil {
				col.AppendNull()
			}
			continue
		}
		ok := false
		if f.typ.Kind == event.Timestamp {
			ok = d.convertTime(f, s, r, col, i == d.timeField)
		} else {
			ok = d.convertValue(f, s, r, col)
		}
		if !ok {
			return false
		}
	}
	return true
}

// convertValue appends the value of a slot that is neither absent nor null.
func (d *Decoder) convertValue(f *field, s *slot, r *source.Record, col *event.Column) bool {
	switch f.typ.Kind {
	case event.String:
		return d.convertString(f, s, r.Value, col)
	case event.Bool:
		return d.convertBool(f, s, r.Value, col)
	case event.Bytes:
		return d.convertBytes(f, s, r.Value, col)
	case event.Timestamp:
		return d.convertTime(f, s, r, col, false)
	case event.List, event.Map, event.Struct:
		return d.convertNested(f, s, r, col)
	}
	return d.convertNumber(f, s, r.Value, col)
}

func (d *Decoder) convertString(f *field, s *slot, value []byte, col *event.Column) bool {
	if s.kind != text && s.kind != cell {
		return d.wrongType(f, s, value)
	}
	t := value[s.start:s.end]
	if s.flags != 0 {
		var ok bool
		if t, ok = d.unescaped(s, value); !ok {
			return d.wrongEncoding(f, s, "a lone surrogate")
		}
		if s.flags&high != 0 && !utf8.Valid(t) {
			return d.wrongEncoding(f, s, "invalid UTF-8")
		}
	}
	if col != nil {
		col.AppendBytes(t)
	}
	return true
}

func (d *Decoder) convertNumber(f *field, s *slot, value []byte, col *event.Column) bool {
	t, ok := d.plainText(s, value)
	if !ok {
		return d.wrongType(f, s, value)
	}
	if f.typ.Kind == event.Double {
		v, err := parseDouble(t)
		if err != nil {
			return d.wrongNumber(f, s, value, err)
		}
		if col != nil {
			col.AppendDouble(v)
		}
		return true
	}
	v, err := parseDecimal(t, int(f.typ.Scale)) // an int64 has scale 0
	if err != nil {
		return d.wrongNumber(f, s, value, err)
	}
	if col != nil {
		col.AppendInt64(v)
	}
	return true
}

func (d *Decoder) convertTime(f *field, s *slot, r *source.Record, col *event.Column, isEventTime bool) bool {
	t, ok := d.plainText(s, r.Value)
	if !ok {
		return d.wrongType(f, s, r.Value)
	}
	at, err := f.layout.Parse(t, d.zone)
	if err != nil {
		return d.wrongTime(f, s, r.Value, err)
	}
	if isEventTime {
		// A record without a timestamp (-1) bounds nothing.
		if d.maxAhead > 0 && r.Timestamp != -1 && at > event.FromMillis(r.Timestamp).Add(d.maxAhead) {
			return d.tooFarAhead(f, s, r, at)
		}
		d.eventAt = at
	}
	if col != nil {
		col.AppendInt64(int64(at))
	}
	return true
}

func (d *Decoder) convertBool(f *field, s *slot, value []byte, col *event.Column) bool {
	v := s.kind == yes
	if s.kind != yes && s.kind != no {
		t, ok := d.plainText(s, value)
		if ok {
			v, ok = parseBool(t)
		}
		if !ok {
			return d.wrongType(f, s, value)
		}
	}
	if col != nil {
		col.AppendBool(v)
	}
	return true
}

func parseBool(t []byte) (v, ok bool) {
	switch string(t) {
	case "true", "True", "TRUE", "1":
		return true, true
	case "false", "False", "FALSE", "0":
		return false, true
	}
	return false, false
}

func (d *Decoder) convertBytes(f *field, s *slot, value []byte, col *event.Column) bool {
	if s.kind == number {
		return d.wrongType(f, s, value)
	}
	t, ok := d.plainText(s, value)
	if !ok {
		return d.wrongType(f, s, value)
	}
	var err error
	if d.decoded, err = base64.StdEncoding.AppendDecode(d.decoded[:0], t); err != nil {
		return d.wrongType(f, s, value)
	}
	if col != nil {
		col.AppendBytes(d.decoded)
	}
	return true
}

// plainText is the text of a string, number or cell, without escapes; not ok for
// other kinds.
func (d *Decoder) plainText(s *slot, value []byte) ([]byte, bool) {
	switch s.kind {
	case text, number, cell:
		if s.flags&escaped != 0 {
			return d.unescaped(s, value)
		}
		return value[s.start:s.end], true
	}
	return nil, false
}

// unescaped is the text of a string or cell, in scratch where it has escapes; not
// ok where it has a lone surrogate.
func (d *Decoder) unescaped(s *slot, value []byte) ([]byte, bool) {
	t := value[s.start:s.end]
	if s.flags&escaped == 0 {
		return t, true
	}
	ok := true
	if s.kind == cell {
		d.scratch = undouble(d.scratch[:0], t)
	} else {
		d.scratch, ok = unescape(d.scratch[:0], t)
	}
	return d.scratch, ok
}

// What follows makes failures; it may allocate.

func (d *Decoder) fail(f *field, s *slot, reason, detail string) bool {
	d.detailed = Failure{Reason: reason, Field: f.name, Detail: detail}
	if s.kind > null {
		d.detailed.Column = int(s.start) + 1
	}
	return false
}

func (d *Decoder) missing(f *field, s *slot) bool {
	what := "member"
	if d.json == nil {
		what = "column"
	}
	if f.name == "" {
		return d.fail(f, s, ReasonMissing, "is null, expected "+f.typ.String())
	}
	state := "absent"
	if s.kind == null {
		state = "null"
	} else if d.json == nil {
		state = "empty"
	}
	return d.fail(f, s, ReasonMissing, fmt.Sprintf("%s %q is %s, expected %v", what, f.from, state, f.typ))
}

func (d *Decoder) wrongType(f *field, s *slot, value []byte) bool {
	if s.kind == notObject {
		return d.fail(f, s, ReasonType, fmt.Sprintf("the path %q leads through a value that is not an object", f.from))
	}
	expected := f.typ.String()
	switch f.typ.Kind {
	case event.Bytes:
		expected = "bytes in base64"
	case event.List:
		expected = "an array"
	case event.Map, event.Struct:
		expected = "an object"
	}
	return d.fail(f, s, ReasonType, "expected "+expected+", found "+describe(f, s, value))
}

func (d *Decoder) wrongNumber(f *field, s *slot, value []byte, err error) bool {
	detail := "expected " + f.typ.String() + ", found " + describe(f, s, value)
	switch {
	case errors.Is(err, event.ErrDecimalRange):
		detail += ", which is out of range"
	case errors.Is(err, event.ErrDecimalPlaces):
		detail += ", which has more decimal places"
	}
	return d.fail(f, s, ReasonType, detail)
}

func (d *Decoder) wrongTime(f *field, s *slot, value []byte, err error) bool {
	expected := "expected a time as " + f.layout.String()
	if e := f.layout.example(); e != "" {
		expected += ", such as " + e
	}
	if errors.Is(err, ErrTimeRange) {
		return d.fail(f, s, ReasonTime, expected+" and between the years 1678 and 2261, found "+describe(f, s, value))
	}
	return d.fail(f, s, ReasonType, expected+", found "+describe(f, s, value))
}

func (d *Decoder) tooFarAhead(f *field, s *slot, r *source.Record, at event.Time) bool {
	written := event.FromMillis(r.Timestamp)
	return d.fail(f, s, ReasonTime, fmt.Sprintf("the event time %v is more than %v ahead of the record's %v", at, d.maxAhead, written))
}

func (d *Decoder) wrongEncoding(f *field, s *slot, what string) bool {
	return d.fail(f, s, ReasonEncoding, "expected UTF-8, found "+what)
}

const describedBytes = 40

// describe says what stands in a slot: the value itself where it is short, not
// sensitive and cannot be a card number, its kind and length otherwise.
func describe(f *field, s *slot, value []byte) string {
	switch s.kind {
	case text, number, cell:
	default:
		return kindNames[s.kind]
	}
	t := value[s.start:s.end]
	if f.secret || len(t) > describedBytes || mayBeCard(t) || !utf8.Valid(t) {
		return fmt.Sprintf("%s of %d bytes", kindNames[s.kind], len(t))
	}
	if s.kind == number {
		return string(t)
	}
	var b strings.Builder
	b.WriteByte('"')
	b.Write(t) // escaped as in the record
	b.WriteByte('"')
	return b.String()
}

// mayBeCard reports whether t has 12 digits or more that nothing but single
// spaces, dashes or points separates.
func mayBeCard(t []byte) bool {
	digits, separator := 0, false
	for _, c := range t {
		switch {
		case c-'0' <= 9:
			digits++
			separator = false
		case (c == ' ' || c == '-' || c == '.') && !separator:
			separator = true
		default:
			digits, separator = 0, false
		}
		if digits >= 12 {
			return true
		}
	}
	return false
}

func describeByte(c byte) string {
	switch {
	case c-'0' <= 9:
		return "a digit"
	case c < 0x20 || c >= 0x7f:
		return fmt.Sprintf("the byte 0x%02x", c)
	}
	return fmt.Sprintf("%q", c)
}
