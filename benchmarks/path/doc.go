// Command path measures the whole path of an event with the built binary and
// default settings: file -> weir load -> Kafka protocol -> log -> engine ->
// decisions and alerts -> SQL. It prints events a second, CPU seconds and peak
// memory, with the machine and the settings they were measured with.
//
// Invariants:
//
//  1. The clock runs from the start of the load until every row is decided and
//     counted by SQL; nothing is left to be done when it stops.
//  2. The counts of rows, decisions and alerts are checked; a run with a wrong
//     one is an error and prints no figure.
//
// Goroutines: none of its own beside those that read the processes' output.
package main
