// Package decode turns records into typed columns: JSON objects and CSV lines go
// straight into the projected columns of an event.Batch, with no map, no
// reflection and no allocation per event.
//
// A record is first scanned once, which checks all of its syntax and notes where
// the value of each declared field lies (a slot); then each slot is converted.
// So the last of several equal members wins whatever the first held, and a bad
// record is known before the batch grows, or is cut off again.
//
// Invariants:
//
//  1. A record is good or bad whatever the projection: every declared field is
//     checked, only projected ones are materialised. Each record becomes one row
//     or one call of bad, in log order.
//  2. A bad record leaves the batch as it was.
//  3. The outcome depends on the record, its timestamp and the declaration only:
//     there is no clock here, and what a Decoder learns (the order of members)
//     changes its speed and nothing else.
//  4. Numbers are exact or refused: decimals and int64 keep their text's value, a
//     double is the nearest one. NaN and infinities are refused.
//  5. Failure.Detail never quotes what may be a card number (a run of 12 digits
//     or more), nor the value of a sensitive or free-text field.
//
// The outcome of bad input, by reason:
//
//	syntax    not well-formed JSON (RFC 8259) or CSV (RFC 4180), a CSV line with
//	          another number of cells than the declared columns, an empty record
//	type      a value of another type, a number out of range or with more decimal
//	          places than declared, a time that does not match its layout, JSON
//	          that is not an object
//	missing   a required field that is absent, null or an empty cell
//	time      an event time before 1678 or after 2261, or further ahead of its
//	          record's timestamp than max_ahead allows
//	size      a record over the limit (8 MiB), or nested deeper than 64, a list or
//	          map of too many elements
//	encoding  a string field that is not UTF-8, or a lone surrogate
//	duplicate a good record of a stream with dedupe whose id was there before
//	          (ingest/dedupe); only where Options.Seen is given
//
// A dead letter of the reason late is the engine's: a copy of a record that was taken.
//
// In a list, map or struct, Failure.Field is the path to what is wrong, as
// items[2].price or attrs["k"] (attrs[entry 3] where the key may not be shown). A
// null element or member that is not optional is missing, one of another type is
// type, and so is a key that stands in a map twice; of members of a struct with one
// name the last counts, as of all members. A list or map of more than 65,536
// elements is size. CSV records have no such fields: New refuses them.
//
// What is accepted beyond the obvious: members and cells that no field declares
// are ignored once they are well-formed; quoted numbers and booleans count as
// such; 1 and 0 are booleans; an integer may be written 1.0 or 1e3; bytes are
// base64.
//
// Goroutines: none. A Decoder belongs to one goroutine at a time; a Layout is
// immutable and shared.
//
// What it does not do: write dead letters, apply sensitive-field policies, infer
// schemas.
package decode
