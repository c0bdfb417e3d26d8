// Package event holds the types that every part of Weir shares: the schema of a
// stream, a columnar batch of its events, event time, and the records that the
// engine writes (Decision, Alert), the router writes (Delivery) and every way in
// writes for input it cannot take (DeadLetter).
//
// It imports the standard library only and starts no goroutine.
//
// Invariants:
//
//  1. Columns use the Arrow physical layout: validity and booleans are
//     least-significant-bit-first bitmaps, variable-length values are offsets
//     into one byte buffer. A nil validity bitmap means that every value is
//     present. A list is offsets into one child column, a map offsets into two,
//     its keys and its values; a struct has a child for each member, of its own
//     length, and where the struct is absent, so are its members there.
//  2. All present columns of a Batch have as many values as the Batch has rows.
//     A column that was not projected is not present: its Type.Kind is zero.
//  3. Time is nanoseconds since the Unix epoch in UTC. There is no other clock
//     and no other time zone behind it.
//  4. The JSON forms of Decision, Alert, Delivery and DeadLetter are
//     deterministic: equal values encode to equal bytes. What differs between
//     two runs of the same input (latency, host) travels in record headers.
//  5. A decimal is an unscaled int64 with the scale in its Type: 12.34 of
//     decimal(2) is 1234. Arithmetic that would overflow reports it.
//
// What it does not do: decode, encode rows, know topics' configuration, or
// evaluate anything.
package event
