// Package cep holds what the parts of the complex event processor share: the
// Operator interface, the Clock and Timers, the Outbox in which operators leave what they found about
// a batch, and the form of their snapshots. The operators are in cep/window,
// the loop that runs them in cep/engine.
//
// Invariants:
//
//  1. An operator is deterministic: what it leaves in the Outbox for a row
//     depends on the events up to and including that row in log order, and on
//     nothing else. In particular not on where batches begin and end, not on a
//     clock, and not on whether it was restored in between.
//  2. An operator's snapshot depends on its logical contents only: two
//     histories that leave the same contents give the same bytes. A Keeper's may say
//     where in its files something is. What an Incremental
//     writes is another matter: it may hold what nothing can ask for any more, and
//     depends on what was written before. But what is restored from it has the same
//     contents as the operator had at Freeze, so the same Snapshot and the same
//     answers from there on.
//  3. What waits for the watermark to pass a time T happens at one place of the log:
//     behind the first row, or idle mark, after which the watermark is at or above T,
//     and before the next row. An operator comes there in Process, when Low of a row
//     is at or above T, before it takes that row in; or in Advance, behind the last
//     row. So the engine calls Advance with the watermark behind each batch and each
//     mark, and an operator that is told of time by both acts the same at any batch
//     size. To be told of a and then of b, with no row in between, is to be told of
//     b. What happens at one place is in the order of the times, and at one time in
//     an order that the operator defines.
//  4. A feature column has one value for each row of the batch, absent ones
//     included, once its operator's Process has returned.
//
// Goroutines: none. An operator and an Outbox belong to the one goroutine of
// the shard that made them.
//
// What it does not do: read the log, evaluate rules, write outputs.
package cep
