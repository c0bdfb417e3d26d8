// Package dedupe recognises the events of a partition that were there before: a
// client that was not told that its event arrived sends it again, with the same id.
//
// An event is a duplicate where an event with its id was taken before it in the same
// partition, and neither its own time nor the greatest time taken so far is more than
// the span after that one's. A duplicate is not taken: it changes nothing here.
//
// Invariants:
//
//  1. The outcome depends on the ids and times of the partition's events in log
//     order, and on the span: there is no clock and no chance here. So the engine and
//     the SQL side, each with a Seen of its own, agree on every event.
//  2. An event that is late by more than the span is always taken and never noted:
//     what came before it is forgotten already.
//  3. What is kept is what is within the span: an id takes 24 bytes in a table that
//     is 3/16 to 3/4 full where ids come and go, so 32 to 128 bytes. It is the same
//     for every id, whatever its length.
//  4. An int64 id is kept as it is. Of others the first 128 bits of SHA-256 are: two
//     different ids among n in one partition and span are taken for one with
//     probability n²/2^129, 1.5e-21 for a thousand million of them; to make such a
//     pair on purpose takes about 2^64 hashes.
//  5. Equal states have equal snapshots.
//  6. A generation (incremental.go; cep.Incremental) is the state of one moment, whatever
//     comes while it is written. What is restored from generations has the snapshot
//     of that moment. Once there is one, an id that was taken since costs 24 bytes more
//     until the next.
//
// Goroutines: none. A Seen belongs to one goroutine.
//
// What it does not do: compare the rest of the events (the id alone counts), or look
// into other partitions: records of one key go to one partition, and so does a retry.
package dedupe
