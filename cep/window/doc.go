// Package window keeps exact windows in event time: sliding ones (Sliding), for each
// event an aggregate over the events of the same key that its window holds; and windows
// that begin at fixed times (Hopping; tumbling ones are a kind of them), which give one
// result for each key when they close.
//
// What a sliding window holds for an event e at time t depends on its extent: of a length w
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
// A window at a fixed place holds the events with a time in [begin, begin+size) that
// came before it closed. It closes when the lowest watermark reaches its end, behind
// that row or idle mark (cep, invariant 3); how late an event may be is the stream's
// lateness and no matter of the window. An event enters all of its windows that are
// open, be it late or not; one that all of them are closed for enters none and is
// counted.
//
// The aggregates are listed at their names (aggregate.go). sliding.go has the events
// and what follows them as they come and go, emit.go which events a window holds and
// what is said of them; sum.go and square.go exact sums, deque.go the least and the
// greatest, set.go how often each value is there, sketch.go quantiles, dict.go texts.
// hopping.go has the windows at fixed places, kept.go what they keep of events that are
// not held; long.go the windows whose events are on disk, long_emit.go what is said of
// them, zone.go the events that come out of order there. store.go, tally.go, current.go
// and held.go are for all: keys, the state of aggregates, and what follows from it.
//
// Invariants:
//
//  1. Values depend on the window's contents only, never on how it came about:
//     sums of integers and decimals are 128-bit integers, sums of doubles and of
//     squares are exact and rounded once, counts are counts. Nothing drifts.
//
//  2. Of Sliding: an event is held once for all windows of an operator, whatever their extents
//     (events shared by head and tail positions: Railgun, PVLDB 14(12)). Each extent
//     has parts that hold exactly the events between its two marks; marks move to
//     where a query is and take events in and out (subtract-on-evict: Tangwongsan,
//     Hirzel, Schneider, "Sliding-Window Aggregation Algorithms", DEBS 2017).
//
//  3. Where the marks stand is a matter of speed; what a query answers follows from
//     the events' times alone. So a window that nobody reads (cep.Outbox.Skip) may
//     stay behind.
//
//  4. Memory holds no pointer for a key or an event: keys are found in a table of
//     integers and live in chunks; events, sets, sketches and texts in blocks of
//     size classes.
//
//  5. A key leaves when no event to come could ask for its events; a key with a
//     window of a number of events stays. Snapshots leave out what is no longer asked
//     for, so that their bytes depend on the contents only; the order of keys in them
//     is that of their hash.
//
//  6. A generation (cep.Incremental; incremental.go) is the state of one moment,
//     whatever comes while it is written, and a batch pays for that with the keys that
//     it changes only: of each at most 1024 events are copied, and those that an event
//     out of order moves. It holds the events that came since the one before, not
//     whole keys, and a share of all keys.
//
//  7. Of a key no more than Config.MaxEvents are held: the latest. What is read of a
//     window that lacks some of its events is marked ErrCapped; what a late event reads,
//     where an event at the watermark could have asked for the last that was left out.
//
//  8. Of Hopping: no event is held, but the state of the aggregates for each key and
//     pane, which all windows over that pane share. Results of windows that close at
//     one place are in the order of their ends; of one window, in the order of the
//     first pane with events of the key, and of one pane, of these events in the log.
//     That an earlier window over a pane is closed does not change the later ones.
//
//  9. Of Long: what it answers is what Sliding without a MaxEvents answers. Memory holds
//     of a key the state of the aggregates, and of events only those within the stream's
//     lateness of an end of a window; it does not grow with a window's length, but for
//     the different values that sets count. Events are on disk (cep/reservoir), once
//     for all windows. Its snapshot is of use with those files alone, and says where in
//     them it stands, so its bytes depend on more than the contents: on the numbers that
//     keys and texts were given. Where the files are damaged or gone Restore fails. Its
//     generations (long_incremental.go) have the keys that are new and a share of all;
//     the others are brought forward from the rows that came and went since.
//
// Costs: in a sliding window, an event that comes in order costs O(1) amortised for each extent and part,
// O(log n) for the least and greatest, O(distinct values) for TopK where
// they are read; one that is d events behind the newest of its key costs O(d + log n),
// and for the least and greatest the window's length where the best event is among
// those d. A key costs 40 bytes and its name beyond 8 bytes, 11 for the table, 8 for
// each extent, 16 for each sum of integers (24 for doubles), 24 for each sum of their
// squares (48), 16 for each set and sketch, 24 for each deque, and each event 8 bytes
// and 8 for each expression aggregated, rounded up to a power of two. In a window at a
// fixed place an event costs O(1), whatever the number of windows it is in; a key and
// pane cost 48 bytes, the key, 11 for the table, and the same for each aggregate; a
// window of n panes looks n times for each key when it closes. In a long window an event
// costs O(1) for each extent and part when it comes and when it goes; one that is behind
// d events of its key O(d) for each extent, and a late one what it takes to look for its
// key in the chunks since its time. There a key costs 40 bytes, its name, 11 for the
// table, 8 for each different end of windows and 8 for each extent, and the same for
// each aggregate.
//
// Goroutines: none. An operator belongs to one shard.
//
// What it does not do: windows over other streams; windows that are longer than memory
// where an aggregate needs the events (CanBeLong).
package window
