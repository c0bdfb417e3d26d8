// Package analytics answers SQL over the history and the views that the packages
// below it keep in DuckDB. Engine is what REST and the PostgreSQL wire share: it
// translates PostgreSQL's spellings, bounds how many queries run and how long, and
// says how fresh an answer is.
//
// Invariants:
//
//  1. Statements only read (analytics/duck, invariant 4).
//  2. An answer contains at least what its Freshness says: freshness is read before
//     the query's snapshot is taken.
//  3. A translation changes only whole tokens outside strings, quoted names and
//     comments, and keeps a map back, so that the position of an error points into
//     what the person wrote.
//  4. At most Options.Concurrency statements run at once; the others wait until
//     their context ends. A statement ends after Options.Timeout, reading included.
//
// Goroutines: none that outlives a call.
//
// What it does not do: parse SQL (DuckDB does), keep results, limit the memory of a
// single query, or speak a protocol.
package analytics
