// Package contract is what the Go programs of test/clients have in common: how
// they are called, what they print and which records they produce. The contract
// itself is written down in test/clients/doc.go. It has no goroutine but the one
// that waits for the end of standard input. Invariants:
//
//  1. A line of output is one JSON object and is printed at once.
//  2. The records of a run are a function of its name, their index and the number
//     of partitions only.
package contract
