// Package window keeps exact sliding windows in event time: for each event the
// count, sum and mean over the events of the same key in the last so many
// nanoseconds.
//
// What a window of length w holds for an event e at time t: the events of e's
// key that are logged at or before e, pass the filter, and have a time in
// (t-w, t]. Events of equal time count in log order; e itself is included when
// it passes the filter. An event within the stream's lateness that arrives after
// younger ones is handled exactly: it sees its own (t-w, t], later events see it.
// A late event (its time is before the watermark, which is the greatest time seen
// less the lateness) does not enter; its windows are what is still held of its
// (t-w, t], that is without itself and without what is older than the watermark
// less w. That bound is part of the meaning: it is the watermark at that event
// that counts, not when memory was given back.
//
// Invariants:
//
//  1. Values depend on the window's contents only, never on how it came about:
//     sums of integers and decimals are 128-bit integers, sums of doubles are
//     exact and rounded once (sum.go). Nothing drifts.
//  2. An event is held once for all windows of an operator, whatever their
//     lengths; each length has a tail and running sums over what follows it
//     (subtract-on-evict: Tangwongsan, Hirzel, Schneider, "Sliding-Window
//     Aggregation Algorithms", DEBS 2017; events shared by head and tail
//     positions: Railgun, PVLDB 14(12)).
//  3. Running sums of a length cover exactly the held events from its tail to
//     the end. Where the tail stands is a matter of speed; what a query answers
//     follows from the events' times alone.
//  4. Memory holds no pointer for a key or an event: keys are found in a table
//     of integers and live in chunks, events in blocks of size classes.
//  5. A key leaves when no event to come could ask for its newest one. Snapshots
//     leave out what is no longer asked for, so that their bytes depend on the
//     contents only; the order of keys in them is that of their hash.
//
// Costs: an event that comes in order costs O(1) amortised for each length; one
// that is d events behind the newest of its key costs O(d + log n) and, for a
// length, the shorter of the window and the events between. A key costs 40 bytes
// and its name beyond 8 bytes, 11 for the table, 4 for each length, 16 for each
// length with a sum of integers (24 for doubles), and each event 8 bytes and 8 for
// each expression summed, rounded up to a power of two.
//
// Goroutines: none. An operator belongs to one shard.
//
// What it does not do: windows over a number of events, other aggregates, keys
// other than a field of the stream at hand.
package window
