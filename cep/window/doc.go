// Package window keeps exact sliding windows in event time: for each event an
// aggregate over the events of the same key that its window holds.
//
// What a window holds for an event e at time t depends on its extent: of a length w
// the events of e's key with a time in (t-w, t]; of a number N the N latest with a
// time of at most t; of a gap g those back to the first that no more than g lie
// between any two. They are logged at or before e and pass the filter. With a delay
// d all that is said of t is said of t-d. Events of equal time count in log order; e
// itself is included when it passes the filter, unless it is to be left out. An event
// within the stream's lateness that arrives after younger ones is handled exactly: it
// sees its own window, later events see it. A late event (its time is before the
// watermark; see cep.Clock) does not enter; its
// windows are what is still held of theirs, that is without itself and without what
// an event at the watermark could not ask for. That bound is part of the meaning: it
// is the watermark at that event that counts, not when memory was given back.
//
// The aggregates are listed at their names (aggregate.go). sliding.go has the events
// and what follows them as they come and go, emit.go which events a window holds and
// what is said of them; sum.go and square.go exact sums, deque.go the least and the
// greatest, set.go how often each value is there, sketch.go quantiles, dict.go texts.
//
// Invariants:
//
//  1. Values depend on the window's contents only, never on how it came about:
//     sums of integers and decimals are 128-bit integers, sums of doubles and of
//     squares are exact and rounded once, counts are counts. Nothing drifts.
//  2. An event is held once for all windows of an operator, whatever their extents
//     (events shared by head and tail positions: Railgun, PVLDB 14(12)). Each extent
//     has parts that hold exactly the events between its two marks; marks move to
//     where a query is and take events in and out (subtract-on-evict: Tangwongsan,
//     Hirzel, Schneider, "Sliding-Window Aggregation Algorithms", DEBS 2017).
//  3. Where the marks stand is a matter of speed; what a query answers follows from
//     the events' times alone. So a window that nobody reads (cep.Outbox.Skip) may
//     stay behind.
//  4. Memory holds no pointer for a key or an event: keys are found in a table of
//     integers and live in chunks; events, sets, sketches and texts in blocks of
//     size classes.
//  5. A key leaves when no event to come could ask for its events; a key with a
//     window of a number of events stays. Snapshots leave out what is no longer asked
//     for, so that their bytes depend on the contents only; the order of keys in them
//     is that of their hash.
//  6. A generation (cep.Incremental; incremental.go) is the state of one moment,
//     whatever comes while it is written, and a batch pays for that with the keys that
//     it changes only: of each at most 1024 events are copied, and those that an event
//     out of order moves. It holds the events that came since the one before, not
//     whole keys, and a share of all keys.
//  7. Of a key no more than Config.MaxEvents are held: the latest. What is read of a
//     window that lacks some of its events is marked ErrCapped; what a late event reads,
//     where an event at the watermark could have asked for the last that was left out.
//
// Costs: an event that comes in order costs O(1) amortised for each extent and part,
// O(log n) for the least and greatest, O(distinct values) for TopK where
// they are read; one that is d events behind the newest of its key costs O(d + log n),
// and for the least and greatest the window's length where the best event is among
// those d. A key costs 40 bytes and its name beyond 8 bytes, 11 for the table, 8 for
// each extent, 16 for each sum of integers (24 for doubles), 24 for each sum of their
// squares (48), 16 for each set and sketch, 24 for each deque, and each event 8 bytes
// and 8 for each expression aggregated, rounded up to a power of two.
//
// Goroutines: none. An operator belongs to one shard.
//
// What it does not do: windows over other streams, windows that are longer than
// memory.
package window
