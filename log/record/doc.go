// Package record reads and writes Kafka's record batches, version 2: the only
// form in which records are stored and sent.
//
// The format is that of KIP-98 and of the Kafka protocol guide, "Record Batch".
// Codecs are Kafka's: gzip, snappy (Java's xerial framing and raw blocks are
// both read, the framing is written), lz4 frames and zstd.
//
// Invariants:
//
//  1. The CRC-32C covers the batch from its attributes onward. The base offset
//     and the leader epoch lie outside it, so the log stamps them in place.
//  2. A batch that Check accepted has a whole header, the magic 2, all its
//     bytes, a right CRC, and exactly LastOffsetDelta+1 records by its own count.
//     The records themselves are not walked by Check.
//  3. A Reader never trusts a length or a count: what it allocates is bounded by
//     the bytes it was given and by Options.MaxDecompressed.
//  4. An error of a Reader concerns one batch. The next call goes on with the
//     batch after it, except where the run of batches itself is broken.
//  5. Reader and Builder reuse their buffers; a steady stream of similar batches
//     allocates nothing per record, and without a codec nothing at all.
//
// Goroutines: none. A Reader or a Builder belongs to one goroutine at a time.
//
// What it does not do: message formats 0 and 1 (ErrMagic), reading of control
// records, compaction.
package record
