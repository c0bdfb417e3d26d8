// Package alerts notifies receivers of what the engine found: it reads
// weir.alerts, calls each receiver whose Match wants an alert until the receiver
// has taken it, and records every attempt in weir.deliveries.
//
// Invariants:
//
//  1. At least once. An alert is done for a receiver when the receiver took it,
//     refused it for good, or did not take it for RetryFor. Whatever is not done
//     is tried again, also after a crash; whatever has a durable record of being
//     done is not.
//  2. An idempotency key (the alert's id) always comes with the same bytes: what
//     is sent is the alert's record as it is in the log, never encoded again.
//  3. A receiver holds up only itself. Each has its own cursor on weir.alerts and
//     its own queue, of at most PendingMax alerts and pendingBytesMax bytes; when
//     it is full the receiver's cursor stops and its lag grows. Nothing is
//     dropped. An alert that is being retried does not hold up those behind it
//     until PendingMax of them wait.
//  4. Positions are in weir.deliveries too. All receivers' positions in partition
//     p of weir.alerts are recorded in partition p modulo n of weir.deliveries
//     (n, its number of partitions, does not change): as records whose value is
//     null, whose key is "positions" and whose header "weir-positions" is JSON
//     (checkpoint). Such a record is written after at most recordsMax delivery
//     records, after CheckpointEvery when something changed, and at a stop. What
//     a restart reads back is thus bounded: the tail of each partition from its
//     last such record on.
//  5. A state is the last positions record and, in order, the delivery records
//     after it. The running router keeps its state by the very same function
//     (positions.apply) in the order in which it writes, so a restart arrives
//     where the router was.
//  6. A position is the offset below which every alert is done, and the alerts
//     below it that are not (open), with their attempts and the time of the next,
//     so that back-off and Retry-After outlive a restart.
//  7. A receiver that is new begins at the end of weir.alerts as the last
//     positions record knew it: it gets what is raised from the last stop on, not
//     years of old alerts. On a log whose router never ran, it begins at the
//     start.
//
// Back-off is exponential with full jitter, Retry-After is obeyed up to
// RetryAfterMax. After breakerFailures failures in a row a receiver is only
// probed, one notification at a time, until it takes one.
//
// Goroutines: Router.Run has one that records (recorder.run) and, for each
// receiver, one that decides (receiver.run), one reader for each partition of
// weir.alerts and at most MaxInFlight that each make one attempt. Run waits for
// all of them. Status may be called from anywhere.
//
// Order: none is promised between alerts; with MaxInFlight 1 those of a partition
// go out in order unless one is retried.
//
// What it does not do yet: route trees, grouping, silences, inhibition. It never
// changes an alert.
package alerts
