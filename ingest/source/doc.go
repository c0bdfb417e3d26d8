// Package source gives the readers of a stream its records in log order: the
// engine, the SQL side, the alert router and the console all read through it.
//
// Invariants:
//
//  1. A Source yields only durable and committed records: nothing at or above the
//     last stable offset that it saw, and nothing of an aborted transaction. An open
//     transaction delays what is logged after its first record and hides none of
//     it. (With Options.Uncommitted: nothing at or above the high watermark.)
//  2. Chunks come in offset order without overlap. Every record of the range is
//     in exactly one chunk; Chunk.Next is where the one after begins. Offsets may
//     have gaps (control batches, aborted transactions, compaction), never steps
//     back.
//  3. Offsets that hold no record are covered by the next chunk. Where there is
//     none yet, a chunk without records covers them, so that a reader's position
//     comes to the end of what there is.
//  4. A chunk's records alias the source's buffers until the next call of Next,
//     SeekTo or Close.
//
// Goroutines: none. A Source belongs to one goroutine at a time.
//
// What it does not do: decode values (ingest/decode), remember positions (its
// readers do, in their checkpoints), or read external Kafka clusters.
package source
