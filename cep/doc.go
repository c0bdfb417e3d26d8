// Package cep holds what the parts of the complex event processor share: the
// Operator interface, the Outbox in which operators leave what they found about
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
//     histories that leave the same contents give the same bytes.
//  3. A feature column has one value for each row of the batch, absent ones
//     included, once its operator's Process has returned.
//
// Goroutines: none. An operator and an Outbox belong to the one goroutine of
// the shard that made them.
//
// What it does not do: read the log, evaluate rules, write outputs.
package cep
