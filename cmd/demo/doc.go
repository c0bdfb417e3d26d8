// Package demo is what `weir demo` adds to an appliance: a configuration with
// rules, a paced feed of the simulated streams through the Kafka protocol, and a
// loopback webhook receiver that prints what it gets.
//
// Invariants:
//
//  1. The feed is the one of ingest/simulate: the same seed gives the same
//     events; the wall clock decides only when each is sent.
//  2. The receiver listens on loopback only.
//  3. Nothing it writes is overwritten: a configuration that a person has
//     edited stays as it is.
//
// Goroutines: Feed runs in its caller's; the receiver owns its HTTP server's.
//
// What it does not do: run the appliance (cmd/node).
package demo
