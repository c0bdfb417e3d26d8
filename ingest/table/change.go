package table

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/weirstream/weir/ingest/event"
)

// TopicTables holds every change of every table and list, in one partition: its
// offsets are the order of changes.
const TopicTables = "weir.tables"

// Op is what a change does.
type Op string

// The operations.
const (
	OpPut     Op = "put"     // add an entry, or put it in the place of the one of its key
	OpRemove  Op = "remove"  // remove the entry of a key; none is no error
	OpClear   Op = "clear"   // remove all entries
	OpDeclare Op = "declare" // make a table, or change what it is
	OpDrop    Op = "drop"    // remove a table with all its entries
	opAbort   Op = "abort"   // what a crash left of the group before it does not count
)

// Change is one change. Those that are made together are a group.
type Change struct {
	Op         Op
	Table      string
	Entry      Entry       // of a put, its key of a remove; author, reason and since of all
	Definition *Definition // of a declare
}

// wire is a change as a record's value, beside its key and row.
type wire struct {
	Op         Op                         `json:"op"`
	Table      string                     `json:"table"`
	Key        []json.RawMessage          `json:"key"`
	Row        map[string]json.RawMessage `json:"row"`
	Expires    string                     `json:"expires"`
	Definition json.RawMessage            `json:"definition"`
	Since      string                     `json:"since"`
	Author     string                     `json:"author"`
	Reason     string                     `json:"reason"`
	More       bool                       `json:"more"`
}

// appendJSON appends the change as a record's value; more tells that the next
// record is of the same group.
func (c *Change) appendJSON(dst []byte, d *Definition, more bool) ([]byte, error) {
	str := func(name, value string) {
		dst = append(append(append(dst, `,"`...), name...), `":`...)
		dst = event.AppendJSONString(dst, value)
	}
	dst = append(append(append(dst, `{"op":"`...), c.Op...), '"')
	if c.Table != "" {
		str("table", c.Table)
	}
	switch c.Op {
	case OpDeclare:
		text, err := c.Definition.marshal()
		if err != nil {
			return nil, err
		}
		dst = append(append(dst, `,"definition":`...), text...)
	case OpPut, OpRemove:
		dst = append(dst, `,"key":[`...)
		for i, v := range c.Entry.Key {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSON(dst, d.Key[i].Type, v)
		}
		dst = append(dst, ']')
	}
	if c.Op == OpPut {
		dst = append(dst, `,"row":`...)
		dst = appendRow(dst, d.Columns, c.Entry.Columns)
		if c.Entry.Expires != event.MaxTime {
			str("expires", c.Entry.Expires.String())
		}
	}
	if c.Entry.Since != 0 {
		str("since", c.Entry.Since.String())
	}
	if c.Entry.Author != "" {
		str("author", c.Entry.Author)
	}
	if c.Entry.Reason != "" {
		str("reason", c.Entry.Reason)
	}
	if more {
		dst = append(dst, `,"more":true`...)
	}
	return append(dst, '}'), nil
}

func appendRow(dst []byte, fields []event.Field, values []Value) []byte {
	dst = append(dst, '{')
	first := true
	for i, f := range fields {
		if values[i].Null {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(event.AppendJSONString(dst, f.Name), ':')
		dst = AppendJSON(dst, f.Type, values[i])
	}
	return append(dst, '}')
}

var errOp = errors.New("unknown op")

// parseChange reads a record's value. What a put means hangs on the table's
// definition at that place, which lookup knows.
func parseChange(value []byte, lookup func(name string) *Definition) (c Change, more bool, err error) {
	var w wire
	if err := json.Unmarshal(value, &w); err != nil {
		return c, false, err
	}
	c = Change{Op: w.Op, Table: w.Table, Entry: Entry{Author: w.Author, Reason: w.Reason, Expires: event.MaxTime}}
	if w.Since != "" {
		if c.Entry.Since, err = parseTime(w.Since); err != nil {
			return c, false, fmt.Errorf("since: %w", err)
		}
	}
	switch w.Op {
	case OpDeclare:
		c.Definition, err = unmarshalDefinition(w.Table, w.Definition)
	case OpPut, OpRemove:
		err = w.entry(&c, lookup(w.Table))
	case OpClear, OpDrop, opAbort:
	default:
		err = fmt.Errorf("%w %q", errOp, clip(string(w.Op)))
	}
	return c, w.More, err
}

func (w *wire) entry(c *Change, d *Definition) (err error) {
	if d == nil {
		return fmt.Errorf("%w: %q", ErrUnknown, clip(w.Table))
	}
	if c.Entry.Key, err = ParseKey(d, w.Key); err != nil || w.Op == OpRemove {
		return err
	}
	if c.Entry.Columns, err = parseRow(d, w.Row); err != nil {
		return err
	}
	if w.Expires != "" {
		if c.Entry.Expires, err = parseTime(w.Expires); err != nil {
			return fmt.Errorf("expires: %w", err)
		}
	}
	return nil
}

func parseTime(text string) (event.Time, error) {
	v, err := ParseText(event.Type{Kind: event.Timestamp}, text)
	return event.Time(v.Bits), err
}

// ParseKey reads the values of a key, in the order of its fields.
func ParseKey(d *Definition, raw []json.RawMessage) ([]Value, error) {
	if len(raw) != len(d.Key) {
		return nil, fmt.Errorf("found a key of %d values, expected %d", len(raw), len(d.Key))
	}
	out := make([]Value, len(raw))
	for i, f := range d.Key {
		v, err := ParseJSON(f.Type, raw[i])
		if err == nil && v.Null {
			err = errNull
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		out[i] = v
	}
	return out, nil
}

// parseRow reads the columns of a row by their names.
func parseRow(d *Definition, row map[string]json.RawMessage) ([]Value, error) {
	out := make([]Value, len(d.Columns))
	for i, f := range d.Columns {
		v, err := ParseJSON(f.Type, row[f.Name])
		if err == nil && v.Null && !f.Optional {
			err = errNull
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		out[i] = v
	}
	return out, nil
}
