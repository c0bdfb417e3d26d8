// Package history fills the SQL side's tables from the log: each stream under its
// name, and decisions, alerts, deliveries and deadletters.
//
// Invariants:
//
//  1. A table holds each record of its topic that decodes exactly once: a
//     partition's position is committed in the transaction that appends its rows.
//  2. A row is good or refused independently of who reads it: all fields are
//     decoded. What decode refuses is skipped here; the engine writes the dead
//     letter.
//  3. The log is the truth. A table whose declaration changed, or whose topic was
//     made anew, is dropped and refilled from the log's start; a table whose
//     stream is no longer declared is dropped. Where retention has removed records
//     from the log, a table whose declaration changed keeps its rows instead and gets
//     the new columns (migrate.go). Declare does the same while Run runs.
//  4. Nobody waits for this package: it reads at its own offsets. An error of one
//     partition stops that partition until it passes; an error of the database
//     stops all, is logged, and is tried again with back-off for as long as Run.
//  5. Freshness never promises what is not yet visible: it moves after a commit.
//
// Freshness is, for each table and partition: the offset below which every record
// is visible; the watermark (greatest event time seen, less the stream's
// lateness); and the age, which is 0 when everything durable in the log is
// visible, else the time since the timestamp of the newest record applied (since
// the start, where none is). Records that carry old timestamps, such as those of
// a file, so show a large age while they are being read.
//
// Goroutines: Run starts one reader for each partition of each table, of which
// Options.Decoders decode at once, and writes to the database itself. It returns
// when all have ended.
//
// What it does not do: answer queries (analytics), decide when a topic is made, or
// keep what retention has removed from the log before it was read.
package history
