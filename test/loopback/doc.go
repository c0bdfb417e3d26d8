// Package loopback is where a test listens that stops and listens there again: between
// the two, another process that asks for any free port of 127.0.0.1 may be given that one.
//
// Invariants:
//
//  1. On Linux, no other process that asks this package has its address, and nobody else
//     listens on it.
//
// Goroutines: none.
//
// What it does not do: keep two tests of one process apart.
package loopback
