// Package sink takes the records that Weir itself writes: decisions, alerts,
// deliveries, dead letters.
//
// Invariants:
//
//  1. Append returns when the log has accepted the records, which is before they
//     are durable; Durable waits for that. Readers see durable records only.
//  2. The records of one Append get dense offsets from the base that it returns,
//     in their order. One Append is one record batch, which a reader sees whole
//     or not at all, also after a crash; only an Append over MaxBatchBytes is
//     split, and then each of its batches is whole or absent and none is there
//     without those before it.
//  3. Nothing of the records is retained.
//  4. A failed Append may have written a prefix of its batches where it was
//     split; the error says so. The identity of each record (DESIGN: each event
//     is decided once) lets the caller write all of it again.
//
// Goroutines: none. A Sink is safe for use by several.
//
// What it does not do: choose partitions (Partition is there for who must),
// drop duplicates (readers do, by identity), or compress.
package sink
