// Command log measures Weir's log beside Apache Kafka's: one driver, a franz-go
// client, against each server as a process with its defaults on the same disk,
// taking turns in one run. It prints produce and consume throughput, produce
// latency at a fixed rate, CPU seconds per GB and peak memory of the server, and
// the time to its first answer. Results of a run are in results.md.
//
// Invariants:
//
//  1. What was acknowledged is consumed and compared, by count and by the sum of
//     the values' checksums; a run in which they differ is an error and prints no
//     figure.
//
//  2. Latency is taken from the time at which a record was due, not from when it
//     was sent: a server that stalls is charged for all that had to wait
//     (coordinated omission).
//
//  3. Sides take turns: each repetition runs all of them, beginning with another
//     one. The figure is the median of the repetitions, which are printed too.
//
//  4. All sides get the same topic configs, acks, batch and record sizes, and the
//     same client. What differs is printed: whether an ack waits for fsync.
//
//  5. Nobody is charged for memory that a virtual machine had given back to its host:
//     before a cell produces, the kernel is made to have some (bounds.go). What the
//     driver can do at most is measured, too, against a broker that keeps nothing.
//
// Goroutines: those of one measurement, which waits for them.
package main
