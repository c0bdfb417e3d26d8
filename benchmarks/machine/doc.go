// Package machine tells what a benchmark ran on and what a process used of it: a
// figure without its machine says nothing.
//
// Invariants:
//
//  1. Everything is read at the moment of the call: the load printed with a figure
//     is that of its run.
//  2. What the system does not tell is said to be unknown in Describe, and is an
//     error where a figure would come of it.
//  3. A run that failed leaves the figures of an earlier one alone.
//
// Goroutines: none.
package machine
