// Package schema describes streams: which topic a stream lives in, how its
// records are written, which typed fields they have, and what its event time
// and its key are; and which declaration may follow another (Compatible). It also has the one form in which a mistake in something that
// a person wrote is reported (Problem).
//
// It starts no goroutine and does no I/O.
//
// Invariants:
//
//  1. A Stream that Validate accepted is immutable.
//  2. Fields[i] describes Schema.Fields[i].
//  3. A Problem names its file, line and column where they are known, says what
//     was expected, and says what to do where that is known.
//
// What it does not do: parse YAML (cmd/config) or decode records (ingest/decode).
package schema
