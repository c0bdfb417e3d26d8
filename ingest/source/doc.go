// Package source gives the readers of a stream its records in log order: the
// engine, the SQL side, the alert router and the console all read through it.
//
// Invariants:
//
//  1. A Source yields only durable records: nothing at or above the high
//     watermark that it saw.
//  2. Chunks come in offset order without overlap. Every record of the range is
//     in exactly one chunk; Chunk.Next is where the one after begins. Offsets may
//     have gaps (control batches, compaction), never steps back.
//  3. Offsets may pass without a chunk: those of batches that hold no data. The
//     next chunk's Next covers them.
//  4. A chunk's records alias the source's buffers until the next call of Next,
//     SeekTo or Close.
//
// Goroutines: none. A Source belongs to one goroutine at a time.
//
// What it does not do: decode values (ingest/decode), remember positions (its
// readers do, in their checkpoints), or read external Kafka clusters.
package source
