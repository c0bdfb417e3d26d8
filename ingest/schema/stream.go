package schema

import (
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// Format is how a stream's records are written.
type Format string

// The formats of records.
const (
	JSON Format = "json" // one object a record
	CSV  Format = "csv"  // one line a record, without a header; see Stream.Columns
)

// Field says where a field's value is found in a record and how it is written.
type Field struct {
	// From is the column of a CSV record or the path of a JSON member, parts
	// separated by dots. Empty means the field's own name.
	From string
	// Layout is how a timestamp is written: one of rfc3339 (the default), unix,
	// unix_ms, unix_us, unix_ns, or a strptime layout such as
	// "%Y-%m-%d %H:%M:%S". Other types have none.
	Layout string
	// Sensitive is what happens to the value before the log is written; empty:
	// nothing. See ingest/protect.
	Sensitive Policy
	// FreeText says that people write into it: it is searched for card numbers
	// before the log is written.
	FreeText bool
	// Members describes what the values of a nested field hold: a struct's members,
	// a list's element, a map's value. Nil: nothing is to be said of any. A member's
	// From is its one name in the record; an element has none.
	Members []Field `json:",omitempty"`
	// Line and Column are where the field was declared, for messages; 0: not known.
	Line, Column int `json:"-"`
	// Subject says that the field names the event's subject, under whose key values
	// are encrypted. Where no field does, the stream's key is the subject.
	Subject bool
}

// Member is the description of member i, the zero Field where there is none.
func (f *Field) Member(i int) Field {
	if i < len(f.Members) {
		return f.Members[i]
	}
	return Field{}
}

// Any reports whether f or anything within it meets a condition.
func (f *Field) Any(is func(f *Field) bool) bool {
	if is(f) {
		return true
	}
	for i := range f.Members {
		if f.Members[i].Any(is) {
			return true
		}
	}
	return false
}

// Policy is what is done with a sensitive value before it is written anywhere.
type Policy string

// The policies.
const (
	Drop    Policy = "drop"    // the value is left out
	Mask    Policy = "mask"    // the first six and last four characters stay
	HMAC    Policy = "hmac"    // a keyed hash: equal values stay equal
	Encrypt Policy = "encrypt" // under a key of its subject, which can be shredded

	// NotSensitive says that a field of a table or list is none, whatever its values
	// look like.
	NotSensitive Policy = "none"
)

// DefaultDiskFrom is Stream.DiskFrom where it is 0.
const DefaultDiskFrom = 6 * time.Hour

// Stream is a stream as its owner declared it.
type Stream struct {
	Schema     *event.Schema
	Topic      string
	Partitions int32 // with which the topic is made where it does not exist
	Format     Format
	Columns    []string // of a CSV record, in order, by the names that Field.From uses
	Delimiter  byte     // of CSV, ',' unless set
	Fields     []Field  // for each of Schema.Fields
	// Zone is where timestamps without an offset are; UTC unless set.
	Zone *time.Location
	// Lateness is how far behind the greatest event time seen the watermark stays.
	Lateness time.Duration
	// WatermarkBy are the fields by which events have watermarks of their own; none:
	// there is one for all. A group of equal fields that is WatermarkIdle behind the
	// greatest event time of all is not waited for. See cep.Clock.
	WatermarkBy   []int
	WatermarkIdle time.Duration
	// Idle is how long a partition without records holds the watermark back: after it
	// the engine takes time to go on; 0: for ever. See docs/reference/windows.md.
	Idle time.Duration
	// MaxAhead bounds how far an event's time may be ahead of its record's
	// timestamp; 0 means no bound.
	MaxAhead time.Duration
	// DiskFrom is how far a window must reach back to keep its events on disk, where its
	// aggregate allows it; 0: DefaultDiskFrom, below 0: none does. Values are the same.
	DiskFrom time.Duration
	// Dedupe is for how long, in event time, an event with the id of another in its
	// partition is taken for a client's retry of it and left out; 0: for ever none is.
	// The stream has an ID then. See ingest/dedupe.
	Dedupe time.Duration
	// AllDecisions writes a decision record for every event, not only for those
	// on which a rule fired (decisions: all).
	AllDecisions bool
	// Compatibility is what a later declaration must keep; empty: backward.
	Compatibility Compatibility
	// Place is where the stream was declared, for messages.
	Place Problem
}
